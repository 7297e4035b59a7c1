"""The hosts that the suite runs against, behind one interface."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from datetime import date
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.security import generate_password_hash

import examples.nursecare
from examples.nursecare import models as reference_models
from examples.nursecare.extensions import chat as reference_chat
from examples.nursecare.seed import seed as seed_reference

from . import foreign
from .databases import Databases
from .sse import Event, Parser, parse

reference_models.generate_password_hash = partial(generate_password_hash, method="pbkdf2:sha256:1")  # quick logins

PEOPLE = ("admin", "admin2", "client", "client2", "nurse")
UNLIMITED = {"CHAT_RATE_POST": "off", "CHAT_RATE_OPEN": "off", "CHAT_RATE_UPLOAD": "off"}
TESTING = {"TESTING": True, "CHAT_QUEUE_URL": "memory://", **UNLIMITED}


class Host:
    """A host application with its people and requests 1, 2 (of ``client``) and 3 (of ``client2``).

    :param database: ``sqlite``; ``memory``, as a host's own tests have it: one connection for everybody (C10); or
        ``postgresql``.
    :param sealed: whether what people write is stored under keys of the threads (C41).
    """

    application = "reference"
    wsgi = "examples.nursecare:create_app()"
    db = reference_models.db
    user_model: Any = reference_models.User
    request_model: Any = reference_models.ServiceRequest
    chat = reference_chat
    mail = "email"

    def __init__(self, database: str = "sqlite", sealed: bool = False) -> None:
        self.database, self.sealed = database, sealed
        self.name = "memory" if database == "memory" else self.named(database, sealed)

    def named(self, database: str, sealed: bool) -> str:
        """The name of this application's host on such a database."""
        return self.application + ("" if database == "sqlite" else f"-{database}") + ("-sealed" if sealed else "")

    def create_app(self, url: str, config: Mapping[str, Any]) -> Flask:
        return examples.nursecare.create_app({"SECRET_KEY": "test", "SQLALCHEMY_DATABASE_URI": url, **config})

    def create_schema(self, app: Flask) -> None:
        """Tables and people, the quick way; migrations have tests of their own."""
        with app.app_context():
            self.db.create_all()
            self.seed()

    def fill(self, url: str) -> list[str]:
        """The same at ``url``; the tables' names, parents first."""
        app = self.create_app(url, TESTING)
        self.create_schema(app)
        with app.app_context():
            self.db.session.remove()
            self.db.engine.dispose()
        return [table.name for table in self.db.metadata.sorted_tables]

    def seed(self) -> None:
        seed_reference()

    def user(self, who: str) -> Any:
        """Needs an application context."""
        column = getattr(self.user_model, self.mail)
        return self.db.session.scalar(self.db.select(self.user_model).where(column == f"{who}@nursecare.test"))

    def user_id(self, who: str) -> Any:
        return self.user(who).id

    def request_id(self, number: int) -> Any:
        return number

    def new_request(self, who: str = "client") -> Any:
        """Another request of ``who``; its id as the path has it."""
        request = reference_models.ServiceRequest(
            client_id=self.user_id(who), title="t", details="d", visit_on=date(2030, 1, 1)
        )
        self.db.session.add(request)
        self.db.session.commit()
        return request.id

    def disable(self, who: str) -> None:
        self.user(who).active = False
        self.db.session.commit()

    def demote(self, who: str) -> None:
        self.user(who).role = None
        self.db.session.commit()


class ForeignHost(Host):
    application = "foreign"
    wsgi = "tests.support.foreign:create_app()"
    db = foreign.db
    user_model = foreign.Person
    request_model = foreign.Visit
    chat = foreign.chat
    mail = "mail"

    def create_app(self, url: str, config: Mapping[str, Any]) -> Flask:
        return foreign.create_app({"SQLALCHEMY_DATABASE_URI": url, **config})

    def seed(self) -> None:
        foreign.seed()

    def user_id(self, who: str) -> Any:
        return self.user(who).uid

    def request_id(self, number: int) -> Any:
        return uuid.uuid5(foreign.PATIENT_NAMESPACE, str(number))

    def new_request(self, who: str = "client") -> Any:
        visit = foreign.Visit(patient_uid=self.user_id(who))
        self.db.session.add(visit)
        self.db.session.commit()
        return visit.visit_no

    def disable(self, who: str) -> None:
        self.user(who).blocked = True
        self.db.session.commit()


PLAIN = (Host(), ForeignHost(), Host("memory"), Host("postgresql"), ForeignHost("postgresql"))
SEALED = (Host("postgresql", sealed=True), Host(sealed=True))
"""The second only where the command line asks for SQLite."""

HOSTS: dict[str, Host] = {host.name: host for host in (*PLAIN, *SEALED)}
EACH = sorted(host.name for host in PLAIN)
"""What ``bench`` is in turn."""

BOTH_WAYS = [*EACH, SEALED[0].name]
"""With a host that seals, for tests of what people write and read: nobody of them sees a difference."""

VARIED = ("foreign", "reference-postgresql")
"""Enough where a matrix asks about what comes in: between them both applications, databases and kinds of key."""


class Workbench:
    """One application of a host with its own database, and clients for its people.

    :param processes: how many applications there are on the same services, each with a state of its own, as in as many
        processes; what people do goes to them by turns. ``app`` and ``state`` are the first one's.
    """

    def __init__(
        self,
        host: Host,
        folder: Path,
        databases: Databases,
        config: Mapping[str, Any] | None = None,
        processes: int = 1,
    ) -> None:
        self.host = host
        self.folder = folder
        self.database = databases.take(host.database, host.application, folder, host.fill)
        self.url, self.path = self.database.url, self.database.path
        keys = {"CHAT_KEYSTORE_URL": f"file://{folder}/chat-keys"} if host.sealed else {}
        self._settings = {**TESTING, "CHAT_STORAGE_URL": f"file://{folder}/media", **keys, **(config or {})}
        self.apps = [self._start() for _ in range(processes)]
        self.app = self.apps[0]
        if host.database == "memory":
            host.create_schema(self.app)
        self.state = self.app.extensions["nursecare_chat"]
        self.chat = host.chat

    def _start(self) -> Flask:
        app = self.host.create_app(self.url, self._settings)
        app.instance_path = str(self.folder)
        return app

    def restart(self, number: int) -> None:
        """One of the processes ends and another one takes its place; who was logged in has to log in anew."""
        ended = self.apps[number]
        self.apps[number] = self._start()
        self.app, self.state = self.apps[0], self.apps[0].extensions["nursecare_chat"]
        self._dispose(ended)

    def login(self, who: str | None) -> Api:
        """A client of ``who``, logged in the way Flask-Login's session has it; ``None`` is nobody."""
        clients = [app.test_client() for app in self.apps]
        if who is not None:
            with self.app.app_context():
                user_id = str(self.host.user_id(who))
            for client in clients:
                with client.session_transaction() as session:
                    session.update(_user_id=user_id, _fresh=True)
        return Api(clients, self)

    def close(self) -> None:
        for app in self.apps:
            self._dispose(app)
        self.database.give_back()

    def _dispose(self, app: Flask) -> None:
        state = app.extensions["nursecare_chat"]
        state.hub._bell.set()  # who waits for the next poll sees that nobody is there, and ends
        if self.host.database == "postgresql":
            self._wait_for_threads(app, state)
        state.database.dispose()
        with app.app_context():
            self.host.db.session.remove()
            for engine in self.host.db.engines.values():
                engine.dispose()

    def _wait_for_threads(self, app: Flask, state: Any) -> None:
        """What comes back to a pool that was disposed of is never closed, and psycopg warns of that."""
        with app.app_context():
            pools: list[Any] = [engine.pool for engine in self.host.db.engines.values()]
        pools.append(state.database.engine.pool)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            # Its own hub's alone: those of other applications in this process are not its to wait for.
            if state.hub._crew is None and not any(pool.checkedout() for pool in pools):
                return
            time.sleep(0.02)


class Api:
    """What one person does over HTTP; every method gives Flask's response."""

    def __init__(self, clients: list[FlaskClient], bench: Workbench) -> None:
        self.client = clients[0]
        self.bench = bench
        self._turn = cycle(clients)

    def call(self, method: str, path: str, **options: Any) -> Any:
        return next(self._turn).open(path, method=method, **options)

    def open(self, number: int = 1, **options: Any) -> Any:
        return self.call("POST", f"/api/requests/{self.bench.host.request_id(number)}/chat/open", **options)

    def post(self, thread: int, body: Any, **options: Any) -> Any:
        if not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        options.setdefault("content_type", "application/json")
        return self.call("POST", f"/api/chat/threads/{thread}/messages", data=body, **options)

    def say(self, thread: int, text: str = "hello", **more: Any) -> Any:
        return self.post(thread, {"type": "text", "text": text, **more})

    def messages(self, thread: int, **query: Any) -> Any:
        return self.call("GET", f"/api/chat/threads/{thread}/messages", query_string=query)

    def thread(self, thread: int) -> Any:
        return self.call("GET", f"/api/chat/threads/{thread}")

    def close(self, thread: int, **options: Any) -> Any:
        return self.call("PATCH", f"/api/chat/threads/{thread}/close", **options)

    def follow(self, last_event_id: str | None = None, **options: Any) -> tuple[Parser, list[Event]]:
        """The stream of their inbox, which ends at once on a server without threads."""
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        response = self.call("GET", "/api/chat/stream", headers=headers, **options)
        assert response.status_code == 200
        return parse(response.data)

    def stream(self, thread: int, last_event_id: str | None = None, **options: Any) -> Any:
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        return self.call("GET", f"/api/chat/threads/{thread}/stream", headers=headers, **options)
