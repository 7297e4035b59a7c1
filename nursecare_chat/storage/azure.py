"""Blobs in a container of Azure's, reached by signed URLs that the service itself answers (contract C24, C25, C37).

An upload URL may create (``sp=c``), which the service takes for a name that has no blob: by a PUT, of any type and
size, or by a copy from elsewhere; and for a snapshot of that blob. With write permission it could overwrite, take an
infinite lease or stage blocks that no default listing shows. Type and size are checked by the post.

A name that was used must stay taken, or its URL would create the blob again. So :meth:`AzureStorage.delete` puts an
empty blob in its place, which reads as none. It goes with everything else when the thread is purged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import repeat
from typing import Any
from urllib.parse import urlsplit

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.storage.blob import BlobClient, BlobProperties, ContainerClient, ContentSettings

from ..errors import StorageUnavailable
from . import azure_properties, canary, names
from .azure_account import Service, code_of, refused, translated
from .azure_blobs import SPENT, free, is_older_version, is_spent, key
from .base import Retention, SignedPut

BATCH = 256
"""Blobs in one request to delete; the service takes no more."""

AT_ONCE = 4
"""Such requests under way at a time; one of the service's servers is no quicker for more."""

PAGE = 5000
"""Names in one answer to a listing; the service gives no more."""

ROUNDS = 4
"""Looks at a prefix before what is still there has resisted: the blobs, their older versions, what came meanwhile."""

OTHER_TYPE = "InvalidBlobType"
"""What the service says to a block blob in place of a page or append blob, which an upload URL may create too."""

OVERCOME = frozenset({"LeaseIdMissing", "PendingCopyOperation", OTHER_TYPE})
"""Refusals to overwrite that we can end."""

HIDDEN = ["snapshots", "uncommittedblobs", "versions"]
"""What a listing leaves out unless asked."""


class AzureStorage:
    """
    :param container: its name; it is made by :meth:`create`, never by the way.
    """

    def __init__(self, service: Service, container: str) -> None:
        self._service = service
        self._name = container

    @property
    def _container(self) -> ContainerClient:
        return self._service.client.get_container_client(self._name)

    def _blob(self, name: str) -> BlobClient:
        return self._container.get_blob_client(name)

    # -- signed URLs ---------------------------------------------------------------------------------------------

    @property
    def origin(self) -> str:
        return "{0.scheme}://{0.netloc}".format(urlsplit(self._service.account.url))

    def sign_put(self, name: str, content_type: str, size: int, ttl: int) -> SignedPut:
        url = self._signed(name, "c", ttl)
        return SignedPut(url, {"x-ms-blob-type": "BlockBlob", "Content-Type": content_type})

    def sign_get(self, name: str, ttl: int) -> str:
        checked = _checked(name)
        return self._signed(
            checked,
            "r",
            ttl,
            content_type=names.content_type_of(checked),
            content_disposition="inline",
            cache_control="no-store",
        )

    def _signed(self, name: str, permission: str, ttl: int, **forced: str) -> str:
        query = self._service.sign(self._name, _checked(name), permission, ttl, **forced)
        return f"{self._service.account.url}/{self._name}/{name}?{query}"

    # -- BlobStorage ---------------------------------------------------------------------------------------------

    def read(self, name: str, limit: int) -> bytes | None:
        """An empty blob is none: it is what a deletion leaves. So is one that was put into the archive."""
        blob = self._blob(_checked(name))
        with translated():
            try:
                data: bytes = blob.download_blob(offset=0, length=limit + 1, max_concurrency=1).readall()
            except HttpResponseError as error:
                if code_of(error) in ("BlobNotFound", "InvalidRange", "BlobArchived"):  # the second from an empty one
                    return None
                raise
        return data or None

    def write(self, name: str, data: bytes) -> None:
        content_type = names.content_type_of(_checked(name))
        with translated():
            self._put(name, data, content_type)

    def delete(self, name: str) -> None:
        """Put an empty blob in its place, if there is one, and remove what snapshots kept."""
        blob = self._blob(_checked(name))
        with translated():
            try:
                self._put(name, b"", SPENT, match_condition=MatchConditions.IfPresent)
            except HttpResponseError as error:
                if code_of(error) in ("ConditionNotMet", "BlobNotFound"):
                    return
                raise
            with suppress(ResourceNotFoundError):
                blob.delete_blob(delete_snapshots="only")

    def _put(self, name: str, data: bytes, content_type: str, **conditions: Any) -> None:
        """Over whatever there is, uncommitted blocks included; neither a lease, a copy nor another type hinders us."""
        blob, kind = self._blob(name), ContentSettings(content_type=content_type)
        try:
            blob.upload_blob(data, length=len(data), overwrite=True, content_settings=kind, **conditions)
        except HttpResponseError as error:
            if code_of(error) not in OVERCOME:
                raise
            free(blob)
            if code_of(error) == OTHER_TYPE:
                blob.delete_blob(delete_snapshots="include")
                conditions = {}
            blob.upload_blob(data, length=len(data), overwrite=True, content_settings=kind, **conditions)

    def check(self) -> None:
        with translated():
            self._container.get_container_properties()

    def create(self) -> None:
        """Make the container, private; there already is as good."""
        with translated():
            try:
                self._container.create_container()
            except HttpResponseError as error:
                if code_of(error) != "ContainerAlreadyExists":
                    raise

    def canary(self) -> None:
        canary.sing(self)

    def cors_problems(self, origins: Iterable[str]) -> list[str]:
        """What keeps browsers on pages of ``origins`` from uploading, in sentences; empty if nothing does."""
        with translated():
            return azure_properties.cors_problems(self._service.client, origins)

    def fix_cors(self, origins: Iterable[str]) -> None:
        """Let them, beside what the account allows already.

        :raises StorageUnavailable: if the account has as many rules as it can have.
        """
        with translated():
            azure_properties.fix_cors(self._service.client, origins)

    def recoverable(self) -> list[str]:
        """What brings deleted photos back, in sentences; empty if nothing that can be seen from here does."""
        with translated():
            return azure_properties.recoverable(self._service.client, self._container)

    def retention(self) -> Retention:
        """Soft delete's days. That cannot be known where the identity may not read the account's settings."""
        try:
            with translated():
                days = azure_properties.soft_delete_days(self._service.client)
        except StorageUnavailable as error:
            if error.detail not in (401, 403):
                raise
            return Retention(None, f"soft_delete_unknown/{error.kind}")
        return Retention(days, "soft_delete" if days else None)

    def listing(self, prefix: str) -> list[str]:
        """Everything counts here, also what :meth:`delete` left and what only a snapshot or a version has: an empty
        listing says that nothing is left."""
        _check_prefix(prefix)
        with translated():
            return sorted({item.name for item in self._items(prefix)})

    def delete_prefix(self, prefix: str, progress: Callable[[int], None] = lambda found: None) -> int:
        """
        :returns: without what :meth:`delete` left.
        :raises StorageUnavailable: if something resists: with the service's word for the first of it, and the status.
        """
        _check_prefix(prefix)
        found: set[str] = set()
        seen: set[tuple[str, Any]] = set()
        trouble: StorageUnavailable | None = None
        with translated():
            for _ in range(ROUNDS):
                items = []
                for item in self._items(prefix):
                    items.append(item)
                    if len(items) % PAGE == 0:
                        progress(len(found))
                if not items:
                    return len(found)
                found |= {item.name for item in items if not is_spent(item)}
                progress(len(found))
                trouble = None
                stubborn = {key(item): item for item in items if key(item) in seen}
                for item in stubborn.values():
                    trouble = self._force(item) or trouble
                    progress(len(found))
                for _ in self._delete([item for item in items if key(item) not in seen]):
                    progress(len(found))
                seen |= {key(item) for item in items}
            if not self.listing(prefix):
                return len(found)
        raise trouble or StorageUnavailable("BlobsLeft")

    def _items(self, prefix: str) -> Iterator[BlobProperties]:
        return iter(self._container.list_blobs(prefix, include=HIDDEN, results_per_page=PAGE))

    def _delete(self, items: Iterable[BlobProperties]) -> Iterator[None]:
        """In batches, some at once; one a turn. What fails in one shows in the next listing; a 404 is as good."""
        whole = {item.name: None for item in items if not is_older_version(item)}
        older = [{"name": item.name, "version_id": item.version_id} for item in items if is_older_version(item)]
        kinds: list[tuple[list[Any], dict[str, str]]] = [(list(whole), {"delete_snapshots": "include"}), (older, {})]

        def delete(batch: list[Any], options: dict[str, str]) -> None:
            list(self._container.delete_blobs(*batch, raise_on_any_failure=False, **options))

        with ThreadPoolExecutor(AT_ONCE) as pool:
            for targets, options in kinds:
                batches = [targets[start : start + BATCH] for start in range(0, len(targets), BATCH)]
                for _ in pool.map(delete, batches, repeat(options)):
                    yield

    def _force(self, item: BlobProperties) -> StorageUnavailable | None:
        """Delete what a batch did not: under a lease, being copied, or never committed, which is a 404 to a deletion.
        The refusal.
        """
        blob = self._blob(item.name)
        try:
            if is_older_version(item):
                blob.delete_blob(version_id=item.version_id)
                return None
            free(blob)
            try:
                blob.delete_blob(delete_snapshots="include")
            except ResourceNotFoundError:
                self._put(item.name, b"", SPENT)
                blob.delete_blob(delete_snapshots="include")
        except ResourceNotFoundError:
            pass
        except HttpResponseError as error:
            return refused(error)
        return None


def _check_prefix(prefix: str) -> None:
    if not names.is_prefix(prefix):
        raise ValueError("not a thread's prefix")


def _checked(name: str) -> str:
    if not names.is_name(name):
        raise ValueError("not a blob's name")
    return name
