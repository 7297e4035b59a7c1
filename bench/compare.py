"""Ours beside the same chat written the usual way: memory, processor time, opens, latency, the most messages a second.

    script/bench compare [--rounds 3] [--window 32] [--only ours --only fastapi] [--quick]
    script/bench compare --only ours --rounds 1 --crowds 2000 --reopened 2000 --rates 100,200 --window 8

Each contender has one core for itself; the load, PostgreSQL and Redis have the rest. All take their turn in each round,
on the same rows. What was measured goes to ``--out`` as JSON after each turn; from there come the table and the
pictures of ``docs/bench.md``, which says how each figure is made.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import platform
import resource
import signal
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from . import report
from .load import IN_FLIGHT, Crowd, Figures
from .servers import CONTENDERS, Contender, Running
from .stage import SAID, Stage, pin

LIMIT = 250.0
"""Milliseconds: a rate is carried if 99 of 100 deliveries are below, and none is missing."""

STEPS = 2
"""How often the distance between the last rate that was carried and the first that was not is halved."""

TRIES = 5
"""For a stream to open."""

CALM = 3.0
"""Seconds between two measurements."""


@dataclass(frozen=True)
class Sizes:
    """Streams, messages a second, seconds. ``settle``: until memory is read, more than a heartbeat."""

    crowds: tuple[int, ...] = (2000, 5000, 9900)
    reopened: int = 5000
    busy: int = 2000
    rates: tuple[int, ...] = (50, 100, 200, 300, 400, 600, 800, 1000, 1200)
    window: float = 32
    settle: float = 18

    @property
    def steps(self) -> int:
        return len(self.crowds) + 2 + len(self.rates) + STEPS


QUICK = Sizes(crowds=(100, 200), reopened=200, busy=100, rates=(50, 100), window=3, settle=2)


class Turn:
    """One contender in one round."""

    def __init__(self, contender: Contender, stage: Stage, core: int, sizes: Sizes, bar: Any) -> None:
        self._contender, self._stage, self._sizes, self._bar = contender, stage, sizes, bar
        self._core = core
        self._left = sizes.steps
        self._found: dict[str, Any] = {"contender": contender.name}

    def run(self) -> dict[str, Any]:
        self._stage.refill()
        self._server = Running(self._contender, self._stage, self._core)
        self._crowd = self._server.crowd()
        try:
            self._idle()
            self._reopen()
            self._talk()
        finally:
            self._crowd.close()
            self._server.end()
            self._bar.update(self._left)
        return self._found

    def _step(self, doing: str) -> None:
        self._bar.set_postfix_str(f"{self._contender.name}: {doing}")

    def _done(self) -> None:
        self._left -= 1
        self._bar.update()

    def _open(self, count: int, resume: int | None = None) -> float:
        """Seconds until all are there. Who is sent away comes again at once, and is counted.

        :raises AssertionError: if that does not help.
        """
        crowd: Crowd = self._crowd
        seats, took = self._stage.seats(self._contender.sessions, count), 0.0
        for _ in range(TRIES):
            missing = [seat for seat in seats if seat not in crowd.streams]
            if not missing:
                return took
            took += crowd.open(missing, resume)
        raise AssertionError(f"{self._contender.name}: {len(crowd.streams)} of {count} streams: {crowd.errors}")

    def _idle(self) -> None:
        """Memory as streams come, and what they cost when nothing happens."""
        server, crowd, sizes = self._server, self._crowd, self._sizes
        # What is made at the first use, and what opening so many at once leaves behind, is no stream's.
        self._open(min(IN_FLIGHT, sizes.crowds[0] // 10))
        crowd.poller.run(sizes.settle)
        crowd.close()
        crowd.poller.run(CALM)
        before, memory, megabytes = server.memory(), {}, {}
        for count in sizes.crowds:
            self._step(f"{count} streams")
            self._open(count)
            crowd.poller.run(sizes.settle)
            now = server.memory()
            megabytes[str(count)] = round(now / 2**20, 1)
            memory[str(count)] = round((now - before) / count / 1024, 2)
            self._done()
        self._step("at rest")
        spent = server.spent()
        crowd.poller.run(sizes.window)
        self._found |= {
            "process MB": {"0": round(before / 2**20, 1), **megabytes},
            "KB per stream": memory,
            "idle CPU %": server.spent().since(spent),
            "Redis connections": server.redis_connections(),
        }
        self._done()

    def _reopen(self) -> None:
        """Everybody comes back to a server that was killed, and says where they were."""
        self._step("restart")
        self._crowd.close()
        self._server.restart()
        count = self._sizes.reopened
        self._found["opens/s"] = round(count / self._open(count, resume=SAID), 1)
        self._done()

    def _talk(self) -> None:
        """Rising rates, up to one that is not carried; then closer to it."""
        seats = self._stage.seats(self._contender.sessions, self._sizes.busy)
        self._crowd.keep(set(seats))
        self._open(self._sizes.busy)
        self._crowd.poller.run(CALM)
        windows = self._found["windows"] = []
        carried, refused = 0.0, None
        for rate in self._sizes.rates:
            windows.append(self._window(rate))
            self._done()
            if not is_carried(windows[-1]):
                refused = float(rate)
                break
            carried = float(rate)
        for _ in range(STEPS if refused else 0):
            rate = round((carried + refused) / 2)
            windows.append(self._window(rate))
            self._done()
            if is_carried(windows[-1]):
                carried = float(rate)
            else:
                refused = float(rate)
        self._found["most messages/s"] = carried
        self._found["streams' errors"] = dict(self._crowd.errors)

    def _window(self, rate: float) -> dict[str, Any]:
        self._step(f"{rate:g} messages a second")
        before = self._server.spent()
        figures: Figures = self._crowd.window(rate, self._sizes.window)
        after = self._server.spent()
        self._crowd.poller.run(CALM)
        gc.collect()
        each = round((after.server - before.server) / max(1, figures.posts) * 1000, 2)
        return asdict(figures) | {"CPU ms per message": each, "CPU %": after.since(before)}


def is_carried(window: dict[str, Any]) -> bool:
    """Everything was accepted and delivered once, in order and in time."""
    fine = set(window["answers"]) <= {"200", "201", "202"}
    whole = not (window["lost"] or window["duplicates"] or window["disordered"] or window["gave_up"])
    return fine and whole and window["p99"] is not None and window["p99"] < LIMIT


def machine() -> str:
    """What it was measured on."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return (
        f"{names[0] if names else platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def main() -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # with everything that was started
    parser = argparse.ArgumentParser(prog="script/bench compare", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--window", type=float, help="seconds; more than two heartbeats")
    parser.add_argument("--only", action="append", choices=CONTENDERS)
    parser.add_argument("--quick", action="store_true", help="one round of a few seconds: whether it runs")
    for name, what in (("crowds", "streams at rest, each more than the last"), ("rates", "messages a second, rising")):
        parser.add_argument(f"--{name}", type=_numbers, metavar="N,N", help=what)
    parser.add_argument("--reopened", type=int, help="streams that come back after a restart")
    parser.add_argument("--out", type=Path, default=Path("test-artifacts/bench.json"))
    parser.add_argument("--docs", type=Path, help="where to put bench.md and the pictures; default: beside --out")
    options = parser.parse_args()
    sizes = QUICK if options.quick else Sizes()
    given = {name: getattr(options, name) for name in ("window", "crowds", "rates", "reopened")}
    sizes = replace(sizes, **{name: value for name, value in given.items() if value is not None})
    rounds = options.rounds or (1 if options.quick else 3)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    chosen = [CONTENDERS[name] for name in options.only or CONTENDERS]
    for contender in chosen[:]:
        if why := contender.missing():
            print(f"{contender.title} is left out: {why}.", file=sys.stderr)
            chosen.remove(contender)

    results: dict[str, Any] = {"machine": machine(), "sizes": asdict(sizes), "turns": [], "failed": []}
    core = pin()
    gc.disable()  # a collection in the load would be taken for a delay of the server's
    stage = Stage(max(*sizes.crowds, sizes.reopened, sizes.busy) // 2)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tqdm(total=rounds * len(chosen) * sizes.steps, unit="step", dynamic_ncols=True) as bar:
            for number in range(rounds):
                for contender in chosen:
                    try:
                        turn = Turn(contender, stage, core, sizes, bar).run()
                    except AssertionError as error:  # two hours are not lost for it
                        results["failed"].append(f"round {number}, {contender.name}: {error}")
                    else:
                        results["turns"].append({"round": number} | turn)
                    options.out.write_text(json.dumps(results, indent=1))
    finally:
        stage.close()
    for failure in results["failed"]:
        print(failure, file=sys.stderr)
    if not results["turns"]:
        sys.exit(1)
    print(report.write(results, options.docs or options.out.parent))


if __name__ == "__main__":
    main()
