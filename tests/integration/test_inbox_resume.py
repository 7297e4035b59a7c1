"""What the id of an inbox's stream resumes, on every host: each answer is what was missed, and the next id."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from nursecare_chat import ChatThreadPolicy
from nursecare_chat.policy import bind
from nursecare_chat.service import cursors, inboxes
from nursecare_chat.service.messages import Draft

from ..support.hosts import Api, Workbench
from ..support.sse import Event

OPENED, SAID, CLOSED = "ThreadOpened", "MessageCreated", "ThreadClosed"


def brief(events: list[Event]) -> list[tuple[Any, ...]]:
    return sorted((event.name, event.json.get("threadId", 0), event.json.get("seq", 0)) for event in events)


class Follower:
    """Somebody who comes back with the id of the last time."""

    def __init__(self, api: Api) -> None:
        self.api = api
        parser, events = api.follow()
        assert events == []
        self.id = parser.last_event_id
        assert 0 < len(self.id) <= 200

    def missed(self) -> list[Event]:
        parser, events = self.api.follow(self.id)
        self.id = parser.last_event_id
        return events

    def expect(self, *expected: tuple[Any, ...]) -> None:
        assert brief(self.missed()) == sorted(expected)


def new_request(bench: Workbench, who: str = "client") -> Any:
    with bench.app.app_context():
        return bench.host.new_request(who)


def open_new(bench: Workbench, by: str = "client", who: str = "client") -> int:
    answer = bench.login(by).call("POST", f"/api/requests/{new_request(bench, who)}/chat/open")
    thread: int = answer.get_json()["threadId"]
    return thread


def test_everything_once(bench: Workbench, client_api: Api, admin_api: Api) -> None:
    """C46: what happened since, and only that; what was there at the first time is no news."""
    old, idle = open_new(bench), open_new(bench)
    client_api.say(old, "long ago")
    client_api.close(open_new(bench))
    mine, admins = Follower(client_api), Follower(admin_api)
    for follower in (mine, admins):
        follower.expect()
    client_api.say(old)
    client_api.say(old)
    new = open_new(bench)
    client_api.say(new)
    for follower in (mine, admins):
        follower.expect((SAID, old, 2), (SAID, old, 3), (OPENED, new, 0), (SAID, new, 1))
        follower.expect()
    admin_api.close(old)
    client_api.say(idle)
    short = open_new(bench)
    client_api.say(short)
    client_api.close(short)
    for follower in (mine, admins):
        events = follower.missed()
        wanted = {(CLOSED, old, 0), (SAID, idle, 1), (OPENED, short, 0), (SAID, short, 1), (CLOSED, short, 0)}
        # On PostgreSQL erasing a message makes its row a new one.
        assert wanted <= set(brief(events)) <= wanted | {(SAID, old, seq) for seq in (1, 2, 3)}
        assert len(set(brief(events))) == len(events)
        of_it = [event.name for event in events if event.json["threadId"] == short]
        assert of_it == [OPENED, SAID, CLOSED]


@pytest.mark.parametrize("how", ["claimed by writing", "claimed by opening", "forgotten", "given up"])
def test_a_list_that_changed_without_an_event(bench: Workbench, client_api: Api, admin_api: Api, how: str) -> None:
    """C46, C27: whatever leaves no trace in the log is a reset, after all that was missed; once."""
    request, stays = new_request(bench), open_new(bench)
    owner = "admin" if how == "given up" else "client"
    path = f"/api/requests/{request}/chat/open"
    thread = bench.login(owner).call("POST", path).get_json()["threadId"]
    admin2 = Follower(bench.login("admin2"))
    if how == "claimed by writing":
        admin_api.say(thread)
    elif how == "claimed by opening":
        admin_api.call("POST", path)
    else:
        models = bench.state.models
        with bench.state.database.write() as unit:
            here = models.threads.c.id == thread
            unit.connection.execute(
                models.threads.update().where(here).values(admin_id=None)
                if how == "given up"
                else models.threads.delete().where(here)
            )
    client_api.say(stays)
    said, told = brief(admin2.missed())
    assert said == (SAID, stays, 1)
    assert told == ("reset", 0, 0) or (how, told) == ("given up", (OPENED, thread, 0))
    admin2.expect()


def test_somebody_elses_and_broken_ids(bench: Workbench, client_api: Api, admin_api: Api) -> None:
    """C46: a reset, never silence, and never another's events."""
    thread = open_new(bench)
    client_api.say(thread)
    id_ = Follower(client_api).id
    wrong = [
        id_[:-1],
        id_ + "A",
        id_[::-1],
        "0",
        "a" * 160,
        id_ + "\n",
        f"{id_}\nevent: ThreadClosed",
        id_ + "=",
        "\u0663",
    ]
    for text in wrong:
        _, (reset,) = client_api.follow(query_string={"lastEventId": text})
        assert (reset.name, reset.json, len(reset.id)) == ("reset", {}, 160)
    _, (reset,) = admin_api.follow(id_)
    assert reset.name == "reset"
    other = Follower(bench.login("client2")).id
    assert [event.name for event in client_api.follow(other)[1]] == ["reset"]


@pytest.mark.one_process
def test_too_old_and_too_much(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """C46: a client that was away for long, or missed a great deal, loads the list anew."""
    for host in ("reference", "reference-postgresql"):
        bench = make_bench(host)
        api, thread = bench.login("client"), open_new(bench)
        follower = Follower(api)
        with monkeypatch.context() as patch:
            patch.setattr(inboxes, "MAX_REPLAY", 3)
            for _ in range(3):
                api.say(thread)
            follower.expect((SAID, thread, 1), (SAID, thread, 2), (SAID, thread, 3))
            for _ in range(4):
                api.say(thread)
            follower.expect(("reset", 0, 0))
            follower.expect()
        state = bench.state
        mark = state.inboxes.mark()
        with bench.app.app_context():
            user = bench.host.user_id("client")
        for days, names in ((0.9, []), (1.1, ["reset"]), (-1.1, ["reset"])):
            old = mark._replace(moment=mark.moment - timedelta(days=days))
            id_ = state.inboxes.cursor(user, old, [thread])
            assert [event.name for event in api.follow(id_)[1] if event.name == "reset"] == names
        ahead = state.inboxes.cursor(user, mark._replace(seen=mark.ahead + 1000), [thread])
        assert [event.name for event in api.follow(ahead)[1]] == ["reset"]


def test_ids_outlive_a_new_secret_key(make_bench: Any) -> None:
    """C46: with the former one among SECRET_KEY_FALLBACKS, as for sessions; without it, a reset."""
    bench = make_bench("reference")
    api, thread = bench.login("client"), open_new(bench)
    follower = Follower(api)
    bench.app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["test"])
    api = follower.api = bench.login("client")
    api.say(thread)
    follower.expect((SAID, thread, 1))
    bench.app.config.update(SECRET_KEY="newer", SECRET_KEY_FALLBACKS=[])
    follower.api = bench.login("client")
    follower.expect(("reset", 0, 0))


class Discreet(ChatThreadPolicy):
    """What it is told to hide, it hides; or it raises."""

    hidden: int | None = None
    raises = False

    def before(self, user: Any, ability: str) -> bool | None:
        return None

    def view(self, user: Any, thread: Any) -> bool:
        if thread.id == self.hidden and self.raises:
            raise RuntimeError("no directory")
        return bool(thread.id != self.hidden)


@pytest.mark.one_process
@pytest.mark.parametrize("raises", [False, True])
def test_what_the_policy_hides(make_bench: Any, raises: bool) -> None:
    """C46, C3: its view is asked for each thread; one that raises denies. Nothing of it comes, all else does."""
    bench = make_bench("reference")
    policy = bind(Discreet, user_key="id", request_client=None)
    policy.raises = raises
    client = bench.login("client")
    shown, hidden = open_new(bench), open_new(bench)
    bench.state.access.policy = policy
    policy.hidden = hidden
    follower = Follower(client)
    sender = bench.state.threads.get(hidden).client_id
    for thread in (shown, hidden):
        bench.state.messages.post(bench.state.threads.get(thread), sender, Draft("text", text="x"), as_admin=False)
    bench.state.threads.close(hidden)
    follower.expect((SAID, shown, 1))
    policy.hidden = shown
    events = follower.missed()
    assert events[-1].name == "reset"
    assert shown not in {event.json.get("threadId") for event in events}


@pytest.mark.database("postgresql")
@pytest.mark.parametrize("host", ["reference-postgresql", "foreign-postgresql"])
@pytest.mark.parametrize("how", ["plain", "savepoint"])
def test_a_lower_id_that_is_committed_later(make_bench: Any, host: str, how: str) -> None:
    """C46: message, thread and close in transactions that stay open while others commit, and an id is taken."""
    bench = make_bench(host)
    client = bench.login("client")
    slow, quick, closing = (open_new(bench) for _ in range(3))
    models, engine = bench.state.models, bench.state.database.engine
    request = new_request(bench)
    with bench.app.app_context():
        client_id = bench.host.user_id("client")
        request_key = models.request_key.parse(str(request))
        closing_request = bench.state.threads.get(closing).request_id
        session = bench.host.db.session
        follower = Follower(client)
        with engine.connect() as connection:
            connection.begin()
            if how == "savepoint":
                connection.begin_nested()
            insert = models.messages.insert().values(
                thread_id=slow, sender_id=client_id, type="text", text="slow", seq=1, created_at=sa.func.now()
            )
            connection.execute(models.threads.update().where(models.threads.c.id == slow).values(last_seq=1))
            connection.execute(insert)
            thread = models.threads.insert().values(
                request_id=request_key, client_id=client_id, opened_at=sa.func.now()
            )
            opening = connection.execute(thread.returning(models.threads.c.id)).scalar_one()
            assert bench.chat.close_request(session.get(bench.host.request_model, closing_request))
            client.say(quick)
            new = open_new(bench)
            assert opening < new
            follower.expect((SAID, quick, 1), (OPENED, new, 0))
            client.say(quick)
            assert (SAID, quick, 2) in brief(follower.missed())  # others are repeated: a snapshot's bounds are coarse
            connection.commit()
            session.commit()
    events = follower.missed()
    assert {(SAID, slow, 1), (OPENED, opening, 0), (CLOSED, closing, 0)} <= set(brief(events))
    assert "reset" not in {event.name for event in events}
    follower.expect()


def cursor(had: set[int], threads: int) -> cursors.Cursor:
    """As it comes back, with ``threads`` the greatest thread's id."""
    codec = cursors.Cursors(lambda: [b"secret"])
    decoded = codec.decode("1", codec.encode("1", cursors.Mark(datetime(2030, 1, 1), 5, 6, threads), had))
    assert decoded is not None
    return decoded


OLD = 200 + cursors.NEWEST
"""The greatest id where those up to 200 are none of the newest."""


def test_sums_are_explained_by_few() -> None:
    """C46: exactly those threads, though one is unsure of some; nothing else is taken for them."""
    old = cursor({1, 2, 3, 4}, OLD)
    assert old.explain({1, 2, 3, 4}, set()) == {1, 2, 3, 4}
    assert old.explain({1, 2, 3}, {4, 9}) == {1, 2, 3, 4}
    assert old.explain({1, 2, 3, 7}, {*range(4, 200)}) is None
    assert old.explain({1, 2, 3, 7}, {*range(4, 90)}) == {1, 2, 3, 4}
    assert old.explain({2, 3, 5}, set()) is None
    assert cursors.total({1, 4}) != cursors.total({2, 3})


def test_the_newest_are_known_one_by_one() -> None:
    """C46: however many were opened at once; but none that it had may be missing, or be there without a reason."""
    had = {1, *range(300, OLD + 1, 2)}
    new = cursor(had | {OLD + 1, OLD + 7}, OLD)
    everything = {1, *range(300, OLD + 1)}
    assert new.explain(everything, everything) == had
    assert new.explain(set(), everything) == had
    assert new.explain(everything, everything - {301}) is None
    assert new.explain(had - {300}, set()) is None


def test_sums_that_nothing_explains_are_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """C46: an id of a long list is looked at thread by thread, not once for each guess at what has changed."""
    looked_at: list[int] = []
    share = cursors._share
    monkeypatch.setattr(cursors, "_share", lambda thread: looked_at.append(thread) or share(thread))
    long = cursor(set(range(5000)), 5000 + cursors.NEWEST)
    looked_at.clear()
    assert long.explain(set(range(3, 203)), {*range(100, 200)}) is None
    assert len(looked_at) <= 500
