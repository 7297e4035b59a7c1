"""Who may import whom (the house's walls), and that no module outgrows a head."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "nursecare_chat"

# Each room with the rooms that it may look into.
MAY_IMPORT = {
    "errors": set(),
    "config": {"errors"},
    "keys": {"errors"},
    "background": {"fork"},
    "clock": set(),
    "fork": set(),
    "metrics": {"stream"},
    "models": {"errors", "keys"},
    "rates": {"errors", "fork", "keys", "redis_pool"},
    "redis_pool": {"errors"},
    "session_cookie": set(),
    "signals": set(),
    "storage": {"background", "errors"},
    "stream": {"background", "errors", "fork", "redis_pool"},
    "policy": {"errors"},
    "prometheus": {"fork", "metrics"},
    "durable": set(),
    "receipt_key": {"durable", "errors"},
    "testing": {"state"},
    "service": {"clock", "durable", "errors", "fork", "keys", "metrics", "models", "policy", "receipt_key", "signals",
                "storage", "stream"},
    "install_migrations": {"errors", "keys", "models", "migrations"},
    "state": {"clock", "config", "keys", "metrics", "models", "rates", "service", "storage", "stream", "tasks"},
    "widget": set(),
    "api": {"errors", "config", "fork", "keys", "metrics", "service", "state", "storage", "stream", "widget"},
    "tasks": {"background", "redis_pool"},
    "worker": {"tasks"},
    "doctor": {"config", "errors", "install_migrations", "service", "session_cookie", "state", "storage"},
    "cli": {"config", "doctor", "errors", "install_migrations", "service", "state", "worker"},
    "extension": {
        "errors", "background", "clock", "config", "receipt_key",
        "keys", "metrics", "models", "policy", "rates", "service", "session_cookie", "signals", "state",
        "storage", "stream", "api", "tasks", "cli",
    },
}  # fmt: skip
WITH_FLASK = {"api", "cli", "tasks", "state", "extension", "install_migrations", "testing"}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Absolute module names that run at import time; what only the type checker sees does not count."""
    found: set[str] = set()
    package = ["nursecare_chat", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_walls(path: Path) -> None:
    """The layering: lower rooms know nothing of upper ones, and Flask stays in the outer ones."""
    mine = room(path)
    used = {name.split(".")[1] for name in imports(path) if name.startswith("nursecare_chat.")}
    assert used - {mine} <= MAY_IMPORT[mine]
    if mine not in WITH_FLASK:
        flask = {name for name in imports(path) if name.split(".")[0] in ("flask", "flask_login", "werkzeug")}
        assert flask == set()


def test_the_hub_knows_neither_policy_nor_redis() -> None:
    """C30: a second doorbell and a second way of writing fit in without touching it."""
    source = (PACKAGE / "stream" / "hub.py").read_text()
    assert not {name for name in imports(PACKAGE / "stream" / "hub.py") if "sqlalchemy" in name or "redis" in name}
    assert "body" not in {name.split(".")[-1] for name in imports(PACKAGE / "stream" / "hub.py")}
    assert "policy." not in source


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_logs_are_structured(path: Path) -> None:
    """C43: every record carries ``chat``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log."):
            extra = [ast.unparse(word.value) for word in node.keywords if word.arg == "extra"]
            assert extra, ast.unparse(node)
            assert extra[0].startswith("{'chat': True"), ast.unparse(node)
