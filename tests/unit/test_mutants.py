"""The list of chosen bugs: none has rotted, and each clause that guards something has one."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..mutants import CLAUSES, HERE, ROOT, Witness, load

MUTANTS = load()
GUARD = HERE / "guard"


def functions(path: Path) -> set[str]:
    """The tests of a file, those in classes too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_each_can_be_put_in() -> None:
    """Its old text stands exactly once in today's tree, and with the new one the file is another Python module."""
    rotten = {}
    for mutant in MUTANTS:
        try:
            assert mutant.mutated() != mutant.source()
        except (AssertionError, OSError, SyntaxError, ValueError) as error:
            rotten[mutant.name] = str(error)
    assert rotten == {}


def test_who_should_notice_is_there() -> None:
    for file in {test.file for mutant in MUTANTS for test in mutant.tests}:
        there = functions(ROOT / file)
        assert {test.function for mutant in MUTANTS for test in mutant.tests if test.file == file} <= there, file
    assert all(mutant.tests for mutant in MUTANTS)


def test_each_clause_has_one() -> None:
    """C11 to C41; and enough of them."""
    guarded = {clause for mutant in MUTANTS for clause in mutant.clauses}
    assert set(CLAUSES) <= guarded
    assert len(MUTANTS) >= 20


def test_each_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len({(mutant.file, mutant.old, mutant.new, mutant.tests) for mutant in MUTANTS}) == len(MUTANTS)
    assert {path.suffix for path in HERE.iterdir() if path.is_file()} == {".py", ".toml"}


def test_what_rotted_is_said() -> None:
    rotten = MUTANTS[0]._replace(old="this stands nowhere")
    with pytest.raises(ValueError, match="0 times"):
        rotten.mutated()
    with pytest.raises(SyntaxError):
        MUTANTS[0]._replace(new="if:").mutated()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("unit/test_a.py::test_b", ["tests/unit/test_a.py::test_b", "tests/unit/test_a.py::test_b[x-y]"]),
        ("unit/test_a.py::test_b x", ["tests/unit/test_a.py::test_b[x-y]"]),
        ("unit/test_a.py::test_b x -y", []),
        ("unit/test_a.py::test", []),
    ],
)
def test_which_parameters_are_meant(written: str, meant: list[str]) -> None:
    known = ["tests/unit/test_a.py::test_b", "tests/unit/test_a.py::test_b[x-y]", "tests/unit/test_c.py::test_b[x]"]
    assert [node for node in known if Witness.written(written).is_meant_by(node)] == meant


def test_a_process_with_another_product_is_found_out(tmp_path: Path) -> None:
    """Whatever it is and wherever it was started; it proves nothing about a copy."""
    seen, copy = tmp_path / "seen", tmp_path / "copy"
    own = {"MUTANTS_ROOT": str(copy), "MUTANTS_SEEN": str(seen), "PYTHONPATH": os.pathsep.join((str(GUARD), str(ROOT)))}
    command = [sys.executable, "-c", "import nursecare_chat"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **own}, capture_output=True, text=True)
    assert "nursecare_chat is not the copy's" in done.stderr
    assert seen.read_text().split()[1] == "stray"
    (copy / "nursecare_chat").mkdir(parents=True)
    (copy / "nursecare_chat" / "__init__.py").touch()
    own["PYTHONPATH"] = os.pathsep.join((str(GUARD), str(copy)))
    subprocess.run(command, cwd=tmp_path, env={**os.environ, **own}, check=True)
    assert seen.read_text().splitlines()[1].split()[1] == "own"
