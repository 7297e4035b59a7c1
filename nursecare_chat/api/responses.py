"""JSON answers, errors in their one shape, event streams (contract C12, C29)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from flask import Response

from ..errors import ChatError


def answer(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON response; never through the host's own JSON provider, and never kept by a cache."""
    response = Response(json.dumps(body, allow_nan=False), status=status, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.update(headers or {})
    return response


def refusal(error: ChatError) -> Response:
    """``{"code", "message", "errors"}`` with the error's status."""
    body = {"code": error.code, "message": error.message, "errors": error.errors}
    return answer(body, error.status, error.headers)


def event_stream(frames: Iterable[bytes]) -> Response:
    """Server-Sent Events that no cache keeps and no proxy holds back."""
    response = Response(frames, content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
