"""Posting and listing over HTTP, on every host."""

from __future__ import annotations

import re
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
import sqlalchemy as sa

from nursecare_chat.clock import utcnow
from nursecare_chat.errors import ThreadClosed
from nursecare_chat.service.messages import Draft

from ..support.hosts import BOTH_WAYS, VARIED, Api, Workbench


@pytest.fixture(params=BOTH_WAYS)
def bench(request: pytest.FixtureRequest, make_bench: Callable[..., Workbench]) -> Workbench:
    return make_bench(request.param)


def wire(value: object) -> object:
    return value if isinstance(value, int) else str(value)


def seqs(response: object) -> list[int]:
    return [message["seq"] for message in response.get_json()["messages"]]


def test_text_round_trip(bench: Workbench, client_api: Api, admin_api: Api, thread: int) -> None:
    """C20, C21, C15: text verbatim, every key, UTC times, numbers for seq."""
    text = "  Hi <b>&amp;</b>\r\n\u2028 \U0001f9d1\u200d\u2695\ufe0f e\u0301 \u202e' \" \\ "
    posted = client_api.say(thread, text)
    assert posted.status_code == 200
    assert posted.get_json() == {"id": posted.get_json()["id"], "seq": 1}
    (message,) = admin_api.messages(thread).get_json()["messages"]
    with bench.app.app_context():
        sender = wire(bench.host.user_id("client"))
    created = message.pop("created_at")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", created)
    assert message == {
        "id": posted.get_json()["id"], "type": "text", "text": text, "lat": None, "lng": None, "media_url": None,
        "sender_id": sender, "seq": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("lat", "lng", "expected"),
    [
        (40.7128, -74.006, (40.7128, -74.006)),
        ("40.7128", "-74.006", (40.7128, -74.006)),
        (90, -180, (90, -180)),
        ("-0.00000001", 0, (0, 0)),
        (12.34567894, "12.34567895", (12.3456789, 12.345679)),
        ("1." + "3" * 300, 1, (1.3333333, 1)),
    ],
)
def test_location_round_trip(client_api: Api, thread: int, lat: object, lng: object, expected: object) -> None:
    """C21, C20: numbers or strings in, rounded to 7 places, JSON numbers out."""
    assert client_api.post(thread, {"type": "location", "lat": lat, "lng": lng}).status_code == 200
    response = client_api.messages(thread)
    (message,) = response.get_json()["messages"]
    assert (message["lat"], message["lng"]) == expected
    assert (message["type"], message["text"]) == ("location", None)
    assert "-0" not in response.get_data(as_text=True).split('"lat"')[1].split(",")[0]


def test_null_fields_of_another_type_pass(client_api: Api, thread: int) -> None:
    """C21: only those that are not null are refused."""
    body = {"type": "text", "text": "x", "lat": None, "lng": None, "mediaPath": None, "clientMessageId": None}
    assert client_api.post(thread, body).status_code == 200


def test_text_at_the_limit(make_bench: object) -> None:
    """C21, C5: CHAT_MAX_TEXT counts characters, not bytes."""
    api = make_bench(CHAT_MAX_TEXT=3).login("client")
    thread = api.open(1).get_json()["threadId"]
    assert api.say(thread, "\U0001f9d1" * 3).status_code == 200
    refused = api.say(thread, "abcd")
    assert (refused.status_code, list(refused.get_json()["errors"])) == (422, ["text"])


@pytest.mark.parametrize("path", ["chats/1/" + "0" * 32 + ".jpg", "../etc/passwd", "", "x" * 3000, "http://localhost/"])
def test_image_needs_an_issued_path(client_api: Api, thread: int, path: str) -> None:
    """C21, C25: a path that the server did not issue to this sender is refused."""
    response = client_api.post(thread, {"type": "image", "mediaPath": path})
    assert (response.status_code, list(response.get_json()["errors"])) == (422, ["mediaPath"])
    assert client_api.thread(thread).get_json()["lastSeq"] == 0


def test_pages_see_every_message_once(client_api: Api, admin_api: Api, thread: int) -> None:
    """C19: newest page first, oldest to newest on it, exclusive cursors, also while others post."""
    for number in range(45):
        client_api.say(thread, str(number))
    seen: list[int] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        query = {"limit": 20} if cursor is None else {"limit": 20, "cursor": cursor}
        response = admin_api.messages(thread, **query)
        page = seqs(response)
        assert page == sorted(page)
        seen = page + seen
        cursor, pages = response.get_json()["nextCursor"], pages + 1
        assert cursor is None or isinstance(cursor, str)
        client_api.say(thread, "meanwhile")
    assert seen == list(range(1, 46))
    assert pages == 3


def test_cursor_from_elsewhere(client_api: Api, thread: int) -> None:
    """C19: any id is a cursor, also one of another thread, whose messages are on no page; 0 has nothing before it."""
    other = client_api.open(2).get_json()["threadId"]
    client_api.say(thread)
    foreign_id = client_api.say(other).get_json()["id"]
    client_api.say(thread)
    assert seqs(client_api.messages(thread, cursor=foreign_id)) == [1]
    assert client_api.messages(thread, cursor=0).get_json() == {"messages": [], "nextCursor": None}
    assert seqs(client_api.messages(thread, cursor=2**63 - 1)) == [1, 2]
    assert seqs(client_api.messages(other)) == seqs(client_api.messages(other, cursor=foreign_id + 1)) == [1]


def test_after_gives_what_came_later(client_api: Api, thread: int) -> None:
    """C19: oldest first, nextAfter as a string or null."""
    for number in range(5):
        client_api.say(thread, str(number))
    first = client_api.messages(thread, after=1, limit=2)
    assert seqs(first) == [2, 3]
    assert first.get_json()["nextAfter"] == "3"
    rest = client_api.messages(thread, after=first.get_json()["nextAfter"])
    assert seqs(rest) == [4, 5]
    assert rest.get_json()["nextAfter"] is None
    assert client_api.messages(thread, after=99).get_json() == {"messages": [], "nextAfter": None}


def test_limits(client_api: Api, thread: int) -> None:
    """C19: default 20, over 50 gives 50."""
    for number in range(55):
        client_api.say(thread, str(number))
    assert len(seqs(client_api.messages(thread))) == 20
    for limit in ("50", "51", "1000000", "9" * 400):
        assert len(seqs(client_api.messages(thread, limit=limit))) == 50
    assert len(seqs(client_api.messages(thread, limit="007"))) == 7


@pytest.mark.parametrize("bench", VARIED, indirect=True)
@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"}, {"limit": "-1"}, {"limit": "1.5"}, {"limit": "abc"}, {"limit": ""}, {"limit": "١٢"},
        {"limit": "1_0"}, {"limit": "000"}, {"cursor": "-1"}, {"cursor": "9" * 30}, {"cursor": "x"}, {"cursor": ""},
        {"cursor": "1_0"}, {"cursor": "١٢"}, {"cursor": "1\n"}, {"after": "-1"}, {"after": "9223372036854775808"},
        {"after": "0x1"}, {"cursor": "1", "after": "1"},
    ],
)  # fmt: skip
def test_bad_queries(client_api: Api, thread: int, query: dict[str, str]) -> None:
    """C13, C19: 422 with the field named."""
    response = client_api.messages(thread, **query)
    assert (response.status_code, response.get_json()["code"]) == (422, "validation_failed")
    assert set(response.get_json()["errors"]) <= set(query)


def test_unknown_query_parameters_are_ignored(client_api: Api, thread: int) -> None:
    """C13."""
    assert client_api.messages(thread, utm="1", lastEventId="x").status_code == 200


def test_retry_gives_the_same_answer(client_api: Api, admin_api: Api, thread: int) -> None:
    """C23: one row; compared as validated, so 1.0 and "1" are the same."""
    body = {"type": "location", "lat": 1.0, "lng": "2", "clientMessageId": "retry-1"}
    again = {"type": "location", "lat": "1.00000000", "lng": 2, "clientMessageId": "retry-1", "text": None}
    first, second = client_api.post(thread, body), client_api.post(thread, again)
    assert first.status_code == second.status_code == 200
    assert first.get_json() == second.get_json()
    assert client_api.thread(thread).get_json()["lastSeq"] == 1
    assert client_api.say(thread).get_json()["seq"] == 2


def test_another_body_under_one_id(client_api: Api, thread: int) -> None:
    """C23: 422, and nothing is written."""
    client_api.say(thread, "one", clientMessageId="a")
    response = client_api.say(thread, "two", clientMessageId="a")
    assert (response.status_code, list(response.get_json()["errors"])) == (422, ["clientMessageId"])
    assert client_api.thread(thread).get_json()["lastSeq"] == 1


def test_client_message_ids_are_per_sender_and_thread(
    bench: Workbench, client_api: Api, admin_api: Api, thread: int
) -> None:
    """C8, C23: unique per (thread, sender); what the index holds tells nothing of the id, nor where it came again."""
    other = client_api.open(2).get_json()["threadId"]
    answers = [
        client_api.say(thread, "a", clientMessageId="same"),
        admin_api.say(thread, "b", clientMessageId="same"),
        client_api.say(other, "c", clientMessageId="same"),
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.get_json()["id"] for answer in answers}) == 3
    key = bench.state.models.messages.c.client_message_key
    with bench.state.database.read() as connection:
        here, _, there = connection.scalars(sa.select(key).order_by(bench.state.models.messages.c.id))
    assert here != there
    assert not any(b"same" in one for one in (here, there))


def test_a_retry_while_the_hosts_key_changes(bench: Workbench, client_api: Api, thread: int) -> None:
    """C23: with Flask's SECRET_KEY_FALLBACKS the same post is still found."""
    first = client_api.say(thread, "once", clientMessageId="r").get_json()
    bench.app.config["SECRET_KEY_FALLBACKS"] = [bench.app.secret_key]
    bench.app.secret_key = "the next one"
    again = bench.login("client").say(thread, "once", clientMessageId="r")
    bench.app.secret_key, bench.app.config["SECRET_KEY_FALLBACKS"] = bench.app.config["SECRET_KEY_FALLBACKS"][0], []
    assert again.get_json() == first


def test_only_the_sender_sees_the_client_message_id(client_api: Api, admin_api: Api, thread: int) -> None:
    """C20."""
    client_api.say(thread, clientMessageId="mine ~ !")
    assert client_api.messages(thread).get_json()["messages"][0]["clientMessageId"] == "mine ~ !"
    assert "clientMessageId" not in admin_api.messages(thread).get_json()["messages"][0]


@pytest.mark.parametrize("host", ["reference", "foreign", "reference-postgresql", "foreign-postgresql"])
def test_the_same_post_twelve_times_at_once(make_bench: Any, host: str) -> None:
    """C23: rows 1 of 12, one id; on files, for threads cannot share an in-memory connection."""
    bench = make_bench(host)
    thread = bench.login("client").open(1).get_json()["threadId"]
    apis = [bench.login("client") for _ in range(12)]
    answers: list[object] = []
    workers = [Thread(target=lambda api=api: answers.append(api.say(thread, clientMessageId="k"))) for api in apis]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.get_json()["id"] for answer in answers}) == 1
    assert apis[0].thread(thread).get_json()["lastSeq"] == 1


@pytest.mark.parametrize("client_message_id", [None, "new", "old"])
def test_a_post_that_passed_the_gates_before_the_close(
    bench: Workbench, thread: int, client_message_id: str | None
) -> None:
    """C10, C22: the statement that takes the seq proves the thread open, whatever was read before; for a retry, too."""
    bench.login("client").say(thread, "late", clientMessageId="old")
    with bench.state.database.write() as unit:
        unit.connection.execute(bench.state.models.threads.update().values(status="closed", closed_at=utcnow()))
    with bench.app.app_context():
        seen = bench.state.threads.get(thread)
        sender = bench.host.user_id("client")
        draft = Draft("text", text="late", client_message_id=client_message_id)
        with pytest.raises(ThreadClosed):
            bench.state.messages.post(seen, sender, draft, as_admin=False)
    assert len(bench.login("client").messages(thread).get_json()["messages"]) == 1


def test_closed_thread_takes_nothing(bench: Workbench, client_api: Api, admin_api: Api, thread: int) -> None:
    """C22: for everyone who passes the policy, admins and retries included; strangers are just forbidden."""
    client_api.say(thread, "hello", clientMessageId="r")
    client_api.close(thread)
    for response in (
        client_api.say(thread),
        admin_api.say(thread),
        client_api.say(thread, "hello", clientMessageId="r"),
        client_api.post(thread, b"{", content_type="text/plain"),
    ):
        assert (response.status_code, response.get_json()["code"]) == (403, "thread_closed")
    assert bench.login("nurse").say(thread).get_json()["code"] == "forbidden"
    assert client_api.thread(thread).get_json()["lastSeq"] == 1
