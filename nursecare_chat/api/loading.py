"""Strict reading of JSON bodies (contract C13, RFC 8259)."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

from ..errors import ValidationFailed


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
