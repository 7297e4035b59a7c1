"""Some of ``script/chaos``, small: its cheapest faults."""

from __future__ import annotations

import pytest

from bench.chaos import redis_faults, report, storage_faults
from bench.chaos.outcome import HANDOFF, NEITHER, Size

from ..support.report import note

SMALL = Size(chats=1, streams=2, posters=1, messages=5, away=2, crowd=20, rounds=2, kills=1, threads=1, blobs=4)
FAULTS = {fault.name: fault for fault in (*redis_faults.FAULTS, *storage_faults.FAULTS)}


@pytest.mark.parametrize(("name", "path"), [("redis killed", HANDOFF), ("storage 409 immutable", NEITHER)])
def test_a_fault_is_survived(name: str, path: str) -> None:
    """C30, C31, C38, C40: nothing is lost, doubled or left, and what is seen is what should be."""
    outcome = report.suffer(FAULTS[name], path, SMALL)
    note("faults tried", f"{name}, {path}", 1)
    note("faults survived", f"{name}, {path}", int(outcome.survived))
    assert outcome.wrong == []
    assert outcome.survived
    assert outcome.posted or outcome.left is not None
