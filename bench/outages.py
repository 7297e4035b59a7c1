"""What people notice when a service goes away under load: two processes, posts and streams, one table of figures.

    script/bench outages [--messages 5000] [--away 20]

Posts and streams are those of :mod:`bench.under_load`. ``delay`` is from the
first attempt of a post to the moment at which a stream has its frame, over all streams of its chat.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.under_load import Listener, Load, percentile
from tests.support.databases import Databases
from tests.support.live import Live
from tests.support.postgres import Server as Postgres
from tests.support.redis import Server as Redis

SETTINGS = {"CHAT_STREAM_HEARTBEAT": "15", "CHAT_MAX_STREAMS_PER_USER": "off"}
CHATS, STREAMS, POSTERS = 10, 4, 6
SETTLE = 15.0
"""Seconds after the last post in which every stream must have everything."""


def run(name: str, messages: int, fault: Callable[[Redis, Postgres], None]) -> dict[str, Any]:
    """One fault in the middle of a load of at least ``messages``."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    redis, databases = Redis(), Databases(folder)
    live = Live("two-gevent", "reference-postgresql", folder, databases, SETTINGS | {"CHAT_TRANSPORT_URL": redis.url})
    try:
        chats = [live.new_thread() for _ in range(CHATS)]
        listeners = [Listener(live.login(who), chat) for chat in chats for who in ("client", "admin") * (STREAMS // 2)]
        load = Load([live.login("client") for _ in range(POSTERS)], chats, pause=0.02)

        def wait_for(count: int) -> None:
            while len(load.posts) < count:
                time.sleep(0.1)

        wait_for(messages // 4)
        began = time.monotonic()
        fault(redis, databases._server)
        over = time.monotonic()
        wait_for(max(messages, len(load.posts) + messages // 4))
        load.stop()
        expected = {chat: {post.seq for post in load.posts if post.chat == chat} for chat in chats}
        deadline = time.monotonic() + SETTLE
        while time.monotonic() < deadline and any(len(one.came) < len(expected[one.chat]) for one in listeners):
            time.sleep(0.1)
        return figures(name, load, listeners, expected, began, over)
    finally:
        live.close()
        databases.close()
        redis.close()


def figures(
    name: str, load: Load, listeners: list[Listener], expected: dict[int, set[int]], began: float, over: float
) -> dict[str, Any]:
    at = {(post.chat, post.seq): post.at for post in load.posts}
    lost = sum(len(expected[one.chat] - {came.seq for came in one.came}) for one in listeners)
    doubled = sum(len(one.came) - len({came.seq for came in one.came}) for one in listeners)
    unordered = sum([came.seq for came in one.came] != sorted(came.seq for came in one.came) for one in listeners)
    delays = {"before": [], "during": [], "after": []}
    for one in listeners:
        for seq, _, came in one.came:
            posted = at[one.chat, seq]
            delays["before" if posted < began else "during" if posted < over else "after"].append(came - posted)
    during = [post.took for post in load.posts if began <= post.at < over]
    return {
        "fault": name,
        "seconds": over - began,
        "posted": len(load.posts),
        "during": len(during),
        "refused": dict(load.refused),
        "lost": lost,
        "doubled": doubled,
        "out of order": unordered,
        "streams ended": sum(one.ends for one in listeners),
        "post p50/p99 during": (statistics.median(during or [0]), percentile(during, 0.99)),
        **{f"delay p50/p99 {when}": (percentile(v, 0.5), percentile(v, 0.99)) for when, v in delays.items()},
    }


def shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " / ".join(f"{one * 1000:.0f} ms" for one in value)
    return f"{value:.0f} s" if isinstance(value, float) else str(value)


def main() -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(prog="script/bench outages", description=__doc__)
    parser.add_argument("--messages", type=int, default=5000, help="at least, for each fault")
    parser.add_argument("--away", type=float, default=20, help="seconds without the service")
    parser.add_argument("--only", help="one fault by its first word")
    options = parser.parse_args()

    def killed(redis: Redis, postgres: Postgres) -> None:
        redis.kill()
        time.sleep(options.away)
        redis.start()

    def hung(redis: Redis, postgres: Postgres) -> None:
        redis.hang()
        time.sleep(options.away)
        redis.resume()

    def cut(redis: Redis, postgres: Postgres) -> None:
        """More at once than Redis keeps for a subscriber: it drops the connection."""
        redis.command("CONFIG SET", "client-output-buffer-limit", "pubsub 65536 65536 1")
        ends = time.monotonic() + options.away
        while time.monotonic() < ends:
            redis.command("PUBLISH", "private-chat.users", "x" * (8 << 20))
            time.sleep(2)

    def restarted(redis: Redis, postgres: Postgres) -> None:
        postgres.restart(away=3)

    faults = {
        "redis killed": killed,
        "hung redis": hung,
        "cut off by redis": cut,
        "postgresql restarted": restarted,
    }
    table = [
        run(name, options.messages, fault)
        for name, fault in faults.items()
        if options.only in (None, name.partition(" ")[0])
    ]
    width = max(len(key) for key in table[0])
    for key in table[0]:
        print(f"{key:{width}}  " + "  ".join(f"{shown(row[key]):>24}" for row in table))


if __name__ == "__main__":
    main()
