"""Errors of our routes as JSON, the host's handlers untouched (contract C7, C12, C13, C16, C35)."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Any

from flask import Blueprint, Response, current_app, got_request_exception, request
from flask_login import current_user
from werkzeug.exceptions import HTTPException

from ..errors import ChatError, DatabaseError, MethodNotAllowed, NotFound, StorageUnavailable, Unavailable
from ..keys import wire
from ..service.unit_of_work import is_unreachable, translate
from ..state import current
from ..stream import event
from ..stream.body import SURPLUS_RETRY
from . import gates
from .responses import answer, event_stream, refusal

log = logging.getLogger(__name__)

DENIALS = frozenset({401, 403, 429})
WITHOUT_LOGIN = frozenset({"cross_site", "unauthenticated", "bad_signature"})
STREAMS = frozenset({"stream_thread", "stream_inbox"})
"""The endpoints of the streams."""


def register(blueprint: Blueprint) -> None:
    blueprint.register_error_handler(ChatError, refused)
    blueprint.register_error_handler(DatabaseError, database_failed)
    blueprint.register_error_handler(StorageUnavailable, storage_failed)
    blueprint.register_error_handler(HTTPException, http_error)
    blueprint.register_error_handler(Exception, unexpected)


def refused(error: ChatError) -> Response:
    if error.status in DENIALS:
        current().metrics.count("denials", error.code)
        log.info(
            "chat request denied",
            extra={
                "chat": True,
                "reason": error.code,
                "endpoint": request.endpoint,
                "userId": _user_id() if error.code not in WITHOUT_LOGIN else None,
            },
        )
    return refusal(error)


def _user_id() -> int | str | None:
    if getattr(current_user, "is_authenticated", False):
        with suppress(ChatError):  # the policy raises, which is what is being told
            return wire(current().access.user_id(gates.user()))
    return None


def database_failed(error: DatabaseError) -> Response:
    log.error("chat database error: %s", error, extra={"chat": True, "reason": error.kind, "sqlstate": error.sqlstate})
    if error.status == Unavailable.status and gates.endpoint() in STREAMS:
        return event_stream([event.retry(SURPLUS_RETRY)])  # any status but 200 would be final for EventSource (C35)
    return refusal(error)


def storage_failed(error: StorageUnavailable) -> Response:
    log.error("chat storage error: %s", error, extra={"chat": True, "reason": error.kind})
    return refusal(error)


def http_error(error: HTTPException) -> Response:
    """What Werkzeug or the host aborts with while one of our routes runs."""
    name = (error.name or "error").lower().replace(" ", "_")
    return answer({"code": name, "message": error.name, "errors": {}}, error.code or 500)


def unexpected(error: Exception) -> Response:
    """As Flask does it: signal, log, then 500, or the exception itself where the host wants to see it.

    A database that is away shows first in the host's own code, its user loader for one; that is no bug of the host's.
    """
    if is_unreachable(error):
        return database_failed(translate(error))
    app: Any = current_app._get_current_object()
    propagate = app.config["PROPAGATE_EXCEPTIONS"]
    if propagate or (propagate is None and (app.testing or app.debug)):
        raise error
    got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=error)
    app.log_exception(sys.exc_info())
    return refusal(ChatError())


def unknown(rest: str = "", **ids: str) -> Response:
    """404 or 405 for whatever no route of ours answers, found by asking the URL map for each method (C12)."""
    allowed = gates.allowed_methods()
    if allowed:
        raise MethodNotAllowed(headers={"Allow": ", ".join(allowed)})
    raise NotFound()
