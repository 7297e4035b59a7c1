"""Erasing while workers are killed and the storage fails, and how fast it is when nothing does.

    script/bench erasure [--kills 100] [--threads 50] [--blobs 40] [--errors 3] [--queue redis|sqlite]

PostgreSQL, Azurite behind a proxy that fails so many percent of all requests, and one worker that gets SIGKILL at
random, a moment after it took a purge. In the end: what is left, whether every receipt is true, and the time of one
purge of 1,000 blobs beside the three ways in which somebody would write that by hand.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from azure.storage.blob import BlobServiceClient, ContainerClient

from nursecare_chat.service.receipts import content, verify
from nursecare_chat.storage import names
from nursecare_chat.storage.azure_account import Service, account_of
from tests.support.azurite import ACCOUNT, KEY
from tests.support.azurite import Server as Azurite
from tests.support.databases import Databases
from tests.support.faulty import Faulty
from tests.support.hosts import HOSTS, Workbench
from tests.support.redis import Server as Redis
from tests.support.servers import Process

BLOB = b"\xff\xd8\xff" + bytes(500)
HOST = "reference-postgresql"
FREE = 10
"""Purges that wait for a worker, at least, as long as workers are killed."""
PATIENCE = 300.0
"""Seconds in which the last worker must have settled everything."""

COUNT = 1000
"""Blobs of the purge that is timed."""


class Yard:
    """A host with closed threads, their blobs, and the worker that is to be killed."""

    def __init__(self, folder: Path, queue: str, azurite: Azurite, faulty: Faulty) -> None:
        self._settings = {"CHAT_STORAGE_URL": f"azure://erasure-{os.urandom(4).hex()}", "CHAT_QUEUE_URL": queue}
        self.databases = Databases(folder)
        here = {
            **self._settings,
            "CHAT_AZURE_CONNECTION_STRING": azurite.connection_string,
            "CHAT_QUEUE_URL": "sqlite://",
        }
        self.bench = Workbench(HOSTS[HOST], folder, self.databases, here)
        self.bench.state.purges._wake = lambda thread, delay: None  # so the sweep at a worker's start finds it all
        self.storage: Any = self.bench.state.storage
        self.storage.create()
        self._environment = {
            **os.environ,
            **self._settings,
            "CHAT_AZURE_CONNECTION_STRING": faulty.connection_string,
            "NURSECARE_DATABASE_URL": self.bench.url,
            "NURSECARE_INSTANCE": str(folder),
            "CHAT_ENABLED": "true",
        }
        self._log = folder / "worker.log"
        self._worker: Process | None = None

    def close_threads(self, count: int, blobs: int) -> list[int]:
        client = self.bench.login("client")
        made = []
        for _ in range(count):
            with self.bench.app.app_context():
                request_id = self.bench.host.new_request("client")
            made.append(client.open(request_id).get_json()["threadId"])
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda thread: self.fill(thread, blobs), made))
        for thread in made:
            client.say(thread, "canary")
            client.close(thread)
        return made

    def fill(self, thread: int, blobs: int) -> None:
        for _ in range(blobs):
            self.storage.write(names.new_name(thread, "image/jpeg"), BLOB)

    def worker(self) -> Process:
        command = [sys.executable, "-m", "flask", "--app", self.bench.host.wsgi, "chat", "worker"]
        self._worker = Process(command, self._log, self._environment)
        return self._worker

    def close(self) -> None:
        if self._worker is not None:
            self._worker.end()
        self.bench.close()
        self.databases.close()

    def a_minute_passes(self) -> None:
        """For what a killed worker had: its lease is over."""
        purges = self.bench.state.models.purges
        with self.bench.state.database.write() as unit:
            held = purges.update().where(purges.c.lease_owner.is_not(None))
            unit.connection.execute(held.values(lease_until=self.bench.state.clock.utcnow(-1)))

    def purges(self) -> list[Any]:
        with self.bench.state.database.read() as connection:
            return list(connection.execute(sa.select(self.bench.state.models.purges)).all())

    def container(self) -> ContainerClient:
        return self.storage._container

    def left(self, prefix: str = "") -> int:
        return len(list(self.container().list_blobs(prefix, include=["snapshots", "uncommittedblobs"])))

    def unredacted(self) -> int:
        messages = self.bench.state.models.messages
        with self.bench.state.database.read() as connection:
            full = sa.select(sa.func.count()).where(messages.c.text.is_not(None))
            return int(connection.scalar(full) or 0)


def holders(yard: Yard) -> dict[int, tuple[str | None, int]]:
    """Who has each purge, and its attempts, so that one that came and went is noticed."""
    return {row.thread_id: (row.lease_owner, row.attempts) for row in yard.purges()}


def print_progress(done: int, kills: int, settled: int, closed: int) -> None:
    print(f"\r{done} of {kills} kills, {settled} of {closed} settled", end="", file=sys.stderr)


def kill_and_kill(
    yard: Yard,
    kills: int,
    threads: int,
    blobs: int,
    free: int = FREE,
    patient: bool = True,
    show: Callable[[int, int, int, int], None] = print_progress,
) -> dict[str, Any]:
    """So many kills, and then one worker that is let live until everything is settled.

    A killed worker's purge is nobody's for a minute; so that the next one finds some to do, more threads are closed.

    :param patient: let that minute pass; else it is over at once, and the next worker takes the purge over.
    """
    closed = yard.close_threads(threads, blobs)
    seen: set[int] = set()
    hits: Counter[str] = Counter()
    false, started = 0, time.monotonic()

    def look() -> list[Any]:
        nonlocal false
        rows = yard.purges()
        for row in rows:
            if row.state == "settled" and row.thread_id not in seen:
                seen.add(row.thread_id)
                false += yard.left(names.prefix(row.thread_id)) > 0
        return rows

    for done in range(kills):
        rows = look()
        show(done, kills, len(seen), len(closed))
        if sum(row.state != "settled" and row.lease_owner is None for row in rows) < free:
            closed += yard.close_threads(free, blobs)
        before = holders(yard)
        worker = yard.worker()
        while holders(yard) == before and worker.popen.poll() is None:
            time.sleep(0.01)
        time.sleep(random.random() * 1.5)
        worker.signal(signal.SIGKILL)
        worker.popen.wait()
        hits.update(row.state for row in yard.purges() if row.lease_owner not in (None, before[row.thread_id][0]))
        worker.end()
        if not patient:
            yard.a_minute_passes()
    worker, deadline = yard.worker(), time.monotonic() + PATIENCE
    while any(row.state != "settled" for row in look()) and worker.popen.poll() is None:
        show(kills, kills, len(seen), len(closed))
        if time.monotonic() > deadline:
            worker.end()
            raise AssertionError(f"only {len(seen)} of {len(closed)} purges are settled")
        time.sleep(0.5)
    worker.end()
    rows = yard.purges()
    receipts = [content(row) | {"signature": row.signature} for row in rows]
    key = yard.bench.state.receipts._key.public()
    return {
        "threads": len(closed),
        "blobs": len(closed) * blobs,
        "kills": kills,
        "leased after a kill, by state": dict(hits),
        "attempts": sum(row.attempts for row in rows),
        "blobs left": yard.left(),
        "rows unredacted": yard.unredacted(),
        "receipts": sum(verify(receipt, key) for receipt in receipts),
        "receipts that count all blobs": sum(receipt["blobsDeleted"] == blobs for receipt in receipts),
        "receipts before it was empty": false,
        "seconds": round(time.monotonic() - started),
    }


def one_by_one(container: ContainerClient, found: list[str]) -> None:
    for name in found:
        container.delete_blob(name, delete_snapshots="include")


def sixteen(container: ContainerClient, found: list[str]) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: container.delete_blob(name, delete_snapshots="include"), found))


def batches(container: ContainerClient, found: list[str]) -> None:
    for start in range(0, len(found), 256):
        list(container.delete_blobs(*found[start : start + 256], delete_snapshots="include"))


def race(yard: Yard, azurite: Azurite) -> dict[str, float]:
    """Seconds for :data:`COUNT` blobs: by hand, with a listing before and after as a purge has them, and by a purge."""
    service = BlobServiceClient(
        azurite.url,
        {"account_name": ACCOUNT, "account_key": KEY},
        api_version=Service(account_of(azurite.connection_string, "", 900)).client.api_version,
    )
    container = service.get_container_client(yard.storage._name)
    ways: dict[str, Callable[[ContainerClient, list[str]], None]] = {
        "one by one": one_by_one,
        "16 threads": sixteen,
        "batches of 256": batches,
    }
    figures: dict[str, list[float]] = {name: [] for name in (*ways, "purge")}
    for turn in range(3):
        for number, (name, way) in enumerate(ways.items()):
            thread = 10_000 + 10 * turn + number
            yard.fill(thread, COUNT)
            started = time.monotonic()
            found = [blob.name for blob in container.list_blobs(names.prefix(thread))]
            way(container, found)
            assert not list(container.list_blobs(names.prefix(thread)))
            figures[name].append(time.monotonic() - started)
        (thread,) = yard.close_threads(1, COUNT)
        started = time.monotonic()
        assert yard.bench.state.purges.run(thread)
        figures["purge"].append(time.monotonic() - started)
    return {name: min(values) for name, values in figures.items()}


def main() -> None:
    logging.disable(logging.CRITICAL)
    parser = argparse.ArgumentParser(prog="script/bench erasure", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--threads", type=int, default=50)
    parser.add_argument("--blobs", type=int, default=40)
    parser.add_argument("--errors", type=float, default=3, help="percent of the storage's answers")
    parser.add_argument("--queue", choices=("redis", "sqlite"), help="one kind only")
    options = parser.parse_args()
    for kind in ("redis", "sqlite"):
        if options.queue not in (None, kind):
            continue
        folder = Path(tempfile.mkdtemp(prefix="bench-"))
        azurite, redis = Azurite(), Redis()
        faulty = Faulty(azurite.url)
        faulty.now_and_then(options.errors)
        yard = Yard(folder, redis.url if kind == "redis" else "sqlite://", azurite, faulty)
        try:
            figures = kill_and_kill(yard, options.kills, options.threads, options.blobs)
            print(f"\nqueue on {kind}")
            for name, value in {**figures, "storage errors injected": faulty.injected.total()}.items():
                print(f"  {name:42} {value}")
            if kind == "redis" or options.queue:
                times = race(yard, azurite)
                fastest = min(value for name, value in times.items() if name != "purge")
                print(f"{COUNT} blobs, the best of three")
                for name, value in times.items():
                    print(f"  {name:42} {value:.2f} s  {value / fastest:.2f}")
        finally:
            yard.close()
            faulty.close()
            azurite.close()
            redis.close()


if __name__ == "__main__":
    main()
