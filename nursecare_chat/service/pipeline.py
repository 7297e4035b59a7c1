"""A statement together with its transaction and its limits, in one round trip (contract C10).

``BEGIN``, the limits, the statement and ``COMMIT`` are sent as one pipeline (PostgreSQL's manual, "Pipeline Mode"): the
server does one after the other, and after an error none of those that follow. Through SQLAlchemy each of them is a
round trip of its own, with greenlets changing places, and that is most of what a post costs.

Nothing stays with the session but prepared statements, and not those where the host says ``prepare_threshold=None``,
as it must behind a pooler that does not carry them.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Generator
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.waiting import Ready, Wait
from sqlalchemy import Engine, Row

from . import postgres
from .prepared import Prepared

BEGIN, COMMIT = b"BEGIN ISOLATION LEVEL READ COMMITTED", b"COMMIT"
LIMITS = b"SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', $2, true)"
LIMITS_NAME = b"nursecare_chat_limits"

INFO = "nursecare_chat_prepared"
"""Where a pooled connection keeps the names of what it has prepared."""

Result = Any
"""psycopg's ``PGresult``."""


class Pipelined:
    """One :class:`Prepared` as this engine sends it."""

    def __init__(self, prepared: Prepared, engine: Engine) -> None:
        self.engine = engine
        dialect: Any = type(engine.dialect)(paramstyle="numeric_dollar")
        compiled: Any = prepared.clause.compile(dialect=dialect)
        self._dialect = dialect
        self._name = f"nursecare_chat_{prepared.name}".encode()
        self._text = compiled.string.encode()
        self._constants = compiled.params
        self._binds = [(name, _bind_processor(compiled.binds[name], dialect)) for name in compiled.positiontup]
        self._columns = prepared.columns
        self._row_type = namedtuple("Row", [column.name for column in self._columns])
        self._load: list[Callable[[Any], Any] | None] | None = None

    def one_or_none(self, values: dict[str, Any]) -> Row[Any] | None:
        """The row; what it did is committed.

        :raises sqlalchemy.exc.SQLAlchemyError: as SQLAlchemy itself does.
        """
        try:
            try:
                return self._attempt(values)
            except psycopg.Error as error:
                if not _undone(error):
                    raise
                return self._attempt(values)
        except psycopg.Error as error:
            raise sa.exc.DBAPIError.instance(
                None, None, error, psycopg.Error, hide_parameters=True, dialect=self.engine.dialect
            ) from None

    def _attempt(self, values: dict[str, Any]) -> Row[Any] | None:
        pooled = self.engine.raw_connection()
        try:
            connection: Any = pooled.driver_connection
            return self._row(connection, self._exchange(connection, pooled.info, values))
        except BaseException as error:
            if _undone(error) or connection.closed or connection.pgconn.pipeline_status:
                pooled.invalidate()
            raise
        finally:
            pooled.close()

    def _exchange(self, connection: Any, info: dict[str, Any], values: dict[str, Any]) -> Result:
        """The statement's own result."""
        given = self._constants | values
        processed = [given[name] if process is None else process(given[name]) for name, process in self._binds]
        parameters = Transformer(connection).dump_sequence(processed, [PyFormat.TEXT] * len(processed))
        limits = [str(int(seconds * 1000)).encode() for seconds in (postgres.LOCK_TIMEOUT, postgres.STATEMENT_TIMEOUT)]
        known: set[bytes] | None = info.setdefault(INFO, set()) if postgres.may_prepare(connection) else None
        prepared: list[tuple[int, bytes]] = []
        pgconn = connection.pgconn

        def send() -> None:
            # Whatever may wait for a lock, preparing too, comes behind the limits.
            pgconn.send_query_params(BEGIN, None)
            for number, (name, text, given) in enumerate(
                ((LIMITS_NAME, LIMITS, limits), (self._name, self._text, parameters))
            ):
                if known is None:
                    pgconn.send_query_params(text, given)
                    continue
                if name not in known:
                    pgconn.send_prepare(name, text)
                    prepared.append((1 + number + len(prepared), name))
                pgconn.send_query_prepared(name, given)
            pgconn.send_query_params(COMMIT, None)

        results: list[Result] = []
        try:
            connection.wait(_steps(pgconn, send, results))
        except psycopg.OperationalError:
            _check(results)  # what the server said before it hung up says more
            raise
        finally:
            for place, name in prepared:
                if place < len(results) and results[place].status == pq.ExecStatus.COMMAND_OK:
                    known.add(name)
        _check(results)
        return results[-2]

    def _row(self, connection: Any, result: Result) -> Row[Any] | None:
        if not result.ntuples:
            return None
        if self._load is None:
            self._load = [
                column.type.dialect_impl(self._dialect).result_processor(self._dialect, result.ftype(index))
                for index, column in enumerate(self._columns)
            ]
        adapt = Transformer(connection)
        adapt.set_pgresult(result)
        found = adapt.load_row(0, tuple)
        made = (value if process is None else process(value) for value, process in zip(found, self._load, strict=True))
        row: Any = self._row_type._make(made)
        return row


def _bind_processor(bind: Any, dialect: Any) -> Callable[[Any], Any] | None:
    process: Callable[[Any], Any] | None = bind.type.dialect_impl(dialect).bind_processor(dialect)
    return process


def _steps(pgconn: Any, send: Callable[[], None], results: list[Result]) -> Generator[Any, Any, None]:
    """For ``Connection.wait()``, which bounds it; ``results`` has what came, however this ends."""
    pgconn.enter_pipeline_mode()
    send()
    pgconn.pipeline_sync()
    while pgconn.flush():
        if (yield Wait.RW) & Ready.R:
            pgconn.consume_input()
    while True:
        while pgconn.is_busy():
            if (yield Wait.R):
                pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:  # between the results of two commands
            if pgconn.status == pq.ConnStatus.BAD:
                raise psycopg.OperationalError("cut off")
            continue
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            break
        results.append(result)
    pgconn.exit_pipeline_mode()


def _check(results: list[Result]) -> None:
    """
    :raises psycopg.Error: the first of them that is one.
    """
    for number, result in enumerate(results):
        if result.status == pq.ExecStatus.FATAL_ERROR:
            error: Any = psycopg.errors.error_from_result(result)
            error.first = number == 0
            raise error


def _undone(error: BaseException) -> bool:
    """Whether the connection alone is at fault and surely nothing came of what was sent: the server ended it before the
    first command, or what it had prepared is gone, or not valid since a table was changed.
    """
    if isinstance(error, psycopg.errors.AdminShutdown):
        return bool(getattr(error, "first", False))
    return isinstance(error, (psycopg.errors.InvalidSqlStatementName, psycopg.errors.FeatureNotSupported))
