"""A disk that is full (contract C13, C30)."""

from __future__ import annotations

import resource
import time

from .outcome import Fault, Outcome, Size
from .scene import Scene

ROOM = 16 * 1024
"""Bytes by which the database may still grow."""


def full(outcome: Outcome, size: Size) -> None:
    """SQLite in processes that may not write beyond the size that its file has; later they may again."""
    with Scene(outcome.path, size, host="reference") as scene:
        load = scene.people(pause=0.1)
        path = scene.live.bench.path
        assert path is not None

        def limit(most: int) -> None:
            for worker in scene.live.server.workers():
                _, hard = resource.prlimit(worker, resource.RLIMIT_FSIZE)
                resource.prlimit(worker, resource.RLIMIT_FSIZE, (most, hard))

        limit(path.stat().st_size + ROOM)
        deadline = time.monotonic() + 30
        while load.refused.total() < 5 and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(size.away / 2)
        outcome.check(load.refused, "the disk never was full")
        person = scene.live.login("client")
        for way in ("", "/messages"):
            status = person.http.get(f"/api/chat/threads/{scene.chats[0]}{way}").status_code
            outcome.check(status == 200, f"reading was answered {status}")
        limit(resource.RLIM_INFINITY)
        scene.wait_for_posts(load)
        scene.settle(outcome)
        refused = {*load.refused} - {"500", "503"}
        outcome.check(not refused, f"posts were answered {refused}")
        scene.streams_stayed(outcome)


FAULTS = (Fault("disk full (SQLite)", "posts 5xx, sent again: one row; reading goes on; no event of nothing", full),)
