"""Python runs this at the start of every process of a run: whichever imports the product has the copy's, or nothing.

A process that found another one, the checkout's for example, would prove nothing about the bug in the copy.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

PACKAGE = "nursecare_chat"
ROOT, SEEN = os.environ["MUTANTS_ROOT"], os.environ["MUTANTS_SEEN"]


class Guard:
    """Looks at each import of the package; ``SEEN`` gets a line of process number, verdict and command."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != PACKAGE:
            return None
        spec = PathFinder.find_spec(name, path, target)
        own = spec is not None and (spec.origin or "").startswith(ROOT + os.sep)
        with open(SEEN, "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {'own' if own else 'stray'} {sys.orig_argv}\n")
        if not own:
            raise ImportError(f"{PACKAGE} is not the copy's")
        return spec


sys.meta_path.insert(0, Guard())
