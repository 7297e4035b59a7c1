"""Which tests name which clause of the contract. ``python -m tests.clauses`` rewrites the table in README.md."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
README = HERE / "README.md"
MARK = "<!-- clauses -->\n"


def covered() -> dict[int, dict[str, int]]:
    """``{clause: {test file: how many tests name it}}``, from the tests' docstrings."""
    found: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for path in sorted(HERE.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for clause in set(re.findall(r"\bC(\d+)\b", ast.get_docstring(node) or "")):
                    found[int(clause)][str(path.relative_to(HERE))] += 1
    return found


def table() -> str:
    rows = ["| clause | tests |", "|---|---|"]
    for clause, files in sorted(covered().items()):
        rows.append(f"| C{clause} | " + ", ".join(f"{name} ({count})" for name, count in files.items()) + " |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    README.write_text(README.read_text(encoding="utf-8").split(MARK)[0] + MARK + table(), encoding="utf-8")
