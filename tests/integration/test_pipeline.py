"""A post's transaction in one round trip, and what can happen to it on the way."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from nursecare_chat import keys
from nursecare_chat.service import postgres

from ..support.hosts import Workbench
from ..support.postgres import connect
from ..support.wait import eventually

pytestmark = [pytest.mark.database("postgresql"), pytest.mark.one_process]

OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.fixture(params=["reference-postgresql", "foreign-postgresql"])
def bench(request: pytest.FixtureRequest, make_bench: Callable[..., Workbench]) -> Workbench:
    return make_bench(request.param)


@pytest.mark.parametrize("more", [{}, {"clientMessageId": "once"}], ids=["plain", "keyed"])
@pytest.mark.parametrize("who", ["client", "admin"])
def test_one_wait_for_the_database(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, who: str, more: dict[str, Any]
) -> None:
    """C10: for the message with the lock, the seq and the commit; a thread's first post also reads the thread."""
    api = bench.login(who)
    thread = api.open(1).get_json()["threadId"]
    api.say(thread)
    waits: list[str] = []
    real = psycopg.Connection.wait

    def wait(connection: Any, *arguments: Any, **options: Any) -> Any:
        waits.append(type(connection).__name__)
        return real(connection, *arguments, **options)

    monkeypatch.setattr(psycopg.Connection, "wait", wait)
    assert api.say(thread, **more).get_json()["seq"] == 2
    assert waits.count("ImpatientConnection") == 1


@pytest.mark.parametrize("body", [{"type": "text", "text": "x"}, {"type": "text"}], ids=["sound", "unsound"])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"client_id": "client2"}, "forbidden"),
        ({"status": "closed", "closed_at": datetime(2030, 1, 1)}, "thread_closed"),
        ({"id": None}, "not_found"),
    ],
    ids=["another's", "closed", "gone"],
)
def test_the_thread_is_not_what_an_earlier_post_saw(
    bench: Workbench, change: dict[str, Any], code: str, body: dict[str, Any]
) -> None:
    """C10, C11, C16, C22: what is remembered of a thread allows nothing, and says nothing of why."""
    api, threads = bench.login("client"), bench.state.models.threads
    thread = api.open(1).get_json()["threadId"]
    assert [api.say(thread).status_code for _ in range(2)] == [200, 200]
    with bench.app.app_context(), bench.state.database.engine.begin() as connection:
        if "id" in change:
            connection.execute(bench.state.models.messages.delete())
            connection.execute(threads.delete())
        else:
            new = {name: bench.host.user_id(to) if name == "client_id" else to for name, to in change.items()}
            connection.execute(threads.update().values(new))
        written = connection.scalar(sa.select(sa.func.count()).select_from(bench.state.models.messages))
    assert api.post(thread, body).get_json()["code"] == code
    with bench.state.database.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(bench.state.models.messages)) == written
    if "client_id" in change:
        assert bench.login("client2").say(thread).get_json()["seq"] == 3


def test_claimed_since_an_earlier_post(bench: Workbench) -> None:
    """C17: of two admins the first who posts has it, whatever this process remembers."""
    client, admins = bench.login("client"), [bench.login("admin"), bench.login("admin2")]
    thread = client.open(1).get_json()["threadId"]
    for poster in (client, client, *admins, *admins, client):
        assert poster.say(thread).status_code == 200
    with bench.app.app_context():
        assert client.thread(thread).get_json()["adminId"] == keys.wire(bench.host.user_id("admin"))


def test_each_override_is_told(bench: Workbench) -> None:
    """C16: also that of a post which goes by what an earlier one saw: of the first admin before they claim, and of the
    other one each time.
    """
    client, admin, other = (bench.login(who) for who in ("client", "admin", "admin2"))
    thread = client.open(1).get_json()["threadId"]
    for poster in (client, admin, client, other, other):
        assert poster.say(thread).status_code == 200
    assert bench.state.metrics.snapshot()["admin_overrides", "post"] == 3


def on_our_connection(bench: Workbench, statement: str) -> list[Any]:
    """The pool has but one as long as one thing is done after the other."""
    with bench.state.database.engine.connect() as connection:
        result = connection.exec_driver_sql(statement)
        rows = list(result.all()) if result.returns_rows else []
        connection.commit()
    return rows


@pytest.mark.parametrize(
    "change",
    ["DEALLOCATE ALL", "ALTER TABLE chat_threads ALTER status TYPE varchar(20)"],
    ids=["forgotten", "another-type"],
)
def test_what_was_prepared_is_no_good_any_more(bench: Workbench, change: str) -> None:
    """C6, C10: a pooler or a migration did something; nobody sees it, and no seq is left out."""
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    assert api.say(thread).get_json()["seq"] == 1
    assert len(on_our_connection(bench, "SELECT name FROM pg_prepared_statements")) == 3
    on_our_connection(bench, change)
    assert api.say(thread).get_json()["seq"] == 2
    assert api.thread(thread).get_json()["lastSeq"] == 2
    assert bench.state.database.engine.pool.checkedout() == 0


def test_a_host_that_lets_nothing_be_prepared(make_bench: Callable[..., Workbench]) -> None:
    """C7: as it must behind some poolers: no session keeps anything of ours."""
    bench = make_bench("reference-postgresql", SQLALCHEMY_ENGINE_OPTIONS={"connect_args": {"prepare_threshold": None}})
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    assert [api.say(thread).get_json()["seq"] for _ in range(8)] == list(range(1, 9))
    assert on_our_connection(bench, "SELECT name FROM pg_prepared_statements") == []


def test_a_session_is_as_it_was(bench: Workbench) -> None:
    """C7: behind a pooler the next transaction there is somebody else's."""
    api = bench.login("client")
    api.say(api.open(1).get_json()["threadId"])
    shown = "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
    assert [tuple(row) for row in on_our_connection(bench, shown)] == [("0", "0")]


def test_ended_before_it_began(make_bench: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch) -> None:
    """C13: a server that said goodbye where nobody listened costs nobody a request; the host asks for itself."""
    bench = make_bench("reference-postgresql", SQLALCHEMY_ENGINE_OPTIONS={"pool_pre_ping": True})
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    real, missed = postgres._is_silent, [True]
    monkeypatch.setattr(postgres, "_is_silent", lambda pgconn: missed.pop() if missed else real(pgconn))
    with connect(sa.make_url(bench.url)) as operator:
        operator.execute(f"SELECT pg_terminate_backend(pid) {OTHERS}")
        eventually(lambda: operator.execute(f"SELECT count(*) {OTHERS}").fetchone() == (0,))
    assert api.say(thread).get_json()["seq"] == 1
    assert not missed


def test_ended_in_the_middle(bench: Workbench) -> None:
    """C10, C13: 503, not tried again by us: what was sent is there once or not at all."""
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    url, waiting = sa.make_url(bench.url), f"{OTHERS} AND wait_event_type = 'Lock'"
    with connect(url) as blocker, connect(url) as operator, ThreadPoolExecutor(1) as pool:
        blocker.autocommit = False
        blocker.execute("SELECT * FROM chat_threads FOR UPDATE")
        answer = pool.submit(api.say, thread)
        eventually(lambda: operator.execute(f"SELECT count(*) {waiting}").fetchone() == (1,))
        operator.execute(f"SELECT pg_terminate_backend(pid) {waiting}")
        blocker.rollback()
        assert answer.result().status_code == 503
    assert api.say(thread).get_json()["seq"] == 1


def test_equal_posts_that_wait_for_one_another(bench: Workbench) -> None:
    """C23, C10: both are on their way when neither is there: one row, one answer, and no seq between."""
    posters = [bench.login("client") for _ in range(6)]
    thread = posters[0].open(1).get_json()["threadId"]
    url, waiting = sa.make_url(bench.url), f"{OTHERS} AND wait_event_type = 'Lock'"
    with connect(url) as blocker, connect(url) as operator, ThreadPoolExecutor(6) as pool:
        blocker.autocommit = False
        blocker.execute("SELECT * FROM chat_threads FOR UPDATE")
        answers = [pool.submit(one.say, thread, "same", clientMessageId="same") for one in posters]
        eventually(lambda: operator.execute(f"SELECT count(*) {waiting}").fetchone() == (6,))
        blocker.rollback()
        assert {answer.result().status_code for answer in answers} == {200}
        assert len({(answer.result().get_json()["id"], answer.result().get_json()["seq"]) for answer in answers}) == 1
    assert posters[0].say(thread).get_json()["seq"] == 2
