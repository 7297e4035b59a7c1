"""How often a user may do something (contract C13): counted by the ``limits`` library, asked by our own gate."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import redis
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter
from redis.backoff import NoBackoff
from redis.retry import Retry

from . import fork
from .errors import RateLimited
from .keys import wire
from .redis_pool import make_pool

log = logging.getLogger(__name__)

TIMEOUT = 0.2
"""Seconds that a request may wait for Redis, once in :data:`PAUSE`."""

PAUSE = 5.0
"""Seconds for which a Redis that did not answer is not asked again."""

CONNECTIONS = 16
"""To Redis, for counting; each is needed for a fraction of a millisecond."""


class Rates:
    """Counts by user and by what they do: in Redis for all processes, else, or while it is out of reach, in this one.

    :param rates: for each thing that is limited, a rate such as ``"120/minute"``, or ``None`` for no limit.
    :param url: ``redis://…``, or anything else for counting here.
    :param used: called when a connection to Redis was used, see :meth:`release`.
    """

    def __init__(
        self, rates: dict[str, str | None], url: str = "memory://", used: Callable[[], object] = lambda: None
    ) -> None:
        self._rates: dict[str, RateLimitItem] = {what: parse(rate) for what, rate in rates.items() if rate is not None}
        self._used = used
        self._pool = _pool(url) if url.startswith("redis") else None
        self._url = url
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """No lock of the parent's, and its thread that forgets old counts is not ours."""
        self._here: MovingWindowRateLimiter | None = None
        self._shared: MovingWindowRateLimiter | None = None
        self._away_until = 0.0
        self._lock = threading.Lock()

    def hit(self, what: str, user_id: Any) -> None:
        """Count one more.

        :raises RateLimited: instead, if that is one too many; with the seconds until it is not.
        """
        rate = self._rates.get(what)
        if rate is None:
            return
        key = (what, str(wire(user_id)))
        wait = self._ask_redis(rate, key)
        if wait is None:
            wait = self._ask_memory(rate, key)
        if wait:
            raise RateLimited(headers={"Retry-After": str(wait)})

    def release(self) -> None:
        """Close what waits to be used again; the next count opens another."""
        if self._pool is not None:
            self._pool.disconnect(inuse_connections=False)

    def _ask_redis(self, rate: RateLimitItem, key: tuple[str, ...]) -> int | None:
        """As :func:`_ask`; ``None`` if Redis does not count this one."""
        if self._pool is None or time.monotonic() < self._away_until:
            return None
        try:
            wait = _ask(self._in_redis(), rate, key)
        except (redis.RedisError, OSError) as error:
            was_here, self._away_until = self._away_until == 0.0, time.monotonic() + PAUSE
            if was_here:
                log.warning(
                    "chat rates are counted in this process", extra={"chat": True, "error": type(error).__name__}
                )
            return None
        self._away_until = 0.0
        self._used()
        return wait

    def _in_redis(self) -> MovingWindowRateLimiter:
        if self._away_until:
            self._away_until = time.monotonic() + PAUSE  # one asks whether it is back, the others need not wait
        with self._lock:
            if self._shared is None:
                storage = RedisStorage(self._url, connection_pool=self._pool, key_prefix="nursecare-chat")
                self._shared = MovingWindowRateLimiter(storage)
            return self._shared

    def _ask_memory(self, rate: RateLimitItem, key: tuple[str, ...]) -> int:
        with self._lock:  # one at a time: two could start the same thread of the storage's, which raises
            self._here = self._here or MovingWindowRateLimiter(MemoryStorage())  # not earlier: it starts a thread
            return _ask(self._here, rate, key)


def _ask(limiter: MovingWindowRateLimiter, rate: RateLimitItem, key: tuple[str, ...]) -> int:
    """Count one more: 0, or the seconds until that is allowed."""
    if limiter.hit(rate, *key):
        return 0
    return max(1, math.ceil(limiter.get_window_stats(rate, *key).reset_time - time.time()))


def _pool(url: str) -> Any:
    return make_pool(
        "CHAT_TRANSPORT_URL",
        url,
        redis.BlockingConnectionPool,
        max_connections=CONNECTIONS,
        timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        socket_timeout=TIMEOUT,
        retry=Retry(NoBackoff(), 0),
        client_name="nursecare-chat",
    )
