"""A host's database with a real server on it, and people who are logged in there."""

from __future__ import annotations

import os
import re
import signal
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from .databases import Databases
from .hosts import HOSTS, UNLIMITED, Workbench
from .servers import NO_TLS, Server
from .sse import Reader
from .wait import eventually


class Person:
    """Somebody with a session on the server."""

    def __init__(self, url: str, who: str, verify: ssl.SSLContext = NO_TLS) -> None:
        self.who = who
        # Given up before the server gives it up, or a request may go into a connection that is just being closed.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=1)
        self.http = httpx.Client(base_url=url, timeout=60, limits=limits, verify=verify)
        answer = self.http.post("/login", json={"email": f"{who}@nursecare.test", "password": "demo"})
        if answer.status_code != 200:
            self.http.close()
            raise AssertionError(answer.text)

    def say(self, thread: int, text: str = "hello", **more: Any) -> httpx.Response:
        body = {"type": "text", "text": text, **more}
        return self.http.post(f"/api/chat/threads/{thread}/messages", json=body)

    def open(self, request_id: Any) -> int:
        thread: int = self.http.post(f"/api/requests/{request_id}/chat/open").json()["threadId"]
        return thread

    def close(self, thread: int) -> httpx.Response:
        return self.http.patch(f"/api/chat/threads/{thread}/close")

    def thread(self, thread: int) -> dict[str, Any]:
        shown: dict[str, Any] = self.http.get(f"/api/chat/threads/{thread}").json()
        return shown

    def listen(self, thread: int, last_event_id: str | None = None, **options: Any) -> Reader:
        return Reader(self.http, thread, last_event_id, **options)

    def follow(self, last_event_id: str | None = None, **options: Any) -> Reader:
        """The stream of their inbox."""
        return Reader(self.http, None, last_event_id, **options)


class Live:
    """``kind`` of server over a database of ``host``; the workbench beside it is another process's view of it.

    :param processes: how many workers gunicorn has where ``kind`` does not say; Flask's own server is one process.
    """

    def __init__(
        self,
        kind: str,
        host: str,
        folder: Path,
        databases: Databases,
        env: Mapping[str, str],
        processes: int = 1,
    ) -> None:
        self.bench = Workbench(HOSTS[host], folder, databases, {"SECRET_KEY": "live"})
        self.server = Server(
            kind,
            self.bench.host.wsgi,
            folder,
            {
                "NURSECARE_DATABASE_URL": self.bench.url,
                "CHAT_ENABLED": "true",
                "WEB_CONCURRENCY": str(processes),
                **({"CHAT_KEYSTORE_URL": "file://"} if self.bench.host.sealed else {}),
                **UNLIMITED,
                **env,
            },
        )
        self._people: list[Person] = []

    def login(self, who: str) -> Person:
        person = Person(self.server.url, who)
        self._people.append(person)
        return person

    @contextmanager
    def served_by(self, worker: int) -> Iterator[None]:
        """Whoever logs in meanwhile is served by this one of gunicorn's workers, for the others are stopped.

        Who takes a connection is otherwise the kernel's choice, which may be the same one each time.
        """
        others = [one for one in self.server.workers() if one != worker]
        for other in others:
            os.kill(other, signal.SIGSTOP)
        try:
            eventually(lambda: all(self.server.stopped(other) for other in others))
            yield
        finally:
            for other in others:
                os.kill(other, signal.SIGCONT)

    def new_thread(self) -> int:
        """The open thread of a fresh request of ``client``."""
        with self.bench.app.app_context():
            request_id = self.bench.host.new_request("client")
        person = self.login("client")
        return person.open(request_id)

    def written_off(self, thread: int) -> int:
        """Streams of the thread that gunicorn has done with, by its access log: those that ended or were taken over."""
        return len(re.findall(rf'"GET /api/chat/threads/{thread}/stream HTTP/1.[01]" 200 ', self.server.output))

    def close(self) -> None:
        self.server.end()
        for person in self._people:
            person.http.close()
        self.bench.close()
