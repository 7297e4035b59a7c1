"""What each extra adds is missed as ``tests/extras`` says. `tox -e nopostgres,noimages,nometrics` really lack them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ..support.servers import ROOT

EXTRAS = ROOT / "tests" / "extras"
WITHOUT = {"images": "PIL", "metrics": "prometheus_client", "postgres": "psycopg"}
HIDDEN = "import sys, pytest; sys.modules.update(dict.fromkeys({names}, None)); sys.exit(pytest.main(sys.argv[1:]))"
ALONE = ("--noconftest", "--override-ini=addopts=", "-p", "no:xdist", "-p", "no:cacheprovider", "-q")


def run(*files: str, hidden: list[str]) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN.format(names=hidden), *ALONE, *files], cwd=ROOT, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_without_any_of_them() -> None:
    """C1, C5, C25, C43: in a process of its own, which finds none of the packages."""
    assert {path.stem for path in EXTRAS.glob("without_*.py")} == {f"without_{extra}" for extra in WITHOUT}
    status, said = run(*(f"tests/extras/without_{extra}.py" for extra in WITHOUT), hidden=[*WITHOUT.values()])
    assert status == pytest.ExitCode.OK, said
