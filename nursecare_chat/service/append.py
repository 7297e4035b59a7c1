"""The statements that append a message to its thread's log, built once (contract C10)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ..clock import utcnow
from ..models import ChatModels
from .prepared import Prepared

GIVEN = ("thread_id", "sender_id", "type", "text", "latitude", "longitude", "client_message_id", "client_message_key")
"""What its values are; ``sender_id`` is also who claims an unclaimed thread."""

DECIDED_BY = ("request_id", "client_id", "admin_id")
"""What the policy went by: the thread's columns, given as ``thread_…``, that must be what they were."""

ANSWER = ("id", "seq", "media_path", "created_at")
"""What the poster did not say."""


def append(models: ChatModels, *, as_admin: bool) -> Prepared:
    """Take the next ``seq`` and write the message with it, in one statement, which holds the thread's row meanwhile.

    ``id`` and ``created_at`` are made from what the UPDATE gives, so under its lock. Nothing happens and nothing is
    given if the thread is not open, is not the one that the policy saw any more (:data:`DECIDED_BY`), or has a message
    of this ``client_message_key`` already; if that one is committed while this waits for the lock, the unique index
    refuses it, and the ``seq`` is given back with the rest.
    """
    threads, messages = models.threads, models.messages

    def given(name: str) -> Any:
        column = messages.c[name]
        return sa.cast(sa.bindparam(name, type_=column.type), column.type)

    posted = (
        sa.select(messages.c.id)
        .where(*(messages.c[name] == given(name) for name in ("thread_id", "sender_id", "client_message_key")))
        .exists()
    )
    claimer = given("sender_id") if as_admin else None
    unchanged = [
        threads.c[name].is_not_distinct_from(sa.bindparam(f"thread_{name}", type_=threads.c[name].type))
        for name in DECIDED_BY
    ]
    advance = _advance(threads, given("thread_id"), claimer).where(*unchanged, ~posted)
    taken = advance.returning(threads.c.last_seq).cte("taken")
    message = sa.select(*(given(name) for name in GIVEN), taken.c.last_seq, utcnow())
    insert = messages.insert().from_select([*GIVEN, "seq", "created_at"], message)
    answer = insert.returning(*(messages.c[name] for name in ANSWER))
    return Prepared("append_as_admin" if as_admin else "append", answer)


class Steps:
    """The same one after the other, in a transaction that does more between them.

    :ivar lock: the open thread's row, without which nothing is written; its parameter is ``thread``.
    :ivar take_seq: by whether an admin posts: the next ``seq``; then it takes their key, too, as ``claimer``.
    :ivar write: the message, from its columns.
    """

    def __init__(self, models: ChatModels) -> None:
        threads, messages = models.threads, models.messages
        thread = sa.bindparam("thread", type_=threads.c.id.type)
        claimer = sa.bindparam("claimer", type_=threads.c.admin_id.type)
        still_open = (threads.c.id == thread) & (threads.c.status == "open")
        self.lock = sa.select(threads.c.id).where(still_open).with_for_update()
        self.take_seq = {
            as_admin: _advance(threads, thread, claimer if as_admin else None).returning(threads.c.last_seq)
            for as_admin in (False, True)
        }
        answer = (messages.c[name] for name in ANSWER)
        self.write = messages.insert().values(created_at=utcnow()).returning(*answer)


def _advance(threads: sa.Table, thread: Any, claimer: Any | None) -> sa.Update:
    """The UPDATE that takes the next ``seq`` also proves the thread open, and holds its row until the commit."""
    advance: dict[str, Any] = {"last_seq": threads.c.last_seq + 1}
    if claimer is not None:
        advance["admin_id"] = sa.func.coalesce(threads.c.admin_id, claimer)
    return threads.update().where(threads.c.id == thread, threads.c.status == "open").values(advance)
