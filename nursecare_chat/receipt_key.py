"""The Ed25519 key that receipts are signed with (contract C5, C40; RFC 8032)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from .durable import put
from .errors import ConfigurationError

FILE = "chat-receipt-key.pem"
ACCEPTED = "an Ed25519 private key as PEM text, or file:///path of one (`openssl genpkey -algorithm ed25519`)"


class ReceiptKey:
    """
    :param setting: ``CHAT_RECEIPT_KEY``; empty for one in the instance folder, made when it is first needed.
    :raises ConfigurationError: if what is set is no such key.
    """

    def __init__(self, setting: str, instance_path: Callable[[], str]) -> None:
        self._instance_path = instance_path
        self._making = threading.Lock()
        self._key = _configured(setting) if setting.strip() else None

    def sign(self, data: bytes) -> bytes:
        return self._private().sign(data)

    def public_pem(self) -> str:
        """
        :raises ConfigurationError: if there is no key and none can be made.
        """
        return self.public().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def public(self) -> Ed25519PublicKey:
        """
        :raises ConfigurationError: as :meth:`public_pem`.
        """
        return self._private().public_key()

    def _private(self) -> Ed25519PrivateKey:
        with self._making:
            if self._key is None:
                self._key = _parsed(self._read_or_make(), f"the key in {FILE} of the instance folder")
            return self._key

    def _read_or_make(self) -> bytes:
        """Of several processes that make it at once one does."""
        place = Path(self._instance_path(), FILE)
        with suppress(FileNotFoundError):
            return place.read_bytes()
        made = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            put(place, made)
            return place.read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"No key to sign receipts with can be made in the instance folder ({type(error).__name__});"
                f" set CHAT_RECEIPT_KEY to {ACCEPTED}."
            ) from None


def _configured(setting: str) -> Ed25519PrivateKey:
    text = setting.strip()
    if not text.startswith("file://"):
        # In one line, as environments have it.
        return _parsed(text.replace("\\n", "\n").encode(), "CHAT_RECEIPT_KEY")
    try:
        data = Path(unquote(urlsplit(text).path)).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"CHAT_RECEIPT_KEY names a file that cannot be read ({type(error).__name__}); accepted: {ACCEPTED}."
        ) from None
    return _parsed(data, "the file of CHAT_RECEIPT_KEY")


def _parsed(pem: bytes, what: str) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{what} is no such key (its value is not shown); accepted: {ACCEPTED}.")
    return key
