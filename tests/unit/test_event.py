"""Frames against an independent parser."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import example, given
from hypothesis import strategies as st

from nursecare_chat.stream import event

from ..support.frames import FRAMES, Frame, told
from ..support.sse import Event, Parser, parse


@given(st.text(), st.integers(0, 2**63 - 1))
@example("hi\n\nevent: ThreadClosed\ndata: {}\n\n", 1)
@example("\r\r\n \u0085 \u2028 \u2029 end", 2)
def test_no_text_breaks_out_of_its_frame(text: str, seq: int) -> None:
    """C29: whatever is said arrives verbatim, as one event with our name and id, in ASCII without a bare CR."""
    frame = event.message_created(7, {"text": text, "seq": seq})
    assert frame.isascii()
    assert b"\r" not in frame
    parser, events = parse(frame)
    assert events == [Event("MessageCreated", events[0].data, str(seq))]
    assert events[0].json == {"threadId": 7, "text": text, "seq": seq}
    assert parser.last_event_id == str(seq)


def test_position_dispatches_nothing_but_sets_the_id() -> None:
    """C30."""
    parser, events = parse(event.retry(5) + event.position(42) + event.HEARTBEAT)
    assert (events, parser.last_event_id, parser.retry, parser.comments) == ([], "42", 5, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("12", 12), ("", None), ("-1", None), ("1_0", None), ("١", None), ("1\n", None), ("9" * 19, None)],
)
def test_last_event_id(text: str, expected: Any) -> None:
    """C30: ASCII digits, else garbage."""
    assert event.parse_last_event_id(text) == expected


@given(st.text() | st.from_regex(r"\s?[0-9]{1,20}\s?") | st.text("0123456789٠١²_+- \n"))
def test_any_last_event_id_is_a_number_or_garbage(text: str) -> None:
    """C30: one that the database has room for."""
    digits = len(text) in range(1, 19) and all(character in "0123456789" for character in text)
    assert event.parse_last_event_id(text) == (int(text) if digits else None)


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    """In pieces, as a network delivers it."""
    ends = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
    return [raw[start:end] for start, end in itertools.pairwise(ends) if start < end]


@given(st.lists(FRAMES, max_size=8), st.lists(st.integers(0, 2**16), max_size=6))
def test_two_readers_see_what_was_written(frames: list[Frame], places: list[int]) -> None:
    """C29, C30, C46: of every kind of frame, in any order and cut anywhere: name, data and the last id; by
    ``httpx-sse`` and by our own. (httpx's own lines would not do: they end at U+2028 as well.)
    """
    raw = b"".join(frame.raw for frame in frames)
    assert raw.isascii()
    assert b"\r" not in raw
    pieces = cut(raw, places)
    parser = Parser()
    ours = [one for piece in pieces for one in parser.feed(piece)]
    assert [(one.name, one.json, one.id) for one in ours] == told(frames)

    def stream() -> Iterator[bytes]:
        yield from pieces

    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=stream())
    theirs = [one for one in EventSource(response).iter_sse() if one.data]  # one without data is none (WHATWG)
    assert [(one.event, json.loads(one.data), one.id) for one in theirs] == told(frames)
    last = [frame.id for frame in frames if frame.id is not None]
    assert parser.last_event_id == (last[-1] if last else "")
