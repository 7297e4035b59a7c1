"""Every fault one after the other, on both ways in which streams are written, and a table of what became of it.

    script/chaos [--only NAME …] [--path handoff|body] [--quick] [--list]

NAME is part of a fault's. Each is made under load where there is any, must be seen to have happened, and ends with a
count: messages posted, lost and doubled, what an erasure left, what streams left behind. Ends with 1 if anything is
wrong.
"""

from __future__ import annotations

import argparse
import logging
import resource
import signal
import sys
import time
from typing import Any

from tqdm import tqdm

from . import client_faults, clock_faults, disk_faults, postgres_faults, process_faults, redis_faults, storage_faults
from .outcome import FULL, NEITHER, PATHS, QUICK, Fault, Outcome, Size
from .report import conclude, suffer

FAULTS: tuple[Fault, ...] = (
    *redis_faults.FAULTS,
    *postgres_faults.FAULTS,
    *storage_faults.FAULTS,
    *process_faults.FAULTS,
    *client_faults.FAULTS,
    *disk_faults.FAULTS,
    *clock_faults.FAULTS,
)


def parsed() -> Any:
    parser = argparse.ArgumentParser(
        prog="script/chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="a part of a fault's name; several times")
    parser.add_argument("--path", choices=PATHS, help="one way of writing streams; others' faults too")
    parser.add_argument("--quick", action="store_true", help="small: whether it runs")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    options = parser.parse_args()
    options.chosen = [
        (fault, path)
        for fault in FAULTS
        if not options.only or any(name in fault.name for name in options.only)
        for path in fault.paths
        if options.path in (None, path) or path == NEITHER
    ]
    if not options.chosen:
        parser.error("there is no such fault; see --list")
    return options


def run(chosen: list[tuple[Fault, str]], size: Size, outcomes: list[Outcome]) -> None:
    """One after the other; what became of each goes to ``outcomes``."""
    with tqdm(chosen, unit="fault") as bar:
        for fault, path in bar:
            bar.set_description(f"{fault.name}, {path}")
            began = time.monotonic()
            outcomes.append(suffer(fault, path, size))
            said = "survived" if outcomes[-1].survived else "WRONG"
            bar.write(f"{said:9} {fault.name}, {path}: {time.monotonic() - began:.0f} s", file=sys.stderr)
            for wrong in outcomes[-1].wrong:
                bar.write(f"          {wrong}", file=sys.stderr)


def main() -> int:
    options = parsed()
    if options.list:
        print("\n".join(f"{fault.name:32} {path:8} {fault.sees}" for fault, path in options.chosen))
        return 0
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    for number in (signal.SIGTERM, signal.SIGINT):  # whatever stops us, our services are ended
        signal.signal(number, signal.default_int_handler)
    outcomes: list[Outcome] = []
    try:
        run(options.chosen, QUICK if options.quick else FULL, outcomes)
    except KeyboardInterrupt:
        print(f"stopped after {len(outcomes)} of {len(options.chosen)}", file=sys.stderr)
        conclude(outcomes)
        return 130
    return conclude(outcomes)


if __name__ == "__main__":
    sys.exit(main())
