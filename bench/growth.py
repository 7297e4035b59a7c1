"""What things cost as a database fills: threads from 10² to 10⁵, messages of one thread from 10² to 10⁶.

    script/bench growth [--repeat 200] [--passes 5] [--threads 100000] [--messages 1000000]

Each figure is processor time, of the application and of PostgreSQL together, for one request through the whole
application with its login, policy and validation: the least of some passes over many of them. Each size is a database
of its own, and every pass goes through all of them, so that what else the machine does meets all alike. Rows come by
SQL; one admin has all threads, and each client ten.
"""

from __future__ import annotations

import argparse
import logging
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient
from tqdm import tqdm

from tests.support.databases import create, text
from tests.support.hosts import HOSTS, TESTING
from tests.support.postgres import Server as Postgres
from tests.support.postgres import connect

FLAT = 1.5
"""The ratio of the last figure to the first below which a cost does not grow."""

WARM = 20
"""Requests before each figure: connections, caches, and the plans that PostgreSQL keeps."""

FIRST = 100
"""Threads, and messages of the one thread, with which it begins."""

EACH = 10
"""Messages of every other thread."""

OTHERS = 1000
"""Ids of users and requests begin behind it."""

NEW = 1_000_000_000
"""Ids of requests that nobody has opened begin behind it."""

PEOPLE = """
INSERT INTO users (id, email, name, password_hash, active, role_id)
SELECT {others} + n, 'user' || n || '@nursecare.test', 'User', '', true, (SELECT id FROM roles WHERE name = 'client')
FROM generate_series(1, {last} / 10 + 1) AS n ON CONFLICT DO NOTHING
"""
REQUESTS = """
INSERT INTO service_requests (id, client_id, title, details, visit_on)
SELECT {others} + n, {others} + n / 10 + 1, 'Visit', 'At home', DATE '2030-01-01'
FROM generate_series({first}, {last}) AS n
"""
THREADS = """
INSERT INTO chat_threads (id, request_id, admin_id, client_id, status, opened_at, last_seq)
SELECT n, {others} + n, {admin}, {others} + n / 10 + 1, 'open', now(), {each}
FROM generate_series({first}, {last}) AS n
"""
MESSAGES = """
INSERT INTO chat_messages (thread_id, sender_id, type, text, created_at, seq)
SELECT t, {admin}, 'text', 'Earlier', now(), n
FROM generate_series({first}, {last}) AS t, generate_series({begin}, {end}) AS n
"""
NEW_REQUESTS = """
INSERT INTO service_requests (id, client_id, title, details, visit_on)
SELECT n, {others} + 1, 'Visit', 'At home', DATE '2030-01-01' FROM generate_series({first}, {last}) AS n
"""
UNDO = (
    "DELETE FROM chat_messages WHERE text = 'Measured'",
    "DELETE FROM chat_threads WHERE id > {threads}",
    "UPDATE chat_threads SET last_seq = {said} WHERE id IN ({measured})",
)


class Yard:
    """The reference host on a database with so many threads, the first with so many messages; its admin logged in."""

    def __init__(self, postgres: Postgres, folder: Path, threads: int = FIRST, messages: int = EACH) -> None:
        self.threads, self.messages = threads, messages
        self._requests = NEW
        url = create(postgres.url)
        self._database = connect(url)
        self._host = HOSTS["reference-postgresql"]
        self._host.fill(text(url))
        self._app = self._host.create_app(text(url), {**TESTING, "CHAT_STORAGE_URL": f"file://{folder}/media"})
        self._app.instance_path = str(folder)
        with self._app.app_context():
            self._admin: int = self._host.user_id("admin")
        self._fill()
        self.client: FlaskClient = self._app.test_client()
        with self.client.session_transaction() as session:
            session.update(_user_id=str(self._admin), _fresh=True)
        # Where the threads that have so many are, and the place in their middle.
        self.measured = [1] if messages > EACH else list(range(1, threads + 1, threads // FIRST))
        self.middle = {thread: self._place(thread) for thread in self.measured}

    def _fill(self) -> None:
        for statement in (PEOPLE, REQUESTS, THREADS):
            self._run(statement, first=1, last=self.threads)
        self._run(MESSAGES, first=1, last=self.threads, begin=1, end=EACH)
        self._run(MESSAGES, first=1, last=1, begin=EACH + 1, end=self.messages)
        self._run("UPDATE chat_threads SET last_seq = {said} WHERE id = 1", said=self.messages)
        self._run("SELECT setval(pg_get_serial_sequence('chat_threads', 'id'), {threads})", threads=self.threads)
        self._settle()

    def _place(self, thread: int) -> int:
        """The id of its message in the middle."""
        query = "SELECT id FROM chat_messages WHERE thread_id = %s AND seq = %s"
        found = self._database.execute(query, [thread, self.messages // 2 + 1]).fetchone()
        assert found is not None
        return int(found[0])

    def new_requests(self, count: int) -> list[int]:
        """Of somebody who has no chat for them yet."""
        first, self._requests = self._requests + 1, self._requests + count
        self._run(NEW_REQUESTS, first=first, last=self._requests)
        return list(range(first, self._requests + 1))

    def undo(self) -> None:
        """What was posted and opened while it was measured."""
        for statement in UNDO:
            measured = ", ".join(map(str, self.measured))
            self._run(statement, threads=self.threads, said=self.messages, measured=measured)
        self._settle()

    def _run(self, statement: str, **values: Any) -> None:
        """:param values: numbers of ours for the places in it."""
        self._database.execute(statement.format(others=OTHERS, admin=self._admin, each=EACH, **values))

    def _settle(self) -> None:
        self._database.execute("VACUUM ANALYZE")
        self._database.execute("CHECKPOINT")

    def close(self) -> None:
        self._database.close()
        self._app.extensions["nursecare_chat"].database.dispose()
        with self._app.app_context():
            self._host.db.engine.dispose()


class Meter:
    """Processor time of this process and of PostgreSQL's that serve it."""

    def __init__(self, postgres: Postgres, repeat: int) -> None:
        self._server = (postgres.folder / "pid").read_text()
        self._repeat = repeat

    def costs(self, yard: Yard) -> dict[str, float]:
        """Milliseconds for each thing that people do there, in turn in the threads that are measured."""
        client, chats = yard.client, "/api/chat/threads"
        threads = cycle(yard.measured)
        fresh = iter(yard.new_requests(WARM + self._repeat))
        recent = {"Last-Event-ID": str(yard.messages - 5)}
        said = {"type": "text", "text": "Measured"}
        doings: dict[str, Callable[[int], Any]] = {
            "the newest page": lambda it: client.get(f"{chats}/{it}/messages?limit=10"),
            "a page in the middle": lambda it: client.get(f"{chats}/{it}/messages?limit=10&cursor={yard.middle[it]}"),
            "a stream that resumes": lambda it: client.get(f"{chats}/{it}/stream", headers=recent),
            "a page of the inbox": lambda it: client.get(f"{chats}?limit=10"),
            "an open": lambda it: client.post(f"/api/requests/{next(fresh)}/chat/open"),
            "a post": lambda it: client.post(f"{chats}/{it}/messages", json=said),
        }
        found = {name: self._cost(lambda do=do: do(next(threads))) for name, do in doings.items()}
        yard.undo()
        return found

    def _cost(self, ask: Callable[[], Any]) -> float:
        def take(count: int) -> None:
            for _ in range(count):
                answer = ask()
                assert answer.status_code == 200, answer.data
                answer.close()

        take(WARM)
        before = self._spent()
        take(self._repeat)
        return (self._spent() - before) / self._repeat * 1000

    def _spent(self) -> float:
        children = subprocess.run(["pgrep", "-P", self._server], capture_output=True, text=True).stdout.split()
        spent = sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in children)
        return time.process_time() + spent / 1e9


def powers(last: int) -> list[int]:
    """Of ten, from :data:`FIRST` to ``last``."""
    steps = [FIRST]
    while steps[-1] * 10 <= last:
        steps.append(steps[-1] * 10)
    return steps


def table(what: str, steps: list[int], found: list[dict[str, float]]) -> str:
    """Markdown."""
    lines = [
        f"| {what} | {' | '.join(f'{step:,}' for step in steps)} | last to first |",
        f"|---|{'---:|' * (len(steps) + 1)}",
    ]
    for name in found[0]:
        costs = [each[name] for each in found]
        ratio = costs[-1] / costs[0]
        grows = "" if ratio < FLAT else ", grows"
        lines.append(f"| {name} | {' | '.join(f'{cost:.2f}' for cost in costs)} | {ratio:.2f}{grows} |")
    return "\n".join(lines)


def main() -> None:
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # with everything that was started
    parser = argparse.ArgumentParser(prog="script/bench growth", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=200)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--threads", type=int, default=100_000)
    parser.add_argument("--messages", type=int, default=1_000_000)
    options = parser.parse_args()
    by_threads, by_messages = powers(options.threads), powers(options.messages)
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    postgres = Postgres(shared_buffers="1GB", maintenance_work_mem="256MB", max_wal_size="8GB")
    yards: list[Yard] = []
    sizes = [{"threads": count} for count in by_threads] + [{"messages": count} for count in by_messages]
    best: list[dict[str, float]] = [{} for _ in sizes]
    try:
        with tqdm(total=len(sizes) * (1 + options.passes), unit="step", dynamic_ncols=True) as bar:
            for size in sizes:
                yards.append(Yard(postgres, folder, **size))
                bar.update()
            meter = Meter(postgres, options.repeat)
            for _ in range(options.passes):
                for yard, least in zip(yards, best, strict=True):
                    costs = meter.costs(yard)
                    least.update({name: min(cost, least.get(name, cost)) for name, cost in costs.items()})
                    bar.update()
    finally:
        for yard in yards:
            yard.close()
        postgres.close()
    print(table("ms of processor time, by threads", by_threads, best[: len(by_threads)]))
    print()
    print(table("ms of processor time, by messages of the thread", by_messages, best[len(by_threads) :]))


if __name__ == "__main__":
    main()
