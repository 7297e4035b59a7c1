"""Processes that are killed at random: those that serve, and those that erase (contract C30, C36, C40)."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

from bench.erasure import Yard, kill_and_kill
from tests.support.azurite import Server as Azurite
from tests.support.faulty import Faulty
from tests.support.servers import Server
from tests.support.wait import eventually

from .outcome import NEITHER, Fault, Outcome, Size
from .scene import Scene


def kill_one(server: Server) -> None:
    """A worker of gunicorn's, which starts another."""
    victim = random.choice(server.workers())
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(now := server.workers()) == 2 and victim not in now, server)


def web_killed(outcome: Outcome, size: Size) -> None:
    with Scene(outcome.path, size) as scene:
        load = scene.people()
        for _ in range(size.kills):
            kill_one(scene.live.server)
            scene.wait_for_posts(load, size.messages // 4)
            time.sleep(random.random())
        scene.wait_for_posts(load)
        scene.settle(outcome)
        ends = sum(one.ends for one in scene.listeners)
        outcome.check(ends, "no stream ended, so nobody had one where a process was killed")
        strange = {answer for answer in load.refused if answer.isdigit()}
        outcome.check(not strange, f"posts were answered {strange}, and not just cut off")


def worker_killed(outcome: Outcome, size: Size) -> None:
    """A killed one's lease is over at once: the next worker takes the purge over in whatever state it is."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    azurite = Azurite()
    faulty = Faulty(azurite.url)
    yard = Yard(folder, "sqlite://", azurite, faulty)
    try:
        free = min(3, size.threads)
        found = kill_and_kill(
            yard, size.kills, size.threads, size.blobs, free, patient=False, show=lambda *numbers: None
        )
        outcome.left = found["blobs left"] + found["rows unredacted"]
        threads = found["threads"]
        outcome.check(found["receipts"] == threads, f"{found['receipts']} receipts of {threads} are signed")
        outcome.check(not found["receipts before it was empty"], "a receipt was signed before it was true")
        outcome.check(found["leased after a kill, by state"], "nobody was killed while it erased")
    finally:
        yard.close()
        faulty.close()
        azurite.close()
        shutil.rmtree(folder, ignore_errors=True)


FAULTS = (
    Fault("web process killed", "the other serves on, another starts; streams resume by Last-Event-ID", web_killed),
    Fault("worker killed while it erases", "the next takes it over; one signed receipt", worker_killed, (NEITHER,)),
)
