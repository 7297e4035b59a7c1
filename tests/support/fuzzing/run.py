"""Rounds one after the other on one kind of database, by turns on both hosts: integer keys, and UUIDs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ..databases import Databases
from .round import Round, Stop
from .tally import Tally

APPLICATIONS = ("reference", "foreign")
ROUND = 2500
"""Requests; then everything is new, so that a failure comes again within so many."""

ENOUGH = 2000
"""Requests after which every operation must have succeeded once."""


def host(database: str, seed: int) -> str:
    """Which one a round is on."""
    application = APPLICATIONS[seed % len(APPLICATIONS)]
    return application if database == "sqlite" else f"{application}-{database}"


def fuzz(
    database: str,
    seed: int,
    requests: int,
    progress: Callable[[], None] = lambda: None,
    databases: Databases | None = None,
) -> tuple[Tally, set[str]]:
    """What came of so many requests, and the ids of all operations.

    :param seed: of the first round; the next one has the next.
    :param progress: called after each request; may raise :class:`Stop`.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        if databases is not None:
            return _rounds(database, seed, requests, progress, databases, folder)
        with closing(Databases(folder)) as own:
            return _rounds(database, seed, requests, progress, own, folder)


def _rounds(
    database: str, seed: int, requests: int, progress: Callable[[], None], databases: Databases, folder: Path
) -> tuple[Tally, set[str]]:
    tally, operations, stopped = Tally(), set(), False

    def watched() -> None:
        nonlocal stopped
        try:
            progress()
        except Stop:
            stopped = True
            raise

    while tally.requests < requests and not stopped:
        size = min(ROUND, requests - tally.requests)
        place = folder / str(seed)
        place.mkdir()
        one = Round(host(database, seed), databases, place, seed, size, watched)
        tally.add(one.run())
        operations |= one.operations
        seed += 1
    return tally, operations
