"""Chats that are closed by the clock."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from nursecare_chat import thread_closed
from nursecare_chat.clock import utcnow
from nursecare_chat.testing import advance

from ..support.hosts import Workbench

HOSTS = ["reference", "foreign-postgresql"]


@pytest.mark.one_process
@pytest.mark.parametrize("host", HOSTS)
def test_idle(make_bench: Callable[..., Workbench], host: str, caplog: pytest.LogCaptureFixture) -> None:
    """C5, C26, C32: so long after the last message, or the opening; a ThreadClosed and an erasure as ever."""
    bench = make_bench(host, CHAT_IDLE_CLOSE_MINUTES="30")
    client = bench.login("client")
    talked, silent = (client.open(number).get_json()["threadId"] for number in (1, 2))
    closed: list[int] = []

    def heard(sender: Any, thread_id: int, **more: Any) -> None:
        closed.append(thread_id)

    with thread_closed.connected_to(heard), caplog.at_level(logging.INFO):
        client.say(talked)
        bench.state.tasks.sweep()
        assert closed == []
        advance(bench.app, 29 * 60)
        bench.state.tasks.sweep()
        assert closed == []
        advance(bench.app, 61)
        bench.state.tasks.sweep()
        bench.state.tasks.sweep()
        assert sorted(closed) == sorted([talked, silent])
    assert caplog.text.count("chat thread expired") == 2
    assert client.say(talked).get_json()["code"] == "thread_closed"
    assert b"event: ThreadClosed" in client.stream(talked, "0").data
    assert client.messages(talked).get_json()["messages"][0]["text"] is None


@pytest.mark.one_process
@pytest.mark.parametrize("host", HOSTS)
def test_old(make_bench: Callable[..., Workbench], host: str) -> None:
    """C5: so many days after the opening, however much is said."""
    bench = make_bench(host, CHAT_MAX_AGE_DAYS="2")
    client = bench.login("client")
    thread = client.open(1).get_json()["threadId"]
    advance(bench.app, 2 * 86400 - 60)
    bench.state.tasks.sweep()
    assert client.say(thread).status_code == 200
    advance(bench.app, 61)
    bench.state.tasks.sweep()
    assert client.say(thread).status_code == 403


@pytest.mark.one_process
def test_off(make_bench: Callable[..., Workbench]) -> None:
    """C5: never, by default."""
    bench = make_bench()
    client = bench.login("client")
    thread = client.open(1).get_json()["threadId"]
    advance(bench.app, 10 * 365 * 86400)
    bench.state.tasks.sweep()
    assert client.say(thread).status_code == 200


@pytest.mark.one_process
def test_somebody_writes_at_that_moment(make_bench: Callable[..., Workbench]) -> None:
    """C5, C10: what the closing waited for is a reason to stay open."""
    bench = make_bench("foreign-postgresql", CHAT_IDLE_CLOSE_MINUTES="30")
    client = bench.login("client")
    thread = client.open(1).get_json()["threadId"]
    client.say(thread)
    advance(bench.app, 31 * 60)
    models = bench.state.models
    with bench.state.database.write() as unit, ThreadPoolExecutor(1) as pool:
        row = unit.connection.execute(sa.select(models.messages)).one()
        values = {**row._mapping, "id": None, "seq": 2, "created_at": utcnow(31 * 60)}
        del values["id"]
        unit.connection.execute(models.threads.update().where(models.threads.c.id == thread).values(last_seq=2))
        unit.connection.execute(models.messages.insert().values(values))
        sweeping = pool.submit(bench.state.tasks.sweep)
        time.sleep(1)
        assert not sweeping.done()
        unit.connection.commit()
        sweeping.result(20)
    assert client.say(thread).status_code == 200


@pytest.mark.one_process
def test_a_hundred_years(make_bench: Callable[..., Workbench]) -> None:
    """C5: no limit is too long."""
    bench = make_bench("foreign-postgresql", CHAT_MAX_AGE_DAYS="36500", CHAT_IDLE_CLOSE_MINUTES="1")
    client = bench.login("client")
    thread = client.open(1).get_json()["threadId"]
    advance(bench.app, 61)
    bench.state.tasks.sweep()
    assert client.say(thread).get_json()["code"] == "thread_closed"
