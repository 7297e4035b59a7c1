"""List and post messages (contract C19 to C23)."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from ..errors import ValidationFailed
from ..service import wire
from ..state import current
from . import gates, loading, schemas
from .responses import answer


def list_messages(thread_id: str) -> Response:
    row = gates.thread(thread_id, "view")
    chat, viewer = current(), current().access.user_id(gates.user())
    limit = loading.limit(request.args.get("limit"))
    cursor = loading.integer("cursor", request.args.get("cursor"))
    after = loading.integer("after", request.args.get("after"))
    if cursor is not None and after is not None:
        raise ValidationFailed(errors={"after": ["Give either cursor or after."]})
    if after is not None:
        rows, following = chat.messages.after(row.id, after, limit)
        place = {"nextAfter": _text(following)}
    else:
        rows, following = chat.messages.page(row.id, cursor, limit)
        place = {"nextCursor": _text(following)}
    return answer({"messages": [wire.message(message, viewer) for message in rows], **place})


def post_message(thread_id: str) -> Response:
    row = gates.thread(thread_id, "post")
    gates.require_open(row)
    chat, sender = current(), gates.user()
    draft = schemas.draft(gates.json_body(), chat.config.max_text)
    message_id, seq = chat.messages.post(
        row.id, chat.access.user_id(sender), draft, as_admin=chat.access.is_admin(sender)
    )
    return answer({"id": message_id, "seq": seq})


def _text(place: Any) -> str | None:
    return None if place is None else str(place)
