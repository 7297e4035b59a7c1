"""Stories for as long as it takes: ``python -m tests.support.model_run --steps 50000 [--database sqlite] [--seed 7]``.

A process for each database. A step is one that the product took and that the model agrees with.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing as mp
import queue
import random
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from . import lazy_routes
from .databases import Databases
from .hosts import HOSTS, Workbench
from .report import forget, note
from .story import Story
from .world import World

DATABASES = {"sqlite": "reference", "postgresql": "foreign-postgresql"}
TITLE = "steps of the model"
STORY = 50
"""Steps in a story."""

BATCH = 20
"""Stories with one seed."""


def tell(world: World, stories: int, seed: int | None = None, *, varied: bool = False) -> None:
    """
    :param seed: without one they are always the same.
    :raises AssertionError: where the product does not do what the model says, after the shortest story was printed.
    """

    def begin() -> Story:
        return Story(world, varied)

    begin._hypothesis_internal_use_seed = seed  # type: ignore[attr-defined]  # what hypothesis.seed() sets on a class
    run_state_machine_as_test(
        begin,
        settings=settings(
            max_examples=stories,
            stateful_step_count=STORY,
            deadline=None,
            database=None,
            derandomize=seed is None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@contextmanager
def world_on(database: str) -> Iterator[World]:
    with tempfile.TemporaryDirectory() as name:
        databases = Databases(Path(name))
        try:
            bench = Workbench(HOSTS[DATABASES[database]], Path(name), databases, {}, processes=2)
            world = World(bench)
            try:
                yield world
            finally:
                world.close()
                bench.close()
        finally:
            databases.close()


def run(database: str, steps: int, seed: int, told: Any) -> None:
    """In a process of its own; puts ``(database, steps so far, what went wrong)`` into ``told``."""
    lazy_routes.use()
    logging.disable(logging.CRITICAL)
    printed = StringIO()
    with world_on(database) as world:
        world.stepped = lambda: told.put((database, 1, ""))
        number = seed
        try:
            with redirect_stdout(printed):
                while world.steps < steps:
                    stories = min(BATCH, 1 + (steps - world.steps) // STORY)
                    tell(world, stories, number, varied=number % 4 == 3)
                    number += 1
        except BaseException as error:
            told.put((database, 0, f"{printed.getvalue()}{''.join(traceback.format_exception(error))}seed {number}"))
            raise SystemExit(1) from None


def main() -> int:
    from tqdm import tqdm  # the suite, which tells stories too, is installed without it

    parser = argparse.ArgumentParser(prog="python -m tests.support.model_run", description=__doc__)
    parser.add_argument("--steps", type=int, default=50_000, help="of all databases together")
    parser.add_argument("--database", choices=DATABASES, help="this one alone")
    parser.add_argument("--seed", type=int, help="where to begin; else anywhere")
    options = parser.parse_args()
    databases = [options.database] if options.database else [*DATABASES]
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    each = -(-options.steps // len(databases))
    print(f"{each:,} steps on each of {', '.join(databases)}, from seed {seed} on", flush=True)
    forget([TITLE])
    context = mp.get_context("spawn")
    told = context.Queue()
    workers = [context.Process(target=run, args=(name, each, seed, told), daemon=True) for name in databases]
    for worker in workers:
        worker.start()
    done, wrong = dict.fromkeys(databases, 0), []
    with tqdm(total=each * len(databases), unit="step", smoothing=0, mininterval=1) as bar:
        while any(worker.is_alive() for worker in workers) or not told.empty():
            try:
                name, count, error = told.get(timeout=0.5)
            except queue.Empty:
                continue
            done[name] += count
            bar.update(count)
            wrong += [f"== {name}\n{error}"] if error else []
    for worker in workers:
        worker.join()
    for name, count in done.items():
        note(TITLE, f"model_run {name}", count)
        print(f"{name}: {count:,} steps agree with the model")
    print("\n".join(wrong))
    return int(bool(wrong) or any(worker.exitcode for worker in workers))


if __name__ == "__main__":
    sys.exit(main())
