"""Where to upload a photo (contract C24)."""

from __future__ import annotations

from flask import Response

from ..service import wire
from ..state import current
from . import gates, schemas
from .describe import describe
from .responses import answer


@describe(
    "Get an address to upload a photo to",
    body=schemas.UploadBody,
    answer=schemas.UploadAnswer,
    errors=(403, 404, 415, 422, 429),
)
def issue_upload(thread_id: str) -> Response:
    row = gates.thread(thread_id, "post")
    gates.require_open(row)
    chat = current()
    wanted = schemas.upload(gates.json_body(), chat.config)
    issued = chat.uploads.issue(row.id, chat.access.user_id(gates.user()), wanted["contentType"], wanted["size"])
    return answer(
        {
            "mediaPath": issued.media_path,
            "uploadUrl": wire.mounted(issued.put.url, gates.mount()),
            "method": issued.put.method,
            "headers": issued.put.headers,
            "expiresAt": wire.utc(issued.expires_at),
        }
    )
