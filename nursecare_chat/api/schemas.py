"""What a body may contain (contract C21, C23)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from ..errors import ValidationFailed
from ..service.messages import Draft

MESSAGE_TYPES = ("text", "image", "location")
CONTENT_FIELDS = {"text": ("text",), "image": ("mediaPath",), "location": ("lat", "lng")}


class Coordinate(fields.Field[Decimal]):
    """Degrees within ±``bound``: a JSON number, or ``-?\\d{1,3}(\\.\\d+)?`` in ASCII; rounded to 7 places."""

    def __init__(self, bound: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bound = bound

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Decimal:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,3}(\.[0-9]+)?", value):
            value = Decimal(value)
        if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
            raise ValidationError("Not a valid coordinate.")
        if not -self.bound <= value <= self.bound:
            raise ValidationError(f"Must be between -{self.bound} and {self.bound}.")
        return Decimal(value).quantize(Decimal("1e-7"), ROUND_HALF_UP)


class PostMessageSchema(Schema):
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


_POST_MESSAGE = PostMessageSchema()


def draft(body: dict[str, Any], max_text: int) -> Draft:
    """A validated message.

    :raises ValidationFailed: with what is wrong, field by field.
    """
    try:
        data = _POST_MESSAGE.load(body)
    except ValidationError as error:
        raise ValidationFailed(errors=_flat(error.messages_dict)) from None
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


def _degrees(value: Decimal | None) -> float | None:
    return None if value is None else float(value) + 0.0  # no -0.0


def _flat(messages: dict[str, Any]) -> dict[str, list[str]]:
    return {
        str(field): [str(text) for text in (texts if isinstance(texts, list) else [texts])]
        for field, texts in messages.items()
    }
