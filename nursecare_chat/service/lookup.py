"""Finding rows by their keys: one that came as text, or many at once (contract C2, C13, C34)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from ..keys import as_uuid


def find(session: Session, model: Any, key: Any) -> Any:
    """The object of ``model`` with this key, or ``None``: also for a key that its column's type cannot hold or read.

    :param session: one of ours; what it has read before may be gone afterwards.
    """
    for candidate in (key, *as_uuid(key)):
        try:
            return session.get(model, candidate)
        except sa.exc.DataError:  # PostgreSQL's word for what is out of the column's range, or not written like it
            session.rollback()
        except sa.exc.DBAPIError:
            raise
        except sa.exc.StatementError:  # a key type of the host's own that cannot read this
            continue
    return None


def among(column: sa.ColumnElement[Any], keys: Collection[Any], dialect: str) -> sa.ColumnElement[bool]:
    """Whether ``column`` is one of ``keys``, of which there may be as many as a statement can carry.

    On PostgreSQL numbers go as one array: a thousand parameters cost more than the rows that they find.
    """
    if dialect == "postgresql" and isinstance(column.type, sa.Integer):
        return column == sa.any_(sa.literal(list(keys), ARRAY(column.type)))
    return column.in_(keys)
