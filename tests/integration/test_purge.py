"""Closing erases: by the task, by the sweep, after crashes, and down to the bytes of SQLite's files."""

from __future__ import annotations

import logging
import os
import re
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nursecare_chat.clock import utcnow
from nursecare_chat.errors import DatabaseUnavailable
from nursecare_chat.service import erasure, lease, sqlite
from nursecare_chat.service.lease import LEASE, LeaseLost
from nursecare_chat.storage.base import Retention
from nursecare_chat.testing import advance

from ..support.hosts import Api, Workbench
from ..support.live import Live
from ..support.receipts import receipts, wait_settled
from ..support.servers import Process

CANARY = "canary-7c1d"
LATITUDE, LONGITUDE = "12.3456789", "98.7654321"
"""Looked for with all their digits: a few of them come up by chance in what a clock says, like a log record's."""
KEPT = {"id", "thread_id", "sender_id", "type", "created_at", "seq"}


HOSTS = ["reference", "reference-postgresql"]


@pytest.fixture(params=HOSTS)
def bench(request: pytest.FixtureRequest, make_bench: Callable[..., Workbench]) -> Workbench:
    """A queue that a worker would serve, but none does."""
    bench = make_bench(request.param, CHAT_QUEUE_URL="sqlite:///queue.db")
    bench.state.tasks.huey.storage.filename = str(bench.folder / "queue.db")
    return bench


@pytest.fixture
def thread(client_api: Api, admin_api: Api) -> int:
    thread: int = client_api.open(1).get_json()["threadId"]
    client_api.say(thread, f"{CANARY} text", clientMessageId=f"{CANARY}-id")
    admin_api.post(thread, {"type": "location", "lat": float(LATITUDE), "lng": LONGITUDE})
    return thread


def rows(bench: Workbench, table: str) -> list[Any]:
    with bench.state.database.read() as connection:
        return list(connection.execute(sa.select(getattr(bench.state.models, table))).all())


def test_close_puts_down_the_purge_in_its_own_transaction(bench: Workbench, client_api: Api, thread: int) -> None:
    """C36: with the queue out of reach, the close answers 200 and the row is there for the sweep."""

    def fail(thread_id: int, delay: int) -> None:
        raise ConnectionError("the queue is away")

    bench.state.purges._wake = fail
    assert client_api.close(thread).status_code == 200
    purge = receipts(bench)[thread]
    assert (purge.state, purge.attempts, purge.request_id) == ("requested", 0, 1)
    assert bench.state.purges.due() == [thread]


@pytest.mark.one_process
def test_a_close_that_is_not_committed_erases_nothing(bench: Workbench, client_api: Api, thread: int) -> None:
    """C36, C10: nobody is asked to erase before it is sure that the chat is closed."""
    engine, tasks = bench.state.database.engine, bench.state.tasks

    def fail(connection: sa.Connection) -> None:
        raise sa.exc.OperationalError("COMMIT", {}, OSError())

    sa.event.listen(engine, "commit", fail)
    try:
        assert client_api.close(thread).status_code == 503
    finally:
        sa.event.remove(engine, "commit", fail)
    assert (tasks.pending(), bench.state.purges.sweep()) == (0, 0)
    assert client_api.thread(thread).get_json()["status"] == "open"
    assert rows(bench, "messages")[0].text == f"{CANARY} text"
    assert client_api.close(thread).status_code == 200
    assert tasks.pending() == 1


REFUSE = {
    "sqlite": [
        f"CREATE TRIGGER refuse BEFORE INSERT ON chat_messages BEGIN SELECT RAISE(ABORT, 'driver says {CANARY}'); END"
    ],
    "postgresql": [
        # Its DETAIL quotes the whole row, whatever hides parameters.
        "ALTER TABLE chat_messages ADD CONSTRAINT refuse CHECK (text NOT LIKE '%%that fails')",
    ],
}


def test_purge_redacts_and_leaves_a_receipt(bench: Workbench, client_api: Api, thread: int) -> None:
    """C37: content and client ids are null; id, seq, sender, type and times stay; the receipt's row has the count."""
    before = rows(bench, "messages")
    client_api.close(thread)
    assert bench.state.purges.run(thread)
    after = rows(bench, "messages")
    for old, new in zip(before, after, strict=True):
        for name, value in new._mapping.items():
            assert value == (old._mapping[name] if name in KEPT else None), name
    purge = receipts(bench)[thread]
    assert (purge.state, purge.attempts, purge.rows_redacted, purge.lease_owner) == ("settled", 1, 2, None)
    assert purge.closed_at <= purge.purged_at <= purge.settled_at
    listed = client_api.messages(thread).get_json()["messages"]
    assert [(message["text"], message["lat"], message["media_url"]) for message in listed] == [(None, None, None)] * 2
    assert not bench.state.purges.run(thread)


@pytest.mark.parametrize("host", HOSTS)
def test_redaction_can_be_switched_off(make_bench: Callable[..., Workbench], host: str) -> None:
    """C37, C5: then only media paths go."""
    bench = make_bench(host, CHAT_REDACT_MESSAGES="no")
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    api.say(thread, "stays")
    api.close(thread)
    assert receipts(bench)[thread].state == "settled"
    assert rows(bench, "messages")[0].text == "stays"


def test_a_long_thread_is_redacted_in_steps(
    bench: Workbench, client_api: Api, thread: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C37: every row, however many transactions it takes; other threads keep theirs."""
    monkeypatch.setattr(erasure, "BATCH", 7)
    other = client_api.open(2).get_json()["threadId"]
    client_api.say(other, "elsewhere")
    for number in range(20):
        client_api.say(thread, str(number))
    client_api.close(thread)
    assert bench.state.purges.sweep() == 1
    assert [row.text for row in rows(bench, "messages") if row.text] == ["elsewhere"]
    assert receipts(bench)[thread].rows_redacted == 22


def test_a_lease_keeps_others_out_until_it_ends(bench: Workbench, client_api: Api, thread: int) -> None:
    """C36: two workers never fight; a dead worker's purge is taken over when its lease is over."""
    client_api.close(thread)
    purges = bench.state.purges
    assert purges._take(thread).row.attempts == 1
    assert purges._take(thread) is None
    assert purges.due() == []
    assert purges.sweep() == 0
    advance(bench.app, LEASE - 2)
    assert purges.sweep() == 0
    advance(bench.app, 3)
    assert purges.sweep() == 1
    assert (receipts(bench)[thread].state, receipts(bench)[thread].attempts) == ("settled", 2)


def test_a_worker_that_lost_its_lease_writes_nothing(bench: Workbench, client_api: Api, thread: int) -> None:
    """C36: every write to the row is fenced on the lease."""
    client_api.close(thread)
    purges = bench.state.purges
    steps, slow = purges._erasure, purges._take(thread)
    with bench.state.database.write() as unit:
        unit.connection.execute(sa.update(bench.state.models.purges).values(lease_owner="quick"))
    for step in (
        lambda: steps.erase_media(slow),
        lambda: steps.erase_text(slow),
        lambda: steps.finish(slow, 0, slow.row.closed_at, Retention()),
    ):
        with pytest.raises(LeaseLost):
            step()
    assert rows(bench, "messages")[0].text == f"{CANARY} text"


def test_who_slept_too_long(bench: Workbench, client_api: Api, thread: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """C36, C38: what was seen before is no proof any more; a failure counts all the same."""
    client_api.close(thread)
    purges, real = bench.state.purges, bench.state.storage.delete_prefix

    def sleep(prefix: str, progress: Any) -> int:
        advance(bench.app, LEASE + 1)
        return int(real(prefix, progress))

    def fail(prefix: str, progress: Any) -> int:
        advance(bench.app, LEASE + 1)
        raise OSError("no route")

    monkeypatch.setattr(bench.state.storage, "delete_prefix", sleep)
    assert not purges.run(thread)
    assert (receipts(bench)[thread].state, receipts(bench)[thread].settled_at) == ("text_erased", None)
    monkeypatch.setattr(bench.state.storage, "delete_prefix", fail)
    assert not purges.run(thread)
    assert (receipts(bench)[thread].failures, receipts(bench)[thread].last_error) == (1, "OSError")
    monkeypatch.setattr(bench.state.storage, "delete_prefix", real)
    advance(bench.app, 6)
    assert purges.run(thread)
    assert (receipts(bench)[thread].state, receipts(bench)[thread].attempts) == ("settled", 3)


def test_a_long_purge_is_held_on(
    bench: Workbench, client_api: Api, thread: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C36: renewed in the middle of long work, so that nobody else takes it over meanwhile."""
    client_api.close(thread)
    real = bench.state.storage.delete_prefix
    monkeypatch.setattr(lease, "RENEW", 0)

    def work(prefix: str, progress: Any) -> int:
        for _ in range(3):
            advance(bench.app, LEASE - 5)
            progress(0)
        return int(real(prefix, progress))

    monkeypatch.setattr(bench.state.storage, "delete_prefix", work)
    assert bench.state.purges.run(thread)
    assert (receipts(bench)[thread].state, receipts(bench)[thread].attempts) == ("settled", 1)


def test_no_lease_goes_by_this_machines_clock(bench: Workbench, client_api: Api, thread: int) -> None:
    """C36: it may be twenty minutes off; no statement that takes, holds or gives up a purge has a time of ours."""
    client_api.close(thread)
    purges, given = bench.state.purges, []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *more: Any) -> None:
        given.append(str(parameters))

    sa.event.listen(bench.state.database.engine, "before_cursor_execute", note)
    try:
        held = purges._take(thread)
        held.write()
        assert purges._take(thread) is None
        assert purges.due() == []
    finally:
        sa.event.remove(bench.state.database.engine, "before_cursor_execute", note)
    assert len(given) >= 4
    assert not any(re.search(r"datetime|20\d\d-\d\d", parameters) for parameters in given), given


def test_failures_are_counted_in_the_database(
    bench: Workbench, client_api: Api, thread: int, caplog: pytest.LogCaptureFixture
) -> None:
    """C38: after 5, 30, 60, 120 s; five attempts, then stalled with an alert and every 300 s; success ends it."""
    client_api.close(thread)
    purges, database = bench.state.purges, bench.state.database
    real = database.erase_free_space

    def fail() -> None:
        raise DatabaseUnavailable("Checkpoint", "SQLITE_BUSY")

    database.erase_free_space = fail
    seen = []
    for _ in range(7):
        assert not purges.run(thread)
        row = receipts(bench)[thread]
        with database.read() as connection:
            now = connection.scalar(sa.select(utcnow()))
        wait = (row.next_attempt_at - now).total_seconds()
        seen.append((row.state, row.attempts, round(wait / 5) * 5, row.last_error))
        with database.write() as unit:
            unit.connection.execute(
                sa.update(bench.state.models.purges).values(next_attempt_at=sa.text("'2020-01-01'"))
            )
    error = "Checkpoint/SQLITE_BUSY"
    assert seen == [
        ("requested", 1, 5, error), ("requested", 2, 30, error), ("requested", 3, 60, error),
        ("requested", 4, 120, error), ("stalled", 5, 300, error), ("stalled", 6, 300, error),
        ("stalled", 7, 300, error),
    ]  # fmt: skip
    alerts = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert {record.getMessage() for record in alerts} == {"chat purge stalled"}
    database.erase_free_space = real
    assert purges.sweep() == 1
    assert receipts(bench)[thread].state == "settled"


@pytest.mark.database("sqlite")
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_no_byte_is_left_in_the_files(
    make_bench: Callable[..., Workbench], caplog: pytest.LogCaptureFixture, journal: str
) -> None:
    """C41: database, WAL, journal and queue; and no log of ours or SQLAlchemy's on our engine had it."""
    bench = make_bench("reference", CHAT_QUEUE_URL="sqlite:///queue.db")
    bench.state.tasks.huey.storage.filename = str(bench.folder / "queue.db")
    with bench.app.app_context(), bench.host.db.engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA journal_mode = {journal}")
    api = bench.login("client")
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "sqlalchemy"):
        thread = api.open(1).get_json()["threadId"]
        for number in range(300):
            api.say(thread, f"{CANARY} {number} " + "x" * 200, clientMessageId=f"{CANARY}-{number}")
        api.post(thread, {"type": "location", "lat": float(LATITUDE), "lng": float(LONGITUDE)})
        assert any(CANARY.encode() in file.read_bytes() for file in bench.folder.iterdir())
        api.messages(thread)
        api.close(thread)
        assert bench.state.purges.sweep() == 1
    for file in bench.folder.iterdir():
        assert CANARY.encode() not in file.read_bytes(), file.name
    ours = [record for record in caplog.records if record.name.startswith(("nursecare_chat", "huey"))]
    ours += [record for record in caplog.records if record.name.endswith("nursecare_chat")]
    for record in ours:
        shown = str(record.__dict__)
        assert [secret for secret in (CANARY, LATITUDE, LONGITUDE) if secret in shown] == []


@pytest.mark.database("sqlite")
def test_a_reader_holds_the_write_ahead_log(
    make_bench: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """C41, C38: what stands in it is not erased, so neither is the chat; the purge is tried again."""
    monkeypatch.setattr(sqlite, "LOCK_TIMEOUT", 0.1)
    bench = make_bench("reference")
    with closing(sqlite3.connect(str(bench.path), isolation_level=None)) as reader:
        reader.execute("PRAGMA journal_mode = wal")
        api = bench.login("client")
        thread = api.open(1).get_json()["threadId"]
        api.say(thread, CANARY)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM chat_messages").fetchone()
        api.close(thread)
        purge = receipts(bench)[thread]
        assert (purge.state, purge.last_error) == ("requested", "Checkpoint/SQLITE_BUSY")
        reader.execute("COMMIT")
    advance(bench.app, 6)
    assert bench.state.purges.sweep() == 1
    assert receipts(bench)[thread].state == "settled"


def test_a_failing_statement_does_not_show_its_parameters(
    bench: Workbench, client_api: Api, thread: int, caplog: pytest.LogCaptureFixture
) -> None:
    """C41: class and SQLSTATE only, in the log and in the exception with all it carries."""
    with bench.state.database.engine.connect() as connection:
        for statement in REFUSE[connection.dialect.name]:
            connection.exec_driver_sql(statement)
        connection.commit()
    with caplog.at_level(logging.DEBUG):
        response = client_api.say(thread, f"{CANARY} in a statement that fails")
    assert response.status_code == 500
    assert CANARY not in response.get_data(as_text=True)
    assert CANARY not in caplog.text
    (record,) = [record for record in caplog.records if record.getMessage().startswith("chat database error")]
    assert "IntegrityError" in record.getMessage()
    assert record.exc_info is None
    assert client_api.thread(thread).get_json()["lastSeq"] == 2


@pytest.mark.one_process
def test_statements_are_logged_without_what_is_said(
    bench: Workbench, client_api: Api, thread: int, caplog: pytest.LogCaptureFixture
) -> None:
    """C41: neither parameters nor rows, at whatever level our engine logs; nor have lines of ours it."""
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, bench.state.database.engine.logger.name):
        client_api.say(thread, CANARY, clientMessageId=CANARY)
        assert CANARY in client_api.messages(thread).get_data(as_text=True)
        client_api.close(thread)
    assert "FROM chat_messages" in caplog.text
    assert CANARY not in "".join(str(record.__dict__) for record in caplog.records)


@pytest.fixture(params=HOSTS)
def live(request: pytest.FixtureRequest, live_servers: Callable[..., Live]) -> Live:
    return live_servers("gevent", request.param)


@pytest.fixture
def worker_of(beside: Callable[..., Process]) -> Callable[[Live], Process]:
    def start(live: Live) -> Process:
        command = ("-m", "flask", "--app", live.bench.host.wsgi, "chat", "worker")
        return beside(live.bench, *command, CHAT_QUEUE_URL="sqlite://", CHAT_STORAGE_URL="file://")

    return start


def close_some(live: Live, count: int) -> list[int]:
    """Threads with something said in them, closed."""
    threads = [live.new_thread() for _ in range(count)]
    client = live.login("client")
    for thread in threads:
        client.say(thread, CANARY)
        client.close(thread)
    return threads


def test_worker_erases_after_a_close(live: Live, worker_of: Callable[[Live], Process]) -> None:
    """C36, C42: `flask chat worker` on the SQLite queue; ends with 0 on SIGINT and on SIGTERM."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        worker = worker_of(live)
        worker.wait_for("Chat worker ready")
        thread = live.new_thread()
        client = live.login("client")
        client.say(thread, CANARY)
        client.close(thread)
        wait_settled(live.bench, [thread], worker)
        assert receipts(live.bench)[thread].attempts == 1
        worker.wait_for("commands are available|Huey consumer started")
        worker.signal(signum)
        assert worker.popen.wait(15) == 0, worker.output


def test_what_was_closed_without_a_worker_is_found(live: Live, worker_of: Callable[[Live], Process]) -> None:
    """C36: queue lost, worker not there: the sweep at its start finds every due purge."""
    threads = close_some(live, 5)
    for name in ("chat-queue.db", "chat-queue.db-wal", "chat-queue.db-shm"):
        Path(live.bench.folder, name).unlink(missing_ok=True)
    worker_of(live)
    wait_settled(live.bench, threads)


def test_a_killed_worker_loses_nothing(live: Live, worker_of: Callable[[Live], Process]) -> None:
    """C36: SIGKILL again and again while 30 threads are purged: none is left, and no lease is broken early."""
    threads = close_some(live, 30)
    for _ in range(4):
        worker = worker_of(live)
        worker.wait_for("Chat worker ready")
        os.kill(worker.popen.pid, signal.SIGKILL)
        worker.popen.wait()
    with live.bench.state.database.write() as unit:  # in place of a minute's wait for the dead workers' leases
        expired = sa.update(live.bench.state.models.purges).values(lease_until=None, lease_owner=None)
        unit.connection.execute(expired.where(live.bench.state.models.purges.c.state != "settled"))
    worker_of(live)
    wait_settled(live.bench, threads)
    assert not [row for row in rows(live.bench, "messages") if row.text and row.thread_id in threads]


def test_purge_command(bench: Workbench, client_api: Api, thread: int) -> None:
    """C42, C36: says what is due, erases it here and now, one thread or all."""
    client_api.close(thread)
    run = bench.app.test_cli_runner().invoke
    assert f"thread {thread} is due" in run(args=["chat", "purge", "--dry-run"]).output
    unknown = run(args=["chat", "purge", "--thread", "999"])
    assert (unknown.exit_code, "No such chat was closed" in unknown.output) == (1, True)
    done = run(args=["chat", "purge"])
    assert (done.exit_code, "1 of 1 purged" in done.output) == (0, True)
    assert "Nothing is due" in run(args=["chat", "purge", "--dry-run"]).output


def test_purge_command_fails_loudly(bench: Workbench, client_api: Api, thread: int) -> None:
    """C42: exit status not 0, and where to look."""
    client_api.close(thread)

    def fail() -> None:
        raise DatabaseUnavailable("Checkpoint", "SQLITE_BUSY")

    bench.state.database.erase_free_space = fail
    result = bench.app.test_cli_runner().invoke(args=["chat", "purge"])
    assert result.exit_code == 1
    assert "0 of 1 purged" in result.output
    assert "the log says why" in result.output


def test_forget_command(bench: Workbench, client_api: Api, thread: int) -> None:
    """C9, C42: by request or by user; what is not settled stays and is said."""
    run = bench.app.test_cli_runner().invoke
    assert run(args=["chat", "forget"]).exit_code == 2
    assert "There is no ServiceRequest '77'" in run(args=["chat", "forget", "--request", "77"]).output
    refused = run(args=["chat", "forget", "--request", "1"])
    assert (refused.exit_code, "1 chat(s) stay" in refused.output) == (1, True)
    client_api.close(thread)
    bench.state.purges.sweep()
    with bench.app.app_context():
        user_id = bench.host.user_id("client")
    assert "1 chat(s) forgotten" in run(args=["chat", "forget", "--user", str(user_id)]).output
    assert rows(bench, "threads") == []
    assert rows(bench, "messages") == []


def test_worker_of_an_immediate_queue(make_bench: Callable[..., Workbench]) -> None:
    """C42: memory:// has no worker; the error says why."""
    result = make_bench("reference").app.test_cli_runner().invoke(args=["chat", "worker"])
    assert result.exit_code == 1
    assert "nothing for a worker to do" in result.output
