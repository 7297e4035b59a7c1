"""What became of the faults: one after the other, in one table, and as figures."""

from __future__ import annotations

import traceback

from tests.support.report import note

from .outcome import NEITHER, Fault, Outcome, Size

COLUMNS = ("posted", "lost", "doubled", "left", "leaked")


def suffer(fault: Fault, path: str, size: Size) -> Outcome:
    outcome = Outcome(fault.name, path, fault.sees)
    try:
        fault.inject(outcome, size)
    except Exception as error:  # the others are tried all the same
        words = "".join(traceback.format_exception(error))
        outcome.wrong.append(f"{type(error).__name__}: {words[-3000:]}")
    return outcome


def shown(value: float | None) -> str:
    if value is None:
        return NEITHER
    return f"{value:.1f}" if isinstance(value, float) else f"{value:,}"


def table(outcomes: list[Outcome]) -> str:
    """In Markdown."""
    heads = ("fault", "path", "what one sees", *COLUMNS, "longest delay (s)")
    lines = [heads, ("---", "---", "---", *["---:"] * (len(COLUMNS) + 1))]
    for one in outcomes:
        sees = one.sees if one.survived else f"**wrong**, not: {one.sees}"
        figures = [shown(getattr(one, column)) for column in COLUMNS]
        lines.append((one.fault, one.path, sees, *figures, shown(one.longest)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def leave_figures(outcomes: list[Outcome]) -> None:
    def total(column: str) -> int:
        return sum(getattr(one, column) or 0 for one in outcomes)

    note("faults survived", "chaos", sum(one.survived for one in outcomes))
    note("faults tried", "chaos", len(outcomes))
    titles = {"posted": "messages posted under faults", "doubled": "duplicated"}
    for column in COLUMNS:
        note(titles.get(column, column), "chaos", total(column))


def conclude(outcomes: list[Outcome]) -> int:
    """Leave the figures, print the table; the exit status."""
    leave_figures(outcomes)
    survived = sum(one.survived for one in outcomes)
    print(f"\n{table(outcomes)}\n\n{survived} of {len(outcomes)} faults survived")
    return int(survived < len(outcomes))
