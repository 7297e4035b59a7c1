"""Chats that nobody closes (contract C5: ``CHAT_IDLE_CLOSE_MINUTES``, ``CHAT_MAX_AGE_DAYS``)."""

from __future__ import annotations

import logging

import sqlalchemy as sa

from ..clock import Clock
from ..errors import DatabaseError
from ..models import ChatModels
from .threads import Threads
from .unit_of_work import Database

log = logging.getLogger(__name__)

BATCH = 500
"""Threads closed by one sweep; the next one is a minute later."""


class Expiry:
    """
    :param idle_minutes: since the last message or the opening; :param max_age_days: since the opening; ``None``: never.
    """

    def __init__(
        self,
        database: Database,
        models: ChatModels,
        threads: Threads,
        clock: Clock,
        idle_minutes: int | None,
        max_age_days: int | None,
    ) -> None:
        self._database = database
        self._models = models
        self._threads = threads
        self._clock = clock
        self._idle = idle_minutes and idle_minutes * 60
        self._max_age = max_age_days and max_age_days * 24 * 3600

    def sweep(self) -> int:
        """Close what is over, as a participant would; how many that were."""
        closed = 0
        for thread_id, reason in self._due():
            try:
                row = self._threads.close_if(thread_id, self._condition(reason))
            except DatabaseError as error:  # the next one may do
                log.warning("chat thread not closed: %s", error, extra={"chat": True, "threadId": thread_id})
                continue
            if row is not None:
                closed += 1
                log.info("chat thread expired", extra={"chat": True, "threadId": thread_id, "reason": reason})
        return closed

    def _due(self) -> list[tuple[int, str]]:
        threads, due = self._models.threads, []
        with self._database.read() as connection:
            for reason, seconds in (("idle", self._idle), ("max_age", self._max_age)):
                if seconds is not None:
                    over = sa.select(threads.c.id).where(
                        threads.c.status == "open",
                        threads.c.opened_at <= self._clock.now(-seconds),  # for the index; nobody wrote before that
                        self._condition(reason),
                    )
                    due += [
                        (id_, reason) for id_ in connection.scalars(over.order_by(threads.c.opened_at).limit(BATCH))
                    ]
        return due

    def _condition(self, reason: str) -> sa.ColumnElement[bool]:
        """Asked again by the statement that closes: somebody may have written meanwhile."""
        threads, messages = self._models.threads, self._models.messages
        if reason == "max_age":
            return threads.c.opened_at <= self._clock.now(-(self._max_age or 0))
        limit = self._clock.now(-(self._idle or 0))
        last = (
            sa.select(messages.c.created_at)
            .where(messages.c.thread_id == threads.c.id, messages.c.seq == threads.c.last_seq)
            .correlate(threads)
            .scalar_subquery()
        )
        # A post that the closing statement waited for is not in its snapshot: no time then, and so no reason to close.
        return sa.case((threads.c.last_seq == 0, threads.c.opened_at), else_=last) <= limit
