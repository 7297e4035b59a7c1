"""One client's stream: its place in the thread, and the frames that wait for its writer (contract C33, C35)."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Hashable, Iterable, Iterator

from .client import ClientSocket
from .interfaces import Entry, LogReader
from .server import UNKNOWN

PAGE = 100
"""Messages read from the log at once."""

MAX_BACKLOG = 256 * 1024
"""Bytes that wait here for one client; what is beyond that it reads from the log later, at its own pace (C35)."""

MAX_PIECE = 32 * 1024
"""Bytes, rounded up to whole frames, that are handed to the server at once: a slow client is seen to take them."""

MAX_STUCK = 30.0
"""Seconds in which a client must have taken one such piece, else it is cut off (C35)."""


class Stream:
    """
    :ivar thread: ``None`` for an inbox's.
    :ivar mount: the path under which this client's server has the application.
    :ivar position: the ``seq`` up to which frames were queued here or handed over.
    :ivar asked_at: when the user was let in, on ``time.monotonic()``'s clock.
    :ivar worker: the server's worker that carries it.
    :ivar live: whether the hub pushes; else the writer reads the log by itself.
    :ivar ended: whether anything may still be added.
    :ivar writing_since: since when the server has been writing what it got last, ``None`` while it waits for more.
    """

    def __init__(
        self, thread: int | None, user: Hashable, position: int, asked_at: float | None = None, mount: str = ""
    ) -> None:
        self.thread = thread
        self.user = user
        self.mount = mount
        self.position = position
        self.asked_at = time.monotonic() if asked_at is None else asked_at
        self.client = ClientSocket({})
        self.worker = UNKNOWN
        self.live = False
        self.ended = False
        self.writing_since: float | None = None
        self._frames: deque[bytes] = deque()
        self._waiting = 0
        self._news = threading.Event()
        self._lock = threading.Lock()

    def frame_of(self, entry: Entry) -> bytes:
        """The entry as this client gets it."""
        return entry.frame(entry.sender == self.user, self.mount)

    def page(self, reader: LogReader) -> tuple[Iterable[bytes], bool]:
        """The frames that come next in the log, and whether those are all; taking them moves the stream along."""
        assert self.thread is not None
        entries = reader.after(self.thread, self.position, PAGE)
        return self._taken(entries), len(entries) < PAGE

    def _taken(self, entries: list[Entry]) -> Iterator[bytes]:
        for entry in entries:
            yield self.frame_of(entry)
            self.position = entry.seq

    def rest(self, reader: LogReader) -> Iterator[Iterable[bytes]]:
        """All that is there now, page by page, a farewell included."""
        assert self.thread is not None
        head = reader.heads([self.thread]).get(self.thread)
        while head is not None and self.position < head.last_seq:
            before = self.position
            yield self.page(reader)[0]
            if self.position == before:
                break
        if head is not None and head.farewell is not None:
            yield [head.farewell]

    def push(self, frame: bytes) -> bool:
        """Queue a frame; ``False`` if too much waits already or the stream has ended."""
        with self._lock:
            if self.ended or self._waiting + len(frame) > MAX_BACKLOG:
                return False
            self._frames.append(frame)
            self._waiting += len(frame)
        self._news.set()
        return True

    def take(self, timeout: float) -> bytes | None:
        """A piece of what waits, perhaps nothing; ``None`` if nothing happened for ``timeout`` seconds."""
        if not self._frames and not self.ended and not self._news.wait(timeout):
            return None
        self._news.clear()
        piece = bytearray()
        with self._lock:
            while self._frames and len(piece) < MAX_PIECE:
                piece += self._frames.popleft()
            self._waiting -= len(piece)
        return bytes(piece)

    def fall_behind(self) -> None:
        """What comes next is read from the log by the writer, when it has handed over what waits."""
        self.live = False
        self._news.set()

    def finish(self) -> None:
        """No more frames; those that wait are still delivered."""
        self.ended = True
        self._news.set()

    def cut(self) -> None:
        """End now; not one more frame (C34)."""
        with self._lock:
            self.ended = True
            self._frames.clear()
            self._waiting = 0
        self._news.set()

    @property
    def drained(self) -> bool:
        return self.ended and not self._frames

    @property
    def behind(self) -> bool:
        return not self.live and not self.ended and not self._frames

    def stuck(self, now: float) -> bool:
        """Whether the client has not taken what the server is writing for too long; ``now`` is ``time.monotonic()``."""
        since = self.writing_since
        return since is not None and now - since > MAX_STUCK
