"""The wheel, and the README's installation on a machine that has only that."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ..support.servers import ROOT

UV = [sys.executable, "-m", "uv"]
SHIPPED = {".py", ".js", ".css", ".ts", ".html"}
HOST = """
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_login import LoginManager, UserMixin
from flask_migrate import Migrate

app = Flask(__name__)
app.config.update(SECRET_KEY="k", SQLALCHEMY_DATABASE_URI="sqlite:///host.db")
db = SQLAlchemy(app)
migrate = Migrate(app, db)
login = LoginManager(app)


class User(UserMixin, db.Model):
    id = db.Column(db.Integer, primary_key=True)


class ServiceRequest(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    client_id = db.Column(db.Integer, db.ForeignKey("user.id"), nullable=False)


@login.user_loader
def load(user_id):
    return db.session.get(User, int(user_id))
"""

VISIT = """
from host import ServiceRequest, User, app, db

with app.app_context():
    db.session.add_all([User(id=1), ServiceRequest(id=1, client_id=1)]); db.session.commit()
client = app.test_client()
with client.session_transaction() as session:
    session.update(_user_id="1", _fresh=True)
print("opened", client.post("/api/requests/1/chat/open").get_json())
thread = "/api/chat/threads/1"
print("said", client.post(thread + "/messages", json={"type": "text", "text": "hello"}).get_json()["seq"])
print(client.patch(thread + "/close").get_json()["status"])
print(client.get(thread + "/stream?lastEventId=0").text)
"""


def tracked(folder: Path) -> Path:
    """A copy of what a clone would have."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tracked(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("wheel")
    subprocess.run([*UV, "build", "--quiet", "--wheel", "--out-dir", str(out), str(source)], check=True)
    (built,) = out.glob("*.whl")
    return built


def test_wheel_has_the_migrations_and_nothing_of_the_tests(wheel: Path) -> None:
    """C6: the scripts of the top-level migrations/ ship in it."""
    names = zipfile.ZipFile(wheel).namelist()
    assert "nursecare_chat/migrations/versions/step_0001_chat_tables.py" in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"nursecare_chat"}
    packaged = {name for name in names if name.startswith("nursecare_chat/") and "/migrations/" not in name}
    shipped = [path for path in (ROOT / "nursecare_chat").rglob("*") if path.suffix in SHIPPED]
    assert packaged == {str(path.relative_to(ROOT)) for path in shipped}


def test_the_readmes_installation(wheel: Path, tmp_path: Path) -> None:
    """C1, C6: its ten lines, on a host with a history of its own, with the wheel installed in a fresh environment.

    Without any extra it is enough for a chat on SQLite, from its opening to its receipt.
    """
    readme = (ROOT / "README.md").read_text()
    install, *_ = re.findall(r"```python\n(.*?)```", readme, re.S)
    assert len(install.strip().splitlines()) <= 10
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([*UV, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv")], check=True)
    subprocess.run([*UV, "pip", "install", "--quiet", "--python", str(python), str(wheel)], check=True)
    host = tmp_path / "host.py"

    def flask(*arguments: str) -> str:
        done = subprocess.run(
            [str(python), "-m", "flask", "--app", "host", *arguments],
            cwd=tmp_path,
            env={**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, "CHAT_ENABLED": "true"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    host.write_text(HOST)
    for command in ("db init", "db migrate", "db upgrade"):
        flask(*command.split())
    host.write_text(HOST + "\n" + install)
    for command in re.findall(r"^flask (chat install-migrations|db upgrade)", readme, re.M):
        flask(*command.split())
    assert "No new upgrade operations detected" in flask("db", "check")
    assert "nursecare_chat.open_thread" in flask("routes")
    (tmp_path / "visit.py").write_text(VISIT)
    done = subprocess.run(
        [str(python), "visit.py"], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "CHAT_ENABLED": "1"}
    )
    assert "opened {'threadId': 1, 'status': 'open'}\nsaid 1\nclosed\n" in done.stdout, done.stderr
    assert re.findall(r"^event: (\w+)", done.stdout, re.M) == ["MessageCreated", "ThreadClosed"]
    flask("chat", "purge")
    receipt = flask("chat", "receipt", "1")
    assert '"state": "settled"' in receipt
    assert '"rowsRedacted": 1' in receipt
