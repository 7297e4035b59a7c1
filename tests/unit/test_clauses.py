"""The map of the tests is true."""

from __future__ import annotations

from .. import clauses

PROMISED = {*range(1, 47)}


def test_every_promised_clause_is_named_by_a_test() -> None:
    """Those that this release keeps."""
    assert set(clauses.covered()) >= PROMISED


def test_the_map_is_up_to_date() -> None:
    """Run `python -m tests.clauses` otherwise."""
    assert clauses.README.read_text(encoding="utf-8").endswith(clauses.MARK + clauses.table())
