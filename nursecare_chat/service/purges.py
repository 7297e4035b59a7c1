"""Erasing a closed thread (contract C36 to C39): the row in ``chat_purges`` is the job, a queue only wakes it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from ..errors import DatabaseError, NotFound, StorageUnavailable
from ..metrics import Metrics
from ..models import ChatModels, now, utcnow
from ..signals import Emit, thread_purged
from ..storage import names
from ..storage.base import BlobStorage
from .unit_of_work import Database

log = logging.getLogger(__name__)

LEASE = 60
"""Seconds for which one worker has a purge to itself (C36)."""

DELAYS = (5, 30, 60, 120)
"""Seconds before the second to fifth attempt; after that the purge is stalled (C38)."""

STALLED_DELAY = 300
"""Seconds between attempts at a stalled purge, for ever (C38)."""

BATCH = 500
"""Rows redacted in one transaction: on SQLite posts to other threads wait for it."""

LATE = timedelta(minutes=5 + 15)
"""After an upload URL's expiry: clocks that differ, and a transfer that began in time (C39)."""

EMPTY_LISTINGS, APART = 2, 60
"""So many in a row, so many seconds apart, find nothing once no upload URL can write any more (C39)."""

FINAL = "settled"


class LeaseLost(Exception):
    """Another worker took the purge over; what is left is its affair."""


class BlobsLeft(Exception):
    """The listing after the deletion was not empty."""


class Purges:
    """Every step can be done again, and every write to a purge's row is fenced on its lease.

    :param redact: whether content goes (C5, ``CHAT_REDACT_MESSAGES``); media paths always do.
    :param wake: asks a worker to look at a thread in so many seconds. Losing that costs a minute: the sweep.
    """

    def __init__(
        self,
        database: Database,
        models: ChatModels,
        storage: BlobStorage,
        metrics: Metrics,
        redact: bool,
        wake: Callable[[int, int], None],
        emit: Emit,
    ) -> None:
        self._database = database
        self._storage = storage
        self._purges = models.purges
        self._messages = models.messages
        self._uploads = models.uploads
        self._metrics = metrics
        self._redact = redact
        self._wake = wake
        self._emit = emit

    def request(self, connection: Connection, thread: Row[Any]) -> None:
        """Put down the purge of a thread that the transaction is closing."""
        values = {
            "thread_id": thread.id,
            "request_id": thread.request_id,
            "closed_at": thread.closed_at,
            "next_attempt_at": utcnow(),
        }
        connection.execute(self._purges.insert().values(values))

    def wake(self, thread_id: int) -> None:
        """Ask a worker to look at a thread now."""
        self._wake(thread_id, 0)

    def due(self) -> list[int]:
        """The threads whose purge waits for an attempt now and that no living worker has leased."""
        purges = self._purges
        query = sa.select(purges.c.thread_id).where(self._is_due()).order_by(purges.c.next_attempt_at)
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def unsettled(self, thread_id: int | None, request_id: Any = None) -> list[int]:
        """The one thread of this id or request, whenever its next attempt is; empty if nothing is left of it.

        :raises NotFound: if no such thread was closed.
        """
        purges = self._purges
        query = sa.select(purges.c.thread_id, purges.c.state)
        for column, wanted in ((purges.c.thread_id, thread_id), (purges.c.request_id, request_id)):
            if wanted is not None:
                query = query.where(column == wanted)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound("No such chat was closed.")
        return [] if row.state == FINAL else [row.thread_id]

    def settled(self, connection: Connection, thread_ids: Iterable[int]) -> list[int]:
        """Those of ``thread_ids`` of which nothing is left."""
        purges = self._purges
        query = sa.select(purges.c.thread_id).where(purges.c.thread_id.in_(thread_ids), purges.c.state == FINAL)
        return list(connection.scalars(query))

    def sweep(self) -> int:
        """Attempt everything that is due, whoever lost it (C36); the number of purges finished."""
        return sum(self.run(thread_id) for thread_id in self.due())

    def run(self, thread_id: int, *, early: bool = False) -> bool:
        """One attempt, if it is due and free; whether the purge is finished by it.

        :param early: now, whenever it would be due.

        A failure is put into the row and tried again later (C38), never raised.
        """
        owner, lease = uuid.uuid4().hex, None
        try:
            lease = self._lease(thread_id, owner, early)
            if lease is None:
                return False
            deleted = self._erase_media(thread_id, owner)
            redacted = self._erase_text(thread_id, owner)
            self._database.erase_free_space()
            state = self._finish(thread_id, owner, lease, deleted)
        except LeaseLost:
            return False
        except Exception as error:
            self._failed(thread_id, owner, lease, error)
            return False
        self._metrics.count("purge_outcomes", state)
        self._metrics.count("media_deletions", "purge", deleted)
        log.info(
            "chat thread purged" if lease.purged_at is None else "chat purge looked again",
            extra={
                "chat": True,
                "threadId": thread_id,
                "state": state,
                "attempts": lease.attempts,
                "rowsRedacted": redacted,
                "blobsDeleted": deleted,
            },
        )
        if lease.purged_at is None:
            self._emit(thread_purged, thread_id=thread_id, request_id=lease.request_id)
        return True

    def _is_due(self, early: bool = False) -> sa.ColumnElement[bool]:
        purges = self._purges
        free = purges.c.lease_until.is_(None) | (purges.c.lease_until <= now())
        wanted = purges.c.next_attempt_at.is_not(None) if early else purges.c.next_attempt_at <= now()
        return wanted & free

    def _lease(self, thread_id: int, owner: str, early: bool = False) -> Row[Any] | None:
        """Take the purge for :data:`LEASE` seconds of the database's clock; ``attempts`` counts this one."""
        purges = self._purges
        take = (
            purges.update()
            .where(purges.c.thread_id == thread_id, self._is_due(early))
            .values(lease_owner=owner, lease_until=utcnow(LEASE), attempts=purges.c.attempts + 1)
            .returning(purges)
        )
        with self._database.write() as unit:
            return unit.connection.execute(take).one_or_none()

    def _update(self, connection: Connection, thread_id: int, owner: str, **values: Any) -> None:
        """
        :raises LeaseLost: if the lease is another worker's by now.
        """
        purges = self._purges
        fenced = (purges.c.thread_id == thread_id) & (purges.c.lease_owner == owner)
        if not connection.execute(purges.update().where(fenced).values(values)).rowcount:
            raise LeaseLost()

    def _erase_media(self, thread_id: int, owner: str) -> int:
        """Delete everything under the thread's prefix, and look."""
        prefix, purges, uploads = names.prefix(thread_id), self._purges, self._uploads
        with self._database.read() as connection:
            used = connection.scalar(sa.select(uploads.c.id).where(uploads.c.thread_id == thread_id).limit(1))
        if used is not None:
            self._storage.check()
        deleted = self._storage.delete_prefix(prefix)
        if self._storage.listing(prefix):
            raise BlobsLeft()
        with self._database.write() as unit:
            self._update(
                unit.connection,
                thread_id,
                owner,
                lease_until=utcnow(LEASE),
                blobs_found=purges.c.blobs_found + deleted,
                blobs_deleted=purges.c.blobs_deleted + deleted,
            )
        return deleted

    def _erase_text(self, thread_id: int, owner: str) -> int:
        messages, total = self._messages, 0
        columns = [messages.c.media_path]
        if self._redact:
            columns += [messages.c.text, messages.c.latitude, messages.c.longitude, messages.c.sealed]
            columns += [messages.c.client_message_id, messages.c.client_message_key]
        full = sa.or_(*(column.is_not(None) for column in columns))
        some = (
            sa.select(messages.c.id)
            .where(messages.c.thread_id == thread_id, full)
            .order_by(messages.c.seq)
            .limit(BATCH)
        )
        empty, place = {column: None for column in columns}, 0
        while True:
            ids = some.where(messages.c.seq > place)  # behind what is empty already
            erase = messages.update().where(messages.c.id.in_(ids)).values(empty).returning(messages.c.seq)
            with self._database.write() as unit:
                erased = unit.connection.scalars(erase).all()
                count, place = len(erased), max(erased, default=place)
                redacted = self._purges.c.rows_redacted + count
                self._update(unit.connection, thread_id, owner, lease_until=utcnow(LEASE), rows_redacted=redacted)
            total += count
            if count < BATCH:
                return total

    def _finish(self, thread_id: int, owner: str, lease: Row[Any], deleted: int) -> str:
        """Settle, or come back when no upload URL of the thread can write any more (C39); the state."""
        done: dict[str, Any] = {"lease_owner": None, "lease_until": None, "last_error": None, "failures": 0}
        done["purged_at"] = sa.func.coalesce(self._purges.c.purged_at, utcnow())
        with self._database.write() as unit:
            wait: Any = self._latest_write(unit.connection, thread_id)
            if wait is None and lease.purged_at is not None:
                done["empty_listings"] = 0 if deleted else lease.empty_listings + 1
                if done["empty_listings"] < EMPTY_LISTINGS:
                    wait = utcnow(APART)
            if wait is None:
                done |= {"state": FINAL, "settled_at": utcnow(), "next_attempt_at": None}
            else:
                done |= {"state": "purged", "next_attempt_at": wait}
            self._update(unit.connection, thread_id, owner, **done)
        state: str = done["state"]
        return state

    def _latest_write(self, connection: Connection, thread_id: int) -> datetime | None:
        """When the last upload to the thread can have ended, if that is still to come.

        What was neither posted nor refused may be on its way into a message whatever its URL says, so it counts from
        the close.
        """
        uploads, purges = self._uploads, self._purges
        undecided = ~uploads.c.posted & ~uploads.c.rejected
        query = (
            sa.select(utcnow(), purges.c.closed_at, uploads.c.expires_at, undecided)
            .join_from(uploads, purges, uploads.c.thread_id == purges.c.thread_id)
            .where(uploads.c.thread_id == thread_id)
        )
        ends = [
            (at, max(expires_at, closed_at) if open_ else expires_at)
            for at, closed_at, expires_at, open_ in connection.execute(query)
        ]
        latest = max((end + LATE for _, end in ends), default=None)
        return latest if latest is not None and latest > ends[0][0] else None

    def _failed(self, thread_id: int, owner: str, lease: Row[Any] | None, error: Exception) -> None:
        if lease is None:
            log.warning("chat purge not leased: %s", error, extra={"chat": True, "threadId": thread_id})
            return
        stalled = lease.failures >= len(DELAYS)
        delay = STALLED_DELAY if stalled else DELAYS[lease.failures]
        code = type(error).__name__
        if isinstance(error, DatabaseError):
            code = f"{error.kind}/{error.sqlstate}"
        elif isinstance(error, StorageUnavailable):
            code = f"{error.kind}/{error.detail}"
        try:
            with self._database.write() as unit:
                self._update(
                    unit.connection,
                    thread_id,
                    owner,
                    state="stalled" if stalled else self._purges.c.state,
                    failures=lease.failures + 1,
                    next_attempt_at=utcnow(delay),
                    lease_owner=None,
                    lease_until=None,
                    last_error=code[:128],
                )
                unit.after_commit(lambda: self._wake(thread_id, delay))
        except (DatabaseError, LeaseLost):
            pass  # the lease runs out by itself, then the sweep tries again
        self._metrics.count("purge_outcomes", "stalled" if stalled else "failed")
        log.log(
            logging.ERROR if stalled else logging.WARNING,
            "chat purge stalled" if stalled else "chat purge failed",
            extra={"chat": True, "threadId": thread_id, "attempts": lease.attempts, "error": code, "retryIn": delay},
        )
