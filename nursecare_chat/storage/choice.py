"""Which storage the settings name (contract C5)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from .base import BlobStorage
from .local import LocalStorage


def choose(
    url: str,
    *,
    folder: Path,
    secrets: Callable[[], list[bytes]],
    base: str,
    connection_string: str,
    account_url: str,
    ttl: int,
) -> BlobStorage:
    """The storage of ``CHAT_STORAGE_URL``. Touches no network.

    :param folder: :param secrets: :param base: for the local one, see :class:`LocalStorage`.
    :param connection_string: :param account_url: :param ttl: for Azure, see :func:`azure_account.account_of`.
    :raises ConfigurationError: if Azure's settings are wrong, or what they need is missing.
    """
    parts = urlsplit(url)
    if parts.scheme != "azure":
        return LocalStorage(folder, secrets, base)
    from .azure import AzureStorage  # the SDK takes its time, and most need it not
    from .azure_account import Service, account_of

    return AzureStorage(Service(account_of(connection_string, account_url, ttl)), parts.netloc)
