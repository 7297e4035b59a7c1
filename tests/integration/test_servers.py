"""Servers that are full, stop, restart, reload and recycle their workers while streams are open."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from ..support.live import Live, Person
from ..support.servers import Server
from ..support.sse import Reader
from ..support.wait import eventually

PATIENT = {"CHAT_STREAM_HEARTBEAT": "60", "CHAT_MAX_STREAMS_PER_USER": "off"}
GONE = 12
"""Seconds in which a server must be gone: it takes two, and this machine may be busy; gunicorn would wait for 90."""


def surplus(person: Person, thread: int, last: str) -> Reader:
    """A stream for which there should be no place; it has ended."""
    reader = person.listen(thread, last)
    reader.wait_end()
    assert reader.response is not None
    assert reader.response.status_code == 200
    return reader


@pytest.mark.one_process
def test_half_of_gthreads_threads(own_live: Callable[..., Live]) -> None:
    """C45, C35: of four threads two; a surplus stream gets what it missed and the end; requests are answered."""
    live = own_live("gthread-4", **PATIENT)
    thread = live.new_thread()
    client = live.login("client")
    streams = [client.listen(thread, "0") for _ in range(2)]
    client.say(thread, "one")
    for stream in streams:
        stream.wait(1)
    late = surplus(client, thread, "0")
    assert late.parser.retry == 10_000
    assert [event.json["text"] for event in late.events] == ["one"]
    for number in range(20):
        assert client.say(thread, str(number)).status_code == 200
    assert not any(stream.ended.is_set() for stream in streams)
    again = surplus(client, thread, late.parser.last_event_id)
    assert len(again.events) == 20
    streams[0].stop()

    def has_a_place() -> bool:
        reader = client.listen(thread, "21").wait_open()
        try:
            return reader.parser.retry != 10_000
        finally:
            reader.stop()

    eventually(has_a_place)
    streams[1].stop()


@pytest.mark.one_process
@pytest.mark.parametrize("kind", ["gthread-1", "sync"])
def test_a_host_that_cannot_carry_streams_does_not_starve(own_live: Callable[..., Live], kind: str) -> None:
    """C45, C35: twenty clients that reconnect as EventSource does, and requests between them; nobody misses a thing."""
    live = own_live(kind, **PATIENT)
    thread = live.new_thread()
    client, admin = live.login("client"), live.login("admin")
    count, seen, done = 10, [[] for _ in range(20)], threading.Event()

    def follow(texts: list[str]) -> None:
        last = "0"
        while len(texts) < count and not done.is_set():
            reader = surplus(admin, thread, last)
            assert reader.parser.retry == 3_000
            texts += [event.json["text"] for event in reader.events]
            last = reader.parser.last_event_id or last
            done.wait(1)

    followers = [threading.Thread(target=follow, args=(texts,)) for texts in seen]
    for follower in followers:
        follower.start()
    try:
        for number in range(count):
            assert client.say(thread, str(number)).status_code == 200
            assert client.http.get("/login").status_code == 200
        for follower in followers:
            follower.join(60)
    finally:
        done.set()
    assert seen == [[str(number) for number in range(count)]] * 20
    assert live.server.output.count("this worker has no threads for streams") == 1


def whole(reader: Reader) -> bool:
    """Whether the stream ended behind a frame."""
    return reader.parser.raw.endswith(b"\n\n")


@pytest.mark.parametrize(
    ("kind", "signum"),
    [
        *product(("gevent-patient", "gthread-patient", "development"), (signal.SIGTERM, signal.SIGINT)),
        ("generator-patient", signal.SIGTERM),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_server_that_stops_and_comes_back(own_live: Callable[..., Live], kind: str, signum: int) -> None:
    """C45, C30: open streams do not keep it; they end behind a whole frame, and nobody misses anything."""
    live = own_live(kind, **PATIENT)
    thread = live.new_thread()
    client, admin = live.login("client"), live.login("admin")
    readers = [person.listen(thread, "0") for person in (client, admin) for _ in range(4)]
    client.say(thread, "before")
    for reader in readers:
        reader.wait(1)
    live.server.signal(signum)
    live.server.popen.wait(GONE)
    for reader in readers:
        reader.wait_end()
        assert whole(reader)
    live.bench.login("client").say(thread, "meanwhile")
    live.server = Server.again(live.server)
    back = [admin.listen(thread, reader.parser.last_event_id) for reader in readers]
    client.say(thread, "after")
    for reader, before in zip(back, readers, strict=True):
        events = [*before.events, *reader.wait(2)]
        assert [(event.id, event.json["text"]) for event in events] == [
            ("1", "before"),
            ("2", "meanwhile"),
            ("3", "after"),
        ]
        reader.stop()


def test_streams_end_where_the_worker_calls_nobody(own_live: Callable[..., Live]) -> None:
    """C45: gevent's own server stands between gunicorn's worker and the application; idle connections keep it."""
    live = own_live("pywsgi", **PATIENT)
    thread = live.new_thread()
    reader = live.login("client").listen(thread).wait_open()
    live.server.signal(signal.SIGTERM)
    reader.wait_end(GONE)
    assert whole(reader)


class Follower:
    """Stays on a thread as a browser does: reconnects with its last id whenever a stream ends."""

    def __init__(self, person: Person, thread: int) -> None:
        self._person, self._thread = person, thread
        self.reader = person.listen(thread, "0")
        self._past: list[Any] = []
        self.streams = 1

    def texts(self) -> list[str]:
        if self.reader.ended.is_set():
            assert whole(self.reader) or not self.reader.parser.raw
            self._past += self.reader.events
            last = str(self._past[-1].id) if self._past else "0"
            self.reader = self._person.listen(self._thread, last)
            self.streams += 1
        return [event.json["text"] for event in [*self._past, *self.reader.events]]


@pytest.mark.parametrize(
    ("kind", "how"), [*product(("gevent", "gthread"), ("reload", "recycle")), ("generator", "recycle")]
)
def test_a_worker_that_is_replaced(own_live: Callable[..., Live], kind: str, how: str) -> None:
    """C45, C30: by SIGHUP, or after so many requests: its streams end, and each message comes once, in order."""
    live = own_live(f"{kind}-{'recycled' if how == 'recycle' else 'patient'}", **PATIENT)
    thread = live.new_thread()
    client, admin = live.login("client"), live.login("admin")
    followers = [Follower(admin, thread) for _ in range(4)]
    said: list[str] = []
    deadline = time.monotonic() + 60
    while len(said) < 40 or not all(follower.streams > 1 for follower in followers):
        assert time.monotonic() < deadline, live.server.output
        if len(said) == 10 and how == "reload":
            live.server.signal(signal.SIGHUP)
        number = str(len(said))
        assert client.say(thread, number, clientMessageId=number).status_code == 200
        said.append(number)
        for follower in followers:
            follower.texts()
        time.sleep(0.1)
    eventually(lambda: all(follower.texts() == said for follower in followers))
    for follower in followers:
        follower.reader.stop()
