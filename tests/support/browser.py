"""A real Chromium: named by ``CHROMIUM``, the system's, the distribution's package when root, or Playwright's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]


def _on_this_machine() -> str | None:
    named = os.environ.get("CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


def _from_the_distribution() -> str | None:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return None
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"]):
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return _on_this_machine()


def launch(playwright: Any) -> Any:
    """A headless browser.

    :raises AssertionError: saying what to install; a missing browser fails the run.
    """
    executable = _on_this_machine() or _from_the_distribution()
    arguments = [*ARGUMENTS, "--no-sandbox"] if os.geteuid() == 0 else ARGUMENTS
    if executable is None:
        done = subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], capture_output=True)
        assert done.returncode == 0, "No browser: install Chromium, or name one in CHROMIUM."
    return playwright.chromium.launch(executable_path=executable, args=arguments)
