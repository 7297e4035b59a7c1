"""A socket that was taken over from the server, as a stream's outlet (contract C33 to C35)."""

from __future__ import annotations

import _socket  # the plain C socket: gevent's patched one would wait where we only look
import os
import time
from contextlib import suppress
from typing import Protocol

from . import client, event
from .outlet import MAX_BACKLOG, MAX_STUCK

MAX_REQUEST = 64 * 1024
"""Bytes of what a client may send behind its request, which nobody reads."""

LAST_CHUNK = b"0\r\n\r\n"


class Keeper(Protocol):
    """Who looks after descriptors."""

    def release(self, descriptor: int) -> None:
        """The line has ended; again does nothing."""

    def await_room(self, descriptor: int, wanted: bool) -> None:
        """Whether to be told that the kernel takes more."""


class Line:
    """An :class:`~nursecare_chat.stream.outlet.Outlet` that is a client's connection, for whole frames in HTTP/1.1.

    :param chunked: whether the server has begun a chunked body (RFC 9112, 7.1).
    :param recycle_at: when it ends, on ``time.monotonic()``'s clock, as ``wrote_at`` and ``stalled_since``.
    :ivar stalled_since: when the client last took something, ``None`` while nothing waits.
    """

    __slots__ = ("_chunked", "_descriptor", "_keeper", "_waiting", "ended", "recycle_at", "stalled_since", "wrote_at")

    def __init__(self, keeper: Keeper, descriptor: int, chunked: bool, recycle_at: float) -> None:
        self._keeper = keeper
        self._descriptor = descriptor
        self._chunked = chunked
        self._waiting: bytearray | None = None
        self.ended = False
        self.recycle_at = recycle_at
        self.stalled_since: float | None = None
        self.wrote_at = time.monotonic()

    @property
    def empty(self) -> bool:
        return self._waiting is None

    @property
    def undelivered(self) -> bool:
        return self._waiting is not None or (self._descriptor >= 0 and client.unsent(self._descriptor) > 0)

    def push(self, frame: bytes) -> bool:
        if self.ended:
            return False
        data = b"%x\r\n%b\r\n" % (len(frame), frame) if self._chunked else frame
        if self._waiting is None:
            self._write(data)
        elif len(self._waiting) + len(data) > MAX_BACKLOG:
            return False
        else:
            self._waiting += data
        return True

    def beat(self, now: float) -> None:
        """Proxies give up what is silent, and so do we what is gone without a word."""
        if self._waiting is None and not self.ended:
            self.push(event.HEARTBEAT)
            self.wrote_at = now

    def flush(self) -> bool:
        """The kernel takes some again; whether it took all that waited."""
        data, self._waiting = self._waiting, None
        if data is None:
            return False
        self._write(data)
        return self._waiting is None and self._descriptor >= 0

    def _write(self, data: bytes | bytearray) -> None:
        try:
            written = os.write(self._descriptor, data)
        except BlockingIOError:
            written = 0
        except OSError:
            self.drop()
            return
        now = self.wrote_at = time.monotonic()
        had_stalled = self.stalled_since is not None
        if written == len(data):
            self.stalled_since = None
        else:
            if written or not had_stalled:
                self.stalled_since = now
            self._waiting = bytearray(memoryview(data)[written:])
        if had_stalled is not (self.stalled_since is not None):
            self._keeper.await_room(self._descriptor, not had_stalled)

    def wake(self) -> None:
        """Nothing to do: the hub looks again when the client has taken what waits."""

    def finish(self) -> None:
        """The body's end goes the way of all frames, so that the client knows that nothing is missing."""
        if self.ended:
            return
        self.ended = True
        end = LAST_CHUNK if self._chunked else b""
        if self._waiting is None:
            self._write(end)
        else:
            self._waiting += end
        if self._waiting is None:
            self.hang_up()

    def drop(self) -> None:
        self.ended = True
        self._waiting = None
        if self._descriptor >= 0:
            try:
                self._keeper.release(self._descriptor)
            finally:
                self.close()

    def cut(self) -> bool:
        if self._descriptor < 0:
            return False
        if self.undelivered:
            connection = borrow(self._descriptor)
            client.abort(connection)
            connection.detach()
            self.drop()
        else:
            self.finish()
        return True

    def hang_up(self) -> None:
        """The end of the connection; what the kernel holds is still delivered."""
        if self._descriptor < 0:
            return
        connection = borrow(self._descriptor)
        with suppress(OSError):
            connection.shutdown(_socket.SHUT_WR)
            connection.recv(MAX_REQUEST, _socket.MSG_DONTWAIT)  # unread, it would turn the end into a reset
        connection.detach()
        self.drop()

    def gone(self) -> bool:
        if self._descriptor < 0:
            return True
        connection = borrow(self._descriptor)
        gone = client.gone(connection)
        connection.detach()
        return gone

    def stuck(self, now: float) -> bool:
        since = self.stalled_since
        return since is not None and now - since > MAX_STUCK

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def borrow(descriptor: int) -> _socket.socket:
    """A socket around it for a moment; ``detach()`` it. Of what family it is does not matter here."""
    return _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM, 0, descriptor)
