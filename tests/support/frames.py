"""Every kind of frame that a stream has, with anything in it, and what a reader is to make of it."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

from nursecare_chat.stream import event

NAMES = ("MessageCreated", "ThreadOpened", "ThreadClosed", "ThreadLeft", "reset")

NASTY = st.sampled_from(
    [
        "\n",
        "\r",
        "\r\n\r\n",
        "\x85",
        "\u2028",
        "\u2029",
        "\0",
        "\ufeff",
        ":",
        "data: ",
        "\n\nevent: ThreadClosed\n",
        "id: 9",
    ]
)
TEXTS = st.lists(st.text() | st.text(st.characters(codec="utf-8")) | NASTY, max_size=4).map("".join)
"""What a message may say, and what no message may but a frame would have to bear: lone surrogates too."""

SEQS = st.integers(0, 10**18 - 1)
IDS = st.integers(1, 2**63 - 1)
OPAQUE = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", min_size=1, max_size=200)
MORE = st.dictionaries(
    TEXTS, TEXTS | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False), max_size=3
)


class Frame(NamedTuple):
    """
    :ivar name: of the event that it dispatches, if any. :ivar id: that it sets, if any.
    """

    raw: bytes
    name: str | None = None
    data: dict[str, Any] | None = None
    id: str | None = None


def _finite(data: dict[str, Any]) -> dict[str, Any]:
    return {key: None if value in (float("inf"), float("-inf")) else value for key, value in data.items()}


def _message(thread: int, text: str, more: dict[str, Any], seq: int, opaque: str | None) -> Frame:
    message = {**_finite(more), "text": text, "seq": seq}
    data = {"threadId": thread, **message}
    if opaque is None:
        return Frame(event.message_created(thread, message), "MessageCreated", data, str(seq))
    raw = event.message_created(thread, message, numbered=False)
    return Frame(event.identified(raw, opaque), "MessageCreated", data, opaque)


def _opened(data: dict[str, Any], opaque: str | None) -> Frame:
    raw = event.thread_opened(_finite(data))
    return Frame(raw if opaque is None else event.identified(raw, opaque), "ThreadOpened", _finite(data), opaque)


def _left(thread: int, opaque: str | None) -> Frame:
    raw = event.thread_left(thread)
    return Frame(raw if opaque is None else event.identified(raw, opaque), "ThreadLeft", {"threadId": thread}, opaque)


def _closed(thread: int, at: str, last_seq: int | None) -> Frame:
    raw, data = event.thread_closed(thread, at, last_seq), {"threadId": thread, "closed_at": at}
    return Frame(raw, "ThreadClosed", data, None if last_seq is None else str(last_seq + 1))


def _reset(thread: int, seq: int) -> Frame:
    return Frame(event.reset(thread, seq), "reset", {"threadId": thread, "lastSeq": seq}, str(seq))


FRAMES = st.one_of(
    st.builds(_message, IDS, TEXTS, MORE, SEQS, st.none() | OPAQUE),
    st.builds(_opened, MORE, st.none() | OPAQUE),
    st.builds(_left, IDS, st.none() | OPAQUE),
    st.builds(_closed, IDS, TEXTS, st.none() | SEQS),
    st.builds(_reset, IDS, SEQS),
    OPAQUE.map(lambda opaque: Frame(event.reset_inbox(opaque), "reset", {}, opaque)),
    (SEQS | OPAQUE).map(lambda place: Frame(event.position(place), id=str(place))),
    st.integers(1, 60_000).map(lambda milliseconds: Frame(event.retry(milliseconds))),
    st.just(Frame(event.HEARTBEAT)),
)


def told(frames: list[Frame]) -> list[tuple[str, dict[str, Any], str]]:
    """The events that a reader sees: name, data, and the last id that was set by then."""
    seen, last = [], ""
    for frame in frames:
        last = last if frame.id is None else frame.id
        if frame.name is not None and frame.data is not None:
            seen.append((frame.name, frame.data, last))
    return seen
