"""The OpenAPI document, made from the schemas that validate and from what stands beside the views (contract C28)."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Response, current_app

from ..config import ChatConfig
from ..keys import MAX_BIGINT, HostKey
from ..state import ChatState, current
from . import fields, gates, schemas
from .describe import JSON, Description, describe
from .links import LINKS
from .responses import answer

OPENAPI = "3.1.0"
LOGIN = "session"

EXPLAINED = {
    400: "The body breaks off.",
    401: "Nobody is logged in.",
    403: "Not allowed: `forbidden`, `thread_closed`, `cross_site`, or `bad_signature`.",
    404: "It names nothing.",
    409: "Something was uploaded to this address before.",
    413: "The body is too large.",
    415: "The body has another content type.",
    422: "The body or the query does not validate; `errors` says where.",
    429: "Too often: `rate_limited` or `too_many_uploads`; `Retry-After` says when to try again.",
    501: "The chat is switched off.",
    503: "The database or the storage is away; try again after `Retry-After` seconds.",
}
EVERYWHERE = (501, 503)
WITH_LOGIN = (400, 401, 413)
WITH_RETRY = (429, 503)
WITHOUT_NUL = r"^[^\u0000]*$"
NOT_BLANK = r"[^\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
"""A character that ``str.strip`` leaves: ECMA's ``\\S`` is another set than Python's."""
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")


@describe("Read this document")
def show_document() -> Response:
    return answer(document(current()))


def document(chat: ChatState) -> dict[str, Any]:
    """For the current application: with its key types, limits and session cookie."""
    from . import ROUTES  # which has this view in it

    plugin = MarshmallowPlugin()
    servers = [{"url": gates.mount() or "/"}]
    spec = APISpec("NurseCare Chat", version("nursecare-chat"), OPENAPI, plugins=[plugin], servers=servers)
    plugin.converter.add_attribute_function(lambda converter, field, **kwargs: _shape(field, chat))
    cookie = {"type": "apiKey", "in": "cookie", "name": current_app.config["SESSION_COOKIE_NAME"]}
    spec.components.security_scheme(LOGIN, cookie)
    in_path = {
        "thread_id": ("threadId", _int64(1)),
        "request_id": ("requestId", {"type": _kind(chat.models.request_key)}),
        "token": ("token", {"type": "string"}),
    }
    for method, rule, view in ROUTES:
        path, operation = rule, _operation(view.__name__, view.description, method)
        operation["tags"] = [view.__module__.rpartition(".")[2]]
        for placeholder, name in re.findall(r"(<(?:[a-z_]+:)?([a-z_]+)>)", rule):
            shown, schema = in_path[name]
            path = path.replace(placeholder, f"{{{shown}}}")
            operation["parameters"].insert(0, {"in": "path", "name": shown, "required": True, "schema": schema})
        spec.path(path, operations={method.lower(): operation})
    shown = spec.to_dict()
    shown["components"]["schemas"]["PostMessageBody"]["oneOf"] = [_message(kind) for kind in schemas.MESSAGE_TYPES]
    return shown


def _message(kind: str) -> dict[str, Any]:
    """What a message of this type needs; the other types' fields may only be null."""
    properties: dict[str, Any] = {"type": {"const": kind}}
    for other, names in schemas.CONTENT_FIELDS.items():
        for name in names:
            properties[name] = {"not": {"type": "null"}} if other == kind else {"type": "null"}
    if kind == "text":
        properties["text"] = {"type": "string", "pattern": NOT_BLANK}
    return {"properties": properties, "required": list(schemas.CONTENT_FIELDS[kind])}


def _operation(name: str, described: Description, method: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": described.summary,
        "description": described.note,
        "security": [] if described.signed else [{LOGIN: []}],
        "parameters": [
            *({"in": "header", "name": name, "schema": {"type": "string"}} for name in described.headers),
            *([{"in": "query", "schema": described.query}] if described.query is not None else []),
        ],
        "responses": {},
    }
    if described.body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": described.body}}}
    elif described.takes:
        operation["requestBody"] = {"required": True, "content": _binary(described.takes)}
    responses = operation["responses"]
    success: dict[str, Any] = {"description": "Done."}
    if described.gives:
        binary = described.answer is None and described.gives != (JSON,)
        schema = described.answer or {"type": "object"}
        success["content"] = _binary(described.gives) if binary else {JSON: {"schema": schema}}
    if name in LINKS:
        success["links"] = LINKS[name]
    responses[str(described.status)] = success
    for status, meaning in described.also.items():
        responses[str(status)] = {"description": meaning}
    common = EVERYWHERE if described.signed else (*EVERYWHERE, *WITH_LOGIN, *((403,) if method in UNSAFE else ()))
    for status in sorted({*described.errors, *common}):
        responses[str(status)] = {"description": EXPLAINED[status], "content": {JSON: {"schema": schemas.Error}}}
        if status in WITH_RETRY:
            responses[str(status)]["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}}
    return operation


def _binary(content_types: tuple[str, ...]) -> dict[str, Any]:
    return {content_type: {"schema": {"type": "string"}} for content_type in content_types}


def _int64(minimum: int = 0) -> dict[str, Any]:
    return {"type": "integer", "format": "int64", "minimum": minimum, "maximum": MAX_BIGINT}


def _kind(key: HostKey) -> str:
    return "integer" if issubclass(key.python_type, int) else "string"


def _shape(field: Any, chat: ChatState) -> dict[str, Any]:
    """What fields of our own look like, with the limits of this application."""
    config: ChatConfig = chat.config
    if isinstance(field, fields.QueryId):
        return _int64()
    if isinstance(field, fields.Limit):
        return {"type": "integer", "minimum": 1}
    if isinstance(field, fields.Bytes):
        return {"type": "integer", "minimum": 1, "maximum": config.max_image_bytes}
    if isinstance(field, fields.Coordinate):
        number = {"type": "number", "minimum": -field.bound, "maximum": field.bound}
        return {"anyOf": [number, {"type": "string", "pattern": f"^{fields.WITHIN[field.bound]}$"}, {"type": "null"}]}
    if isinstance(field, fields.HostId):
        kind = _kind(chat.models.request_key if field.name == "requestId" else chat.models.user_key)
        return {"type": [kind, "null"] if field.allow_none else kind}
    if isinstance(field, fields.Time):
        return {"format": "date-time"}
    if field.name == "contentType" and field.parent is not None:
        return {"enum": list(config.allowed_image_mime)}
    if field.parent is not None and isinstance(field.parent, schemas.PostMessageBody):
        # Python's \A and \Z are unknown to JSON Schema, whose ^ and $ are what they are.
        return {
            "text": {"maxLength": config.max_text, "pattern": WITHOUT_NUL},
            "mediaPath": {"pattern": WITHOUT_NUL},
            "clientMessageId": {"pattern": "^[ -~]{1,64}$"},
        }.get(field.name, {})
    return {}
