"""The figures for Prometheus (contract C43): for a scraper with a token, not for a person with a session."""

from __future__ import annotations

import hmac
import logging

from flask import Response, request

from ..errors import DatabaseError, NotFound, Unauthenticated
from ..metrics import CONTENT_TYPE
from ..service.backlog import read_backlog
from ..state import current

log = logging.getLogger(__name__)

PATH = "/api/chat/metrics"


def show_metrics() -> Response:
    """Behind the flag only; while metrics are off, behind the login like every path that does not exist."""
    chat = current()
    if not chat.config.metrics:
        raise NotFound()
    _require_token(chat.config.metrics_token)
    try:
        backlog = read_backlog(chat.database, chat.models)
    except DatabaseError as error:  # whoever watches must see just this
        log.warning("chat metrics without the database: %s", error, extra={"chat": True, "reason": error.kind})
        backlog = None
    response = Response(chat.metrics.exposition(backlog), content_type=CONTENT_TYPE)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _require_token(token: str) -> None:
    """
    :raises Unauthenticated: if there is a token and the request does not have it.
    """
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode("latin-1", "replace"), token.encode())
    if token and not (scheme.lower() == "bearer" and same):
        raise Unauthenticated(headers={"WWW-Authenticate": "Bearer"})
