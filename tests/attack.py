"""Every attack one after the other, and their figures in one table; see ``script/attack --help``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from typing import NamedTuple

from .support.report import ATTACK, VARIABLE, forget, noted
from .support.servers import ROOT

ATTACKS = {
    "isolation": ("pytest", "tests/integration/test_isolation.py", "tests/integration/test_abuse.py"),
    "fuzz": ("tests.fuzz", "--requests", "50000"),
    "model": ("tests.support.model_run", "--steps", "50000"),
    "faults": ("bench.chaos",),
    "mutants": ("tests.mutants",),
}
"""A module and its arguments; each leaves figures, by :func:`tests.support.report.note`."""


class Row(NamedTuple):
    """One line of the table.

    :ivar figures: the titles under which its numbers were left, for a line with more than one in this order.
    :ivar least: what each of them must reach.
    :ivar most: what none may exceed.
    :ivar equal: whether they must all be the same.
    """

    attack: str
    shown: str
    figures: tuple[str, ...]
    least: int = 0
    most: float = float("inf")
    equal: bool = False

    def value(self, found: dict[str, int]) -> str:
        return " of ".join(f"{found[figure]:,}" if figure in found else "not run" for figure in self.figures)

    def holds(self, found: dict[str, int]) -> bool:
        numbers = [found.get(figure, -1) for figure in self.figures]
        return all(self.least <= number <= self.most for number in numbers) and (
            not self.equal or len(set(numbers)) == 1
        )


TABLE = (
    Row("isolation", "cells of the isolation matrix", ("cells of the isolation matrix",), least=2000),
    Row("fuzz", "requests made from the OpenAPI document, SQLite", ("requests fuzzed, sqlite",), least=50_000),
    Row("fuzz", "requests made from it, PostgreSQL", ("requests fuzzed, postgresql",), least=50_000),
    Row("fuzz", "answers of 5xx", ("answers of 5xx",), most=0),
    Row("fuzz", "answers that the document does not have", ("answers against the schema",), most=0),
    Row("model", "steps that agree with the model", ("steps of the model",), least=50_000),
    Row("faults", "faults survived", ("faults survived", "faults tried"), least=1, equal=True),
    Row("faults", "messages posted meanwhile", ("messages posted under faults",), least=1),
    Row("faults", "messages lost", ("lost",), most=0),
    Row("faults", "messages delivered twice", ("duplicated",), most=0),
    Row("faults", "rows and blobs left after a purge", ("left",), most=0),
    Row("faults", "streams, threads and connections leaked", ("leaked",), most=0),
    Row("mutants", "mutants killed", ("mutants killed", "mutants made"), least=20, equal=True),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/attack", description=__doc__)
    parser.add_argument("--only", action="append", choices=ATTACKS, help="this attack; may be given several times")
    parser.add_argument("--table", action="store_true", help="run nothing: show the figures of the last runs")
    options = parser.parse_args()
    chosen = [] if options.table else options.only or [*ATTACKS]
    ended = {name: _run(name) for name in chosen}
    found = noted(ATTACK)
    shown = [row for row in TABLE if options.table or row.attack in chosen]
    _print(shown, found)
    for name in (name for name, status in ended.items() if status):
        print(f"\nscript/attack --only {name} ended with {ended[name]}: what it says above is wrong.")
    return int(any(ended.values()) or not all(row.holds(found) for row in shown))


def _run(name: str) -> int:
    module, *arguments = ATTACKS[name]
    print(f"\n== {name}", flush=True)
    forget([figure for row in TABLE if row.attack == name for figure in row.figures], ATTACK)
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, env={**os.environ, VARIABLE: str(ATTACK)}, check=False
    ).returncode


def _print(rows: list[Row], found: dict[str, int]) -> None:
    """As Markdown, which the README shows."""
    width = max(len(row.shown) for row in rows)
    print(f"\n| {'':{width}} | {'figure':>18} |\n|-{'-' * width}-|-{'-' * 18}:|")
    for row in rows:
        print(f"| {row.shown:{width}} | {row.value(found):>18} |{'' if row.holds(found) else ' ←'}")


if __name__ == "__main__":
    sys.exit(main())
