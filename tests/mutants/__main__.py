"""Puts one chosen bug in at a time, in a copy of the tree, and runs the tests that should notice. The checkout is left
as it is. Ends with 1 if a bug survived, with 2 if the list or the tree is not fit for a verdict.
"""

from __future__ import annotations

import argparse
import queue
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from ..support.report import note
from . import ROOT, Mutant, Witness, load
from .run import FAILED, HUNG, PASSED, Copy, Ran

T, R = TypeVar("T"), TypeVar("R")
WHO = "python -m tests.mutants"
SERVER = "gunicorn"


class Verdict(NamedTuple):
    mutant: Mutant
    ran: Ran

    @property
    def is_killed(self) -> bool:
        return self.ran.status == FAILED or (self.ran.status == HUNG and self.mutant.hangs)

    @property
    def is_none(self) -> bool:
        """Neither killed nor survived: no test was run, or it was none that could be collected."""
        return self.ran.status not in (PASSED, FAILED, HUNG)

    @property
    def said(self) -> str:
        if self.is_none:
            return f"**no verdict: pytest ended with {self.ran.status}**"
        if self.ran.status == HUNG:
            return "it did not end, as foreseen" if self.mutant.hangs else "**did not end**"
        return f"`{self.ran.noticed_by}`" if self.is_killed else "**survived**"


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/mutants", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help="this one, or all whose name begins with it")
    parser.add_argument("--list", action="store_true", help="run nothing: show the list")
    parser.add_argument("--jobs", type=int, default=2, help="at once, each in a copy of its own (default: 2)")
    parser.add_argument("--timeout", type=float, default=180, help="seconds for the tests of one (default: 180)")
    options = parser.parse_args()
    mutants = load()
    if options.only:
        mutants = [mutant for mutant in mutants if mutant.name.startswith(tuple(options.only))]
    if not mutants:
        parser.error("there is no mutant of that name")
    if options.list:
        for mutant in mutants:
            print(f"{mutant.guarded:14} {mutant.name:40} {mutant.file}")
        return 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for number in range(options.jobs):
            copies.put(Copy(Path(folder, str(number))))
        try:
            if not _are_sound(mutants, copies, options):
                return 2
            verdicts = _tried(mutants, copies, options)
        finally:
            while not copies.empty():
                copies.get().close()
    _print(verdicts)
    killed = sum(verdict.is_killed for verdict in verdicts)
    print(f"\n{killed} of {len(verdicts)} mutants killed.")
    if not options.only:
        note("mutants killed", WHO, killed)
        note("mutants made", WHO, len(verdicts))
    return 2 if any(verdict.is_none for verdict in verdicts) else int(killed < len(verdicts))


def _are_sound(mutants: Iterable[Mutant], copies: queue.SimpleQueue[Copy], options: argparse.Namespace) -> bool:
    """Whether their tests pass where there is no bug; without that nothing that they say afterwards counts."""
    by_file: dict[str, list[Witness]] = defaultdict(list)
    for test in dict.fromkeys(test for mutant in mutants for test in mutant.tests):
        by_file[test.file].append(test)

    def look(tests: list[Witness], copy: Copy) -> Ran:
        return copy.run(tests, options.timeout * 5, stop=False)

    ran = _each(list(by_file.values()), look, copies, options.jobs, "without a bug")
    bad = [one for one in ran if one.status != PASSED]
    for one in bad:
        print(one.output, file=sys.stderr)
    if bad:
        print("The tests do not pass as the tree is, so they say nothing about bugs in it.", file=sys.stderr)
    programs = {program for one in ran for program in one.programs}
    print(f"{len(programs)} programs imported the product, all of them the copy's;", end=" ")
    print(f"{sum(SERVER in program for program in programs)} of them were {SERVER}'s.")
    return not bad


def _tried(mutants: list[Mutant], copies: queue.SimpleQueue[Copy], options: argparse.Namespace) -> list[Verdict]:
    def attempt(mutant: Mutant, copy: Copy) -> Verdict:
        with copy.with_bug(mutant):
            verdict = Verdict(mutant, copy.run(mutant.tests, options.timeout))
        if not verdict.is_killed:
            tqdm.write(f"{mutant.name}: {verdict.said}\n{verdict.ran.output[-2000:] if verdict.is_none else ''}")
        return verdict

    verdicts = _each(mutants, attempt, copies, options.jobs, "mutants")
    places = {mutant.name: place for place, mutant in enumerate(mutants)}
    return sorted(verdicts, key=lambda verdict: (verdict.is_killed, places[verdict.mutant.name]))


def _each(
    items: list[T], work: Callable[[T, Copy], R], copies: queue.SimpleQueue[Copy], jobs: int, what: str
) -> list[R]:
    """``work`` done to each, in any order, with a copy that nobody else has meanwhile."""

    def with_copy(item: T) -> R:
        copy = copies.get()
        try:
            return work(item, copy)
        finally:
            copies.put(copy)

    with ThreadPoolExecutor(jobs) as pool:
        ahead = [pool.submit(with_copy, item) for item in items]
        try:
            done = tqdm(as_completed(ahead), total=len(ahead), desc=what, dynamic_ncols=True)
            return [future.result() for future in done]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _print(verdicts: list[Verdict]) -> None:
    """As Markdown, what survived first."""
    print(f"\nIn {ROOT.name}:\n\n| clause | bug | killed by | seconds |\n|---|---|---|---:|")
    for verdict in verdicts:
        print(f"| {verdict.mutant.guarded} | {verdict.mutant.name} | {verdict.said} | {verdict.ran.seconds:.1f} |")


if __name__ == "__main__":
    sys.exit(main())
