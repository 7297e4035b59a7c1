"""What PostgreSQL alone can do to the chat."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from typing import Any

import pytest
import sqlalchemy as sa

from nursecare_chat import thread_closed
from nursecare_chat.errors import DatabaseConflict, DatabaseError, DatabaseUnavailable
from nursecare_chat.service.unit_of_work import NO_TABLES, translate

from ..support.databases import connect
from ..support.hosts import Workbench

REFERENCE = "reference-postgresql"
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
