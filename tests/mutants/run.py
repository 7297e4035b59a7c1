"""Copies of the tree to put bugs into, and the tests run there."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..support import patience
from . import ROOT, Mutant, Witness
from .chosen import VARIABLE

PYTEST = (
    *("-q", "-n", "0", "--reruns", "0", "--assert", "plain"),
    *("-p", "no:cacheprovider", "-p", "tests.mutants.chosen"),
)
"""Plain, for what the children share was imported before pytest could have rewritten it."""

GUARD = "tests/mutants/guard"
TOOLS = ".tools"
"""Services that tests download once, the checkout's; nothing of the product."""

PASSED, FAILED, HUNG = 0, 1, -1
"""pytest's exit statuses, and ours for a run that did not end. Any other says that the list is wrong."""

PATIENCE = "0.3"
"""Of the tests: most of them wait for what a bug keeps away. Without a bug they must pass with it too."""

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
    """A copy of what git has, or would have, of the checkout, which itself is never changed."""

    def __init__(self, folder: Path) -> None:
        self.root, self._temporary, self._seen = folder / "tree", folder / "temporary", folder / "seen"
        self._output = folder / "output"
        self._zygote: subprocess.Popen[bytes] | None = None
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
        for name in filter(None, names):
            target = self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # deleted, and not yet for git
                shutil.copy2(ROOT / name, target)
        (self.root / TOOLS).symlink_to(ROOT / TOOLS)

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

    def run(self, tests: Iterable[Witness], timeout: float, *, stop: bool = True) -> Ran:
        """
        :param stop: at the first failure.
        :raises AssertionError: if some process had another product than the copy's.
        """
        tests = list(dict.fromkeys(tests))
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._seen.write_text("")
        files = sorted({test.file for test in tests})
        arguments = [*PYTEST, *(["-x"] if stop else []), f"--basetemp={self._temporary}", *files]
        job = {
            "arguments": arguments,
            "env": {VARIABLE: json.dumps(tests), patience.VARIABLE: PATIENCE},
            "output": str(self._output),
        }
        began = time.monotonic()
        try:
            status = self._done(job, timeout)
        finally:
            programs = self._look_at_processes()
        output = self._output.read_text(errors="replace")
        failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+?::\S+)", output, re.MULTILINE)
        return Ran(status, failed[1] if failed else "", time.monotonic() - began, output, programs)

    def _done(self, job: dict[str, Any], timeout: float) -> int:
        """The status in which the child ended, or :data:`HUNG`."""
        if self._zygote is None or self._zygote.poll() is not None:
            self._zygote = self._started()
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.write(json.dumps(job).encode() + b"\n")
        self._zygote.stdin.flush()
        child = int(self._zygote.stdout.readline())
        for seconds, signum in ((timeout, signal.SIGINT), (GRACE, signal.SIGKILL)):
            if select.select([self._zygote.stdout], [], [], seconds)[0]:
                break
            os.kill(child, signum)
        status = int(self._zygote.stdout.readline())
        return status if seconds == timeout and signum == signal.SIGINT else HUNG

    def _started(self) -> subprocess.Popen[bytes]:
        paths = os.pathsep.join(map(str, (self.root / GUARD, self.root)))
        own = {"MUTANTS_ROOT": str(self.root), "MUTANTS_SEEN": str(self._seen), "PYTHONPATH": paths}
        return subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.zygote"],
            cwd=self.root,
            env={name: value for name, value in {**os.environ, **own}.items() if name != "PYTHONDONTWRITEBYTECODE"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # select() sees what was not read yet
        )

    def close(self) -> None:
        """Its process ends with its standard input."""
        if self._zygote is not None:
            self._zygote.communicate()

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
