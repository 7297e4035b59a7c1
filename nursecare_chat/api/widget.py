"""The files of the browser's side, and what its elements must know of the page's user and of the settings."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, request

from .. import widget
from ..config import is_enabled
from ..errors import Forbidden, NotFound
from ..keys import wire
from ..state import current
from . import gates

PATH = "/api/chat/widget"
LASTING = "private, max-age=31536000, immutable"


def show_file(name: str, version: str = "") -> Response:
    """One file, kept by browsers: for ever (RFC 8246) under the ``version`` of all files, which macros name; without
    it, or under that of another release, asked for again each time by its ``ETag`` (RFC 9110, 8.8.3).
    """
    file = widget.read(name)
    if file is None:
        raise NotFound()
    response = Response(file.content, content_type=file.content_type)
    response.set_etag(file.etag)
    lasting = version == widget.version()
    response.headers["Cache-Control"] = LASTING if lasting else "private, no-cache"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response.make_conditional(request)


def settings() -> dict[str, Any] | None:
    """For the macros; ``None`` with the chat switched off, with nobody logged in, or where the policy raises."""
    if not (is_enabled(current_app.config) and gates.is_logged_in()):
        return None
    try:
        user = wire(current().access.user_id(gates.user()))
    except Forbidden:
        return None
    config = current().config
    return {
        "user": user,
        "base": gates.mount(),
        "max_text": config.max_text,
        "max_image_bytes": config.max_image_bytes,
        "image_types": config.allowed_image_mime,
        "modules": widget.modules(),
        "version": widget.version(),
    }
