"""JSON answers, and errors in their one shape (contract C12)."""

from __future__ import annotations

import json
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
