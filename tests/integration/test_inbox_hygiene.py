"""What streams of inboxes cost and leave behind, and rounds in an order of the test's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nursecare_chat.errors import StorageUnavailable
from nursecare_chat.service.messages import Draft
from nursecare_chat.stream import hub as hub_module
from nursecare_chat.stream.board import Board
from nursecare_chat.stream.inbox import InboxStream
from nursecare_chat.stream.interfaces import Meter
from nursecare_chat.stream.outlet import MAX_BACKLOG

from ..support.growth import recorded
from ..support.hosts import Workbench
from ..support.live import Person
from ..support.servers import serve_here
from ..support.sse import Event, parse
from ..support.wait import eventually
from .test_inbox_resume import open_new

OPENED, SAID, CLOSED, LEFT = "ThreadOpened", "MessageCreated", "ThreadClosed", "ThreadLeft"


class Inside:
    """A server in this process and the state behind it."""

    def __init__(self, bench: Workbench, url: str) -> None:
        self.bench, self.url, self.state = bench, url, bench.state
        self.people: list[Person] = []

    def login(self, who: str) -> Person:
        self.people.append(Person(self.url, who))
        return self.people[-1]


@pytest.fixture(params=["reference", "reference-postgresql"])
def inside(request: pytest.FixtureRequest, make_bench: Any) -> Iterator[Inside]:
    bench = make_bench(request.param, CHAT_STREAM_HEARTBEAT="60", CHAT_MAX_STREAMS_PER_USER="off")
    with serve_here(bench.app) as url:
        inside = Inside(bench, url)
        yield inside
        for person in inside.people:
            person.http.close()
        eventually(lambda: bench.state.hub.count() == 0)


@pytest.mark.one_process
def test_idle_streams(inside: Inside) -> None:
    """C46, C33, C31: twenty hold no connection, and cost a few statements a look, not each; all gone when they go."""
    client = inside.login("client")
    client.open(1)
    readers = [client.follow().wait_open() for _ in range(20)]
    engine = inside.state.database.engine
    eventually(lambda: inside.state.hub.count() == 20)
    with recorded(engine) as statements:
        eventually(lambda: sum("max(chat_threads.id)" in one.text for one in statements) >= 5)
    assert len(statements) <= 5 * 6  # mark, lists, closes, and now and then what the check of rights reads
    eventually(lambda: engine.pool.checkedout() == 0)
    for reader in readers:
        reader.stop()
    eventually(lambda: inside.state.hub.count() == 0)
    assert None not in inside.state.hub._streams.threads()


@pytest.mark.one_process
def test_a_ring_is_enough(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """C46, C31: opened, said, claimed and closed come at once, with polling out of the way."""
    client, admin, admin2 = (inside.login(who) for who in ("client", "admin", "admin2"))
    first = client.open(2)
    readers = [person.follow().wait_open() for person in (client, admin, admin2)]
    client.say(first)
    for reader in readers:
        reader.wait_for(first, SAID)
    monkeypatch.setattr(hub_module, "POLL", 3600.0)
    time.sleep(1.5)  # the last poll that was due
    thread = client.open(1)
    for reader in readers:
        reader.wait_for(thread, OPENED, seconds=5)
    client.say(thread)
    admin.open(1)
    client.say(thread)
    client.close(thread)
    for reader in readers[:2]:
        reader.wait_for(thread, OPENED, SAID, SAID, CLOSED, seconds=5)
    readers[2].wait_for(thread, OPENED, SAID, LEFT, seconds=5)
    for reader in readers:
        reader.stop()


@pytest.mark.one_process
def test_lost_rings(inside: Inside) -> None:
    """C46, C31: with the doorbell torn off everything is found by polling, heartbeats being a minute apart."""
    client, admin = inside.login("client"), inside.login("admin")
    reader = admin.follow().wait_open()
    inside.state.doorbell.listen(lambda ring: None)
    thread = client.open(1)
    client.say(thread)
    reader.wait_for(thread, OPENED, SAID, seconds=4)
    client.close(thread)
    reader.wait_for(thread, OPENED, SAID, CLOSED, seconds=4)
    reader.stop()


@pytest.mark.one_process
@pytest.mark.parametrize("how", ["no", "raises"])
def test_the_policy_changes_its_mind(inside: Inside, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """C46, C34, C3: the thread leaves within 5 s, nothing of it comes any more, the others go on; it may come back."""
    client = inside.login("client")
    shown, hidden = client.open(1), client.open(2)
    reader, denied = client.follow().wait_open(), [True]

    def view(user: Any, thread: Any) -> bool:
        if thread.id == hidden and denied:
            if how == "raises":
                raise RuntimeError("no directory")
            return False
        return True

    policy = inside.state.access.policy
    monkeypatch.setattr(policy, "view", view)
    reader.wait_for(hidden, LEFT, seconds=6)
    sender = inside.state.threads.get(hidden).client_id
    for thread in (hidden, shown):
        inside.state.messages.post(inside.state.threads.get(thread), sender, Draft("text", text="x"), as_admin=False)
    reader.wait_for(shown, SAID)
    assert [event.name for event in reader.of(hidden)] == [LEFT]
    denied.clear()
    reader.wait_for(hidden, LEFT, OPENED, SAID, seconds=8)
    reader.stop()


@pytest.mark.one_process
def test_flag_off_and_accounts_that_go(inside: Inside) -> None:
    """C46, C34, C5: the flag, chat.disconnect, and a check that fails outright end it."""
    client, admin = inside.login("client"), inside.login("admin")
    mine, theirs = client.follow().wait_open(), admin.follow().wait_open()
    with inside.bench.app.app_context():
        inside.bench.chat.disconnect(inside.bench.host.user("client"))
    mine.wait_end(2)
    assert not theirs.ended.is_set()
    inside.bench.app.config["CHAT_ENABLED"] = False
    theirs.wait_end(6)
    assert client.http.get("/api/chat/stream").status_code == 501
    inside.bench.app.config["CHAT_ENABLED"] = True
    mine = client.follow().wait_open()
    inside.state.hub._lost_access = lambda pairs: 1 / 0
    mine.wait_end(6)


@pytest.mark.one_process
def test_database_trouble_does_not_end_it(inside: Inside, caplog: pytest.LogCaptureFixture) -> None:
    """C46, C31: the hub tries again; at the start it is 200, retry: 10000, the end."""
    client = inside.login("client")
    thread = client.open(1)
    reader = client.follow().wait_open()
    engine = inside.state.database.engine

    def rename(old: str, new: str) -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")
            connection.commit()

    rename("chat_threads", "elsewhere")
    late = client.follow()
    assert late.wait_end() == []
    assert (late.response.status_code, late.parser.retry) == (200, 10000)
    eventually(lambda: "chat stream delivery failed" in caplog.text)
    rename("elsewhere", "chat_threads")
    client.say(thread, "back")
    reader.wait_for(thread, SAID)
    reader.stop()


class Round:
    """A board whose rounds the test makes, and streams without a server."""

    def __init__(self, bench: Workbench) -> None:
        self.bench, self.state = bench, bench.state
        self.board = Board(self.state.log, self.state.inboxes, Meter())
        self.streams: list[InboxStream] = []

    def join(self, who: str, given: str | None = None) -> InboxStream:
        with self.bench.app.app_context():
            user = self.bench.host.user(who)
            user_id, is_admin = self.bench.host.user_id(who), self.state.access.is_admin(user)
            stream = InboxStream(user_id, is_admin, self.state.inboxes.resume(user, is_admin, given))
        for frames in stream.rest(self.state.log):
            list(frames)
        stream.live = True
        self.streams.append(stream)
        return stream

    def run(self, *rung: int, everything: bool = True) -> None:
        with self.bench.app.app_context():
            self.board.bring([one for one in self.streams if not one.ended], set(rung), everything)


def taken(stream: InboxStream) -> list[Event]:
    raw = b""
    while piece := stream.outlet.take(0):
        raw += piece
    return parse(raw)[1]


def names(stream: InboxStream) -> list[str]:
    return [event.name for event in taken(stream)]


@pytest.fixture(params=["reference", "reference-postgresql"])
def round_(request: pytest.FixtureRequest, make_bench: Callable[..., Workbench]) -> Round:
    return Round(make_bench(request.param))


@pytest.mark.one_process
def test_opened_and_closed_between_two_looks(round_: Round) -> None:
    """C46: nothing is missed though it was never seen open; and nothing is told twice to one connection."""
    api = round_.bench.login("client")
    stream, admin = round_.join("client"), round_.join("admin")
    round_.run()
    thread = open_new(round_.bench)
    api.say(thread)
    api.close(thread)
    round_.run()
    assert names(stream) == names(admin) == [OPENED, SAID, CLOSED]
    late = round_.join("client")
    for everything in (True, False):
        round_.run(thread, everything=everything)
        assert names(stream) == names(admin) == names(late) == []


@pytest.mark.one_process
def test_who_comes_late_hears_it_once(round_: Round) -> None:
    """C46, C30: what happens between the replay and the first look, beside a stream that has it already."""
    api = round_.bench.login("client")
    thread = open_new(round_.bench)
    early = round_.join("client")
    round_.run()
    late = round_.join("client")
    api.say(thread)
    round_.run(thread, everything=False)
    assert names(early) == names(late) == [SAID]
    assert early.place is late.place
    new = open_new(round_.bench)
    last = round_.join("client")
    api.say(new)
    api.close(thread)
    round_.run()
    assert names(early) == names(late) == [OPENED, SAID, CLOSED]
    assert names(last) == [SAID, CLOSED]
    assert last.place is early.place
    assert sorted(last.place) == [new]


@pytest.mark.one_process
def test_hidden_from_the_start(round_: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    """C46, C34: of a new thread that the policy does not show nothing is said, until it does."""
    api, stream = round_.bench.login("client"), round_.join("client")
    round_.run()
    with monkeypatch.context() as patch:
        patch.setattr(round_.state.access.policy, "view", lambda user, thread: False)
        thread = open_new(round_.bench)
        for everything in (False, True):
            round_.run(thread, everything=everything)
            assert names(stream) == []
    api.say(thread)
    round_.board.reconsider()
    round_.run()
    assert names(stream) == [OPENED, SAID]


@pytest.mark.one_process
def test_a_ring_does_not_move_the_id(round_: Round) -> None:
    """C46: another thread's message that was not rung for is before it; only a look at everything moves the id on."""
    api = round_.bench.login("client")
    first, second = open_new(round_.bench), open_new(round_.bench)
    stream = round_.join("client")
    round_.run()
    before = stream.cursor
    api.say(first)
    api.say(second)
    round_.run(second, everything=False)
    (event,) = taken(stream)
    assert (event.json["threadId"], event.id) == (second, before)
    again = round_.join("client", event.id)
    assert sorted(again.place.items()) == [(first, 1), (second, 1)]
    round_.run()
    (event,) = taken(stream)
    assert (event.json["threadId"], event.id) == (first, before)
    assert stream.cursor != before


@pytest.mark.one_process
def test_what_fails_for_one_thread(round_: Round, monkeypatch: pytest.MonkeyPatch) -> None:
    """C46, C31: holds up no other; the id stays where it is until it came after all."""
    api = round_.bench.login("client")
    threads = [open_new(round_.bench) for _ in range(3)]
    stream = round_.join("client")
    round_.run()
    before, real = stream.cursor, round_.state.log.between

    def between(spans: Any) -> Any:
        if any(span.thread == threads[1] for span in spans):
            raise StorageUnavailable("no signature")
        return real(spans)

    with monkeypatch.context() as patch:
        patch.setattr(round_.state.log, "between", between)
        for thread in threads:
            api.say(thread)
        round_.run()
        assert {event.json["threadId"] for event in taken(stream)} == {threads[0], threads[2]}
        assert stream.cursor == before
    round_.run()
    assert [event.json["threadId"] for event in taken(stream)] == [threads[1]]
    assert stream.cursor != before


@pytest.mark.one_process
def test_a_client_that_does_not_read(round_: Round) -> None:
    """C46, C35: ends at a bound, behind what waits, and resumes; another tab has it all."""
    thread = open_new(round_.bench)
    lazy, reading = round_.join("client"), round_.join("client")
    sender, seen = round_.state.threads.get(thread).client_id, 0
    for _ in range(MAX_BACKLOG // 30_000 + 5):
        round_.state.messages.post(
            round_.state.threads.get(thread), sender, Draft("text", text="\u4e00" * 5000), as_admin=False
        )
        round_.run()
        seen += len(taken(reading))
    assert (lazy.ended, reading.ended) == (True, False)
    events = taken(lazy)
    assert 0 < len(events) < seen
    assert lazy.drained
    resumed = round_.join("client", events[-1].id)
    assert resumed.place == reading.place


@pytest.mark.one_process
def test_more_than_a_page(round_: Round) -> None:
    """C46, C30: page by page, of one thread and of many, live and replayed."""
    threads = [open_new(round_.bench) for _ in range(3)]
    stream, sender = round_.join("client"), round_.state.threads.get(threads[0]).client_id
    given = stream.cursor
    for count, thread in zip((230, 60, 50), threads, strict=True):
        for _ in range(count):
            round_.state.messages.post(
                round_.state.threads.get(thread), sender, Draft("text", text="x"), as_admin=False
            )
    round_.run()
    events = taken(stream)
    for count, thread in zip((230, 60, 50), threads, strict=True):
        of_it = [event.json["seq"] for event in events if event.json["threadId"] == thread]
        assert of_it == list(range(1, count + 1))
    api = round_.bench.login("client")
    assert len(api.follow(given)[1]) == 340


@pytest.mark.one_process
def test_statements_of_many_as_of_few(round_: Round) -> None:
    """C46, C31: a look costs as many statements for thirty streams of three people as for three."""
    counts = []
    api = round_.bench.login("client")
    threads = [open_new(round_.bench) for _ in range(5)]
    for many in (1, 9):
        for who in ("client", "client2", "admin"):
            for _ in range(many):
                round_.join(who)
        round_.run()
        for thread in threads:
            api.say(thread)
        with recorded(round_.state.database.engine) as statements:
            round_.run()
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 5
