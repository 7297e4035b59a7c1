"""A chat's receipt, and the key to check it with (contract C40)."""

from __future__ import annotations

import logging

from flask import Response

from ..errors import ConfigurationError, Unavailable
from ..state import current
from . import gates, schemas
from .describe import describe
from .responses import answer

log = logging.getLogger(__name__)


@describe(
    "Read the receipt of a chat's erasure",
    answer=schemas.Receipt,
    errors=(403, 404),
    note="`404` `not_closed` before the close. Only a settled one is signed, see `/api/chat/receipt-key`.",
)
def show_receipt(thread_id: str) -> Response:
    return answer(current().receipts.get(gates.thread(thread_id, "view").id))


@describe(
    "Read the key that receipts are checked with",
    answer=schemas.ReceiptKey,
    note="Ed25519 (RFC 8032), over the receipt without `signature` as JSON in UTF-8 with sorted keys and no spaces;"
    " the signature is in base64.",
)
def show_receipt_key() -> Response:
    try:
        key = current().receipts.public_pem()
    except ConfigurationError as error:
        log.error("chat receipts: %s", error.message, extra={"chat": True})
        raise Unavailable() from None
    return answer({"algorithm": "Ed25519", "publicKey": key})
