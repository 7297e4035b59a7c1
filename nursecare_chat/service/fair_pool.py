"""A pool whose connections go to whoever has waited longest (contract C10, C13).

SQLAlchemy's gives one that comes back to whoever asks next. On a busy server somebody always does, so that some wait
until they are refused while others never wait at all.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool


class Turns:
    """As many at a time as there are places, in the order in which they came."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._lock = threading.Lock()
        self._waiting: deque[Any] = deque()

    def take(self, seconds: float) -> bool:
        """Wait for a place; ``False`` if none came in time."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            called = threading.Lock()
            called.acquire()
            self._waiting.append(called)
        try:
            return called.acquire(timeout=seconds) or not self._leave(called)
        except BaseException:  # the greenlet is killed
            if not self._leave(called):
                self.give_back()
            raise

    def _leave(self, called: Any) -> bool:
        """Wait no more; ``False`` if it was called meanwhile and has a place."""
        with self._lock:
            if called not in self._waiting:
                return False
            self._waiting.remove(called)
            return True

    def give_back(self) -> None:
        """A place goes from hand to hand, so that nobody is faster."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1


class FairPool(QueuePool):
    """For ``max_overflow=0``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._turns = Turns(self.size())

    def _do_get(self) -> Any:
        if not self._turns.take(self._timeout):
            raise sa.exc.TimeoutError(f"no connection of {self.size()} came back in {self._timeout:g} s", code="3o7r")
        try:
            return super()._do_get()
        except BaseException:
            self._turns.give_back()
            raise

    def _do_return_conn(self, record: Any) -> None:
        super()._do_return_conn(record)
        self._turns.give_back()
