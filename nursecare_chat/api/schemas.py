"""What bodies and queries may contain, and what answers do (contract C17 to C28)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from marshmallow import EXCLUDE, INCLUDE, RAISE, Schema, ValidationError, fields, validate, validates_schema

from ..config import IMAGE_TYPES, ChatConfig
from ..errors import ValidationFailed
from ..service.messages import Draft
from .fields import DEFAULT_LIMIT, Bytes, Coordinate, HostId, Limit, QueryId, Time

MESSAGE_TYPES = ("text", "image", "location")
STATUSES = ("open", "closed")
CONTENT_FIELDS = {"text": ("text",), "image": ("mediaPath",), "location": ("lat", "lng")}


# -- what comes in -------------------------------------------------------------------------------------------------


class PostMessageBody(Schema):
    """The body of ``POST …/messages``; which fields a type needs is checked in :func:`draft`."""

    class Meta:
        unknown = RAISE

    type = fields.String(required=True, validate=validate.OneOf(MESSAGE_TYPES))
    text = fields.String(allow_none=True)
    lat = Coordinate(90, allow_none=True)
    lng = Coordinate(180, allow_none=True)
    mediaPath = fields.String(allow_none=True, validate=validate.Length(max=2048))
    clientMessageId = fields.String(
        allow_none=True,
        validate=validate.Regexp(r"\A[\x20-\x7e]{1,64}\Z", error="At most 64 printable ASCII characters."),
    )


class UploadBody(Schema):
    """The body of ``POST …/uploads``; the configured types and size are checked in :func:`upload`."""

    class Meta:
        unknown = RAISE

    contentType = fields.String(required=True, validate=validate.OneOf(IMAGE_TYPES))
    size = Bytes(required=True)


class Query(Schema):
    """Unknown query parameters are ignored (C13)."""

    class Meta:
        unknown = EXCLUDE


class MessagesQuery(Query):
    cursor = QueryId()
    after = QueryId()
    limit = Limit(load_default=DEFAULT_LIMIT)

    @validates_schema
    def one_direction(self, data: dict[str, Any], **kwargs: Any) -> None:
        if "cursor" in data and "after" in data:
            raise ValidationError("Give either cursor or after.", "after")


class ThreadsQuery(Query):
    status = fields.String(validate=validate.OneOf(STATUSES))
    cursor = QueryId()
    limit = Limit(load_default=DEFAULT_LIMIT)


class StreamQuery(Query):
    """Never validated: an id that means nothing is answered on the stream itself (C30)."""

    lastEventId = fields.String()


# -- what goes out -------------------------------------------------------------------------------------------------


class Answer(Schema):
    """Later releases may add keys."""

    class Meta:
        unknown = INCLUDE


class OpenAnswer(Answer):
    threadId = fields.Integer(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))


class Thread(Answer):
    threadId = fields.Integer(required=True)
    requestId = HostId(required=True)
    adminId = HostId(required=True, allow_none=True)
    clientId = HostId(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUSES))
    openedAt = Time(required=True)
    closedAt = Time(required=True, allow_none=True)
    lastSeq = fields.Integer(required=True)


class ThreadsAnswer(Answer):
    threads = fields.List(fields.Nested(Thread), required=True)
    nextCursor = fields.String(required=True, allow_none=True)


class Message(Answer):
    id = fields.Integer(required=True)
    type = fields.String(required=True, validate=validate.OneOf(MESSAGE_TYPES))
    text = fields.String(required=True, allow_none=True)
    lat = fields.Float(required=True, allow_none=True)
    lng = fields.Float(required=True, allow_none=True)
    media_url = fields.String(required=True, allow_none=True)
    sender_id = HostId(required=True)
    created_at = Time(required=True)
    seq = fields.Integer(required=True)
    clientMessageId = fields.String()


class MessagesAnswer(Answer):
    """``nextAfter`` in place of ``nextCursor`` where the query had ``after``."""

    messages = fields.List(fields.Nested(Message), required=True)
    nextCursor = fields.String(allow_none=True)
    nextAfter = fields.String(allow_none=True)


class PostAnswer(Answer):
    id = fields.Integer(required=True)
    seq = fields.Integer(required=True)
    media_url = fields.String()


class UploadAnswer(Answer):
    mediaPath = fields.String(required=True)
    uploadUrl = fields.String(required=True)
    method = fields.String(required=True, validate=validate.Equal("PUT"))
    headers = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    expiresAt = Time(required=True)


class CloseAnswer(Answer):
    status = fields.String(required=True, validate=validate.Equal("closed"))
    closed_at = Time(required=True)


class Receipt(Answer):
    """``listing`` is the final one, so it is empty; ``recoverableUntil`` is a time, ``never`` or ``unknown``."""

    threadId = fields.Integer(required=True)
    requestId = HostId(required=True)
    state = fields.String(
        required=True, validate=validate.OneOf(("pending", "purged", "settled", "stalled", "blocked"))
    )
    closedAt = fields.String(required=True)
    purgedAt = fields.String(required=True, allow_none=True)
    settledAt = fields.String(required=True, allow_none=True)
    attempts = fields.Integer(required=True)
    rowsRedacted = fields.Integer(required=True)
    blobsFound = fields.Integer(required=True)
    blobsDeleted = fields.Integer(required=True)
    listing = fields.List(fields.String(), required=True, allow_none=True)
    recoverableUntil = fields.String(required=True, allow_none=True)
    reason = fields.String(required=True, allow_none=True)
    signature = fields.String(required=True, allow_none=True)


class ReceiptKey(Answer):
    algorithm = fields.String(required=True)
    publicKey = fields.String(required=True)


class Error(Answer):
    code = fields.String(required=True)
    message = fields.String(required=True)
    errors = fields.Dict(keys=fields.String(), values=fields.List(fields.String()), required=True)


# -- reading what comes in -----------------------------------------------------------------------------------------

_POST_MESSAGE, _UPLOAD = PostMessageBody(), UploadBody()


def load(schema: Schema, given: Mapping[str, Any]) -> dict[str, Any]:
    """
    :raises ValidationFailed: with what is wrong, field by field.
    """
    try:
        return dict(schema.load(given))
    except ValidationError as error:
        raise ValidationFailed(errors=_flat(error.messages_dict)) from None


def draft(body: dict[str, Any], max_text: int) -> Draft:
    """A validated message.

    :raises ValidationFailed: with what is wrong, field by field.
    """
    data = load(_POST_MESSAGE, body)
    kind = data["type"]
    errors: dict[str, list[str]] = {}
    for other, names in CONTENT_FIELDS.items():
        for name in names:
            if other == kind and data.get(name) is None:
                errors[name] = [f"Needed for type {kind}."]
            elif other != kind and data.get(name) is not None:
                errors[name] = [f"Not for type {kind}."]
    text = data.get("text")
    if kind == "text" and text is not None:
        if not text.strip():
            errors["text"] = ["Must not be blank."]
        elif len(text) > max_text:
            errors["text"] = [f"At most {max_text} characters."]
    if errors:
        raise ValidationFailed(errors=errors)
    return Draft(
        type=kind,
        text=text,
        latitude=_degrees(data.get("lat")),
        longitude=_degrees(data.get("lng")),
        media_path=data.get("mediaPath"),
        client_message_id=data.get("clientMessageId"),
    )


def upload(body: dict[str, Any], config: ChatConfig) -> dict[str, Any]:
    """A validated wish to upload: ``contentType`` and ``size`` in bytes.

    :raises ValidationFailed: with what is wrong, field by field.
    """
    data = load(_UPLOAD, body)
    errors: dict[str, list[str]] = {}
    if data["contentType"] not in config.allowed_image_mime:
        errors["contentType"] = [f"Must be one of: {', '.join(config.allowed_image_mime)}."]
    if data["size"] > config.max_image_bytes:
        errors["size"] = [f"At most {config.max_image_bytes} bytes."]
    if errors:
        raise ValidationFailed(errors=errors)
    return data


def _degrees(value: Decimal | None) -> float | None:
    return None if value is None else float(value) + 0.0  # no -0.0


def _flat(messages: dict[str, Any]) -> dict[str, list[str]]:
    return {
        str(field): [str(text) for text in (texts if isinstance(texts, list) else [texts])]
        for field, texts in messages.items()
    }
