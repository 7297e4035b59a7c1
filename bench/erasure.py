"""Erasing while workers are killed and the storage fails, and how fast it is when nothing does.

    script/bench erasure [--kills 100] [--threads 50] [--blobs 40] [--errors 3] [--queue redis|sqlite]

PostgreSQL, Azurite behind a proxy that fails so many percent of all requests, and one worker that gets SIGKILL at
random, a moment after it took a purge. In the end: what is left, whether every receipt is true, and the time of one
purge of 1,000 blobs beside the three ways in which somebody would write that by hand.
"""

from __future__ import annotations

import argparse
import http.client
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from azure.storage.blob import BlobServiceClient, ContainerClient

from nursecare_chat.service.receipts import content, verify
from nursecare_chat.storage import names
from nursecare_chat.storage.azure_account import Service, account_of
from tests.support.azurite import ACCOUNT, KEY
from tests.support.azurite import Server as Azurite
from tests.support.databases import Databases
from tests.support.hosts import HOSTS, Workbench
from tests.support.redis import Server as Redis
from tests.support.servers import Process

BLOB = b"\xff\xd8\xff" + bytes(500)
HOST = "reference-postgresql"
FREE = 10
"""Purges that wait for a worker, at least, as long as workers are killed."""
COUNT = 1000
"""Blobs of the purge that is timed."""


class Faulty(ThreadingHTTPServer):
    """Passes requests on to ``target``; of each hundred so many get a 500, a 503 or a connection that breaks off."""

    daemon_threads = True

    def __init__(self, target: str, percent: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target).netloc
        self.percent = percent
        self.injected = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who was killed breaks off its connections."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{ACCOUNT}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Faulty

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if random.random() * 100 < self.server.percent:
            self.server.injected += 1
            if random.random() < 0.3:
                self.close_connection = True
                return
            status = random.choice((500, 503))
            self.send_response(status)
            self.send_header("x-ms-error-code", "ServerBusy" if status == 503 else "InternalError")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        upstream = http.client.HTTPConnection(self.server.target, timeout=30)
        upstream.request(self.command, self.path, body, dict(self.headers.items()))
        answer = upstream.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in (
                "transfer-encoding",
                "content-length",
                "connection",
                "keep-alive",
                "date",
                "server",
            ):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        upstream.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass

    def log_message(self, *arguments: Any) -> None:
        pass


class Yard:
    """A host with closed threads, their blobs, and the worker that is to be killed."""

    def __init__(self, folder: Path, queue: str, azurite: Azurite, faulty: Faulty) -> None:
        said = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint="
        self._settings = {"CHAT_STORAGE_URL": f"azure://erasure-{os.urandom(4).hex()}", "CHAT_QUEUE_URL": queue}
        self.databases = Databases(folder)
        here = {**self._settings, "CHAT_AZURE_CONNECTION_STRING": said + azurite.url, "CHAT_QUEUE_URL": "sqlite://"}
        self.bench = Workbench(HOSTS[HOST], folder, self.databases, here)
        self.bench.state.purges._wake = lambda thread, delay: None  # so the sweep at a worker's start finds it all
        self.storage: Any = self.bench.state.storage
        self.storage.create()
        self._environment = {
            **os.environ,
            **self._settings,
            "CHAT_AZURE_CONNECTION_STRING": said + faulty.url,
            "NURSECARE_DATABASE_URL": self.bench.url,
            "NURSECARE_INSTANCE": str(folder),
            "CHAT_ENABLED": "true",
        }
        self._log = folder / "worker.log"

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
        return Process(command, self._log, self._environment)

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


def kill_and_kill(yard: Yard, kills: int, threads: int, blobs: int) -> dict[str, Any]:
    """So many kills, and then one worker that is let live until everything is settled.

    A killed worker's purge is nobody's for a minute; so that the next one finds some to do, more threads are closed.
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

    def show(done: int) -> None:
        print(f"\r{done} of {kills} kills, {len(seen)} of {len(closed)} settled", end="", file=sys.stderr)

    for done in range(kills):
        rows = look()
        show(done)
        if sum(row.state != "settled" and row.lease_owner is None for row in rows) < FREE:
            closed += yard.close_threads(FREE, blobs)
        before = holders(yard)
        worker = yard.worker()
        while holders(yard) == before and worker.popen.poll() is None:
            time.sleep(0.01)
        time.sleep(random.random() * 1.5)
        worker.signal(signal.SIGKILL)
        worker.popen.wait()
        hits.update(row.state for row in yard.purges() if row.lease_owner not in (None, before[row.thread_id][0]))
        worker.end()
    worker = yard.worker()
    while any(row.state != "settled" for row in look()) and worker.popen.poll() is None:
        show(kills)
        time.sleep(0.5)
    worker.end()
    print(file=sys.stderr)
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
        faulty = Faulty(azurite.url, options.errors)
        yard = Yard(folder, redis.url if kind == "redis" else "sqlite://", azurite, faulty)
        try:
            figures = kill_and_kill(yard, options.kills, options.threads, options.blobs)
            print(f"queue on {kind}")
            for name, value in {**figures, "storage errors injected": faulty.injected}.items():
                print(f"  {name:42} {value}")
            if kind == "redis" or options.queue:
                times = race(yard, azurite)
                fastest = min(value for name, value in times.items() if name != "purge")
                print(f"{COUNT} blobs, the best of three")
                for name, value in times.items():
                    print(f"  {name:42} {value:.2f} s  {value / fastest:.2f}")
        finally:
            yard.bench.close()
            yard.databases.close()
            faulty.shutdown()
            azurite.close()
            redis.close()


if __name__ == "__main__":
    main()
