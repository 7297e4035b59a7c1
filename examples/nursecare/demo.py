"""``script/demo``: database, seed, server and worker in one command."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from flask_migrate import upgrade

from nursecare_chat import ConfigurationError

from . import create_app
from .seed import PASSWORD, REQUESTS, USERS, seed

ROOT = Path(__file__).resolve().parent.parent.parent
FLASK = [sys.executable, "-m", "flask", "--app", "wsgi"]
STOP_SECONDS = 10


class Stopped(Exception):
    """SIGINT or SIGTERM arrived."""


def _stop(signum: int, frame: object) -> None:
    raise Stopped()


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/demo", description="Run the reference host with the chat in it.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", default=5000, type=int)
    options = parser.parse_args()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _stop)

    processes: list[subprocess.Popen[bytes]] = []
    try:
        _require_free(options.host, options.port)
        _prepare_database()
        server = ["gunicorn", "-c", "examples/nursecare/gunicorn.conf.py", "-b", _address(options.host, options.port)]
        for command in ([sys.executable, "-m", *server, "wsgi:app"], [*FLASK, "chat", "worker"]):
            # In sessions of their own: Ctrl-C reaches us alone, and we stop them in order.
            processes.append(subprocess.Popen(command, cwd=ROOT, start_new_session=True))
        url = f"http://{_address(options.host, options.port)}"
        if _served(f"{url}/login", processes):
            _announce(url)
        while all(process.poll() is None for process in processes):
            time.sleep(0.2)
        print("A process of the demo ended by itself; stopping.", file=sys.stderr)
        return 1
    except Stopped:
        return 0
    except ConfigurationError as error:
        error.show()
        return error.exit_code
    finally:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_IGN)
        _end(processes)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _prepare_database() -> None:
    """What ``flask db upgrade`` and ``flask seed`` do, with one start of the application."""
    logging.disable(logging.WARNING)  # server and worker say the same again
    app = create_app()
    with app.app_context():
        upgrade()
        seed()


def _require_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            sys.exit(f"Cannot listen on {_address(host, port)} ({error.strerror}); try another --port.")


def _served(url: str, processes: list[subprocess.Popen[bytes]]) -> bool:
    """Wait for the first answer; ``False`` if a process ended before."""
    while all(process.poll() is None for process in processes):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    return False


def _announce(url: str) -> None:
    requests = {email: [str(number) for number, owner, *_ in REQUESTS if owner == email] for email, *_ in USERS}
    lines = [f"\n  NurseCare is at {url}   (Ctrl-C stops it)\n", f"  Logins, password {PASSWORD!r}:"]
    for email, _, role in USERS:
        what = f"{role}, owns request {' and '.join(requests[email])}" if requests[email] else role or "no role"
        lines.append(f"    {email:24} {what}")
    lines.append("\n  Use two browsers, or a private window: one as client, one as admin.\n")
    print("\n".join(lines), flush=True)


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process, signum in zip(processes, (signal.SIGTERM, signal.SIGINT), strict=False):
        if process.poll() is None:
            process.send_signal(signum)
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
