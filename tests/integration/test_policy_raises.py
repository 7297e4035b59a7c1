"""A policy that cannot say whether somebody may: nobody may, on any route."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from ..support.hosts import Api, Workbench
from ..support.isolation import BODIES, ROUTES

THREAD = {"thread", "messages", "post", "upload", "close", "stream", "receipt"}
DENIED = {
    "before": {"open", *THREAD},
    "is_admin": {"open", *THREAD},
    "user_id": {"open", *THREAD},
    "client_of": {"open"},
    "open": {"open"},
    "view": THREAD,
    "post": {"post", "upload"},
    "close": {"close"},
}
"""For each method of the policy the routes that are refused while it raises; ``post`` and ``close`` ask ``view``."""

ASKED = ("open", "thread", "messages", "post", "upload", "stream", "close", "receipt")
BLIND = ("before", "is_admin", "user_id", "view")
"""Without them nothing is to be seen in an inbox either."""


def unsure(*arguments: Any) -> Any:
    raise RuntimeError("no directory")


def ask(api: Api, route: str, thread: int) -> Any:
    method, path = ROUTES[route]
    options = {"json": BODIES[route]} if route in BODIES else {}
    calm = {"wsgi.multithread": False}  # a stream ends behind what is there
    return api.call(method, path.format(request=1, thread=thread), environ_overrides=calm, **options)


@pytest.fixture
def bench(make_bench: Any) -> Workbench:
    return make_bench("reference")


@pytest.mark.one_process
@pytest.mark.parametrize("raising", DENIED)
@pytest.mark.parametrize("who", ["client", "admin"])
def test_nobody_may(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, raising: str, who: str
) -> None:
    """C3, C16: 403 wherever it is asked, also where an admin's privilege was granted first; it is logged; no 5xx."""
    api = bench.login(who)
    thread = api.open(1).get_json()["threadId"]
    monkeypatch.setattr(bench.state.access.policy, raising, unsure)
    with caplog.at_level(logging.ERROR, "nursecare_chat"):
        answers = {route: ask(api, route, thread) for route in ASKED}
    refused = {route for route, answer in answers.items() if answer.status_code == 403}
    assert refused == DENIED[raising]
    assert {answers[route].get_json()["code"] for route in refused} == {"forbidden"}
    others = {answer.status_code for route, answer in answers.items() if route not in refused}
    assert others <= {200, 404}  # 404: a receipt of a chat that could not be closed
    assert "chat policy raised, denied" in caplog.text
    assert "no directory" not in caplog.text


@pytest.mark.one_process
def test_the_hosts_page_goes_on(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """C3, C7: without the chat in it."""
    api = bench.login("client")
    assert "nursecare-chat" in api.call("GET", "/requests/1").get_data(as_text=True)
    monkeypatch.setattr(bench.state.access.policy, "user_id", unsure)
    page = api.call("GET", "/requests/1")
    assert (page.status_code, "<nursecare-chat" in page.get_data(as_text=True)) == (200, False)


@pytest.mark.one_process
@pytest.mark.parametrize("raising", BLIND)
@pytest.mark.parametrize("who", ["client", "admin"])
def test_nothing_in_the_inbox(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, raising: str, who: str
) -> None:
    """C3, C16, C27, C46: neither in the list nor in its stream; it is logged."""
    api = bench.login(who)
    thread = api.open(1).get_json()["threadId"]

    def seen(since: str) -> tuple[list[int], str]:
        calm = {"wsgi.multithread": False}
        listed = api.call("GET", "/api/chat/threads")
        stream = api.call("GET", "/api/chat/stream", query_string={"lastEventId": since}, environ_overrides=calm)
        assert {listed.status_code, stream.status_code} <= {200, 403}
        return [one["threadId"] for one in (listed.get_json().get("threads") or [])], stream.get_data(as_text=True)

    _, start = seen("")
    since = start.partition("id: ")[2].partition("\n")[0]
    api.say(thread, "private")
    assert seen(since)[0] == [thread]
    assert "private" in seen(since)[1]
    monkeypatch.setattr(bench.state.access.policy, raising, unsure)
    assert "chat policy raised, denied" not in caplog.text
    listed, stream = seen(since)
    assert listed == []
    assert "chat policy raised, denied" in caplog.text
    assert "private" not in stream
