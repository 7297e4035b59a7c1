"""What every contender stands on: one PostgreSQL, one Redis, the reference host's tables with thousands of chats in
them, and the sessions of their people.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import session
from flask.sessions import SecureCookieSessionInterface
from flask_login import login_user
from itsdangerous import URLSafeTimedSerializer

from tests.support.databases import create, text
from tests.support.hosts import HOSTS
from tests.support.postgres import Server as Postgres
from tests.support.postgres import connect
from tests.support.redis import Server as Redis

from .visits import Seat

SECRET = "the same for all contenders"
CLIENTS, ADMINS = 900, 90
OTHERS = 1000
"""Ids of users begin behind it."""

SAID = 3
"""Messages that a thread has before anything begins."""

DATABASE = {"shared_buffers": "256MB", "autovacuum": "on"}

FILL = (
    """INSERT INTO users (id, email, name, password_hash, active, role_id)
       SELECT :others + n, 'user' || n || '@nursecare.test', 'User', '', true,
              (SELECT id FROM roles WHERE name = CASE WHEN n <= :admins THEN 'admin' ELSE 'client' END)
       FROM generate_series(1, :admins + :clients) AS n""",
    """INSERT INTO service_requests (id, client_id, title, details, visit_on)
       SELECT :others + n, :others + :admins + 1 + n % :clients, 'Visit', 'At home', DATE '2030-01-01'
       FROM generate_series(1, :threads) AS n""",
    """INSERT INTO chat_threads (id, request_id, admin_id, client_id, status, opened_at, last_seq)
       SELECT n, :others + n, :others + 1 + n % :admins, :others + :admins + 1 + n % :clients, 'open', now(), 0
       FROM generate_series(1, :threads) AS n""",
)
REFILL = (
    "TRUNCATE chat_messages RESTART IDENTITY",
    f"UPDATE chat_threads SET last_seq = {SAID}",
    f"""INSERT INTO chat_messages (thread_id, sender_id, type, text, created_at, seq)
        SELECT id, client_id, 'text', 'Earlier', now(), n FROM chat_threads, generate_series(1, {SAID}) AS n""",
    "VACUUM FULL ANALYZE",
)


class Stage:
    """Services and rows for ``threads`` chats of an admin and a client each."""

    def __init__(self, threads: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        (self.folder / "secret-key").write_text(SECRET)  # where the reference host looks for it
        self.redis = Redis()
        self.postgres = Postgres(**DATABASE)
        self.database = create(self.postgres.url)
        self._host = HOSTS["reference-postgresql"]
        self._host.fill(text(self.database))
        engine = sa.create_engine(self.database)
        with engine.begin() as connection:
            for statement in FILL:
                values = {"others": OTHERS, "admins": ADMINS, "clients": CLIENTS, "threads": threads}
                connection.execute(sa.text(statement), {k: v for k, v in values.items() if f":{k}" in statement})
        engine.dispose()
        self._admins = {thread: OTHERS + 1 + thread % ADMINS for thread in range(1, threads + 1)}
        self._clients = {thread: OTHERS + ADMINS + 1 + thread % CLIENTS for thread in range(1, threads + 1)}
        self._users = sorted({*self._admins.values(), *self._clients.values()})
        self._cookies: dict[str, dict[int, str]] = {}

    def refill(self) -> None:
        """As if no contender had been here."""
        with connect(self.database) as connection:
            for statement in REFILL:
                connection.execute(statement)
        self.redis.command("FLUSHALL")

    def url(self, driver: str) -> str:
        return text(self.database.set(drivername=f"postgresql+{driver}"))

    def seats(self, kind: str, streams: int) -> list[Seat]:
        """The people of the first threads, two to a thread; ``kind`` is whose sessions they have."""
        if kind not in self._cookies:
            self._cookies[kind] = {"flask": self._flask, "signed": self._signed, "none": self._none}[kind]()
        cookies = self._cookies[kind]
        return [
            Seat(thread, cookies[who[thread]])
            for thread in range(1, streams // 2 + 1)
            for who in (self._clients, self._admins)
        ]

    def _flask(self) -> dict[int, str]:
        """As Flask-Login leaves them after a login from here with the load's ``User-Agent``."""
        app = self._host.create_app(text(self.database), {"SECRET_KEY": SECRET, "TESTING": True})
        signer: Any = SecureCookieSessionInterface().get_signing_serializer(app)
        environment = {"REMOTE_ADDR": "127.0.0.1", "HTTP_USER_AGENT": "bench"}
        cookies = {}
        for user_id in self._users:
            with app.test_request_context(environ_base=environment):
                login_user(self._host.db.session.get(self._host.user_model, user_id))
                cookies[user_id] = f"session={signer.dumps(dict(session))}"
        with app.app_context():
            self._host.db.engine.dispose()
        return cookies

    def _signed(self) -> dict[int, str]:
        signer = URLSafeTimedSerializer(SECRET)
        return {user_id: f"session={signer.dumps({'user_id': user_id})}" for user_id in self._users}

    def _none(self) -> dict[int, str]:
        """Nobody asks for these."""
        return {user_id: f"user={user_id}" for user_id in self._users}

    def close(self) -> None:
        self.postgres.close()
        self.redis.close()


def pin() -> int:
    """Leave a core to the server that is measured, for this process and all that it starts; which one that is.

    :raises SystemExit: on a machine with one core.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("The comparison needs two cores: one for the server, one for everything else.")
    os.sched_setaffinity(0, cores[1:])
    return cores[0]
