"""SQLite as one file that greenlets, threads, processes and the host share (contract C7, C10, C41).

Whoever waits for a lock inside SQLite stops every greenlet of its process, and if one of those holds what is waited
for, nothing moves until SQLite gives up. So: statements that hold nothing wait outside, sleeping
(:func:`patiently`); between ``BEGIN IMMEDIATE`` and ``COMMIT`` nothing yields; and no read transaction stays open
while somebody else's code runs.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

LOCK_TIMEOUT = 5.0
"""Seconds to wait for another writer before giving up."""

SAVEPOINT = "nursecare_chat"


def in_memory(engine: Engine) -> bool:
    """Whether the database lives in the engine's only connection, and so cannot be opened a second time."""
    return engine.dialect.name == "sqlite" and engine.url.database in (None, "", ":memory:")


def own_engine(url: sa.URL, options: dict[str, Any]) -> Engine:
    """An engine of ours on a file, or on memory that has a name; the host's connections stay as they are."""
    foreign = ("autocommit", "isolation_level")
    connect_args = {key: value for key, value in options.get("connect_args", {}).items() if key not in foreign}
    connect_args |= {"timeout": 0, "check_same_thread": False}
    engine = sa.create_engine(url, **{**options, "connect_args": connect_args})
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "do_execute", _execute_patiently)
    return engine


def shared_engine(host: Engine, options: dict[str, Any]) -> Engine:
    """An engine of ours on the host's one connection. It ends no transaction by itself: that may be the host's."""
    checked_out = host.raw_connection()  # never returned: its pool would roll the host back
    options = {key: value for key, value in options.items() if key in ("hide_parameters", "logging_name")}
    engine = sa.create_engine(
        host.url,
        creator=lambda: checked_out.driver_connection,
        poolclass=sa.pool.StaticPool,
        pool_reset_on_return=None,
        **options,
    )
    dialect: Any = engine.dialect
    dialect.do_rollback = dialect.do_commit = lambda connection: None
    return engine


@contextmanager
def transaction(connection: Connection, deadline: float) -> Iterator[None]:
    """``BEGIN IMMEDIATE`` to ``COMMIT`` on an own engine. Nothing in the block may yield.

    :param deadline: on ``time.monotonic()``'s clock, for getting the lock.
    """
    connection.begin()
    driver = connection.connection.driver_connection
    assert driver is not None  # nosec B101 # says a type; whoever goes on without it fails in the next line
    if driver.in_transaction:  # a listener of the host's on every engine began one
        driver.rollback()
    patiently(lambda: driver.execute("BEGIN IMMEDIATE"), deadline)
    try:
        # What is held now may be what another greenlet waits for inside SQLite, on a connection of the host's. So
        # the commit waits for other processes' readers in there, too.
        driver.execute(f"PRAGMA busy_timeout = {int(LOCK_TIMEOUT * 1000)}")
        yield
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    finally:
        driver.execute("PRAGMA busy_timeout = 0")


@contextmanager
def shared_transaction(connection: Connection) -> Iterator[None]:
    """The same on a shared engine; inside a transaction of the host's, a savepoint, which is the host's to commit.

    The host's pool rolls the one connection back whenever it gets it returned. In another thread that may be in the
    middle of this; then the savepoint is gone, so nothing is half-written.
    """
    driver = connection.connection.driver_connection
    assert driver is not None  # nosec B101 # says a type; whoever goes on without it fails in the next line
    outermost = not driver.in_transaction
    if outermost:
        driver.execute("BEGIN IMMEDIATE")
    driver.execute(f"SAVEPOINT {SAVEPOINT}")
    try:
        yield
        driver.execute(f"RELEASE {SAVEPOINT}")
        if outermost:
            driver.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.OperationalError):  # rolled back already
            driver.execute("ROLLBACK" if outermost else f"ROLLBACK TO {SAVEPOINT}")
        raise


def truncate_log(connection: Connection) -> bool:
    """Empty the write-ahead log, where old pages stand; whether nobody was in the way."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    while connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def patiently(attempt: Callable[[], Any], deadline: float | None = None) -> Any:
    """Wait for a lock by sleeping here, where other greenlets get their turn.

    :raises sqlite3.OperationalError: what the last attempt raised, at ``deadline`` or after :data:`LOCK_TIMEOUT`.
    """
    if deadline is None:
        deadline = time.monotonic() + LOCK_TIMEOUT
    pause = 0.001
    while True:
        try:
            return attempt()
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not busy or time.monotonic() > deadline:
                raise
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def _prepare(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where transaction() says
    for pragma in ("foreign_keys = ON", "secure_delete = ON"):
        patiently(lambda pragma=pragma: connection.execute(f"PRAGMA {pragma}"))


def _execute_patiently(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    patiently(lambda: cursor.execute(statement, parameters))
    return True
