"""A relay before a service, which counts how often somebody who asks has to wait for an answer."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path


class Relay:
    """
    :param to: the service's address: a port of this machine, or a socket's path.
    :param at: the relay's own, of the same kind; without it a free port.
    :ivar round_trips: how often something was asked after something was answered, over all connections.
    """

    def __init__(self, to: int | Path, at: Path | None = None) -> None:
        self._to = to
        self._listener = _socket(to)
        self._listener.bind(str(at) if at is not None else ("127.0.0.1", 0))
        self._listener.listen(100)
        if at is not None:
            at.chmod(0o777)
        self.port: int = 0 if at is not None else self._listener.getsockname()[1]
        self.round_trips = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                asking, _ = self._listener.accept()
                answering = _socket(self._to)
                answering.connect(str(self._to) if isinstance(self._to, Path) else ("127.0.0.1", self._to))
                pair = _Pair(self, asking, answering)
                for run in (pair.ask, pair.answer):
                    threading.Thread(target=run, daemon=True).start()

    def count(self) -> None:
        with self._lock:
            self.round_trips += 1

    def close(self) -> None:
        self._listener.close()


class _Pair:
    """One connection through the relay."""

    def __init__(self, relay: Relay, asking: socket.socket, answering: socket.socket) -> None:
        self._relay, self._asking, self._answering = relay, asking, answering
        self._waiting = False

    def ask(self) -> None:
        self._pump(self._asking, self._answering, waiting=True)

    def answer(self) -> None:
        self._pump(self._answering, self._asking, waiting=False)

    def _pump(self, source: socket.socket, sink: socket.socket, *, waiting: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if waiting and not self._waiting:
                    self._relay.count()
                self._waiting = waiting
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def _socket(address: int | Path) -> socket.socket:
    return socket.socket(socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET)
