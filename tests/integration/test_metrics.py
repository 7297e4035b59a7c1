"""The figures for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from ..support.hosts import Workbench

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
