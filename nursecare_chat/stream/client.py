"""The socket under a stream, where the server shows it: to see a client go, and to cut one off (contract C33, C35)."""

from __future__ import annotations

import _socket  # the plain C socket: gevent's patched one would wait where we only look
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any


class ClientSocket:
    """A look at the client's connection through a descriptor of our own; the server keeps its socket.

    Without a socket in the environment nothing is known: the client counts as present until a write fails.
    """

    def __init__(self, environ: Mapping[str, Any]) -> None:
        server_socket = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
        self._socket: _socket.socket | None = None
        try:
            if server_socket is not None:
                self._socket = _socket.socket(fileno=os.dup(server_socket.fileno()))
        except (OSError, AttributeError):
            self._socket = None

    def gone(self) -> bool:
        """Whether the client has closed its end."""
        connection = self._socket
        if connection is None:
            return False
        try:
            return connection.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def abort(self) -> None:
        """End the connection under a writer that is stuck in it."""
        connection = self._socket
        if connection is not None:
            with suppress(OSError):  # it may be gone already
                connection.shutdown(_socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the descriptor back."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()
