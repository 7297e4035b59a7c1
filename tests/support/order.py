"""The order in which files are run: a long one that starts last keeps one process busy while the others are done."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
LONGEST = (
    "acceptance/test_browser",
    "integration/test_purge",
    "integration/test_servers",
    "integration/test_queue",
    "integration/test_migrations",
    "integration/test_redis",
    "integration/test_races",
    "acceptance/",
    "integration/test_stream_hygiene",
    "integration/test_stream",
    "integration/test_growth",
    "integration/test_openapi",
    "integration/test_guest",
    "integration/test_doctor",
    "integration/test_postgresql",
)
"""How the names of those that go first begin, the longest first; the quick ones fill up the end."""


def longest_first(items: list[pytest.Item]) -> None:
    """Sorts in place; a file's own tests stay in their order."""
    items.sort(key=lambda item: _rank(item.path.relative_to(TESTS).as_posix()))


def _rank(file: str) -> int:
    return next((rank for rank, start in enumerate(LONGEST) if file.startswith(start)), len(LONGEST))
