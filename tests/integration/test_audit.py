"""`flask chat audit`: it finds what is left, wherever somebody put it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nursecare_chat.storage import names

from ..support.hosts import Workbench
from ..support.pictures import JPEG


def audit(bench: Workbench, *arguments: str) -> tuple[int, dict[str, Any]]:
    result = bench.app.test_cli_runner().invoke(args=["chat", "audit", "--json", *arguments])
    return result.exit_code, json.loads(result.stdout)


@pytest.mark.one_process
@pytest.mark.parametrize("host", ["reference", "foreign-postgresql"])
def test_each_place(make_bench: Callable[..., Workbench], host: str, redis_url: str, tmp_path: Path) -> None:
    """C40, C41: database, storage, key store, Redis and queue; nothing of open chats."""
    bench = make_bench(
        host,
        CHAT_TRANSPORT_URL=redis_url,
        CHAT_QUEUE_URL=redis_url,
        CHAT_KEYSTORE_URL=(tmp_path / "keys").as_uri(),
    )
    client = bench.login("client")
    thread, still_open = (client.open(number).get_json()["threadId"] for number in (1, 2))
    for one in (thread, still_open):
        client.say(one, "something")
    client.close(thread)
    assert bench.state.purges.run(thread)
    assert audit(bench) == (0, {"ok": True, "threads": 1, "traces": []})
    messages = bench.state.models.messages
    with bench.state.database.write() as unit:
        row = messages.update().where(messages.c.thread_id == thread)
        unit.connection.execute(row.values(text="left"))
    bench.state.storage.write(names.new_name(thread, "image/jpeg"), JPEG)
    bench.state.sealing.store.make(thread)
    import redis

    with redis.Redis.from_url(redis_url) as other, other.pubsub() as listener:
        other.set(f"private-chat.{thread}", "something")
        listener.subscribe(f"private-chat.{thread}")
        listener.get_message(timeout=5)
        bench.state.tasks._registration.purge.schedule((thread,), {"text": "something"}, delay=600)
        status, said = audit(bench)
    assert (status, said["ok"]) == (1, False)
    places = [trace["place"] for trace in said["traces"]]
    assert places == ["database", "storage", "keystore", "redis", "redis", "queue"]
    assert "something" not in json.dumps(said)
    with bench.state.database.write() as unit:
        unit.connection.execute(row.values(text=sa.null()))


def test_a_place_that_cannot_be_looked_at(make_bench: Callable[..., Workbench]) -> None:
    """C42: is no clean audit."""
    bench = make_bench(CHAT_TRANSPORT_URL="redis://127.0.0.1:1/0")
    result = bench.app.test_cli_runner().invoke(args=["chat", "audit"])
    assert (result.exit_code, "Not everything could be looked at" in result.output) == (1, True)
