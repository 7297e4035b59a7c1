"""Opening, reading, closing and forgetting threads (contract C9, C17, C18, C26, C27)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from ..errors import DatabaseConflict, NotFound, ThreadClosed, ValidationFailed
from ..keys import wire
from ..metrics import Metrics
from ..models import ChatModels, utcnow
from ..stream.doorbell import Ring
from .access import Access
from .lookup import find
from .purges import Purges
from .unit_of_work import Database

log = logging.getLogger(__name__)


class Threads:
    """The rules for threads.

    :param ring: the doorbell; called after a commit.
    """

    def __init__(
        self,
        database: Database,
        models: ChatModels,
        access: Access,
        purges: Purges,
        metrics: Metrics,
        ring: Callable[[Ring], None],
    ) -> None:
        self._database = database
        self._models = models
        self._threads = models.threads
        self._access = access
        self._purges = purges
        self._metrics = metrics
        self._ring = ring

    def get(self, thread_id: int) -> Row[Any]:
        """
        :raises NotFound: if there is no such thread.
        """
        with self._database.read() as connection:
            row = self._select(connection, self._threads.c.id == thread_id)
        if row is None:
            raise NotFound("No such chat.")
        return row

    def open(self, user: Any, request_id: Any) -> Row[Any]:
        """The request's one thread, made by the first who asks, however many ask at once (C18).

        :raises NotFound: if there is no such request.
        :raises Forbidden: if the policy says no.
        :raises ValidationFailed: if the request has no client to talk to.
        """
        request_id, client_id = self._authorized(user, request_id)
        with self._database.read() as connection:
            row = self._select(connection, self._threads.c.request_id == request_id)
        admin_id = self._access.user_id(user) if self._access.is_admin(user) else None
        if row is None:
            if client_id is None:
                raise ValidationFailed("The request has no client to chat with.")
            row = self._create(request_id, client_id, admin_id)
        if admin_id is not None and row.admin_id is None and row.status == "open":
            row = self._claim(row.id, admin_id) or row
        return row

    def _authorized(self, user: Any, request_id: Any) -> tuple[Any, Any]:
        """The request's own key and its client's."""
        with self._database.session() as session:
            request = find(session, self._models.request_model, request_id)
            if request is None:
                raise NotFound("No such request.")
            self._access.authorize(user, "open", request)
            return sa.inspect(request).identity[0], self._access.policy.client_of(request)

    def _create(self, request_id: Any, client_id: Any, admin_id: Any) -> Row[Any]:
        same_request = self._threads.c.request_id == request_id
        try:
            with self._database.write() as unit:
                row = self._select(unit.connection, same_request)
                if row is not None:
                    return row
                values = {"request_id": request_id, "client_id": client_id, "admin_id": admin_id, "opened_at": utcnow()}
                row = unit.connection.execute(self._threads.insert().values(values).returning(self._threads)).one()
                unit.after_commit(lambda: self._opened(row))
                return row
        except DatabaseConflict:  # somebody was faster, or the request is gone
            with self._database.read() as connection:
                row = self._select(connection, same_request)
            if row is None:
                raise NotFound("No such request.") from None
            return row

    def _opened(self, row: Row[Any]) -> None:
        self._metrics.count("threads_opened")
        log.info(
            "chat thread opened",
            extra={
                "chat": True,
                "threadId": row.id,
                "requestId": wire(row.request_id),
                "adminId": wire(row.admin_id),
                "clientId": wire(row.client_id),
            },
        )

    def _claim(self, thread_id: int, admin_id: Any) -> Row[Any] | None:
        """The first admin takes an unclaimed thread; later ones leave it (C17)."""
        threads = self._threads
        unclaimed = (threads.c.id == thread_id) & threads.c.admin_id.is_(None) & (threads.c.status == "open")
        with self._database.write() as unit:
            claim = threads.update().where(unclaimed).values(admin_id=admin_id).returning(threads)
            return unit.connection.execute(claim).one_or_none()

    def close(self, thread_id: int) -> Row[Any]:
        """Close for ever and put down the purge in the same transaction (C26, C36); again changes nothing.

        :raises NotFound: if there is no such thread.
        """
        threads = self._threads
        closing = (
            threads.update()
            .where(threads.c.id == thread_id, threads.c.status == "open")
            .values(status="closed", closed_at=utcnow())
            .returning(threads)
        )
        with self._database.write() as unit:
            row = unit.connection.execute(closing).one_or_none()
            if row is not None:
                self._purges.request(unit, row)
                unit.after_commit(lambda: self._closed(row))
        return row if row is not None else self.get(thread_id)

    def _closed(self, row: Row[Any]) -> None:
        self._metrics.count("threads_closed")
        self._ring(Ring("closed", thread=row.id, seq=row.last_seq + 1))
        log.info(
            "chat thread closed",
            extra={"chat": True, "threadId": row.id, "requestId": wire(row.request_id), "lastSeq": row.last_seq},
        )

    def require_open(self, row: Row[Any]) -> None:
        """
        :raises ThreadClosed: for everybody alike, admins included (C22).
        """
        if row.status != "open":
            raise ThreadClosed()

    def forget(self, subject: Any) -> tuple[int, int]:
        """Delete the rows of a request's or a user's settled threads, so that the host can delete its own (C9).

        :param subject: an instance of the host's request or user class.
        :returns: ``(threads deleted, threads kept because they are open or not settled yet)``.
        """
        threads, messages = self._threads, self._models.messages
        if isinstance(subject, self._models.request_model):
            key = sa.inspect(subject).identity[0]
            concerned = threads.c.request_id == key
        else:
            key = self._access.user_id(subject)
            sent = sa.select(messages.c.thread_id).where(messages.c.sender_id == key)
            concerned = sa.or_(threads.c.client_id == key, threads.c.id.in_(sent))
        with self._database.write() as unit:
            ids = set(unit.connection.scalars(sa.select(threads.c.id).where(concerned)))
            settled = self._purges.settled(unit.connection, ids)
            for table, column in (
                (messages, messages.c.thread_id),
                (self._models.ChatUpload.__table__, self._models.ChatUpload.__table__.c.thread_id),
                (threads, threads.c.id),
            ):
                unit.connection.execute(table.delete().where(column.in_(settled)))
        return len(settled), len(ids) - len(settled)

    def _select(self, connection: Connection, condition: sa.ColumnElement[bool]) -> Row[Any] | None:
        return connection.execute(sa.select(self._threads).where(condition)).one_or_none()
