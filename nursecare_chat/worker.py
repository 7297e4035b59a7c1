"""``flask chat worker``: Huey's consumer, which ends gracefully on SIGTERM too and is brief about outages."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import MutableMapping
from typing import Any

from huey import Huey
from huey.consumer import BaseProcess, Consumer, Scheduler, Worker
from redis.exceptions import RedisError

from .tasks import PICKUP

RECONNECT = {"max_delay": 5}
"""Seconds between two attempts to reach a queue that is away; while it is there, nobody polls it."""

GRACE = 30
"""Seconds that running tasks get to end; what is cut off then is another worker's when its lease is over (C36)."""

QUIET = 30
"""Seconds between two log lines about the same outage."""


class _Brief(logging.LoggerAdapter[logging.Logger]):
    """One line now and then for a Redis that is away, in place of a traceback each second."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__(logger, {})
        self._said: dict[str, float] = {}

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        error, now = sys.exc_info()[1], time.monotonic()
        if not isinstance(error, RedisError):
            super().exception(msg, *args, **kwargs)
        elif now - self._said.get(str(msg), -QUIET) >= QUIET:
            self._said[str(msg)] = now
            self.warning(f"{msg} {type(error).__name__}; trying again", *args)


class _BriefLog(BaseProcess):
    def create_logger(self) -> _Brief:
        return _Brief(super().create_logger())


class _Worker(_BriefLog, Worker):
    pass


class _Scheduler(_BriefLog, Scheduler):
    pass


class _Consumer(Consumer):
    worker_class = _Worker
    scheduler_class = _Scheduler

    def __init__(self, huey: Huey, **options: Any) -> None:
        super().__init__(huey, **options)
        # Huey would drop running tasks on one of the two. A second signal does that here.
        self._signal_actions |= {signal.SIGINT: (False, True), signal.SIGTERM: (False, True)}


def run(huey: Huey, workers: int) -> None:
    """Run tasks until SIGINT or SIGTERM.

    :param workers: threads.
    """
    delays: Any = RECONNECT if huey.storage.blocking else PICKUP
    _Consumer(huey, workers=workers, shutdown_timeout=GRACE, **delays).run()
