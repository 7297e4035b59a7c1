"""Fields as strict as the contract wants them (C13, C19, C21, C24)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from marshmallow import ValidationError, fields

from ..keys import MAX_BIGINT, parse_integer

MAX_LIMIT = 50
DEFAULT_LIMIT = 20
COORDINATE = r"-?[0-9]{1,3}(\.[0-9]+)?"
WITHIN = {
    90: r"-?(0?[0-8]?[0-9](\.[0-9]+)?|0?90(\.0+)?)",
    180: r"-?((0?[0-9]?[0-9]|1[0-7][0-9])(\.[0-9]+)?|180(\.0+)?)",
}
"""Of :data:`COORDINATE` what is within a bound, for the document."""


class QueryId(fields.Field[int]):
    """An id or a ``seq`` in a query: ASCII digits of a 64-bit number."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        number = parse_integer(value)
        if number is None:
            raise ValidationError("Not a valid id.")
        return number


class Limit(fields.Field[int]):
    """How many items a page has: a number of at least 1, over 50 gives 50 (C19)."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        digits = value.lstrip("0")
        if not digits or not re.fullmatch("[0-9]+", value):
            raise ValidationError("Must be a number of at least 1.")
        return MAX_LIMIT if len(digits) > 2 else min(int(digits), MAX_LIMIT)


class Bytes(fields.Field[int]):
    """A size: a JSON number that is a whole one, 1.0 too, and at least 1; what is too big is said by the caller."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        number = not isinstance(value, bool) and isinstance(value, (int, Decimal))
        if not number or not 1 <= value <= MAX_BIGINT or value != int(value):
            raise ValidationError("Must be a whole number of at least 1.")
        return int(value)


class Coordinate(fields.Field[Decimal]):
    """Degrees within ±``bound``: a JSON number, or :data:`COORDINATE`; rounded to 7 places (C21)."""

    def __init__(self, bound: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bound = bound

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Decimal:
        if isinstance(value, str) and re.fullmatch(COORDINATE, value):
            value = Decimal(value)
        if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
            raise ValidationError("Not a valid coordinate.")
        if not -self.bound <= value <= self.bound:
            raise ValidationError(f"Must be between -{self.bound} and {self.bound}.")
        return Decimal(value).quantize(Decimal("1e-7"), ROUND_HALF_UP)


class HostId(fields.Field[Any]):
    """A key of the host's: a number if it is an integer, else a string (C2)."""


class Time(fields.String):
    """UTC, ``2025-01-20T10:30:00Z`` (C15)."""
