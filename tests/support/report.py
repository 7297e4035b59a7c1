"""How much tests tried: figures that are left by the processes that run them, and shown at the end of the run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from .servers import ROOT

FOLDER = ROOT / "test-artifacts" / "attack"


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
