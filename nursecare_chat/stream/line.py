"""Sockets that were taken over from the server: written to directly, with no thread for each (contract C33 to C35)."""

from __future__ import annotations

import _socket  # the plain C socket: gevent's patched one would wait where we only look
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from . import client, event
from .outlet import MAX_BACKLOG, MAX_STUCK
from .subscriber import Stream

TICK = 1.0
"""Seconds at most between two looks at the time: heartbeats, recycling, clients that do not read."""

SLICE = 0.005
"""Seconds of writing before other work of the process gets its turn."""

MAX_REQUEST = 64 * 1024
"""Bytes of what a client may send behind its request, which nobody reads."""

LAST_CHUNK = b"0\r\n\r\n"

MANY = 1000
"""Events that are asked for at once."""

# Of epoll(7); gevent takes what names them out of the module.
ROOM, GONE = 0x004, 0x008 | 0x010 | 0x2000


class Line:
    """An :class:`~nursecare_chat.stream.outlet.Outlet` that is a client's connection, for whole frames in HTTP/1.1.

    :param chunked: whether the server has begun a chunked body (RFC 9112, 7.1).
    :param recycle_at: when it ends, on ``time.monotonic()``'s clock, as ``wrote_at`` and ``stalled_since``.
    :ivar stalled_since: when the client last took something, ``None`` while nothing waits.
    """

    __slots__ = ("_chunked", "_descriptor", "_lines", "_waiting", "ended", "recycle_at", "stalled_since", "wrote_at")

    def __init__(self, lines: Lines, descriptor: int, chunked: bool, recycle_at: float) -> None:
        self._lines = lines
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
            self._lines.await_room(self._descriptor, not had_stalled)

    def wake(self) -> None:
        """Nothing to do: the hub looks again when the client has taken what waits."""

    def finish(self) -> None:
        self.ended = True
        if self._waiting is None:
            self.hang_up()

    def drop(self) -> None:
        self.ended = True
        self._waiting = None
        if self._descriptor >= 0:
            self._lines.release(self._descriptor)

    def cut(self) -> bool:
        if self._descriptor < 0:
            return False
        if self.undelivered:
            connection = borrow(self._descriptor)
            client.abort(connection)
            connection.detach()
            self.drop()
        else:
            self.hang_up()
        return True

    def hang_up(self) -> None:
        """The end of the body and of the connection, so that the client knows that nothing is missing."""
        connection = borrow(self._descriptor)
        with suppress(OSError):
            if self._chunked:
                connection.send(LAST_CHUNK, _socket.MSG_DONTWAIT)
            connection.shutdown(_socket.SHUT_WR)
            connection.recv(MAX_REQUEST, _socket.MSG_DONTWAIT)  # unread, it would turn the end into a reset
        connection.detach()
        self.drop()

    def gone(self) -> bool:
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


class Lines:
    """All lines of a hub: one epoll and one thread, which lives while there are any.

    :param heartbeat: seconds of silence after which a line gets a comment.
    :param leave: called with a stream whose line has ended.
    :param go_live: called with one that had fallen behind, when its client has taken all that waited.
    :param cut_off: called with those whose clients do not read.
    """

    def __init__(
        self,
        heartbeat: float,
        leave: Callable[[Stream], None],
        go_live: Callable[[Stream], None],
        cut_off: Callable[[list[Stream]], None],
    ) -> None:
        self._heartbeat = heartbeat
        self._tick = min(TICK, heartbeat / 2)
        self._leave, self._go_live, self._cut_off = leave, go_live, cut_off
        self._lock = threading.Lock()
        self._streams: dict[int, Stream] = {}
        self._epoll: Any = None

    def adopt(self, stream: Stream, descriptor: int, chunked: bool, recycle_at: float) -> Line:
        """From now on the connection is ours, and only we write to it.

        :raises OSError, RuntimeError: if there is no epoll or no thread to be had; then it is still the caller's.
        """
        with self._lock:
            if self._epoll is None:
                self._start()
            self._epoll.register(descriptor, GONE)
            self._streams[descriptor] = stream
        os.set_blocking(descriptor, False)
        return Line(self, descriptor, chunked, recycle_at)

    def release(self, descriptor: int) -> None:
        """The line has ended; again does nothing."""
        with self._lock:
            stream = self._streams.pop(descriptor, None)
            if stream is not None:
                with suppress(OSError):
                    self._epoll.unregister(descriptor)
        if stream is not None:
            self._leave(stream)

    def await_room(self, descriptor: int, wanted: bool) -> None:
        """Whether to be told that the kernel takes more."""
        self._epoll.modify(descriptor, GONE | ROOM if wanted else GONE)

    def _start(self) -> None:
        epoll = _epoll()()
        threading.Thread(target=self._attend, args=(epoll,), name="nursecare-chat_lines", daemon=True).start()
        self._epoll = epoll

    def _attend(self, epoll: Any) -> None:
        with suppress(OSError), epoll:
            waiter = select.poll()  # gevent's where it has patched: epoll's own would stop the process
            waiter.register(epoll.fileno(), select.POLLIN)
            next_tick = time.monotonic() + self._tick
            while not self._over():
                waiter.poll(max(0.0, next_tick - time.monotonic()) * 1000)
                # Resolved before anything is closed: a descriptor's number is soon somebody else's.
                found = [(self._streams.get(descriptor), what) for descriptor, what in epoll.poll(0, MANY)]
                for stream, what in found:
                    if stream is not None and isinstance(line := stream.outlet, Line):
                        self._happened(stream, line, what)
                if (now := time.monotonic()) >= next_tick:
                    self._look(now)
                    next_tick = time.monotonic() + self._tick

    def _over(self) -> bool:
        with self._lock:
            if not self._streams:
                self._epoll = None
            return not self._streams

    def _happened(self, stream: Stream, line: Line, what: int) -> None:
        if what & GONE:
            line.drop()
        elif line.flush():
            if line.ended:
                line.hang_up()
            elif not stream.live:
                self._go_live(stream)

    def _look(self, now: float) -> None:
        stuck, turn = [], time.perf_counter()
        for stream in list(self._streams.values()):
            line = stream.outlet
            if not isinstance(line, Line):
                continue
            if now >= line.recycle_at:
                line.finish()
            elif now + self._tick - line.wrote_at > self._heartbeat:
                line.beat(now)
            if line.stuck(now):
                stuck.append(stream)
            if time.perf_counter() - turn > SLICE:
                time.sleep(0)
                turn = time.perf_counter()
        self._cut_off(stuck)


def _epoll() -> Any:
    """The class; gevent takes it out of the module, for whoever waits in it would stop the process."""
    if hasattr(select, "epoll"):
        return select.epoll
    return sys.modules["gevent.monkey"].get_original("select", "epoll")
