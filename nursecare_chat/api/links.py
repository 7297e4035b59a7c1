"""What may be asked next, and where its ids are found: the OpenAPI document's links (contract C28)."""

from __future__ import annotations

from typing import Any

Link = dict[str, Any]

ASKED = "$request.path.threadId"
ASKED_ADDRESS = {"token": "$request.path.token"}  # nosec B105 # where one is found
LAST_PART = "#regex:/([^/]+)$"
"""After a runtime expression: what stands behind the last slash. An address's token is no value of its own in an
answer, and OpenAPI has no words for a part of one; this form is Schemathesis's."""

IN_THREAD = (
    "show_thread",
    "list_messages",
    "post_message",
    "issue_upload",
    "close_thread",
    "stream_thread",
    "show_receipt",
)
"""What is asked of a thread by its id."""


def _link(operation: str, description: str = "", body: Any = None, **parameters: str) -> Link:
    link: Link = {"operationId": operation, "parameters": parameters}
    if description:
        link["description"] = description
    if body is not None:
        link["requestBody"] = body
    return link


def _thread(expression: str) -> dict[str, Link]:
    return {name: _link(name, threadId=expression) for name in IN_THREAD}


def _resume(after: str) -> Link:
    return _link("stream_thread", "What comes after that one.", threadId=ASKED, lastEventId=after)


def _media(url: str) -> Link:
    note = "The last part of the address; only if it is one of this application."
    return _link("get_media", note, token=url + LAST_PART)


LINKS: dict[str, dict[str, Link]] = {
    "open_thread": {
        **_thread("$response.body#/threadId"),
        "open_again": _link("open_thread", requestId="$request.path.requestId"),
        "list_threads": _link("list_threads", status="$response.body#/status"),
        "stream_inbox": _link("stream_inbox"),
    },
    "list_threads": {
        **_thread("$response.body#/threads/0/threadId"),
        "open_thread": _link("open_thread", requestId="$response.body#/threads/0/requestId"),
        "next_page": _link("list_threads", cursor="$response.body#/nextCursor"),
        "stream_inbox": _link("stream_inbox"),
    },
    "show_thread": {
        **_thread(ASKED),
        "open_thread": _link("open_thread", requestId="$response.body#/requestId"),
        "resume": _resume("$response.body#/lastSeq"),
    },
    "list_messages": {
        **_thread(ASKED),
        "next_page": _link("list_messages", threadId=ASKED, cursor="$response.body#/nextCursor"),
        "newer": _link("list_messages", threadId=ASKED, after="$response.body#/nextAfter"),
        "resume": _resume("$response.body#/messages/0/seq"),
        "get_media": _media("$response.body#/messages/0/media_url"),
    },
    "post_message": {
        **_thread(ASKED),
        "again": _link(
            "post_message", "With a `clientMessageId` a retry, which is safe.", "$request.body", threadId=ASKED
        ),
        "newer": _link("list_messages", threadId=ASKED, after="$response.body#/seq"),
        "resume": _resume("$response.body#/seq"),
        "get_media": _media("$response.body#/media_url"),
    },
    "issue_upload": {
        **_thread(ASKED),
        "put_media": _link(
            "put_media",
            "The last part of the address, with the answer's `headers`; only if it is one of this application.",
            token="$response.body#/uploadUrl" + LAST_PART,
        ),
        "post_image": _link(
            "post_message",
            "As soon as the photo is uploaded.",
            {"type": "image", "mediaPath": "{$response.body#/mediaPath}"},
            threadId=ASKED,
        ),
    },
    "put_media": {"put_again": _link("put_media", "Refused: `409`.", **ASKED_ADDRESS)},
    "get_media": {"get_again": _link("get_media", **ASKED_ADDRESS)},
    "close_thread": _thread(ASKED),
    "stream_thread": _thread(ASKED),
    "stream_inbox": {"list_threads": _link("list_threads")},
    "show_receipt": {
        **_thread(ASKED),
        "open_thread": _link("open_thread", requestId="$response.body#/requestId"),
        "show_receipt_key": _link("show_receipt_key", "Checks the signature."),
    },
}
"""By operation, of its success: by a name, what may follow."""
