"""`flask …` as a host types it, many times over.

Most of such a command's time goes into importing what every one of them imports. So one process imports it once and
forks a child for each command; the host's own modules are the child's.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from .servers import ROOT

IMPORTED = (
    "alembic.autogenerate",
    "alembic.command",
    "flask.cli",
    "flask_limiter",
    "flask_login",
    "flask_migrate",
    "flask_sqlalchemy",
    "huey.consumer",
    "nursecare_chat",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
)


class Commands:
    """The process that forks; it ends with its standard input."""

    def __init__(self) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", __name__], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, arguments: list[str], folder: Path, env: dict[str, str]) -> tuple[int, str]:
        """The exit status of ``flask`` with these arguments in ``folder``, and what it printed."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        output = folder / "output"
        job = {"arguments": arguments, "folder": str(folder), "env": {**os.environ, **env}, "output": str(output)}
        self._popen.stdin.write(json.dumps(job) + "\n")
        self._popen.stdin.flush()
        status = int(self._popen.stdout.readline())
        return status, output.read_text()

    def close(self) -> None:
        self._popen.communicate()


class Shell:
    """A host's checkout: `flask …` in it, on a database of its own."""

    def __init__(self, commands: Commands, app: str, folder: Path, url: str, **env: str) -> None:
        self.app, self.folder, self.url = app, folder, url
        self._commands, self._env = commands, env

    def flask(self, *arguments: str, status: int = 0) -> str:
        env = {
            "NURSECARE_INSTANCE": str(self.folder),
            "NURSECARE_DATABASE_URL": self.url,
            "HOST_MIGRATIONS": str(self.folder / "migrations"),
            **self._env,
        }
        done, output = self._commands.run(["--app", self.app, *arguments], self.folder, env)
        assert done == status, output
        return output

    def tables(self, schema: str | None = None) -> set[str]:
        engine = sa.create_engine(self.url)
        names = set(sa.inspect(engine).get_table_names(schema))
        engine.dispose()
        return names


def _run(job: dict[str, Any]) -> None:
    """In the child, which does not return."""
    status = 1
    try:
        output = os.open(job["output"], os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(job["folder"])
        os.environ.clear()
        os.environ.update(job["env"])
        sys.argv = ["flask", *job["arguments"]]
        importlib.import_module("flask.cli").main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
