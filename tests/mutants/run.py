"""Copies of the tree to put bugs into, and the tests run there."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from . import ROOT, Mutant, Test
from .chosen import VARIABLE

PYTEST = ("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "-p", "tests.mutants.chosen", "--reruns", "0")
GUARD = "tests/mutants/guard"
SHARED = (".tools", "node_modules")
"""Downloads of the checkout's that tests look for; nothing of the product."""

PASSED, FAILED, HUNG = 0, 1, -1
"""pytest's exit statuses, and ours for a run that did not end. Any other says that the list is wrong."""

GRACE = 20
"""Seconds for pytest to end its servers after an interrupt."""


class Ran(NamedTuple):
    """:ivar noticed_by: the first test that failed."""

    status: int
    noticed_by: str
    seconds: float
    output: str
    programs: frozenset[str]


class Copy:
    """A copy of what git has, or would have, of the checkout. The checkout itself is never written to."""

    def __init__(self, folder: Path) -> None:
        self.root, self._temporary, self._seen = folder / "tree", folder / "temporary", folder / "seen"
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
        for name in filter(None, names):
            target = self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # deleted, and not yet for git
                shutil.copy2(ROOT / name, target)
        for name in SHARED:
            if (ROOT / name).exists():
                (self.root / name).symlink_to(ROOT / name)

    @contextmanager
    def with_bug(self, mutant: Mutant) -> Iterator[None]:
        path = self.root / mutant.file
        whole, mutated = path.read_bytes(), mutant.mutated(self.root)
        try:
            self._write(path, mutated.encode())
            yield
        finally:
            self._write(path, whole)

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        """Bytecode goes by size and second of the source, which may be the same as before."""
        path.write_bytes(data)
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)

    def run(self, tests: Iterable[Test], timeout: float, *, stop: bool = True) -> Ran:
        """
        :param stop: at the first failure.
        :raises AssertionError: if some process had another product than the copy's.
        """
        tests = list(dict.fromkeys(tests))
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._seen.write_text("")
        paths = os.pathsep.join(map(str, (self.root / GUARD, self.root)))
        own = {"MUTANTS_ROOT": str(self.root), "MUTANTS_SEEN": str(self._seen), VARIABLE: json.dumps(tests)}
        files = sorted({test.file for test in tests})
        command = [sys.executable, *PYTEST, *(["-x"] if stop else []), f"--basetemp={self._temporary}", *files]
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=self.root,
            env={**os.environ, **own, "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        try:
            output, status = process.communicate(timeout=timeout)[0], process.returncode
        except subprocess.TimeoutExpired:
            output, status = _ended(process), HUNG
        except BaseException:
            _ended(process)
            raise
        finally:
            programs = self._look_at_processes()
        failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+?::\S+)", output, re.MULTILINE)
        return Ran(status, failed[1] if failed else "", time.monotonic() - began, output, programs)

    def _look_at_processes(self) -> frozenset[str]:
        """What they ran; those of this run that are left are ended."""
        programs = set()
        for line in self._seen.read_text().splitlines():
            pid, verdict, program = line.split(" ", 2)
            assert verdict == "own", f"a process imported another nursecare_chat than the copy's: {program}"
            programs.add(program)
            with suppress(OSError):
                if f"MUTANTS_SEEN={self._seen}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes():
                    os.kill(int(pid), signal.SIGKILL)
        return frozenset(programs)


def _ended(process: subprocess.Popen[str]) -> str:
    """Its output, after it had the time to end what it started."""
    process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=GRACE)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return ""
