"""Real servers on free ports, as processes of their own or inside the test's."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from flask import Flask
from werkzeug.serving import make_server

ROOT = Path(__file__).resolve().parents[2]

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients: each would otherwise read the authorities' certificates anew, which takes 28 ms."""

GUNICORN = "gunicorn --no-control-socket --keep-alive 5"
PATIENT = "gunicorn --no-control-socket --graceful-timeout 90 -b 127.0.0.1:{port} {wsgi}"
GENERATOR = "-k gevent --env CHAT_STREAM_HANDOFF=off"
"""A worker that keeps its streams; the other ones with gevent let them be taken over."""

COMMANDS = {
    "gevent": f"{GUNICORN} -k gevent --graceful-timeout 3 -b 127.0.0.1:{{port}} {{wsgi}}",
    "generator": f"{GUNICORN} {GENERATOR} --graceful-timeout 3 -b 127.0.0.1:{{port}} {{wsgi}}",
    "crowded": f"{GUNICORN} -k gevent --worker-connections 5000 -b 127.0.0.1:{{port}} {{wsgi}}",
    "two-gevent": f"{GUNICORN} -k gevent -w 2 --graceful-timeout 3 -b 127.0.0.1:{{port}} {{wsgi}}",
    "gevent-preloaded": f"{GUNICORN} -k gevent --preload --graceful-timeout 3 -b 127.0.0.1:{{port}} {{wsgi}}",
    "gthread": f"{GUNICORN} -k gthread --threads 40 --graceful-timeout 3 -b 127.0.0.1:{{port}} {{wsgi}}",
    "gthread-4": f"{GUNICORN} -k gthread --threads 4 -b 127.0.0.1:{{port}} {{wsgi}}",
    "gthread-1": f"{GUNICORN} -k gthread --threads 1 -b 127.0.0.1:{{port}} {{wsgi}}",
    "gevent-patient": f"{PATIENT} -k gevent",
    "generator-patient": f"{PATIENT} {GENERATOR}",
    "gthread-patient": f"{PATIENT} -k gthread --threads 40",
    "pywsgi": f"{PATIENT} -k gunicorn.workers.ggevent.GeventPyWSGIWorker",
    "gevent-recycled": f"{PATIENT} -k gevent --max-requests 30",
    "generator-recycled": f"{PATIENT} {GENERATOR} --max-requests 30",
    "gthread-recycled": f"{PATIENT} -k gthread --threads 40 --max-requests 30",
    "deployed": "gunicorn -c examples/deploy/gunicorn.conf.py -b 127.0.0.1:{port} {wsgi}",
    "sync": f"{GUNICORN} -k sync -b 127.0.0.1:{{port}} {{wsgi}}",
    "development": "flask --app {wsgi} run --port {port}",
}


def free_port() -> int:
    """A port that nobody else is given for as long as this process lives, neither another one of the test run nor a
    connection: whoever starts a server seconds after it asked would otherwise be answered by somebody else's.

    It is bound here and never listened on, which leaves it to servers that set SO_REUSEADDR, as all do.
    """
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port: int = reserved.getsockname()[1]
        reserved.detach()
    return port


class Process:
    """A child in a session of its own, its output in a file; killed with all of its children at the end."""

    def __init__(self, command: list[str], log: Path, env: dict[str, str] | None = None, cwd: Path = ROOT) -> None:
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if match := re.search(pattern, self.output):
                return match
            if self.popen.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"{pattern!r} did not come; the output was:\n{self.output}")

    def signal(self, signum: int) -> None:
        self.popen.send_signal(signum)

    def end(self) -> None:
        if self.popen.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


class Server(Process):
    """A host under a real server; answers as soon as this returns."""

    def __init__(self, kind: str, wsgi: str, folder: Path, env: dict[str, str], port: int | None = None) -> None:
        self._made_with = (kind, wsgi, folder, env)
        port = port or free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", *COMMANDS[kind].format(port=port, wsgi=wsgi).split()]
        super().__init__(command, folder / f"{kind}.log", {"NURSECARE_INSTANCE": str(folder), **env})
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{self.url}/login", verify=NO_TLS, timeout=60)
                break
            except httpx.TransportError:
                if time.monotonic() > deadline or self.popen.poll() is not None:
                    self.end()
                    raise AssertionError(f"the {kind} server did not start:\n{self.output}") from None
                time.sleep(0.05)
            except BaseException:  # whoever waits for it is interrupted
                self.end()
                raise

    @classmethod
    def again(cls, ended: Server) -> Server:
        """The same server once more, on the same port."""
        return cls(*ended._made_with, port=int(ended.url.rpartition(":")[2]))

    def workers(self) -> list[int]:
        """The process numbers of gunicorn's."""
        found = subprocess.run(["pgrep", "-P", str(self.popen.pid)], capture_output=True, text=True).stdout
        return [int(pid) for pid in found.split()]

    @staticmethod
    def stopped(pid: int) -> bool:
        """Whether SIGSTOP has reached the process."""
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("T")

    def descriptors(self) -> int:
        """Open file descriptors of the process that has the most, which is the one with the streams."""
        pids = subprocess.run(["pgrep", "-g", str(self.popen.pid)], capture_output=True, text=True, check=True).stdout
        return max(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids.split())


@contextmanager
def serve_here(app: Flask) -> Iterator[str]:
    """The development server in a thread of this process, for tests that look inside; its address."""
    server: Any = make_server("127.0.0.1", 0, app, threaded=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
