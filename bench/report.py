"""Medians, ratios and pictures of what ``script/bench compare`` measured.

python -m bench.report test-artifacts/bench.json docs
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from .servers import CONTENDERS

TIE = 0.2
"""Of the smaller value: what differs by less is called a tie."""

MARK = "<!-- measured -->\n"
"""In a page: what is behind it is written by :func:`write`."""

Turn = dict[str, Any]


def rows(sizes: dict[str, Any]) -> list[tuple[str, Callable[[Turn], float | None], bool]]:
    """What is shown, where it is in a turn, and whether more is better."""
    most = str(sizes["crowds"][-1])
    return [
        (f"memory per stream at {most}, KB", lambda turn: turn["KB per stream"][most], False),
        (f"processor at rest, {most} streams, % of a core", lambda turn: turn["idle CPU %"]["server"], False),
        (f"streams reopened after a restart, {sizes['reopened']}, per s", lambda turn: turn["opens/s"], True),
        (f"p50 at 100 messages/s, {sizes['busy']} streams, ms", lambda turn: at(turn, 100, "p50"), False),
        (f"p99 at 100 messages/s, {sizes['busy']} streams, ms", lambda turn: at(turn, 100, "p99"), False),
        ("most messages/s, p99 < 250 ms, none lost", lambda turn: turn["most messages/s"], True),
        ("server's processor time per message, ms", lambda turn: at(turn, 100, "CPU ms per message"), False),
        ("Redis connections that receive", lambda turn: turn["Redis connections"][1], False),
    ]


def at(turn: Turn, rate: float, what: str) -> float | None:
    """In the window of that rate, if it came to that."""
    return next((window[what] for window in turn["windows"] if window["rate"] == rate), None)


def median(turns: list[Turn], value: Callable[[Turn], float | None]) -> float | None:
    """Of the rounds, of two their mean; ``None`` if there is none in half of them or more."""
    found = [value(turn) for turn in turns]
    known = [float("inf") if one is None else one for one in found]
    middle = statistics.median(known) if known else float("inf")
    return None if middle == float("inf") else round(middle, 2)


def cell(turns: list[Turn], value: Callable[[Turn], float | None]) -> str:
    """The median, and from where to where the rounds went."""
    middle, known = median(turns, value), [one for one in map(value, turns) if one is not None]
    if middle is None:
        return "–"
    spread = f" ({min(known):,g}–{max(known):,g})" if min(known) < max(known) else ""
    return f"{middle:,g}{spread}"


def table(results: dict[str, Any]) -> str:
    """Markdown; the ratio is ours to the best peer's, however small the better is."""
    turns = by_contender(results)
    lines = [
        f"| | {' | '.join(CONTENDERS[name].title for name in turns)} | ours to the best peer |",
        f"|---|{'---:|' * len(turns)}---|",
    ]
    for title, value, more in rows(results["sizes"]):
        medians = {name: median(of, value) for name, of in turns.items()}
        cells = " | ".join(cell(of, value) for of in turns.values())
        lines.append(f"| {title} | {cells} | {verdict(medians, more)} |")
    return "\n".join(lines)


def verdict(medians: dict[str, float | None], more: bool) -> str:
    peers = [one for name, one in medians.items() if CONTENDERS[name].is_peer and one is not None]
    mine = medians.get("ours")
    if not peers or not mine:
        return "–"
    best = max(peers) if more else min(peers)
    if not best:
        return "–"
    times = mine / best if more else best / mine
    if 1 / (1 + TIE) < times < 1 + TIE:
        return "a tie"
    return f"{times:.1f} times better" if times > 1 else f"{1 / times:.1f} times worse"


def by_contender(results: dict[str, Any]) -> dict[str, list[Turn]]:
    turns: dict[str, list[Turn]] = {}
    for turn in results["turns"]:
        turns.setdefault(turn["contender"], []).append(turn)
    return turns


def pictures(results: dict[str, Any], folder: Path) -> None:
    """Latency over rate, memory over streams; the medians."""
    mpl.use("agg")
    turns = by_contender(results)
    shape: Any = {"figsize": (8, 4.5), "layout": "constrained"}
    figure, axes = plt.subplots(**shape)
    for name, of in turns.items():
        rates = sorted({window["rate"] for turn in of for window in turn["windows"]})
        known = [
            (rate, median([t for t in of if at(t, rate, "posts")], lambda t, r=rate: at(t, r, "p99"))) for rate in rates
        ]
        shown = [(rate, p99) for rate, p99 in known if p99 is not None]
        axes.plot(*zip(*shown, strict=True), marker="o", label=CONTENDERS[name].title)
    axes.axhline(250, color="grey", linestyle=":")
    axes.set(yscale="log", xlabel="messages a second", ylabel="p99 of the delivery, ms", ylim=(1, 10_000))
    axes.set_title(f"From when a message is due to when it is there; {results['sizes']['busy']:,} streams, one core")
    axes.legend(loc="lower right")
    figure.savefig(folder / "bench-latency.png", dpi=110)
    plt.close(figure)

    figure, axes = plt.subplots(**shape)
    for name, of in turns.items():
        crowds = results["sizes"]["crowds"]
        kilobytes = [median(of, lambda t, c=count: t["KB per stream"][str(c)]) or 0 for count in crowds]
        megabytes = [each * count / 1024 for each, count in zip(kilobytes, crowds, strict=True)]
        axes.plot([0, *crowds], [0, *megabytes], marker="o", label=CONTENDERS[name].title)
    axes.set(xlabel="idle streams", ylabel="MB above the empty process")
    axes.set_title("Memory for streams")
    axes.legend()
    figure.savefig(folder / "bench-memory.png", dpi=110)
    plt.close(figure)


def write(results: dict[str, Any], folder: Path) -> str:
    """The pictures, and the table behind the mark in ``bench.md``, in ``folder``; the table."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures(results, folder)
    shown, page = table(results), folder / "bench.md"
    rounds = max(turn["round"] for turn in results["turns"]) + 1
    windows = f"{rounds} rounds, windows of {results['sizes']['window']:g} s"
    shots = "![Latency over rate](bench-latency.png)\n\n![Memory over streams](bench-memory.png)"
    said = page.read_text(encoding="utf-8").split(MARK)[0] if page.exists() else ""
    page.write_text(
        f"{said}{MARK}\n## Figures\n\n{results['machine']}; {windows}.\n\n{shown}\n\n{shots}\n", encoding="utf-8"
    )
    return shown


if __name__ == "__main__":
    print(write(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])))
