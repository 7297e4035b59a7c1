"""List and post messages (contract C19 to C23)."""

from __future__ import annotations

from flask import Response, request

from ..service import wire
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
    row = gates.thread(thread_id, "post")
    gates.require_open(row)
    chat, sender = current(), gates.user()
    draft = schemas.draft(gates.json_body(), chat.config.max_text)
    posted = chat.messages.post(row.id, chat.access.user_id(sender), draft, as_admin=chat.access.is_admin(sender))
    shown = {"id": posted.id, "seq": posted.seq}
    if draft.type == "image":
        shown["media_url"] = _media_url(posted.media_path)
    return answer(shown)


def _media_url(media_path: str | None) -> str | None:
    return wire.mounted(current().uploads.url(media_path), gates.mount())
