"""The receipt of an erasure, signed once nothing can come back (contract C40)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Row

from ..errors import NotClosed
from ..keys import wire
from ..models import ChatModels
from ..receipt_key import ReceiptKey
from .unit_of_work import Database
from .wire import utc

STATES = {"verified_empty": "purged", "settled": "settled", "stalled": "stalled", "blocked": "blocked"}
"""What a purge's state is called in its receipt; every other one is ``pending``."""


class Receipts:
    def __init__(self, database: Database, models: ChatModels, key: ReceiptKey) -> None:
        self._database = database
        self._purges = models.purges
        self._key = key

    def get(self, thread_id: int) -> dict[str, Any]:
        """The receipt as it stands.

        :raises NotClosed: if the thread is open, or there never was one.
        """
        query = self._purges.select().where(self._purges.c.thread_id == thread_id)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotClosed()
        return {**content(row), "signature": row.signature}

    def prepare(self) -> None:
        """Have the key at hand before a transaction needs it.

        :raises ConfigurationError: if there is none and none can be made.
        """
        self._key.public_pem()

    def sign(self, row: Row[Any]) -> str:
        """The signature of a settled purge's receipt, in base64."""
        return base64.b64encode(self._key.sign(canonical(content(row)))).decode()

    def public_pem(self) -> str:
        """What a receipt is checked with."""
        return self._key.public_pem()

    def is_genuine(self, receipt: Mapping[str, Any]) -> bool:
        """Whether our key signed it, word for word."""
        return verify(receipt, self._key.public())


def content(row: Row[Any]) -> dict[str, Any]:
    """Everything but the signature; ids, times, counts and codes."""
    return {
        "threadId": row.thread_id,
        "requestId": wire(row.request_id),
        "state": STATES.get(row.state, "pending"),
        "closedAt": utc(row.closed_at),
        "purgedAt": utc(row.purged_at),
        "settledAt": utc(row.settled_at),
        "attempts": row.attempts,
        "rowsRedacted": row.rows_redacted,
        "blobsFound": row.blobs_found,
        "blobsDeleted": row.blobs_deleted,
        "listing": None if row.purged_at is None or row.last_error is not None else [],
        "recoverableUntil": row.recoverable_until,
        "reason": row.last_error or row.reason,
    }


def canonical(receipt: Mapping[str, Any]) -> bytes:
    """What is signed: the receipt without its signature, as JSON with sorted keys and no spaces, in UTF-8."""
    unsigned = {key: value for key, value in receipt.items() if key != "signature"}
    return json.dumps(unsigned, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def verify(receipt: Mapping[str, Any], public: Ed25519PublicKey) -> bool:
    """Whether ``receipt`` is a settled one, word for word as it was signed (RFC 8032)."""
    try:
        signature = base64.b64decode(str(receipt.get("signature")), validate=True)
        public.verify(signature, canonical(receipt))
    except (InvalidSignature, ValueError):
        return False
    return receipt.get("state") == "settled"
