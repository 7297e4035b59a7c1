"""The stream of an inbox on real servers: every event, resumption, and who may read on."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from ..support.live import Live, Person
from ..support.redis import Server
from ..support.sse import Event, Reader
from ..support.wait import eventually

SERVERS = [
    ("gevent", "reference"),
    ("gevent", "foreign-postgresql"),
    ("gthread", "reference-postgresql"),
    ("development", "foreign"),
]
QUICK = {"CHAT_STREAM_HEARTBEAT": "0.5", "CHAT_MAX_STREAMS_PER_USER": "off"}
OPENED, SAID, CLOSED, LEFT = "ThreadOpened", "MessageCreated", "ThreadClosed", "ThreadLeft"


@pytest.fixture(params=SERVERS)
def live(request: pytest.FixtureRequest, live_servers: Callable[..., Live]) -> Live:
    """A host under each server in turn."""
    return live_servers(*request.param, **QUICK)


def ids(reader: Reader) -> list[str]:
    """Every id that came, in order."""
    lines = reader.parser.raw.decode("ascii").split("\n")
    return [line.removeprefix("id: ") for line in lines if line.startswith("id: ")]


def test_head(live: Live) -> None:
    """C46, C29, C30: as a thread's; a first frame that says where it starts, then a comment now and then."""
    readers = [live.login("client").follow().wait_open() for _ in range(6)]
    for reader in readers:
        eventually(lambda reader=reader: reader.parser.comments >= 1)
        assert reader.response.status_code == 200
        assert reader.response.headers["Content-Type"].split(";")[0] == "text/event-stream"
        assert reader.response.headers["Cache-Control"] == "no-store"
        assert reader.response.headers["X-Accel-Buffering"] == "no"
        (first,) = ids(reader)
        assert f"\n\nid: {first}\n\n".encode() in reader.parser.raw
        assert reader.parser.last_event_id == first
        assert reader.events == []
        reader.stop()
    assert len({reader.parser.retry for reader in readers}) > 1


def test_every_event_to_both_sides(live: Live) -> None:
    """C46, C20, C27: opened, said, closed; clientMessageId to its sender alone; ids of at most 200 bytes."""
    client, admin = live.login("client"), live.login("admin")
    mine, theirs = client.follow().wait_open(), admin.follow().wait_open()
    thread = live.new_thread()
    for reader in (mine, theirs):
        (opened,) = reader.wait_for(thread, OPENED)
        assert opened.json == client.thread(thread)
    client.say(thread, "hi\n\nevent: ThreadClosed\u2028\r", clientMessageId="c1")
    (listed,) = admin.http.get(f"/api/chat/threads/{thread}/messages").json()["messages"]
    for reader, more in ((mine, {"clientMessageId": "c1"}), (theirs, {})):
        assert reader.wait_for(thread, OPENED, SAID)[-1].json == {"threadId": thread, **listed, **more}
    admin.say(thread, "answer")
    closed_at = client.close(thread).json()["closed_at"]
    for reader in (mine, theirs):
        *_, second, closed = reader.wait_for(thread, OPENED, SAID, SAID, CLOSED)
        assert second.json["seq"] == 2
        assert closed.json == {"threadId": thread, "closed_at": closed_at}
        assert reader.parser.raw.isascii()
        assert b"\r" not in reader.parser.raw
        assert all(0 < len(one) <= 200 for one in ids(reader))
        assert not reader.ended.is_set()
        reader.stop()


@pytest.mark.parametrize("how", ["opens", "writes"])
def test_claimed_by_an_admin(live: Live, how: str) -> None:
    """C46, C27: whoever claims it hears on, for the others it is gone, and what is said there, too."""
    thread = live.new_thread()
    admin, admin2, client = live.login("admin"), live.login("admin2"), live.login("client")
    his, hers = admin.follow().wait_open(), admin2.follow().wait_open()
    if how == "opens":
        admin.open(admin.thread(thread)["requestId"])
    else:
        admin.say(thread, "I take it")
    (left,) = hers.wait_for(thread, LEFT)
    assert left.json == {"threadId": thread}
    client.say(thread, "between us")
    client.close(thread)
    his.wait_for(thread, *([] if how == "opens" else [SAID]), SAID, CLOSED)
    assert len(hers.of(thread)) == 1
    for reader in (his, hers):
        reader.stop()


def test_anyone_else_hears_nothing(live: Live) -> None:
    """C46, C27: an empty list is an empty stream, which only says that it is there; nobody's is 401, not a redirect."""
    nurse, client2 = live.login("nurse").follow().wait_open(), live.login("client2").follow().wait_open()
    thread, client = live.new_thread(), live.login("client")
    mine = client.follow().wait_open()
    client.say(thread, "for us")
    mine.wait_for(thread, SAID)
    for reader in (nurse, client2):
        eventually(lambda reader=reader: reader.parser.comments >= 3)
        assert reader.events == []
        assert not reader.ended.is_set()
    for reader in (nurse, client2, mine):
        reader.stop()
    refused = httpx.get(f"{live.server.url}/api/chat/stream")
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("by", ["header", "query", "both"])
def test_resume(live: Live, by: str) -> None:
    """C46, C30: what was opened, said and closed meanwhile, then live; the header wins over the query."""
    client, admin = live.login("client"), live.login("admin")
    old, over = live.new_thread(), live.new_thread()
    reader = admin.follow().wait_open()
    client.say(old, "seen")
    reader.wait_for(old, SAID)
    reader.stop()
    for text in ("missed", "missed, too"):
        client.say(old, text)
    client.say(over, "last words")
    client.close(over)
    new = live.new_thread()
    client.say(new, "first words")
    given = reader.parser.last_event_id
    header, query = {"header": (given, None), "query": (None, given), "both": (given, "x")}[by]
    again = admin.follow(header, params={"lastEventId": query} if query else None)
    eventually(lambda: [event.json["seq"] for event in again.of(old)][-2:] == [2, 3])
    again.wait_for(over, SAID, CLOSED)
    assert again.wait_for(new, OPENED, SAID)[0].json["threadId"] == new
    client.say(new, "live again")
    assert again.wait_for(new, OPENED, SAID, SAID)[-1].json["text"] == "live again"
    assert "reset" not in {event.name for event in again.events}
    again.stop()


@pytest.mark.parametrize("given", ["x", "0", "12", "A" * 75, "another's", "tampered", "\u00e9", "A" * 3000])
def test_reset(live: Live, given: str) -> None:
    """C46, C30: garbage, or an id of somebody else: load the list anew, and live; never silence."""
    client, admin = live.login("client"), live.login("admin")
    thread = live.new_thread()
    reader = (admin if given == "another's" else client).follow().wait_open()
    first = reader.parser.last_event_id
    reader.stop()
    given = {"another's": first, "tampered": first[:20] + ("B" if first[20] == "A" else "A") + first[21:]}.get(
        given, given
    )
    again = client.follow(params={"lastEventId": given})
    (reset,) = again.wait(1)
    assert (reset.name, reset.json) == ("reset", {})
    assert 0 < len(reset.id) <= 200
    assert reset.id != given
    client.say(thread, "live")
    again.wait_for(thread, SAID)
    once_more = client.follow(reset.id)
    once_more.wait_for(thread, SAID)
    for one in (again, once_more):
        one.stop()


def test_what_another_process_wrote_is_found(live: Live) -> None:
    """C46, C31: no doorbell rang here, for the workbench is another process; the database is polled."""
    admin = live.login("admin").follow().wait_open()
    bench = live.bench
    with bench.app.app_context():
        request = bench.host.new_request("client")
    there = bench.login("client")
    thread = there.call("POST", f"/api/requests/{request}/chat/open").get_json()["threadId"]
    admin.wait_for(thread, OPENED)
    there.say(thread, "from elsewhere")
    admin.wait_for(thread, OPENED, SAID)
    there.close(thread)
    admin.wait_for(thread, OPENED, SAID, CLOSED)
    admin.stop()


@pytest.mark.one_process("memory")
def test_logout_ends_it(live: Live) -> None:
    """C46, C34: in every tab; other people's streams stay."""
    thread = live.new_thread()
    admin, client = live.login("admin2"), live.login("client")
    readers = [admin.follow().wait_open(), live.login("admin2").follow().wait_open()]
    bystander = client.follow().wait_open()
    admin.http.post("/logout", json={})
    for reader in readers:
        reader.wait_end(5)
    client.say(thread, "still here")
    bystander.wait_for(thread, SAID)
    assert readers[0].of(thread) == []
    bystander.stop()


@pytest.mark.parametrize("host", ["reference", "reference-postgresql"])
@pytest.mark.parametrize("how", ["disable", "demote"])
def test_lost_access(live_servers: Callable[..., Live], host: str, how: str) -> None:
    """C46, C34: a disabled user gets no byte more after 5 s; who is no admin any more loses what only admins see."""
    live = live_servers("gevent", host, CHAT_STREAM_HEARTBEAT="0.7", CASE=f"inbox-{how}")
    thread = live.new_thread()
    admin, client = live.login("admin2"), live.login("client")
    reader, bystander = admin.follow().wait_open(), client.follow().wait_open()
    with live.bench.app.app_context():
        getattr(live.bench.host, how)("admin2")
    lost_at = time.monotonic()
    if how == "disable":
        reader.wait_end()
        assert reader.last_byte_at < lost_at + 5.5
        assert admin.http.get("/api/chat/stream").status_code == 401
    else:
        reader.wait_for(thread, LEFT)
    client.say(thread, "between us")
    bystander.wait_for(thread, SAID)
    assert SAID not in {event.name for event in reader.events}
    for one in (reader, bystander):
        one.stop()


@pytest.mark.one_process
def test_surplus_streams(live_servers: Callable[..., Live]) -> None:
    """C46, C35: counted with the user's others; 200, what was missed, retry: 10000, the end."""
    live = live_servers("gevent", CHAT_MAX_STREAMS_PER_USER="2")
    thread = live.new_thread()
    client = live.login("client")
    readers = [client.listen(thread).wait_open(), client.follow().wait_open()]
    surplus = client.follow()
    assert surplus.wait_end() == []
    assert (surplus.response.status_code, surplus.parser.retry) == (200, 10000)
    client.say(thread, "missed")
    late = client.follow(surplus.parser.last_event_id)
    assert [event.json["text"] for event in late.wait_end()] == ["missed"]
    for reader in readers:
        reader.stop()
    eventually(lambda: client.follow().wait_open().parser.retry != 10000)


def test_worker_that_cannot_carry_streams(live_servers: Callable[..., Live]) -> None:
    """C46, C45: replay, retry: 3000, the end; the inbox works by reconnecting."""
    live = live_servers("sync")
    thread = live.new_thread()
    client = live.login("client")
    reader = client.follow()
    assert reader.wait_end() == []
    assert reader.parser.retry == 3000
    client.say(thread, "missed")
    again = client.follow(reader.parser.last_event_id)
    assert [event.json["text"] for event in again.wait_end()] == ["missed"]


def test_recycled_at_max_age(live_servers: Callable[..., Live]) -> None:
    """C46, C34: the stream ends, and a reconnect has lost nothing."""
    live = live_servers("gevent", CHAT_STREAM_MAX_AGE="1")
    thread = live.new_thread()
    client = live.login("client")
    reader = client.follow()
    reader.wait_end()
    client.say(thread, "in between")
    again = client.follow(reader.parser.last_event_id)
    again.wait_for(thread, SAID)


@pytest.mark.parametrize("host", ["reference", "foreign-postgresql"])
def test_two_processes_and_redis_that_goes(own_live: Callable[..., Live], own_redis: Server, host: str) -> None:
    """C46, C31, C33: rings reach inboxes in every process, on one connection each; without Redis they poll."""
    settings = {"CHAT_STREAM_HEARTBEAT": "60", "CHAT_MAX_STREAMS_PER_USER": "off"}
    live = own_live("two-gevent", host, **settings, CHAT_TRANSPORT_URL=own_redis.url)
    eventually(lambda: len(live.server.workers()) == 2, live.server)
    readers = []
    for worker in live.server.workers():
        with live.served_by(worker):
            people = [live.login(who) for who in ("client", "admin")]
            readers += [person.follow().wait_open() for person in people for _ in range(3)]
    client = live.login("client")
    eventually(lambda: [int(one["psub"]) for one in own_redis.clients() if int(one["sub"])] == [1, 1])
    for how in ("there", "killed", "back"):
        if how == "killed":
            own_redis.kill()
        elif how == "back":
            own_redis.start()
            eventually(lambda: [one for one in own_redis.clients() if int(one["psub"]) == 1])
        thread = live.new_thread()
        for text in "ab":
            assert client.say(thread, text).status_code == 200
        client.close(thread)
        for reader in readers:
            assert [event.json.get("seq") for event in reader.wait_for(thread, OPENED, SAID, SAID, CLOSED)[1:3]] == [
                1,
                2,
            ]
    for reader in readers:
        assert not reader.ended.is_set()
        reader.stop()
    eventually(lambda: not own_redis.clients())


class Wanderer:
    """Somebody with an inbox whose connection breaks again and again; keeps all that came, connection by connection."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.connections: list[list[Event]] = []
        self.last_event_id = ""
        self.reader = person.follow().wait_open()

    def cut(self) -> None:
        self.reader.stop()
        self.connections.append(self.reader.events)
        self.last_event_id = self.reader.parser.last_event_id or self.last_event_id
        self.reader = self.person.follow(self.last_event_id)

    def seen(self) -> list[Event]:
        return [event for events in (*self.connections, self.reader.events) for event in events]


@pytest.mark.parametrize(("kind", "host"), [("gevent", "reference"), ("two-gevent", "foreign-postgresql")])
def test_cut_at_random_while_many_write(own_live: Callable[..., Live], redis_url: str, kind: str, host: str) -> None:
    """C46, C30: 8 people write to 20 threads and close them, the stream is cut 20 times: all of it, in order."""
    live = own_live(kind, host, CHAT_TRANSPORT_URL=redis_url, **QUICK)
    threads = [live.new_thread() for _ in range(10)]
    wanderers = [Wanderer(live.login(who)) for who in ("admin", "client")]
    threads += [live.new_thread() for _ in range(10)]
    acknowledged: set[tuple[int, int]] = set()
    writers = [live.login("client") for _ in range(8)]
    over = threading.Event()

    def write(number: int) -> None:
        choice = random.Random(number)
        while not over.is_set():
            thread = choice.choice(threads)
            answer = writers[number].say(thread, "x")
            assert answer.status_code == 200, answer.text
            acknowledged.add((thread, answer.json()["seq"]))

    choice = random.Random(7)
    with ThreadPoolExecutor(8) as pool:
        writing = [pool.submit(write, number) for number in range(8)]
        for cut in range(20):
            goal = len(acknowledged) + choice.randrange(1, 20)
            eventually(lambda goal=goal: len(acknowledged) >= goal or any(one.done() for one in writing))
            wanderers[cut % 2].cut()
        over.set()
        for one in writing:
            one.result()
    for thread in threads:
        writers[0].close(thread)
    for wanderer in wanderers:

        def complete(wanderer: Wanderer = wanderer) -> bool:
            return {event.json["threadId"] for event in wanderer.seen() if event.name == CLOSED} >= set(threads)

        eventually(complete, live.server)
        seen = {(event.json["threadId"], event.json["seq"]) for event in wanderer.seen() if event.name == SAID}
        assert acknowledged - seen == set()
        assert {event.json["threadId"] for event in wanderer.seen() if event.name == OPENED} >= set(threads[10:])
        assert {event.name for event in wanderer.seen()} == {OPENED, SAID, CLOSED}
        for events in (*wanderer.connections, wanderer.reader.events):
            for thread in threads:
                of_it = [event for event in events if event.json["threadId"] == thread]
                order = [event.json["seq"] for event in of_it if event.name == SAID]
                assert order == sorted(set(order))
                assert CLOSED not in [event.name for event in of_it[:-1]]
                assert OPENED not in [event.name for event in of_it[1:]]
        wanderer.reader.stop()


@pytest.mark.parametrize(("kind", "host"), [("gevent", "reference"), ("two-gevent", "foreign-postgresql")])
def test_cut_at_random_while_many_open(own_live: Callable[..., Live], redis_url: str, kind: str, host: str) -> None:
    """C46: 8 people open 80 chats, the stream is cut 20 times: it is told of each, and never to load its list anew."""
    live = own_live(kind, host, CHAT_TRANSPORT_URL=redis_url, **QUICK)
    with live.bench.app.app_context():
        requests = [live.bench.host.new_request("client") for _ in range(80)]
    wanderers = [Wanderer(live.login(who)) for who in ("admin", "client")]
    openers = [live.login("client") for _ in range(8)]
    threads: set[int] = set()

    def open_some(number: int) -> None:
        for request in requests[number :: len(openers)]:
            threads.add(openers[number].open(request))

    with ThreadPoolExecutor(len(openers)) as pool:
        opening = [pool.submit(open_some, number) for number in range(len(openers))]
        for cut in range(20):
            goal = min(len(requests), 4 * cut)
            eventually(lambda goal=goal: len(threads) >= goal or all(one.done() for one in opening))
            wanderers[cut % 2].cut()
        for one in opening:
            one.result()
    for wanderer in wanderers:

        def complete(wanderer: Wanderer = wanderer) -> bool:
            return {event.json["threadId"] for event in wanderer.seen() if event.name == OPENED} >= threads

        eventually(complete, live.server)
        assert {event.name for event in wanderer.seen()} == {OPENED}
        wanderer.reader.stop()


def test_nothing_is_asked_of_the_url(live: Live) -> None:
    """C46, C13: unknown parameters are ignored."""
    reader: Any = live.login("nurse").follow(params={"x": "1"}).wait_open()
    assert reader.response.status_code == 200
    reader.stop()
