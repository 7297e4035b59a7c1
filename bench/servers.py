"""The contenders: how each is started on a core of its own, and what it takes there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.support.servers import NO_TLS, Process, free_port
from tests.support.wait import eventually

from .load import Crowd
from .peers import nchan
from .stage import SECRET, Stage

TICKS = os.sysconf("SC_CLK_TCK")
GUNICORN = (
    *(sys.executable, "-m", "gunicorn", "--no-control-socket", "-k", "gevent", "--workers", "1"),
    *("--worker-connections", "20000", "--backlog", "2048", "--keep-alive", "5", "--graceful-timeout", "3"),
    *("-b", "127.0.0.1:{port}"),
)
UVICORN = (
    *(sys.executable, "-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--backlog", "2048"),
    *("--no-access-log", "--log-level", "warning", "--host", "127.0.0.1", "--port", "{port}"),
)


def ours(stage: Stage) -> dict[str, str]:
    """As shipped, but for limits that a load from few people would meet; everything is counted all the same."""
    return {
        "NURSECARE_DATABASE_URL": stage.url("psycopg"),
        "NURSECARE_INSTANCE": str(stage.folder),
        "CHAT_ENABLED": "true",
        "CHAT_TRANSPORT_URL": stage.redis.url,
        "CHAT_QUEUE_URL": f"{stage.redis.url}/1",
        "CHAT_METRICS": "on",
        "CHAT_RATE_POST": "1000000/minute",
        "CHAT_MAX_STREAMS_PER_USER": "off",
    }


def peers(driver: str) -> Callable[[Stage], dict[str, str]]:
    return lambda stage: {
        "PEER_DATABASE_URL": stage.url(driver),
        "PEER_REDIS_URL": stage.redis.url,
        "SECRET_KEY": SECRET,
    }


@dataclass(frozen=True)
class Contender:
    """
    :param command: with a place for ``{port}``; run in the checkout.
    :param sessions: whose sessions its people have.
    :param numbered: whether its events' ids are the messages' numbers.
    """

    name: str
    title: str
    command: tuple[str, ...]
    environment: Callable[[Stage], dict[str, str]] = lambda stage: {}
    sessions: str = "flask"
    numbered: bool = True
    stream_path: str = "/api/chat/threads/{thread}/stream"
    is_peer: bool = True
    prepare: Callable[[Path, int], dict[str, str]] = lambda folder, port: {}
    missing: Callable[[], str] = lambda: ""
    settings: dict[str, str] = field(default_factory=dict)


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("ours", "nursecare_chat", (*GUNICORN, "examples.nursecare:create_app()"), ours, is_peer=False),
        Contender(
            "ours-wsgi",
            "nursecare_chat, streams by WSGI alone",
            (*GUNICORN, "examples.nursecare:create_app()"),
            ours,
            is_peer=False,
            settings={"CHAT_STREAM_HANDOFF": "off"},
        ),
        Contender(
            "ours-orm",
            "nursecare_chat, login in the request's session",
            (*GUNICORN, "bench.orm_login:create_app()"),
            ours,
            is_peer=False,
        ),
        Contender(
            "fastapi",
            "FastAPI, sse-starlette",
            (*UVICORN, "bench.peers.fastapi_peer:app"),
            peers("asyncpg"),
            sessions="signed",
        ),
        Contender("flask", "Flask, gevent", (*GUNICORN, "bench.peers.flask_peer:app"), peers("psycopg")),
        Contender(
            "nchan",
            "Nchan (no login, no database)",
            nchan.COMMAND,
            sessions="none",
            numbered=False,
            is_peer=False,
            prepare=nchan.prepare,
            missing=nchan.missing,
        ),
    )
}
"""A way of running ours that is to be compared is one more line with ``settings``."""


class Spent(NamedTuple):
    """Seconds: on the clock, of the server's processes, of the core that they have, of each other core."""

    clock: float
    server: float
    core: float
    elsewhere: float

    def since(self, before: Spent) -> dict[str, float]:
        """In percent of a core; ``by others`` is what disturbed the server, the kernel's work for its sockets included.
        Where the rest of the machine is near 100, it is the load, PostgreSQL or Redis that is measured.
        """
        clock, server, core, elsewhere = (now - then for now, then in zip(self, before, strict=True))
        return {
            "server": round(server / clock * 100, 2),
            "its core, by others": round((core - server) / clock * 100, 1),
            "rest of the machine": round(elsewhere / clock * 100, 1),
        }


class Running:
    """A contender on ``core``; answers as soon as this returns."""

    def __init__(self, contender: Contender, stage: Stage, core: int) -> None:
        self.contender, self.stage, self._core = contender, stage, core
        self.port = free_port()
        self._folder = stage.folder / contender.name
        self._folder.mkdir(exist_ok=True)
        self.start()

    def start(self) -> None:
        """The first time, or again on the same port."""
        contender = self.contender
        places = {"port": str(self.port), **contender.prepare(self._folder, self.port)}
        command = [part.format(**places) for part in contender.command]
        self._process = Process(
            ["taskset", "-c", str(self._core), *command],
            self._folder / "log",
            {**contender.environment(self.stage), **contender.settings},
        )
        try:
            eventually(self._answers, self._process, seconds=60)
        except AssertionError:
            self._process.end()
            raise

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/login", verify=NO_TLS, timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    def restart(self) -> None:
        """As the kernel does it when memory is short, and every stream is cut."""
        self._process.end()
        self.start()

    def crowd(self) -> Crowd:
        path = self.contender.stream_path
        return Crowd(
            self.port,
            lambda thread: path.format(thread=thread),
            lambda thread: f"/api/chat/threads/{thread}/messages",
            self.contender.numbered,
        )

    def memory(self) -> int:
        """Bytes, of all its processes; what they share counts once."""
        return sum(_proportional(pid) for pid in self._pids())

    def spent(self) -> Spent:
        """Until now; what counts is the difference of two."""
        server = sum(_ticks(pid) for pid in self._pids()) / TICKS
        cores = {core: _busy(core) for core in (self._core, *os.sched_getaffinity(0))}
        core = cores.pop(self._core)
        return Spent(time.monotonic(), server, core, sum(cores.values()) / len(cores))

    def redis_connections(self) -> tuple[int, int]:
        """How many there are to Redis, and how many of those receive."""
        clients = self.stage.redis.clients()
        return len(clients), sum(client["sub"] != "0" or client["psub"] != "0" for client in clients)

    def _pids(self) -> list[int]:
        found = subprocess.run(["pgrep", "-g", str(self._process.popen.pid)], capture_output=True, text=True).stdout
        return [int(pid) for pid in found.split()]

    def end(self) -> None:
        self._process.end()


def _proportional(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _busy(core: int) -> float:
    """Seconds in which it was not idle."""
    line = next(one for one in Path("/proc/stat").read_text().splitlines() if one.startswith(f"cpu{core} "))
    user, nice, system, _idle, _waiting, *interrupts = (int(number) for number in line.split()[1:8])
    return (user + nice + system + sum(interrupts)) / TICKS
