"""The order in which files are run: a long one that starts last keeps one process busy while the others are done."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
LONGEST = (
    "integration/test_growth",
    "integration/test_inbox_stream",
    "integration/test_stream",
    "acceptance/test_packaging",
    "integration/test_purge",
    "acceptance/test_client_library",
    "integration/test_messages",
    "integration/test_servers",
    "integration/test_inbox_hygiene",
    "integration/test_migrations",
    "integration/test_queue",
    "acceptance/",
    "integration/test_races",
    "integration/test_redis",
    "integration/test_guest",
    "integration/test_photos",
    "integration/test_isolation",
    "integration/test_openapi",
    "integration/test_install",
    "integration/test_gates",
    "integration/test_doctor",
    "integration/test_postgresql",
    "integration/test_azure",
    "integration/test_chaos",
    "integration/test_faulty_storage",
    "integration/test_canaries",
)
"""How the names of those that go first begin, the longest first; the quick ones fill up the end."""


def longest_first(items: list[pytest.Item]) -> None:
    """Sorts in place; a file's own tests stay in their order."""
    items.sort(key=lambda item: _rank(item.path.relative_to(TESTS).as_posix()))


def _rank(file: str) -> int:
    return next((rank for rank, start in enumerate(LONGEST) if file.startswith(start)), len(LONGEST))
