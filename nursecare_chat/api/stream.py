"""The event streams of a thread and of an inbox (contract C29, C30, C32, C35, C45, C46)."""

from __future__ import annotations

import time
from typing import Any

from flask import Response, request
from sqlalchemy import Row

from ..state import current
from ..stream import event
from ..stream.body import DEGRADED_RETRY, StreamBody, replay_once
from ..stream.inbox import InboxStream
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
    position, first = _start(row, _last_event_id())
    if position > row.last_seq:
        return Response(status=204, headers={"Cache-Control": "no-store"})
    stream = Stream(row.id, current().access.user_id(gates.user()), position, asked_at, gates.mount())
    return _carry(stream, first, replays=position < row.last_seq)


@describe(
    "Follow the inbox",
    note="Server-Sent Events of the open chats in it: `ThreadOpened` (the chat as in the list), `MessageCreated`,"
    " `ThreadClosed`, `ThreadLeft` (`threadId`: it is no longer in the list), and `reset`: load the list anew. The"
    " header `Last-Event-ID`, or `lastEventId` in the query, resumes all of them; then some events may be repeated.",
    query=schemas.StreamQuery,
    headers=("Last-Event-ID",),
    gives=("text/event-stream",),
)
def stream_inbox() -> Response:
    asked_at = time.monotonic()
    chat, user = current(), gates.user()
    is_admin = chat.access.is_admin(user)
    resume = chat.inboxes.resume(user, is_admin, _last_event_id())
    return _carry(InboxStream(chat.access.user_id(user), is_admin, resume, asked_at, gates.mount()), resume.first)


def _last_event_id() -> str | None:
    return request.headers.get("Last-Event-ID") or request.args.get("lastEventId") or None


def _carry(stream: Stream, first: bytes, *, replays: bool = True) -> Response:
    """The response that it is written to, as this worker can.

    :param replays: whether anything follows its position already.
    """
    chat = current()
    stream.worker = find_worker(request.environ)
    if stream.worker.places == 0:
        chat.warn_once(
            "this worker has no threads for streams, so chats work by reconnecting; use gevent or more threads"
        )
        chat.metrics.stream_turned_away("degraded")
        return event_stream(replay_once(chat.hub, stream, first, DEGRADED_RETRY))
    return event_stream(StreamBody(chat.hub, stream, first, request.environ, replays))


def _start(row: Row[Any], given: str | None) -> tuple[int, bytes]:
    """Where the stream starts and the frame that says so; past the end for a client that has seen it all (C30, C32)."""
    if given is None:
        return row.last_seq, event.position(row.last_seq)
    position = event.parse_last_event_id(given)
    end = row.last_seq + (row.status == "closed")
    if position is None or position > end:
        return row.last_seq, event.reset(row.id, row.last_seq)
    return position, b""
