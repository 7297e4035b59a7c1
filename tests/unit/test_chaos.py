"""What counts as lost, doubled or wrong when ``script/chaos`` counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from bench.chaos import redis_faults, report
from bench.chaos.outcome import BODY, QUICK, Fault, Outcome, Size
from bench.under_load import Came, Post, Tally, tally

STORED = {7: {1: "a", 2: "b", 3: "c"}}
POSTS = [Post(7, seq, text, at=10.0, took=0.1, tries=1) for seq, text in STORED[7].items()]


def count(*seen: tuple[int, str], posts: list[Post] = POSTS, stored: Any = STORED) -> Tally:
    listener: Any = SimpleNamespace(chat=7, came=[Came(seq, text, 12.5) for seq, text in seen])
    return tally(posts, [listener], stored)


def test_nothing_wrong() -> None:
    """C30: every message, once and in order; the delay is from the first attempt."""
    assert count((1, "a"), (2, "b"), (3, "c")) == Tally(3, 0, 0, 0, 0, 2.5)


def test_what_is_lost() -> None:
    """C23, C30: what a stream did not bring, or brought with another's text; what was acknowledged and has no row."""
    assert count((1, "a"), (3, "c")).lost == 1
    assert count((1, "a"), (2, "x"), (3, "c"))._replace(longest=0) == Tally(3, 1, 0, 0, 1, 0)
    gone = [*POSTS, Post(7, 4, "d", 10.0, 0.1, 1)]
    assert count((1, "a"), (2, "b"), (3, "c"), posts=gone).lost == 1


def test_what_is_doubled_or_out_of_order() -> None:
    """C23, C30: an event that came again, a second row of one message, an order that is not that of ``seq``."""
    assert count((1, "a"), (2, "b"), (2, "b"), (3, "c"))[1:4] == (0, 1, 0)
    assert count((1, "a"), (3, "c"), (2, "b"))[1:4] == (0, 0, 1)
    twice = {7: {**STORED[7], 4: "c"}}
    assert count((1, "a"), (2, "b"), (3, "c"), (4, "c"), stored=twice).doubled == 1


def test_what_nobody_stored() -> None:
    """C30, C31: an event without a row."""
    assert count((1, "a"), (2, "b"), (3, "c"), (4, "d")).phantoms == 1


def lose(outcome: Outcome, size: Size) -> None:
    outcome.posted, outcome.lost = 5, 1


def fail(outcome: Outcome, size: Size) -> None:
    raise AssertionError("it was not away")


def suspect(outcome: Outcome, size: Size) -> None:
    outcome.check(size is not QUICK, "it is quick")


def survive(outcome: Outcome, size: Size) -> None:
    outcome.posted, outcome.lost, outcome.doubled, outcome.longest = 1234, 0, 0, 0.25


def test_what_is_survived(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """C30: neither what lost something, nor what was not really made, nor what looked wrong; and the run says so."""
    left: dict[str, int] = {}
    monkeypatch.setattr(report, "note", lambda title, test, number: left.update({title: number}))
    outcomes = [
        report.suffer(Fault(f"f-{inject.__name__}", "all is well", inject), BODY, QUICK)
        for inject in (survive, lose, fail, suspect)
    ]
    assert [one.survived for one in outcomes] == [True, False, False, False]
    assert "it was not away" in outcomes[2].wrong[0]
    assert report.conclude(outcomes) == 1
    shown = capsys.readouterr().out.splitlines()
    assert "| f-survive | body | all is well | 1,234 | 0 | 0 | – | – | 0.2 |" in shown
    assert any(line.startswith("| f-lose | body | **wrong**") for line in shown)
    assert left == {
        "faults survived": 1,
        "faults tried": 4,
        "messages posted under faults": 1239,
        "lost": 1,
        "duplicated": 0,
        "left": 0,
        "leaked": 0,
    }
    assert report.conclude(outcomes[:1]) == 0


@pytest.mark.parametrize("fault", [redis_faults.down_at_start, redis_faults.killed, redis_faults.hung])
def test_a_fault_that_was_not_made(monkeypatch: pytest.MonkeyPatch, fault: Any) -> None:
    """C31: a Redis that answers all the time is wrong, however well all else goes."""
    for name in ("Scene", "Redis"):
        monkeypatch.setattr(redis_faults, name, MagicMock())
    monkeypatch.setattr(redis_faults.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(redis_faults, "is_away", lambda server: False)
    outcome = report.suffer(Fault("redis", "all is well", fault), BODY, QUICK)
    assert not outcome.survived
    assert "assert is_away" in outcome.wrong[0]
