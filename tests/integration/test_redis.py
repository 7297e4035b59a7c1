"""Several processes that ring each other through Redis, and what is seen while it is away."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from nursecare_chat import rates
from nursecare_chat.background import Background
from nursecare_chat.errors import ConfigurationError
from nursecare_chat.stream import hub as hub_module
from nursecare_chat.stream import redis_doorbell
from nursecare_chat.stream.doorbell import Ring
from nursecare_chat.stream.redis_doorbell import RedisDoorbell, parse

from ..support.databases import Databases
from ..support.hosts import Workbench
from ..support.live import Live
from ..support.patience import PATIENCE
from ..support.redis import Server
from ..support.sse import Reader
from ..support.wait import eventually

PATIENT = {"CHAT_STREAM_HEARTBEAT": "60", "CHAT_MAX_STREAMS_PER_USER": "off", "CHAT_RATE_POST": "100000/minute"}
NOT_A_WAIT = 1.5
"""Seconds that say "at once" on a busy machine; a wait for Redis would be two or more, for each one."""


@pytest.fixture
def start(own_live: Callable[..., Live], own_redis: Server) -> Callable[..., Live]:
    """Two processes on the Redis of this test."""

    def serve(host: str = "reference-postgresql") -> Live:
        return own_live("two-gevent", host, **PATIENT, CHAT_TRANSPORT_URL=own_redis.url)

    return serve


def all_see(readers: list[Reader], count: int) -> None:
    for reader in readers:
        assert [event.json["seq"] for event in reader.wait(count)[:count]] == list(range(1, count + 1))
        assert len(reader.events) == count


def test_what_goes_through_redis(make_bench: Callable[..., Workbench], own_redis: Server) -> None:
    """C31, C41: one JSON object of ids and numbers a ring, on the thread's channel; no word, place, name or key."""
    bench = make_bench("reference", CHAT_TRANSPORT_URL=own_redis.url, CHAT_RATE_POST="100/minute")
    with redis.Redis(port=own_redis.port) as client, client.pubsub() as listening:
        listening.psubscribe("*")
        listening.get_message(timeout=5 * PATIENCE)
        watching = client.monitor()
        watching.__enter__()
        api = bench.login("client")
        thread = api.open(1).get_json()["threadId"]
        heard = [listening.get_message(timeout=5 * PATIENCE)]
        assert heard[0] is not None
        api.say(thread, "the secret word", clientMessageId="secret-id")
        api.post(thread, {"type": "location", "lat": 12.3456789, "lng": 98.7654321})
        api.close(thread)
        heard += [listening.get_message(timeout=5 * PATIENCE) for _ in range(3)]
        with bench.app.app_context():
            bench.chat.disconnect(bench.host.user("client"))
            user_id = bench.host.user_id("client")
        heard.append(listening.get_message(timeout=5 * PATIENCE))
        said: list[str] = []
        while not said or "users" not in said[-1]:
            said.append(str(watching.next_command()["command"]))
        watching.__exit__(None, None, None)
    assert [message["channel"] for message in heard] == [f"private-chat.{thread}".encode()] * 4 + [
        b"private-chat.users"
    ]
    assert [json.loads(message["data"]) for message in heard] == [
        {"kind": "opened", "thread": thread, "seq": 0, "user": None},
        {"kind": "message", "thread": thread, "seq": 1, "user": None},
        {"kind": "message", "thread": thread, "seq": 2, "user": None},
        {"kind": "closed", "thread": thread, "seq": 3, "user": None},
        {"kind": "disconnect", "thread": None, "seq": None, "user": user_id},
    ]
    everything = "\n".join(said)  # in it are clocks, in which fewer digits of a place could come up by chance
    for secret in ("secret", "12.3456789", "98.7654321", "nursecare.test", "/api/"):
        assert secret not in everything


@pytest.mark.parametrize("host", ["reference", "foreign-postgresql"])
def test_processes_ring_each_other(start: Callable[..., Live], monkeypatch: Any, host: str) -> None:
    """C31, C30, C34, C46: what is posted, closed and logged out in one process is seen in the other."""
    live = start(host)
    thread = live.new_thread()
    eventually(lambda: len(live.server.workers()) == 2, live.server)
    mine, theirs, inboxes = [], [], []
    for worker in live.server.workers():
        with live.served_by(worker):
            for who, readers in (("client", mine), ("admin", theirs)):
                readers.append(live.login(who).listen(thread, "0").wait_open())
            inboxes.append(live.login("admin").follow().wait_open())
    client, admin = live.login("client"), live.login("admin")
    for number in range(10):
        assert client.say(thread, str(number)).status_code == 200
    all_see([*mine, *theirs], 10)
    admin.http.post("/logout", json={})
    for reader in [*theirs, *inboxes]:
        reader.wait_end(5)
    client.close(thread)
    for reader in mine:
        assert reader.wait_end()[-1].name == "ThreadClosed"


def test_a_ring_is_enough(make_bench: Callable[..., Workbench], own_redis: Server, monkeypatch: Any) -> None:
    """C31: with polling out of the way, another process's message comes by its ring alone."""
    monkeypatch.setattr(hub_module, "POLL", 3600.0)
    here, there = (make_bench("memory", CHAT_TRANSPORT_URL=own_redis.url).state.doorbell for _ in range(2))
    heard: list[Ring] = []
    here.listen(heard.append)
    here.watch(7)
    try:
        eventually(lambda: own_redis.listeners(7) == 1)
        there.ring(Ring("message", thread=7, seq=3))
        there.ring(Ring("message", thread=8, seq=1))
        there.ring(Ring("disconnect", user="u"))
        eventually(lambda: len(heard) == 2)
        assert heard == [Ring("message", thread=7, seq=3), Ring("disconnect", user="u")]
    finally:
        here.unwatch(7)
    eventually(lambda: not [one for one in own_redis.clients() if one["sub"] != "0"])


def test_one_connection_for_all_streams(start: Callable[..., Live], own_redis: Server) -> None:
    """C33: however many streams and threads a process has; the rest is given back when nothing is said."""
    live = start("reference")
    client = live.login("client")
    threads = [live.new_thread() for _ in range(10)]
    readers = [client.listen(thread, "0") for thread in threads for _ in range(4)]
    for thread in threads:
        client.say(thread, "x")
    for reader in readers:
        reader.wait(1)

    def one_each() -> bool:
        subscribed = [int(one["sub"]) for one in own_redis.clients()]
        return 1 <= len(subscribed) <= 2 and all(2 <= count <= 11 for count in subscribed)

    eventually(one_each)
    for reader in readers:
        reader.stop()
    eventually(lambda: not own_redis.clients())


@pytest.mark.parametrize("how", ["killed", "hung", "cut"])
def test_redis_goes_and_comes_back(start: Callable[..., Live], own_redis: Server, how: str) -> None:
    """C31: streams stay, nothing is lost or doubled, posts and closes do not wait, and nobody restarts anything."""
    live = start()
    thread = live.new_thread()
    client, admin = live.login("client"), live.login("admin")
    readers = [person.listen(thread, "0") for person in (client, admin) for _ in range(4)]
    count = 0

    def say(times: int) -> None:
        nonlocal count
        for _ in range(times):
            started = time.monotonic()
            assert client.say(thread, "x").status_code == 200
            assert time.monotonic() - started < NOT_A_WAIT
            count += 1
        all_see(readers, count)

    say(5)
    if how == "killed":
        own_redis.kill()
    elif how == "hung":
        own_redis.hang()
    else:
        own_redis.command("CLIENT KILL", "TYPE", "pubsub")
    say(10)
    other = live.new_thread()
    started = time.monotonic()
    assert client.close(other).status_code == 200
    assert time.monotonic() - started < NOT_A_WAIT
    if how == "killed":
        own_redis.start()
    own_redis.resume()
    eventually(lambda: len([one for one in own_redis.clients() if int(one["sub"]) > 1]) >= 1)
    say(5)
    assert not any(reader.ended.is_set() for reader in readers)
    client.close(thread)
    for reader in readers:
        assert reader.wait_end()[-1].name == "ThreadClosed"


def test_redis_is_away_at_the_start(start: Callable[..., Live], own_redis: Server) -> None:
    """C31: the application starts, posts are answered, streams poll; when it comes they hear it."""
    own_redis.kill()
    live = start()
    thread = live.new_thread()
    client = live.login("client")
    reader = client.listen(thread, "0")
    for _ in range(5):
        assert client.say(thread).status_code == 200
    all_see([reader], 5)
    own_redis.start()
    eventually(lambda: [one for one in own_redis.clients() if int(one["sub"]) == 2])
    client.say(thread)
    all_see([reader], 6)
    reader.stop()


def test_rates_are_counted_for_all_processes(
    make_bench: Callable[..., Workbench], redis_url: str, tmp_path: Path
) -> None:
    """C13: five a minute, wherever they are asked for; 429 says when."""
    bench = make_bench("reference-postgresql", CHAT_TRANSPORT_URL=redis_url, CHAT_RATE_POST="5/minute")
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    answers = [api.say(thread) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
    assert bench.login("admin").say(thread).status_code == 200


def test_rates_while_redis_is_away(make_bench: Callable[..., Workbench], own_redis: Server) -> None:
    """C13: a counter that is out of reach limits in memory, and is asked again when it is back."""
    bench = make_bench("reference", CHAT_TRANSPORT_URL=own_redis.url, CHAT_RATE_POST="3/minute")
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    assert [api.say(thread).status_code for _ in range(2)] == [200] * 2
    own_redis.kill()
    assert [api.say(thread).status_code for _ in range(4)] == [200] * 3 + [429]
    own_redis.start()
    bench.state.rates._away_until = 0.001  # the pause is over
    assert [api.say(thread).status_code for _ in range(4)] == [200] * 3 + [429]
    assert own_redis.command("KEYS", "*")


@pytest.mark.parametrize(("how", "connected"), [("hang", 0), ("kill", 1)])
def test_a_redis_that_is_away_is_not_asked_each_time(
    make_bench: Callable[..., Workbench], own_redis: Server, monkeypatch: pytest.MonkeyPatch, how: str, connected: int
) -> None:
    """C13, C31: one request in five seconds finds out that Redis is away; one ring in one second does."""
    bench = make_bench("reference", CHAT_TRANSPORT_URL=own_redis.url, CHAT_RATE_POST="100/minute")
    api, publisher = bench.login("client"), bench.state.doorbell._publisher
    thread = api.open(1).get_json()["threadId"]
    assert publisher._background.flush(10)
    asked: list[str] = []

    def noting(pool: Any, name: str) -> None:
        real = getattr(pool, name)

        def noted(*arguments: Any, **options: Any) -> Any:
            asked.append(name)
            return real(*arguments, **options)

        monkeypatch.setattr(pool, name, noted)

    noting(bench.state.rates._pool, "get_connection")
    noting(bench.state.doorbell._pool, "connection_class")
    monkeypatch.setattr(rates, "PAUSE", 60)
    publisher._timeout, publisher._pause = 0, 60
    getattr(own_redis, how)()
    assert [api.say(thread).status_code for _ in range(10)] == [200] * 10
    assert publisher._background.flush(10)
    assert (asked.count("get_connection"), asked.count("connection_class")) == (1, connected)


@pytest.mark.parametrize("key", ["CHAT_TRANSPORT_URL", "CHAT_QUEUE_URL"])
@pytest.mark.parametrize("options", ["?bogus=1", "?ssl_cert_reqs=none", "?socket_timeout=x", "?db=x"])
def test_an_option_that_no_connection_takes(make_bench: Callable[..., Workbench], key: str, options: str) -> None:
    """C5: stops the start, with the key; later it would fail every post."""
    with pytest.raises(ConfigurationError, match=key) as raised:
        make_bench(**{key: f"redis://:hunter2@127.0.0.1:1/0{options}"})
    assert "hunter2" not in raised.value.message


def test_options_that_would_make_the_listener_deaf(make_bench: Callable[..., Workbench], own_redis: Server) -> None:
    """C31: what is understood is ours to say."""
    url = f"{own_redis.url}?decode_responses=true&protocol=3&health_check_interval=1"
    heard: list[Ring] = []
    benches = [make_bench("reference", CHAT_TRANSPORT_URL=url) for _ in range(2)]
    benches[0].state.doorbell.listen(heard.append)
    benches[0].state.doorbell.watch(1)
    eventually(lambda: own_redis.listeners(1) == 1)
    benches[1].state.doorbell.ring(Ring("message", thread=1, seq=5))
    eventually(lambda: heard == [Ring("message", thread=1, seq=5)])
    benches[0].state.doorbell.unwatch(1)


def test_no_thread_to_listen_with(
    make_bench: Callable[..., Workbench], own_redis: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C31: streams go on by polling, and the next one tries again."""
    doorbell = make_bench("reference", CHAT_TRANSPORT_URL=own_redis.url).state.doorbell
    real, short = threading.Thread.start, [True]

    def start(thread: threading.Thread) -> None:
        if short and thread.name.endswith("doorbell"):
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    doorbell.watch(1)
    doorbell.unwatch(1)
    doorbell.watch(2)
    short.clear()
    doorbell.watch(3)
    eventually(lambda: own_redis.listeners(2) == own_redis.listeners(3) == 1)
    doorbell.unwatch(2)
    doorbell.unwatch(3)


@pytest.mark.parametrize("transport", ["memory", "redis"])
def test_preloaded_and_patched_afterwards(
    tmp_path: Path, databases: Databases, own_redis: Server, transport: str
) -> None:
    """C45: gunicorn's --preload loads the host before gevent patches the workers; many at once stop nothing."""
    settings = {"CHAT_TRANSPORT_URL": own_redis.url if transport == "redis" else "memory://"}
    live = Live("gevent-preloaded", "reference-postgresql", tmp_path, databases, PATIENT | settings)
    try:
        thread = live.new_thread()
        people = [live.login("client") for _ in range(8)]
        readers = [person.listen(thread).wait_open() for person in people[:4]]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda number: people[number % 8].say(thread), range(80)))
        assert {answer.status_code for answer in answers} == {200}
        for reader in readers:
            assert [event.json["seq"] for event in reader.wait(80)] == list(range(1, 81))
            reader.stop()
    finally:
        live.close()


def test_a_forked_child_has_its_own(make_bench: Callable[..., Workbench], own_redis: Server) -> None:
    """C33: gunicorn's --preload: neither lock nor connection of the parent's."""
    bench = make_bench("reference", CHAT_TRANSPORT_URL=own_redis.url)
    doorbell = bench.state.doorbell
    doorbell.watch(1)
    eventually(lambda: own_redis.listeners(1) == 1)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        heard: list[Ring] = []
        doorbell.listen(heard.append)
        doorbell.watch(2)
        while not heard:
            time.sleep(0.05)
        os._exit(0)
    eventually(lambda: own_redis.listeners(2) == 1)
    doorbell.ring(Ring("message", thread=2, seq=1))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert own_redis.listeners(1) == 1
    doorbell.unwatch(1)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x", b"[]", b"{}", b"7", b'{"kind":"message"}', b"[" * 100_000,
        b'{"kind":1,"thread":1,"seq":1,"user":null}', b'{"kind":"m","thread":"1","seq":1,"user":null}',
        b'{"kind":"m","thread":-1,"seq":1,"user":null}', b'{"kind":"m","thread":1,"seq":1e400,"user":null}',
        b'{"kind":"m","thread":1,"seq":1,"user":{}}', b"\xff\xfe",
    ],
)  # fmt: skip
def test_rings_that_are_none(body: bytes) -> None:
    """C31: whoever may publish there can wake us, and nothing more."""
    assert parse(body) is None


def test_garbage_does_not_stop_the_listener(own_redis: Server) -> None:
    """C31."""
    doorbell = RedisDoorbell(own_redis.url, Background("test"))
    heard: list[Ring] = []
    doorbell.listen(heard.append)
    doorbell.watch(1)
    eventually(lambda: own_redis.listeners(1) == 1)
    own_redis.command("PUBLISH", "private-chat.1", "garbage")
    own_redis.command("PUBLISH", "private-chat.1", json.dumps({"kind": "m", "thread": 1, "seq": 2, "user": None}))
    eventually(lambda: heard == [Ring("m", thread=1, seq=2)])
    doorbell.unwatch(1)
    eventually(lambda: not any(one.name == "nursecare-chat_doorbell" for one in threading.enumerate()))


def test_a_connection_that_is_silent_is_given_up(own_redis: Server, monkeypatch: Any) -> None:
    """C31: a Redis that hangs is noticed by its silence."""
    monkeypatch.setattr(redis_doorbell, "PING", 0.2)
    monkeypatch.setattr(redis_doorbell, "TIMEOUT", 0.2)
    doorbell = RedisDoorbell(own_redis.url, Background("test"))
    doorbell.watch(1)
    eventually(lambda: own_redis.listeners(1) == 1)
    own_redis.hang()
    eventually(lambda: not doorbell._heard)
    own_redis.resume()
    eventually(lambda: doorbell._heard)
    doorbell.unwatch(1)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1?db=x", "redis://127.0.0.1:1?socket_timeout=x"])
def test_an_address_that_cannot_be_used(make_bench: Callable[..., Workbench], url: str) -> None:
    """C5: named at the start."""
    with pytest.raises(ConfigurationError, match="CHAT_TRANSPORT_URL"):
        make_bench("reference", CHAT_TRANSPORT_URL=url)
