"""Looking for anything that is left of erased chats (contract C40, C41), for ``flask chat audit``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import redis
import sqlalchemy as sa

from ..models import ChatModels
from ..storage import names
from ..storage.base import BlobStorage
from .erasure import SETTLED, VERIFIED_EMPTY, erased_columns
from .sealing import Sealing
from .unit_of_work import Database

PAGE = 500
CHANNEL = "private-chat."
REDIS = {"socket_timeout": 5, "socket_connect_timeout": 2}


@dataclass(frozen=True)
class Trace:
    """:ivar place: ``database``, ``storage``, ``keystore``, ``redis`` or ``queue``; :ivar what: never content."""

    place: str
    thread_id: int | None
    what: str


class Audit:
    """
    :param suspicious_tasks: how many tasks of ours wait in the queue with more than an id.
    """

    def __init__(
        self,
        database: Database,
        models: ChatModels,
        storage: BlobStorage,
        sealing: Sealing,
        suspicious_tasks: Callable[[], int],
        transport_url: str,
        redact: bool,
    ) -> None:
        self._database = database
        self._models = models
        self._storage = storage
        self._sealing = sealing
        self._suspicious_tasks = suspicious_tasks
        self._transport_url = transport_url
        self._redact = redact

    def threads(self) -> list[int]:
        """Those that are said to be erased."""
        purges = self._models.purges
        done = sa.select(purges.c.thread_id).where(purges.c.state.in_((VERIFIED_EMPTY, SETTLED)))
        with self._database.read() as connection:
            return list(connection.scalars(done.order_by(purges.c.thread_id)))

    def of_thread(self, thread_id: int) -> Iterator[Trace]:
        """
        :raises DatabaseError, StorageUnavailable: if one of them cannot be looked at.
        """
        messages = self._models.messages
        full = sa.or_(*(column.is_not(None) for column in erased_columns(messages, self._redact)))
        query = sa.select(sa.func.count()).where(messages.c.thread_id == thread_id, full)
        with self._database.read() as connection:
            rows = connection.scalar(query)
        if rows:
            yield Trace("database", thread_id, f"{rows} message(s) with content")
        if left := self._storage.listing(names.prefix(thread_id)):
            yield Trace("storage", thread_id, f"{len(left)} blob(s)")
        if self._redact and self._sealing.left_of(thread_id):
            yield Trace("keystore", thread_id, "a key")

    def elsewhere(self, erased: set[int]) -> Iterator[Trace]:
        """Redis and the queue hold ids and numbers at most; anything else there is a trace.

        :raises Exception: the clients' own, if one cannot be looked at.
        """
        if self._transport_url.startswith("redis"):
            yield from self._in_redis(erased)
        if count := self._suspicious_tasks():
            yield Trace("queue", None, f"{count} task(s) that hold more than a thread's id")

    def _in_redis(self, erased: set[int]) -> Iterator[Trace]:
        options: dict[str, Any] = {**REDIS, "decode_responses": True}
        with redis.Redis.from_url(self._transport_url, **options) as client:
            for channel in client.pubsub_channels(CHANNEL + "*"):
                number = str(channel).removeprefix(CHANNEL)
                if number.isdigit() and int(number) in erased:
                    yield Trace("redis", int(number), "a stream is subscribed to it")
            for key in client.scan_iter(match=CHANNEL + "*", count=PAGE):
                yield Trace("redis", None, f"an unknown key {str(key)[:40]!r}")
