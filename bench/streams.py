"""What streams cost and leave behind: many opened and torn down at random, many that idle.

    script/bench streams [--churn 1000] [--rounds 20] [--idle 2000]

On one gevent worker with PostgreSQL and Redis. Counted from outside: descriptors in ``/proc``, connections at the
two services; by the process itself: open streams and greenlets.
"""

from __future__ import annotations

import argparse
import logging
import random
import resource
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg
import sqlalchemy as sa

from tests.support.databases import Databases
from tests.support.hosts import HOSTS, Host
from tests.support.live import Live
from tests.support.postgres import connect
from tests.support.redis import Server as Redis

HEARTBEAT = 5
SETTINGS = {"CHAT_STREAM_HEARTBEAT": str(HEARTBEAT), "CHAT_MAX_STREAMS_PER_USER": "off", "CHAT_METRICS": "on"}
THREADS = 20


class Watched(Host):
    wsgi = "bench.watched:create_app()"


class Crowd:
    """Plain sockets that ask for a stream and read no further than its first bytes."""

    def __init__(self, live: Live, chats: list[int]) -> None:
        host, port = live.server.url.removeprefix("http://").split(":")
        self._address = (host, int(port))
        self._chats = chats
        people = [live.login(who) for who in ("client", "admin")]
        self._cookies = ["; ".join(f"{k}={v}" for k, v in person.http.cookies.items()) for person in people]
        self.sockets: list[socket.socket] = []

    def grow(self, count: int) -> None:
        """In groups: a listening socket keeps only so many that wait."""
        for start in range(0, count, 100):
            fresh = []
            for _ in range(min(100, count - start)):
                one = socket.create_connection(self._address, timeout=60)
                path = f"/api/chat/threads/{random.choice(self._chats)}/stream"
                cookie = random.choice(self._cookies)
                one.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n".encode())
                fresh.append(one)
            for one in fresh:
                assert one.recv(12) == b"HTTP/1.1 200"
            self.sockets += fresh

    def shrink(self, count: int) -> None:
        """Some say goodbye, some vanish with a reset."""
        random.shuffle(self.sockets)
        for one in self.sockets[:count]:
            if random.random() < 0.5:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            one.close()
        del self.sockets[:count]


def counts(live: Live, redis: Redis, database: psycopg.Connection[Any]) -> dict[str, Any]:
    """What one process holds now."""
    query = "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    states = [state for (state,) in database.execute(query).fetchall()]
    answer = httpx.get(f"{live.server.url}/api/chat/metrics").text
    streams = next(line for line in answer.splitlines() if line.startswith("nursecare_chat_streams_open "))
    clients = redis.clients()
    return {
        "open streams": int(float(streams.split()[1])),
        "greenlets": httpx.get(f"{live.server.url}/alive").json()["greenlets"],
        "descriptors": live.server.descriptors(),
        "database connections": len(states),
        "database busy": sum(state != "idle" for state in states),
        "redis connections": len(clients),
        "redis subscriptions": sum(int(client["sub"]) for client in clients),
        "memory MB": memory(live),
    }


def memory(live: Live) -> int:
    pids = subprocess.run(["pgrep", "-g", str(live.server.popen.pid)], capture_output=True, text=True).stdout.split()
    sizes = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return max(sizes) * resource.getpagesize() >> 20


def main() -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(prog="script/bench streams", description=__doc__)
    parser.add_argument("--churn", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--idle", type=int, default=2000)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)

    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    redis, databases = Redis(), Databases(folder)
    HOSTS["watched"] = Watched("postgresql")
    live = Live("crowded", "watched", folder, databases, SETTINGS | {"CHAT_TRANSPORT_URL": redis.url})
    rows: dict[str, dict[str, Any]] = {}
    with connect(sa.make_url(live.bench.url)) as database:
        try:
            chats = [live.new_thread() for _ in range(THREADS)]
            crowd = Crowd(live, chats)
            crowd.grow(20)
            crowd.shrink(20)
            time.sleep(2 * HEARTBEAT)
            rows["before"] = counts(live, redis, database)
            started = time.monotonic()
            for _ in range(options.rounds):
                crowd.grow(options.churn - len(crowd.sockets))
                crowd.shrink(random.randint(options.churn // 2, options.churn))
            rows["churn"] = {"seconds": round(time.monotonic() - started, 1)}
            crowd.shrink(len(crowd.sockets))
            time.sleep(2 * HEARTBEAT)
            rows["two heartbeats later"] = counts(live, redis, database)
            crowd.grow(options.idle)
            time.sleep(2 * HEARTBEAT)
            rows[f"{options.idle} idle"] = counts(live, redis, database)
            crowd.shrink(options.idle)
            time.sleep(2 * HEARTBEAT)
            rows["after them"] = counts(live, redis, database)
        finally:
            live.close()
            databases.close()
            redis.close()
    for name, row in rows.items():
        print(f"{name:22}", "  ".join(f"{key}: {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
