"""Waiting for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from .patience import PATIENCE
from .servers import Process

T = TypeVar("T")


def eventually(reached: Callable[[], T], *said_by: Process, seconds: float = 30 * PATIENCE) -> T:
    """What ``reached`` gives as soon as that is true; what the processes said if it never is."""
    deadline = time.monotonic() + seconds
    while not (result := reached()):
        assert time.monotonic() < deadline, ["it did not come true", *(process.output for process in said_by)]
        time.sleep(0.05)
    return result
