"""Rows as JSON objects (contract C15, C20, C27)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ..keys import wire


def utc(moment: datetime | None) -> str | None:
    """``2025-01-20T10:30:00Z``; the database holds UTC without a zone (C15)."""
    return moment and moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def mounted(url: str | None, mount: str) -> str | None:
    """``url`` as a browser needs it: a path goes under ``mount``, where the server has the application."""
    return mount + url if url is not None and url.startswith("/") else url


def cursor(place: int | None) -> str | None:
    """Where the next page begins (C19, C27)."""
    return None if place is None else str(place)


def message(row: Any, media_url: str | None, viewer: Any = None) -> dict[str, Any]:
    """A message for ``viewer`` (a user's key): only its sender sees ``clientMessageId`` (C20).

    :param media_url: the signed address of its photo, if it has one.
    """
    shown = {
        "id": row.id,
        "type": row.type,
        "text": row.text,
        "lat": None if row.latitude is None else float(row.latitude),
        "lng": None if row.longitude is None else float(row.longitude),
        "media_url": media_url,
        "sender_id": wire(row.sender_id),
        "created_at": utc(row.created_at),
        "seq": row.seq,
    }
    if viewer is not None and row.sender_id == viewer and row.client_message_id is not None:
        shown["clientMessageId"] = row.client_message_id
    return shown


def thread(row: Any) -> dict[str, Any]:
    """A thread (C27)."""
    return {
        "threadId": row.id,
        "requestId": wire(row.request_id),
        "adminId": wire(row.admin_id),
        "clientId": wire(row.client_id),
        "status": row.status,
        "openedAt": utc(row.opened_at),
        "closedAt": utc(row.closed_at),
        "lastSeq": row.last_seq,
    }
