"""An Azure account: its settings, its clients, signing, and what its errors become (contract C5, C24)."""

from __future__ import annotations

import base64
import binascii
import importlib.util
import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.blob import BlobServiceClient, LinearRetry, generate_blob_sas

from ..background import Background
from ..errors import ConfigurationError, StorageUnavailable

API_VERSION = "2024-05-04"
"""What is spoken with the service: known to every SDK that the package allows, and to Azurite."""

CONNECT, ANSWER, RETRIES = 5, 10, 1
"""Seconds, seconds, times: with the storage away a post ends in 503 and does not hang."""

SKEW = 15 * 60
"""Seconds by which clocks may differ: a delegation key is asked for from then on."""

KEY_LIFE = 12 * 3600
"""Seconds for which a delegation key is good besides the TTL of what it signs; renewed when half of them are over."""

RENEW_PAUSE = 60
"""Seconds between two attempts to renew a key that is good for some time yet."""

LONGEST_TTL = 6 * 24 * 3600
"""Seconds. A delegation key lives for seven days at most, and nothing that it signed outlives it."""

WITH_KEY = "DefaultEndpointsProtocol=https;AccountName=…;AccountKey=…, with https except on loopback"
WITH_IDENTITY = "https://<account>.blob.core.windows.net, with https except on loopback"

STUMBLES = (ValueError, AttributeError)
"""What the SDK raises over an answer of 200 that is none of the service's: a page of a proxy in between, or nothing."""

_silent = logging.Logger("nursecare_chat.azure")
_silent.disabled = True  # The SDK writes URLs and headers at INFO; this one logger of ours takes them and says nothing.


class Account(NamedTuple):
    """``url`` of the blob service; ``key`` is empty where an identity stands for it."""

    name: str
    url: str
    key: str

    @property
    def protocol(self) -> str:
        """By what signed URLs may be used."""
        return "https" if self.url.startswith("https:") else "https,http"


def account_of(connection_string: str, account_url: str, ttl: int) -> Account:
    """What the two keys say, of which exactly one is given. Touches no network.

    :param ttl: seconds that signed URLs live.
    :raises ConfigurationError: naming the key and what is accepted; never the value, which is a secret.
    """
    if bool(connection_string.strip()) == bool(account_url.strip()):
        given = "both are" if connection_string.strip() else "neither is"
        raise ConfigurationError(
            "CHAT_STORAGE_URL=azure://… needs exactly one of CHAT_AZURE_CONNECTION_STRING and CHAT_AZURE_ACCOUNT_URL;"
            f" {given} set."
        )
    if connection_string.strip():
        return _with_key(connection_string)
    if importlib.util.find_spec("azure.identity") is None:
        raise ConfigurationError("CHAT_AZURE_ACCOUNT_URL needs azure-identity: pip install nursecare-chat[azure]")
    if ttl > LONGEST_TTL:
        raise ConfigurationError(
            f"CHAT_SIGNED_URL_TTL is {ttl}; accepted with CHAT_AZURE_ACCOUNT_URL: at most {LONGEST_TTL} seconds."
        )
    return _with_identity(account_url)


def _with_key(text: str) -> Account:
    parts = dict(part.strip().partition("=")[::2] for part in text.split(";") if part.strip())
    name, key = parts.get("AccountName", ""), parts.get("AccountKey", "")
    try:
        sound = bool(name) and len(base64.b64decode(key, validate=True)) > 0
    except binascii.Error:
        sound = False
    suffix, scheme = parts.get("EndpointSuffix") or "core.windows.net", parts.get("DefaultEndpointsProtocol") or "https"
    url = (parts.get("BlobEndpoint") or f"{scheme}://{name}.blob.{suffix}").rstrip("/")
    if not sound or not _is_safe(url):
        raise ConfigurationError(f"CHAT_AZURE_CONNECTION_STRING is no such thing; accepted: {WITH_KEY}.")
    return Account(name, url, key)


def _with_identity(text: str) -> Account:
    url = text.strip().rstrip("/")
    parts = urlsplit(url)
    named = re.fullmatch(r"([a-z0-9]{3,24})\.blob\.[a-z0-9.-]+", parts.hostname or "")
    local = re.fullmatch(r"/([a-z0-9]{3,24})", parts.path) if _is_loopback(parts.hostname) else None
    name = named if not parts.path else local
    if name is None or not _is_safe(url) or parts.username is not None:
        raise ConfigurationError(f"CHAT_AZURE_ACCOUNT_URL is no such thing; accepted: {WITH_IDENTITY}.")
    return Account(name[1], url, "")


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
        if not parts.hostname or parts.query or parts.fragment:
            return False
        return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))
    except ValueError:
        return False


def _is_loopback(host: str | None) -> bool:
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host or "") is not None


def _default_credential() -> Any:
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential(logger=_silent)


class Service:
    """The account's clients and signatures, made at their first use and again in a forked process.

    :param credential: makes what proves the application's identity; not used with a key.
    """

    def __init__(
        self,
        account: Account,
        credential: Callable[[], Any] = _default_credential,
        clock: Callable[[], float] = time.time,
        **options: Any,
    ) -> None:
        self.account = account
        self._credential = credential
        self._clock = clock
        self._options = options
        self._lock = threading.RLock()
        self._made_in = 0
        self._client: BlobServiceClient | None = None
        self._key: Any = None
        self._key_ends = 0.0
        self._renew_at = 0.0
        self._renewals = Background("nursecare-chat_azure-key")

    @property
    def client(self) -> BlobServiceClient:
        """Of this process: connections are not shared across a fork."""
        if self._client is None or self._made_in != os.getpid():
            with self._lock:
                if self._client is None or self._made_in != os.getpid():
                    self._client, self._made_in = self._make(), os.getpid()
        return self._client

    def _make(self) -> BlobServiceClient:
        name, url, key = self.account
        options = {
            "api_version": API_VERSION,
            "logger": _silent,
            "logging_enable": False,
            "connection_timeout": CONNECT,
            "read_timeout": ANSWER,
            "retry_policy": LinearRetry(backoff=1, retry_total=RETRIES, random_jitter_range=0),
            **self._options,
        }
        with_key = {"account_name": name, "account_key": key}
        return BlobServiceClient(url, credential=with_key if key else self._credential(), **options)

    def sign(self, container: str, name: str, permission: str, ttl: int, **forced: str) -> str:
        """The query of a URL for this one blob, with what the service shall answer with.

        Without a start: by a clock that is ahead of the service's it would come too early. To the second, rounded up.
        Headers are not signed: the service would take that with a delegation key only, and the post looks anyway.
        """
        expiry = datetime.fromtimestamp(math.ceil(self._clock()) + ttl, UTC)
        with_key = (
            {"account_key": self.account.key} if self.account.key else {"user_delegation_key": self._delegated(ttl)}
        )
        return str(
            generate_blob_sas(
                self.account.name,
                container,
                name,
                permission=permission,
                expiry=expiry,
                protocol=self.account.protocol,
                **with_key,
                **forced,
            )
        )

    def _delegated(self, ttl: int) -> Any:
        """A key that outlives what is signed for ``ttl``; the old one serves as long as it can if there is no new one.

        :raises StorageUnavailable: if there is neither.
        """
        key, at = self._key, self._clock()
        if key is not None and self._key_ends - at - ttl >= 1:
            if self._key_ends - at - ttl < KEY_LIFE / 2 and at >= self._renew_at:
                self._renew_at = at + RENEW_PAUSE
                self._renewals.submit(lambda: self._new_key(at, ttl))  # nobody waits for that while the old one serves
            return key
        with self._lock:
            if self._key is None or self._key_ends - at - ttl < 1:
                self._new_key(at, ttl)
            return self._key

    def _new_key(self, at: float, ttl: int) -> Any:
        ends = at + ttl + KEY_LIFE
        with translated():
            key = self.client.get_user_delegation_key(
                datetime.fromtimestamp(int(at) - SKEW, UTC), datetime.fromtimestamp(int(ends), UTC)
            )
        self._key, self._key_ends = key, ends
        return key


@contextmanager
def translated() -> Iterator[None]:
    """
    :raises StorageUnavailable: for what the SDK raises, with its code and status. Its message has the URL in it.
    """
    try:
        yield
    except HttpResponseError as error:
        raise refused(error) from None
    except (AzureError, OSError, *STUMBLES) as error:
        raise StorageUnavailable(type(error).__name__) from None


def refused(error: HttpResponseError) -> StorageUnavailable:
    return StorageUnavailable(code_of(error) or type(error).__name__, error.status_code)


def code_of(error: HttpResponseError) -> str:
    """The service's own word for it, such as ``ContainerNotFound``."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")
