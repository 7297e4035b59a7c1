"""What the application gives the hub: a reader of the log, an access check, and limits (contract C29 to C35)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Entry(NamedTuple):
    """A message. ``frame(own, mount)`` is its frame for its sender's own streams or for everybody else's, with paths as
    they are under ``mount``. ``committed_at`` is on this process's ``time.monotonic()``, as far as it is known."""

    seq: int
    sender: Hashable
    frame: Callable[[bool, str], bytes]
    committed_at: float | None = None


class Head(NamedTuple):
    """Where a thread stands; ``farewell`` is its last frame once it is closed."""

    last_seq: int
    farewell: bytes | None


class LogReader(Protocol):
    """Both raise ``ChatError`` while the log cannot be read."""

    def heads(self, threads: Iterable[int]) -> dict[int, Head]:
        """Where each thread stands; one that is gone is missing from the answer."""

    def after(self, thread: int, seq: int, limit: int) -> list[Entry]:
        """The ``limit`` messages that follow ``seq``, in order."""


AccessCheck = Callable[[Iterable[tuple[Hashable, int]]], set[tuple[Hashable, int]]]
"""Given ``(user, thread)`` pairs, those that may not view any more."""


class Meter:
    """What is told of streams; this one forgets it."""

    def stream_opened(self) -> None: ...
    def stream_closed(self) -> None: ...

    def stream_ended(self, reason: str) -> None:
        """The server ended it before its time."""

    def stream_turned_away(self, reason: str) -> None:
        """There was no place for it."""

    def delivered(self, committed_at: Iterable[float | None]) -> None:
        """Messages, by :attr:`Entry.committed_at`, were handed to a thread's live streams just now."""


@dataclass(frozen=True)
class Limits:
    """``heartbeat`` and ``max_age`` in seconds; ``per_user`` streams in this process, ``None`` for no limit."""

    heartbeat: float = 15.0
    max_age: float = 900.0
    per_user: int | None = 20
