"""Anything at all in the place of an id, over HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..support.hosts import VARIED, Workbench
from ..support.sse import parse

QUICK = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
ANY = st.text(min_size=1).map(str.encode) | st.binary(min_size=1) | st.from_regex(rb"\A\s?[0-9]{1,25}\s?\Z")
"""What may stand in a path: bytes, most of them percent-encoded."""

PATHS = (
    ("POST", "/api/requests/{}/chat/open"),
    ("GET", "/api/chat/threads/{}"),
    ("GET", "/api/chat/threads/{}/messages"),
    ("POST", "/api/chat/threads/{}/messages"),
    ("POST", "/api/chat/threads/{}/uploads"),
    ("PATCH", "/api/chat/threads/{}/close"),
    ("GET", "/api/chat/threads/{}/stream"),
    ("GET", "/api/chat/threads/{}/receipt"),
    ("PUT", "/api/chat/media/{}"),
    ("GET", "/api/chat/media/{}"),
)


@pytest.mark.parametrize("name", VARIED)
def test_any_text_as_an_id_names_nothing(make_bench: Callable[..., Workbench], name: str) -> None:
    """C13, C12: 404, of a photo's address 403, and our JSON; nothing is opened, and never 5xx."""
    bench = make_bench(name)
    client = bench.login("client")
    requests = [str(bench.host.request_id(number)).encode() for number in (1, 2, 3)]

    @QUICK
    @given(ANY, st.sampled_from(PATHS))
    def refuses(given_id: bytes, route: tuple[str, str]) -> None:
        method, path = route
        if given_id in requests or (given_id.isdigit() and int(given_id) < 4):
            return
        answer = client.call(method, path.format(quote(given_id, safe="")))
        allowed = {404, 403} if "media" in path else {404}
        if b"/" in given_id:
            allowed |= {405}  # a path of another form
        assert answer.status_code in allowed, (method, path, given_id, answer.data)
        assert set(answer.get_json()) == {"code", "message", "errors"}

    refuses()
    assert client.call("GET", "/api/chat/threads").get_json()["threads"] == []


@pytest.mark.parametrize("name", VARIED)
def test_any_text_as_a_position_is_a_place_or_a_reset(make_bench: Callable[..., Workbench], name: str) -> None:
    """C30, C46, C13: of a thread's stream and of an inbox's, by header and by query; never silence, never 5xx."""
    client = make_bench(name).login("client")
    thread = client.open(1).get_json()["threadId"]
    client.say(thread)
    header = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]))

    @QUICK
    @given(st.text() | st.from_regex(r"\A[0-9]{1,20}\Z"), header, st.sampled_from([f"/threads/{thread}", ""]))
    def resumes(query: str, header: str, path: str) -> None:
        options: dict[str, Any] = {"query_string": {"lastEventId": query}}
        if header:
            options["headers"] = {"Last-Event-ID": header}
        answer = client.call("GET", f"/api/chat{path}/stream", **options)
        given_id = header.strip() or query
        assert answer.status_code == 200
        parser, events = parse(answer.data)
        assert parser.last_event_id
        if given_id and not re.fullmatch("[0-9]{1,18}", given_id):
            assert events[0].name == "reset"

    resumes()
