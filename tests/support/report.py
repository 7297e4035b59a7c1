"""How much tests tried: figures that are left by the processes that run them, and shown at the end of the run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path

from .servers import ROOT

ATTACK = ROOT / "test-artifacts" / "attack"
"""Where ``script/attack`` has its figures, apart from those of quick runs."""

VARIABLE = "TEST_FIGURES"
"""Names the folder in the environment."""

FOLDER = Path(os.environ.get(VARIABLE) or ROOT / "test-artifacts" / "figures")


def note(title: str, test: str, number: int) -> None:
    """Leave ``number`` under ``title``; several tests' are added up, a test that runs again replaces its own."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(f"{title}|{test}".encode()).hexdigest()[:16]
    (FOLDER / f"{name}.json").write_text(json.dumps({"title": title, "test": test, "number": number}))


def noted(folder: Path = FOLDER, since: float = 0.0) -> dict[str, int]:
    """What all tests left, by title; ``since`` in seconds since 1970."""
    found: dict[str, int] = {}
    for path in sorted(folder.glob("*.json")):
        if path.stat().st_mtime >= since:
            one = json.loads(path.read_text())
            found[one["title"]] = found.get(one["title"], 0) + one["number"]
    return found


def forget(titles: Collection[str], folder: Path = FOLDER) -> None:
    """Before these are found out again, so that a run that fails leaves nobody's older figures."""
    for path in folder.glob("*.json"):
        if json.loads(path.read_text())["title"] in titles:
            path.unlink()
