"""Thousands of HTTP/1.1 connections in one thread: non-blocking sockets and epoll, nothing decoded that need not be."""

from __future__ import annotations

import re
import select
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress

READ = 256 * 1024
"""Bytes taken from a socket at once."""

MESSAGE = re.compile(rb'"text": ?"(\d{8}) ')
"""What a post of ours looks like in any contender's frame: its number begins the text."""

SEQ = re.compile(rb"^id: ?(\d+)$", re.MULTILINE)


class Poller:
    """The sockets that are waited for, and who handles each."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}

    def watch(self, fd: int, handler: Callable[[int], None]) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLOUT)

    def only_read(self, fd: int) -> None:
        self._epoll.modify(fd, select.EPOLLIN)

    def also_write(self, fd: int) -> None:
        self._epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT)

    def forget(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def turn(self, seconds: float) -> None:
        """Handle what is ready; wait for it at most so long."""
        for fd, events in self._epoll.poll(max(0.0, seconds), 4096):
            handler = self._handlers.get(fd)
            if handler is not None:  # a handler before it may have closed this one
                handler(events)

    def run(self, seconds: float) -> None:
        """Handle whatever comes in that time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.turn(left)


class Connection(ABC):
    """One socket: connects, sends what it was given, hands over what comes. Subclasses say what that means."""

    def __init__(self, poller: Poller, address: tuple[str, int], first: bytes) -> None:
        self._poller = poller
        self._out = first
        self.error = ""
        self.closed = False
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(address)  # a refusal is read from the socket like any other end
        poller.watch(self.socket.fileno(), self._ready)

    def send(self, data: bytes) -> None:
        """Never ends the connection: what goes wrong is seen when its turn comes."""
        self._out += data
        with suppress(OSError):
            self._out = self._out[self.socket.send(self._out) :]
        if self._out:
            self._poller.also_write(self.socket.fileno())

    def close(self) -> None:
        """With a reset: thousands of connections in TIME_WAIT would be in the way of the next ones."""
        if not self.closed:
            self.closed = True
            self._poller.forget(self.socket.fileno())
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.socket.close()

    @abstractmethod
    def received(self, data: bytes, now: float) -> None:
        """``now`` is ``time.monotonic()``'s."""

    @abstractmethod
    def ended(self) -> None:
        """It was closed, but not by us; :attr:`error` says why if it was not just the end."""

    def _ready(self, events: int) -> None:
        if events & select.EPOLLOUT and self._out:
            self._write()
            if not self._out and not self.closed:
                self._poller.only_read(self.socket.fileno())
        if events & ~select.EPOLLOUT and not self.closed:
            self._read()

    def _write(self) -> None:
        try:
            self._out = self._out[self.socket.send(self._out) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self._end(type(error).__name__)

    def _read(self) -> None:
        try:
            data = self.socket.recv(READ)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(type(error).__name__)
            return
        if data:
            self.received(data, time.monotonic())
        else:
            self._end("")

    def _end(self, error: str) -> None:
        self.error = error
        self.close()
        self.ended()


class Unchunked:
    """Chunked transfer coding (RFC 9112, 7.1) undone, as it comes."""

    def __init__(self) -> None:
        self._rest = b""
        self.finished = False

    def feed(self, data: bytes) -> bytes:
        data = self._rest + data
        parts, at = [], 0
        while (end := data.find(b"\r\n", at)) >= 0:
            size = int(data[at:end].partition(b";")[0], 16)
            if len(data) < end + size + 4:
                break
            if size == 0:
                self.finished = True
            parts.append(data[end + 2 : end + 2 + size])
            at = end + size + 4
        self._rest = data[at:]
        return b"".join(parts)


class Frames:
    """The frames of an event stream (WHATWG HTML, 9.2.6), undecoded, as they come."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        data = self._rest + data
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n")
        *frames, self._rest = data.split(b"\n\n")
        return frames
