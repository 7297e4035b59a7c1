"""The host's primary keys: integer, bigint, UUID or string (contract C2)."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Uuid
from sqlalchemy.types import TypeEngine

from .errors import ConfigurationError

MAX_BIGINT = 2**63 - 1
_DIGITS = re.compile(r"[0-9]{1,19}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def parse_integer(text: str) -> int | None:
    """ASCII digits up to 2⁶³ - 1, else ``None``: ``int()`` alone would take ``1_0`` and ``١٢`` (C13)."""
    if not _DIGITS.fullmatch(text):
        return None
    number = int(text)
    return number if number <= MAX_BIGINT else None


@dataclass(frozen=True)
class HostKey:
    """The single-column primary key of one of the host's tables."""

    column: Column[Any]

    @classmethod
    def of(cls, model: type, argument: str) -> HostKey:
        """
        :raises ConfigurationError: if ``model`` is no mapped class with a primary key of one column.
        """
        table = getattr(model, "__table__", None)
        if table is None:
            raise ConfigurationError(
                f"chat.init_app: {argument}={model!r} is not a model; pass the mapped class, e.g. {argument}=User."
            )
        columns = list(table.primary_key.columns)
        if len(columns) != 1:
            raise ConfigurationError(
                f"chat.init_app: {argument}={model.__name__} has {len(columns)} primary key columns; one is needed."
            )
        return cls(columns[0])

    @property
    def type(self) -> TypeEngine[Any]:
        return self.column.type

    @property
    def target(self) -> str:
        """``table.column`` as a foreign key names it."""
        return f"{self.column.table.fullname}.{self.column.name}"

    @property
    def python_type(self) -> type:
        try:
            return self.type.python_type
        except NotImplementedError:  # SQLAlchemy's answer for a type that does not say; then it is text to us
            return str

    def parse(self, text: str) -> Any | None:
        """The key that ``text`` from a path names, or ``None`` if no key is written like this."""
        if issubclass(self.python_type, int):
            return parse_integer(text)
        if isinstance(self.type, Uuid) or issubclass(self.python_type, uuid.UUID):
            key = uuid.UUID(text) if _UUID.fullmatch(text) else None
            return str(key) if key and issubclass(self.python_type, str) else key
        if not text or len(text) > 255 or "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
            return None
        return text


def as_uuid(key: Any) -> list[uuid.UUID]:
    """The UUID that a text spells: a host's own column type may take nothing else, and not say so."""
    return [uuid.UUID(key)] if isinstance(key, str) and _UUID.fullmatch(key) else []


def wire(key: Any) -> int | str | None:
    """A key as JSON has it: integers as numbers, others as strings (C2)."""
    return key if key is None or isinstance(key, int) else str(key)
