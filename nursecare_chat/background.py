"""Work that nobody waits for: what follows a commit and may hang where the commit did not."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakSet

from . import fork

log = logging.getLogger(__name__)

SIZE = 1000
"""Jobs that may wait; more are dropped, for what they tell is found in the database, too."""

AT_EXIT = 1.0
"""Seconds that the interpreter's end waits, so that a script which closes a chat and ends still tells a worker."""

QUIET = 30
"""Seconds between two log lines about the same kind of failure."""

_all: WeakSet[Background] = WeakSet()


class Background:
    """Runs jobs one after the other in a daemon thread, which lives only while there are any.

    :param name: the thread's.
    :param idle: called in the thread when there was nothing to do for ``idle_after`` seconds: close connections there.
    """

    def __init__(self, name: str, idle: Callable[[], object] | None = None, idle_after: float = 5) -> None:
        self._name = name
        self._idle = idle
        self._idle_after = idle_after
        self._logged: dict[str, float] = {}
        self.after_fork()
        fork.register(self)
        _all.add(self)

    def after_fork(self) -> None:
        """The child starts with nothing: the parent's thread stayed there, and does the parent's jobs."""
        self._changed = threading.Condition(threading.Lock())
        self._jobs: deque[Callable[[], object]] = deque()
        self._busy = False
        self._thread: threading.Thread | None = None
        self._touched_at = 0.0

    def touch(self) -> None:
        """Put off ``idle``: what it closes was used just now."""
        self._touched_at = time.monotonic()
        if self._thread is None:
            self.submit(_nothing)

    def submit(self, job: Callable[[], object]) -> bool:
        """Have ``job`` run soon; whether it will be tried. Never waits and never raises."""
        with self._changed:
            if len(self._jobs) >= SIZE:
                return False
            self._jobs.append(job)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # no more threads, or the interpreter is ending
                    self._thread = None
                    self._jobs.pop()
                    return False
            self._changed.notify_all()
        return True

    def flush(self, timeout: float) -> bool:
        """Wait until nothing is left to do, for at most ``timeout`` seconds; whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs and not self._busy, timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                waited = self._changed.wait_for(lambda: self._jobs, self._idle_after)
                self._busy = True
                job = self._jobs.popleft() if waited else None
            if job is not None:
                self._attempt(job)
                continue
            touched_at = self._touched_at
            if time.monotonic() - touched_at < self._idle_after:
                continue
            if self._idle is not None:
                self._attempt(self._idle)
            with self._changed:
                if not self._jobs:
                    self._busy, self._thread = False, None
                    self._changed.notify_all()
                    break
        if self._touched_at != touched_at:  # perhaps by somebody who still saw this thread
            self.touch()

    def _attempt(self, job: Callable[[], object]) -> None:
        try:
            job()
        except Exception as error:
            kind, at = type(error).__name__, time.monotonic()
            if at - self._logged.get(kind, -QUIET) >= QUIET:
                self._logged[kind] = at
                log.warning("chat follow-up failed", extra={"chat": True, "error": kind})


def _nothing() -> None:
    """A job that has the thread run."""


def _flush_all() -> None:
    deadline = time.monotonic() + AT_EXIT
    for background in list(_all):
        with suppress(Exception):
            background.flush(max(0, deadline - time.monotonic()))


atexit.register(_flush_all)
