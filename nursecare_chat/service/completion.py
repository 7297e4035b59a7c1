"""Closing a chat inside the host's own transaction (contract C44)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, SessionTransaction

from .threads import Threads
from .unit_of_work import follow_up, translated

KEY = "nursecare_chat"


class Completion:
    """Joins the host's session and commits nothing.

    The statements are the host's transaction's, so its rollback undoes them, a savepoint's included. What follows a
    close waits for the end of the outermost transaction and then looks at what stands.

    :param session: gives the host's current session.
    """

    def __init__(self, session: Callable[[], Session], threads: Threads) -> None:
        self._session = session
        self._threads = threads

    def close(self, request: Any) -> bool:
        """Close the chat of ``request``; ``False`` if it has no open one.

        :raises DatabaseError: if that fails; then the host's transaction has failed too.
        """
        mapped = sa.inspect(request)
        if mapped.identity is None:  # not in the database yet, so nobody chats about it
            return False
        session = self._session()
        with translated():
            thread_id = self._threads.close_on(session.connection(), mapped.identity[0])
        if thread_id is not None:
            self._follow(session).closed.add(thread_id)
        return thread_id is not None

    def _follow(self, session: Session) -> _Watch:
        watch: _Watch | None = session.info.get(KEY)
        if watch is None:
            watch = session.info[KEY] = _Watch(self._threads)
            sa.event.listen(session, "after_commit", watch.committing)
            sa.event.listen(session, "after_transaction_end", watch.ended)
        return watch


class _Watch:
    """What one session closed since its outermost transaction began."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._committed = False
        self.closed: set[int] = set()

    def committing(self, session: Session) -> None:
        """Also called when a savepoint is released, which makes nothing durable."""
        if not session.in_nested_transaction():
            self._committed = True

    def ended(self, session: Session, transaction: SessionTransaction) -> None:
        """Only here may receivers of signals use the session again."""
        if transaction.parent is not None:
            return
        committed, self._committed = self._committed, False
        closed, self.closed = self.closed, set()
        if committed:
            follow_up(*(lambda thread_id=thread_id: self._threads.announce(thread_id) for thread_id in closed))
