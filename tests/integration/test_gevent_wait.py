"""Connections of our own in a process that gevent has patched: who waits for PostgreSQL keeps nobody else waiting."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from ..support.hosts import Workbench

BEGINNING = """
from gevent import monkey; monkey.patch_all()
import sys
from contextlib import suppress
import gevent
import psycopg
import sqlalchemy as sa
from nursecare_chat.service import postgres
postgres.ANSWER_TIMEOUT = 20

engine = postgres.own_engine(sa.create_engine(sys.argv[1]), {"pool_size": 2, "max_overflow": 0, "pool_timeout": 10})

def ask(statement, **values):
    with engine.connect() as connection:
        return connection.scalar(sa.text(statement), values)

first = ask("SELECT pg_backend_pid()")
"""

OTHERS_GO_ON = """
with engine.connect() as connection:
    connection.execute(sa.text("SELECT pg_advisory_lock(1)"))
    waiting = gevent.spawn(ask, "SELECT pg_advisory_lock(1)")
    gevent.sleep(0.2)
    assert not waiting.ready()
    connection.execute(sa.text("SELECT pg_advisory_unlock(1)"))
    waiting.get(timeout=10)
"""

NO_ANSWER = """
postgres.ANSWER_TIMEOUT = 0.3
with engine.connect() as connection:
    try:
        connection.execute(sa.text("SELECT pg_sleep(60)"))
    except sa.exc.OperationalError as error:
        assert error.connection_invalidated
    else:
        raise AssertionError
postgres.ANSWER_TIMEOUT = 20
assert ask("SELECT pg_backend_pid()") != first
"""

KILLED = """
def give_up(how):
    asking = gevent.spawn(ask, "SELECT pg_sleep(60)")
    gevent.sleep(0.2)
    how(asking)
    assert ask("SELECT 7") == 7

def run_out(asking):
    with suppress(BaseException):
        gevent.kill(asking, gevent.Timeout(1))

give_up(lambda asking: asking.kill())
give_up(run_out)
assert engine.pool.checkedout() == 0
assert ask("SELECT pg_backend_pid()") != first
"""

CUT_OFF = """
asking = gevent.spawn(ask, "SELECT pg_sleep(60)")
gevent.sleep(0.2)
assert ask("SELECT pg_terminate_backend(:pid)", pid=first)
try:
    asking.get(timeout=10)
except sa.exc.OperationalError:
    pass
else:
    raise AssertionError
assert ask("SELECT 7") == 7
"""

MORE_THAN_THE_KERNEL_TAKES = """
asking = [gevent.spawn(ask, "SELECT :text", text=letter * 20_000_000) for letter in "ab"]
for letter, one in zip("ab", asking):
    assert one.get(timeout=20) == letter * 20_000_000
"""

A_THREAD = """
assert gevent.get_hub().threadpool.apply(ask, ("SELECT 7",)) == 7
assert ask("SELECT 8") == 8
"""


@pytest.mark.parametrize(
    "script",
    [OTHERS_GO_ON, NO_ANSWER, KILLED, CUT_OFF, MORE_THAN_THE_KERNEL_TAKES, A_THREAD],
    ids=["others go on", "no answer", "killed", "cut off", "more than the kernel takes", "a thread"],
)
def test_waiting(script: str, make_bench: Callable[..., Workbench]) -> None:
    """C10, C13, C45: an answer, or an error in time, and never another one's answer."""
    url = make_bench("reference-postgresql").url
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BEGINNING + script, url], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
