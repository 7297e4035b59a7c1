"""Strict reading of bodies, path ids and query parameters (contract C13, RFC 8259)."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

from ..errors import ValidationFailed
from ..keys import parse_integer

MAX_LIMIT = 50
DEFAULT_LIMIT = 20


class _Refused(ValueError):
    pass


def parse_json(body: bytes) -> dict[str, Any]:
    """One JSON object; fractions as ``Decimal``.

    :raises ValidationFailed: for malformed or over-deep JSON, duplicate keys, NaN and infinities, NUL characters,
        lone surrogates, and whatever is no object.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=Decimal,
        )
        _check_strings(value)
    except _Refused as refused:
        raise _malformed(str(refused)) from None
    except (ValueError, ArithmeticError, RecursionError):
        raise _malformed("This is not valid JSON.") from None
    if not isinstance(value, dict):
        raise _malformed("The body must be a JSON object.")
    return value


def _malformed(why: str) -> ValidationFailed:
    return ValidationFailed("The body cannot be read.", errors={"_schema": [why]})


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _Refused("A key stands twice in one object.")
    return result


def _constant(name: str) -> Any:
    raise _Refused("NaN and infinities are no JSON.")


def _check_strings(value: Any) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise _Refused("NUL characters are not accepted.")
        if re.search("[\ud800-\udfff]", value):
            raise _Refused("Lone surrogates are not accepted.")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_strings(key)
            _check_strings(item)
    elif isinstance(value, list):
        for item in value:
            _check_strings(item)


def integer(name: str, text: str | None) -> int | None:
    """A query parameter that is an id or a ``seq``.

    :raises ValidationFailed: if it is not ASCII digits, or no 64-bit number.
    """
    if text is None:
        return None
    number = parse_integer(text)
    if number is None:
        raise ValidationFailed(errors={name: ["Not a valid id."]})
    return number


def limit(text: str | None) -> int:
    """How many items a page has: default 20, over 50 gives 50 (C19).

    :raises ValidationFailed: if it is below 1 or not a number.
    """
    if text is None:
        return DEFAULT_LIMIT
    if not re.fullmatch("[0-9]+", text) or not text.strip("0"):
        raise ValidationFailed(errors={"limit": ["Must be a number of at least 1."]})
    digits = text.lstrip("0")
    return MAX_LIMIT if len(digits) > 2 else min(int(digits), MAX_LIMIT)
