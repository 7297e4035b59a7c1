"""How far erasing is, as the database has it: every process sees the same (contract C42, C43)."""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa

from ..clock import now
from ..models import ChatModels
from .erasure import STEPS
from .lease import TROUBLE
from .unit_of_work import Database

STATES = (*STEPS, *TROUBLE)
OVERDUE = 180
"""Seconds after which a purge that is due should have been attempted: the sweep comes each minute, and a dead worker's
lease ends within two (C36)."""
LISTED = 20
"""Stalled purges that are listed by name."""


@dataclass(frozen=True)
class Stalled:
    """A purge that failed again and again (C38); ``error`` is a class name or code."""

    thread_id: int
    attempts: int
    error: str


@dataclass(frozen=True)
class Backlog:
    """
    :ivar states: purges by state; :ivar due: those that wait for an attempt now; :ivar overdue: and for long.
    :ivar oldest_unerased: seconds since the first close that was not erased yet; 0 if there is none.
    :ivar attempts: at all purges; :ivar purged: how many were erased; :ivar purge_seconds: how long those took in all.
    :ivar stalled: at most :data:`LISTED` of them.
    """

    states: dict[str, int]
    due: int
    overdue: int
    oldest_unerased: float
    attempts: int
    purged: int
    purge_seconds: float
    stalled: list[Stalled] = field(default_factory=list)


def read_backlog(database: Database, models: ChatModels, *, with_stalled: bool = False) -> Backlog:
    """
    :param with_stalled: list the stalled ones too.
    :raises DatabaseError: if it cannot be read.
    """
    table = models.purges.c
    at = sa.extract("epoch", now())
    took = sa.extract("epoch", table.purged_at) - sa.extract("epoch", table.closed_at)
    waits = (table.next_attempt_at <= now()) & (table.lease_until.is_(None) | (table.lease_until <= now()))
    late = at - sa.extract("epoch", table.next_attempt_at) > OVERDUE
    unerased = table.purged_at.is_(None)
    query = sa.select(
        table.state,
        sa.func.count().label("all"),
        sa.func.sum(sa.case((waits, 1), else_=0)).label("due"),
        sa.func.sum(sa.case((waits & late, 1), else_=0)).label("overdue"),
        sa.func.max(sa.case((unerased, at - sa.extract("epoch", table.closed_at)))).label("oldest"),
        sa.func.sum(table.attempts).label("attempts"),
        sa.func.count(table.purged_at).label("purged"),
        sa.func.sum(took).label("seconds"),
    ).group_by(table.state)
    listed = (
        sa.select(table.thread_id, table.attempts, table.last_error)
        .where(table.state.in_(TROUBLE))
        .order_by(table.closed_at)
        .limit(LISTED)
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
        stalled = connection.execute(listed).all() if with_stalled else []
    return Backlog(
        states=dict.fromkeys(STATES, 0) | {row.state: row.all for row in rows},
        due=sum(int(row.due) for row in rows),
        overdue=sum(int(row.overdue) for row in rows),
        oldest_unerased=max([0.0, *(float(row.oldest) for row in rows if row.oldest is not None)]),
        attempts=sum(int(row.attempts) for row in rows),
        purged=sum(row.purged for row in rows),
        purge_seconds=sum(float(row.seconds or 0) for row in rows),
        stalled=[Stalled(row.thread_id, row.attempts, row.last_error or "unknown") for row in stalled],
    )
