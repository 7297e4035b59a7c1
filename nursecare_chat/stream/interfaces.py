"""What the application gives the hub: a reader of the log, an access check, and limits (contract C29 to C35, C46)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


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


class Span(NamedTuple):
    """The messages of a thread with ``low < seq <= high``."""

    thread: int
    low: int
    high: int


class News(NamedTuple):
    """What a thread has beyond some position: where it stands, ``None`` if it is gone, and its next messages."""

    head: Head | None
    entries: list[Entry]


class LogReader(Protocol):
    """All raise ``ChatError`` while the log cannot be read."""

    def news(self, positions: Mapping[int, int]) -> tuple[dict[int, News], bool]:
        """Of those threads that have more than these positions, are closed, or gone; and whether that is all there is.

        A thread's entries follow its position without a gap.
        """

    def between(self, spans: Iterable[Span]) -> Mapping[int, list[Entry]]:
        """The messages of these stretches by thread, in order; their frames have no id."""


Mark = Any
"""What of the database was visible at some time; only the reader looks inside."""


class Topic(NamedTuple):
    """A thread as inboxes see it: the affair of its ``client``, and of its ``admin`` or, without one, of every admin.

    :ivar recent: opened so lately that a stream may not have been told.
    :ivar opened: gives the frame of ``ThreadOpened``; ``farewell`` is that of ``ThreadClosed``, ``None`` while it is
        open. Neither has an id.
    :ivar closed_after: whether a mark does not cover its close; asked of closed ones alone.
    """

    last_seq: int
    client: Hashable
    admin: Hashable | None
    recent: bool
    opened: Callable[[], bytes]
    farewell: bytes | None
    closed_after: Callable[[Mark], bool]

    def concerns(self, user: Hashable, is_admin: bool) -> bool:
        """Whether it stands in this user's list (C27)."""
        return self.client == user or (is_admin and self.admin in (None, user))


class InboxReader(Protocol):
    """What the streams of inboxes are made of (C46). All raise ``ChatError`` while the database cannot be read."""

    def mark(self) -> Mark:
        """Of now: whatever is read afterwards shows all that it covers."""

    def members(self, users: Iterable[Hashable], admins: Iterable[Hashable]) -> dict[int, Topic]:
        """The open threads of these clients, of these admins, and, if there are any admins, of nobody."""

    def closed_since(self, marks: Iterable[Mark]) -> dict[int, Topic]:
        """Every thread whose close the earliest of these marks does not cover; some that it does, too."""

    def topics(self, threads: Iterable[int]) -> dict[int, Topic]:
        """These threads; one that is gone is missing from the answer."""

    def admins(self, users: Iterable[Hashable]) -> set[Hashable]:
        """Those of these users who are admins by now."""

    def lost(self, pairs: Iterable[Pair]) -> set[Pair]:
        """As :data:`AccessCheck`, for threads that nobody was shown yet."""

    def cursor(self, user: Hashable, mark: Mark, threads: Iterable[int]) -> str:
        """The id from which the stream of ``user`` resumes, that at ``mark`` had these threads."""


Pair = tuple[Hashable, int | None]
"""A user and a thread; ``None`` is their inbox."""

AccessCheck = Callable[[Iterable[Pair]], set[Pair]]
"""Given pairs, those that may not view any more; an inbox any active user may."""


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
    """``heartbeat`` and ``max_age`` in seconds; ``per_user`` streams in this process, ``None`` for no limit.

    ``hand_over``: whether to take connections over from a server that lets go of them.
    """

    heartbeat: float = 15.0
    max_age: float = 900.0
    per_user: int | None = 20
    hand_over: bool = True
