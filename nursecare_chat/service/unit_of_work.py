"""Reading and writing the host's database on connections of our own (contract C7, C10, C41)."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from ..errors import ChatError, ConfigurationError, DatabaseConflict, DatabaseError, DatabaseUnavailable
from ..models import TABLES

log = logging.getLogger(__name__)

POOL = {"pool_size": 5, "max_overflow": 5, "pool_timeout": 10}
"""Connections of our own per process (C10): count processes × (the host's pool + these)."""

LOCK_TIMEOUT = 5.0
"""Seconds a statement waits for another writer of a SQLite file before it is a 503."""

NO_TABLES = "the chat's tables are missing; run `flask chat install-migrations`, then `flask db upgrade`"


class UnitOfWork:
    """One write transaction. What must happen only if it stands goes to :meth:`after_commit`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._after_commit: list[Callable[[], None]] = []

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` once the transaction is durable; a failing one is logged, never raised."""
        self._after_commit.append(callback)

    def committed(self) -> None:
        for callback in self._after_commit:
            try:
                callback()
            except Exception as error:  # the message stands, whatever a doorbell or a queue says
                log.warning("chat follow-up failed", extra={"chat": True, "error": type(error).__name__})


class Database:
    """The host's database, through an engine and a bounded pool of our own.

    An in-memory SQLite exists in one connection only, so there the host's engine is shared.

    :param host_engine: gives the host's engine; called at the first use, never at ``init_app`` (C1).
    :param engine_options: the host's ``SQLALCHEMY_ENGINE_OPTIONS``; what says how to connect is taken over.
    """

    def __init__(self, host_engine: Callable[[], Engine], engine_options: dict[str, Any]) -> None:
        self._host_engine = host_engine
        self._engine_options = engine_options
        self._setup = threading.Lock()
        self._engine: Engine | None = None
        self._pid = 0
        self._writing = threading.RLock()
        self._shared_engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        if self._engine is None or self._pid != os.getpid():
            with self._setup:
                if self._engine is None:
                    self._engine = self._make_engine(self._host_engine())
                elif self._pid != os.getpid():  # forked: the parent keeps the sockets
                    self._engine.dispose(close=False)
                self._pid = os.getpid()
        return self._engine

    def _make_engine(self, host: Engine) -> Engine:
        if host.dialect.name == "sqlite" and isinstance(host.pool, (sa.pool.StaticPool, sa.pool.SingletonThreadPool)):
            self._shared_engine = host
            return host
        options = {
            key: self._engine_options[key]
            for key in ("connect_args", "creator", "module", "execution_options")
            if key in self._engine_options
        }
        if host.dialect.name == "sqlite":
            # Waiting for a lock inside SQLite would stop every greenlet of the process: see patiently().
            options["connect_args"] = {**options.get("connect_args", {}), "timeout": 0}
        else:
            options["pool_pre_ping"] = True
        # Statements are logged under a name of ours, without parameters and never with rows: C41.
        engine = sa.create_engine(host.url, hide_parameters=True, logging_name="nursecare_chat", **POOL, **options)
        engine.logger.setLevel(logging.WARNING)
        if host.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _prepare_sqlite)
            sa.event.listen(engine, "do_execute", _execute_patiently)
        return engine

    def _shares_connection(self) -> bool:
        return self.engine is self._shared_engine

    @property
    def _is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def dispose(self) -> None:
        """Close the pool's connections; the next use opens new ones."""
        if self._engine is not None and not self._shares_connection():
            self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for a few reads; nothing stays pinned afterwards.

        On SQLite each statement sees its own snapshot: a read transaction would keep writers from committing while,
        say, a policy waits for something else that waits for them.

        :raises DatabaseError: never with a statement's parameters.
        """
        with self._translated(), self._guard(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session of our own to read the host's objects; never the host's ``db.session`` (C10)."""
        with self.read() as connection, Session(connection, autoflush=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[UnitOfWork]:
        """One transaction, committed at the end of the block.

        On SQLite it is ``BEGIN IMMEDIATE`` behind one lock for the process, taken after the connection: inside the
        block nothing may yield (no network, no logging), or greenlets would meet in SQLite's own lock.

        :raises DatabaseError: never with a statement's parameters.
        """
        with self._translated(), self.engine.connect() as connection:
            unit = UnitOfWork(connection)
            if self._is_sqlite:
                with self._writing, self._sqlite_transaction(connection):
                    yield unit
            else:
                with connection.begin():
                    yield unit
        unit.committed()

    @contextmanager
    def _sqlite_transaction(self, connection: Connection) -> Iterator[None]:
        if self._shares_connection() and connection.connection.driver_connection.in_transaction:
            # The only connection there is carries a transaction of the host's, which is not ours to commit.
            with connection.begin_nested():
                yield
            return
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            # From here on the process holds locks that its other greenlets may run into, inside SQLite and on the
            # host's connections, so it must not yield: COMMIT waits for other processes' readers inside SQLite too.
            self._wait_inside_sqlite(connection, LOCK_TIMEOUT)
            yield
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        finally:
            self._wait_inside_sqlite(connection, 0)

    def _wait_inside_sqlite(self, connection: Connection, seconds: float) -> None:
        if not self._shares_connection():
            driver_connection = connection.connection.driver_connection
            driver_connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}").close()

    def erase_free_space(self) -> None:
        """Make what was deleted physically gone where that is ours to do: SQLite's write-ahead log (C41).

        :raises DatabaseUnavailable: if a reader holds the log; the purge tries again.
        """
        if not self._is_sqlite or self._shares_connection():
            return
        with self._translated(), self._writing, self.engine.connect() as connection:

            def truncate() -> None:
                if connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]:
                    raise DatabaseUnavailable("Checkpoint", "SQLITE_BUSY")

            patiently(truncate)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """On a shared connection readers wait for the writer too: returning it to its pool rolls back."""
        with self._writing if self._shares_connection() else nullcontext():
            yield

    @contextmanager
    def _translated(self) -> Iterator[None]:
        failure = None
        try:
            yield
        except (ChatError, ConfigurationError):
            raise
        except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
            failure = translate(error)
        if failure is not None:  # raised out here, so that the driver's message is not even its context
            raise failure


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where write() says
    for pragma in ("foreign_keys = ON", "secure_delete = ON"):
        patiently(lambda pragma=pragma: connection.execute(f"PRAGMA {pragma}").close())


def _execute_patiently(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    patiently(lambda: cursor.execute(statement, parameters))
    return True


def patiently(attempt: Callable[[], Any]) -> Any:
    """Wait for SQLite's lock by sleeping here, where other greenlets get their turn, instead of inside SQLite.

    :raises Exception: what the last attempt raised, after :data:`LOCK_TIMEOUT`.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT
    pause = 0.001
    while True:
        try:
            return attempt()
        except (sqlite3.OperationalError, DatabaseUnavailable) as error:
            if not _is_busy(error) or time.monotonic() > deadline:
                raise
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def _is_busy(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    busy = code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return busy or getattr(error, "sqlstate", None) == "SQLITE_BUSY"


def translate(error: Exception) -> DatabaseError:
    """The same failure without the driver's words (C41)."""
    original = getattr(error, "orig", None) or error
    kind = type(error).__name__
    state = (
        getattr(original, "sqlstate", None)
        or getattr(original, "pgcode", None)
        or getattr(original, "sqlite_errorname", None)
    )
    missing = state in ("42P01", "SQLITE_ERROR") and any(
        marker in str(original) for marker in (f"no such table: {TABLES[0][:5]}", f'relation "{TABLES[0][:5]}')
    )
    if missing:
        return DatabaseUnavailable(kind, state, NO_TABLES)
    if isinstance(error, (sa.exc.IntegrityError, sqlite3.IntegrityError)):
        return DatabaseConflict(kind, state)
    if isinstance(
        error, (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError, sqlite3.OperationalError)
    ):
        return DatabaseUnavailable(kind, state)
    return DatabaseError(kind, state)
