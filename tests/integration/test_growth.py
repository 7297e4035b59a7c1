"""A database that has grown: what a request costs does not depend on how much was ever said, nor on the page's size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from nursecare_chat.clock import utcnow
from nursecare_chat.storage import names

from ..support import growth
from ..support.databases import Databases
from ..support.growth import LONG, LONG_MESSAGES, recorded
from ..support.hosts import HOSTS, Api, Workbench

BODY = {"type": "text", "text": "hello"}
EARLY, LATE = 30, 90_000
"""Threads of which every message is older, or newer, than the long thread's."""


class Grown:
    """The grown database, and what asking it costs."""

    def __init__(self, bench: Workbench, costs: Any) -> None:
        self.bench, self.costs = bench, costs
        self.people: dict[str, Api] = {who: bench.login(who) for who in ("client", "client2", "admin", "admin2")}
        messages = bench.state.models.messages
        with bench.state.database.read() as connection:
            self.first_message = {
                thread: connection.scalar(messages.select().where(messages.c.thread_id == thread, messages.c.seq == 1))
                for thread in (EARLY, LONG, LATE)
            }


@pytest.fixture(scope="module", params=["reference", "reference-postgresql"])
def grown(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Grown]:
    """10⁵ threads, 10⁶ messages."""
    bench = Workbench(HOSTS[request.param], tmp_path_factory.mktemp("grown"), databases)
    growth.fill(bench)
    bench.state.storage.sign_put(names.new_name(LONG, "image/jpeg"), "image/jpeg", 1, 1)  # as its uploads were
    costs = growth.COSTS[bench.state.database.engine.dialect.name](bench)
    yield Grown(bench, costs)
    costs.close()
    bench.close()


def messages(who: str, thread: int, **query: Any) -> Callable[[Grown], Any]:
    return lambda grown: grown.people[who].messages(thread, **query)


def messages_before(who: str, thread: int, of: int, later: int = 0) -> Callable[[Grown], Any]:
    """A page of ``thread`` whose cursor is ``later`` ids behind the first message of the thread ``of``."""
    return lambda grown: grown.people[who].messages(thread, cursor=grown.first_message[of] + later, limit=50)


def inbox(who: str, **query: Any) -> Callable[[Grown], Any]:
    return lambda grown: grown.people[who].call("GET", "/api/chat/threads", query_string={"limit": 50, **query})


def post(who: str, thread: int, **more: Any) -> Callable[[Grown], Any]:
    return lambda grown: grown.people[who].post(thread, BODY | more)


def open_request(who: str, number: int) -> Callable[[Grown], Any]:
    return lambda grown: grown.people[who].call("POST", f"/api/requests/{number}/chat/open")


def stream(who: str, thread: int, last: str | None) -> Callable[[Grown], Any]:
    return lambda grown: grown.people[who].stream(thread, last)


def follow(who: str, ago: int | None = None) -> Callable[[Grown], Any]:
    """The stream of an inbox, from the start or from ``ago`` seconds before now."""

    def call(grown: Grown) -> Any:
        state = grown.bench.state
        assert grown.people["client"].post(LONG, BODY).status_code == 200  # something was said lately
        with grown.bench.app.app_context():
            user = grown.bench.host.user_id(who)
        mark = state.inboxes.mark()
        before = mark if ago is None else mark._replace(moment=mark.moment - timedelta(seconds=ago))
        headers = {} if ago is None else {"Last-Event-ID": state.inboxes.cursor(user, before, [])}
        return grown.people[who].call("GET", "/api/chat/stream", headers=headers)

    return call


def upload(who: str, thread: int) -> Callable[[Grown], Any]:
    path, body = f"/api/chat/threads/{thread}/uploads", {"contentType": "image/png", "size": 9}
    return lambda grown: grown.people[who].call("POST", path, json=body)


CALLS = {
    "the first page": messages("client", LONG, limit=50),
    "the first page of a short one": messages("client", 7, limit=50),
    "a page in the middle": messages_before("client", LONG, LONG, 50_000),
    "the last page": messages_before("client", LONG, LONG, 3),
    "a cursor of an older thread": messages_before("client", LONG, EARLY),
    "a cursor of a newer thread": messages_before("client", LONG, LATE),
    "a cursor that names nothing": messages("client", LONG, cursor=2**62, limit=50),
    "a short one with the cursor of a newer thread": messages_before("client", 7, LATE),
    "after the first": messages("client", LONG, after=1, limit=50),
    "after the middle": messages("admin", LONG, after=50_000, limit=50),
    "after the last": messages("admin", LONG, after=LONG_MESSAGES * 2, limit=50),
    "a thread": lambda grown: grown.people["client"].thread(LONG),
    "a message": post("client", LONG),
    "an admin's message": post("admin", LONG),
    "a message with an id": post("client", LONG, clientMessageId="once"),
    "a claim by a message": post("admin2", 65_000),
    "open what is there": open_request("client", 1000 + LONG),
    "open what is there as admin": open_request("admin", 1000 + LATE),
    "claim by opening": open_request("admin2", 1000 + 75_000),
    "open a new one": open_request("client", 1),
    "resume a stream": stream("client", LONG, str(LONG_MESSAGES - 40)),
    "open a stream": stream("admin", LONG, None),
    "resume far behind": stream("client", 7, "1"),
    "a client's inbox's stream": follow("client"),
    "a small client's inbox's stream": follow("client2"),
    "an admin's inbox's stream": follow("admin"),
    "a new admin's inbox's stream": follow("admin2"),
    "resume a client's inbox": follow("client", 600),
    "resume an admin's inbox": follow("admin", 80_000),
    "a client's inbox": inbox("client"),
    "a client's open ones": inbox("client", status="open"),
    "a client's closed ones": inbox("client", status="closed"),
    "a client's inbox, further": inbox("client", cursor=50_000),
    "a client's open ones, further": inbox("client", cursor=50_000, status="open"),
    "a small client's inbox": inbox("client2"),
    "a small client's inbox, further": inbox("client2", cursor=60_000),
    "a small client's open ones": inbox("client2", status="open"),
    "an admin's inbox": inbox("admin"),
    "an admin's open ones": inbox("admin", status="open"),
    "an admin's closed ones": inbox("admin", status="closed"),
    "an admin's inbox, further": inbox("admin", cursor=30_000),
    "an admin's open ones, further": inbox("admin", cursor=50_000, status="open"),
    "an admin's closed ones, further": inbox("admin", cursor=60_500, status="closed"),
    "a new admin's inbox": inbox("admin2"),
    "a new admin's open ones": inbox("admin2", status="open"),
    "a new admin's closed ones": inbox("admin2", status="closed"),
    "a new admin's inbox, further": inbox("admin2", cursor=60_500),
    "a new admin's open ones, further": inbox("admin2", cursor=99_000, status="open"),
    "an upload": upload("client", LONG),
    "another's upload": upload("admin", LONG),
    "close": lambda grown: grown.people["client"].close(27),
    "close again": lambda grown: grown.people["client"].close(27),
}


@pytest.mark.parametrize("call", CALLS)
def test_no_request_walks_through_what_has_piled_up(grown: Grown, call: str) -> None:
    """C17, C19, C21, C23, C24, C26, C27, C30: no statement of ours scans a table, nor a long thread or a full inbox."""
    with recorded(grown.bench.state.database.engine) as statements:
        assert CALLS[call](grown).status_code == 200
    assert statements
    for statement in statements:
        grown.costs.check(statement)


def test_streams_cost_what_they_watch(grown: Grown) -> None:
    """C31, C34: the hub's look at its threads, a page of the log, and the access check of a hundred streams."""
    state = grown.bench.state
    with grown.bench.app.app_context():
        users = [grown.bench.host.user_id(who) for who in ("client", "admin")]
        with recorded(state.database.engine) as statements:
            news, _ = state.log.news(dict.fromkeys(range(1, 101), 8) | {LONG: LONG_MESSAGES})
            assert {len(news[thread].entries) for thread in range(1, 10)} == {1}
            assert len(state.log.news({LONG: 60_000})[0][LONG].entries) == 100
            assert state.access.lost((users[n % 2], n) for n in range(1, 101))
    assert len(statements) <= 6  # two are for the two roles
    for statement in statements:
        grown.costs.check(statement)


def test_the_sweep_sees_what_is_due_alone(grown: Grown) -> None:
    """C36: among 10⁵ purges that are settled, or wait for their time."""
    with recorded(grown.bench.state.database.engine) as statements:
        assert 5 <= len(grown.bench.state.purges.due()) <= 20
    (statement,) = statements
    grown.costs.check(statement)


def test_erasing_a_long_thread_goes_on_where_it_was(grown: Grown) -> None:
    """C37: a batch does not look again at what the batches before it emptied."""
    with recorded(grown.bench.state.database.engine) as statements:
        assert grown.people["client"].close(LONG).status_code == 200
    erasing = [statement for statement in statements if statement.text.startswith("UPDATE chat_messages")]
    assert len(erasing) > LONG_MESSAGES / 500
    grown.costs.check(erasing[-1])
    (last, *_) = grown.people["admin"].messages(LONG, limit=1).get_json()["messages"]
    assert last["text"] is None


def fill_page(bench: Workbench, thread: int, owner: Any, sender: Any, count: int) -> None:
    """``count`` messages more in the thread, and as many threads more of its client's."""
    models = bench.state.models
    with bench.app.app_context():
        requests = [bench.host.new_request("client") for _ in range(count)]
    with bench.state.database.write() as unit:
        last = unit.connection.scalar(
            models.threads.update()
            .where(models.threads.c.id == thread)
            .values(last_seq=models.threads.c.last_seq + count)
            .returning(models.threads.c.last_seq)
        )
        common = {"thread_id": thread, "type": "text", "text": "hello"}
        for number in range(count):
            senders = (owner, sender)[number % 2]
            row = common | {"sender_id": senders, "seq": last - count + number + 1, "created_at": utcnow()}
            unit.connection.execute(models.messages.insert().values(row))
            chat = {"request_id": requests[number], "client_id": owner, "opened_at": utcnow()}
            unit.connection.execute(models.threads.insert().values(chat))


PAGES: dict[str, Callable[[Api, int], Any]] = {
    "messages": lambda api, thread: api.messages(thread, limit=50).get_json()["messages"],
    "messages after": lambda api, thread: api.messages(thread, after=0, limit=50).get_json()["messages"],
    "inbox": lambda api, thread: api.call("GET", "/api/chat/threads?limit=50").get_json()["threads"],
    "stream": lambda api, thread: api.stream(thread, "0").data.split(b"event: MessageCreated")[1:],
}


@pytest.mark.parametrize("who", ["client", "admin"])
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.one_process
def test_as_many_statements_for_fifty_as_for_two(bench: Workbench, page: str, who: str) -> None:
    """C19, C27, C30: neither of ours nor of the host's, whoever asks."""
    api = bench.login(who)
    thread = api.open(1).get_json()["threadId"]
    with bench.app.app_context():
        owner, sender, engine = bench.host.user_id("client"), bench.host.user_id("admin"), bench.host.db.engine
    counts = []
    for more, expected in ((2, 2), (48, 50)):
        fill_page(bench, thread, owner, sender, more)
        with recorded(bench.state.database.engine) as ours, recorded(engine) as theirs:
            assert len(PAGES[page](api, thread)) >= expected
        counts.append((len(ours), len(theirs)))
    assert counts[0] == counts[1]
    assert counts[0][0] > 0


def test_access_of_fifty_streams_as_of_two(bench: Workbench) -> None:
    """C34: users, their roles and threads are read in bulk."""
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    with bench.app.app_context():
        owner, sender = bench.host.user_id("client"), bench.host.user_id("admin")
        fill_page(bench, thread, owner, sender, 50)
        counts = []
        for many in (2, 50):
            with recorded(bench.state.database.engine) as statements:
                pairs = [((owner, sender)[n % 2], thread + n) for n in range(many)]
                assert bench.state.access.lost(pairs) == set()
            counts.append(len(statements))
    assert counts[0] == counts[1]
