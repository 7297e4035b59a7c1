"""The figures for Prometheus."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from ..support.databases import Databases
from ..support.hosts import Workbench
from ..support.live import Live
from ..support.wait import eventually

PATH = "/api/chat/metrics"


def scrape(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_is_counted(make_bench: Callable[..., Workbench]) -> None:
    """C43: two applications of a process are apart; purges come from the database."""
    bench, other = (make_bench(CHAT_METRICS="on") for _ in range(2))
    client = bench.login("client")
    thread = client.open(1).get_json()["threadId"]
    client.say(thread)
    client.close(thread)
    seen = scrape(bench.login(None).call("GET", PATH).get_data(as_text=True))
    assert seen["nursecare_chat_messages_posted_total", "text"] == 1
    assert seen["nursecare_chat_purges", "settled"] == 1
    assert seen["nursecare_chat_purge_seconds_count", ""] == 1
    assert seen["nursecare_chat_purge_oldest_unerased_seconds", ""] == 0
    assert seen["nursecare_chat_database_up", ""] == 1
    theirs = scrape(other.login(None).call("GET", PATH).get_data(as_text=True))
    assert theirs["nursecare_chat_threads_opened_total", ""] == 0


def test_the_token(make_bench: Callable[..., Workbench]) -> None:
    """C43, C5, C7: Bearer or 401; 501 with the flag off; without CHAT_METRICS there is no such path."""
    bench = make_bench(CHAT_METRICS="on", CHAT_METRICS_TOKEN="right")
    nobody = bench.login(None)

    def answer(*words: str) -> Any:
        return nobody.call("GET", PATH, headers={"Authorization": " ".join(words)} if words else {})

    assert [answer(*words).status_code for words in ((), ("Bearer", "wrong"), ("Basic", "right"))] == [401] * 3
    assert answer().headers["WWW-Authenticate"] == "Bearer"
    assert answer("Bearer", "right").status_code == 200
    bench.app.config["CHAT_ENABLED"] = False
    assert answer("Bearer", "right").status_code == 501
    off = make_bench()
    assert off.login(None).call("GET", PATH).status_code == 401
    assert [off.login("client").call(method, PATH).status_code for method in ("GET", "POST")] == [404, 404]


def test_two_processes_are_one_target(tmp_path: Path, databases: Databases) -> None:
    """C43: whichever answers tells of both; of a worker that was killed what it counted stays, and its streams go."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    settings = {"CHAT_METRICS": "on", "PROMETHEUS_MULTIPROC_DIR": str(folder), "CHAT_MAX_STREAMS_PER_USER": "off"}
    live = Live("two-gevent", "reference", tmp_path, databases, settings)

    def seen() -> dict[tuple[str, str], float]:
        return scrape(httpx.get(live.server.url + PATH).text)  # on a connection of its own, so either may answer

    try:
        client = live.login("client")
        thread = live.new_thread()
        readers = [client.listen(thread).wait_open() for _ in range(12)]
        with ThreadPoolExecutor(8) as pool:
            assert {one.status_code for one in pool.map(lambda _: client.say(thread), range(40))} == {200}
        for reader in readers:
            reader.wait(40)
        for figures in (seen() for _ in range(6)):
            assert figures["nursecare_chat_messages_posted_total", "text"] == 40
            assert figures["nursecare_chat_streams_open", ""] == 12
        assert seen()["nursecare_chat_delivery_lag_seconds_count", ""] >= 40
        os.kill(live.server.workers()[0], signal.SIGKILL)
        eventually(lambda: seen()["nursecare_chat_streams_open", ""] == sum(not one.ended.is_set() for one in readers))
        assert seen()["nursecare_chat_messages_posted_total", "text"] == 40
        for reader in readers:
            reader.stop()
        eventually(lambda: seen()["nursecare_chat_streams_open", ""] == 0)
    finally:
        live.close()


@pytest.mark.one_process
def test_without_the_database(make_bench: Callable[..., Workbench]) -> None:
    """C43: whoever watches is told that it is away, and gets the rest."""
    bench = make_bench("reference-postgresql", CHAT_METRICS="on")
    person = bench.login("client")
    person.say(person.open(1).get_json()["threadId"])
    bench.state.database.dispose()
    bench.state.database._engine = sa.create_engine("postgresql+psycopg://somebody:hunter2@/x?host=/nonexistent")
    answer = bench.app.test_client().get(PATH)
    figures = scrape(answer.text)
    assert (answer.status_code, figures["nursecare_chat_database_up", ""]) == (200, 0)
    assert figures["nursecare_chat_messages_posted_total", "text"] == 1
    assert ("nursecare_chat_purges_due", "") not in figures
    assert "hunter2" not in answer.text
