"""Pages of a table that grows for ever, each at the cost of the page (contract C19, C27)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Table

from ..keys import MAX_BIGINT


def newest(table: Table, where: dict[str, Any], cursor: int | None, count: int, dialect: str) -> sa.Select[Any]:
    """The ``count`` rows with the greatest ``id`` below ``cursor`` whose columns are as ``where`` has them.

    ``where`` names the columns of an index that goes on with ``id``, in its order. Asked for equality and ``ORDER BY
    id``, PostgreSQL walks down the primary key wherever it takes many rows to match, and does not know that they may
    all be old. So there rows are compared with rows and ordered by the whole index, and that index alone fits. SQLite
    has no such idea, and would not see the ``id`` in a row.
    """
    columns = [table.c[name] for name in where]
    below = MAX_BIGINT if cursor is None else cursor
    if dialect != "postgresql" or None in where.values():  # NULL has no place in an order, nor is it an equality
        here = [column == value for column, value in zip(columns, where.values(), strict=True)]
        here.append(table.c.id < below)
    else:
        values = [sa.literal(value, table.c[name].type) for name, value in where.items()]
        here = [
            sa.tuple_(*columns, table.c.id) < sa.tuple_(*values, sa.literal(below, table.c.id.type)),
            sa.tuple_(*columns) >= sa.tuple_(*values),
        ]
    order = (column.desc() for column in (*columns, table.c.id))
    return sa.select(table).where(*here).order_by(*order).limit(count)
