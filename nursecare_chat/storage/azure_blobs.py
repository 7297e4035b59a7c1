"""One blob of Azure's as a listing shows it, and what may hinder its deletion (contract C37)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobClient, BlobLeaseClient, BlobProperties

SPENT = "application/x-empty"
"""The type of what a deletion leaves."""


def key(item: BlobProperties) -> tuple[str, Any]:
    """What names it among all that a listing shows."""
    return item.name, item.version_id if is_older_version(item) else None


def is_older_version(item: BlobProperties) -> bool:
    return bool(item.version_id) and not item.is_current_version


def is_spent(item: BlobProperties) -> bool:
    """Whether it only keeps its name taken."""
    return item.size == 0 and item.content_settings.content_type == SPENT


def free(blob: BlobClient) -> None:
    """End its lease, and a copy to it, which may take two weeks and lets nobody else write meanwhile.

    None, and none any more, are as good.
    """
    with _unless_none():
        BlobLeaseClient(blob).break_lease(lease_break_period=0)
    with _unless_none():
        copy = blob.get_blob_properties().copy
        if copy.status == "pending":
            blob.abort_copy(copy.id)


@contextmanager
def _unless_none() -> Iterator[None]:
    try:
        yield
    except HttpResponseError as error:
        if error.status_code not in (404, 409):
            raise
