"""The OpenAPI document says what the API does: held against the routes, against real answers, and against fuzzing."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator
from PIL import Image

from ..support.databases import Databases
from ..support.fuzzing.run import fuzz
from ..support.hosts import Api, Workbench
from ..support.report import note

DOCUMENT = "/api/chat/openapi.json"
SELDOM = {"show_document", "show_receipt", "show_receipt_key", "get_media"}
"""What so few requests do not always come to: a photo is shown after it was asked for, uploaded and posted."""


def document(bench: Workbench) -> dict[str, Any]:
    shown: dict[str, Any] = bench.login("nurse").call("GET", DOCUMENT).get_json()
    return shown


def operations(shown: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in shown["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def test_it_needs_a_login(nobody: Api) -> None:
    """C28: like everything else."""
    assert nobody.call("GET", DOCUMENT).status_code == 401


def test_it_is_sound(bench: Workbench) -> None:
    """C28: an OpenAPI 3.1 document, which says of every operation that it needs a login, or nothing."""
    shown = document(bench)
    assert shown["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(shown).validate()
    names = [operation["operationId"] for _, _, operation in operations(shown)]
    assert len(names) == len(set(names))
    for path, _, operation in operations(shown):
        assert operation["security"] == ([] if "/media/" in path else [{"session": []}])
    for schema in shown["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_it_has_every_route_and_nothing_else(bench: Workbench) -> None:
    """C28: with its methods, as the application's own URL map has them; the metrics are the operator's affair, the
    widget's files the browser's."""
    routes = set()
    for rule in bench.app.url_map.iter_rules():
        if rule.endpoint.startswith("nursecare_chat.") and rule.methods is not None:
            path = re.sub(r"<(?:\w+:)?(\w+?)(?:_id)?>", r"{\1}", rule.rule)
            routes |= {(path, method) for method in rule.methods - {"HEAD", "OPTIONS"}}
    shown = {(path.replace("Id}", "}"), method) for path, method, _ in operations(document(bench))}
    assert shown == {route for route in routes if not route[0].startswith(("/api/chat/metrics", "/api/chat/widget/"))}


def test_it_names_the_hosts_key_types(bench: Workbench) -> None:
    """C28, C2: integers are numbers, UUIDs are strings, in paths and in answers."""
    shown = document(bench)
    kind = "string" if bench.host.application == "foreign" else "integer"
    (in_path,) = shown["paths"]["/api/requests/{requestId}/chat/open"]["post"]["parameters"]
    schemas = shown["components"]["schemas"]
    assert in_path["schema"]["type"] == kind
    assert schemas["Message"]["properties"]["sender_id"]["type"] == kind
    thread = schemas["Thread"]["properties"]
    assert [thread[name]["type"] for name in ("requestId", "clientId", "adminId")] == [kind, kind, [kind, "null"]]


def test_it_names_the_limits(make_bench: Callable[..., Workbench]) -> None:
    """C28, C5: those that this application was given."""
    bench = make_bench(CHAT_MAX_TEXT=7, CHAT_MAX_IMAGE_BYTES=1234, CHAT_ALLOWED_IMAGE_MIME="image/png")
    bench.app.config["SESSION_COOKIE_NAME"] = "biscuit"
    shown = document(bench)
    schemas = shown["components"]["schemas"]
    assert schemas["PostMessageBody"]["properties"]["text"]["maxLength"] == 7
    upload = schemas["UploadBody"]["properties"]
    assert (upload["contentType"]["enum"], upload["size"]["maximum"]) == (["image/png"], 1234)
    assert shown["components"]["securitySchemes"]["session"]["name"] == "biscuit"


BODIES = {
    True: [
        {"type": "text", "text": "x" * 5000, "clientMessageId": " ~" * 32},
        {"type": "text", "text": "x", "lat": None, "mediaPath": None, "clientMessageId": None},
        {"type": "text", "text": "\ufeff"},
        {"type": "location", "lat": -90, "lng": "179.12345678"},
        {"type": "location", "lat": "-090.0", "lng": "-180"},
        {"type": "image", "mediaPath": "chats/1/x.png"},
    ],
    False: [
        {},
        [],
        {"type": "text"},
        {"type": "text", "text": " \n"},
        {"type": "text", "text": "\x1c\x85"},
        {"type": "text", "text": "x\0"},
        {"type": "image", "mediaPath": "x\0"},
        {"type": "text", "text": "x" * 5001},
        {"type": "text", "text": "x", "lat": 1},
        {"type": "text", "text": "x", "more": 1},
        {"type": "text", "text": "x", "clientMessageId": "x" * 65},
        {"type": "text", "text": "x", "clientMessageId": ""},
        {"type": "location", "lat": 91, "lng": 1},
        {"type": "location", "lat": "1e1", "lng": 1},
        {"type": "location", "lat": "90.1", "lng": 1},
        {"type": "location", "lat": 1, "lng": "-181"},
        {"type": "image"},
        {"type": "image", "mediaPath": "x", "text": "x"},
        {"type": "sound"},
    ],
}


def test_its_messages_are_those_that_pass(make_bench: Callable[..., Workbench]) -> None:
    """C28, C21, C23: what validates against the document is accepted, what does not is 422."""
    bench = make_bench()
    schema = Draft202012Validator(document(bench)["components"]["schemas"]["PostMessageBody"])
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    for sound, bodies in BODIES.items():
        for body in bodies:
            assert schema.is_valid(body) is sound, body
            accepted = sound and body["type"] != "image"  # that path was never issued
            assert api.post(thread, body).status_code == (200 if accepted else 422), body


class Witness:
    """Calls the API and holds each answer against the document."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.document = document(bench)
        self.seen: set[tuple[str, int]] = set()

    def __call__(self, api: Api, name: str, status: int, *ids: Any, **options: Any) -> Any:
        ((path, method, operation),) = [found for found in operations(self.document) if found[2]["operationId"] == name]
        for given_id in ids:
            path = re.sub(r"\{\w+\}", str(given_id), path, count=1)
        response = api.call(method, path, **options)
        assert response.status_code == status, (name, response.data)
        content = operation["responses"][str(status)].get("content")
        if content is None:
            assert response.data == b""
        else:
            assert response.mimetype in content
        if response.mimetype == "application/json" and content is not None:
            schema = content["application/json"]["schema"] | {"components": self.document["components"]}
            Draft202012Validator(schema, format_checker=FormatChecker()).validate(response.get_json())
        for header, shape in operation["responses"][str(status)].get("headers", {}).items():
            assert shape["schema"]["type"] == "integer"
            assert int(response.headers[header]) >= 1
        self.seen.add((name, status))
        return response


@pytest.mark.one_process
def test_every_answer_is_as_it_says(bench: Workbench) -> None:
    """C28, C12, C20, C24, C26, C27: status, content type and body of every route's answers, good and bad."""
    says, host = Witness(bench), bench.host
    client, admin, nurse, nobody = (bench.login(who) for who in ("client", "admin", "nurse", None))
    file, text = io.BytesIO(), {"type": "text", "text": "hello"}
    Image.new("RGB", (2, 2)).save(file, "PNG")
    image = file.getvalue()
    says(client, "show_document", 200)
    says(client, "list_threads", 200)
    request = host.request_id(1)
    thread = says(client, "open_thread", 200, request).get_json()["threadId"]
    says(admin, "open_thread", 200, request)
    says(nurse, "open_thread", 403, request)
    says(admin, "open_thread", 404, host.request_id(99))
    says(client, "post_message", 200, thread, json=text | {"clientMessageId": "once"})
    says(admin, "post_message", 200, thread, json={"type": "location", "lat": "1.5", "lng": -2})
    says(client, "post_message", 415, thread, data="x", content_type="text/plain")
    says(client, "post_message", 422, thread, json={})
    says(client, "post_message", 413, thread, data=b" " * 70_000, content_type="application/json")
    says(client, "post_message", 404, 99_999, json=text)
    says(nurse, "post_message", 403, thread, json=text)
    says(client, "post_message", 403, thread, json=text, headers={"Sec-Fetch-Site": "cross-site"})
    wish = {"contentType": "image/png", "size": len(image)}
    issued = says(client, "issue_upload", 200, thread, json=wish).get_json()
    token = issued["uploadUrl"].rpartition("/")[2]
    assert issued["method"] == "PUT"
    says(nobody, "put_media", 415, token, data=image, content_type="image/jpeg")
    says(nobody, "put_media", 413, token, data=image + b"x", content_type="image/png")
    says(nobody, "put_media", 201, token, data=image, content_type="image/png")
    says(nobody, "put_media", 409, token, data=image, content_type="image/png")
    says(nobody, "put_media", 403, token + "x", data=image, content_type="image/png")
    posted = says(client, "post_message", 200, thread, json={"type": "image", "mediaPath": issued["mediaPath"]})
    shown = posted.get_json()["media_url"].rpartition("/")[2]
    says(nobody, "get_media", 200, shown)
    says(nobody, "get_media", 403, shown + "x")
    for _ in range(5):
        says(client, "issue_upload", 200, thread, json=wish)
    says(client, "issue_upload", 429, thread, json=wish)
    says(client, "issue_upload", 422, thread, json={"contentType": "image/png", "size": 0})
    for who in (client, admin):
        says(who, "list_messages", 200, thread)
        says(who, "list_messages", 200, thread, query_string={"after": 1})
        says(who, "list_threads", 200, query_string={"limit": 1, "status": "open"})
        says(who, "show_thread", 200, thread)
        says(who, "stream_thread", 200, thread)
        says(who, "stream_inbox", 200)
    says(client, "list_messages", 422, thread, query_string={"limit": 0})
    says(client, "list_messages", 422, thread, query_string={"after": 1, "cursor": 1})
    says(client, "list_threads", 422, query_string={"status": "ajar"})
    says(client, "show_thread", 404, 99_999)
    says(client, "show_receipt", 404, thread)
    says(client, "show_receipt_key", 200)
    says(nurse, "show_thread", 403, thread)
    says(nurse, "close_thread", 403, thread)
    says(client, "close_thread", 200, thread)
    says(client, "close_thread", 200, thread)
    says(client, "show_receipt", 200, thread)
    says(nurse, "show_receipt", 403, thread)
    says(client, "open_thread", 200, request)
    says(client, "show_thread", 200, thread)
    says(client, "list_messages", 200, thread)
    says(client, "stream_thread", 204, thread, headers={"Last-Event-ID": "4"})
    says(client, "post_message", 403, thread, json=text)
    says(nobody, "get_media", 404, shown)
    every = [operation["operationId"] for _, _, operation in operations(says.document)]
    ids = {"open_thread": (request,), "list_threads": (), "show_document": (), "show_receipt_key": ()}
    for name in every:
        if not name.endswith("_media"):
            says(nobody, name, 401, *ids.get(name, (thread,)))
    bench.app.config["CHAT_ENABLED"] = False
    for name in every:
        says(client, name, 501, *ids.get(name, (thread,)))
    assert {name for name, status in says.seen if status < 300} == set(every)


@pytest.mark.one_process("memory")
def test_a_rate_that_is_exceeded(make_bench: Callable[..., Workbench]) -> None:
    """C28, C13: 429 with the seconds to wait, on each route that is limited."""
    bench = make_bench(CHAT_RATE_OPEN="1/hour", CHAT_RATE_POST="1/hour", CHAT_RATE_UPLOAD="1/hour")
    says, client = Witness(bench), bench.login("client")
    thread = says(client, "open_thread", 200, 1).get_json()["threadId"]
    says(client, "open_thread", 429, 1)
    bodies = {"post_message": {"type": "text", "text": "x"}, "issue_upload": {"contentType": "image/png", "size": 9}}
    for name, body in bodies.items():
        says(client, name, 200, thread, json=body)
        says(client, name, 429, thread, json=body)


@pytest.mark.parametrize(
    ("database", "seed"),
    [
        pytest.param("sqlite", 2, marks=pytest.mark.database("sqlite")),
        pytest.param("postgresql", 3, marks=pytest.mark.database("postgresql")),
    ],
)
def test_nothing_made_from_it_surprises(
    databases: Databases, database: str, seed: int, request: pytest.FixtureRequest
) -> None:
    """C28, C11, C12, C13, C29: no 5xx, and no answer that the document does not have; a body that breaks it is refused,
    one that keeps to it is not, nobody without a login gets anything, and no other person's chat shows. Every operation
    alone and along the links, on either host; ``script/fuzz`` does more of the same.
    """
    tally, operations = fuzz(database, seed, 250, databases=databases)
    assert [f"{failure}" for failure in tally.failures.values()] == []
    assert set(tally.never_reached(operations)) <= SELDOM
    assert len(tally.followed) > 25
    note(f"requests fuzzed, {database}", request.node.nodeid, tally.requests)


def test_links_lead_somewhere(bench: Workbench) -> None:
    """C28: to operations that there are, by parameters that those have; all but the two that say nothing of others have
    some, and every operation but the document itself can be reached."""
    shown = document(bench)
    known = {operation["operationId"]: (path, operation) for path, _, operation in operations(shown)}
    targets, sources = set(), set()
    for name, (_, operation) in known.items():
        for answer in operation["responses"].values():
            for link in answer.get("links", {}).values():
                path, target = known[link["operationId"]]
                takes = set(re.findall(r"{(\w+)}", path)) | {parameter["name"] for parameter in target["parameters"]}
                assert set(link["parameters"]) <= takes, (name, link)
                assert set(re.findall(r"{(\w+)}", path)) <= set(link["parameters"])
                targets.add(link["operationId"])
                sources.add(name)
    assert set(known) - targets == {"show_document"}
    assert set(known) - sources == {"show_document", "show_receipt_key"}
