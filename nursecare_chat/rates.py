"""How often a user may do something (contract C13): counted by the ``limits`` library, asked by our own gate."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from . import fork
from .errors import RateLimited
from .keys import wire


class Rates:
    """Counts in this process, by user and by what they do.

    :param rates: for each thing that is limited, a rate such as ``"120/minute"``, or ``None`` for no limit.
    """

    def __init__(self, rates: dict[str, str | None]) -> None:
        self._rates: dict[str, RateLimitItem] = {what: parse(rate) for what, rate in rates.items() if rate is not None}
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """Counted anew in each process, and no lock of the parent's."""
        self._limiter: MovingWindowRateLimiter | None = None
        self._setup = threading.Lock()

    def hit(self, what: str, user_id: Any) -> None:
        """Count one more.

        :raises RateLimited: instead, if that is one too many; with the seconds until it is not.
        """
        rate = self._rates.get(what)
        if rate is None:
            return
        with self._setup:  # not earlier: the storage starts a thread
            limiter = self._limiter = self._limiter or MovingWindowRateLimiter(MemoryStorage())
        key = (what, str(wire(user_id)))
        if not limiter.hit(rate, *key):
            seconds = limiter.get_window_stats(rate, *key).reset_time - time.time()
            raise RateLimited(headers={"Retry-After": str(max(1, math.ceil(seconds)))})
