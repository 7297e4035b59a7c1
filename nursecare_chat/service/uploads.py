"""Issuing upload URLs, and looking at what was uploaded before it becomes a message (contract C24, C25)."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from ..clock import now, utcnow
from ..errors import ChatError, ThreadClosed, TooManyUploads, ValidationFailed
from ..keys import wire
from ..metrics import Metrics
from ..models import ChatModels
from ..storage import names
from ..storage.base import BlobStorage, SignedPut
from .images import Images, NotAnImage
from .unit_of_work import Database

log = logging.getLogger(__name__)

MAX_WAITING = 5
"""Uploads of one sender in a thread that may wait to be posted (C24)."""


@dataclass(frozen=True)
class Issued:
    """An upload that may now be made; ``expires_at`` in UTC."""

    media_path: str
    put: SignedPut
    expires_at: datetime


class Uploads:
    """
    :param ttl: seconds that an upload URL lives.
    """

    def __init__(
        self,
        database: Database,
        models: ChatModels,
        storage: BlobStorage,
        images: Images,
        metrics: Metrics,
        ttl: int,
    ) -> None:
        self._database = database
        self._threads = models.threads
        self._uploads = models.uploads
        self._storage = storage
        self._images = images
        self._metrics = metrics
        self._ttl = ttl

    def issue(self, thread_id: int, sender_id: Any, content_type: str, size: int) -> Issued:
        """Name a blob and sign the URL that creates it.

        :param size: the most bytes that it may have.
        :raises ThreadClosed: if the thread is.
        :raises TooManyUploads: if :data:`MAX_WAITING` of the sender's wait there already.
        :raises StorageUnavailable: if nothing can be stored now.
        """
        uploads, name = self._uploads, names.new_name(thread_id, content_type)
        # The address goes by this machine's clock, which may be ahead of the database's.
        here = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=self._ttl)
        by_database, by_machine = utcnow(self._ttl), sa.literal(here)
        values = {
            "thread_id": thread_id,
            "sender_id": sender_id,
            "media_path": name,
            "copy_path": names.new_name(thread_id, content_type),
            "content_type": content_type,
            "size": size,
            "expires_at": sa.case((by_database > by_machine, by_database), else_=by_machine),
        }
        put = self._storage.sign_put(name, content_type, size, self._ttl)  # before it counts as waiting
        with self._database.write() as unit:
            self._require_open(unit.connection, thread_id)
            self._require_room(unit.connection, thread_id, sender_id)
            row = unit.connection.execute(uploads.insert().values(values).returning(uploads)).one()
        self._metrics.count("uploads_issued", content_type)
        log.info(
            "chat upload issued",
            extra={"chat": True, "threadId": thread_id, "senderId": wire(sender_id), "uploadId": row.id, "size": size},
        )
        return Issued(name, put, row.expires_at)

    def _require_open(self, connection: Connection, thread_id: int) -> None:
        """Holds the thread's row until the commit, so that two at once are counted one after the other."""
        threads = self._threads
        lock = sa.select(threads.c.id).where(threads.c.id == thread_id, threads.c.status == "open").with_for_update()
        if connection.scalar(lock) is None:
            raise ThreadClosed()

    def _require_room(self, connection: Connection, thread_id: int, sender_id: Any) -> None:
        uploads = self._uploads
        waiting = sa.select(sa.func.count(), sa.func.min(uploads.c.expires_at), utcnow()).where(
            uploads.c.thread_id == thread_id,
            uploads.c.sender_id == sender_id,
            ~uploads.c.posted,
            ~uploads.c.rejected,
            uploads.c.expires_at > now(),
        )
        count, first, at = connection.execute(waiting).one()
        if count >= MAX_WAITING:
            seconds = max(1, math.ceil((first - at).total_seconds()))
            raise TooManyUploads(headers={"Retry-After": str(seconds)})

    def find(self, thread_id: int, sender_id: Any, media_path: str) -> Row[Any]:
        """The upload that was issued under this path, to this sender, in this thread. Touches no storage.

        :raises ValidationFailed: if there is none.
        """
        row = self._select(self._uploads.c.media_path == media_path) if names.is_name(media_path) else None
        if row is None or row.thread_id != thread_id or row.sender_id != sender_id:
            raise _refused("This path was not issued to you in this chat.")
        return row

    def prepare(self, upload: Row[Any]) -> str:
        """Look at the blob and, where Pillow is, store the copy without metadata; the path to show.

        May be done twice, also at once: a copy is always the same. Nothing here needs a transaction.

        :raises ValidationFailed: if the blob is missing, or no such picture; then it is deleted and its path dead.
        :raises StorageUnavailable: if it cannot be looked at now.
        """
        if upload.rejected:
            raise _refused("What was uploaded here was refused.")
        shown: str = upload.copy_path if self._images.available else upload.media_path
        data = None if upload.posted else self._storage.read(upload.media_path, upload.size)
        if data is None:
            again = self._select(self._uploads.c.id == upload.id)
            if again is not None and again.posted:
                return shown  # by a request at the same time; whether this is its retry, claim() or C23's key tells
            raise _refused("Nothing was uploaded here yet.")
        try:
            copy = self._examined(data, upload)
        except NotAnImage as error:
            self._reject(upload)
            raise _refused(str(error)) from None
        if copy is not None:
            self._storage.write(shown, copy)
        self._metrics.count("media_uploaded_bytes", upload.content_type, len(data))
        self._metrics.count("media_posted_bytes", upload.content_type, len(data if copy is None else copy))
        return shown

    def _examined(self, data: bytes, upload: Row[Any]) -> bytes | None:
        """The copy to store, if any.

        :raises NotAnImage: if it is none, or not the one that was announced.
        """
        if len(data) > upload.size:
            raise NotAnImage(f"More than the {upload.size} bytes that were declared.")
        if names.sniff(data[: names.HEAD]) != upload.content_type:
            raise NotAnImage(f"This is no {upload.content_type}.")
        return self._images.clean(data, upload.content_type) if self._images.available else None

    def _reject(self, upload: Row[Any]) -> None:
        uploads = self._uploads
        with self._database.write() as unit:
            dead = uploads.update().where(uploads.c.id == upload.id, ~uploads.c.posted).values(rejected=True)
            if unit.connection.execute(dead).rowcount:
                unit.after_commit(lambda: self._storage.delete(upload.media_path))
        self._metrics.count("uploads_rejected", upload.content_type)
        self._metrics.count("media_deletions", "refused")
        log.info("chat upload refused", extra={"chat": True, "threadId": upload.thread_id, "uploadId": upload.id})

    def claim(self, connection: Connection, upload: Row[Any]) -> None:
        """Take the upload for a message; of two at once one gets it.

        :raises ValidationFailed: if it is another message's, or dead.
        """
        uploads = self._uploads
        free = (uploads.c.id == upload.id) & ~uploads.c.posted & ~uploads.c.rejected
        if not connection.execute(uploads.update().where(free).values(posted=True, posted_at=utcnow())).rowcount:
            raise _refused("This was posted before.")

    def tidy(self, upload: Row[Any], shown: str | None) -> None:
        """Remove what is not shown: the original beside a copy; with ``None``, because nothing was posted, both."""
        for name in (upload.media_path, upload.copy_path):
            if name != shown:
                try:
                    self._storage.delete(name)
                    self._metrics.count("media_deletions", "tidied")
                except ChatError as error:  # the purge removes it
                    log.warning("chat upload not tidied: %s", error, extra={"chat": True, "uploadId": upload.id})

    def url(self, media_path: str | None) -> str | None:
        """A signed address for ``media_path``, made anew each time (C20)."""
        return None if media_path is None else self._storage.sign_get(media_path, self._ttl)

    def _select(self, condition: sa.ColumnElement[bool]) -> Row[Any] | None:
        with self._database.read() as connection:
            return connection.execute(sa.select(self._uploads).where(condition)).one_or_none()


def _refused(why: str) -> ValidationFailed:
    return ValidationFailed(errors={"mediaPath": [why]})
