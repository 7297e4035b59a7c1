"""Processes that are killed at random: those that serve, and those that erase (contract C30, C36, C40)."""

from __future__ import annotations

import os
import random
import signal
import time

from tests.support.wait import eventually

from .outcome import NEITHER, Fault, Outcome, Size
from .scene import Scene


def web_killed(outcome: Outcome, size: Size) -> None:
    with Scene(outcome.path, size) as scene:
        load = scene.people()
        for _ in range(size.kills):
            server = scene.live.server
            before = server.workers()
            victim = random.choice(before)
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: len(server.workers()) == 2 and victim not in server.workers(), server)  # noqa: B023 - called here
            time.sleep(random.random())
            scene.wait_for_posts(load, size.messages // 4)
        scene.wait_for_posts(load)
        found = scene.settle(outcome)
        ends = sum(one.ends for one in scene.listeners)
        outcome.check(ends, "no stream ended, so nothing of value was killed")
        strange = {answer for answer in load.refused if answer.isdigit()}
        outcome.check(not strange, f"posts were answered {strange}, and not just cut off")
        del found


FAULTS = (
    Fault("web process killed", "the other serves on, another starts; streams resume by Last-Event-ID", web_killed),
)
_ = NEITHER
