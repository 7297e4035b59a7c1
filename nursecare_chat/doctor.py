"""What is wrong with this installation, and what to do about it (contract C42); never a secret."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import redis
import sqlalchemy as sa

from .errors import ChatError
from .service.backlog import read_backlog
from .state import ChatState
from .storage import names

TIMEOUT = 5.0
"""Seconds in which every check must have answered; they run beside each other."""
REDIS = {"socket_timeout": 1, "socket_connect_timeout": 1, "retry": None}
CANARY_THREAD = 10**18 - 1
"""No thread of any database has this number."""


@dataclass(frozen=True)
class Finding:
    """``status`` is ok, warning or error; ``next`` is what to do about the latter two."""

    check: str
    status: str
    message: str
    next: str = ""


Check = Callable[[ChatState], Iterator[Finding]]


def database(chat: ChatState) -> Iterator[Finding]:
    with chat.database.read() as connection:
        connection.execute(sa.select(1))
    yield Finding("database", "ok", f"{chat.database.dialect} answers.")
    if chat.database.dialect == "postgresql" and not chat.config.keystore_url:
        yield Finding(
            "database", "warning", "PostgreSQL keeps erased rows in its heap, WAL and backups.",
            "Set CHAT_KEYSTORE_URL, and see that log_statement and log_min_duration_statement log no parameters.",
        )  # fmt: skip


def migrations(chat: ChatState) -> Iterator[Finding]:
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
        todo = "Run `flask chat install-migrations`, then `flask db upgrade`."
        yield Finding("migrations", "error", ", ".join(wrong) + ".", todo)
    else:
        yield Finding("migrations", "ok", "All tables are as this release has them.")


def transport(chat: ChatState) -> Iterator[Finding]:
    url = chat.config.transport_url
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


def queue(chat: ChatState) -> Iterator[Finding]:
    huey = chat.tasks.huey
    if huey.immediate:
        yield Finding(
            "queue", "warning", "Tasks run inside the web process.", "Set CHAT_QUEUE_URL and run `flask chat worker`."
        )
        return
    if chat.config.queue_url.startswith("redis"):
        with redis.Redis.from_url(chat.config.queue_url, **REDIS) as client:
            client.ping()
    else:
        chat.tasks.prepare()
    yield Finding("queue", "ok", f"The queue answers; {huey.pending_count()} task(s) wait.")
    seen = getattr(chat.tasks, "worker_seen_at", lambda: None)()
    if seen is None or time.time() - seen > 180:
        known = "No worker has been heard of" if seen is None else f"No worker for {time.time() - seen:.0f} s"
        yield Finding("worker", "warning", f"{known}.", "See that `flask chat worker` runs.")
    else:
        yield Finding("worker", "ok", "A worker is alive.")


def purges(chat: ChatState) -> Iterator[Finding]:
    backlog = read_backlog(chat.database, chat.models, with_stalled=True)
    for one in backlog.stalled:
        said = f"Thread {one.thread_id} is not erased after {one.attempts} attempts: {one.error}."
        yield Finding("purges", "error", said, f"Mend that, then run `flask chat purge --thread {one.thread_id}`.")
    if backlog.overdue:
        said = f"{backlog.overdue} purge(s) overdue, the oldest {backlog.oldest_unerased:.0f} s after its close."
        yield Finding("purges", "error", said, "Run `flask chat worker`, or `flask chat purge` here and now.")
    elif not backlog.stalled:
        yield Finding("purges", "ok", f"{backlog.due} due, none overdue.")


def storage(chat: ChatState) -> Iterator[Finding]:
    store: Any = chat.storage
    if hasattr(store, "canary"):
        store.canary()
    else:
        name = names.new_name(CANARY_THREAD, "image/png")
        try:
            store.write(name, b"canary")
            if store.read(name, 10) != b"canary" or name not in store.listing(names.prefix(CANARY_THREAD)):
                yield Finding("storage", "error", "What was put there is not found.", "Look at CHAT_STORAGE_URL.")
                return
        finally:
            store.delete_prefix(names.prefix(CANARY_THREAD))
    yield Finding("storage", "ok", "A canary was put, read, listed and deleted.")


def images(chat: ChatState) -> Iterator[Finding]:
    if chat.images.available:
        yield Finding("images", "ok", "Pillow is there.")
    else:
        said = "Photos keep what their cameras wrote in."
        yield Finding("images", "warning", said, "Install nursecare_chat[images].")


CHECKS: tuple[Check, ...] = (database, migrations, transport, queue, purges, storage, images)


def examine(chat: ChatState, context: Callable[[], Any], checks: tuple[Check, ...] = CHECKS) -> list[Finding]:
    """Every check's findings, in order; one that breaks or hangs is an error of its own.

    :param context: gives the application's context for a thread.
    """
    found: dict[str, list[Finding]] = {}

    def run(check: Check) -> None:
        name, findings = check.__name__, []
        try:
            with context():
                for finding in check(chat):
                    findings.append(finding)
        except ChatError as error:  # says kinds and codes only
            findings.append(Finding(name, "error", f"{error}.", "See that it runs and can be reached."))
        except Exception as error:  # its words may hold a password
            findings.append(Finding(name, "error", f"{type(error).__name__}.", "See that it runs and can be reached."))
        found[name] = findings

    threads = [threading.Thread(target=run, args=(check,), daemon=True) for check in checks]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + TIMEOUT
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = "No answer within 5 s."
    return [
        finding
        for check in checks
        for finding in found.get(check.__name__)
        or [Finding(check.__name__, "error", late, "See that it runs and can be reached.")]
    ]
