"""Chosen bugs, each of which the tests must notice: a line that guards something, and what it is without the guard.

They stand in the ``*.toml`` files beside this one, a file for each part of the contract. ``python -m tests.mutants``
puts one in at a time and runs the tests that should notice; ``tests/unit/test_mutants.py`` sees that none has rotted.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

CLAUSES = [f"C{number}" for number in range(11, 42)]
"""Every one of them has a line that guards it, so at least one mutant."""


class Witness(NamedTuple):
    """What should notice: ``function`` of ``file``, with those parameters whose id has each of ``words``, and none of
    ``but``.

    Written ``integration/test_gates.py::test_order_of_the_gates foreign messages -postgresql``.
    """

    file: str
    function: str
    words: tuple[str, ...] = ()
    but: tuple[str, ...] = ()

    @classmethod
    def written(cls, text: str) -> Witness:
        name, *rest = text.split()
        file, _, function = name.partition("::")
        words = (word for word in rest if not word.startswith("-"))
        return cls(f"tests/{file}", function, tuple(words), tuple(word[1:] for word in rest if word.startswith("-")))

    def is_meant_by(self, node_id: str) -> bool:
        name, _, parameters = node_id.partition("[")
        file, *_, function = name.split("::")
        return (
            (file, function) == (self.file, self.function)
            and all(word in parameters for word in self.words)
            and not any(word in parameters for word in self.but)
        )


class Mutant(NamedTuple):
    """
    :ivar old: stands once in ``file``; :ivar new: takes its place.
    :ivar hangs: whether a run that does not end counts as noticing it.
    """

    name: str
    clauses: tuple[str, ...]
    file: str
    old: str
    new: str
    tests: tuple[Witness, ...]
    hangs: bool = False

    def source(self, root: Path = ROOT) -> str:
        """The file as it stands."""
        return (root / self.file).read_text(encoding="utf-8")

    def mutated(self, root: Path = ROOT) -> str:
        """
        :raises ValueError: if ``old`` does not stand there exactly once.
        :raises SyntaxError: if what comes of it is no Python.
        """
        source = self.source(root)
        if (count := source.count(self.old)) != 1:
            raise ValueError(f"{self.name}: the old text stands {count} times in {self.file}")
        changed = source.replace(self.old, self.new)
        compile(changed, self.file, "exec")
        return changed

    @property
    def guarded(self) -> str:
        """Its clauses, as a table shows them."""
        return " ".join(sorted(self.clauses, key=lambda clause: int(re.sub(r"\D", "", clause))))


def load() -> list[Mutant]:
    """All of them, by clause as they stand in the files."""
    found = []
    for path in sorted(HERE.glob("*.toml")):
        for name, entry in tomllib.loads(path.read_text(encoding="utf-8")).items():
            tests = tuple(Witness.written(text) for text in entry.pop("tests"))
            found.append(Mutant(name=name, clauses=tuple(entry.pop("clauses").split()), tests=tests, **entry))
    return found
