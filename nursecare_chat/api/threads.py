"""Open, show and close a thread (contract C17, C18, C26, C27)."""

from __future__ import annotations

from flask import Response

from ..errors import NotFound
from ..service import wire
from ..state import current
from . import gates
from .responses import answer


def open_thread(request_id: str) -> Response:
    chat = current()
    key = chat.models.request_key.parse(request_id)
    if key is None:
        raise NotFound("No such request.")
    row = chat.threads.open(gates.user(), key)
    return answer({"threadId": row.id, "status": row.status})


def show_thread(thread_id: str) -> Response:
    return answer(wire.thread(gates.thread(thread_id, "view")))


def close_thread(thread_id: str) -> Response:
    row = current().threads.close(gates.thread(thread_id, "close").id)
    return answer({"status": row.status, "closed_at": wire.utc(row.closed_at)})
