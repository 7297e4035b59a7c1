"""Statements that are built once, for what every request does."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa


class Prepared:
    """A statement that gives at most one row, with ``sa.bindparam`` for what differs.

    :param name: of its own; a connection knows it by this.
    """

    def __init__(self, name: str, clause: Any) -> None:
        self.name = name
        self.clause = clause
        self.columns: list[sa.ColumnElement[Any]] = list(clause.exported_columns)
