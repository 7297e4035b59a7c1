"""The hub's reader of the log: frames out of rows (contract C29, C31, C46)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import sqlalchemy as sa

from ..clock import utcnow
from ..models import ChatModels
from ..stream import event
from ..stream.interfaces import Entry, Head, Span
from .access import chunks
from .sealing import Sealing
from .unit_of_work import Database
from .wire import message, mounted, utc


class Log:
    """Reads heads and messages on short connections of their own.

    :param media_url: signs the address of a media path.
    """

    def __init__(
        self, database: Database, models: ChatModels, media_url: Callable[[str | None], str | None], sealing: Sealing
    ) -> None:
        self._database = database
        self._media_url = media_url
        self._sealing = sealing
        self._threads = models.threads
        self._messages = models.messages

    def heads(self, threads: Iterable[int]) -> dict[int, Head]:
        """Where each thread stands; one that is gone is missing from the answer."""
        table = self._threads
        columns = (table.c.id, table.c.last_seq, table.c.status, table.c.closed_at)
        rows: list[Any] = []
        with self._database.read() as connection:
            for ids in chunks(threads):
                rows += connection.execute(sa.select(*columns).where(table.c.id.in_(ids)))
        return {row.id: self.head(row) for row in rows}

    def head(self, row: Any) -> Head:
        """The head that a thread's row shows."""
        farewell = None
        if row.status == "closed":
            farewell = event.thread_closed(row.id, utc(row.closed_at) or "", row.last_seq)
        return Head(row.last_seq, farewell)

    def after(self, thread: int, seq: int, limit: int) -> list[Entry]:
        """The ``limit`` messages that follow ``seq``, in order."""
        table, threads = self._messages, self._threads
        query = self._with_status(threads.c.id == thread)
        query = query.where(table.c.thread_id == thread, table.c.seq > seq).order_by(table.c.seq).limit(limit)
        return [entry for _, entry in self._entries(query, numbered=True)]

    def between(self, spans: Iterable[Span]) -> dict[int, list[Entry]]:
        """The messages of these stretches of threads, in order, by thread; their frames have no id of their own."""
        table = self._messages
        here = sa.or_(
            *(sa.and_(table.c.thread_id == at, table.c.seq > low, table.c.seq <= high) for at, low, high in spans)
        )
        query = self._with_status(self._threads.c.id == table.c.thread_id).where(here).order_by(table.c.seq)
        found: dict[int, list[Entry]] = {}
        for thread, entry in self._entries(query, numbered=False):
            found.setdefault(thread, []).append(entry)
        return found

    def _with_status(self, of_thread: sa.ColumnElement[bool]) -> sa.Select[Any]:
        status = sa.select(self._threads.c.status).where(of_thread).correlate(self._messages).scalar_subquery()
        return sa.select(self._messages, utcnow().label("read_at"), status.label("thread_status"))

    def _entries(self, query: sa.Select[Any], numbered: bool) -> Iterator[tuple[int, Entry]]:
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        now = time.monotonic()
        for row in self._sealing.reveal(rows):
            yield row.thread_id, self._entry(row, now, numbered)

    def _entry(self, row: Any, now: float, numbered: bool) -> Entry:
        # No address is signed once closing began: it would outlive what it shows.
        media_url = self._media_url(row.media_path if row.thread_status == "open" else None)

        @cache
        def frame(own: bool, mount: str) -> bytes:
            shown = message(row, mounted(media_url, mount), viewer=row.sender_id if own else None)
            return event.message_created(row.thread_id, shown, numbered)

        # Both by the database's clock: machines' own may differ.
        age = (row.read_at - row.created_at).total_seconds()
        return Entry(row.seq, row.sender_id, frame, now - age)
