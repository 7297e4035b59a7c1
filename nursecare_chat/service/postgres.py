"""A database across a network, which may stop answering in the middle of a statement (contract C10, C13).

Nothing here is set for a session: behind a pooler the next transaction on the connection is somebody else's.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import sys
import termios
import time
from collections.abc import Callable, Generator, Mapping
from functools import cache, partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from ..errors import ConfigurationError
from . import gevent_wait
from .gevent_wait import Waiter

LOCK_TIMEOUT = 5.0
"""Seconds to wait for a row that another transaction holds."""

STATEMENT_TIMEOUT = 10.0
"""Seconds for one statement of a write, by the server's clock; it gives up the row locks then."""

ANSWER_TIMEOUT = 12.0
"""Seconds for the server to answer any statement, reads and commits too; then the connection is given up."""

FRESH = 5.0
"""Seconds for which a connection that is silent counts as alive: a server or pooler that ends one says so at once."""

PASSING = frozenset({"25006", "25P03"})
"""SQLSTATEs that are no connection's end but pass all the same: read-only during a failover, idle for too long."""

LIBPQ = ("psycopg", "psycopg2", "psycopg2cffi")

NETWORK = {
    "connect_timeout": 3,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""Seconds, and milliseconds for the last: a machine that is gone is noticed. libpq's own defaults are two hours."""


def require_driver(config: Mapping[str, Any]) -> None:
    """
    :param config: the host's.
    :raises ConfigurationError: if its database's address is for psycopg, which is not installed. All else is the host's
        own to tell.
    """
    try:
        url = sa.make_url(config.get("SQLALCHEMY_DATABASE_URI") or "sqlite://")
        wanted = url.get_backend_name() == "postgresql" and url.get_dialect().driver == "psycopg"
    except (sa.exc.ArgumentError, ValueError):
        return
    given = "module" in config.get("SQLALCHEMY_ENGINE_OPTIONS", {})
    if wanted and not given and importlib.util.find_spec("psycopg") is None:
        raise ConfigurationError(
            f"SQLALCHEMY_DATABASE_URI is {url.drivername}://…, and psycopg is missing:"
            " pip install 'nursecare-chat[postgres]'"
        )


def own_engine(host: Engine, options: dict[str, Any]) -> Engine:
    """An engine of ours. What the host says in its URL, its ``connect_args`` or the environment has the last word, and
    so have its listeners that log in with a token or choose a schema.
    """
    url = host.url
    # Whatever the host or its database have as a default: what is read after a lock was waited for must be what
    # stands then, and a transaction must be one (C10).
    kept = {k: v for k, v in options.get("execution_options", {}).items() if k != "isolation_level"}
    options = {**options, "execution_options": kept, "isolation_level": "READ COMMITTED", "pool_pre_ping": True}
    dialect = url.get_dialect()
    if url.get_backend_name() == "postgresql" and dialect.driver in LIBPQ and "creator" not in options:
        said = {*url.query, *(("connect_timeout",) if "PGCONNECT_TIMEOUT" in os.environ else ())}
        defaults = {key: value for key, value in NETWORK.items() if key not in said}
        options["connect_args"] = {**defaults, **options.get("connect_args", {})}
    engine = sa.create_engine(url, **options)
    for target, name in ((host.dialect, "do_connect"), (host.pool, "connect")):
        for listener in getattr(target.dispatch, name):
            if not (getattr(listener, "__module__", None) or "").startswith("sqlalchemy."):
                sa.event.listen(engine, name, listener)
    if _is_psycopg(engine):
        sa.event.listen(engine, "do_connect", _connect)
        dialect: Any = engine.dialect
        dialect.do_ping = partial(_ping, dialect.do_ping)
        dialect.do_rollback = partial(_roll_back, dialect.do_rollback)
    return engine


def _is_psycopg(engine: Engine) -> bool:
    return (engine.dialect.name, engine.dialect.driver) == ("postgresql", "psycopg")


def pipelines(engine: Engine) -> bool:
    """Whether this engine's statements may go by :mod:`.pipeline`: SQLAlchemy alone knows schemas under other names."""
    return _is_psycopg(engine) and "schema_translate_map" not in engine.get_execution_options()


def limit(connection: Connection) -> None:
    """Bound what the transaction waits for."""
    if connection.dialect.name == "postgresql":
        limits = {"lock_timeout": LOCK_TIMEOUT, "statement_timeout": STATEMENT_TIMEOUT}
        settings = ", ".join(f"set_config('{name}', '{int(s * 1000)}', true)" for name, s in limits.items())
        connection.exec_driver_sql(f"SELECT {settings}").close()


def _ping(ask: Callable[[Any], bool], connection: Any) -> bool:
    """Ask the server only where it is not plain that the connection is there: the answer is a round trip."""
    heard_at = getattr(connection, "heard_at", None)
    if heard_at is not None and time.monotonic() - heard_at < FRESH and _is_silent(connection.pgconn):
        return True
    return ask(connection)


def _roll_back(ask: Callable[[Any], None], connection: Any) -> None:
    """At each return to the pool, and mostly there is nothing left to undo."""
    if connection.pgconn.transaction_status:  # 0 is idle
        ask(connection)


def _is_silent(pgconn: Any) -> bool:
    """Neither a word from the server, which to an idle connection is mostly its last, nor the end without one."""
    try:
        if int.from_bytes(fcntl.ioctl(pgconn.socket, termios.FIONREAD, bytes(4)), sys.byteorder):
            return False
        pgconn.consume_input()
    except Exception:  # psycopg's, which is not imported here, or the socket's
        return False
    return True


def _connect(dialect: Any, record: Any, args: Any, options: Any) -> Any:
    connection = _impatient().connect(*args, **options)
    # psycopg would forget all that is prepared at each rollback, so with every read, and ours as well.
    connection.may_prepare, connection.prepare_threshold = connection.prepare_threshold is not None, None
    return connection


def may_prepare(connection: Any) -> bool:
    """Whether the host lets statements be prepared, on a connection of ours; on its own they might get lost."""
    return bool(getattr(connection, "may_prepare", False))


@cache
def _impatient() -> Any:
    """psycopg's connection class, but one that gives a silent server up; psycopg is imported only where it is used."""
    import psycopg

    class ImpatientConnection(psycopg.Connection[Any]):
        heard_at: float | None = None
        may_prepare = False
        _waiter: Waiter | None = None

        def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
            if args or options or not gevent_wait.is_patched():
                answer = super().wait(_bounded(gen, self._give_up), *args, **options)
            else:
                answer = self._wait(gen)
            self.heard_at = time.monotonic()
            return answer

        def _wait(self, gen: Any) -> Any:
            if self._waiter is None:
                self._waiter = Waiter(self.pgconn.socket)
            try:
                return self._waiter.run(gen, ANSWER_TIMEOUT)
            except TimeoutError:
                raise self._give_up() from None
            except Exception:
                raise
            except BaseException:  # the greenlet is killed: nobody knows what the server still does
                self.close()
                raise

        def close(self) -> None:
            if self._waiter is not None:
                self._waiter.close()
            super().close()

        def _give_up(self) -> Exception:
            """Closed, so that SQLAlchemy takes it for broken and no pool keeps it."""
            self.close()
            return psycopg.OperationalError("no answer from the server")

    return ImpatientConnection


def _bounded(
    steps: Generator[Any, Any, Any], give_up: Callable[[], Exception], seconds: float | None = None
) -> Generator[Any, Any, Any]:
    """``steps``, as long as the server is heard of in time. psycopg looks in between whether that is so."""
    deadline = time.monotonic() + (ANSWER_TIMEOUT if seconds is None else seconds)
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                raise give_up()
            wanted = steps.send(ready)
    except StopIteration as end:
        return end.value
