"""The database and its tables, Redis, the queue with its worker, purges, Pillow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import uuid4

import redis
import sqlalchemy as sa
from sqlalchemy import Connection

from ..errors import ConfigurationError, KeyStoreUnavailable
from ..install_migrations import missing_steps
from ..service.backlog import read_backlog
from .findings import Finding, Patient

REDIS = {"socket_timeout": 1, "socket_connect_timeout": 1, "retry": None}
LOGGING = ("log_statement", "log_min_duration_statement", "log_parameter_max_length", "log_error_verbosity")
SILENT = 90
"""Seconds after which a worker is taken for gone; it gives a sign of life every 20."""

INSTALL = "Run `flask chat install-migrations`, then `flask db upgrade`."


def database(patient: Patient) -> Iterator[Finding]:
    chat = patient.chat
    with chat.database.read() as connection:
        connection.execute(sa.select(1))
        logs = _logging(connection) if chat.database.dialect == "postgresql" else {}
    yield Finding("database", "ok", f"{chat.database.dialect} answers.")
    if chat.database.dialect == "sqlite" and patient.in_production:
        said = "SQLite takes one writer at a time, on one machine."
        yield Finding("database", "warning", said, "Use PostgreSQL in production.")
    if not logs:
        return
    yield Finding(
        "database", "warning", "PostgreSQL keeps erased rows in its heap, WAL and backups for a while.",
        "Encrypt its disks, and let archived WAL and backups expire.",
    )  # fmt: skip
    if logs["log_error_verbosity"] != "terse":
        yield Finding(
            "database", "warning", "PostgreSQL's log quotes rows in the DETAIL of statements that fail.",
            "Set log_error_verbosity = terse there, and keep its log as private as the chat.",
        )  # fmt: skip
    logged = logs["log_statement"] in ("mod", "all") or logs["log_min_duration_statement"] not in ("-1", None)
    if logged and logs["log_parameter_max_length"] not in ("0", "0B"):
        shown = ", ".join(f"{name} = {value}" for name, value in logs.items() if value is not None)
        said = f"PostgreSQL's log gets statements with their parameters, which are what people wrote: {shown}."
        todo = "Set log_parameter_max_length = 0, or log_statement = none and log_min_duration_statement = -1."
        yield Finding("database", "warning", said, todo)


def _logging(connection: Connection) -> dict[str, str | None]:
    """As SHOW has it; ``None`` for what an old server does not know."""
    show = sa.select(*(sa.func.current_setting(name, True).label(name) for name in LOGGING))
    return dict(connection.execute(show).one()._mapping)


def migrations(patient: Patient) -> Iterator[Finding]:
    yield from _tables(patient)
    try:
        missing = missing_steps(patient.app)
    except ConfigurationError as error:
        yield Finding("migrations", "warning", error.message, "Or see yourself that the tables keep up with releases.")
        return
    if missing:
        said = f"The migrations folder lacks {', '.join(missing)}."
        yield Finding("migrations", "error", said, INSTALL)


def _tables(patient: Patient) -> Iterator[Finding]:
    chat = patient.chat
    models, wrong = chat.models, []
    with chat.database.read() as connection:
        inspector = sa.inspect(connection)
        for table in (models.threads, models.messages, models.uploads, models.purges):
            if not inspector.has_table(table.name, table.schema):
                wrong.append(f"{table.name} is missing")
                continue
            there = {column["name"] for column in inspector.get_columns(table.name, table.schema)}
            wrong += [f"{table.name}.{name} differs" for name in sorted(there ^ set(table.columns.keys()))]
    if wrong:
        yield Finding("migrations", "error", ", ".join(wrong) + ".", INSTALL)
    else:
        yield Finding("migrations", "ok", "All tables are as this release has them.")


def transport(patient: Patient) -> Iterator[Finding]:
    url = patient.chat.config.transport_url
    if url.startswith("memory:"):
        yield Finding(
            "transport", "warning", "Processes do not hear of each other's messages but by polling.",
            "Set CHAT_TRANSPORT_URL to redis://… in production.",
        )  # fmt: skip
        return
    with redis.Redis.from_url(url, **REDIS) as client, client.pubsub(ignore_subscribe_messages=True) as listener:
        channel, word = f"nursecare-chat-doctor.{uuid4().hex}", uuid4().hex
        listener.subscribe(channel)
        client.publish(channel, word)
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            message = listener.get_message(timeout=0.2)
            if message and message["data"] == word.encode():
                yield Finding("transport", "ok", "What is published to Redis arrives.")
                return
    yield Finding("transport", "error", "What is published to Redis does not arrive.", "Look at Redis and its ACLs.")


def queue(patient: Patient) -> Iterator[Finding]:
    tasks = patient.chat.tasks
    waiting = tasks.pending()
    if waiting is None:
        yield Finding(
            "queue", "warning", "Tasks run inside the web process.", "Set CHAT_QUEUE_URL and run `flask chat worker`."
        )
        return
    seen = tasks.worker_seen_at()
    yield Finding("queue", "ok", f"The queue answers; {waiting} task(s) wait.")
    silence = None if seen is None else time.time() - seen
    if silence is None or silence > SILENT:
        said = "No worker has been heard of" if silence is None else f"No worker has been heard of for {silence:.0f} s"
        yield Finding("worker", "warning", f"{said}.", "See that `flask chat worker`, or the host's consumer, runs.")
    else:
        yield Finding("worker", "ok", "A worker is alive.")


def purges(patient: Patient) -> Iterator[Finding]:
    backlog = read_backlog(patient.chat.database, patient.chat.models, with_stalled=True)
    for one in backlog.stalled:
        said = f"Thread {one.thread_id} is not erased after {one.attempts} attempts: {one.error}."
        yield Finding("purges", "error", said, f"Mend that, then run `flask chat purge --thread {one.thread_id}`.")
    if backlog.overdue:
        said = f"{backlog.overdue} purge(s) overdue, the oldest {backlog.oldest_unerased:.0f} s after its close."
        yield Finding("purges", "error", said, "Run `flask chat worker`, or `flask chat purge` here and now.")
    elif not backlog.stalled:
        yield Finding("purges", "ok", f"{backlog.due} due, none overdue.")


def keystore(patient: Patient) -> Iterator[Finding]:
    sealing, dialect = patient.chat.sealing, patient.chat.database.dialect
    if sealing.store is None:
        if dialect != "sqlite":
            yield Finding(
                "keystore", "warning", "Receipts say `unknown`: the database's files keep erased text for a while.",
                "Set CHAT_KEYSTORE_URL to a folder outside the database and its backups.",
            )  # fmt: skip
        return
    try:
        sealing.canary()
    except KeyStoreUnavailable as error:
        yield Finding("keystore", "error", f"{error}.", "See that the folder of CHAT_KEYSTORE_URL is mounted and ours.")
        return
    yield Finding("keystore", "ok", "A key was made, read and destroyed.")


def receipts(patient: Patient) -> Iterator[Finding]:
    try:
        patient.chat.receipts.prepare()
    except ConfigurationError as error:
        yield Finding("receipts", "error", error.message, "Without it no purge settles.")
        return
    yield Finding("receipts", "ok", "There is a key to sign them with.")


def images(patient: Patient) -> Iterator[Finding]:
    if patient.chat.images.available:
        yield Finding("images", "ok", "Pillow is there.")
    else:
        said = "Photos keep what their cameras wrote in."
        yield Finding("images", "warning", said, "Install nursecare_chat[images].")
