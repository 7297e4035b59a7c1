"""Where a stream's frames go (contract C33 to C35)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

from .client import ClientSocket

MAX_BACKLOG = 256 * 1024
"""Bytes that wait here for one client; what is beyond that is read from the log later, at the client's pace (C35)."""

MAX_PIECE = 32 * 1024
"""Bytes, rounded up to whole frames, that are handed to the server at once: a slow client is seen to take them."""

MAX_STUCK = 30.0
"""Seconds in which a client must have taken some of what waits, else it is cut off (C35)."""


class Outlet(Protocol):
    """
    :ivar ended: whether anything may still be added.
    """

    ended: bool

    @property
    def empty(self) -> bool:
        """Whether nothing waits here; the kernel may hold some yet."""

    @property
    def undelivered(self) -> bool:
        """Whether the client may not have got yet all that was pushed."""

    def push(self, frame: bytes) -> bool:
        """Take a frame; ``False`` if too much waits already or it has ended. Never blocks."""

    def wake(self) -> None:
        """Whoever writes should look at the stream again."""

    def finish(self) -> None:
        """No more frames; those that wait are still delivered."""

    def drop(self) -> None:
        """End now; not one more frame."""

    def cut(self) -> bool:
        """:meth:`drop`, and what the kernel holds for a client that does not read must not reach it either (C34).

        :returns: whether there was anything to end.
        """

    def gone(self) -> bool:
        """Whether the client was found to have gone by looking now."""

    def stuck(self, now: float) -> bool:
        """Whether the client has not taken what waits for too long; ``now`` is ``time.monotonic()``."""

    def close(self) -> None:
        """Give back what belongs to the system; again does nothing."""


class Queue:
    """Frames that wait for a thread of the server's, which iterates a response body.

    :ivar writing_since: since when the server has been writing what it got last, ``None`` while it waits for more.
    """

    def __init__(self, environ: Mapping[str, Any] | None = None) -> None:
        self.ended = False
        self.client = ClientSocket(environ or {})
        self.writing_since: float | None = None
        self._frames: deque[bytes] = deque()
        self._waiting = 0
        self._news = threading.Event()
        self._lock = threading.Lock()

    @property
    def empty(self) -> bool:
        return not self._frames

    @property
    def undelivered(self) -> bool:
        return bool(self._frames) or self.writing_since is not None or self.client.unsent() > 0

    def push(self, frame: bytes) -> bool:
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

    def wake(self) -> None:
        self._news.set()

    def finish(self) -> None:
        self.ended = True
        self._news.set()

    def drop(self) -> None:
        with self._lock:
            self.ended = True
            self._frames.clear()
            self._waiting = 0
        self._news.set()

    def cut(self) -> bool:
        if self.ended and not self._frames and self.writing_since is None:
            return False
        self.drop()
        if self.writing_since is not None or self.client.unsent():
            self.client.abort()
        return True

    def gone(self) -> bool:
        return self.client.gone()

    def stuck(self, now: float) -> bool:
        since = self.writing_since
        return since is not None and now - since > MAX_STUCK

    def close(self) -> None:
        self.client.close()
