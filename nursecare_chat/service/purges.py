"""The purges of closed threads (contract C36, C38): the row in ``chat_purges`` is the job, a queue only wakes it.

A row goes ``requested → text_erased → blobs_deleted → verified_empty → settled``, see :mod:`.erasure`. One that failed
five times is ``stalled``, and ``blocked`` where the storage refuses.
"""

from __future__ import annotations

import errno
import logging
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from ..clock import Clock
from ..errors import DatabaseError, NotFound, StorageUnavailable
from ..metrics import Metrics
from ..models import ChatModels
from ..signals import Emit, thread_purged
from .erasure import REQUESTED, SETTLED, VERIFIED_EMPTY, Erasure
from .lease import BLOCKED, LEASE, STALLED, TROUBLE, Lease, LeaseLost, is_free, release
from .unit_of_work import Database

log = logging.getLogger(__name__)

DELAYS = (5, 30, 60, 120)
"""Seconds before the second to fifth attempt; after that the purge is stalled (C38)."""

STALLED_DELAY = 300
"""Seconds between attempts at a stalled purge, for ever (C38)."""

SWEEP = 50
"""Seconds after which a sweep begins no other purge."""

REFUSALS = frozenset({401, 403})
"""HTTP statuses by which a storage says that it will not, whenever it is asked."""

IMMUTABLE = "BlobImmutable"
"""How Azure's words for a policy or a legal hold begin."""

READ_ONLY = frozenset({errno.EPERM, errno.EACCES, errno.EROFS})
"""What a folder says."""


class Purges:
    """
    :param wake: asks a worker to look at a thread in so many seconds. Losing that costs a minute: the sweep.
    """

    def __init__(
        self,
        database: Database,
        models: ChatModels,
        erasure: Erasure,
        metrics: Metrics,
        clock: Clock,
        wake: Callable[[int, int], None],
        emit: Emit,
    ) -> None:
        self._database = database
        self._erasure = erasure
        self._purges = models.purges
        self._metrics = metrics
        self._clock = clock
        self._wake = wake
        self._emit = emit

    def request(self, connection: Connection, thread: Row[Any]) -> None:
        """Put down the purge of a thread that the transaction is closing."""
        values = {
            "thread_id": thread.id,
            "request_id": thread.request_id,
            "closed_at": thread.closed_at,
            "next_attempt_at": self._clock.utcnow(),
        }
        connection.execute(self._purges.insert().values(values))

    def wake(self, thread_id: int) -> None:
        """Ask a worker to look at a thread now."""
        self._wake(thread_id, 0)

    def due(self, *, text_only: bool = False) -> list[int]:
        """The threads whose purge waits for an attempt now and that no living worker has leased; what never failed
        comes first.

        :param text_only: those of which nothing is erased yet.
        """
        purges = self._purges
        query = sa.select(purges.c.thread_id).where(self._is_due(text_only=text_only))
        query = query.order_by(purges.c.failures, purges.c.next_attempt_at)
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def unsettled(self, thread_id: int | None, request_id: Any = None) -> list[int]:
        """The thread of this id or request, if it waits for an attempt, be it later because it failed.

        :raises NotFound: if no such thread was closed.
        """
        purges = self._purges
        query = sa.select(purges.c.thread_id, self._is_due(early=True).label("due"))
        for column, wanted in ((purges.c.thread_id, thread_id), (purges.c.request_id, request_id)):
            if wanted is not None:
                query = query.where(column == wanted)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        if not rows:
            raise NotFound("No such chat was closed.")
        return [row.thread_id for row in rows if row.due]

    def settled(self, connection: Connection, thread_ids: Iterable[int]) -> list[int]:
        """Those of ``thread_ids`` of which nothing is left."""
        purges = self._purges
        query = sa.select(purges.c.thread_id).where(purges.c.thread_id.in_(thread_ids), purges.c.state == SETTLED)
        return list(connection.scalars(query))

    def sweep(self) -> int:
        """Attempt what is due, whoever lost it (C36); the number of purges that did all that can be done now.

        The text of all goes first, so that none waits for a storage that is slow or away at another's photos. Begins no
        other after :data:`SWEEP` seconds: the next sweep sees what was closed meanwhile.
        """
        done, ends = 0, time.monotonic() + SWEEP
        for thread_id in self.due(text_only=True):
            self._erase_text(thread_id)
        for thread_id in self.due():
            done += self.run(thread_id)
            if time.monotonic() > ends:
                break
        return done

    def run(self, thread_id: int, *, early: bool = False) -> bool:
        """One attempt, if it is due and free; whether it did all that can be done now.

        :param early: a purge that failed now, whenever it would be tried again.

        A failure is put into the row and tried again later (C38), never raised.
        """
        lease = None
        try:
            lease = self._take(thread_id, early=early)
            if lease is None:
                return False
            row = self._erasure.run(lease)
        except LeaseLost:
            log.warning("chat purge lost its lease", extra={"chat": True, "threadId": thread_id})
            return False
        except Exception as error:
            self._failed(thread_id, lease, error)
            return False
        self._done(lease.row, row)
        return True

    def _erase_text(self, thread_id: int) -> None:
        """The first step alone, which is no attempt; what fails here fails again in that."""
        try:
            lease = self._take(thread_id, text_only=True)
            if lease is not None:
                try:
                    self._erasure.erase_text(lease)
                finally:
                    lease.write(**release())
        except Exception as error:
            log.info("chat text not erased yet", extra={"chat": True, "threadId": thread_id, "error": _code(error)})

    def _is_due(self, early: bool = False, text_only: bool = False) -> sa.ColumnElement[bool]:
        at, now = self._purges.c.next_attempt_at, self._clock.now()
        # Never a second look before its time: that one is there to find what came late.
        due = (at <= now) | (at.is_not(None) & (self._purges.c.failures > 0)) if early else at <= now
        if text_only:
            due &= self._purges.c.state == REQUESTED
        return due & is_free(self._purges, self._clock)

    def _take(self, thread_id: int, *, early: bool = False, text_only: bool = False) -> Lease | None:
        """Take the purge, by the database's clock; ``attempts`` counts this one.

        :param text_only: if nothing is erased yet, for the first step alone, which is no attempt.
        """
        purges = self._purges
        take = (
            purges.update()
            .where(purges.c.thread_id == thread_id, self._is_due(early, text_only))
            .values(
                lease_owner=uuid.uuid4().hex,
                lease_until=self._clock.utcnow(LEASE),
                attempts=purges.c.attempts + int(not text_only),
            )
            .returning(purges)
        )
        with self._database.write() as unit:
            row = unit.connection.execute(take).one_or_none()
        return None if row is None else Lease(self._database, purges, self._clock, row)

    def _done(self, before: Row[Any], row: Row[Any]) -> None:
        first = before.purged_at is None
        self._metrics.count("purge_outcomes", "purged" if row.state == VERIFIED_EMPTY else row.state)
        self._metrics.count("media_deletions", "purge", row.blobs_deleted - before.blobs_deleted)
        log.info(
            "chat thread purged" if first else "chat purge looked again",
            extra={
                "chat": True,
                "threadId": row.thread_id,
                "state": row.state,
                "attempts": row.attempts,
                "rowsRedacted": row.rows_redacted,
                "blobsDeleted": row.blobs_deleted,
            },
        )
        if first:
            self._emit(thread_purged, thread_id=row.thread_id, request_id=row.request_id)

    def _failed(self, thread_id: int, lease: Lease | None, error: Exception) -> None:
        if lease is None:
            log.warning("chat purge not leased: %s", error, extra={"chat": True, "threadId": thread_id})
            return
        row = lease.row
        state = BLOCKED if _refuses(error) else STALLED if row.failures >= len(DELAYS) else row.state
        delay = DELAYS[row.failures] if row.failures < len(DELAYS) else STALLED_DELAY
        alarming = state in TROUBLE
        values = release(
            state=state if alarming else self._purges.c.state,
            failures=row.failures + 1,
            next_attempt_at=self._clock.utcnow(delay),
            last_error=_code(error)[:128],
        )
        try:
            with self._database.write() as unit:
                lease.update(unit.connection, overdue=True, **values)
                unit.after_commit(lambda: self._wake(thread_id, delay))
        except (DatabaseError, LeaseLost):
            pass  # the lease runs out by itself, then the sweep tries again
        self._metrics.count("purge_outcomes", state if alarming else "failed")
        log.log(
            logging.ERROR if alarming else logging.WARNING,
            f"chat purge {state}" if alarming else "chat purge failed",
            extra={
                "chat": True,
                "threadId": thread_id,
                "attempts": row.attempts,
                "error": _code(error),
                "retryIn": delay,
            },
        )


def _refuses(error: Exception) -> bool:
    """Whether the storage will not delete, rather than cannot be reached: a policy, a legal hold, a missing right."""
    if not isinstance(error, StorageUnavailable):
        return False
    return error.detail in REFUSALS | READ_ONLY or error.kind.startswith(IMMUTABLE)


def _code(error: Exception) -> str:
    """The failure in words that hold nothing of anybody's."""
    if isinstance(error, DatabaseError):
        return f"{error.kind}/{error.sqlstate}"
    if isinstance(error, StorageUnavailable):
        return f"{error.kind}/{error.detail}"
    return type(error).__name__
