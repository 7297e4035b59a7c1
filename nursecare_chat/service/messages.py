"""Posting and paging messages (contract C10, C19 to C23)."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from ..errors import ThreadClosed, ValidationFailed
from ..keys import wire
from ..metrics import Metrics
from ..models import ChatModels, utcnow
from ..stream.doorbell import Ring
from .unit_of_work import Database

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Draft:
    """A validated message on its way into the log (C21). Degrees, already rounded to 7 places."""

    type: str
    text: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    media_path: str | None = None
    client_message_id: str | None = None

    def content(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "text": self.text,
            "latitude": self.latitude,
            "longitude": self.longitude,
            "media_path": self.media_path,
        }


class Messages:
    """The rules for messages.

    :param ring: the doorbell; called after a commit.
    :param secret: gives the key of the HMAC that finds a retry; called at the first post.
    """

    def __init__(
        self,
        database: Database,
        models: ChatModels,
        metrics: Metrics,
        ring: Callable[[Ring], None],
        secret: Callable[[], bytes],
    ) -> None:
        self._database = database
        self._threads = models.threads
        self._messages = models.messages
        self._metrics = metrics
        self._ring = ring
        self._secret = secret

    def post(self, thread_id: int, sender_id: Any, draft: Draft, *, as_admin: bool) -> tuple[int, int]:
        """Append ``draft`` to the thread's log; ``(id, seq)``.

        The UPDATE that takes the next ``seq`` also proves the thread open and holds its row until the commit, so
        commits, ``seq`` and ``id`` come in one order and nothing lands behind a close (C10). A retry gets the answer
        of the first time (C23).

        :param as_admin: the sender is an admin, and claims an unclaimed thread (C17).
        :raises ThreadClosed: if it was closed meanwhile.
        :raises ValidationFailed: if another body was sent under this ``clientMessageId``, or the media path was not
            issued to this sender.
        """
        threads, messages = self._threads, self._messages
        advance: dict[str, Any] = {"last_seq": threads.c.last_seq + 1}
        if as_admin:
            advance["admin_id"] = sa.func.coalesce(threads.c.admin_id, sa.literal(sender_id, threads.c.admin_id.type))
        take_seq = (
            threads.update()
            .where(threads.c.id == thread_id, threads.c.status == "open")
            .values(advance)
            .returning(threads.c.last_seq)
        )
        key = self._client_message_key(thread_id, draft.client_message_id)
        with self._database.write() as unit:
            if key is not None:
                # Under the row's lock: of two equal posts at once the second finds the first.
                lock = threads.update().where(threads.c.id == thread_id, threads.c.status == "open")
                if not unit.connection.execute(lock.values(last_seq=threads.c.last_seq)).rowcount:
                    raise ThreadClosed()
                earlier = self._earlier(unit.connection, thread_id, sender_id, key)
                if earlier is not None:
                    return self._same_answer(earlier, draft)
            if draft.type == "image":
                raise ValidationFailed(errors={"mediaPath": ["This path was not issued to you in this chat."]})
            seq = unit.connection.scalars(take_seq).one_or_none()
            if seq is None:
                raise ThreadClosed()
            values = draft.content() | {
                "thread_id": thread_id,
                "sender_id": sender_id,
                "seq": seq,
                "created_at": utcnow(),
                "client_message_id": draft.client_message_id,
                "client_message_key": key,
            }
            message_id = unit.connection.scalars(messages.insert().values(values).returning(messages.c.id)).one()
            unit.after_commit(lambda: self._ring(Ring("message", thread=thread_id, seq=seq)))
            unit.after_commit(lambda: self._posted(thread_id, message_id, seq, draft.type, sender_id))
        return message_id, seq

    def _posted(self, thread_id: int, message_id: int, seq: int, kind: str, sender_id: Any) -> None:
        self._metrics.count("messages_posted", kind)
        log.info(
            "chat message posted",
            extra={
                "chat": True,
                "threadId": thread_id,
                "messageId": message_id,
                "seq": seq,
                "type": kind,
                "senderId": wire(sender_id),
            },
        )

    def _client_message_key(self, thread_id: int, client_message_id: str | None) -> bytes | None:
        """What the unique index holds instead of the id: an index keeps bytes that were erased (C8)."""
        if client_message_id is None:
            return None
        return hmac.digest(self._secret(), f"{thread_id}|{client_message_id}".encode(), hashlib.sha256)

    def _earlier(self, connection: Connection, thread_id: int, sender_id: Any, key: bytes) -> Row[Any] | None:
        messages = self._messages
        same = (
            messages.c.thread_id == thread_id,
            messages.c.sender_id == sender_id,
            messages.c.client_message_key == key,
        )
        return connection.execute(sa.select(messages).where(*same)).one_or_none()

    def _same_answer(self, earlier: Row[Any], draft: Draft) -> tuple[int, int]:
        if any(getattr(earlier, name) != value for name, value in draft.content().items()):
            raise ValidationFailed(errors={"clientMessageId": ["Another message was sent under this id."]})
        return earlier.id, earlier.seq

    def page(self, thread_id: int, cursor: int | None, limit: int) -> tuple[list[Row[Any]], int | None]:
        """The newest ``limit`` messages with ``id < cursor``, oldest first, and the next cursor (C19)."""
        messages = self._messages
        query = sa.select(messages).where(messages.c.thread_id == thread_id)
        with self._database.read() as connection:
            if cursor is not None:
                query = query.where(messages.c.id < cursor)
                # A cursor of ours is a message here: its seq lets the (thread_id, seq) index start at the right place.
                at = connection.scalar(
                    sa.select(messages.c.seq).where(messages.c.id == cursor, messages.c.thread_id == thread_id)
                )
                if at is not None:
                    query = query.where(messages.c.seq < at)
            rows = connection.execute(query.order_by(messages.c.seq.desc()).limit(limit + 1)).all()
        page = list(reversed(rows[:limit]))
        return page, page[0].id if len(rows) > limit else None

    def after(self, thread_id: int, seq: int, limit: int) -> tuple[list[Row[Any]], int | None]:
        """The ``limit`` messages that follow ``seq``, oldest first, and the next ``after`` (C19)."""
        messages = self._messages
        query = (
            sa.select(messages)
            .where(messages.c.thread_id == thread_id, messages.c.seq > seq)
            .order_by(messages.c.seq)
            .limit(limit + 1)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        page = list(rows[:limit])
        return page, page[-1].seq if len(rows) > limit else None
