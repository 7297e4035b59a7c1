"""A thread's event stream (contract C29, C30, C32, C35, C45)."""

from __future__ import annotations

import time
from typing import Any

from flask import Response, request
from sqlalchemy import Row

from ..state import current
from ..stream import event
from ..stream.body import DEGRADED_RETRY, StreamBody, replay_once
from ..stream.server import find_worker
from ..stream.subscriber import Stream
from . import gates, schemas
from .describe import describe
from .responses import event_stream


@describe(
    "Follow a chat",
    note="Server-Sent Events `MessageCreated` (a message with its `threadId`), `ThreadClosed`, and `reset` for a"
    " position that means nothing here. The header `Last-Event-ID`, or `lastEventId` in the query, resumes.",
    query=schemas.StreamQuery,
    headers=("Last-Event-ID",),
    gives=("text/event-stream",),
    also={204: "There is nothing more to come."},
    errors=(403, 404),
)
def stream_thread(thread_id: str) -> Response:
    asked_at = time.monotonic()
    row = gates.thread(thread_id, "view")
    chat = current()
    given = request.headers.get("Last-Event-ID") or request.args.get("lastEventId") or None
    position, first = _start(row, given)
    if position > row.last_seq:
        return Response(status=204, headers={"Cache-Control": "no-store"})
    stream = Stream(row.id, chat.access.user_id(gates.user()), position, asked_at, gates.mount())
    stream.worker = find_worker(request.environ)
    if stream.worker.places == 0:
        chat.warn_once(
            "this worker has no threads for streams, so chats work by reconnecting; use gevent or more threads"
        )
        chat.metrics.stream_turned_away("degraded")
        return event_stream(replay_once(chat.hub, stream, first, DEGRADED_RETRY))
    return event_stream(StreamBody(chat.hub, stream, first, request.environ))


def _start(row: Row[Any], given: str | None) -> tuple[int, bytes]:
    """Where the stream starts and the frame that says so; past the end for a client that has seen it all (C30, C32)."""
    if given is None:
        return row.last_seq, event.position(row.last_seq)
    position = event.parse_last_event_id(given)
    end = row.last_seq + (row.status == "closed")
    if position is None or position > end:
        return row.last_seq, event.reset(row.id, row.last_seq)
    return position, b""
