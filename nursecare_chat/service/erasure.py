"""The steps that erase a closed thread (contract C37, C39, C41). Each can be done again at any time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from ..clock import Clock
from ..errors import KeyStoreUnavailable
from ..models import ChatModels
from ..storage import names
from ..storage.base import BlobStorage, Retention
from .lease import LEASE, Lease, release
from .receipts import Receipts
from .sealing import Sealing
from .unit_of_work import Database

BATCH = 500
"""Rows redacted in one transaction: on SQLite posts to other threads wait for it."""

LATE = timedelta(minutes=5 + 15)
"""After an upload URL's expiry: clocks that differ, and a transfer that began in time (C39)."""

EMPTY_LISTINGS, APART = 2, 60
"""So many in a row, so many seconds apart, find nothing once no upload URL can write any more (C39)."""

REQUESTED, TEXT_ERASED, BLOBS_DELETED, VERIFIED_EMPTY, SETTLED = STEPS = (
    "requested",
    "text_erased",
    "blobs_deleted",
    "verified_empty",
    "settled",
)


def erased_columns(messages: sa.Table, redact: bool) -> list[Any]:
    """Those of a message that are null once it is erased (C37).

    :param redact: whether content goes; media paths always do.
    """
    content = ("text", "latitude", "longitude", "sealed", "client_message_id", "client_message_key")
    return [messages.c[name] for name in ("media_path", *(content if redact else ()))]


class BlobsLeft(Exception):
    """The listing after the deletion was not empty."""


class Erasure:
    """
    :param redact: whether content goes (C5, ``CHAT_REDACT_MESSAGES``); media paths always do.
    :param sealing: where content is sealed, its key goes with it.
    """

    def __init__(
        self,
        database: Database,
        models: ChatModels,
        storage: BlobStorage,
        sealing: Sealing,
        receipts: Receipts,
        clock: Clock,
        redact: bool,
    ) -> None:
        self._database = database
        self._storage = storage
        self._sealing = sealing
        self._receipts = receipts
        self._clock = clock
        self._redact = redact
        self._purges = models.purges
        self._messages = models.messages
        self._uploads = models.uploads

    def run(self, lease: Lease) -> Row[Any]:
        """Text first, for it needs nothing outside the database but the key store; the row at the end.

        :raises LeaseLost: if another worker has the purge by now.
        :raises Exception: whatever keeps a step from being done.
        """
        try:
            self.erase_text(lease)
        except KeyStoreUnavailable:
            self._delete_blobs(lease)  # photos need no keys
            raise
        found, looked_at = self.erase_media(lease)
        retention = self._storage.retention()
        self._receipts.prepare()
        return self.finish(lease, found, looked_at, retention)

    # -- text ----------------------------------------------------------------------------------------------------

    def erase_text(self, lease: Lease) -> None:
        """Nulls in place of what people wrote; then the bytes behind it, and the key that they were sealed under."""
        key_store = lease.row.key_store or self._note_key(lease)
        place: int | None = 0
        while place is not None:
            place = self._erase_some(lease, place)
        self._database.erase_free_space()
        if self._redact and key_store is not None:
            self._sealing.destroy(lease.thread_id, key_store)
        lease.write(**lease.step(TEXT_ERASED))

    def _note_key(self, lease: Lease) -> str | None:
        """Put down which store has the thread's key before anything is erased, for afterwards nobody could tell."""
        messages = self._messages.c
        sealed = sa.select(messages.id).where(messages.thread_id == lease.thread_id, messages.sealed.is_not(None))
        with self._database.read() as connection:
            if connection.scalar(sealed.limit(1)) is None:
                return None
        key_store = self._sealing.holder_of(lease.thread_id)
        if key_store is not None:
            lease.write(key_store=key_store)
        return key_store

    def _erase_some(self, lease: Lease, place: int) -> int | None:
        """One batch behind the ``seq`` ``place``, before which all is empty; the next place."""
        messages = self._messages.c
        columns = erased_columns(self._messages, self._redact)
        full = sa.or_(*(column.is_not(None) for column in columns))
        some = (
            sa.select(
                messages.id,
                messages.seq,
                (messages.text.is_not(None) | messages.latitude.is_not(None)).label("plain"),
                messages.sealed.is_not(None).label("sealed"),
            )
            .where(messages.thread_id == lease.thread_id, messages.seq > place, full)
            .order_by(messages.seq)
            .limit(BATCH)
        )
        with self._database.write() as unit:
            rows = unit.connection.execute(some).all()
            these = self._messages.update().where(messages.id.in_([row.id for row in rows]))
            unit.connection.execute(these.values({column: None for column in columns}))
            lease.update(
                unit.connection,
                rows_redacted=self._purges.c.rows_redacted + len(rows),
                rows_plain=self._purges.c.rows_plain + sum(bool(row.plain) for row in rows),
                rows_sealed=self._purges.c.rows_sealed + sum(bool(row.sealed) for row in rows),
            )
        return rows[-1].seq if len(rows) == BATCH else None

    # -- blobs ---------------------------------------------------------------------------------------------------

    def erase_media(self, lease: Lease) -> tuple[int, datetime]:
        """Delete everything under the thread's prefix, and look; how many blobs were found, and when it looked."""
        found = self._delete_blobs(lease)
        row = lease.write(**lease.step(BLOBS_DELETED), blobs_deleted=self._purges.c.blobs_found)
        if self._storage.listing(names.prefix(lease.thread_id)):
            raise BlobsLeft()
        # What renewed the lease is the last that is known to have been before the listing.
        return found, row.lease_until - timedelta(seconds=LEASE)

    def _delete_blobs(self, lease: Lease) -> int:
        """How many there were; that is put down before the first is deleted, so that the receipt counts them whatever
        happens.
        """
        purges, uploads = self._purges.c, self._uploads
        with self._database.read() as connection:
            used = connection.scalar(sa.select(uploads.c.id).where(uploads.c.thread_id == lease.thread_id).limit(1))
        if used is not None:
            self._storage.check()

        def progress(found: int) -> None:
            nonlocal most
            if found > most:
                most, all_ = found, purges.blobs_deleted + found
                lease.write(blobs_found=sa.case((purges.blobs_found > all_, purges.blobs_found), else_=all_))
            lease.renew()

        most = 0
        self._storage.delete_prefix(names.prefix(lease.thread_id), progress)
        return most

    # -- the end -------------------------------------------------------------------------------------------------

    def finish(self, lease: Lease, found: int, looked_at: datetime, retention: Retention) -> Row[Any]:
        """Settle, or come back when no upload URL of the thread can write any more (C39).

        :param found: blobs that this attempt found; :param looked_at: when it saw that there are no more.
        """
        clock, purges = self._clock, self._purges.c
        done = release(last_error=None, failures=0)
        with self._database.write() as unit:
            at = unit.connection.scalar(sa.select(clock.utcnow()))
            ends, posted = self._uploads_of(unit.connection, lease.row)
            done |= {"purged_at": sa.func.coalesce(purges.purged_at, at), "uploads_end_at": ends}
            empty, wait = 0, None
            if ends is not None and ends > looked_at:
                wait = ends
            elif lease.row.purged_at is not None:
                empty = 0 if found else lease.row.empty_listings + 1
                wait = clock.utcnow(APART) if empty < EMPTY_LISTINGS else None
            done["empty_listings"] = empty
            before = lease.update(unit.connection)
            known = self._recoverable(unit.connection, before, posted, ends is not None, retention, at)
            done |= dict(zip(("recoverable_until", "reason"), known, strict=True))
            if wait is not None:
                return lease.update(unit.connection, **done, state=VERIFIED_EMPTY, next_attempt_at=wait)
            row = lease.update(unit.connection, **done, state=SETTLED, settled_at=at, next_attempt_at=None)
            signed = self._purges.update().where(purges.thread_id == row.thread_id)
            unit.connection.execute(signed.values(signature=self._receipts.sign(row)))
        return row

    def _recoverable(
        self, connection: Connection, row: Row[Any], posted: int, issued: bool, retention: Retention, at: datetime
    ) -> tuple[str, str | None]:
        """Until when somebody with the right to it could still bring something back, and why (C40); the worst of what
        each look at the thread found.
        """
        if not self._redact:
            return "unknown", "redaction_off"
        if row.recoverable_until == "unknown":
            return row.recoverable_until, row.reason
        readable = row.rows_plain or (row.rows_sealed and row.key_store is None)
        if readable and connection.dialect.name != "sqlite":
            return "unknown", "database_wal_and_backups"
        if posted and not row.blobs_found:
            return "unknown", "photos_not_found"
        if issued and retention.days is None:
            return "unknown", retention.reason
        if issued and retention.days:
            return (at + timedelta(days=retention.days)).strftime("%Y-%m-%dT%H:%M:%SZ"), retention.reason
        return row.recoverable_until or "never", row.reason

    def _uploads_of(self, connection: Connection, purge: Row[Any]) -> tuple[datetime | None, int]:
        """From when on no upload to the thread can write any more, ``None`` if there was none; how many were posted.

        Asked here, for a host that closes in a transaction of its own may not see the latest of them. What was neither
        posted nor refused may be on its way into a message whatever its URL says, so it counts from the close; what was
        posted may be posted once more at the same time.
        """
        table = self._uploads.c
        query = sa.select(table.expires_at, table.posted_at, table.posted, table.rejected)
        rows = connection.execute(query.where(table.thread_id == purge.thread_id)).all()
        ends = []
        for row in rows:
            late = row.posted_at if row.posted else None if row.rejected else purge.closed_at
            ends.append(max(row.expires_at, late or row.expires_at))
        return max(ends) + LATE if ends else None, sum(row.posted for row in rows)
