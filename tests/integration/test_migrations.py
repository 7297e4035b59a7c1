"""The chat's tables in a host's own Alembic history, run as a host runs it: `flask db …` (C6, C8, C9)."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from nursecare_chat.install_migrations import _render_type

from ..support.hosts import Api, Workbench
from ..support.servers import ROOT

HOST_REVISION = '''
"""the host's own tables"""
from alembic import op
import sqlalchemy as sa

revision, down_revision, branch_labels, depends_on = "a1", None, None, None


def upgrade():
    op.create_table(
        "people",
        sa.Column("uid", sa.Uuid(), nullable=False),
        sa.Column("mail", sa.String(200)),
        sa.Column("role", sa.String(20)),
        sa.Column("blocked", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_people")),
        sa.UniqueConstraint("mail", name=op.f("uq_people_mail")),
    )
    op.create_table(
        "home_visits",
        sa.Column("visit_no", sa.Uuid(), nullable=False),
        sa.Column("patient_uid", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["patient_uid"], ["people.uid"], name=op.f("fk_home_visits_patient_uid_people")),
        sa.PrimaryKeyConstraint("visit_no", name=op.f("pk_home_visits")),
    )
    op.create_table(
        "chat_message",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("body", sa.String(100)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat_message")),
    )


def downgrade():
    for table in ("chat_message", "home_visits", "people"):
        op.drop_table(table)
'''
CHAT_TABLES = {"chat_threads", "chat_messages", "chat_uploads", "chat_purges"}


class Shell:
    """A host's checkout: `flask …` in it, on a database of its own."""

    def __init__(self, app: str, folder: Path) -> None:
        self.app, self.folder = app, folder
        self.database = folder / "host.db"

    def flask(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", self.app, *arguments],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "NURSECARE_INSTANCE": str(self.folder),
                "NURSECARE_DATABASE_URL": f"sqlite:///{self.database}",
                "FOREIGN_MIGRATIONS": str(self.folder / "migrations"),
            },
            capture_output=True,
            text=True,
        )
        output = done.stdout + done.stderr
        assert done.returncode == status, output
        return output

    def tables(self) -> set[str]:
        with sqlite3.connect(self.database) as connection:
            names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        connection.close()
        return names


@pytest.fixture
def reference(tmp_path: Path) -> Shell:
    """Integer keys; its history, thin revision included, is in the repository."""
    return Shell("wsgi", tmp_path)


@pytest.fixture
def foreign(tmp_path: Path) -> Shell:
    """UUID keys, a naming convention, and a history that knows nothing of the chat yet."""
    shell = Shell("tests.support.foreign:create_app()", tmp_path)
    shell.flask("db", "init")
    (tmp_path / "migrations" / "versions" / "a1_own.py").write_text(HOST_REVISION)
    return shell


def test_fresh_upgrade_and_no_drift(reference: Shell) -> None:
    """C6: integer keys; upgrade, check."""
    reference.flask("db", "upgrade")
    assert reference.tables() >= CHAT_TABLES
    assert "No new upgrade operations detected" in reference.flask("db", "check")
    assert "Nothing to do" in reference.flask("chat", "install-migrations")


def test_life_of_a_host(foreign: Shell) -> None:
    """C6: install, upgrade, check, the host's own later revision, down by just ours and up again; UUID keys."""
    assert "Wrote migrations/versions/nursecare_chat_0001" in foreign.flask("chat", "install-migrations")
    assert "Nothing to do" in foreign.flask("chat", "install-migrations")
    foreign.flask("db", "upgrade")
    assert foreign.tables() >= CHAT_TABLES
    assert "No new upgrade operations detected" in foreign.flask("db", "check")
    assert "No changes in schema detected" in foreign.flask("db", "migrate", "-m", "nothing")
    foreign.flask("db", "revision", "-m", "later", "--rev-id", "z9")
    foreign.flask("db", "upgrade")
    assert "z9 (head)" in foreign.flask("db", "current")
    foreign.flask("db", "downgrade", "a1")
    assert foreign.tables() & CHAT_TABLES == set()
    assert foreign.tables() >= {"people", "home_visits", "chat_message"}
    foreign.flask("db", "upgrade")
    assert foreign.tables() >= CHAT_TABLES
    assert "No new upgrade operations detected" in foreign.flask("db", "check")
    assert "CREATE TABLE chat_threads" in foreign.flask("db", "upgrade", "--sql")  # offline, for those who review SQL


def test_what_install_migrations_refuses(tmp_path: Path) -> None:
    """C6: each with what to do."""
    shell = Shell("tests.support.foreign:create_app()", tmp_path)
    assert "run `flask db init` first" in shell.flask("chat", "install-migrations", status=1)
    shell.flask("db", "init")
    assert "run `flask db migrate`" in shell.flask("chat", "install-migrations", status=1)
    shell.flask("db", "migrate", "-m", "with the chat's tables in it")
    refused = shell.flask("chat", "install-migrations", status=1)
    assert "creates chat tables itself" in refused
    assert "Traceback" not in refused
    (formatted,) = (tmp_path / "migrations" / "versions").glob("*.py")
    formatted.write_text(formatted.read_text().replace("create_table('chat_", "create_table(\n        'chat_"))
    assert "creates chat tables itself" in shell.flask("chat", "install-migrations", status=1)
    versions = tmp_path / "migrations" / "versions"
    for file in versions.glob("*.py"):
        file.unlink()
    for name in ("a1", "b1"):
        (versions / f"{name}.py").write_text(HOST_REVISION.replace('"a1"', f'"{name}"'))
    assert "flask db merge heads" in shell.flask("chat", "install-migrations", status=1)
    (versions / "b1.py").write_text(HOST_REVISION.replace('"a1", None', '"b1", "nowhere"'))
    broken = shell.flask("chat", "install-migrations", status=1)
    assert "Alembic cannot read the migrations folder" in broken
    assert "Traceback" not in broken


def reflect(connection: Any) -> dict[str, Any]:
    inspector = sa.inspect(connection)
    shape: dict[str, Any] = {}
    for table in sorted(CHAT_TABLES):
        shape[table] = {
            "columns": {
                column["name"]: (str(column["type"]), column["nullable"], column["default"])
                for column in inspector.get_columns(table)
            },
            "unique": sorted(
                (tuple(key["column_names"]), key["name"]) for key in inspector.get_unique_constraints(table)
            ),
            "indexes": sorted((tuple(index["column_names"]), index["name"]) for index in inspector.get_indexes(table)),
            "checks": sorted((check["name"], check["sqltext"]) for check in inspector.get_check_constraints(table)),
            "foreign": sorted(
                (key["name"], key["constrained_columns"][0], key["referred_table"], key["options"].get("ondelete"))
                for key in inspector.get_foreign_keys(table)
            ),
        }
    return shape


def test_migrated_and_created_tables_are_the_same(reference: Shell, make_bench: Any) -> None:
    """C6, C8: defaults, checks and delete rules included, which `db check` does not compare."""
    reference.flask("db", "upgrade")
    migrated = sa.create_engine(f"sqlite:///{reference.database}")
    created = make_bench("reference").state.database.engine
    with migrated.connect() as one, created.connect() as other:
        assert reflect(one) == reflect(other)
    migrated.dispose()


def test_the_schema_is_the_seeds(make_bench: Any) -> None:
    """C8: SEED.md's columns with their nullability, defaults and indexes, and what the contract adds."""
    with make_bench("reference").state.database.engine.connect() as connection:
        shape = reflect(connection)
    threads, messages = shape["chat_threads"], shape["chat_messages"]
    assert {name: nullable for name, (_, nullable, _) in threads["columns"].items()} == {
        "id": False, "request_id": False, "admin_id": True, "client_id": False, "status": False, "opened_at": False,
        "closed_at": True, "last_seq": False,
    }  # fmt: skip
    assert threads["columns"]["status"][2] == "'open'"
    assert ("request_id",) in dict(threads["unique"])
    assert ("admin_id", "status") in dict(threads["indexes"])
    nullable = {name for name, (_, null, _) in messages["columns"].items() if null}
    assert nullable == {
        "text", "latitude", "longitude", "media_path", "client_message_id", "client_message_key", "sealed",
    }  # fmt: skip
    assert messages["columns"]["latitude"][0] == "NUMERIC(10, 7)"
    assert messages["columns"]["media_path"][0] == "VARCHAR(2048)"
    assert {("thread_id", "created_at"), ("sender_id",)} <= set(dict(messages["indexes"]))
    assert {("thread_id", "seq"), ("thread_id", "sender_id", "client_message_key")} == set(dict(messages["unique"]))
    assert shape["chat_purges"]["foreign"] == []


def test_no_index_holds_what_people_wrote(make_bench: Any) -> None:
    """C8: an index keeps bytes that were erased."""
    written = {"text", "latitude", "longitude", "client_message_id", "sealed"}
    for table in make_bench("reference").state.models.messages.metadata.tables.values():
        if table.name in CHAT_TABLES:
            indexed = [column.name for index in table.indexes for column in index.columns]
            indexed += [
                c.name for key in table.constraints if isinstance(key, sa.UniqueConstraint) for c in key.columns
            ]
            assert not written & set(indexed)


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        (sa.Integer(), "sa.Integer()"),
        (sa.String(36), "sa.String(length=36)"),
        (sa.Uuid(as_uuid=False), "sa.Uuid(as_uuid=False)"),
        (sa.BigInteger().with_variant(sa.Integer(), "sqlite"), "sa.BigInteger().with_variant(sa.Integer(), 'sqlite')"),
        (postgresql.INET(), "postgresql.INET()"),
    ],
)
def test_key_types_in_a_thin_revision(kind: Any, source: str) -> None:
    """C6, C2: written as Alembic writes them, variants included, or `flask db check` would find a drift."""
    assert _render_type(kind, set()) == source


@pytest.fixture(params=["reference"])
def bench(request: pytest.FixtureRequest, make_bench: Callable[..., Workbench]) -> Workbench:
    return make_bench(request.param)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE chat_threads SET status = 'ajar'",
        "UPDATE chat_threads SET status = 'closed'",
        "UPDATE chat_threads SET closed_at = '2025-01-01 00:00:00.000000'",
        "INSERT INTO chat_threads (request_id, client_id, opened_at) VALUES (1, 3, '2025-01-01 00:00:00.000000')",
        "UPDATE chat_messages SET seq = 1",
        "UPDATE chat_messages SET client_message_key = x'00', sender_id = 3",
        "DELETE FROM service_requests",
        "DELETE FROM users WHERE email = 'client@nursecare.test'",
        "DELETE FROM users WHERE email = 'admin2@nursecare.test'",
    ],
)
def test_the_database_itself_refuses(
    client_api: Api, admin_api: Api, thread: int, bench: Workbench, statement: str
) -> None:
    """C8, C9: status, closed_at exactly while closed, uniqueness; request, client and sender restrict."""
    client_api.say(thread)
    bench.login("admin2").say(thread)
    with bench.state.database.engine.connect() as connection, pytest.raises(sa.exc.IntegrityError):
        connection.exec_driver_sql(statement)


def test_cascade_and_set_null(client_api: Api, thread: int, bench: Workbench) -> None:
    """C9: messages go with their thread; an admin who goes leaves the thread unclaimed."""
    client_api.say(thread)
    bench.login("admin").open(1)
    with bench.state.database.engine.connect() as connection:
        connection.exec_driver_sql("DELETE FROM users WHERE email = 'admin@nursecare.test'")
        assert connection.exec_driver_sql("SELECT admin_id FROM chat_threads").scalar() is None
        connection.exec_driver_sql("DELETE FROM chat_threads")
        assert connection.exec_driver_sql("SELECT count(*) FROM chat_messages").scalar() == 0


def test_a_threads_id_is_never_used_again(client_api: Api, thread: int, bench: Workbench) -> None:
    """C9, C36: what is stored under chats/{id}/ and in its receipt belongs to one thread for ever."""
    with bench.state.database.engine.connect() as connection:
        connection.exec_driver_sql("DELETE FROM chat_threads")
    assert client_api.open(1).get_json()["threadId"] > thread
