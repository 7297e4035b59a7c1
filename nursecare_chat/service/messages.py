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

from ..errors import ChatError, DatabaseConflict, ThreadClosed, ValidationFailed
from ..keys import wire
from ..metrics import Metrics
from ..models import ChatModels
from ..signals import Emit, message_created
from ..stream.doorbell import Ring
from .append import DECIDED_BY, Steps, append
from .paging import newest
from .recent import Recent
from .sealing import Sealing
from .unit_of_work import Database, follow_up
from .uploads import Uploads

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


class Posted:
    """A message that was committed just now: a row as the log has it, without asking the database."""

    thread_status = "open"
    sealed = None

    def __init__(self, thread_id: int, sender_id: Any, draft: Draft, row: Row[Any]) -> None:
        self.thread_id, self.sender_id = thread_id, sender_id
        self.id, self.seq, self.media_path, self.created_at = row.id, row.seq, row.media_path, row.created_at
        self.read_at = row.created_at
        self.type, self.text = draft.type, draft.text
        self.latitude, self.longitude = draft.latitude, draft.longitude
        self.client_message_id = draft.client_message_id


class Messages:
    """The rules for messages.

    :param ring: the doorbell; called after a commit.
    :param show: gives a message to the streams of this process; called after the commit, before it is rung.
    :param secrets: gives the keys of the HMAC that finds a retry, the present one first; called at such a post.
    """

    def __init__(
        self,
        database: Database,
        models: ChatModels,
        uploads: Uploads,
        metrics: Metrics,
        ring: Callable[[Ring], None],
        show: Callable[[Posted], None],
        emit: Emit,
        secrets: Callable[[], list[bytes]],
        sealing: Sealing,
    ) -> None:
        self._database = database
        self._threads = models.threads
        self._messages = models.messages
        self._uploads = uploads
        self._metrics = metrics
        self._ring = ring
        self._show = show
        self._emit = emit
        self._secrets = secrets
        self._sealing = sealing
        self._steps = Steps(models)
        self._appends = {as_admin: append(models, as_admin=as_admin) for as_admin in (False, True)}
        self._seen = Recent()

    def post(self, thread: Row[Any], sender_id: Any, draft: Draft, *, as_admin: bool) -> Row[Any]:
        """Append ``draft`` to the thread's log; the row's ``id``, ``seq`` and ``media_path``.

        A retry gets the answer of the first time (C23).

        :param thread: its row, as the policy saw it.
        :param as_admin: the sender is an admin, and claims an unclaimed thread (C17).
        :raises ThreadClosed: if it was closed meanwhile.
        :raises ValidationFailed: if another body was sent under this ``clientMessageId``, or the media path names no
            picture that this sender may post here (C25).
        """
        thread_id = thread.id
        if draft.media_path is None:
            posted = self.post_at_once(thread, sender_id, draft, as_admin=as_admin)
            return posted or self._append(thread_id, sender_id, draft, as_admin)
        upload = self._uploads.find(thread_id, sender_id, draft.media_path)
        try:
            shown = self._uploads.prepare(upload)
            return self._append(thread_id, sender_id, draft, as_admin, upload, shown)
        except ThreadClosed:  # perhaps its purge was here before the copy
            self._uploads.tidy(upload, None)
            raise
        except ChatError:
            self._require_open(thread_id)  # what is missing may have been erased
            raise

    def _require_open(self, thread_id: int) -> None:
        threads = self._threads
        with self._database.read() as connection:
            if connection.scalar(sa.select(threads.c.status).where(threads.c.id == thread_id)) == "closed":
                raise ThreadClosed() from None

    def last_seen(self, thread_id: int) -> Row[Any] | None:
        """The thread as an earlier post of this process saw it, for :meth:`post_at_once`; ``last_seq`` is of then."""
        return self._seen.get(thread_id)

    def post_at_once(self, thread: Row[Any], sender_id: Any, draft: Draft, *, as_admin: bool) -> Row[Any] | None:
        """As :meth:`post`, in one round trip; ``None`` if that cannot be, or the thread is not what ``thread`` says any
        more, or nothing came of it for another reason.
        """
        thread_id = thread.id
        keys = self._client_message_keys(thread_id, draft.client_message_id)
        one_trip = self._database.pipelines and self._sealing.store is None
        if not one_trip or len(keys) > 1 or draft.media_path is not None:
            return None
        decided_by = {f"thread_{name}": getattr(thread, name) for name in DECIDED_BY}
        given = (
            draft.content()
            | decided_by
            | {
                "thread_id": thread_id,
                "sender_id": sender_id,
                "client_message_id": draft.client_message_id,
                "client_message_key": keys[0] if keys else None,
            }
        )
        try:
            row = self._database.do(self._appends[as_admin], **given)
        except DatabaseConflict:  # an equal post was faster
            return None
        if row is None or (as_admin and thread.admin_id is None):  # or it is the sender's now
            self._seen.drop(thread_id)
        else:
            self._seen.keep(thread)
        if row is not None:
            follow_up(*self._consequences(row, thread_id, sender_id, draft))
        return row

    def _append(
        self,
        thread_id: int,
        sender_id: Any,
        draft: Draft,
        as_admin: bool,
        upload: Row[Any] | None = None,
        shown: str | None = None,
    ) -> Row[Any]:
        """The UPDATE that takes the next ``seq`` also proves the thread open and holds its row until the commit, so
        commits, ``seq`` and ``id`` come in one order and nothing lands behind a close (C10).
        """
        keys = self._client_message_keys(thread_id, draft.client_message_id)
        with self._database.write() as unit:
            if keys:
                # Under the row's lock: of two equal posts at once the second finds the first.
                if unit.connection.scalar(self._steps.lock, {"thread": thread_id}) is None:
                    raise ThreadClosed()
                earlier = self._earlier(unit.connection, thread_id, sender_id, keys)
                if earlier is not None:
                    return self._same(earlier, draft, upload)
            taking = {"thread": thread_id, **({"claimer": sender_id} if as_admin else {})}
            seq = unit.connection.scalar(self._steps.take_seq[as_admin], taking)
            if seq is None:
                raise ThreadClosed()
            if upload is not None:
                self._uploads.claim(unit.connection, upload)
                unit.after_commit(lambda: self._uploads.tidy(upload, shown))
            written = draft.content() | {"client_message_id": draft.client_message_id}
            values = self._sealing.seal(thread_id, seq, written) | {
                "media_path": shown,
                "thread_id": thread_id,
                "sender_id": sender_id,
                "seq": seq,
                "client_message_key": keys[0] if keys else None,
            }
            row = unit.connection.execute(self._steps.write, values).one()
            unit.after_commit(*self._consequences(row, thread_id, sender_id, draft))
        return row

    def _consequences(self, row: Row[Any], thread_id: int, sender_id: Any, draft: Draft) -> list[Callable[[], None]]:
        ids = {"message_id": row.id, "seq": row.seq, "type": draft.type, "sender_id": sender_id}
        return [
            lambda: self._show(Posted(thread_id, sender_id, draft, row)),
            lambda: self._ring(Ring("message", thread=thread_id, seq=row.seq)),
            lambda: self._posted(thread_id, row.id, row.seq, draft.type, sender_id),
            lambda: self._emit(message_created, thread_id=thread_id, **ids),
        ]

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

    def _client_message_keys(self, thread_id: int, client_message_id: str | None) -> list[bytes]:
        """What the unique index holds instead of the id: an index keeps bytes that were erased (C8).

        More than one while the host changes its ``SECRET_KEY``.
        """
        if client_message_id is None:
            return []
        text = f"{thread_id}|{client_message_id}".encode()
        return [hmac.digest(secret, text, hashlib.sha256) for secret in self._secrets()]

    def _earlier(self, connection: Connection, thread_id: int, sender_id: Any, keys: list[bytes]) -> Any | None:
        messages = self._messages
        same = (
            messages.c.thread_id == thread_id,
            messages.c.sender_id == sender_id,
            messages.c.client_message_key.in_(keys),
        )
        found = self._sealing.reveal(connection.execute(sa.select(messages).where(*same)).all())
        return found[0] if found else None

    def _same(self, earlier: Any, draft: Draft, upload: Row[Any] | None) -> Any:
        """``earlier``, if it is what ``draft`` became: a photo is shown under its own path or its copy's."""
        content = draft.content()
        paths = {content.pop("media_path"), upload.copy_path if upload is not None else None}
        if earlier.media_path not in paths or any(getattr(earlier, name) != value for name, value in content.items()):
            raise ValidationFailed(errors={"clientMessageId": ["Another message was sent under this id."]})
        return earlier

    def page(self, thread_id: int, cursor: int | None, limit: int) -> tuple[list[Any], int | None]:
        """The newest ``limit`` messages with ``id < cursor``, oldest first, and the next cursor (C19)."""
        messages = self._messages
        query = newest(messages, {"thread_id": thread_id}, cursor, limit + 1, self._database.dialect)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        page = list(reversed(self._sealing.reveal(rows[:limit])))
        return page, page[0].id if len(rows) > limit else None

    def after(self, thread_id: int, seq: int, limit: int) -> tuple[list[Any], int | None]:
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
        page = list(self._sealing.reveal(rows[:limit]))
        return page, page[-1].seq if len(rows) > limit else None
