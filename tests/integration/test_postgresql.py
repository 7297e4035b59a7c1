"""What PostgreSQL alone can do to the chat."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from nursecare_chat import message_created, thread_closed
from nursecare_chat.errors import DatabaseConflict, DatabaseError, DatabaseUnavailable
from nursecare_chat.service import postgres
from nursecare_chat.service.unit_of_work import NO_TABLES, POOL, translate

from ..support.databases import Databases, connect
from ..support.hosts import HOSTS, Workbench
from ..support.live import Live
from ..support.postgres import Server

REFERENCE = "reference-postgresql"
pytestmark = pytest.mark.database("postgresql")
SERIALIZABLE = {"options": "-c default_transaction_isolation=serializable"}


@pytest.fixture(
    params=[
        {"isolation_level": "AUTOCOMMIT"},
        {"isolation_level": "REPEATABLE READ"},
        {"execution_options": {"isolation_level": "AUTOCOMMIT"}},
        {"execution_options": {"isolation_level": "SERIALIZABLE"}},
        {"connect_args": SERIALIZABLE},
        {"connect_args": {"autocommit": True}},
    ],
    ids=str,
)
def bench(request: pytest.FixtureRequest, make_bench: Callable[..., Workbench]) -> Workbench:
    """A host that has transactions of another kind than ours."""
    return make_bench(REFERENCE, SQLALCHEMY_ENGINE_OPTIONS=request.param)


def test_the_hosts_idea_of_a_transaction_is_not_ours(bench: Workbench) -> None:
    """C10, C7: all of 36 posts by twelve at once, dense and in order; what fails takes no seq with it."""
    thread = bench.login("client").open(1).get_json()["threadId"]
    posters = [bench.login("admin" if number % 2 else "client") for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda poster: poster.say(thread), posters * 3))
    assert {answer.status_code for answer in answers} == {200}
    posted = sorted((answer.get_json()["seq"], answer.get_json()["id"]) for answer in answers)
    assert [seq for seq, _ in posted] == list(range(1, 37))
    assert [id for _, id in posted] == sorted(id for _, id in posted)
    threads, messages = bench.state.models.threads, bench.state.models.messages
    half = sa.insert(messages).values(thread_id=thread)
    with pytest.raises(DatabaseConflict):
        write_both(bench, sa.update(threads).values(last_seq=99), half)
    assert posters[0].thread(thread).get_json()["lastSeq"] == 36


def write_both(bench: Workbench, *statements: sa.Executable) -> None:
    with bench.state.database.write() as unit:
        for statement in statements:
            unit.connection.execute(statement)


def test_a_restarted_server(make_bench: Callable[..., Workbench]) -> None:
    """C13: connections that broke while they were idle cost nobody a request; the host's are its own affair."""
    bench = make_bench(REFERENCE, SQLALCHEMY_ENGINE_OPTIONS={"pool_pre_ping": True})
    client = bench.login("client")
    thread = client.open(1).get_json()["threadId"]
    with connect(sa.make_url(bench.url)) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert client.say(thread).get_json()["seq"] == 1


def test_a_server_that_is_away(make_bench: Callable[..., Workbench]) -> None:
    """C13, C41: 503, with nothing about who connects where."""
    database = make_bench(REFERENCE).state.database
    database._engine = sa.create_engine("postgresql+psycopg://somebody:hunter2@/x?host=/nonexistent")
    with pytest.raises(DatabaseUnavailable) as raised, database.read():
        pass
    assert "hunter2" not in "".join(traceback.format_exception(raised.value))
    assert "nonexistent" not in "".join(traceback.format_exception(raised.value)).replace("host=/nonexistent", "")


@pytest.mark.parametrize(
    "said",
    [
        'relation "chat_threads" does not exist\nLINE 1: SELECT care.x',
        'relation "care.chat_messages" does not exist',
        "Relation »chat_purges« existiert nicht",
    ],
)
def test_missing_tables_in_any_language(said: str) -> None:
    """C13: in the words of the server's language, in a schema: what to run is said."""
    error = sa.exc.ProgrammingError("SELECT", {}, _with_state(said, "42P01"))
    assert NO_TABLES in str(translate(error))


def test_a_missing_table_of_the_hosts() -> None:
    """C13: is not said to be ours."""
    error = sa.exc.ProgrammingError("SELECT", {}, _with_state('relation "users" does not exist', "42P01"))
    assert type(translate(error)) is DatabaseError


def _with_state(said: str, state: str) -> Exception:
    error: Any = Exception(said)
    error.sqlstate = state
    return error


def test_times_are_utc_whatever_the_servers_zone(make_bench: Callable[..., Workbench]) -> None:
    """C15, C36: by the database's clock, also where it shows another time of day."""
    bench = make_bench(REFERENCE, SQLALCHEMY_ENGINE_OPTIONS={"connect_args": {"options": "-c timezone=Asia/Kolkata"}})
    thread = bench.login("client").open(1).get_json()["threadId"]
    opened_at = bench.state.threads.get(thread).opened_at
    assert abs(opened_at.replace(tzinfo=UTC).timestamp() - time.time()) < 60


def test_a_row_that_stays_locked(make_bench: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch) -> None:
    """C10, C13: posts wait for a bounded time, then 503; those who only read wait for nobody."""
    monkeypatch.setattr("nursecare_chat.service.postgres.LOCK_TIMEOUT", 0.5)
    bench = make_bench(REFERENCE)
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    with connect(sa.make_url(bench.url)) as blocker:
        blocker.autocommit = False
        blocker.execute("SELECT * FROM chat_threads FOR UPDATE")
        refused = api.say(thread)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert api.messages(thread).status_code == 200
        blocker.rollback()
    assert api.say(thread).get_json()["seq"] == 1


def test_a_host_that_locks_its_user_in_the_same_request(
    make_bench: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """C7, C10: what the host holds, our foreign key waits for; the request is refused, it does not stand still."""
    monkeypatch.setattr("nursecare_chat.service.postgres.LOCK_TIMEOUT", 0.5)
    bench = make_bench(REFERENCE)
    db, user = bench.host.db, bench.host.user_model
    lock = sa.select(user.id).with_for_update()
    locks: list[bool] = []
    bench.app.before_request(lambda: (db.session.execute(lock).all() if locks else None) and None)
    thread = bench.login("client").open(1).get_json()["threadId"]
    locks.append(True)
    refused = bench.login("client").say(thread)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")


@pytest.mark.one_process
def test_a_close_that_a_savepoint_undid_and_somebody_else_made(make_bench: Callable[..., Workbench]) -> None:
    """C26, C44: told once, by the one whose close stands."""
    bench = make_bench(REFERENCE)
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    told: list[int] = []

    def receive(sender: Any, thread_id: int, **more: Any) -> None:
        told.append(thread_id)

    with bench.app.app_context(), thread_closed.connected_to(receive, bench.app):
        session = bench.host.db.session
        request = session.get(bench.host.request_model, 1)
        savepoint = session.begin_nested()
        assert bench.chat.close_request(request)
        savepoint.rollback()
        assert api.close(thread).status_code == 200
        session.commit()
    assert told == [thread]


@pytest.fixture
def own_server() -> Iterator[Server]:
    """One that may be stopped, with the benches of this test on it."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def bench_on(own_server: Server, tmp_path: Path) -> Iterator[Workbench]:
    mine = Databases(tmp_path)
    mine._server = own_server
    folder = tmp_path / "bench"
    folder.mkdir()
    host = HOSTS[REFERENCE]
    bench = Workbench(host, folder, mine, {"SQLALCHEMY_ENGINE_OPTIONS": {"connect_args": {"connect_timeout": 2}}})
    yield bench
    own_server.resume()
    bench.close()
    for pool in mine._pools.values():
        pool.close(keep=True)


def test_a_server_that_hangs(bench_on: Workbench, own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """C10, C13: reads and writes end in 503 with Retry-After; when it is back, so are we, and nothing is left open."""
    monkeypatch.setattr("nursecare_chat.service.postgres.ANSWER_TIMEOUT", 0.5)
    state = bench_on.state
    thread = bench_on.login("client").open(1).get_json()["threadId"]
    own_server.hang()
    before = time.monotonic()
    for context in (state.database.read, state.database.write):
        with pytest.raises(DatabaseUnavailable) as raised, context() as used:
            getattr(used, "connection", used).scalar(sa.select(1))
        assert raised.value.headers == {"Retry-After": "1"}
        assert raised.value.status == 503
    assert time.monotonic() - before < 30
    own_server.resume()
    assert bench_on.login("client").say(thread).get_json()["seq"] == 1
    assert state.database.engine.pool.checkedout() == 0


def test_a_server_that_is_gone(bench_on: Workbench, own_server: Server) -> None:
    """C13, C35: the host's user loader is the first to meet it; 503 for all that, and a stream is told to come back."""
    person = bench_on.login("client")
    thread = person.open(1).get_json()["threadId"]
    own_server.stop()
    for answer in (person.say(thread), person.thread(thread), person.open(1), person.close(thread)):
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.get_json()["code"] == "unavailable"
    stream = person.stream(thread)
    assert (stream.status_code, stream.data) == (200, b"retry: 10000\n\n")
    own_server.start()
    assert person.say(thread).get_json()["seq"] == 1


def test_cut_off_behind_the_commit(make_bench: Callable[..., Workbench]) -> None:
    """C13: the reference host's session was idle then, and its end does not make a 500 of what was acknowledged."""
    bench = make_bench(REFERENCE, SQLALCHEMY_ENGINE_OPTIONS={"pool_pre_ping": True})
    person = bench.login("client")
    thread = person.open(1).get_json()["threadId"]
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )

    def restart(sender: Any, **ids: Any) -> None:
        with connect(sa.make_url(bench.url)) as operator:
            operator.execute(cut)

    with message_created.connected_to(restart):
        assert person.say(thread).get_json()["seq"] == 1
    assert person.say(thread).get_json()["seq"] == 2


def test_it_hangs_in_mid_transaction(bench_on: Workbench, own_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """C10: a commit without an answer is no acknowledgement, and its connection is not used again."""
    monkeypatch.setattr("nursecare_chat.service.postgres.ANSWER_TIMEOUT", 0.5)

    def hang_before_the_commit() -> None:
        with bench_on.state.database.write() as unit:
            unit.connection.execute(sa.select(1))
            own_server.hang()

    with pytest.raises(DatabaseUnavailable):
        hang_before_the_commit()
    own_server.resume()
    with bench_on.state.database.read() as connection:
        assert connection.scalar(sa.select(1)) == 1


def test_a_statement_that_takes_too_long(make_bench: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch) -> None:
    """C10, C13: the server ends it, or we do; nothing of that stays with the connection."""
    monkeypatch.setattr("nursecare_chat.service.postgres.STATEMENT_TIMEOUT", 0.2)
    database = make_bench(REFERENCE).state.database
    sleep = sa.select(sa.func.pg_sleep(30))
    with pytest.raises(DatabaseUnavailable) as raised, database.write() as unit:
        unit.connection.execute(sleep)
    assert raised.value.sqlstate == "57014"
    with database.engine.connect() as connection:
        names = ("statement_timeout", "lock_timeout")
        assert [connection.scalar(sa.select(sa.func.current_setting(name))) for name in names] == ["0", "0"]
    with pytest.raises(DatabaseUnavailable), database.read() as connection:
        connection.execute(sleep)
    monkeypatch.setattr("nursecare_chat.service.postgres.STATEMENT_TIMEOUT", 60)
    monkeypatch.setattr("nursecare_chat.service.postgres.ANSWER_TIMEOUT", 0.2)
    with pytest.raises(DatabaseUnavailable), database.read() as connection:
        connection.execute(sleep)


def test_reads_that_are_given_up_wait_nowhere(make_bench: Callable[..., Workbench], monkeypatch: Any) -> None:
    """C10, C13: a table that a migration has locked costs 503s, and no connection of the server's stays behind."""
    for name in ("LOCK_TIMEOUT", "STATEMENT_TIMEOUT"):
        monkeypatch.setattr(postgres, name, 0.3)
    bench = make_bench(REFERENCE)
    person = bench.login("client")
    thread = person.open(1).get_json()["threadId"]
    with connect(sa.make_url(bench.url)) as blocker, connect(sa.make_url(bench.url)) as watcher:
        blocker.autocommit = False
        blocker.execute("LOCK TABLE chat_threads, chat_messages IN ACCESS EXCLUSIVE MODE")
        assert [person.thread(thread).status_code for _ in range(3)] == [503] * 3
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        assert watcher.execute(waiting).fetchone() == (0,)
    assert person.thread(thread).status_code == 200


@pytest.mark.one_process
def test_a_server_that_takes_no_writes(make_bench: Callable[..., Workbench]) -> None:
    """C13: as during a failover: 503 to try again, and reading goes on."""
    bench = make_bench(REFERENCE)
    person = bench.login("client")
    thread = person.open(1).get_json()["threadId"]
    with connect(sa.make_url(bench.url)) as operator:
        for value, status in (("on", 503), ("off", 200)):
            (name,) = operator.execute("SELECT current_database()").fetchone() or ()
            operator.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}')
            bench.state.database.dispose()
            answer = person.say(thread)
            assert (answer.status_code, answer.headers.get("Retry-After")) == (status, "1" if status == 503 else None)
            assert person.thread(thread).status_code == 200


@pytest.mark.one_process
def test_a_host_that_logs_in_by_an_event(make_bench: Callable[..., Workbench]) -> None:
    """C7, C10: a token in place of a password, a schema: what the host's engine does our own does, too."""
    bench = make_bench(REFERENCE)
    with bench.app.app_context():
        engine = bench.host.db.engine
    seen: list[str] = []

    def log_in(dialect: Any, record: Any, args: Any, options: dict[str, Any]) -> None:
        options["application_name"] = "by-token"

    def prepare(connection: Any, record: Any) -> None:
        seen.append(connection.info.parameter_status("application_name"))

    sa.event.listen(engine, "do_connect", log_in)
    sa.event.listen(engine, "connect", prepare)
    bench.state.database.dispose()
    bench.state.database._engine = None
    with bench.state.database.read() as connection:
        assert connection.scalar(sa.text("SHOW application_name")) == "by-token"
        assert type(connection.connection.driver_connection).__name__ == "ImpatientConnection"
    assert seen == ["by-token"]


@pytest.mark.parametrize("said", [{}, {"connect_timeout": 77, "keepalives": 0}])
def test_what_the_host_says_about_the_network_stands(
    make_bench: Callable[..., Workbench], said: dict[str, int]
) -> None:
    """C7, C10: else a machine that is gone is noticed; the host's own engine stays as it was."""
    bench = make_bench(REFERENCE, SQLALCHEMY_ENGINE_OPTIONS={"connect_args": said})
    with bench.state.database.read() as connection:
        used = connection.connection.driver_connection.info.get_parameters()
    for name, value in {**postgres.NETWORK, **said}.items():
        assert used.get(name, str(value)) == str(value), name  # what is libpq's default is not shown
    assert used["connect_timeout"] == str(said.get("connect_timeout", 3))
    with bench.app.app_context(), bench.host.db.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert "tcp_user_timeout" not in driver.info.get_parameters()
        assert type(driver) is psycopg.Connection


@pytest.mark.one_process
def test_a_slow_lock_stops_nobody_else(live_servers: Callable[..., Live]) -> None:
    """C10, C45: in one gevent process 30 others post and read while posts to one thread wait for its row."""
    live = live_servers("gevent", REFERENCE)
    slow, threads = live.new_thread(), [live.new_thread() for _ in range(6)]
    people = [live.login("client") for _ in range(9)]
    with connect(sa.make_url(live.bench.url)) as blocker, ThreadPoolExecutor(40) as pool:
        blocker.autocommit = False
        blocker.execute("SELECT * FROM chat_threads WHERE id = %s FOR UPDATE", [slow])
        waiting = [pool.submit(person.say, slow) for person in people[:3]]
        posts = [pool.submit(person.say, thread) for person in people[3:] for thread in threads[:5]]
        assert {post.result(60).status_code for post in posts} == {200}
        assert not any(post.done() for post in waiting)
        blocker.rollback()
        assert sorted(post.result(60).json()["seq"] for post in waiting) == [1, 2, 3]


@pytest.mark.one_process
def test_idle_streams_hold_no_connection(live_servers: Callable[..., Live]) -> None:
    """C10: a hundred of them, and nobody is in a transaction; connections are as many as the pools hold."""
    live = live_servers("gevent", REFERENCE, CHAT_MAX_STREAMS_PER_USER="off")
    thread, person = live.new_thread(), live.login("client")
    person.say(thread)
    with ExitStack() as stack:
        streams = [person.listen(thread, "0") for _ in range(100)]
        for stream in streams:
            stack.callback(stream.stop)
            stream.wait(1, 60)
        with connect(sa.make_url(live.bench.url)) as watcher:
            seen = []
            for _ in range(10):
                seen += watcher.execute(
                    "SELECT state, count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid() GROUP BY state"
                ).fetchall()
                time.sleep(0.1)
    assert sum(count for state, count in seen if state == "idle in transaction") <= 1  # a poll, once in a while
    # Ours and the host's, in the server's process and in this one.
    held = 2 * sum(
        pool["pool_size"] + pool["max_overflow"] for pool in (POOL, live.bench.app.config["SQLALCHEMY_ENGINE_OPTIONS"])
    )
    assert max(count for _, count in seen) <= held < 100
