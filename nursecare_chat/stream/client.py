"""The socket under a stream, where the server shows it: to see a client go, and to cut one off (contract C33, C35)."""

from __future__ import annotations

import _socket  # the plain C socket: gevent's patched one would wait where we only look
import fcntl
import os
import struct
import termios
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

SEND_BUFFER = 128 * 1024
"""Bytes that the kernel takes for one client. By itself it would grow to megabytes, out of our reach."""


class ClientSocket:
    """A look at the client's connection through a descriptor of our own; the server keeps its socket.

    Without a socket in the environment nothing is known: the client counts as present until a write fails.
    """

    def __init__(self, environ: Mapping[str, Any]) -> None:
        server_socket = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
        self._socket: _socket.socket | None = None
        if server_socket is not None:
            with suppress(OSError, AttributeError):
                self._socket = _look_at(server_socket.fileno())

    def fileno(self) -> int | None:
        """The descriptor, if there is one."""
        return None if self._socket is None else self._socket.fileno()

    def gone(self) -> bool:
        """Whether the client has closed its end."""
        return self._socket is not None and gone(self._socket)

    def unsent(self) -> int:
        """Bytes that the kernel has not got acknowledged by the client."""
        return 0 if self._socket is None else unsent(self._socket.fileno())

    def abort(self) -> None:
        """End the connection under a writer that is stuck in it, and drop what waits in the kernel."""
        if self._socket is not None:
            abort(self._socket)

    def detach(self) -> None:
        """The descriptor is the caller's now."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.detach()

    def close(self) -> None:
        """Give the descriptor back."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()


def gone(connection: _socket.socket) -> bool:
    """Whether the other end is closed."""
    try:
        return connection.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def unsent(descriptor: int) -> int:
    """Bytes that the kernel has not got acknowledged by the other end."""
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0" * 4))
        return int(count)
    except OSError:
        return 0


def abort(connection: _socket.socket) -> None:
    """End the connection, and drop what waits in the kernel."""
    with suppress(OSError):  # it may be gone already
        connection.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(_socket.SHUT_RDWR)


def _look_at(server_descriptor: int) -> _socket.socket:
    """A second descriptor of the server's connection; a default timeout of Python's must not change how it blocks."""
    descriptor = os.dup(server_descriptor)
    blocking = os.get_blocking(descriptor)
    try:
        connection = _socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        raise
    connection.settimeout(None)
    os.set_blocking(descriptor, blocking)
    connection.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, SEND_BUFFER)
    return connection
