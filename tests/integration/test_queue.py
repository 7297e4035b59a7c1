"""The queue: real workers on Redis and on SQLite, and what a Redis that is away, or hangs, does to nobody."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nursecare_chat.storage import names

from ..support.hosts import Workbench
from ..support.receipts import receipts, wait_settled
from ..support.redis import Server
from ..support.servers import Process
from ..support.wait import eventually

CANARY = "canary-91b4"
PATIENCE = 60
"""Seconds until something counts as hung; everything here takes one or two."""

WORKER = """
import sys, time
from nursecare_chat import tasks
from nursecare_chat.service import erasure, lease, purges
from nursecare_chat.storage.local import LocalStorage
tasks.BEAT = 1  # second
erasure.LEASE = lease.LEASE = purges.LEASE = 3
if "slow" in sys.argv[1]:
    LocalStorage.retention = lambda storage: (print("in mid-purge", flush=True), time.sleep(600))
sys.argv[1:2] = []
from flask.__main__ import main
main()
"""
"""``flask``, with shorter waits."""


@pytest.fixture
def on(make_bench: Callable[..., Workbench]) -> Callable[[str], Workbench]:
    """Make a host with the queue at an address: a Redis's, or ``sqlite://``."""

    def make(url: str, **config: Any) -> Workbench:
        bench = make_bench("reference", CHAT_QUEUE_URL=url, SECRET_KEY="live", **config)
        if url == "sqlite://":
            bench.state.tasks.huey.storage.filename = str(bench.folder / "chat-queue.db")
        return bench

    return make


@pytest.fixture(params=["redis", "sqlite"])
def bench(request: pytest.FixtureRequest, on: Callable[[str], Workbench]) -> Workbench:
    """One host with each kind of queue in turn."""
    return on("sqlite://" if request.param == "sqlite" else request.getfixturevalue("redis_url"))


@pytest.fixture
def worker(beside: Callable[..., Process]) -> Callable[..., Process]:
    def start_worker(bench: Workbench, how: str = "") -> Process:
        process = beside(bench, "-c", WORKER, how, "--app", bench.host.wsgi, "chat", "worker")
        process.wait_for("Chat worker ready")
        return process

    return start_worker


def close_some(bench: Workbench, count: int = 1) -> list[int]:
    """Threads with something said in them, closed, without anybody having waited."""
    client, threads = bench.login("client"), []
    for _ in range(count):
        with bench.app.app_context():
            request = bench.host.new_request()
        thread = client.call("POST", f"/api/requests/{request}/chat/open").get_json()["threadId"]
        client.say(thread, f"{CANARY} {thread}", clientMessageId=f"{CANARY}-{thread}")
        before = time.monotonic()
        assert client.close(thread).status_code == 200
        assert time.monotonic() - before < 1  # less than any timeout for Redis
        threads.append(thread)
    return threads


def texts(bench: Workbench) -> list[str]:
    messages = bench.state.models.messages
    with bench.state.database.read() as connection:
        return list(connection.scalars(sa.select(messages.c.text).where(messages.c.text.is_not(None))))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_erases_what_is_closed(bench: Workbench, worker: Callable[..., Process], signum: int) -> None:
    """C36, C42: by one attempt each, on either queue; the worker ends with 0 on SIGINT and on SIGTERM."""
    process = worker(bench)
    threads = close_some(bench, 3)
    wait_settled(bench, threads, process)
    assert {receipts(bench)[thread].attempts for thread in threads} == {1}
    process.signal(signum)
    assert process.popen.wait(PATIENCE) == 0, process.output
    assert "Traceback" not in process.output


def test_two_workers_never_fight(bench: Workbench, worker: Callable[..., Process]) -> None:
    """C36: 30 threads are purged once each, though both workers sweep and both fire the periodic task."""
    processes = [worker(bench), worker(bench)]
    threads = close_some(bench, 30)
    wait_settled(bench, threads, *processes)
    assert {receipts(bench)[thread].attempts for thread in threads} == {1}
    assert texts(bench) == []
    eventually(lambda: sum(process.output.count("chat thread purged") for process in processes) >= 30, *processes)
    assert sum(process.output.count("chat thread purged") for process in processes) == 30


def test_a_worker_killed_in_mid_purge(bench: Workbench, worker: Callable[..., Process]) -> None:
    """C36: its task is lost with it; another worker takes the purge over when the lease is over."""
    dies = worker(bench, "slow")
    (thread,) = close_some(bench)
    dies.wait_for("in mid-purge")
    media = bench.state.storage
    assert media.listing(names.prefix(thread)) == []
    os.kill(dies.popen.pid, signal.SIGKILL)
    dies.popen.wait()
    bench.state.purges.sweep()
    assert receipts(bench)[thread].attempts == 1
    process = worker(bench)
    eventually(lambda: thread in bench.state.purges.due() or receipts(bench)[thread].state == "settled", process)
    bench.state.tasks.wake(thread)  # in place of a minute's wait for the sweep
    wait_settled(bench, [thread], process)
    assert receipts(bench)[thread].attempts == 2


def test_nothing_that_was_said_is_in_the_queue(bench: Workbench) -> None:
    """C36, C41: ids only, in Redis and in every file of SQLite's queue."""
    threads = close_some(bench, 3)
    assert bench.state.tasks._background.flush(PATIENCE)
    assert bench.state.tasks.pending() == len(threads)
    assert bench.state.tasks.suspicious() == 0
    storage = bench.state.tasks.huey.storage
    raw = [bytes(item) for item in storage.enqueued_items()]
    if bench.state.config.queue_url == "sqlite://":
        raw += [path.read_bytes() for path in bench.folder.glob("chat-queue.db*")]
        assert len(raw) > len(threads)
    else:
        raw += [storage.conn.dump(key) for key in storage.conn.scan_iter()]
    assert any(b"close_chat_and_purge_media" in part for part in raw)
    assert not any(CANARY.encode() in part for part in raw)


class Intruder:
    """What runs code where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_what_others_write_into_the_queue(bench: Workbench, worker: Callable[..., Process], tmp_path: Path) -> None:
    """C4, C36: no code comes that way, and what is no task of ours stops no worker."""
    storage, folder = bench.state.tasks.huey.storage, tmp_path / "intruded"
    bench.state.tasks.prepare()
    forged = b'{"id": 1, "name": "os.mkdir", "eta": null, "args": [""], "kwargs": {}}'
    for data in (pickle.dumps(Intruder(folder)), b"", b"{}", forged):
        storage.enqueue(data)
        storage.add_to_schedule(data, datetime(2020, 1, 1))
    process = worker(bench)
    wait_settled(bench, close_some(bench, 3), process)
    eventually(lambda: bench.state.tasks.pending() == 0, process)
    assert "Error reading from queue" in process.output
    assert not folder.exists()


def test_a_workers_sign_of_life(bench: Workbench, worker: Callable[..., Process]) -> None:
    """C42: what doctor looks at: when a worker was last there, and how much waits for one."""
    tasks = bench.state.tasks
    assert (tasks.worker_seen_at(), tasks.pending()) == (None, 0)
    process = worker(bench)
    seen = eventually(tasks.worker_seen_at, process)
    assert abs(seen - time.time()) < PATIENCE
    assert eventually(lambda: tasks.worker_seen_at() > seen, process)


def test_an_immediate_queue_has_neither(make_bench: Callable[..., Workbench]) -> None:
    """C42: no worker, and nothing ever waits."""
    tasks = make_bench("reference").state.tasks
    assert (tasks.worker_seen_at(), tasks.pending()) == (None, None)


@pytest.mark.parametrize("how", ["kill", "hang"])
def test_nobody_waits_for_a_redis_that_is_away(on: Callable[[str], Workbench], own_redis: Server, how: str) -> None:
    """C36: refused or hung, a close answers at once (see close_some), and is found by the sweep."""
    bench = on(own_redis.url)
    close_some(bench)
    assert bench.state.tasks._background.flush(PATIENCE)
    getattr(own_redis, how)()
    threads = close_some(bench, 5)
    assert set(threads) <= set(bench.state.purges.due())
    assert bench.state.purges.sweep() == 6


def test_workers_outlive_their_redis(
    on: Callable[[str], Workbench], own_redis: Server, worker: Callable[..., Process]
) -> None:
    """C36: away at the start and hung in the middle, what is closed is erased; back, tasks are taken again."""
    bench = on(own_redis.url)
    own_redis.kill()
    early = close_some(bench)
    process = worker(bench)
    wait_settled(bench, early, process)
    wait_settled(bench, close_some(bench), process)
    own_redis.start()
    eventually(bench.state.tasks.worker_seen_at, process)
    wait_settled(bench, close_some(bench), process)
    own_redis.hang()
    wait_settled(bench, close_some(bench), process)
    own_redis.resume()
    wait_settled(bench, close_some(bench), process)
    eventually(lambda: not bench.state.tasks.pending(), process)
    assert process.popen.poll() is None
    assert "Traceback" not in process.output
    process.signal(signal.SIGTERM)
    assert process.popen.wait(PATIENCE) == 0, process.output


def test_an_idle_process_holds_no_connection(on: Callable[[str], Workbench], own_redis: Server) -> None:
    """C4: our own Redis connections are released when nothing was enqueued for a while."""
    bench = on(own_redis.url)
    bench.state.tasks._background._idle_after = 0.2
    for _ in range(2):
        close_some(bench)
        assert bench.state.tasks._background.flush(PATIENCE)  # else it may not even have connected
        eventually(lambda: not own_redis.clients())
    assert bench.state.tasks.pending() == 2


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_a_hosts_own_huey(
    kind: str, on: Callable[[str], Workbench], beside: Callable[..., Process], request: pytest.FixtureRequest
) -> None:
    """C4: it keeps its Huey, and its own ``huey_consumer`` runs our tasks, each in a fresh context of its app."""
    bench = on("memory://")
    url = str(bench.folder / "host-queue.db") if kind == "sqlite" else request.getfixturevalue("redis_url")
    module = "tests.support.queue_host"
    consumer = beside(bench, "-m", "huey.bin.huey_consumer", f"{module}.huey", "-w", "2", HOST_QUEUE_URL=url)
    consumer.wait_for("commands are available")
    script = f"""
from {module} import app, habit
habit()
client = app.test_client()
with client.session_transaction() as session:
    session.update(_user_id="{_user_id(bench)}", _fresh=True)
thread = client.post("/api/requests/1/chat/open").get_json()["threadId"]
client.post(f"/api/chat/threads/{{thread}}/messages", json={{"type": "text", "text": "{CANARY}"}})
print("closed", client.patch(f"/api/chat/threads/{{thread}}/close").status_code, thread)
"""
    closed = beside(bench, "-c", script, HOST_QUEUE_URL=url)
    thread = int(closed.wait_for(r"closed 200 (\d+)").group(1))
    assert closed.popen.wait(PATIENCE) == 0, closed.output
    consumer.wait_for(f"purged {thread} in its context")
    consumer.wait_for("the host's own task ran")
    wait_settled(bench, [thread], consumer)
    assert receipts(bench)[thread].attempts == 1
    consumer.signal(signal.SIGINT)
    assert consumer.popen.wait(PATIENCE) == 0, consumer.output


def _user_id(bench: Workbench) -> Any:
    with bench.app.app_context():
        return bench.host.user_id("client")


def test_purge_of_one_request(bench: Workbench) -> None:
    """C42: `flask chat purge --request`, by hand, without a worker."""
    first, second = close_some(bench, 2)
    request = receipts(bench)[second].request_id
    run = bench.app.test_cli_runner().invoke
    shown = run(args=["chat", "purge", "--request", str(request), "--dry-run"]).output
    assert (f"thread {second} is due" in shown, f"thread {first} is due" in shown) == (True, False)
    assert "1 of 1 purged" in run(args=["chat", "purge", "--request", str(request)]).output
    assert [receipts(bench)[thread].state for thread in (first, second)] == ["requested", "settled"]
    refused = run(args=["chat", "purge", "--request", "no-id"])
    assert (refused.exit_code, "'no-id' is no id of a ServiceRequest" in refused.output) == (1, True)
