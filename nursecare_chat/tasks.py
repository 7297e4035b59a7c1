"""Huey: the queue, and the tasks on it (contract C4, C36). Arguments are ids; the database has the work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from weakref import WeakSet

from flask import Flask
from huey import Huey, MemoryHuey, RedisHuey, SqliteHuey, crontab

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


class _Registration:
    """The tasks on one Huey instance. A host's may serve several applications of a process: each looks for itself."""

    def __init__(self, huey: Huey) -> None:
        self.applications: WeakSet[Tasks] = WeakSet()

        def close_chat_and_purge_media(thread_id: int) -> None:
            """Erase one closed thread (C37)."""
            for application in list(self.applications):
                application.purge(thread_id)

        def sweep_purges() -> None:
            """Every minute, and when a consumer starts: whatever is due, whoever lost it (C36)."""
            for application in list(self.applications):
                application.sweep()

        # Huey names a task module.name; that must not change, for it stands in queues.
        self.purge = huey.task(name="close_chat_and_purge_media")(close_chat_and_purge_media)
        huey.periodic_task(crontab(minute="*"), name="sweep_purges")(sweep_purges)


class Tasks:
    """One application's side of the tasks on a Huey instance, its own or the host's.

    :param purges: gives the application's purges, which in turn need :meth:`wake`.
    """

    def __init__(self, app: Flask, huey: Huey, purges: Callable[[], Purges]) -> None:
        self.huey = huey
        self._app = app
        self._purges = purges
        self._prepared = False
        self._preparing = threading.Lock()
        if not hasattr(huey, "nursecare_chat"):
            huey.nursecare_chat = _Registration(huey)
        self._registration: _Registration = huey.nursecare_chat
        self._registration.applications.add(self)

    def purge(self, thread_id: int) -> None:
        with self._app.app_context():
            self._purges().run(thread_id)

    def sweep(self) -> None:
        with self._app.app_context():
            self._purges().sweep()

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
            self._registration.purge.schedule((thread_id,), delay=delay)
        else:
            self._registration.purge(thread_id)
