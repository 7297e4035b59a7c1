"""The table of all attacks: what is missing or too much does not pass for well done."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from .. import attack
from ..support import report

GOOD = {figure: max(row.least, 0) for row in attack.TABLE for figure in row.figures}


def test_each_attack_is_there() -> None:
    """Every row belongs to an attack, and every attack has a row and something that runs it."""
    assert {row.attack for row in attack.TABLE} == set(attack.ATTACKS)
    for module, *files in attack.ATTACKS.values():
        assert importlib.util.find_spec(module)
        assert all(Path(file).exists() for file in files if file.endswith(".py"))


def test_what_holds() -> None:
    assert all(row.holds(GOOD) for row in attack.TABLE)


@pytest.mark.parametrize("title", GOOD)
def test_what_was_not_run_does_not_hold(title: str) -> None:
    without = {figure: number for figure, number in GOOD.items() if figure != title}
    assert not all(row.holds(without) for row in attack.TABLE)


@pytest.mark.parametrize(("title", "number"), [("lost", 1), ("left", 1), ("mutants killed", 19), ("answers of 5xx", 1)])
def test_one_too_many_or_too_few(title: str, number: int) -> None:
    assert not all(row.holds(GOOD | {title: number}) for row in attack.TABLE)


def test_figures_of_an_older_run_are_forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    for test in ("one", "two"):
        report.note("lost", test, 1)
    report.note("left", "one", 5)
    assert report.noted(tmp_path) == {"lost": 2, "left": 5}
    report.forget(["lost"], tmp_path)
    assert report.noted(tmp_path) == {"left": 5}
