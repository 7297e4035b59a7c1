"""The interface of every storage (contract C24, C25, C37). It knows names and bytes, never models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class SignedPut:
    """What a client needs to upload one blob: ``method`` ``url`` with ``headers``.

    :ivar url: absolute, or a path under the place where the application is mounted.
    """

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "PUT"


@dataclass(frozen=True)
class Retention:
    """What the storage does with deleted blobs.

    :ivar days: for so many they can be brought back; ``None`` if that cannot be known.
    :ivar reason: a word for why, unless ``days`` is 0.
    """

    days: int | None = 0
    reason: str | None = None


class BlobStorage(Protocol):
    """Names are those of :mod:`nursecare_chat.storage.names`; any other is a ``ValueError``.

    Every method raises :class:`~nursecare_chat.errors.StorageUnavailable` while the storage cannot be reached.
    """

    @property
    def origin(self) -> str | None:
        """Of its signed URLs, for a content security policy; ``None`` where that is the application's own."""

    def sign_put(self, name: str, content_type: str, size: int, ttl: int) -> SignedPut:
        """A URL that creates this one blob and nothing else, once, for ``ttl`` seconds.

        :param size: the most bytes that it may have.
        :returns: with a URL that is absolute, or a path under the place where the application is mounted.
        """

    def sign_get(self, name: str, ttl: int) -> str:
        """A URL, as :meth:`sign_put` gives it, that reads this one blob for ``ttl`` seconds, with its type forced."""

    def read(self, name: str, limit: int) -> bytes | None:
        """The blob's first ``limit + 1`` bytes, so that a longer one is seen to be; ``None`` if there is none."""

    def write(self, name: str, data: bytes) -> None:
        """Create or replace a blob of our own."""

    def delete(self, name: str) -> None:
        """Remove a blob; none is as good. An upload URL that created it does not create it again."""

    def check(self) -> None:
        """Raise unless this is the place that uploads were signed for: what is not there must not look empty."""

    def listing(self, prefix: str) -> list[str]:
        """The names of everything under a thread's prefix, unfinished uploads included."""

    def delete_prefix(self, prefix: str, progress: Callable[[int], None] = lambda found: None) -> int:
        """Remove everything under a thread's prefix, unfinished uploads included; how many blobs there were.

        :param progress: told how many were found so far, before any of these is deleted, and again now and then. What
            it raises ends the work.
        """

    def retention(self) -> Retention:
        """What happens to deleted blobs."""

    def canary(self) -> None:
        """Write, read and delete something of our own, as ``flask chat doctor`` does it (C42)."""
