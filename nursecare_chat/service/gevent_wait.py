"""Waiting for PostgreSQL in a worker that gevent has patched (contract C10, C45).

psycopg waits there with ``select.poll``, for which gevent makes a watcher, an event and a list for each answer: more
than the loop that it asks. A connection of ours keeps its watchers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from typing import Any

Steps = Generator[Any, Any, Any]


def is_patched() -> bool:
    """Whether this process waits by gevent's loop, which psycopg asks, too."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and monkey.is_module_patched("select")


class Waiter:
    """What waits for one connection's descriptor, in the loop of whichever thread uses it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._hub: Any = None
        self._watchers: dict[int, Any] = {}

    def run(self, steps: Steps, seconds: float) -> Any:
        """What ``steps``, one of psycopg's generators, gives in the end.

        :raises TimeoutError: if it does not end within ``seconds``; it may be gone on with.
        """
        from gevent import get_hub
        from gevent.socket import wait

        deadline = time.monotonic() + seconds
        hub = get_hub()
        if hub is not self._hub:
            self.close()
            self._hub = hub
        try:
            wanted = next(steps)
            while True:
                wait(self._watcher(wanted), max(0.001, deadline - time.monotonic()), TimeoutError())
                wanted = steps.send(wanted)  # it looks for itself, and never blocks
        except StopIteration as end:
            return end.value

    def _watcher(self, wanted: int) -> Any:
        """psycopg's ``Wait`` has libev's values: 1 to read, 2 to write."""
        watcher = self._watchers.get(wanted)
        if watcher is None:
            watcher = self._watchers[wanted] = self._hub.loop.io(self._descriptor, int(wanted))
        return watcher

    def close(self) -> None:
        """Before its descriptor is closed."""
        while self._watchers:
            _, watcher = self._watchers.popitem()
            watcher.close()
