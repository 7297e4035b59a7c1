"""Something small that is stored, read and removed, to see whether a storage works (contract C42)."""

from __future__ import annotations

import secrets

from ..errors import StorageUnavailable
from . import names
from .base import BlobStorage

LOWEST, HIGHEST = 2**63, 10**19 - 1
"""Numbers that a name may have and no thread can: two canaries at once do not meet either."""


def sing(storage: BlobStorage) -> None:
    """
    :raises StorageUnavailable: saying which step did not do what it should.
    """
    thread_id = LOWEST + secrets.randbelow(HIGHEST - LOWEST)
    name, prefix, data = names.new_name(thread_id, "image/png"), names.prefix(thread_id), secrets.token_bytes(32)
    try:
        storage.write(name, data)
        if storage.read(name, len(data)) != data:
            raise StorageUnavailable("CanaryNotRead")
        storage.delete(name)
        if storage.read(name, len(data)) is not None:
            raise StorageUnavailable("CanaryNotDeleted")
    finally:
        storage.delete_prefix(prefix)
    if storage.listing(prefix):
        raise StorageUnavailable("CanaryNotErased")
