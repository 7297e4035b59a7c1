"""A network that is slow: a proxy for TCP that passes on what it gets, a little at a time and late."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress


class Slow:
    """
    :param port: on this machine, where everything goes to.
    :ivar delay: seconds for which each :attr:`piece` of bytes is held back, in either direction; may change.
    :ivar held: how many pieces were.
    """

    def __init__(self, port: int, piece: int = 1024) -> None:
        self.delay = 0.0
        self.held = 0
        self.piece = piece
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        number: int = self._listening.getsockname()[1]
        return number

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            self._sockets += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(self.piece):
                if self.delay:
                    self.held += 1
                    time.sleep(self.delay)
                other.sendall(data)
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listening.close()
        for one in self._sockets:
            one.close()
