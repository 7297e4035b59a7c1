"""The local storage's own signed addresses (contract C11, C24): who has one may use it, whoever they are."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import BinaryIO

from flask import Response, request

from ..config import IMAGE_TYPES
from ..errors import BadRequest, BodyTooLarge, ChatError, NotFound, UnsupportedMediaType
from ..state import current
from ..storage.local import LocalStorage
from .describe import describe

CHUNK = 64 * 1024
PATH = "/api/chat/media"

HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    # Whatever somebody gets past the checks of C25: here it runs nothing and loads nothing.
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Content-Disposition": "inline",
    "Referrer-Policy": "no-referrer",
}


@describe(
    "Upload a photo",
    note="At the `uploadUrl` that was given for it: once, until it expires, of the size and type that were declared.",
    takes=IMAGE_TYPES,
    gives=(),
    status=201,
    errors=(400, 403, 404, 409, 413, 415),
    signed=True,
)
def put_media(token: str) -> Response:
    storage = _storage()
    grant = storage.verify("put", token)
    if (request.content_length or 0) > grant.size:
        raise BodyTooLarge(f"More than the {grant.size} bytes that were declared.")
    if request.mimetype != grant.content_type:
        raise UnsupportedMediaType(f"Send the body as {grant.content_type}.")
    storage.receive(grant, _body(grant.size))
    return Response(status=201, headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})


@describe(
    "Read a photo",
    note="At the `media_url` that was given for it, until it expires.",
    gives=IMAGE_TYPES,
    errors=(403, 404),
    signed=True,
)
def get_media(token: str) -> Response:
    storage = _storage()
    grant = storage.verify("get", token)
    file = storage.open_granted(grant)
    if file is None:
        raise NotFound()
    size = os.fstat(file.fileno()).st_size
    if request.method == "HEAD":
        file.close()
        return Response(mimetype=grant.content_type, headers={**HEADERS, "Content-Length": str(size)})
    response = Response(_pieces(file), mimetype=grant.content_type, headers={**HEADERS, "Content-Length": str(size)})
    response.call_on_close(file.close)
    return response


def _storage() -> LocalStorage:
    storage = current().storage
    if not isinstance(storage, LocalStorage):
        raise NotFound()
    return storage


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(CHUNK):
            yield piece


def _body(size: int) -> Iterator[bytes]:
    """The body, a piece at a time; of a chunked one no more than shows that it is too long."""
    request.max_content_length = size + 1
    taken = 0
    try:
        # A host that looks at every body has left it here.
        source = io.BytesIO(request.get_data()) if hasattr(request, "_cached_data") else request.stream
        while chunk := source.read(CHUNK):
            taken += len(chunk)
            yield chunk
        if request.content_length is not None and taken < request.content_length:
            raise BadRequest()  # gunicorn says nothing of a body that breaks off
    except ChatError:
        raise
    except Exception:  # each server has errors of its own for a body that breaks off or is wrongly chunked
        raise BadRequest() from None
