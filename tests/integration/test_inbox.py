"""The inbox over HTTP, on every host."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from nursecare_chat import ChatThreadPolicy
from nursecare_chat.policy import bind

from ..support.hosts import VARIED, Api, Workbench


def inbox(api: Api, **query: Any) -> Any:
    return api.call("GET", "/api/chat/threads", query_string=query)


def ids(response: Any) -> list[int]:
    return [thread["threadId"] for thread in response.get_json()["threads"]]


def open_new(bench: Workbench, who: str = "client", by: str | None = None) -> int:
    """The thread of a fresh request of ``who``."""
    with bench.app.app_context():
        request_id = bench.host.new_request(who)
    answer = bench.login(by or who).call("POST", f"/api/requests/{request_id}/chat/open")
    thread: int = answer.get_json()["threadId"]
    return thread


def test_whose_threads_are_listed(bench: Workbench, client_api: Api, admin_api: Api, nurse_api: Api) -> None:
    """C27: a client's own; an admin's own and the unclaimed ones; anyone else an empty list. Newest first."""
    unclaimed = open_new(bench)
    mine = open_new(bench, by="admin")
    anothers = open_new(bench, by="admin2")
    others = open_new(bench, "client2")
    assert ids(inbox(client_api)) == [anothers, mine, unclaimed]
    assert ids(inbox(bench.login("client2"))) == [others]
    assert ids(inbox(admin_api)) == [others, mine, unclaimed]
    assert ids(inbox(bench.login("admin2"))) == [others, anothers, unclaimed]
    assert inbox(nurse_api).get_json() == {"threads": [], "nextCursor": None}
    assert inbox(bench.login(None)).status_code == 401


def test_an_admin_who_is_a_client_too(bench: Workbench, admin_api: Api) -> None:
    """C27: their own requests' chats, each once."""
    theirs = open_new(bench, "admin", by="admin2")
    both = open_new(bench, "admin")
    assert ids(inbox(admin_api)) == [both, theirs]


def test_the_same_objects(client_api: Api, thread: int) -> None:
    """C27: as GET …/threads/{threadId} gives them."""
    client_api.say(thread)
    assert inbox(client_api).get_json()["threads"] == [client_api.thread(thread).get_json()]


def test_by_status(bench: Workbench, client_api: Api, admin_api: Api) -> None:
    """C27: open, closed, or both."""
    first, second, third = (open_new(bench) for _ in range(3))
    client_api.close(second)
    for api in (client_api, admin_api):
        assert ids(inbox(api, status="open")) == [third, first]
        assert ids(inbox(api, status="closed")) == [second]
        assert ids(inbox(api)) == [third, second, first]


@pytest.mark.parametrize("bench", VARIED, indirect=True)
@pytest.mark.parametrize(
    "query",
    [
        {"status": "ajar"}, {"status": ""}, {"status": "OPEN"}, {"status": "open\0"}, {"limit": "0"}, {"limit": "x"},
        {"limit": "١"}, {"cursor": "-1"}, {"cursor": "x"}, {"cursor": "9" * 30}, {"cursor": "1_0"}, {"cursor": ""},
    ],
)  # fmt: skip
def test_bad_queries(client_api: Api, query: dict[str, str]) -> None:
    """C27, C13: unknown status, and the rest as strictly as for messages."""
    response = inbox(client_api, **query)
    assert (response.status_code, set(response.get_json()["errors"])) == (422, set(query))
    assert inbox(client_api, utm="1").status_code == 200


@pytest.mark.parametrize("who", ["client", "admin"])
@pytest.mark.parametrize("status", [None, "open"])
def test_pages_see_every_thread_once(bench: Workbench, who: str, status: str | None) -> None:
    """C27: exclusive cursors, also while new threads come."""
    expected = [open_new(bench, by="admin" if number % 3 else None) for number in range(11)]
    api = bench.login(who)
    seen: list[int] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        query = {"limit": 4} | ({"cursor": cursor} if cursor else {}) | ({"status": status} if status else {})
        response = inbox(api, **query)
        seen += ids(response)
        cursor, pages = response.get_json()["nextCursor"], pages + 1
        assert cursor is None or isinstance(cursor, str)
        open_new(bench)
    assert seen == expected[::-1]
    assert pages == 3


def test_limits(bench: Workbench, client_api: Api) -> None:
    """C27: default 20, over 50 gives 50."""
    newest = open_new(bench)
    table = bench.state.models.threads
    with bench.app.app_context():
        requests = [bench.host.new_request("client") for _ in range(54)]
        client = bench.host.user_id("client")
    with bench.state.database.write() as unit:
        opened = unit.connection.scalar(sa.select(table.c.opened_at).where(table.c.id == newest))
        rows = [{"request_id": request, "client_id": client, "opened_at": opened} for request in requests]
        unit.connection.execute(table.insert(), rows)
    assert len(ids(inbox(client_api))) == 20
    assert len(ids(inbox(client_api, limit=51))) == 50
    assert inbox(client_api, limit=50).get_json()["nextCursor"] is not None


class Discreet(ChatThreadPolicy):
    """Even the client may not look at request 2's chat."""

    def view(self, user: Any, thread: Any) -> bool:
        return super().view(user, thread) and thread.request_id != 2


def test_what_the_policy_hides(make_bench: Any) -> None:
    """C27, C3: is not listed; the cursor goes on behind it."""
    bench = make_bench("reference")
    api = bench.login("client")
    for number in (1, 2):
        api.open(number)
    bench.state.access.policy = bind(Discreet, user_key="id", request_client=None)
    assert inbox(api, limit=1).get_json() == {"threads": [], "nextCursor": "2"}
    assert [thread["requestId"] for thread in inbox(api, limit=1, cursor=2).get_json()["threads"]] == [1]


@pytest.mark.one_process
def test_what_everybody_may_view(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """C27: is listed for those whom it concerns all the same, and for nobody else."""
    bench = make_bench("reference")
    thread = open_new(bench)
    monkeypatch.setattr(bench.state.access.policy, "view", lambda user, thread: True)
    listed = {who: ids(inbox(bench.login(who))) for who in ("client", "client2", "nurse", "admin")}
    assert listed == {"client": [thread], "client2": [], "nurse": [], "admin": [thread]}
