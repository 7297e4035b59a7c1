"""Finding the host's own rows by a key that came as text (contract C2, C13)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
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
