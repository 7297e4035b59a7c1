"""Opening, reading, closing and forgetting threads (contract C9, C17, C18, C26, C27)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from ..clock import utcnow
from ..errors import DatabaseConflict, NotFound, ThreadClosed, ValidationFailed
from ..keys import wire
from ..metrics import Metrics
from ..models import ChatModels
from ..signals import Emit, thread_closed, thread_opened
from ..stream.doorbell import Ring
from .access import Access
from .lookup import find
from .paging import newest
from .prepared import Prepared
from .purges import Purges
from .unit_of_work import Database, follow_up

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
        emit: Emit,
    ) -> None:
        self._database = database
        self._models = models
        self._threads = models.threads
        self._access = access
        self._purges = purges
        self._metrics = metrics
        self._ring = ring
        self._emit = emit
        by_id = self._threads.c.id == sa.bindparam("thread_id", type_=self._threads.c.id.type)
        self._by_id = Prepared("thread", sa.select(self._threads).where(by_id))

    def get(self, thread_id: int) -> Row[Any]:
        """
        :raises NotFound: if there is no such thread.
        """
        row = self._database.find(self._by_id, thread_id=thread_id)
        if row is None:
            raise NotFound("No such chat.")
        return row

    def inbox(self, user: Any, status: str | None, cursor: int | None, limit: int) -> tuple[list[Row[Any]], int | None]:
        """The ``limit`` newest threads with ``id < cursor`` that are ``user``'s affair, and the next cursor (C27).

        Those where they are the client; an admin's also those that they claimed and those that nobody has. What the
        policy does not let them view is left out, so a page may be shorter.
        """
        threads, user_id = self._threads, self._access.user_id(user)
        concerned: list[dict[str, Any]] = [{"client_id": user_id}]
        if self._access.is_admin(user):
            concerned += [{"admin_id": user_id}, {"admin_id": None}]
        # One walk down an index for each reason and status; OR would walk down the whole table to find what is rare.
        walks = [
            newest(threads, {**reason, "status": kind}, cursor, limit + 1, self._database.dialect)
            for reason in concerned
            for kind in ("open", "closed")
            if status in (None, kind)
        ]
        found = sa.union(*(sa.select(walk.subquery()) for walk in walks)).subquery()
        query = sa.select(found).order_by(found.c.id.desc()).limit(limit + 1)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        page = rows[:limit]
        visible = [row for row in page if self._access.may_view(user, row)]
        return visible, page[-1].id if len(rows) > limit else None

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
                unit.after_commit(
                    lambda: self._ring(Ring("opened", thread=row.id, seq=row.last_seq)), lambda: self._opened(row)
                )
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
        ids = {"request_id": row.request_id, "client_id": row.client_id, "admin_id": row.admin_id}
        self._emit(thread_opened, thread_id=row.id, **ids)

    def _claim(self, thread_id: int, admin_id: Any) -> Row[Any] | None:
        """The first admin takes an unclaimed thread; later ones leave it (C17)."""
        threads = self._threads
        unclaimed = (threads.c.id == thread_id) & threads.c.admin_id.is_(None) & (threads.c.status == "open")
        with self._database.write() as unit:
            claim = threads.update().where(unclaimed).values(admin_id=admin_id).returning(threads)
            row = unit.connection.execute(claim).one_or_none()
            if row is not None:
                unit.after_commit(lambda: self._ring(Ring("claimed", thread=thread_id)))
        return row

    def close(self, thread_id: int) -> Row[Any]:
        """Close for ever and put down the purge in the same transaction (C26, C36); again changes nothing.

        :raises NotFound: if there is no such thread.
        """
        return self.close_if(thread_id) or self.get(thread_id)

    def close_if(self, thread_id: int, *conditions: sa.ColumnElement[bool]) -> Row[Any] | None:
        """The same for a thread that is open and of which ``conditions`` hold; ``None`` if that is not so."""
        with self._database.write() as unit:
            row = self._close(unit.connection, sa.and_(self._threads.c.id == thread_id, *conditions))
            if row is not None:
                unit.after_commit(*self._consequences(row))
        return row

    def close_on(self, connection: Connection, request_id: Any) -> int | None:
        """The same in a transaction of the host's, by the request (C44); the thread's id, ``None`` if none was open.

        What follows is :meth:`announce`, once that transaction is durable.
        """
        row = self._close(connection, self._threads.c.request_id == request_id)
        return None if row is None else row.id

    def announce(self, thread_id: int) -> None:
        """What follows a close that somebody else committed; nothing if the thread is open after all."""
        row = self.get(thread_id)
        if row.status != "open":
            follow_up(*self._consequences(row))

    def _close(self, connection: Connection, which: sa.ColumnElement[bool]) -> Row[Any] | None:
        threads = self._threads
        closing = (
            threads.update()
            .where(which, threads.c.status == "open")
            .values(status="closed", closed_at=utcnow())
            .returning(threads)
        )
        row = connection.execute(closing).one_or_none()
        if row is not None:
            self._purges.request(connection, row)
        return row

    def _consequences(self, row: Row[Any]) -> list[Callable[[], None]]:
        ids = {"thread_id": row.id, "request_id": row.request_id, "last_seq": row.last_seq}
        return [
            lambda: self._ring(Ring("closed", thread=row.id, seq=row.last_seq + 1)),
            lambda: self._closed(row),
            lambda: self._emit(thread_closed, **ids),
            lambda: self._purges.wake(row.id),
        ]

    def _closed(self, row: Row[Any]) -> None:
        self._metrics.count("threads_closed")
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
        :raises TypeError: if it is neither.
        :returns: ``(threads deleted, threads kept because they are open or not settled yet)``.
        """
        threads, messages = self._threads, self._models.messages
        uploads = self._models.uploads
        if isinstance(subject, self._models.request_model):
            key = self._models.key_of_request(subject)
            concerned = threads.c.request_id == key
        else:
            key = self._models.key_of_user(subject)
            sent = sa.select(messages.c.thread_id).where(messages.c.sender_id == key)
            asked = sa.select(uploads.c.thread_id).where(uploads.c.sender_id == key)
            concerned = sa.or_(threads.c.client_id == key, threads.c.id.in_(sent), threads.c.id.in_(asked))
        with self._database.write() as unit:
            ids = set(unit.connection.scalars(sa.select(threads.c.id).where(concerned)))
            settled = self._purges.settled(unit.connection, ids)
            for table, column in (
                (messages, messages.c.thread_id),
                (uploads, uploads.c.thread_id),
                (threads, threads.c.id),
            ):
                unit.connection.execute(table.delete().where(column.in_(settled)))
        return len(settled), len(ids) - len(settled)

    def _select(self, connection: Connection, condition: sa.ColumnElement[bool]) -> Row[Any] | None:
        return connection.execute(sa.select(self._threads).where(condition)).one_or_none()
