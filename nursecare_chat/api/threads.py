"""Open, show, list and close threads (contract C17, C18, C26, C27)."""

from __future__ import annotations

from flask import Response, request

from ..errors import NotFound
from ..service import wire
from ..state import current
from . import gates, schemas
from .describe import describe
from .responses import answer

_QUERY = schemas.ThreadsQuery()


@describe(
    "Open a request's chat",
    answer=schemas.OpenAnswer,
    errors=(403, 404, 422, 429),
    note="Idempotent: there is one chat per request, for ever. A closed one does not reopen.",
)
def open_thread(request_id: str) -> Response:
    chat = current()
    key = chat.models.request_key.parse(request_id)
    if key is None:
        raise NotFound("No such request.")
    row = chat.threads.open(gates.user(), key)
    return answer({"threadId": row.id, "status": row.status})


@describe("Read a chat's state", answer=schemas.Thread, errors=(403, 404))
def show_thread(thread_id: str) -> Response:
    return answer(wire.thread(gates.thread(thread_id, "view")))


@describe(
    "Read the inbox",
    query=schemas.ThreadsQuery,
    answer=schemas.ThreadsAnswer,
    errors=(422,),
    note="A client's own chats; an admin's own and those that no admin has claimed. The newest first.",
)
def list_threads() -> Response:
    chat = current()
    query = schemas.load(_QUERY, request.args)
    rows, following = chat.threads.inbox(gates.user(), query.get("status"), query.get("cursor"), query["limit"])
    return answer({"threads": [wire.thread(row) for row in rows], "nextCursor": wire.cursor(following)})


@describe(
    "Close a chat and erase it",
    answer=schemas.CloseAnswer,
    errors=(403, 404),
    note="For ever. Closing it again gives the same answer.",
)
def close_thread(thread_id: str) -> Response:
    row = current().threads.close(gates.thread(thread_id, "close").id)
    return answer({"status": row.status, "closed_at": wire.utc(row.closed_at)})
