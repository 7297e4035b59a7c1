"""The gates before every route, their order, and the one error shape, on every host."""

from __future__ import annotations

import io
import logging
from typing import Any
from urllib.parse import quote

import pytest

from nursecare_chat.api.gates import MAX_BODY

from ..support.hosts import VARIED, Api, Workbench

ROUTES = [
    ("POST", "/api/requests/{request}/chat/open"),
    ("GET", "/api/chat/threads/{thread}"),
    ("GET", "/api/chat/threads/{thread}/messages"),
    ("POST", "/api/chat/threads/{thread}/messages"),
    ("POST", "/api/chat/threads/{thread}/uploads"),
    ("PATCH", "/api/chat/threads/{thread}/close"),
    ("GET", "/api/chat/threads/{thread}/stream"),
    ("GET", "/api/chat/threads/{thread}/receipt"),
    ("GET", "/api/chat/receipt-key"),
    ("GET", "/api/chat/threads"),
    ("GET", "/api/chat/openapi.json"),
    ("GET", "/api/chat/widget/nursecare-chat-elements.js"),
]
WITH_ID = [route for route in ROUTES if "{thread}" in route[1]]
UNKNOWN = [("GET", "/api/chat/"), ("GET", "/api/chat/nope/1"), ("DELETE", "/api/chat/threads/{thread}")]
ELSEWHERE = {"Sec-Fetch-Site": "cross-site"}
JSON = "application/json"


def call(api: Api, method: str, path: str, thread: int, **options: Any) -> Any:
    return api.call(method, path.format(request=api.bench.host.request_id(1), thread=thread), **options)


def assert_shape(response: Any, status: int, code: str | None = None) -> None:
    body = response.get_json()
    assert (response.status_code, set(body)) == (status, {"code", "message", "errors"})
    assert response.mimetype == JSON
    assert isinstance(body["errors"], dict)
    assert code is None or body["code"] == code


@pytest.mark.parametrize("bench", VARIED, indirect=True)
@pytest.mark.parametrize(("method", "path"), ROUTES + UNKNOWN)
def test_switched_off_is_501_before_all_else(
    bench: Workbench, nobody: Api, thread: int, method: str, path: str
) -> None:
    """C7, C11, C5: nobody logged in, a huge body, another site: 501; read from app.config on every request."""
    bench.app.config["CHAT_ENABLED"] = False
    response = call(nobody, method, path, thread, data=b"x" * (MAX_BODY + 1), headers=ELSEWHERE)
    assert_shape(response, 501)
    bench.app.config["CHAT_ENABLED"] = True
    assert call(bench.login("client"), *ROUTES[1], thread).status_code == 200


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[0] != "GET"])
def test_order_of_the_gates(bench: Workbench, thread: int, method: str, path: str) -> None:
    """C11: size → cross-site → login → lookup → policy → state → content type → validation."""
    nobody, stranger, client = bench.login(None), bench.login("client2"), bench.login("client")
    big = {"data": b"x" * (MAX_BODY + 1), "content_type": "text/plain"}
    assert_shape(call(nobody, method, path, thread, headers=ELSEWHERE, **big), 413, "body_too_large")
    assert_shape(call(nobody, method, path, thread, headers=ELSEWHERE), 403, "cross_site")
    assert_shape(call(nobody, method, path, 999), 401, "unauthenticated")
    assert_shape(call(stranger, method, path, thread, data=b"{"), 403, "forbidden")
    if path.endswith(("/messages", "/uploads")):
        assert_shape(call(stranger, method, path, 999, data=b"{"), 404, "not_found")
        assert_shape(call(client, method, path, thread, data=b"{"), 415, "unsupported_media_type")
        assert_shape(call(client, method, path, thread, data=b"{", content_type=JSON), 422, "validation_failed")
        client.close(thread)
        assert_shape(call(client, method, path, thread, data=b"{"), 403, "thread_closed")


@pytest.mark.parametrize("bench", VARIED, indirect=True)
@pytest.mark.parametrize(("method", "path"), ROUTES + UNKNOWN)
def test_nobody_is_401_json_never_a_redirect(nobody: Api, thread: int, method: str, path: str) -> None:
    """C12: whatever the host's login_view is; unknown paths too."""
    response = call(nobody, method, path, thread)
    assert_shape(response, 401, "unauthenticated")
    assert "Location" not in response.headers


def test_disabled_and_deleted_accounts_are_nobody(bench: Workbench, thread: int) -> None:
    """C11: a session that outlived its account's right to log in."""
    api = bench.login("client")
    with bench.app.app_context():
        bench.host.disable("client")
    assert_shape(api.thread(thread), 401)


def test_a_page_that_is_left_over(bench: Workbench, thread: int) -> None:
    """C11, C20: a page may say whom it was made for; the id is what the API shows, however it is typed."""
    client, admin = bench.login("client"), bench.login("admin")
    sent = client.say(thread, "mine").get_json()["seq"]
    sender = client.messages(thread).get_json()["messages"][sent - 1]["sender_id"]
    header = {"X-Chat-User": quote(str(sender), safe="")}
    path = f"/api/chat/threads/{thread}/messages"
    assert client.call("GET", path, headers=header).status_code == 200
    for api in (admin, bench.login(None)):
        for method in ("GET", "POST"):
            assert_shape(api.call(method, path, headers=header, json={} if method == "POST" else None), 401)
    for wrong in ("", "%", "٣", "x" * 300):
        assert_shape(client.call("GET", path, headers={"X-Chat-User": wrong.encode().decode("latin-1")}), 401)


def test_chunked_body_over_the_limit(client_api: Api, thread: int) -> None:
    """C11, C13: a body without a length is read to the limit and no further."""
    stream = io.BytesIO(b"x" * (10 * MAX_BODY))
    response = client_api.call(
        "POST",
        f"/api/chat/threads/{thread}/messages",
        input_stream=stream,
        content_type=JSON,
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert_shape(response, 413)
    assert stream.tell() <= 2 * MAX_BODY


def test_body_at_the_limit_is_read(client_api: Api, thread: int) -> None:
    """C13: 64 KiB is not over 64 KiB."""
    body = b'{"type":"text","text":"x"}'
    response = client_api.post(thread, body + b" " * (MAX_BODY - len(body)))
    assert response.status_code == 200
    assert_shape(client_api.post(thread, body + b" " * (MAX_BODY - len(body) + 1)), 413)


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.test"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, False),
        ({"Origin": "http://localhost"}, True),
        ({"Origin": "https://localhost"}, True),
        ({"Origin": "http://LOCALHOST"}, True),
        ({"Origin": "http://localhost:80"}, True),
        ({"Origin": "http://localhost:8080"}, False),
        ({"Origin": "https://evil.test"}, False),
        ({"Origin": "https://localhost.evil.test"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": "http://[localhost"}, False),
        ({"Origin": "https://app.trusted.test"}, True),
        ({"Origin": "http://other.trusted.test:8080"}, True),
        ({"Origin": "http://other.trusted.test"}, False),
        ({"Origin": "ftp://localhost"}, False),
        ({"Origin": "https://APP.trusted.test", "Sec-Fetch-Site": "cross-site"}, True),
        ({"Origin": "http://app.trusted.test"}, False),
    ],
)
def test_cross_site(make_bench: Any, headers: dict[str, str], passes: bool) -> None:
    """C14: fetch metadata decides, else Origin against Host; trusted origins pass; open, without a body, included."""
    api = make_bench(CHAT_TRUSTED_ORIGINS="https://App.trusted.test:443, http://other.trusted.test:8080").login(
        "client"
    )
    response = api.open(1, headers=headers)
    if passes:
        assert response.status_code == 200
    else:
        assert_shape(response, 403, "cross_site")
        with api.bench.state.database.read() as connection:
            assert connection.execute(api.bench.state.models.threads.select()).all() == []


def test_reading_from_another_site_is_the_browsers_affair(client_api: Api, thread: int) -> None:
    """C14: unsafe requests only."""
    assert client_api.call("GET", f"/api/chat/threads/{thread}", headers=ELSEWHERE).status_code == 200


@pytest.mark.parametrize("bench", VARIED, indirect=True)
@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/api/chat", 404, None),
        ("GET", "/api/chat/", 404, None),
        ("POST", "/api/chat/anything/at/all", 404, None),
        ("GET", "/api/chat/threads/{thread}/nope", 404, None),
        ("GET", "/api/chat/threads/{thread}/", 404, None),
        ("GET", "/api/chat/threads/%2e%2e", 404, None),
        ("GET", "/api/chat//threads/{thread}", 404, None),
        ("POST", "/api/chat///", 404, None),
        ("DELETE", "/api/chat/threads/{thread}", 405, "GET, HEAD"),
        ("POST", "/api/chat/threads", 405, "GET, HEAD"),
        ("GET", "/api/chat/threads/{thread}/uploads", 405, "POST"),
        ("POST", "/api/chat/media/x", 405, "GET, HEAD, PUT"),
        ("GET", "/api/chat/media", 404, None),
        ("PUT", "/api/chat/media/", 404, None),
        ("PUT", "/api/chat/media/a/b", 404, None),
        ("PUT", "/api/chat/threads/{thread}/messages", 405, "GET, HEAD, POST"),
        ("POST", "/api/chat/threads/{thread}/close", 405, "PATCH"),
        ("BREW", "/api/chat/threads/{thread}/stream", 405, "GET, HEAD"),
        ("TRACE", "/api/chat/threads/{thread}", 405, "GET, HEAD"),
        ("GET", "/api/requests/{request}/chat/open", 405, "POST"),
    ],
)
def test_unknown_paths_and_methods(
    bench: Workbench, client_api: Api, thread: int, method: str, path: str, status: int, allow: str | None
) -> None:
    """C12: our JSON 404 and 405, whatever handlers the host has."""
    response = call(client_api, method, path, thread)
    assert_shape(response, status)
    assert response.headers.get("Allow") == allow


@pytest.mark.parametrize("bench", VARIED, indirect=True)
@pytest.mark.parametrize(
    "text",
    [
        "0",
        "-1",
        "+1",
        "1_0",
        "١",
        "1e3",
        "0x1",
        "9223372036854775808",
        "9" * 400,
        "%00",
        "1%20",
        "1%0a",
        "..",
        "undefined",
    ],
)
def test_ids_that_name_nothing(client_api: Api, thread: int, text: str) -> None:
    """C13: 404 for an id in the path that names nothing, on every route."""
    for method, path in WITH_ID:
        assert_shape(client_api.call(method, path.format(thread=text)), 404)
    assert_shape(client_api.call("POST", f"/api/requests/{text}/chat/open"), 404)


def test_head_and_options(client_api: Api, nobody: Api, bench: Workbench, thread: int) -> None:
    """C11: HEAD is GET without the body, a stream included; a preflight needs no login but the flag."""
    for path in (f"/api/chat/threads/{thread}", f"/api/chat/threads/{thread}/stream"):
        response = client_api.call("HEAD", path)
        assert (response.status_code, response.data) == (200, b"")
    preflight = nobody.call("OPTIONS", f"/api/chat/threads/{thread}/messages")
    assert preflight.status_code == 200
    assert "POST" in preflight.headers["Allow"]
    bench.app.config["CHAT_ENABLED"] = False
    assert nobody.call("OPTIONS", f"/api/chat/threads/{thread}").status_code == 501


def test_answers_are_never_cached(client_api: Api, thread: int) -> None:
    """C12: private talk, so no-store and nosniff on answers and errors."""
    for response in (client_api.thread(thread), client_api.thread(999)):
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.one_process
def test_denials_and_overrides_are_logged_and_counted(
    bench: Workbench, admin_api: Api, thread: int, caplog: pytest.LogCaptureFixture
) -> None:
    """C16: with the reason, and without what was said."""
    with caplog.at_level(logging.DEBUG):
        bench.login("nurse").say(thread, "canary-text")
        bench.login(None).thread(thread)
        bench.login("client").open(1, headers=ELSEWHERE)
        admin_api.thread(thread)
        bench.login("client").close(thread)
        admin_api.say(thread, "canary-text")
    denied = [record.reason for record in caplog.records if record.getMessage() == "chat request denied"]
    assert denied == ["forbidden", "unauthenticated", "cross_site", "thread_closed"]
    override = [record for record in caplog.records if record.getMessage() == "chat admin override"]
    assert [record.ability for record in override] == ["view", "post"]
    assert "canary" not in caplog.text
    counts = bench.state.metrics.snapshot()
    assert all(counts["denials", reason] == 1 for reason in denied)
    assert counts["admin_overrides", "view"] == 1
