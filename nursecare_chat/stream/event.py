"""Server-Sent Events as text (WHATWG HTML, 9.2; contract C29 to C32)."""

from __future__ import annotations

import json
import random
import re
from typing import Any

MAX_SEQ_DIGITS = 18
HEARTBEAT = b":\n\n"


def encode(event: str, data: dict[str, Any], event_id: int) -> bytes:
    """One frame. The data is one line of ASCII JSON, so no text can end the frame or forge another."""
    body = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return f"event: {event}\nid: {event_id}\ndata: {body}\n\n".encode("ascii")


def position(event_id: int) -> bytes:
    """A frame without data: dispatches nothing, but sets where a reconnect resumes (C30)."""
    return f"id: {event_id}\n\n".encode("ascii")


def retry(milliseconds: int) -> bytes:
    """How long the browser waits before it reconnects."""
    return f"retry: {milliseconds}\n\n".encode("ascii")


def retry_with_jitter() -> bytes:
    """One to three seconds, so that a restart does not bring everybody back in the same instant."""
    return retry(random.randint(1000, 3000))


def message_created(thread: int, message: dict[str, Any]) -> bytes:
    return encode("MessageCreated", {"threadId": thread, **message}, message["seq"])


def thread_closed(thread: int, closed_at: str, last_seq: int) -> bytes:
    """Its id follows the last message's and is no message's (C32)."""
    return encode("ThreadClosed", {"threadId": thread, "closed_at": closed_at}, last_seq + 1)


def reset(thread: int, last_seq: int) -> bytes:
    """The client's position means nothing here; it goes on from ``last_seq`` (C30)."""
    return encode("reset", {"threadId": thread, "lastSeq": last_seq}, last_seq)


def parse_last_event_id(text: str) -> int | None:
    """A ``seq``, or ``None`` for garbage."""
    return int(text) if re.fullmatch(rf"[0-9]{{1,{MAX_SEQ_DIGITS}}}", text) else None
