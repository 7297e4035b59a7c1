"""Erasing a closed thread (contract C36 to C38): the row in ``chat_purges`` is the job, a queue only wakes it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from ..errors import DatabaseError
from ..metrics import Metrics
from ..models import ChatModels, utcnow
from .unit_of_work import Database, UnitOfWork

log = logging.getLogger(__name__)

LEASE = 60
"""Seconds for which one worker has a purge to itself (C36)."""

DELAYS = (5, 30, 60, 120)
"""Seconds before the second to fifth attempt; after that the purge is stalled (C38)."""

STALLED_DELAY = 300
"""Seconds between attempts at a stalled purge, for ever (C38)."""

BATCH = 500
"""Rows redacted in one transaction: on SQLite posts to other threads wait for it."""

FINAL = "settled"


class LeaseLost(Exception):
    """Another worker took the purge over; what is left is its affair."""


class Purges:
    """Every step can be done again, and every write to a purge's row is fenced on its lease.

    :param redact: whether content goes (C5, ``CHAT_REDACT_MESSAGES``); media paths always do.
    :param wake: asks a worker to look at a thread in so many seconds. Losing that costs a minute: the sweep.
    """

    def __init__(
        self,
        database: Database,
        models: ChatModels,
        metrics: Metrics,
        redact: bool,
        wake: Callable[[int, int], None],
    ) -> None:
        self._database = database
        self._purges = models.purges
        self._messages = models.messages
        self._metrics = metrics
        self._redact = redact
        self._wake = wake

    def request(self, unit: UnitOfWork, thread: Row[Any]) -> None:
        """Put down the purge of a thread that ``unit`` is closing."""
        values = {
            "thread_id": thread.id,
            "request_id": thread.request_id,
            "closed_at": thread.closed_at,
            "next_attempt_at": utcnow(),
        }
        unit.connection.execute(self._purges.insert().values(values))
        unit.after_commit(lambda: self._wake(thread.id, 0))

    def due(self) -> list[int]:
        """The threads whose purge waits for an attempt now and that no living worker has leased."""
        purges = self._purges
        with self._database.read() as connection:
            query = sa.select(purges.c.thread_id).where(self._is_due()).order_by(purges.c.next_attempt_at)
            return list(connection.scalars(query))

    def settled(self, connection: Connection, thread_ids: Iterable[int]) -> list[int]:
        """Those of ``thread_ids`` of which nothing is left."""
        purges = self._purges
        query = sa.select(purges.c.thread_id).where(purges.c.thread_id.in_(thread_ids), purges.c.state == FINAL)
        return list(connection.scalars(query))

    def sweep(self) -> int:
        """Attempt everything that is due, whoever lost it (C36); the number of purges finished."""
        return sum(self.run(thread_id) for thread_id in self.due())

    def run(self, thread_id: int) -> bool:
        """One attempt, if it is due and free; whether the purge is finished by it.

        A failure is put into the row and tried again later (C38), never raised.
        """
        owner, attempt = uuid.uuid4().hex, 0
        try:
            attempt = self._lease(thread_id, owner) or 0
            if not attempt:
                return False
            redacted = self._erase_text(thread_id, owner)
            self._database.erase_free_space()
            self._finish(thread_id, owner)
        except LeaseLost:
            return False
        except Exception as error:
            self._failed(thread_id, owner, attempt, error)
            return False
        self._metrics.count("purges", FINAL)
        log.info(
            "chat thread purged",
            extra={"chat": True, "threadId": thread_id, "attempts": attempt, "rowsRedacted": redacted},
        )
        return True

    def _is_due(self) -> sa.ColumnElement[bool]:
        purges = self._purges
        free = purges.c.lease_until.is_(None) | (purges.c.lease_until <= utcnow())
        return (purges.c.next_attempt_at <= utcnow()) & free

    def _lease(self, thread_id: int, owner: str) -> int | None:
        """Take the purge for :data:`LEASE` seconds of the database's clock; the number of this attempt."""
        purges = self._purges
        take = (
            purges.update()
            .where(purges.c.thread_id == thread_id, self._is_due())
            .values(lease_owner=owner, lease_until=utcnow(LEASE), attempts=purges.c.attempts + 1)
            .returning(purges.c.attempts)
        )
        with self._database.write() as unit:
            return unit.connection.scalars(take).one_or_none()

    def _update(self, connection: Connection, thread_id: int, owner: str, **values: Any) -> None:
        """
        :raises LeaseLost: if the lease is another worker's by now.
        """
        purges = self._purges
        fenced = (purges.c.thread_id == thread_id) & (purges.c.lease_owner == owner)
        if not connection.execute(purges.update().where(fenced).values(values)).rowcount:
            raise LeaseLost()

    def _erase_text(self, thread_id: int, owner: str) -> int:
        messages, total = self._messages, 0
        names = ["media_path"]
        if self._redact:
            names += ["text", "latitude", "longitude", "sealed", "client_message_id", "client_message_key"]
        columns = [messages.c[name] for name in names]
        full = sa.or_(*(column.is_not(None) for column in columns))
        some = sa.select(messages.c.id).where(messages.c.thread_id == thread_id, full).limit(BATCH)
        erase = messages.update().where(messages.c.id.in_(some)).values({column: None for column in columns})
        while True:
            with self._database.write() as unit:
                count = unit.connection.execute(erase).rowcount
                redacted = self._purges.c.rows_redacted + count
                self._update(unit.connection, thread_id, owner, lease_until=utcnow(LEASE), rows_redacted=redacted)
            total += count
            if count < BATCH:
                return total

    def _finish(self, thread_id: int, owner: str) -> None:
        with self._database.write() as unit:
            self._update(
                unit.connection,
                thread_id,
                owner,
                state=FINAL,
                purged_at=utcnow(),
                settled_at=utcnow(),
                next_attempt_at=None,
                lease_owner=None,
                lease_until=None,
                last_error=None,
            )

    def _failed(self, thread_id: int, owner: str, attempt: int, error: Exception) -> None:
        if not attempt:
            log.warning("chat purge not leased: %s", error, extra={"chat": True, "threadId": thread_id})
            return
        stalled = attempt > len(DELAYS)
        delay = STALLED_DELAY if stalled else DELAYS[attempt - 1]
        code = f"{error.kind}/{error.sqlstate}" if isinstance(error, DatabaseError) else type(error).__name__
        try:
            with self._database.write() as unit:
                self._update(
                    unit.connection,
                    thread_id,
                    owner,
                    state="stalled" if stalled else "requested",
                    next_attempt_at=utcnow(delay),
                    lease_owner=None,
                    lease_until=None,
                    last_error=code[:128],
                )
                unit.after_commit(lambda: self._wake(thread_id, delay))
        except (DatabaseError, LeaseLost):
            pass  # the lease runs out by itself, then the sweep tries again
        self._metrics.count("purges", "stalled" if stalled else "failed")
        log.log(
            logging.ERROR if stalled else logging.WARNING,
            "chat purge stalled" if stalled else "chat purge failed",
            extra={"chat": True, "threadId": thread_id, "attempts": attempt, "error": code, "retryIn": delay},
        )
