"""The rows that were used last, so that not each request reads them again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from sqlalchemy import Row

KEPT = 1000
"""Rows; each is about a kilobyte."""


class Recent:
    """Rows by their ``id``. What is here may have changed: whoever goes by it lets the database prove it.

    Each step is one of a dictionary's own, so threads need no lock.
    """

    def __init__(self) -> None:
        self._rows: OrderedDict[int, Row[Any]] = OrderedDict()

    def get(self, id: int) -> Row[Any] | None:
        return self._rows.get(id)

    def keep(self, row: Row[Any]) -> None:
        """As the latest; of too many the one goes that was not kept again for longest."""
        self.drop(row.id)
        self._rows[row.id] = row
        if len(self._rows) > KEPT:
            self._rows.popitem(last=False)

    def drop(self, id: int) -> None:
        self._rows.pop(id, None)
