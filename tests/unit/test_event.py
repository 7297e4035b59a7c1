"""Frames against an independent parser."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nursecare_chat.stream import event

from ..support.sse import Event, parse


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
