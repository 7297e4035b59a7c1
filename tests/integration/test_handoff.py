"""Streams whose connections were taken over from gunicorn's gevent workers."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable

import pytest

from nursecare_chat.stream.outlet import MAX_BACKLOG

from ..support.live import Live, Person
from ..support.raw import LAST_CHUNK, RawStream
from ..support.wait import eventually

LONG = "\u4e00" * 5000  # 30 kB in a frame
LOGGED = "--worker-connections 20 --access-logfile -"
PATIENT = {"CHAT_STREAM_HEARTBEAT": "60", "CHAT_MAX_STREAMS_PER_USER": "off"}
FEW = {**PATIENT, "CHAT_METRICS": "on", "GUNICORN_CMD_ARGS": LOGGED}


@pytest.fixture
def live(live_servers: Callable[..., Live]) -> Live:
    """A worker for 20 connections, with an access log."""
    return live_servers("gevent", **FEW)


def streams_open(person: Person) -> float:
    metrics = person.http.get("/api/chat/metrics").text
    return float(re.search(r"streams_open(?:{[^}]*})? ([0-9.]+)", metrics)[1])


@pytest.mark.one_process
def test_more_streams_than_the_worker_has_connections(live: Live) -> None:
    """C45, C33: sixty on a worker for twenty; requests are answered, and every stream gets what is said."""
    thread = live.new_thread()
    client, admin = live.login("client"), live.login("admin")
    readers = [admin.listen(thread).wait_open() for _ in range(60)]
    for number in range(1, 4):
        assert client.say(thread, str(number)).status_code == 200
        for reader in readers:
            assert [event.id for event in reader.wait(number)] == [str(seq) for seq in range(1, number + 1)]
    assert not any(reader.ended.is_set() for reader in readers)
    for reader in readers:
        reader.stop()


@pytest.mark.one_process
def test_nothing_stays_behind(live: Live) -> None:
    """C33, C43: descriptors and the count of open streams are back where they were, however the streams end."""
    thread, other = live.new_thread(), live.new_thread()
    client = live.login("client")
    client.listen(thread).wait_open().stop()
    eventually(lambda: streams_open(client) == 0)
    baseline = live.server.descriptors()
    readers = [client.listen(one).wait_open() for one in (thread, other) for _ in range(20)]
    assert streams_open(client) == 40
    assert live.server.descriptors() >= baseline + 35  # idle ones of before may have been closed
    for reader in readers[:20]:
        reader.stop()
    client.close(other)
    for reader in readers[20:]:
        reader.wait_end()
    eventually(lambda: streams_open(client) == 0)
    eventually(lambda: live.server.descriptors() <= baseline + 3)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_both_versions_of_http(live: Live, version: str) -> None:
    """C29, C32, C45: chunked or not, the head says that the connection ends; the access log's line is there at once."""
    thread = live.new_thread()
    client = live.login("client")
    client.say(thread, "replayed")
    pipelined = b"GET /login HTTP/1.1\r\nHost: x\r\n\r\n"
    with RawStream(client, thread, version, behind=pipelined) as raw:
        raw.wait(1)
        assert raw.headers["connection"] == "close"
        assert raw.headers.get("transfer-encoding") == ("chunked" if version == "1.1" else None)
        eventually(lambda: live.written_off(thread) == 1)
        raw.send(pipelined)
        client.say(thread, "live")
        assert [event.json["text"] for event in raw.wait(2)] == ["replayed", "live"]
        client.close(thread)
        assert [event.id for event in raw.wait_end()] == ["1", "2", "3"]
        assert raw.ended_cleanly if version == "1.1" else (not raw.reset and LAST_CHUNK not in raw.received)
        assert b"\r" not in raw.body
        assert raw.received.count(b"HTTP/1.") == 1
    assert live.written_off(thread) == 1


def test_a_slow_reader(live: Live) -> None:
    """C35, C30: what is beyond its backlog comes from the log, once and in order; then it is live again."""
    thread = live.new_thread()
    client = live.login("client")
    count = 4 * MAX_BACKLOG // 30_000
    with RawStream(client, thread, receive_buffer=32 * 1024) as raw:
        raw.wait_head()
        for _ in range(count):
            assert client.say(thread, LONG).status_code == 200
        assert [event.id for event in raw.wait(count)] == [str(seq) for seq in range(1, count + 1)]
        client.say(thread, "live again")
        assert raw.wait(count + 1)[-1].json["text"] == "live again"
        for _ in range(10):  # more than the kernel takes, less than a backlog
            client.say(thread, LONG)
        client.close(thread)
        assert [event.id for event in raw.wait_end()] == [str(seq) for seq in range(1, count + 13)]
        assert raw.ended_cleanly


def test_what_the_kernel_holds_does_not_reach_who_lost_access(live: Live) -> None:
    """C34: of what waits for a client that stopped reading and was disabled nothing more comes."""
    thread = live.new_thread()
    admin, client = live.login("admin2"), live.login("client")
    with RawStream(admin, thread, receive_buffer=4096) as raw:
        raw.wait_head()
        eventually(lambda: live.written_off(thread) == 1)
        for _ in range(20):
            client.say(thread, LONG)
        with live.bench.app.app_context():
            live.bench.host.disable("admin2")
        eventually(lambda: "chat stream ended: access_lost" in live.server.output)
        client.say(thread, "between us")
        raw.wait_end()
        assert raw.reset
        assert len(raw.received) < 20_000  # what its own machine had taken already
    assert admin.http.get(f"/api/chat/threads/{thread}").status_code == 401


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_the_end_at_max_age(live_servers: Callable[..., Live], version: str) -> None:
    """C34: a whole body, so that the client knows that nothing is missing."""
    live = live_servers("gevent", CHAT_STREAM_MAX_AGE="1")
    thread = live.new_thread()
    client = live.login("client")
    client.say(thread, "hello")
    with RawStream(client, thread, version) as raw:
        assert [event.json["text"] for event in raw.wait_end()] == ["hello"]
        assert raw.body.endswith(b"\n\n")
        assert not raw.reset
        assert raw.ended_cleanly is (version == "1.1")


@pytest.mark.parametrize(("kind", "how"), [("gevent-patient", "TERM"), ("gevent-preloaded", "worker's QUIT")])
def test_the_end_when_the_server_stops(own_live: Callable[..., Live], kind: str, how: str) -> None:
    """C45: gracefully, or at once, when nobody looks any more: a whole body."""
    live = own_live(kind, **PATIENT)
    thread = live.new_thread()
    client = live.login("client")
    client.say(thread, "hello")
    streams = [RawStream(client, thread) for _ in range(3)]
    for stream in streams:
        stream.wait(1)
    (worker,) = live.server.workers()
    if how == "TERM":
        live.server.signal(signal.SIGTERM)
    else:
        os.kill(worker, signal.SIGQUIT)
    for stream in streams:
        with stream:
            assert len(stream.wait_end()) == 1
            assert stream.ended_cleanly


def test_the_end_when_a_worker_is_recycled(own_live: Callable[..., Live]) -> None:
    """C45, C30: after so many requests its streams end with a whole body, and reconnecting gets what comes next."""
    live = own_live("gevent-recycled", **PATIENT)
    thread = live.new_thread()
    client = live.login("client")
    with RawStream(client, thread) as raw:
        raw.wait_head()
        for number in range(40):
            assert client.say(thread, str(number)).status_code == 200
        raw.wait_end()
        assert raw.ended_cleanly
        seen = [event.id for event in raw.events]
    again = client.listen(thread, seen[-1])
    again.wait(40 - len(seen))
    assert seen + [event.id for event in again.events] == [str(seq) for seq in range(1, 41)]
    again.stop()


@pytest.mark.parametrize(("change", "text"), [("longer", "hello from the middleware"), ("as long", "HELLO")])
def test_a_middleware_that_changes_bodies(own_live: Callable[..., Live], change: str, text: str) -> None:
    """C45, C7: it goes on to get every frame, though those of the beginning were left as they are."""
    arguments = f"{LOGGED} -c python:tests.support.middleware"
    live = own_live("gevent", **PATIENT, GUNICORN_CMD_ARGS=arguments, MIDDLEWARE=change)
    thread = live.new_thread()
    client = live.login("client")
    client.say(thread, "of the replay")
    reader = client.listen(thread, "0")
    reader.wait(1)
    for number in (2, 3):
        client.say(thread, "hello")
        assert reader.wait(number)[-1].json["text"] == text
    assert live.written_off(thread) == 0
    reader.stop()


@pytest.mark.one_process
def test_two_workers(live_servers: Callable[..., Live]) -> None:
    """C30, C31: streams that were taken over in either get what is said in the other."""
    live = live_servers("two-gevent", **PATIENT, GUNICORN_CMD_ARGS=LOGGED)
    thread = live.new_thread()
    readers = []
    for worker in live.server.workers():
        with live.served_by(worker):
            client = live.login("client")
            readers += [client.listen(thread).wait_open() for _ in range(2)]
    eventually(lambda: live.written_off(thread) == 4)
    for number in range(1, 11):
        client.say(thread, str(number))
    client.close(thread)
    for reader in readers:
        assert [event.id for event in reader.wait_end()] == [str(seq) for seq in range(1, 12)]


@pytest.mark.one_process
def test_bytes_behind_the_request_cost_nothing(live: Live) -> None:
    """C33: what a client sends on its stream is nobody's to read, and keeps no processor busy."""
    thread = live.new_thread()
    client = live.login("client")
    (worker,) = live.server.workers()
    streams = [RawStream(client, thread).wait_head() for _ in range(5)]
    eventually(lambda: live.written_off(thread) == 5)
    for stream in streams:
        stream.send(b"more")
    client.say(thread, "heard")
    for stream in streams:
        assert stream.wait(1)[0].json["text"] == "heard"

    def spent() -> int:
        with open(f"/proc/{worker}/stat") as file:
            fields = file.read().rpartition(") ")[2].split()
        return int(fields[11]) + int(fields[12])

    before, began = spent(), time.monotonic()
    eventually(lambda: time.monotonic() > began + 2)
    assert (spent() - before) / os.sysconf("SC_CLK_TCK") < 1
    for stream in streams:
        with stream:
            pass
