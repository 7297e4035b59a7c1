"""The network between a browser and a server, which can be cut."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

BAD_GATEWAY = (
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<h1>502 Bad Gateway</h1>"
)


class Wire:
    """Forwards what comes to :attr:`url` to the server at ``url``, until :meth:`cut`; again after :meth:`mend`.

    :ivar refused: how many connections came meanwhile.
    """

    def __init__(self, url: str) -> None:
        there = urlsplit(url)
        self._there = (there.hostname, there.port)
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_cut = False
        self._answer = b""
        self.refused = 0
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, answer: bytes = b"") -> None:
        """Every connection breaks, and new ones do at once, or get this ``answer`` to whatever they ask."""
        with self._lock:
            self._is_cut, self._answer = True, answer
            for end in self._ends:
                _break(end)

    def mend(self) -> None:
        self._is_cut = False

    def close(self) -> None:
        _break(self._door)
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._door.accept()
            except OSError:  # closed
                self._door.close()
                return
            threading.Thread(target=self._connect, args=(here,), daemon=True).start()

    def _connect(self, here: socket.socket) -> None:
        with here, socket.socket() as there:
            with self._lock:
                self.refused += self._is_cut
                is_cut, answer = self._is_cut, self._answer
                if not is_cut:
                    self._ends |= {here, there}
            if is_cut:
                with suppress(OSError):
                    if answer and here.recv(65536):
                        here.sendall(answer)
                        _break(here)
                return
            with suppress(OSError):
                there.connect(self._there)
                back = threading.Thread(target=_forward, args=(there, here), daemon=True)
                back.start()
                _forward(here, there)
                back.join()
            with self._lock:
                self._ends -= {here, there}


def _forward(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    _break(source)
    _break(target)


def _break(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
