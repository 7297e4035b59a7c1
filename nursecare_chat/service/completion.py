"""Closing a chat inside the host's own transaction (contract C44)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, SessionTransaction

from ..models import ChatModels
from .threads import Threads
from .unit_of_work import follow_up, translated

KEY = "nursecare_chat"


class Completion:
    """Joins the host's session and commits nothing.

    The statements are the host's transaction's, so its rollback undoes them, a savepoint's included. What follows a
    close waits for the end of the outermost transaction and then looks at what stands.

    :param session: gives the host's current session.
    :param context: entered around what follows, so that receivers of signals have a session of their own: the host's is
        in the middle of its commit.
    """

    def __init__(
        self,
        session: Callable[[], Session],
        models: ChatModels,
        threads: Threads,
        context: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._session = session
        self._models = models
        self._threads = threads
        self._context = context

    def close(self, request: Any) -> bool:
        """Close the chat of ``request``; ``False`` if it has no open one.

        :raises TypeError: if it is no instance of the host's request class.
        :raises DatabaseError: if that fails; then the host's transaction has failed too.
        """
        key = self._models.key_of_request(request)
        if key is None:  # not in the database yet, so nobody chats about it
            return False
        session = self._session()
        # As the host's session routes a write to this table, which may be to another server than a read.
        writing = {"mapper": sa.inspect(self._models.ChatThread), "clause": self._models.threads.update()}
        with translated():
            thread_id = self._threads.close_on(session.connection(bind_arguments=writing), key)
        if thread_id is not None:
            self._watch(session).add(session, thread_id)
        return thread_id is not None

    def _watch(self, session: Session) -> _Watch:
        watch: _Watch | None = session.info.get(KEY)
        if watch is None:
            watch = session.info[KEY] = _Watch(self._announce)
            sa.event.listen(session, "after_commit", watch.committing)
            sa.event.listen(session, "after_transaction_end", watch.ended)
        return watch

    def _announce(self, thread_id: int) -> None:
        with self._context():
            self._threads.announce(thread_id)


class _Watch:
    """What one session closed since its outermost transaction began, and in which savepoint of it."""

    def __init__(self, announce: Callable[[int], None]) -> None:
        self._announce = announce
        self._committed: SessionTransaction | None = None
        self._closed: dict[int, SessionTransaction | None] = {}

    def add(self, session: Session, thread_id: int) -> None:
        self._closed[thread_id] = session.get_nested_transaction() or session.get_transaction()

    def committing(self, session: Session) -> None:
        """Also called when a savepoint is released, which makes nothing durable yet."""
        self._committed = session.get_nested_transaction() or session.get_transaction()

    def ended(self, session: Session, transaction: SessionTransaction) -> None:
        """What was closed in a savepoint that is released is now the enclosing transaction's; else it is undone."""
        mine = {thread_id for thread_id, place in self._closed.items() if place is transaction}
        committed, outer = self._committed is transaction, transaction.parent
        for thread_id in mine:
            if committed and outer is not None:
                self._closed[thread_id] = outer
            else:
                del self._closed[thread_id]
        if outer is None:
            self._committed = None
            self._closed.clear()
            if committed:
                follow_up(*(lambda thread_id=thread_id: self._announce(thread_id) for thread_id in mine))
