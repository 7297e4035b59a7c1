"""The hub's reader of the log: frames out of rows (contract C29, C31, C46)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache, cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from ..clock import utcnow
from ..models import ChatModels
from ..stream import event
from ..stream.interfaces import Entry, Head, News, Span
from .sealing import Sealing
from .unit_of_work import Database
from .wire import message, mounted, utc

PAGE = 100
"""Messages of one thread that are read at once."""

ROWS = 1000
"""Messages of all threads that are read at once."""


class Log:
    """Reads messages on short connections of their own.

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

    def news(self, positions: Mapping[int, int]) -> tuple[dict[int, News], bool]:
        """Of those threads that have more than these positions, are closed, or gone; and whether that is all there is.

        One statement, so that a head counts no message that is missing here.
        """
        query = self._news_on_postgresql if self._database.dialect == "postgresql" else self._news_on_sqlite
        parameters: dict[str, Any] = {"threads": list(positions), "positions": list(positions.values())}
        if self._database.dialect == "sqlite":
            parameters = {"watched": json.dumps(list(positions.items()))}
        with self._database.read() as connection:
            rows = connection.execute(query, parameters).all()
        now, found = time.monotonic(), {}
        for row in self._sealing.reveal(rows):
            news = found.get(row.watched)
            if news is None:
                head = None if row.head_seq is None else Head(row.head_seq, _farewell(row))
                news = found[row.watched] = News(head, [])
            if row.seq is not None:
                news.entries.append(self._entry(row, now, numbered=True))
        return found, len(rows) < ROWS

    @cached_property
    def _news_on_postgresql(self) -> sa.Select[Any]:
        pair = (sa.bindparam(name, type_=ARRAY(sa.BigInteger)) for name in ("threads", "positions"))
        watched = sa.func.unnest(*pair).table_valued("id", "seq", name="watched").render_derived()
        return self._news(watched, watched.c.id, watched.c.seq)

    @cached_property
    def _news_on_sqlite(self) -> sa.Select[Any]:
        watched = sa.func.json_each(sa.bindparam("watched")).table_valued("value", name="watched")
        pair = (sa.func.json_extract(watched.c.value, f"$[{place}]", type_=sa.BigInteger) for place in (0, 1))
        return self._news(watched, *pair)

    def _news(self, watched: Any, thread: Any, position: Any) -> sa.Select[Any]:
        table, threads = self._messages, self._threads
        columns = (
            thread.label("watched"),
            threads.c.last_seq.label("head_seq"),
            threads.c.status.label("thread_status"),
            threads.c.closed_at.label("thread_closed_at"),
            utcnow().label("read_at"),
            *table.c,
        )
        page = (table.c.thread_id == thread) & (table.c.seq > position) & (table.c.seq <= position + PAGE)
        anything = threads.c.id.is_(None) | (threads.c.last_seq > position) | (threads.c.status == "closed")
        joined = watched.outerjoin(threads, threads.c.id == thread).outerjoin(table, page)
        return sa.select(*columns).select_from(joined).where(anything).order_by(thread, table.c.seq).limit(ROWS)

    def between(self, spans: Iterable[Span]) -> dict[int, list[Entry]]:
        """The messages of these stretches of threads, in order, by thread; their frames have no id of their own."""
        table = self._messages
        here = sa.or_(
            *(sa.and_(table.c.thread_id == at, table.c.seq > low, table.c.seq <= high) for at, low, high in spans)
        )
        query = self._with_status(self._threads.c.id == table.c.thread_id).where(here).order_by(table.c.seq)
        found: dict[int, list[Entry]] = {}
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        now = time.monotonic()
        for row in self._sealing.reveal(rows):
            found.setdefault(row.thread_id, []).append(self._entry(row, now, numbered=False))
        return found

    def _with_status(self, of_thread: sa.ColumnElement[bool]) -> sa.Select[Any]:
        status = sa.select(self._threads.c.status).where(of_thread).correlate(self._messages).scalar_subquery()
        return sa.select(self._messages, utcnow().label("read_at"), status.label("thread_status"))

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


def _farewell(row: Any) -> bytes | None:
    if row.thread_status != "closed":
        return None
    return event.thread_closed(row.watched, utc(row.thread_closed_at) or "", row.head_seq)
