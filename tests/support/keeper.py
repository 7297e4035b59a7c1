"""Keeps a service running for as long as the test run lives, however that ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = """
import json, pathlib, shutil, signal, subprocess, sys, threading
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
folder, options, last, *command = sys.argv[1:]
server = subprocess.Popen(command, stdin=subprocess.DEVNULL, **json.loads(options))
pathlib.Path(folder, "pid").write_text(str(server.pid))
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set(), server.send_signal(int(last))), daemon=True).start()
server.wait()
if over.is_set():
    shutil.rmtree(folder, ignore_errors=True)
"""
"""Lives until its standard input ends, that is until the test run does; then ends the service and its folder."""


class Kept:
    """
    :param folder: the service's own; what it says is in ``log`` there.
    :param options: for the service's ``Popen``: whom it runs as.
    :param last: the signal that ends it at once.
    """

    def __init__(
        self,
        command: list[Any],
        folder: Path,
        options: dict[str, Any] | None = None,
        last: int = signal.SIGKILL,
        env: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        (folder / "pid").unlink(missing_ok=True)
        with open(folder / "log", "ab") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, folder, json.dumps(options or {}), str(int(last)), *command],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def ended(self) -> bool:
        return self._keeper.poll() is not None

    @property
    def said(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def signal(self, signum: int) -> None:
        """To the service itself."""
        os.kill(int((self.folder / "pid").read_text()), signum)

    def wait(self, seconds: float = 30) -> None:
        """Until the service has ended."""
        self._keeper.wait(seconds)
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()

    def end(self) -> None:
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait(30)
