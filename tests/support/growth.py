"""A host's database after years of use, and what the chat's statements cost in it."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import sqlalchemy as sa

from nursecare_chat.service.pipeline import Pipelined

from .hosts import Workbench

THREADS = 100_000
MESSAGES_EACH = 9
LONG = 17
"""The place of the thread with the many messages: ``client``'s and ``admin``'s, open; half of the others' ids are
smaller than its own, half are greater."""
LONG_MESSAGES = 100_000
PHOTOS = 20_000
"""Uploads of ``client`` in that thread, all posted but two."""
CLAIMED, UNCLAIMED = 50_003, 60_000
"""``admin2`` has threads 1 to 3, ``admin`` the 50,000 up to the first, nobody those above the second."""

CLIENT = "CASE WHEN n % 10 = 7 THEN :client WHEN n IN (2, 40, 70000) THEN :client2 ELSE :others + 1 + n % 5000 END"
ADMIN = (
    f"CASE WHEN n <= 3 THEN :admin2 WHEN n <= {CLAIMED} THEN :admin WHEN n > {UNCLAIMED} THEN NULL ELSE :others + 1 END"
)
OPEN = f"(n <= 40 OR n % 5000 = 0 OR n BETWEEN {UNCLAIMED + 1} AND {UNCLAIMED + 9})"
FILL = (
    """INSERT INTO users (id, email, name, password_hash, active, role_id)
       SELECT :others + n, 'somebody' || n || '@nursecare.test', 'Somebody', '', :yes, NULL
       FROM numbers WHERE n <= 5000""",
    f"""INSERT INTO service_requests (id, client_id, title, details, visit_on)
        SELECT :requests + n, {CLIENT}, 'Visit', 'At home', '2025-01-20' FROM numbers""",
    f"""INSERT INTO chat_threads (id, request_id, admin_id, client_id, status, opened_at, closed_at, last_seq)
        SELECT n, :requests + n, {ADMIN}, {CLIENT}, CASE WHEN {OPEN} THEN 'open' ELSE 'closed' END, :before,
               CASE WHEN {OPEN} THEN NULL ELSE :before END,
               CASE WHEN n = {LONG} THEN {LONG_MESSAGES} ELSE {MESSAGES_EACH} END
        FROM numbers""",
    f"""INSERT INTO chat_messages (thread_id, sender_id, type, text, created_at, seq)
        SELECT thread, CASE WHEN seq % 2 = 0 THEN :admin ELSE :client END, 'text',
               CASE WHEN thread = {LONG} THEN 'hello' END, :before, seq
        FROM (SELECT t.n AS thread, s.n AS seq, CASE WHEN t.n <= 50000 THEN 0 ELSE 2 END AS part
                FROM numbers t CROSS JOIN (SELECT n FROM numbers ORDER BY n LIMIT {MESSAGES_EACH}) AS s
               WHERE t.n <> {LONG}
              UNION ALL SELECT {LONG}, n, 1 FROM numbers WHERE n <= {LONG_MESSAGES}) AS every
        ORDER BY part, thread, seq""",
    f"""INSERT INTO chat_uploads
          (thread_id, sender_id, media_path, copy_path, content_type, size, expires_at, posted, rejected)
        SELECT CASE WHEN n <= {PHOTOS} THEN {LONG} ELSE n END, :client, 'chats/' || n, 'copies/' || n, 'image/jpeg', 9,
               CASE WHEN n <= 2 THEN :later ELSE :before END, n > 2, :no
        FROM numbers WHERE n <= 2 * {PHOTOS}""",
    f"""INSERT INTO chat_purges (thread_id, request_id, state, closed_at, next_attempt_at)
        SELECT n, :requests + n, CASE WHEN n % 9999 = 0 THEN 'requested' ELSE 'settled' END, :before,
               CASE WHEN n % 9999 = 0 THEN :before WHEN n % 1000 = 1 THEN :later END
        FROM numbers WHERE NOT {OPEN}""",
)
NUMBERS = {
    "sqlite": f"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {THREADS}) SELECT n FROM c",
    "postgresql": f"SELECT generate_series(1, {THREADS}) AS n",
}


def fill(bench: Workbench) -> None:
    """10⁵ threads and 10⁶ messages, most of them long closed, spread as unevenly as in life."""
    host = bench.host
    with bench.app.app_context():
        engine = host.db.engine
        known = {who: host.user_id(who) for who in ("client", "client2", "admin", "admin2")}
        values = known | {"others": 1000, "requests": 1000, "yes": True, "no": False}
        moments = {"before": "2025-01-20 10:30:00.000000", "later": "2095-01-20 10:30:00.000000"}
    dialect = engine.dialect.name
    with engine.connect() as connection:
        if dialect == "sqlite":
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -200000", "foreign_keys = OFF"):
                connection.exec_driver_sql(f"PRAGMA {pragma}")
        elif connection.exec_driver_sql("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").scalar():
            connection.exec_driver_sql("SET session_replication_role = replica")  # without a look at each foreign key
        connection.exec_driver_sql(f"CREATE TABLE numbers AS {NUMBERS[dialect]}")
        for statement in FILL:
            connection.execute(sa.text(_typed(statement, dialect)), values | moments)
        if dialect == "postgresql":
            for table, column in (("chat_threads", "id"), ("users", "id"), ("service_requests", "id")):
                connection.exec_driver_sql(f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), 1000000)")
        connection.commit()
    if dialect == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()  # with what was set on the connection


def _typed(statement: str, dialect: str) -> str:
    """PostgreSQL wants to know what a parameter is; SQLite keeps times as text."""
    if dialect == "sqlite":
        return statement
    statement = re.sub(r":(before|later)", r"CAST(:\1 AS timestamp)", statement)
    statement = re.sub(r":(client2?|admin2?|others|requests)\b", r"CAST(:\1 AS integer)", statement)
    return statement.replace("'2025-01-20' FROM", "DATE '2025-01-20' FROM")


class Statement(NamedTuple):
    text: str
    parameters: Any


@contextmanager
def recorded(engine: sa.Engine) -> Iterator[list[Statement]]:
    """Every statement that ``engine`` executes in the block, but those that only say how long others may take."""
    statements: list[Statement] = []

    def note(connection: Any, cursor: Any, text: str, parameters: Any, context: Any, many: bool) -> None:
        if "set_config(" not in text:
            statements.append(Statement(text, parameters))

    def noting(pipelined: Pipelined, values: dict[str, Any]) -> Any:
        if pipelined.engine is engine:
            names = [name for name, _ in pipelined._binds]
            text = re.sub(r"\$(\d+)", lambda place: f"%({names[int(place[1]) - 1]})s", pipelined._text.decode())
            statements.append(Statement(text, pipelined._constants | values))
        return one_or_none(pipelined, values)

    one_or_none, Pipelined.one_or_none = Pipelined.one_or_none, noting
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
        Pipelined.one_or_none = one_or_none


class SqliteCosts:
    """What SQLite does for a statement: its plan, and the steps of its virtual machine."""

    STEPS = 12_000
    """Sixteen a row, so hundreds of rows; whoever walks a table or a long thread needs a million."""

    def __init__(self, bench: Workbench) -> None:
        self._connection = sqlite3.connect(bench.path, isolation_level=None)

    def check(self, statement: Statement) -> None:
        plan = [row[3] for row in self._run(f"EXPLAIN QUERY PLAN {statement.text}", statement.parameters)]
        assert not [line for line in plan if re.match(r"SCAN (?:\w+\.)?chat_", line)], (statement, plan)
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 100
            return steps > self.STEPS

        self._connection.execute("BEGIN")
        self._connection.set_progress_handler(step, 100)
        try:
            self._run(statement.text, statement.parameters)
        except sqlite3.IntegrityError:
            pass  # what was inserted is there already
        except sqlite3.OperationalError as error:
            raise AssertionError(f"more than {self.STEPS} steps: {statement} {plan}") from error
        finally:
            self._connection.set_progress_handler(None, 0)
            self._connection.execute("ROLLBACK")

    def _run(self, text: str, parameters: Any) -> list[Any]:
        return self._connection.execute(text, parameters).fetchall()

    def close(self) -> None:
        self._connection.close()


class PostgresCosts:
    """What PostgreSQL does for a statement: its plan, the rows that it looked at and the pages that it touched."""

    ROWS, PAGES = 400, 1500

    def __init__(self, bench: Workbench) -> None:
        self._engine = sa.create_engine(bench.url, poolclass=sa.NullPool)

    def check(self, statement: Statement) -> None:
        if statement.text.lstrip().startswith(("INSERT", "SET")):
            return  # looks at nothing
        with self._engine.connect() as connection:
            explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.text}"
            shown = connection.exec_driver_sql(explain, statement.parameters).scalar_one()
            connection.rollback()
        (plan,) = shown if isinstance(shown, list) else json.loads(shown)
        nodes = list(_nodes(plan["Plan"]))
        for node in nodes:
            if node.get("Relation Name", "").startswith("chat_"):
                looked_at = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
                assert node["Node Type"] != "Seq Scan", (statement, node)
                assert looked_at * node["Actual Loops"] <= self.ROWS, (statement, node)
        pages = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
        assert pages <= self.PAGES, (statement, plan)

    def close(self) -> None:
        self._engine.dispose()


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


COSTS: dict[str, Any] = {"sqlite": SqliteCosts, "postgresql": PostgresCosts}
