"""The stream on real servers: frames, replay, resume, the end, and who may read on."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ..support.live import Live
from ..support.wait import eventually

SERVERS = [
    ("gevent", "reference"),
    ("gevent", "foreign-postgresql"),
    ("generator", "reference-postgresql"),
    ("gthread", "foreign"),
    ("gthread", "reference-postgresql-sealed"),
    ("development", "reference"),
]
QUICK = {"CHAT_STREAM_HEARTBEAT": "0.5", "CHAT_MAX_STREAMS_PER_USER": "off"}
NASTY = "hi\n\nevent: ThreadClosed\ndata: {}\r\rid: 9\u0085\u2028\u2029\x7f \U0001f9d1 end"


@pytest.fixture(params=SERVERS)
def live(request: pytest.FixtureRequest, live_servers: Callable[..., Live]) -> Live:
    """A host under each server in turn."""
    return live_servers(*request.param, **QUICK)


def test_head(live: Live) -> None:
    """C29: status, type, no caching, no buffering, a retry with jitter."""
    thread = live.new_thread()
    readers = [live.login("client").listen(thread).wait_open() for _ in range(6)]
    for reader in readers:
        assert reader.response.status_code == 200
        assert reader.response.headers["Content-Type"].split(";")[0] == "text/event-stream"
        assert reader.response.headers["Cache-Control"] == "no-store"
        assert reader.response.headers["X-Accel-Buffering"] == "no"
    assert len({reader.parser.retry for reader in readers}) > 1
    for reader in readers:
        reader.stop()


def test_both_see_what_is_said(live: Live) -> None:
    """C29, C20: the message with its threadId, the same as in the list; clientMessageId to its sender alone."""
    thread = live.new_thread()
    client, admin = live.login("client"), live.login("admin")
    theirs, mine = admin.listen(thread).wait_open(), client.listen(thread).wait_open()
    posted = client.say(thread, NASTY, clientMessageId="c1").json()
    (seen,), (echo,) = theirs.wait(1), mine.wait(1)
    assert (seen.name, seen.id) == ("MessageCreated", str(posted["seq"]))
    (listed,) = admin.http.get(f"/api/chat/threads/{thread}/messages").json()["messages"]
    assert seen.json == {"threadId": thread, **listed}
    assert echo.json == {**seen.json, "clientMessageId": "c1"}
    assert seen.json["text"] == NASTY
    theirs.parser.raw.decode("ascii")
    assert b"\r" not in theirs.parser.raw
    for reader in (theirs, mine):
        reader.stop()


def test_without_an_id_it_starts_now_and_says_where(live: Live) -> None:
    """C30: a first frame with the current seq and no data, so that a reconnect resumes."""
    thread = live.new_thread()
    client = live.login("client")
    client.say(thread, "before")
    reader = client.listen(thread).wait_open()
    assert b"\n\nid: 1\n\n" in reader.parser.raw
    assert reader.parser.last_event_id == "1"
    client.say(thread, "after")
    assert [event.json["text"] for event in reader.wait(1)] == ["after"]
    reader.stop()


@pytest.mark.parametrize("by", ["header", "query", "both", "empty header"])
def test_resume(live: Live, by: str) -> None:
    """C30: replays what came after the id, then goes live; the header wins over the query; an empty one is none."""
    thread = live.new_thread()
    client = live.login("client")
    for number in (1, 2, 3):
        client.say(thread, str(number))
    header, query = {"header": ("1", None), "query": (None, "1"), "both": ("1", "3"), "empty header": ("", "1")}[by]
    reader = client.listen(thread, header, params={"lastEventId": query} if query else None)
    assert [event.id for event in reader.wait(2)] == ["2", "3"]
    client.say(thread, "4")
    assert [event.id for event in reader.wait(3)] == ["2", "3", "4"]
    reader.stop()


def test_zero_means_everything_page_by_page(live: Live) -> None:
    """C30: also more than one page of the log."""
    thread = live.new_thread()
    client = live.login("client")
    for number in range(230):
        client.say(thread, str(number))
    reader = client.listen(thread, "0")
    assert [event.json["seq"] for event in reader.wait(230)] == list(range(1, 231))
    reader.stop()


@pytest.mark.parametrize("last_event_id", ["x", "-1", "1.0", "+1", "2", "99", "9" * 30, "0x1", "1 1", "%31"])
def test_reset(live: Live, last_event_id: str) -> None:
    """C30: garbage or the future, lastSeq + 1 on an open thread included: reset, then live, never silence."""
    thread = live.new_thread()
    client = live.login("client")
    client.say(thread, "old")
    reader = client.listen(thread, last_event_id)
    (reset,) = reader.wait(1)
    assert (reset.name, reset.id, reset.json) == ("reset", "1", {"threadId": thread, "lastSeq": 1})
    client.say(thread, "new")
    assert reader.wait(2)[1].json["text"] == "new"
    reader.stop()


def test_close_ends_it(live: Live) -> None:
    """C32: ThreadClosed has the id behind the last message's; a reconnect gets what it missed, then 204."""
    thread = live.new_thread()
    client, admin = live.login("client"), live.login("admin")
    reader = admin.listen(thread).wait_open()
    client.say(thread, "last")
    closed_at = client.close(thread).json()["closed_at"]
    _, closed = reader.wait_end()
    assert (closed.name, closed.id) == ("ThreadClosed", "2")
    assert closed.json == {"threadId": thread, "closed_at": closed_at}
    for last_event_id, names in {
        None: ["ThreadClosed"],
        "0": ["MessageCreated", "ThreadClosed"],
        "1": ["ThreadClosed"],
        "3": ["reset", "ThreadClosed"],
        "x": ["reset", "ThreadClosed"],
    }.items():
        late = admin.listen(thread, last_event_id)
        assert [event.name for event in late.wait_end()] == names
        assert late.parser.last_event_id == "2"
    final = admin.listen(thread, "2")
    final.wait_end()
    assert (final.response.status_code, final.parser.raw) == (204, b"")


def test_heartbeat(live: Live) -> None:
    """C29: a comment keeps an idle stream alive."""
    thread = live.new_thread()
    reader = live.login("client").listen(thread).wait_open()
    eventually(lambda: reader.parser.comments >= 2)
    assert reader.events == []
    reader.stop()


def test_what_another_process_wrote_is_found(live: Live) -> None:
    """C31: no doorbell rang here, for the workbench is another process; last_seq and status are polled."""
    thread = live.new_thread()
    reader = live.login("client").listen(thread).wait_open()
    admin = live.bench.login("admin")
    admin.say(thread, "from elsewhere")
    assert reader.wait(1)[0].json["text"] == "from elsewhere"
    admin.close(thread)
    assert reader.wait_end()[-1].name == "ThreadClosed"


@pytest.mark.one_process("memory")
def test_logout_ends_all_streams_of_the_user(live: Live) -> None:
    """C34: at once, in every tab; other people's streams stay."""
    thread = live.new_thread()
    admin, other_tab, client = live.login("admin2"), live.login("admin2"), live.login("client")
    readers = [admin.listen(thread).wait_open(), other_tab.listen(thread).wait_open()]
    bystander = client.listen(thread).wait_open()
    admin.http.post("/logout", json={})
    for reader in readers:
        reader.wait_end(5)
    client.say(thread, "still here")
    assert bystander.wait(1)
    assert readers[0].events == []
    bystander.stop()


@pytest.mark.parametrize("host", ["reference", "reference-postgresql"])
@pytest.mark.parametrize("how", ["disable", "demote"])
def test_lost_access_ends_it(live_servers: Callable[..., Live], host: str, how: str) -> None:
    """C34: a disabled user, or one the policy refuses by now, gets no byte more after 5 s, and cannot come back."""
    live = live_servers("gevent", host, CHAT_STREAM_HEARTBEAT="0.7", CASE=how)
    thread = live.new_thread()
    admin, client = live.login("admin2"), live.login("client")
    reader, bystander = admin.listen(thread).wait_open(), client.listen(thread).wait_open()
    with live.bench.app.app_context():
        getattr(live.bench.host, how)("admin2")
    lost_at = time.monotonic()
    reader.wait_end()
    assert reader.last_byte_at < lost_at + 5.5
    client.say(thread, "between us")
    bystander.wait(1)
    assert reader.events == []
    refused = admin.http.get(f"/api/chat/threads/{thread}/stream")
    assert refused.status_code == (401 if how == "disable" else 403)
    bystander.stop()


@pytest.mark.one_process
def test_surplus_streams(live_servers: Callable[..., Live]) -> None:
    """C35: 200, retry: 10000, the end; never a status that is final for EventSource."""
    live = live_servers("gevent", CHAT_MAX_STREAMS_PER_USER="2")
    thread = live.new_thread()
    client = live.login("client")
    readers = [client.listen(thread).wait_open() for _ in range(2)]
    surplus = client.listen(thread)
    assert surplus.wait_end() == []
    assert (surplus.response.status_code, surplus.parser.retry) == (200, 10000)
    somebody_else = live.login("admin").listen(thread).wait_open()
    assert not somebody_else.ended.is_set()
    for reader in [*readers, somebody_else]:
        reader.stop()
    eventually(lambda: client.listen(thread).wait_open().parser.retry != 10000)  # a place is free again


def test_recycled_at_max_age(live_servers: Callable[..., Live]) -> None:
    """C34: the stream ends, and a reconnect has lost nothing."""
    live = live_servers("gevent", CHAT_STREAM_MAX_AGE="1")
    thread = live.new_thread()
    client = live.login("client")
    reader = client.listen(thread)
    reader.wait_end()
    client.say(thread, "in between")
    again = client.listen(thread, reader.parser.last_event_id)
    assert again.wait(1)[0].json["text"] == "in between"


def test_worker_that_cannot_carry_streams(live_servers: Callable[..., Live]) -> None:
    """C45: replay, retry: 3000, the end; the chat works by reconnecting."""
    live = live_servers("sync")
    thread = live.new_thread()
    client = live.login("client")
    client.say(thread, "one")
    reader = client.listen(thread, "0")
    assert [event.json["text"] for event in reader.wait_end()] == ["one"]
    assert reader.parser.retry == 3000
    client.say(thread, "two")
    again = client.listen(thread, reader.parser.last_event_id)
    assert [event.json["text"] for event in again.wait_end()] == ["two"]


@pytest.mark.parametrize("host", ["reference", "reference-postgresql"])
def test_stream_never_answers_503(make_bench: Any, host: str) -> None:
    """C35: with the database away: 200, retry: 10000, the end."""
    bench = make_bench(host)
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    with bench.state.database.engine.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE chat_threads RENAME TO elsewhere")
        connection.commit()
    response = api.stream(thread)
    assert (response.status_code, response.data) == (200, b"retry: 10000\n\n")
    assert api.thread(thread).status_code == 503


def test_stream_needs_a_login(live: Live) -> None:
    """C12, C29: JSON, not a redirect."""
    response = httpx.get(f"{live.server.url}/api/chat/threads/1/stream")
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")


CHUNKED = "POST /api/chat/threads/1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"11170\r\n" + b"x" * 70000 + b"\r\n0\r\n\r\n", 413),
        (b"zz\r\n", 400),
        (b"-5\r\nhello\r\n", 400),
        (b"5\r\nhelloXX0\r\n\r\n", 400),
        (b"5\r\nhello\r\n0\r\n\r\n", 401),
    ],
)
def test_chunked_bodies(live: Live, body: bytes, status: int) -> None:
    """C11, C13: over 64 KiB is 413, wrongly chunked is 4xx, before any login; never 5xx."""
    host, port = live.server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(CHUNKED.encode() + body)
        answer = connection.recv(4096)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
