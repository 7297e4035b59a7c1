"""Huey: the queue, and the tasks on it (contract C4, C36). Arguments are ids; the database has the work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Flask
from huey import Huey, MemoryHuey, RedisHuey, SqliteHuey, crontab
from huey.exceptions import HueyException

if TYPE_CHECKING:
    from .service.purges import Purges

log = logging.getLogger(__name__)

QUEUE = "nursecare-chat"
PICKUP = {"initial_delay": 0.05, "max_delay": 0.2}
"""Seconds between two looks into a polled queue; Huey's own default goes up to 10."""


def make_huey(url: str, instance_path: str) -> Huey:
    """The queue that ``CHAT_QUEUE_URL`` names; nothing is opened yet.

    ``memory://`` runs tasks at once in the process that enqueues them.
    """
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return MemoryHuey(QUEUE, immediate=True)
    if parts.scheme == "sqlite":
        path = Path(instance_path, parts.path.removeprefix("/") or "chat-queue.db")
        return SqliteHuey(QUEUE, filename=str(path), create_tables=False)
    return RedisHuey(QUEUE, url=url)


class Tasks:
    """The chat's tasks on one Huey instance, its own or the host's."""

    def __init__(self, app: Flask, huey: Huey, purges: Callable[[], Purges]) -> None:
        self.huey = huey
        self._prepared = False
        self._preparing = threading.Lock()

        def close_chat_and_purge_media(thread_id: int) -> None:
            """Erase one closed thread (C37)."""
            with app.app_context():
                purges().run(thread_id)

        def sweep_purges() -> None:
            """Every minute, and when a consumer starts: whatever is due, whoever lost it (C36)."""
            with app.app_context():
                purges().sweep()

        for task in (close_chat_and_purge_media, sweep_purges):
            # The host's Huey may serve a second application of this process; ids must not change for that.
            with suppress(HueyException):
                huey._registry.unregister(huey._registry.string_to_task(f"{__name__}.{task.__name__}"))
        self._purge = huey.task(name="close_chat_and_purge_media")(close_chat_and_purge_media)
        huey.periodic_task(crontab(minute="*"), name="sweep_purges")(sweep_purges)

    def prepare(self) -> None:
        """Make an SQLite queue's file and tables, once per process."""
        with self._preparing:
            if not self._prepared and isinstance(self.huey, SqliteHuey):
                Path(self.huey.storage.filename).parent.mkdir(parents=True, exist_ok=True)
                self.huey.storage.initialize_schema()
            self._prepared = True

    def wake(self, thread_id: int, delay: int = 0) -> None:
        """Ask a worker to look at a purge, now or in ``delay`` seconds. Losing this costs a minute: the sweep."""
        self.prepare()
        if delay:
            self._purge.schedule((thread_id,), delay=delay)
        else:
            self._purge(thread_id)
