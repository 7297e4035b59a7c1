"""What a post costs the server: CPU, and how often it waits for PostgreSQL and Redis.

    script/bench post [--posts 4000] [--connections 4] [--profile] [--server gevent]

One gunicorn worker with gevent, a real PostgreSQL and Redis, login, policy, validation, rate limits, log and metrics as
shipped; a closed loop on a few kept connections, each with a chat of its own. The CPU is the worker's own by
``/proc``, so it hardly matters who else uses the machine. Round trips are counted by relays before the services, in a
run of its own. ``--profile`` says where the CPU goes, in a third.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from tests.support.databases import Database, Databases
from tests.support.hosts import HOSTS, Host
from tests.support.live import Live
from tests.support.redis import Server as Redis

from .relay import Relay

SETTINGS = {"CHAT_RATE_POST": "1000000/minute", "CHAT_METRICS": "on"}
SOCKET = ".s.PGSQL.5432"
TICKS = os.sysconf("SC_CLK_TCK")
WARM_UP, COUNTED = 300, 800
TITLES = {"packages": "by package", "functions": "by function, its own", "inside": "by function, with what it calls"}


class Sampled(Host):
    wsgi = "bench.sampled:create_app()"


class Poster(threading.Thread):
    """Posts one message after the other on one connection.

    :ivar took: seconds that each took.
    """

    def __init__(self, live: Live, who: str, chat: int, posts: int, keyed: bool) -> None:
        super().__init__()
        host, port = live.server.url.removeprefix("http://").split(":")
        person = live.login(who)
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        cookie = "; ".join(f"{name}={value}" for name, value in person.http.cookies.items())
        self._head = (
            f"POST /api/chat/threads/{chat}/messages HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookie}\r\n"
            f"Origin: {live.server.url}\r\nContent-Type: application/json\r\n"
        )
        self._posts, self._keyed = posts, keyed
        self.took: list[float] = []
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            for number in range(self._posts):
                body: dict[str, Any] = {"type": "text", "text": "How is the visit going? " * 3}
                if self._keyed:
                    body["clientMessageId"] = f"{os.urandom(8).hex()}-{number}"
                began = time.perf_counter()
                self._post(json.dumps(body))
                self.took.append(time.perf_counter() - began)
        except Exception as error:
            self.error = error
        finally:
            self._socket.close()

    def _post(self, body: str) -> None:
        self._socket.sendall(f"{self._head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
            received = self._socket.recv(4096)
            assert received, answer
            answer += received
        assert answer.startswith(b"HTTP/1.1 200"), answer


def cpu(pids: list[int]) -> tuple[float, float]:
    """Seconds of these processes so far: of their own, and of the kernel for them (``proc(5)``)."""
    user = system = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        user, system = user + int(fields[11]), system + int(fields[12])
    return user / TICKS, system / TICKS


class Load:
    """Posters with a chat each, ready to go."""

    def __init__(self, live: Live, options: argparse.Namespace, posts: int) -> None:
        chats = [live.new_thread() for _ in range(options.connections)]
        each = posts // options.connections
        self._posters = [Poster(live, "client", chat, each, options.keyed) for chat in chats]

    def run(self) -> list[float]:
        """How many seconds each post took, the shortest first."""
        for poster in self._posters:
            poster.start()
        for poster in self._posters:
            poster.join()
        for poster in self._posters:
            if poster.error is not None:
                raise poster.error
        return sorted(second for poster in self._posters for second in poster.took)


class Relayed(Databases):
    """Whose URLs lead to PostgreSQL through a relay."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._behind = Path(tempfile.mkdtemp(prefix="relay-", dir="/tmp"))  # a socket's path must be short
        self.relay: Relay | None = None

    def take(self, *arguments: Any) -> Database:
        taken = super().take(*arguments)
        url = sa.make_url(taken.url)
        if self.relay is None:
            self.relay = Relay(Path(str(url.query["host"]), SOCKET), self._behind / SOCKET)
        through = url.update_query_dict({"host": str(self._behind)})
        return Database(through.render_as_string(hide_password=False), None, taken.give_back)

    def close(self) -> None:
        super().close()
        if self.relay is not None:
            self.relay.close()
        shutil.rmtree(self._behind)


@contextmanager
def serving(options: argparse.Namespace, databases: Databases, transport: str, host: str) -> Iterator[Live]:
    """A server that has answered some posts already."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    live = Live(options.server, host, folder, databases, SETTINGS | {"CHAT_TRANSPORT_URL": transport})
    try:
        Load(live, options, WARM_UP).run()
        yield live
    finally:
        live.close()
        shutil.rmtree(folder)


def measure_cpu(options: argparse.Namespace, databases: Databases, redis: Redis) -> None:
    print("   CPU µs/post    user  system     p50 ms    posts/s")
    with serving(options, databases, redis.url, options.host) as live:
        pids = live.server.workers()
        for _ in range(options.runs):
            work = Load(live, options, options.posts)
            before, began = cpu(pids), time.perf_counter()
            took = work.run()
            seconds, after = time.perf_counter() - began, cpu(pids)
            user, system = (1e6 * (b - a) / len(took) for a, b in zip(before, after, strict=True))
            p50, rate = took[len(took) // 2] * 1e3, len(took) / seconds
            print(f"{user + system:14.0f}{user:8.0f}{system:8.0f}{p50:11.1f}{rate:11.0f}", flush=True)


def count_round_trips(options: argparse.Namespace, redis: Redis) -> None:
    databases, transport = Relayed(Path(tempfile.mkdtemp(prefix="bench-"))), Relay(redis.port)
    try:
        with serving(options, databases, f"redis://127.0.0.1:{transport.port}", options.host) as live:
            assert databases.relay is not None
            relays = {"PostgreSQL": databases.relay, "Redis": transport}
            work = Load(live, options, COUNTED)
            before = {name: relay.round_trips for name, relay in relays.items()}
            posts = len(work.run())
            counts = {name: (relay.round_trips - before[name]) / posts for name, relay in relays.items()}
    finally:
        databases.close()
        transport.close()
    print("round trips/post  " + "  ".join(f"{name} {count:.2f}" for name, count in counts.items()), flush=True)


def profile(options: argparse.Namespace, databases: Databases, redis: Redis) -> None:
    HOSTS["sampled"] = Sampled("postgresql")
    with serving(options, databases, redis.url, "sampled") as live:
        work, pids = Load(live, options, options.posts), live.server.workers()
        httpx.get(f"{live.server.url}/sample/start").raise_for_status()
        before = cpu(pids)
        posts = len(work.run())
        each = 1e6 * (sum(cpu(pids)) - sum(before)) / posts
        found = httpx.get(f"{live.server.url}/sample/stop").json()
    for kind, title in TITLES.items():
        print(f"\n{title}, µs/post of {each:.0f}")
        for name, share in found[kind][: options.lines]:
            print(f"{share * each:8.0f} {share:6.1%}  {name}")


def main() -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(prog="script/bench post", description=__doc__)
    parser.add_argument("--posts", type=int, default=4000, help="in each run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--keyed", action="store_true", help="with a clientMessageId")
    parser.add_argument("--server", default="gevent", choices=("gevent", "deployed"), help="a command of tests/support")
    parser.add_argument("--host", default="reference-postgresql", choices=sorted(HOSTS), help="and its database")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--lines", type=int, default=25, help="of each table of the profile")
    options = parser.parse_args()

    databases, redis = Databases(Path(tempfile.mkdtemp(prefix="bench-"))), Redis()
    try:
        measure_cpu(options, databases, redis)
        if HOSTS[options.host].database == "postgresql":
            count_round_trips(options, redis)
        if options.profile:
            profile(options, databases, redis)
    finally:
        databases.close()
        redis.close()


if __name__ == "__main__":
    main()
