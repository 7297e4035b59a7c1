"""`script/demo` from a fresh clone, as a newcomer runs it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..support.live import Person
from ..support.servers import Process, free_port
from .test_packaging import tracked

PEOPLE = ("admin", "admin2", "client", "client2", "nurse")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tracked(tmp_path_factory.mktemp("clone"))


@pytest.fixture
def demo(clone: Path, tmp_path: Path) -> Iterator[Any]:
    started: list[Process] = []

    def start(port: int) -> Process:
        outer = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "NURSECARE"))}
        command = ["env", "-i", *(f"{name}={value}" for name, value in outer.items())]
        command += ["script/demo", "--port", str(port)]
        started.append(Process(command, tmp_path / f"demo-{len(started)}.log", cwd=clone))
        return started[-1]

    yield start
    for process in started:
        process.end()


def running_in(folder: Path) -> str:
    return subprocess.run(["pgrep", "-af", str(folder)], capture_output=True, text=True).stdout


def test_demo(demo: Any, clone: Path) -> None:
    """C17, C26, C36: prepares everything, tells the logins, serves, erases, ends on Ctrl-C; the second time at once."""
    port = free_port()
    process = demo(port)
    process.wait_for(r"NurseCare is at http://127\.0\.0\.1:\d+", 180)
    url = f"http://127.0.0.1:{port}"
    people = {who: Person(url, who) for who in PEOPLE}
    for who in PEOPLE:
        assert f"{who}@nursecare.test" in process.output
    client, admin = people["client"], people["admin"]
    thread = client.open(1)
    assert people["client2"].http.post("/api/requests/3/chat/open").status_code == 200
    assert people["nurse"].http.post("/api/requests/1/chat/open").status_code == 403
    reader = admin.listen(thread).wait_open()
    client.say(thread, "hello from the demo")
    assert reader.wait(1)[0].json["text"] == "hello from the demo"
    client.close(thread)
    reader.wait_end()
    process.wait_for("chat thread purged", 30)
    for person in people.values():
        person.http.close()

    taken = demo(port)
    assert taken.popen.wait(60) == 1
    assert "try another --port" in taken.output
    assert "Traceback" not in taken.output

    process.signal(signal.SIGINT)
    assert process.popen.wait(20) == 0, process.output
    assert "Traceback" not in process.output
    assert running_in(clone) == ""

    again = demo(port)
    again.wait_for("NurseCare is at", 60)
    assert "Installing" not in again.output
    assert httpx.get(f"{url}/login").status_code == 200
    again.signal(signal.SIGTERM)
    assert again.popen.wait(20) == 0, again.output
