"""How often a user may post, open and upload."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from nursecare_chat import rates as rates_module

from ..support.hosts import Api, Workbench

pytestmark = pytest.mark.one_process

ONE = {"CHAT_RATE_POST": "3/minute", "CHAT_RATE_OPEN": "3/minute", "CHAT_RATE_UPLOAD": "3/minute"}
HOSTS = ["reference", "foreign", "memory"]


@pytest.fixture(params=HOSTS)
def bench(request: pytest.FixtureRequest, make_bench: Any) -> Workbench:
    """Three of each in a minute."""
    return make_bench(request.param, **ONE)


def ask_for_upload(api: Api, thread: int, **body: Any) -> Any:
    body = {"contentType": "image/jpeg", "size": 1, **body}
    return api.call("POST", f"/api/chat/threads/{thread}/uploads", json=body)


def limited(response: Any) -> bool:
    if response.status_code != 429:
        return False
    assert response.get_json()["code"] == "rate_limited"
    assert set(response.get_json()) == {"code", "message", "errors"}
    assert 1 <= int(response.headers["Retry-After"]) <= 3600
    return True


def test_each_is_counted_by_itself(bench: Workbench, client_api: Api, admin_api: Api) -> None:
    """C13: per user and kind; what is refused further on counts, others and readers do not."""
    thread = client_api.open(1).get_json()["threadId"]
    assert not limited(client_api.open(99))
    assert not limited(client_api.open(3))
    assert limited(client_api.open(1))
    for attempt in (client_api.say(thread), client_api.say(thread, ""), client_api.say(999)):
        assert not limited(attempt)
    assert limited(client_api.say(thread))
    for _ in range(3):
        assert not limited(ask_for_upload(client_api, thread, size=0))
    assert limited(ask_for_upload(client_api, thread))
    assert not limited(admin_api.say(thread))
    for _ in range(10):
        assert client_api.messages(thread).status_code == 200
        assert client_api.thread(thread).status_code == 200
        assert client_api.stream(thread, "0", environ_overrides={"wsgi.multithread": False}).status_code == 200
    assert client_api.close(thread).status_code == 200
    assert bench.state.metrics.snapshot()["denials", "rate_limited"] == 3


def test_its_place_among_the_gates(bench: Workbench, client_api: Api) -> None:
    """C11: behind the login, which knows the user, and before the lookup; 429 tells nothing of what exists."""
    for _ in range(3):
        client_api.say(999)
    assert limited(client_api.say(999))
    assert limited(client_api.post(999, b"{", content_type="text/plain"))
    assert client_api.post(999, "{}", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client_api.post(999, b"x" * 70_000).status_code == 413
    assert bench.login(None).say(999).status_code == 401
    bench.app.config["CHAT_ENABLED"] = False
    assert client_api.say(999).status_code == 501


def test_it_passes(make_bench: Any) -> None:
    """C13: after Retry-After seconds the next one goes through."""
    api = make_bench("reference", CHAT_RATE_POST="2/second").login("client")
    thread = api.open(1).get_json()["threadId"]
    while not limited(response := api.say(thread)):
        pass
    time.sleep(int(response.headers["Retry-After"]) + 0.1)
    assert api.say(thread).status_code == 200


def test_fifty_at_once(make_bench: Any) -> None:
    """C13: no more than the rate get through."""
    bench = make_bench("reference", CHAT_RATE_OPEN="20/minute")
    apis = [bench.login("client") for _ in range(50)]
    with ThreadPoolExecutor(50) as pool:
        statuses = sorted(pool.map(lambda api: api.open(1).status_code, apis))
    assert statuses == [200] * 20 + [429] * 30


def test_off(make_bench: Any) -> None:
    """C5: for none; and each by itself."""
    api = make_bench("reference", CHAT_RATE_OPEN="off", CHAT_RATE_POST="1/hour").login("client")
    threads = {api.open(1).get_json()["threadId"] for _ in range(40)}
    thread = threads.pop()
    assert api.say(thread).status_code == 200
    assert limited(api.say(thread))


def test_the_contracts_rates(make_bench: Any) -> None:
    """C5: 120 posts and 30 opens and uploads a minute when nothing is set."""
    bench = make_bench("reference", CHAT_RATE_POST=None, CHAT_RATE_OPEN=None, CHAT_RATE_UPLOAD=None)
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    assert not any(limited(api.open(1)) for _ in range(29))
    assert limited(api.open(1))
    assert not any(limited(ask_for_upload(api, thread, size=0)) for _ in range(30))
    assert limited(ask_for_upload(api, thread))
    assert not any(limited(api.say(thread)) for _ in range(120))
    assert limited(api.say(thread))


def test_the_hosts_own_limiter_is_left_alone(make_bench: Any) -> None:
    """C7, C13: its counts, keys and headers are as without us, and ours are as without it."""
    bench = make_bench("foreign", **ONE)
    api = bench.login("client")
    assert [api.call("GET", "/limited").status_code == 200 for _ in range(3)] == [True, True, False]
    thread = api.open(1).get_json()["threadId"]
    assert [api.say(thread).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert b"rate_limited" not in api.call("GET", "/limited").data


def test_a_child_process_counts_by_itself(app: Flask, bench: Workbench, client_api: Api) -> None:
    """C13: nothing of the parent's locks is used after a fork."""
    rates = bench.state.rates
    client_api.say(999)
    assert isinstance(rates._shared or rates._here, MovingWindowRateLimiter)
    rates.after_fork()
    assert rates._shared is None
    assert rates._here is None
    assert not limited(client_api.say(999))


def test_counting_in_memory_is_done_by_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """C13: the storage may otherwise start its thread twice, which fails a request."""
    rates, inside, together = rates_module.Rates({"post": "100/minute"}), threading.Lock(), []
    count = MemoryStorage.acquire_entry

    def watched(storage: MemoryStorage, *arguments: Any, **named: Any) -> bool:
        together.append(not inside.acquire(blocking=False))
        time.sleep(0.002)
        inside.release()
        return count(storage, *arguments, **named)

    monkeypatch.setattr(MemoryStorage, "acquire_entry", watched)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda user: rates.hit("post", user), range(24))) == [None] * 24
    assert together == [False] * 24


def test_keys_that_look_alike() -> None:
    """C13, C2: a user 1 and what another kind of key spells are never one counter by accident of separators."""
    rates = rates_module.Rates({"post": "1/minute", "post/1": "1/minute"})
    rates.hit("post", 1)
    rates.hit("post", 11)
    rates.hit("post", "a/b")
    rates.hit("post", "a%2Fb")
    rates.hit("post/1", 1)
