"""Huey: the queue, and the tasks on it (contract C4, C36). Arguments are ids; the database has the work."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakSet

from flask import Flask
from huey import Huey, MemoryHuey, RedisHuey, SqliteHuey, crontab
from huey.constants import EmptyData
from huey.registry import Message
from huey.serializer import Serializer
from huey.storage import FileStorage, MemoryStorage, SqliteStorage

from .background import Background
from .redis_pool import make_pool

if TYPE_CHECKING:
    from .service.expiry import Expiry
    from .service.purges import Purges

log = logging.getLogger(__name__)

QUEUE = "nursecare-chat"
PICKUP = {"initial_delay": 0.05, "max_delay": 0.2}
"""Seconds between two looks into a polled queue; Huey's own default goes up to 10."""

BLOCKING_POP = 1
"""Seconds for which a worker asks Redis for a task at a time; so long its end waits at most."""

TIMEOUTS = {"socket_connect_timeout": 1.5, "socket_timeout": BLOCKING_POP + 2}
"""Seconds for Redis. Reading must outlast the blocking pop, or what was popped is lost on its way."""

AT_HAND = (MemoryStorage, SqliteStorage, FileStorage)
"""Where putting a task never means waiting for a server."""

BEAT = 20
"""Seconds between two signs of life of a worker; each is also a look whether the queue can be reached."""

SEEN = "nursecare-chat-worker"


class JsonSerializer(Serializer):
    """A task's name and arguments. Huey's own are pickles: whoever can write into the queue runs code as the worker."""

    def _serialize(self, data: Any) -> bytes:
        if not isinstance(data, Message):
            return b"null"  # what became of a task that failed; nobody asks, the database says
        eta = data.eta and data.eta.isoformat()
        task = {"id": data.id, "name": data.name, "eta": eta, "args": data.args, "kwargs": data.kwargs}
        return json.dumps(task).encode()

    def _deserialize(self, data: bytes) -> Message:
        """
        :raises ValueError, TypeError, KeyError: if that is no task of ours; Huey logs it and takes the next.
        """
        found = json.loads(bytes(data))
        eta = found["eta"] and datetime.fromisoformat(found["eta"])
        args, kwargs = tuple(found["args"] or ()), dict(found["kwargs"] or {})
        return Message(id=str(found["id"]), name=str(found["name"]), eta=eta, args=args, kwargs=kwargs)


def make_huey(url: str, instance_path: str) -> Huey:
    """The queue that ``CHAT_QUEUE_URL`` names; nothing is opened yet.

    ``memory://`` runs tasks at once in the process that enqueues them.

    :raises ConfigurationError: if it cannot be used.
    """
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return MemoryHuey(QUEUE, immediate=True)
    if parts.scheme == "sqlite":
        path = Path(instance_path, parts.path.removeprefix("/") or "chat-queue.db")
        return SqliteHuey(QUEUE, filename=str(path), create_tables=False, serializer=JsonSerializer())
    pool = make_pool("CHAT_QUEUE_URL", url, **TIMEOUTS)
    return RedisHuey(QUEUE, connection_pool=pool, read_timeout=BLOCKING_POP, serializer=JsonSerializer())


class _Registration:
    """The tasks on one Huey instance. A host's may serve several applications of a process: each looks for itself."""

    def __init__(self, huey: Huey) -> None:
        self.applications: WeakSet[Tasks] = WeakSet()
        self._pulse = _Pulse(huey, self)

        def close_chat_and_purge_media(thread_id: int) -> None:
            """Erase one closed thread (C37)."""
            for application in list(self.applications):
                application.purge(thread_id)

        def sweep_purges() -> None:
            """Every minute, and when a consumer starts: whatever is due, whoever lost it (C36)."""
            self.sweep()

        # Huey names a task module.name; that must not change, for it stands in queues.
        self.purge = huey.task(name="close_chat_and_purge_media")(close_chat_and_purge_media)
        huey.periodic_task(crontab(minute="*"), name="sweep_purges")(sweep_purges)
        # In every consumer, ours or the host's, and nowhere else.
        huey.on_startup(name=SEEN)(self._pulse.start)
        huey.on_shutdown(name=SEEN)(self._pulse.stop)

    def sweep(self) -> None:
        for application in list(self.applications):
            application.sweep()


class _Pulse:
    """A consumer's sign of life; and its own sweep while the queue is out of reach, for then nobody gets that task."""

    def __init__(self, huey: Huey, registration: _Registration) -> None:
        self._huey = huey
        self._registration = registration
        self._lock = threading.Lock()
        self._workers = 0
        self._over = threading.Event()
        self._sender = Background(SEEN)  # a host's Redis may have no timeouts
        self._reached = False

    def start(self) -> None:
        """Called in every worker of the consumer; the first one starts it."""
        with self._lock:
            self._workers += 1
            if self._workers == 1:
                self._over = threading.Event()
                threading.Thread(target=self._run, args=[self._over], name=SEEN, daemon=True).start()

    def stop(self) -> None:
        with self._lock:
            self._workers -= 1
            if not self._workers:
                self._over.set()

    def _run(self, over: threading.Event) -> None:
        while True:
            self._reached = False
            if self._sender.flush(0):
                self._sender.submit(self._beat)
            self._sender.flush(BEAT / 4)
            if not self._reached and not over.is_set():
                log.warning("chat queue out of reach", extra={"chat": True})
                self._registration.sweep()
            if over.wait(BEAT):
                return

    def _beat(self) -> None:
        self._huey.storage.put_data(SEEN, str(time.time()).encode())
        self._reached = True


class Tasks:
    """One application's side of the tasks on a Huey instance, its own or the host's.

    :param huey: the host's; without it one is made from ``url``, whose connections are ours to close.
    :param purges: gives the application's purges, which in turn need :meth:`wake`; :param expiry: closes what is over.
    """

    def __init__(
        self, app: Flask, huey: Huey | None, url: str, purges: Callable[[], Purges], expiry: Callable[[], Expiry]
    ) -> None:
        self.huey = huey or make_huey(url, app.instance_path)
        self._app = app
        self._purges = purges
        self._expiry = expiry
        self._prepared = False
        self._preparing = threading.Lock()
        ours = isinstance(self.huey, RedisHuey) and huey is None
        self._background = Background("nursecare-chat-queue", self._let_go if ours else None)
        if not hasattr(self.huey, "nursecare_chat"):
            self.huey.nursecare_chat = _Registration(self.huey)
        self._registration: _Registration = self.huey.nursecare_chat
        self._registration.applications.add(self)

    def purge(self, thread_id: int) -> None:
        with self._app.app_context():
            self._purges().run(thread_id)

    def sweep(self) -> None:
        """Whatever is due. A failure is logged, never raised: Huey would keep it as the task's result, for ever."""
        for work in (lambda: self._expiry().sweep(), lambda: self._purges().sweep()):
            try:
                with self._app.app_context():
                    work()
            except Exception as error:
                log.warning("chat sweep failed", extra={"chat": True, "error": type(error).__name__})

    def prepare(self) -> None:
        """Make an SQLite queue's file and tables, once per process."""
        with self._preparing:
            if not self._prepared and isinstance(self.huey, SqliteHuey):
                Path(self.huey.storage.filename).parent.mkdir(parents=True, exist_ok=True)
                self.huey.storage.initialize_schema()
            self._prepared = True

    def suspicious(self) -> int:
        """How many tasks of ours wait with anything but one id.

        :raises Exception: the storage's own, if it is out of reach.
        """
        if self.huey.immediate:
            return 0
        self.prepare()
        ours = self._registration.purge.task_class
        waiting = [task for task in [*self.huey.pending(), *self.huey.scheduled()] if isinstance(task, ours)]
        return sum(bool(task.kwargs) or [type(one) for one in task.args] != [int] for task in waiting)

    def wake(self, thread_id: int, delay: int = 0) -> None:
        """Ask a worker to look at a purge, now or in ``delay`` seconds. Losing this costs a minute: the sweep.

        Where a server has to be asked, nobody waits for it: it may be away or hang.
        """
        if self.huey.immediate or isinstance(self.huey.storage, AT_HAND):
            self._enqueue(thread_id, delay)
        else:
            self._background.submit(lambda: self._enqueue(thread_id, delay))

    def pending(self) -> int | None:
        """How many tasks wait in the queue, the host's own included; ``None`` where they run at once.

        :raises Exception: the storage's own, if it is out of reach.
        """
        if self.huey.immediate:
            return None
        self.prepare()
        return int(self.huey.storage.queue_size())

    def worker_seen_at(self) -> float | None:
        """When a worker last gave a sign of life, in unix time by its clock; each does so every :data:`BEAT` seconds.

        :raises Exception: the storage's own, if it is out of reach.
        """
        if self.huey.immediate:
            return None
        self.prepare()
        seen = self.huey.storage.peek_data(SEEN)
        return None if seen is EmptyData else float(bytes(seen))

    def _enqueue(self, thread_id: int, delay: int) -> None:
        self.prepare()
        if delay:
            self._registration.purge.schedule((thread_id,), delay=delay)
        else:
            self._registration.purge(thread_id)

    def _let_go(self) -> None:
        """Close what is not in use, so that an idle process holds no connection for the queue."""
        self.huey.storage.pool.disconnect(inuse_connections=False)
