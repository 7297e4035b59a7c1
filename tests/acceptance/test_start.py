"""Starting with something wrong: what to do is said, without a traceback (C1, C5, C13)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..support.servers import ROOT, free_port

NO_USER_MODEL = """
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from nursecare_chat import Chat

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
db = SQLAlchemy(app)
Chat().init_app(app, db=db)
"""


def run(folder: Path, *command: str, app: str = "wsgi", **env: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FLASK_APP": app, "NURSECARE_INSTANCE": str(folder), **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("flask", "run", "--port", "0"),
        ("flask", "chat", "worker"),
        ("flask", "db", "upgrade"),
        ("flask", "routes"),
        ("examples.nursecare.demo",),
    ],
    ids=" ".join,
)
def test_bad_configuration(tmp_path: Path, command: tuple[str, ...]) -> None:
    """C5: every way to start names the key, the value and what is accepted."""
    if "examples" in command[0]:
        command = (*command, "--port", str(free_port()))
    status, output = run(tmp_path, *command, CHAT_SIGNED_URL_TTL="abc")
    assert status != 0
    assert "CHAT_SIGNED_URL_TTL is 'abc'; accepted: seconds, a whole number above 0." in output
    assert "Traceback" not in output


@pytest.mark.parametrize("command", [("flask", "chat", "worker"), ("flask", "chat", "purge")], ids=" ".join)
def test_without_tables(tmp_path: Path, command: tuple[str, ...]) -> None:
    """C6, C13: says which two commands make them; the web's side is in integration/test_install.py."""
    status, output = run(tmp_path, *command)
    assert status == 1
    assert "run `flask chat install-migrations`, then `flask db upgrade`" in output
    assert "Traceback" not in output


def test_without_a_user_model(tmp_path: Path) -> None:
    """C1: the line that is missing, and an example of the whole."""
    (tmp_path / "half.py").write_text(NO_USER_MODEL)
    for command in (("flask", "run", "--port", "0"), ("flask", "routes")):
        status, output = run(tmp_path, *command, app="half")
        assert status != 0
        assert "chat.init_app needs user_model=…, request_model=…" in output
        assert "chat.init_app(app, db=db, user_model=User, request_model=ServiceRequest)" in output
        assert "Traceback" not in output
