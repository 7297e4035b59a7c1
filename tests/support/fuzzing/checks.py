"""What is asked of every answer (contract C11 to C13, C28)."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from .document import Document
from .people import ADMINS, NOBODY, hidden_from

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
TELLING = ("Traceback (most recent call last)", 'File "/', "sqlalchemy", "psycopg", "sqlite3")
"""What an answer has when it says how the server is made."""

DEPENDS = {"mediaPath", "clientMessageId"}
"""Whether these pass depends on what was uploaded and posted before, and the document cannot say so."""


def complaints(
    document: Document, name: str, case: Any, response: Any, who: str, mode: GenerationMode
) -> Iterator[tuple[str, str]]:
    """A title and a message for everything that is wrong."""
    status, text = response.status_code, response.content.decode("utf-8", "replace")
    try:
        case.validate_response(response, checks=CHECKS)
    except (FailureGroup, Failure) as failed:
        for one in failed.exceptions if isinstance(failed, FailureGroup) else [failed]:
            yield one.title, one.message
    if status < 300 and who == NOBODY and name in document.with_login:
        yield "answers somebody without a login", text
    for canary in hidden_from(who):
        if canary in text:
            yield "tells of another person's chat", text
    if "text/event-stream" in str(response.headers.get("content-type")) or status >= 400:
        for telling in TELLING:
            if telling in text and telling not in str(response.request.body):
                yield "tells how the server is made", text
    if response.headers.get("cache-control") != ["no-store"]:
        yield "may be kept by a cache", str(response.headers)
    if name in ("post_message", "issue_upload"):
        yield from _body_complaints(document, name, response, mode)


def strangers(owners: dict[Any, str], name: str, case: Any, response: Any, who: str) -> Iterator[tuple[str, str]]:
    """A client sees and changes chats of their own alone, who has no role none; admins may do all of it.

    :param owners: by threads whose they are; others are not looked at.
    """
    if who in ADMINS or response.status_code >= 300:
        return
    asked = [(case.path_parameters or {}).get("threadId")]
    if name == "list_threads":
        asked = [thread["threadId"] for thread in json.loads(response.content)["threads"]]
    for thread in asked:
        if owners.get(thread, who) != who:
            yield "lets a stranger in", f"thread {thread} is {owners[thread]}'s"


def _body_complaints(document: Document, name: str, response: Any, mode: GenerationMode) -> Iterator[tuple[str, str]]:
    """A body that breaks the document is refused; one that keeps to it is not, unless for what came before it."""
    sent = response.request.body
    try:
        takes = document.takes(name, json.loads(sent))
    except (TypeError, ValueError):
        takes = False
    if not takes and response.status_code < 400:
        yield "a body that the document does not have is accepted", response.content.decode()
    if takes and response.status_code == 422 and mode is GenerationMode.POSITIVE:
        errors = set(json.loads(response.content)["errors"])
        if not errors or errors - DEPENDS:
            yield "a body that the document has is refused", response.content.decode()


def as_curl(request: Any) -> str:
    """A request as a command line, without the login."""
    parts = ["curl", "-X", request.method, request.url]
    for name, value in request.headers.items():
        if name.lower() in ("content-type", "last-event-id"):
            parts += ["-H", f"{name}: {value if isinstance(value, str) else value.decode('latin-1')}"]
    if request.body:
        body = request.body if isinstance(request.body, str) else request.body.decode("utf-8", "backslashreplace")
        parts += ["--data", body]
    return " ".join(shlex.quote(part) for part in parts)
