"""The database's clock: machines' clocks differ, the database has one (contract C36)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, DateTime, ScalarSelect, literal, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class utcnow(FunctionElement[Any]):
    """UTC without a zone: ``utcnow()``, or ``utcnow(60)`` for a minute from now."""

    type = DateTime()
    inherit_cache = True

    def __init__(self, seconds: int = 0) -> None:
        super().__init__(literal(seconds, BigInteger()))


@compiles(utcnow)
def _utcnow(element: utcnow, compiler: Any, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    return f"(clock_timestamp() AT TIME ZONE 'utc' + make_interval(secs => {seconds}))"


@compiles(utcnow, "sqlite")
def _utcnow_sqlite(element: utcnow, compiler: Any, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now', {seconds} || ' seconds') || '000')"


def now(seconds: int = 0) -> ScalarSelect[Any]:
    """:class:`utcnow`, asked once by a statement. PostgreSQL looks nothing up in an index by a clock that ticks from
    row to row.
    """
    return select(utcnow(seconds)).scalar_subquery()


class Clock:
    """What waits for hours goes by this one, so that a test need not: see :func:`nursecare_chat.testing.advance`.

    :ivar ahead: seconds by which it is ahead of the database's.
    """

    def __init__(self) -> None:
        self.ahead = 0

    def utcnow(self, seconds: int = 0) -> utcnow:
        return utcnow(self.ahead + seconds)

    def now(self, seconds: int = 0) -> ScalarSelect[Any]:
        return now(self.ahead + seconds)
