"""A machine whose clock is wrong, beside one whose clock is right (contract C10, C30)."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from tests.support import ahead
from tests.support.hosts import HOSTS, Host

from .outcome import Fault, Outcome, Size
from .scene import Scene

LOGGED = """--access-logfile - --access-logformat '%(p)s "%(r)s" %(s)s -'"""


class Ahead(Host):
    wsgi = "tests.support.ahead:create_app()"


def clock_ahead(outcome: Outcome, size: Size) -> None:
    """Sessions are made where it is right: one from the future is none, to the host."""
    HOSTS.setdefault("ahead", Ahead("postgresql"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "process")
        env = {ahead.VARIABLE: str(file), "GUNICORN_CMD_ARGS": LOGGED}
        with Scene(outcome.path, size, host="ahead", **env) as scene:
            wrong = int(file.read_text())
            (scene.login_at,) = {*scene.live.server.workers()} - {wrong}
            load = scene.people()
            scene.wait_for_posts(load)
            scene.settle(outcome)
            scene.never_refused(outcome)
            scene.streams_stayed(outcome)
            posted = re.findall(r'<(\d+)> "POST /api/chat/threads/\d+/messages \S+ 200', scene.live.server.output)
            assert str(wrong) in posted, "the process with the wrong clock took no post"
            assert {*posted} != {str(wrong)}, "the process with the right clock took no post"


FAULTS = (Fault("a clock 20 minutes ahead", "nothing: order is by seq, in both processes", clock_ahead),)
