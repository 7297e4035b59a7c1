"""Server-Sent Events as text (WHATWG HTML, 9.2; contract C29 to C32, C46)."""

from __future__ import annotations

import json
import random
import re
from typing import Any

MAX_SEQ_DIGITS = 18
HEARTBEAT = b":\n\n"


def encode(event: str, data: dict[str, Any], event_id: int | str | None = None) -> bytes:
    """One frame. The data is one line of ASCII JSON, so no text can end the frame or forge another.

    :param event_id: without one the frame is for :func:`identified`.
    """
    body = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    identity = "" if event_id is None else f"id: {event_id}\n"
    return f"event: {event}\n{identity}data: {body}\n\n".encode("ascii")


def identified(frame: bytes, event_id: str) -> bytes:
    """A frame without an id, which many streams share, with the one that it has in one of them."""
    name, _, rest = frame.partition(b"\n")
    return b"%b\nid: %b\n%b" % (name, event_id.encode("ascii"), rest)


def position(event_id: int | str) -> bytes:
    """A frame without data: dispatches nothing, but sets where a reconnect resumes (C30)."""
    return f"id: {event_id}\n\n".encode("ascii")


def retry(milliseconds: int) -> bytes:
    """How long the browser waits before it reconnects."""
    return f"retry: {milliseconds}\n\n".encode("ascii")


def retry_with_jitter() -> bytes:
    """One to three seconds, so that a restart does not bring everybody back in the same instant."""
    return retry(random.randint(1000, 3000))  # nosec B311 # spreads people out; nobody gains by guessing it


def message_created(thread: int, message: dict[str, Any], numbered: bool = True) -> bytes:
    return encode("MessageCreated", {"threadId": thread, **message}, message["seq"] if numbered else None)


def thread_opened(thread: dict[str, Any]) -> bytes:
    """In an inbox's stream alone (C46)."""
    return encode("ThreadOpened", thread)


def thread_left(thread: int) -> bytes:
    """In an inbox's stream alone: the thread is this user's affair no more, and not closed for that (C46)."""
    return encode("ThreadLeft", {"threadId": thread})


def thread_closed(thread: int, closed_at: str, last_seq: int | None = None) -> bytes:
    """Its id follows the last message's and is no message's (C32)."""
    data = {"threadId": thread, "closed_at": closed_at}
    return encode("ThreadClosed", data, None if last_seq is None else last_seq + 1)


def reset(thread: int, last_seq: int) -> bytes:
    """The client's position means nothing here; it goes on from ``last_seq`` (C30)."""
    return encode("reset", {"threadId": thread, "lastSeq": last_seq}, last_seq)


def reset_inbox(event_id: str) -> bytes:
    """The same for an inbox: load its list anew (C46)."""
    return encode("reset", {}, event_id)


def parse_last_event_id(text: str) -> int | None:
    """A ``seq``, or ``None`` for garbage."""
    return int(text) if re.fullmatch(rf"[0-9]{{1,{MAX_SEQ_DIGITS}}}", text) else None
