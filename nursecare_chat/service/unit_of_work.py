"""Reading and writing the host's database on connections of our own (contract C7, C10, C41)."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, Row
from sqlalchemy.orm import Session

from .. import fork
from ..errors import DatabaseConflict, DatabaseError, DatabaseUnavailable
from ..models import TABLES
from . import postgres, sqlite
from .fair_pool import FairPool
from .prepared import Prepared

log = logging.getLogger(__name__)

POOL = {"poolclass": FairPool, "pool_size": 10, "max_overflow": 0, "pool_timeout": 10}
"""Connections of our own per process (C10): count processes × (the host's pool + these)."""

NO_TABLES = "the chat's tables are missing; run `flask chat install-migrations`, then `flask db upgrade`"

UNREACHABLE = (
    sa.exc.OperationalError,
    sa.exc.InterfaceError,
    sa.exc.TimeoutError,
    sqlite3.OperationalError,
)
"""What a database that is away or too busy raises, through SQLAlchemy or from SQLite itself."""


class UnitOfWork:
    """One write transaction. What must happen only if it stands goes to :meth:`after_commit`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._after_commit: list[Callable[[], None]] = []

    def after_commit(self, *callbacks: Callable[[], None]) -> None:
        """Run each once the transaction is durable; a failing one is logged, never raised."""
        self._after_commit += callbacks

    def committed(self) -> None:
        follow_up(*self._after_commit)


def follow_up(*callbacks: Callable[[], None]) -> None:
    """Run each; what was committed stands, whatever a doorbell or a queue says, so a failing one is only logged."""
    for callback in callbacks:
        try:
            callback()
        except Exception as error:
            log.warning("chat follow-up failed", extra={"chat": True, "error": type(error).__name__})


class Database:
    """The host's database, through an engine and a bounded pool of our own.

    An in-memory SQLite exists in one connection only, so there the host's is shared.

    :param host_engine: gives the host's engine; called at the first use, never at ``init_app`` (C1).
    :param engine_options: the host's ``SQLALCHEMY_ENGINE_OPTIONS``; what says how to connect is taken over.
    """

    def __init__(self, host_engine: Callable[[], Engine], engine_options: dict[str, Any]) -> None:
        self._host_engine = host_engine
        self._engine_options = engine_options
        self._setup = threading.Lock()
        self._turn = threading.RLock()
        """One writer of this process at a time; on a shared connection one user of it at all."""
        self._engine: Engine | None = None
        self._shared: Engine | None = None
        self._shared_pool: sa.Pool | None = None
        self._pipelined: dict[Prepared, Any] = {}
        fork.register(self)

    @property
    def engine(self) -> Engine:
        """Made at the first use."""
        stale = self._shared is not None and self._shared.pool is not self._shared_pool  # the host disposed of it
        if self._engine is None or stale:
            with self._setup:
                if self._engine is None or stale:
                    self._engine = self._make_engine(self._host_engine())
        return self._engine

    @property
    def dialect(self) -> str:
        return self.engine.dialect.name

    def after_fork(self) -> None:
        """The child makes connections of its own; the parent's stay open for the parent."""
        self._setup, self._turn = threading.Lock(), threading.RLock()
        if self._engine is not None and self._shared is None:
            self._engine.dispose(close=False)

    def _make_engine(self, host: Engine) -> Engine:
        # Statements are logged under a name of ours, without parameters and, whatever its level, without rows (C41).
        options: dict[str, Any] = {"hide_parameters": True, "logging_name": "nursecare_chat", **POOL}
        taken_over = ("connect_args", "creator", "module", "execution_options")
        options |= {key: self._engine_options[key] for key in taken_over if key in self._engine_options}
        if sqlite.in_memory(host):
            self._shared, self._shared_pool = host, host.pool
            engine = sqlite.shared_engine(host, options)
        elif host.dialect.name == "sqlite":
            engine = sqlite.own_engine(host.url, options)
        else:
            engine = postgres.own_engine(host, options)
        engine.logger.setLevel(logging.WARNING)
        engine.logger.addFilter(_no_rows)
        return engine

    def dispose(self) -> None:
        """Close the pool's connections; the next use opens new ones."""
        if self._engine is not None and self._shared is None:
            self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for a few reads; nothing stays pinned afterwards.

        On SQLite each statement sees its own snapshot: a read transaction would keep writers from committing.

        :raises DatabaseError: never with a statement's parameters.
        """
        engine = self.engine
        with translated(), self._turn if self._shared else nullcontext(), engine.connect() as connection:
            postgres.limit(connection)  # a statement that is only given up here waits on in the server
            yield connection

    def find(self, prepared: Prepared, **values: Any) -> Row[Any] | None:
        """The row that a prepared SELECT gives, if it gives one.

        :raises DatabaseError: never with a statement's parameters.
        """
        if self.pipelines:
            return self.do(prepared, **values)
        with self.read() as connection:
            return connection.execute(prepared.clause, values).one_or_none()

    @property
    def pipelines(self) -> bool:
        """Whether there is :meth:`do`."""
        return postgres.pipelines(self.engine)

    def do(self, prepared: Prepared, **values: Any) -> Row[Any] | None:
        """A transaction of this statement alone, in one round trip; its row, if it gives one. Only on PostgreSQL.

        :raises DatabaseError: as :meth:`write`.
        """
        from .pipeline import Pipelined

        engine, pipelined = self.engine, self._pipelined.get(prepared)
        with translated():
            if pipelined is None or pipelined.engine is not engine:
                pipelined = self._pipelined[prepared] = Pipelined(prepared, engine)
            row: Row[Any] | None = pipelined.one_or_none(values)
        return row

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session of our own to read the host's objects; never the host's ``db.session`` (C10)."""
        with self.read() as connection, Session(connection, autoflush=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[UnitOfWork]:
        """One transaction, committed at the end of the block.

        On SQLite inside the block nothing may yield: no network, no logging, no other connection.

        :raises DatabaseUnavailable: if another writer holds it for more than :data:`sqlite.LOCK_TIMEOUT` seconds, on
            PostgreSQL a row for more than :data:`postgres.LOCK_TIMEOUT`, or if the server does not answer.
        :raises DatabaseError: never with a statement's parameters.
        """
        if self.engine.dialect.name == "sqlite":
            unit = yield from self._write_sqlite()
        else:
            with translated(), self.engine.begin() as connection:
                postgres.limit(connection)
                unit = UnitOfWork(connection)
                yield unit
        unit.committed()

    def _write_sqlite(self) -> Generator[UnitOfWork, None, UnitOfWork]:
        """Waits for its turn before it takes a connection, so that readers always find one."""
        deadline = time.monotonic() + sqlite.LOCK_TIMEOUT
        if not self._turn.acquire(timeout=sqlite.LOCK_TIMEOUT):
            raise DatabaseUnavailable("Turn", "SQLITE_BUSY")
        try:
            with translated(), self.engine.connect() as connection:
                shared = sqlite.shared_transaction(connection)
                with shared if self._shared else sqlite.transaction(connection, deadline):
                    unit = UnitOfWork(connection)
                    yield unit
        finally:
            self._turn.release()
        return unit

    def erase_free_space(self) -> None:
        """Make what was deleted physically gone where that is ours to do: SQLite's write-ahead log (C41).

        :raises DatabaseUnavailable: if a reader holds the log; the purge tries again.
        """
        if self.engine.dialect.name != "sqlite" or self._shared:
            return
        with translated(), self._turn, self.engine.connect() as connection:
            if not sqlite.truncate_log(connection):
                raise DatabaseUnavailable("Checkpoint", "SQLITE_BUSY")


def _no_rows(record: logging.LogRecord) -> bool:
    """SQLAlchemy logs statements at INFO, and what they returned at DEBUG."""
    return record.levelno > logging.DEBUG


@contextmanager
def translated() -> Iterator[None]:
    """The database's errors without the driver's words.

    :raises DatabaseError: in their place, and without them as its context: loggers print that.
    """
    failure = None
    try:
        yield
    except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
        failure = translate(error)
    if failure is not None:
        try:
            raise failure
        finally:
            failure.__context__ = None  # set by raising it while the original is still being handled further up


def is_unreachable(error: Exception) -> bool:
    """Whether the error, of somebody else's statement too, says that the database is away or too busy.

    SQLite has one class for that and for a statement that is wrong; the code tells them apart.
    """
    original = getattr(error, "orig", None) or error
    if getattr(original, "sqlstate", None) in postgres.PASSING:
        return True
    return isinstance(error, UNREACHABLE) and getattr(original, "sqlite_errorname", None) != "SQLITE_ERROR"


def translate(error: Exception) -> DatabaseError:
    """The same failure with its class and SQLSTATE only (C41)."""
    original = getattr(error, "orig", None) or error
    kind = type(error).__name__
    state = (
        getattr(original, "sqlstate", None)
        or getattr(original, "pgcode", None)
        or getattr(original, "sqlite_errorname", None)
    )
    # PostgreSQL says the name in the words of its language, with the schema; SQLite has one code for many things.
    said = str(original).partition("\n")[0]
    missing = state == "42P01" or (state == "SQLITE_ERROR" and said.startswith("no such table"))
    if missing and any(table in said for table in TABLES):
        return DatabaseUnavailable(kind, state, NO_TABLES)
    if isinstance(error, (sa.exc.IntegrityError, sqlite3.IntegrityError)):
        return DatabaseConflict(kind, state)
    if isinstance(error, UNREACHABLE) or state in postgres.PASSING:
        return DatabaseUnavailable(kind, state)
    return DatabaseError(kind, state)
