"""One worker's hold on a purge (contract C36)."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row, Table

from ..clock import Clock
from .unit_of_work import Database

LEASE = 60
"""Seconds for which one worker has a purge to itself, unless it renews that."""

RENEW = 15
"""Seconds between two renewals in the middle of long work."""


STALLED, BLOCKED = TROUBLE = ("stalled", "blocked")
"""States of a purge that fails (C38)."""


class LeaseLost(Exception):
    """Another worker took the purge over; what is left is its affair."""


class Lease:
    """Every write to the purge's row goes through here, so that it fails once somebody else has the row.

    :ivar row: the purge as it was when it was taken.
    """

    def __init__(self, database: Database, purges: Table, clock: Clock, row: Row[Any]) -> None:
        self._database = database
        self._purges = purges
        self._clock = clock
        self._renewed = time.monotonic()
        self.row = row
        self.thread_id: int = row.thread_id

    def update(self, connection: Connection, *, overdue: bool = False, **values: Any) -> Row[Any]:
        """Write to the row, and hold it for :data:`LEASE` seconds from now unless ``values`` say otherwise; the row.

        :param overdue: also when the lease is over, if nobody took the purge: for a failure, which proves nothing.
        :raises LeaseLost: if it is another worker's by now.
        """
        purges = self._purges
        values = {"lease_until": self._clock.utcnow(LEASE), **values}
        fenced = (purges.c.thread_id == self.thread_id) & (purges.c.lease_owner == self.row.lease_owner)
        if not overdue:
            fenced &= purges.c.lease_until > self._clock.now()  # who slept too long looks again
        row = connection.execute(purges.update().where(fenced).values(values).returning(purges)).one_or_none()
        if row is None:
            raise LeaseLost()
        self._renewed = time.monotonic()
        return row

    def write(self, **values: Any) -> Row[Any]:
        """:meth:`update` in a transaction of its own."""
        with self._database.write() as unit:
            return self.update(unit.connection, **values)

    def step(self, state: str) -> dict[str, Any]:
        """What says that the purge has come so far.

        A later look at an erased thread leaves its state, and what failed again and again says so until it is done.
        """
        first = self.row.purged_at is None and self.row.state not in TROUBLE
        return {"state": state} if first else {}

    def renew(self) -> None:
        """Hold it on, if it is time for that."""
        if time.monotonic() - self._renewed >= RENEW:
            self.write()


def release(**values: Any) -> dict[str, Any]:
    """``values`` for :meth:`Lease.update` that also give the purge back."""
    return {"lease_owner": None, "lease_until": None, **values}


def is_free(purges: Table, clock: Clock) -> sa.ColumnElement[bool]:
    """The purges that nobody has, by the database's clock."""
    return purges.c.lease_until.is_(None) | (purges.c.lease_until <= clock.now())
