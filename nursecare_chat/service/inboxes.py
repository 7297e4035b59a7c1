"""What the streams of inboxes are made of: the threads of C27's lists, in bulk, and where one resumes (contract C46).

:mod:`.cursors` says how nothing is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from ..clock import now, utcnow
from ..models import ChatModels
from ..stream import event
from ..stream.inbox import Resume
from ..stream.interfaces import Pair, Topic
from .access import Access, chunks
from .cursors import OVERLAP, Cursor, Cursors, Mark, earliest
from .unit_of_work import Database
from .wire import thread, utc

MAX_REPLAY = 1000
"""Messages missed, or threads that anybody closed meanwhile: after more than that a client loads its list anew."""


class Inboxes:
    """Reads on short connections of its own; raises ``ChatError`` while the database is away.

    :param secrets: see :class:`Cursors`.
    """

    def __init__(
        self, database: Database, models: ChatModels, access: Access, secrets: Callable[[], list[bytes]]
    ) -> None:
        self._database = database
        self._access = access
        self._threads = models.threads
        self._messages = models.messages
        self._cursors = Cursors(secrets)

    # -- for the hub ---------------------------------------------------------------------------------------------

    def mark(self) -> Mark:
        """Of now: whatever is read afterwards shows all that it covers."""
        threads, messages = self._threads.c, self._messages.c
        last_thread = sa.select(sa.func.max(threads.id)).scalar_subquery()
        if self._sqlite:
            last = sa.select(sa.func.max(messages.id)).scalar_subquery()
            latest = [
                sa.select(messages.created_at).where(messages.id == last).scalar_subquery(),
                sa.select(threads.opened_at).where(threads.id == last_thread).scalar_subquery(),
                sa.select(sa.func.max(threads.closed_at)).scalar_subquery(),
            ]
            query = sa.select(utcnow(-OVERLAP["sqlite"]), last_thread, last, last, *latest)
        else:
            snapshot = sa.func.txid_current_snapshot()
            bounds = [sa.func.txid_snapshot_xmin(snapshot), sa.func.txid_snapshot_xmax(snapshot)]
            query = sa.select(utcnow(), last_thread, *bounds)
        with self._database.read() as connection:
            moment, threads_, seen, ahead, *latest_ = connection.execute(query).one()
        return Mark(max([one for one in latest_ if one] or [moment]), seen or 0, ahead or 0, threads_ or 0)

    def members(self, users: Iterable[Hashable], admins: Iterable[Hashable]) -> dict[int, Topic]:
        """The open threads of these clients, of these admins, and, if there are any admins, of nobody."""
        return {row.id: self._topic(row) for row in self._open(users, admins)}

    def closed_since(self, marks: Iterable[Mark]) -> dict[int, Topic]:
        """Every thread whose close the earliest of these marks does not cover; some that it does, too."""
        return {row.id: self._topic(row) for row in self._closed(earliest(marks))}

    def topics(self, threads: Iterable[int]) -> dict[int, Topic]:
        """These threads; one that is gone is missing from the answer."""
        rows: list[Any] = []
        with self._database.read() as connection:
            for ids in chunks(threads):
                rows += connection.execute(self._select().where(self._threads.c.id.in_(ids)))
        return {row.id: self._topic(row) for row in rows}

    def admins(self, users: Iterable[Hashable]) -> set[Hashable]:
        """Those of these users who are admins by now."""
        return self._access.admins(users)

    def lost(self, pairs: Iterable[Pair]) -> set[Pair]:
        """Those of these that may not be viewed; for lists, so none of them is a denial."""
        return self._access.lost(pairs)

    def cursor(self, user: Hashable, mark: Mark, threads: Iterable[int]) -> str:
        """The id from which the stream of ``user`` resumes, that at ``mark`` had these threads."""
        return self._cursors.encode(user, mark, threads)

    # -- where a stream starts -----------------------------------------------------------------------------------

    def resume(self, user: Any, is_admin: bool, given: str | None) -> Resume:
        """Where the stream of ``user`` starts: behind the id ``given``, or with what is there now.

        :param given: garbage, somebody else's, of another database, or behind which more happened than is told one by
            one, starts now, too, but the client is told.
        """
        user_id = self._access.user_id(user)
        cursor = self._cursors.decode(user_id, given) if given else None
        mark = self.mark()
        if cursor is not None and cursor.mark.covers_too_little(mark):
            cursor = None
        since = mark if cursor is None else cursor.mark
        # In this order: a thread that is closed in between is in both.
        open_rows = {row.id: row for row in self._open([user_id], [user_id] if is_admin else [], since)}
        closed_rows = {row.id: row for row in self._closed(since, MAX_REPLAY + 1)}
        if cursor is not None and len(closed_rows) <= MAX_REPLAY:
            mine = {id_: row for id_, row in closed_rows.items() if self._topic(row).concerns(user_id, is_admin)}
            rows = {id_: row for id_, row in (open_rows | mine).items() if self._access.may_view(user, row)}
            first = self._first_unseen(cursor.mark, [id_ for id_, row in rows.items() if row.unseen])
            if first is not None:
                return self._behind(user_id, cursor, mark, rows, first, set(closed_rows), given or "")
        place = {id_: row.last_seq for id_, row in open_rows.items() if self._access.may_view(user, row)}
        follows = self.cursor(user_id, mark, place)
        frame = event.reset_inbox(follows) if given else event.position(follows)
        told = closed_rows.keys() - open_rows.keys()
        return Resume(frame, follows, follows, mark, place, told, [], {}, False)

    def _behind(
        self,
        user_id: Any,
        cursor: Cursor,
        mark: Mark,
        rows: dict[int, Any],
        first: dict[int, int],
        closed: set[int],
        given: str,
    ) -> Resume:
        """What happened to these threads behind the cursor.

        :param first: the first ``seq`` that may not have been seen, where there is one.
        """
        known = cursor.mark.threads
        opened = {id_ for id_, row in rows.items() if row.newer}
        over = {id_ for id_, row in rows.items() if row.status == "closed"}
        sure = {id_ for id_ in over if rows[id_].closed_later}
        guess = {id_ for id_ in rows if id_ <= known and (id_ not in over or id_ in sure)}
        had = cursor.explain(guess, {id_ for id_ in opened if id_ <= known} | (over - sure))
        new = {id_ for id_ in opened if id_ > known} if had is None else opened - had
        followed = {id_ for id_ in rows if id_ not in over or id_ in new or had is None or id_ in had}
        place = {id_: first[id_] - 1 if id_ in first else rows[id_].last_seq for id_ in followed}
        topics = {id_: self._topic(rows[id_]) for id_ in followed if id_ in over or id_ in first}
        frames = [event.thread_opened(thread(rows[id_])) for id_ in sorted(new)]
        follows = self.cursor(user_id, mark, followed - over)
        return Resume(b"", given, follows, mark, place, closed, frames, topics, had is None)

    # -- reading -------------------------------------------------------------------------------------------------

    def _select(self, since: Mark | None = None) -> sa.Select[Any]:
        """Threads, with whether they are recent, and what about them ``since`` does not cover."""
        table = self._threads
        columns = [(table.c.opened_at >= now(-max(OVERLAP.values()))).label("recent")]
        columns += [] if self._sqlite else [_transaction(table).label("transaction")]
        if since is not None:
            later = table.c.closed_at > since.moment if self._sqlite else self._not_below(table, since.ahead)
            newer = table.c.id > since.threads
            if not self._sqlite:  # a lower one may have been committed later
                newer |= (table.c.opened_at >= self._lately(since)) & self._not_below(table, since.seen)
            columns += [
                newer.label("newer"),
                self._not_below(table, since.seen).label("unseen"),
                later.label("closed_later"),
            ]
        return sa.select(table, *columns)

    def _open(self, users: Iterable[Hashable], admins: Iterable[Hashable], since: Mark | None = None) -> list[Any]:
        table, admins = self._threads.c, list(admins)
        reasons = [table.client_id.in_(ids) for ids in chunks(users)]
        reasons += [table.admin_id.in_(ids) for ids in chunks(admins)]
        reasons += [table.admin_id.is_(None)] if admins else []
        walks = [self._select(since).where(reason, table.status == "open") for reason in reasons]
        with self._database.read() as connection:
            return list(connection.execute(sa.union_all(*walks)).all())

    def _closed(self, since: Mark, limit: int | None = None) -> list[Any]:
        """Everybody's: asked for one user's, SQLite would walk through all that this user ever closed."""
        table = self._threads
        query = self._select(since).where(table.c.closed_at >= self._lately(since), self._not_below(table, since.seen))
        with self._database.read() as connection:
            return list(connection.execute(query.order_by(table.c.closed_at).limit(limit)).all())

    def _first_unseen(self, since: Mark, threads: list[int]) -> dict[int, int] | None:
        """The first ``seq`` in each of these that ``since`` does not cover; ``None`` if that is too much."""
        table = self._messages
        unseen = table.c.id > since.seen if self._sqlite else self._not_below(table, since.seen)
        query = sa.select(table.c.thread_id, sa.func.min(table.c.seq), sa.func.count())
        query = query.where(table.c.created_at >= self._lately(since), unseen).group_by(table.c.thread_id)
        rows: list[Any] = []
        with self._database.read() as connection:
            for ids in chunks(threads):
                rows += connection.execute(query.where(table.c.thread_id.in_(ids)))
        return {id_: first for id_, first, _ in rows} if sum(row[2] for row in rows) <= MAX_REPLAY else None

    @property
    def _sqlite(self) -> bool:
        return self._database.dialect == "sqlite"

    def _lately(self, since: Mark) -> datetime:
        return since.moment - timedelta(seconds=OVERLAP["sqlite" if self._sqlite else "postgresql"])

    def _not_below(self, table: sa.Table, transaction: int) -> sa.ColumnElement[bool]:
        """Whether the row is from this transaction or a later one, where rows know it: in 32 bits, which go round."""
        if self._sqlite:
            return sa.true()
        return (_transaction(table) - sa.literal(transaction, sa.BigInteger())).bitwise_and(0xFFFFFFFF) < 0x80000000

    def _topic(self, row: Any) -> Topic:
        @cache
        def opened() -> bytes:
            return event.thread_opened(thread(row))

        def closed_after(mark: Mark) -> bool:
            if self._sqlite:
                return bool(row.closed_at >= self._lately(mark))
            return (row.transaction - mark.seen) & 0xFFFFFFFF < 0x80000000

        farewell = None if row.status == "open" else event.thread_closed(row.id, utc(row.closed_at) or "")
        return Topic(row.last_seq, row.client_id, row.admin_id, bool(row.recent), opened, farewell, closed_after)


def _transaction(table: sa.Table) -> sa.ColumnElement[int]:
    """That wrote the row (PostgreSQL, 5.6 System Columns)."""
    return sa.cast(sa.cast(sa.literal_column(f"{table.name}.xmin"), sa.Text()), sa.BigInteger())
