"""List and post messages (contract C19 to C23)."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from ..errors import ChatError
from ..service import wire
from ..service.messages import Draft
from ..state import current
from . import gates, schemas
from .describe import describe
from .responses import answer

_QUERY = schemas.MessagesQuery()


@describe(
    "Read a page of messages",
    query=schemas.MessagesQuery,
    answer=schemas.MessagesAnswer,
    errors=(403, 404, 422),
    note="The newest page first, each page oldest to newest; with `after`, what came later, oldest first.",
)
def list_messages(thread_id: str) -> Response:
    row = gates.thread(thread_id, "view")
    chat, viewer = current(), current().access.user_id(gates.user())
    query = schemas.load(_QUERY, request.args)
    if "after" in query:
        rows, following = chat.messages.after(row.id, query["after"], query["limit"])
        place = {"nextAfter": wire.cursor(following)}
    else:
        rows, following = chat.messages.page(row.id, query.get("cursor"), query["limit"])
        place = {"nextCursor": wire.cursor(following)}
    # No address is signed once closing began: it would outlive what it shows.
    paths = [message.media_path if row.status == "open" else None for message in rows]
    shown = [wire.message(message, _media_url(path), viewer) for message, path in zip(rows, paths, strict=True)]
    return answer({"messages": shown, **place})


@describe(
    "Post a message",
    body=schemas.PostMessageBody,
    answer=schemas.PostAnswer,
    errors=(403, 404, 415, 422, 429),
    note="`text` needs `text`, `location` needs `lat` and `lng`, `image` needs `mediaPath`. With a `clientMessageId` a"
    " retry is safe: the same body again gives the same answer.",
)
def post_message(thread_id: str) -> Response:
    draft, posted = _post_at_once(thread_id) or _post(thread_id)
    shown = {"id": posted.id, "seq": posted.seq}
    if draft.type == "image":
        shown["media_url"] = _media_url(posted.media_path)
    return answer(shown)


def _post(thread_id: str) -> tuple[Draft, Any]:
    row = gates.thread(thread_id, "post")
    gates.require_open(row)
    chat, sender = current(), gates.user()
    draft = schemas.draft(gates.json_body(), chat.config.max_text)
    is_admin = chat.access.is_admin(sender)
    return draft, chat.messages.post(row, chat.access.user_id(sender), draft, as_admin=is_admin)


def _post_at_once(thread_id: str) -> tuple[Draft, Any] | None:
    """The policy goes by the thread as an earlier post saw it, which the statement that appends proves to be so still.

    ``None`` if anything is in the way: that is said by what stands now, and in the gates' order.
    """
    chat, sender = current(), gates.user()
    row = chat.messages.last_seen(gates.thread_id(thread_id))
    if row is None:
        return None
    verdict = chat.access.ask(sender, "post", row)
    if not verdict.allowed:
        return None
    try:
        draft = schemas.draft(gates.json_body(), chat.config.max_text)
    except ChatError:
        return None
    is_admin = chat.access.is_admin(sender)
    posted = chat.messages.post_at_once(row, chat.access.user_id(sender), draft, as_admin=is_admin)
    if posted is None:
        return None
    if verdict.override:
        chat.access.overridden(sender, "post", row.id)
    return draft, posted


def _media_url(media_path: str | None) -> str | None:
    return wire.mounted(current().uploads.url(media_path), gates.mount())
