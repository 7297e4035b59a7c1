"""The shipped migration steps. ``flask chat install-migrations`` writes a thin revision for each of them into
the host's own Alembic history (contract C6).

A step is a module in ``versions`` with ``upgrade(op, host)`` and ``downgrade(op, host)``. A step that was
released is never edited; a later release appends one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

STEPS = ("0001_chat_tables",)


class Key(NamedTuple):
    """One primary key of the host's, as it stood when the thin revision was written."""

    table: str
    column: str
    type: Any

    @property
    def target(self) -> str:
        return f"{self.table}.{self.column}"


class Host(NamedTuple):
    """What the chat's tables refer to. ``schema`` is where they are put: the host metadata's own, or ``None``."""

    users: Key
    requests: Key
    schema: str | None = None

    def own(self, table: str) -> str:
        """The full name of a chat table."""
        return f"{self.schema}.{table}" if self.schema else table
