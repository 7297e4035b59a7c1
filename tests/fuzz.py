"""Requests that are made from the OpenAPI document, on SQLite and on PostgreSQL at the same time.

    script/fuzz [--requests 5000] [--minutes 30] [--database sqlite|postgresql] [--seed 1]

Every operation alone, with sound and with unsound input, and along the document's links: chats that are opened, filled,
read and closed, with real photos, by people who are really logged in. Ends with 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import secrets
import sys
import time
import traceback
from typing import Any

from .support.fuzzing.round import Stop
from .support.fuzzing.run import ENOUGH, fuzz
from .support.fuzzing.tally import Tally
from .support.report import note

DATABASES = ("sqlite", "postgresql")
APART = 10_000
"""Between the seeds of the two."""

PROGRESS = 50
"""Requests between two messages to the process that shows them."""

NO_END = 10**9
Result = tuple[Tally, set[str], float, float]
"""What came of it, the ids of all operations, seconds, and seconds of processor time."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="script/fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--requests", type=int, help="for each database; 5000 if neither this nor --minutes is given")
    parser.add_argument("--minutes", type=float, help="for both, at the same time")
    parser.add_argument("--database", choices=DATABASES, help="this one alone")
    parser.add_argument("--seed", type=int, help="of the first database's first round, to see a failure again")
    options = parser.parse_args()
    chosen = [options.database] if options.database else [*DATABASES]
    start = options.seed if options.seed is not None else secrets.randbelow(APART)
    requests = options.requests or (NO_END if options.minutes else 5000)
    seeds = {database: start + APART * number for number, database in enumerate(chosen)}
    for database, seed in seeds.items():
        print(f"{database}: --database {database} --seed {seed}", flush=True)
    results = _run(seeds, requests, options.minutes)
    for database, result in results.items():
        _print(database, *result)
    bad = [database for database in chosen if database not in results or not _sound(*results[database])]
    tallies = [tally for tally, *_ in results.values()]
    note("answers of 5xx", "tests.fuzz", sum(tally.server_errors for tally in tallies))
    note("answers against the schema", "tests.fuzz", sum(tally.wrong for tally in tallies))
    for database, (tally, *_) in results.items():
        note(f"requests fuzzed, {database}", "tests.fuzz", tally.requests)
    print("\nWrong: " + ", ".join(bad) if bad else "\nNothing was wrong.")
    return int(bool(bad))


def _run(seeds: dict[str, int], requests: int, minutes: float | None) -> dict[str, Result]:
    """Each in a process of its own, with a bar."""
    from tqdm import tqdm  # in the extra `bench`

    context = multiprocessing.get_context("spawn")
    news: Any = context.Queue()
    processes = {
        database: context.Process(target=_work, args=(news, database, seed, requests, minutes))
        for database, seed in seeds.items()
    }
    total = requests if requests < NO_END else None
    bars = {database: tqdm(total=total, desc=database, unit=" requests", mininterval=5) for database in processes}
    for process in processes.values():
        process.start()
    results: dict[str, Result] = {}
    waiting = set(processes)
    while waiting:
        kind, database, said = news.get()
        if kind == "progress":
            bars[database].update(said)
            continue
        waiting.discard(database)
        if kind == "result":
            results[database] = said
        else:
            print(f"{database}: {said}", file=sys.stderr)
    for bar in bars.values():
        bar.close()
    for process in processes.values():
        process.join()
    return results


def _work(news: Any, database: str, seed: int, requests: int, minutes: float | None) -> None:
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    count = 0

    def progress() -> None:
        nonlocal count
        count += 1
        if count % PROGRESS == 0:
            news.put(("progress", database, PROGRESS))
        if minutes is not None and time.monotonic() - began > minutes * 60:
            raise Stop

    try:
        tally, operations = fuzz(database, seed, requests, progress)
        news.put(("result", database, (tally, operations, time.monotonic() - began, time.process_time())))
    except BaseException:  # pytest's own for a database that is missing is none of Exception
        news.put(("failed", database, traceback.format_exc()))
        raise


def _sound(tally: Tally, operations: set[str], *times: float) -> bool:
    return not tally.failures and not (tally.requests >= ENOUGH and tally.never_reached(operations))


def _print(database: str, tally: Tally, operations: set[str], seconds: float, busy: float) -> None:
    print(f"\n== {database}: {tally.requests:,} requests in {seconds:.0f} s, {busy:.0f} s of processor time")
    print(tally.table())
    print(f"{len(tally.followed)} links led to a success, {tally.followed.total():,} times")
    if missing := tally.never_reached(operations):
        print("never answered with a success: " + ", ".join(missing))
    for failure in tally.failures.values():
        print(f"\n-- {failure.operation}, {failure.status}: {failure.check}, {failure.times} times, on {failure.host}")
        print(f"{failure.message}\n{failure.request}")
        print(f"script/fuzz --database {database} --seed {failure.seed} --requests {failure.requests}")


if __name__ == "__main__":
    sys.exit(main())
