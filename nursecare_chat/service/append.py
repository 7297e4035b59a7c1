"""The statement that appends a message to its thread's log (contract C10)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ..clock import utcnow
from ..models import ChatModels
from .prepared import Prepared

GIVEN = ("thread_id", "sender_id", "type", "text", "latitude", "longitude", "client_message_id", "client_message_key")
"""What its values are; ``sender_id`` is also who claims an unclaimed thread."""


def append(models: ChatModels, *, as_admin: bool) -> Prepared:
    """Take the next ``seq`` and write the message with it, in one statement, which holds the thread's row meanwhile.

    ``id`` and ``created_at`` are made from what the UPDATE gives, so under its lock. Nothing happens and nothing is
    given if the thread is not open, or has a message of this ``client_message_key`` already; if that one is committed
    while this waits for the lock, the unique index refuses it, and the ``seq`` is given back with the rest.
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
    advance: dict[str, Any] = {"last_seq": threads.c.last_seq + 1}
    if as_admin:
        advance["admin_id"] = sa.func.coalesce(threads.c.admin_id, given("sender_id"))
    taken = (
        threads.update()
        .where(threads.c.id == given("thread_id"), threads.c.status == "open", ~posted)
        .values(advance)
        .returning(threads.c.last_seq)
        .cte("taken")
    )
    message = sa.select(*(given(name) for name in GIVEN), taken.c.last_seq, utcnow())
    insert = messages.insert().from_select([*GIVEN, "seq", "created_at"], message)
    answer = insert.returning(messages.c.id, messages.c.seq, messages.c.media_path)
    return Prepared("append_as_admin" if as_admin else "append", answer)
