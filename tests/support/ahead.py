"""The reference host, in one of its server's processes by a clock that is ahead, as on a machine that lost its time."""

from __future__ import annotations

import datetime
import os
import sys
import time
from contextlib import suppress

from flask import Flask

import examples.nursecare

VARIABLE = "CLOCK_AHEAD"
"""Names a file in the environment: the first process to make it has the wrong clock, and leaves its number there."""

SECONDS = 20 * 60


def create_app() -> Flask:
    with suppress(FileExistsError), open(os.environ[VARIABLE], "x") as file:
        file.write(str(os.getpid()))
        shift(SECONDS)
    return examples.nursecare.create_app()


def shift(seconds: float) -> None:
    """For everything that asks ``time.time()``, and what the chat asks ``datetime``."""
    right = time.time

    class Ahead(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime.now(tz) + datetime.timedelta(seconds=seconds)

    time.time = lambda: right() + seconds
    for name, module in list(sys.modules.items()):
        if name.startswith("nursecare_chat") and getattr(module, "datetime", None) is datetime.datetime:
            module.datetime = Ahead
