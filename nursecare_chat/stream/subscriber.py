"""One client's stream: its place in the thread, and where its frames go (contract C33, C35)."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator

from .interfaces import Entry, LogReader, News
from .outlet import Outlet, Queue
from .server import UNKNOWN

PAGE = 100
"""Messages read from the log at once."""


class Stream:
    """
    :ivar thread: ``None`` for an inbox's.
    :ivar mount: the path under which this client's server has the application.
    :ivar position: the ``seq`` up to which frames were queued here or handed over.
    :ivar asked_at: when the user was let in, on ``time.monotonic()``'s clock.
    :ivar worker: the server's worker that carries it.
    :ivar live: whether the hub pushes; else its writer reads the log, or, if nobody writes, its client must first take
        what waits.
    """

    __slots__ = ("__weakref__", "asked_at", "live", "mount", "outlet", "position", "thread", "user", "worker")

    def __init__(
        self, thread: int | None, user: Hashable, position: int, asked_at: float | None = None, mount: str = ""
    ) -> None:
        self.thread = thread
        self.user = user
        self.mount = mount
        self.position = position
        self.asked_at = time.monotonic() if asked_at is None else asked_at
        self.worker = UNKNOWN
        self.live = False
        self.outlet: Outlet = Queue()

    @property
    def ended(self) -> bool:
        """Whether anything may still be added."""
        return self.outlet.ended

    @property
    def drained(self) -> bool:
        return self.outlet.ended and self.outlet.empty

    @property
    def behind(self) -> bool:
        return not self.live and not self.outlet.ended and self.outlet.empty

    def frame_of(self, entry: Entry) -> bytes:
        """The entry as this client gets it."""
        return entry.frame(entry.sender == self.user, self.mount)

    def page(self, reader: LogReader) -> tuple[Iterable[bytes], bool]:
        """The frames that come next in the log, and whether those are all; taking them moves the stream along."""
        news = self._news(reader)
        if news is None or news.head is None or not news.entries:
            return [], True
        return self._taken(news.entries), news.entries[-1].seq >= news.head.last_seq

    def _news(self, reader: LogReader) -> News | None:
        assert self.thread is not None  # nosec B101 # says a type; a stream of a thread has one
        return reader.news({self.thread: self.position})[0].get(self.thread)

    def _taken(self, entries: list[Entry]) -> Iterator[bytes]:
        for entry in entries:
            yield self.frame_of(entry)
            self.position = entry.seq

    def rest(self, reader: LogReader) -> Iterator[Iterable[bytes]]:
        """All that is there now, page by page, a farewell included."""
        while (news := self._news(reader)) is not None and news.entries:
            yield self._taken(news.entries)
        if news is not None and news.head is not None and news.head.farewell is not None:
            yield [news.head.farewell]

    def push(self, frame: bytes) -> bool:
        """``False`` if too much waits already or the stream has ended."""
        return self.outlet.push(frame)

    def fall_behind(self) -> None:
        """What comes next is read from the log when the client has taken what waits."""
        self.live = False
        self.outlet.wake()

    def finish(self) -> None:
        """No more frames; those that wait are still delivered."""
        self.outlet.finish()

    def cut(self) -> None:
        """End now; not one more frame (C34)."""
        self.outlet.drop()
