"""The rows that say what was erased."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from .hosts import Workbench
from .servers import Process
from .wait import eventually


def receipts(bench: Workbench) -> dict[int, Any]:
    """By thread."""
    with bench.state.database.read() as connection:
        return {row.thread_id: row for row in connection.execute(sa.select(bench.state.models.purges))}


def wait_settled(bench: Workbench, threads: Iterable[int], *said_by: Process) -> None:
    def settled() -> bool:
        found = receipts(bench)
        return all(found[thread].state == "settled" for thread in threads)

    eventually(settled, *said_by, seconds=60)
