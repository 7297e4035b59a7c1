"""Work that nobody waits for."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading

import pytest

from nursecare_chat import background as module
from nursecare_chat.background import Background

from ..support.wait import eventually


def test_jobs_run_in_order_and_nobody_waits() -> None:
    """C4, C31: a job that hangs holds up what comes behind it, not the one who asked."""
    background, release, done = Background("test"), threading.Event(), []
    assert background.submit(release.wait)
    for number in range(5):
        assert background.submit(lambda number=number: done.append(number))
    assert not background.flush(0.1)
    assert done == []
    release.set()
    assert background.flush(10)
    assert done == list(range(5))


def test_what_does_not_fit_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """C4: an outage fills no memory; the asker learns that nothing will happen."""
    monkeypatch.setattr(module, "SIZE", 2)
    background, release, started = Background("test"), threading.Event(), threading.Event()
    background.submit(lambda: (started.set(), release.wait()))
    assert started.wait(10)
    assert [background.submit(int) for _ in range(4)] == [True, True, False, False]
    release.set()
    assert background.flush(10)


def test_failures_are_logged_by_kind_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """C41, C43: the class name only, and an outage is no flood; what comes later is still done."""
    background, done = Background("test"), []

    def fail(error: Exception) -> None:
        raise error

    for _ in range(20):
        background.submit(lambda: fail(ConnectionError("canary")))
    background.submit(lambda: fail(ValueError("canary")))
    background.submit(lambda: done.append(1))
    assert background.flush(10)
    assert done == [1]
    said = [(record.getMessage(), record.levelno, record.__dict__["error"]) for record in caplog.records]
    assert said == [("chat follow-up failed", logging.WARNING, name) for name in ("ConnectionError", "ValueError")]
    assert "canary" not in str([record.__dict__ for record in caplog.records])


def test_an_idle_one_lets_go() -> None:
    """C4: of its connections and its thread; the next job starts another."""
    idle = threading.Event()
    background = Background("test-idle-thread", idle.set, 0.05)
    for _ in range(2):
        idle.clear()
        assert background.submit(int)
        assert idle.wait(10)
        eventually(lambda: all(thread.name != "test-idle-thread" for thread in threading.enumerate()))


def test_a_forked_child_starts_with_nothing() -> None:
    """C45: gunicorn's workers: the parent's jobs are the parent's, and the child's are done in the child."""
    background, release = Background("test"), threading.Event()
    background.submit(release.wait)
    background.submit(int)
    child = os.fork()
    if not child:
        done: list[int] = []
        background.submit(lambda: done.append(1))
        os._exit(0 if background.flush(10) and done == [1] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    release.set()
    assert background.flush(10)


GEVENT = "from gevent import monkey; monkey.patch_all()\n"
PROGRAM = """
import sys, time
from nursecare_chat.background import Background
background = Background("test")
background.submit(lambda: time.sleep(float(sys.argv[1])))
background.submit(lambda: print("done", flush=True))
"""


@pytest.mark.parametrize("first", ["", GEVENT], ids=["threads", "gevent"])
@pytest.mark.parametrize(("lasts", "said"), [("0.1", "done\n"), ("60", "")])
def test_the_interpreters_end_waits_a_moment(first: str, lasts: str, said: str) -> None:
    """C36: a script that closes a chat and ends still tells a worker; one whose Redis hangs ends all the same."""
    command = [sys.executable, "-c", first + PROGRAM, lasts]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout, run.stderr) == (0, said, "")


def test_submit_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """C4: where no thread can be started, the job is dropped."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    background = Background("test")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert not background.submit(int)
    monkeypatch.undo()
    assert background.submit(int)
    assert background.flush(10)
