"""The chat's tables in a host's own Alembic history, run as a host runs it: `flask db …` (C6, C8, C9)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from nursecare_chat.install_migrations import _render_type

from ..support import foreign, plain
from ..support.databases import Databases
from ..support.hosts import Api, Workbench
from ..support.shell import Commands, Shell

CHAT_TABLES = {"chat_threads", "chat_messages", "chat_uploads", "chat_purges"}
NO_DRIFT = "No new upgrade operations detected"


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    commands = Commands()
    yield commands
    commands.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, databases: Databases) -> Iterator[str]:
    """An empty database of each kind in turn."""
    with databases.empty(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def reference(commands: Commands, tmp_path: Path, url: str) -> Shell:
    """Integer keys; its history, thin revision included, is in the repository."""
    return Shell(commands, "wsgi", tmp_path, url)


def with_history(shell: Shell, revision: str) -> Shell:
    """Alembic set up, and a history that knows nothing of the chat yet."""
    shell.flask("db", "init")
    (shell.folder / "migrations" / "versions" / "a1_own.py").write_text(revision)
    return shell


def plain_host(commands: Commands, folder: Path, url: str, key: str, schema: str | None = None) -> Shell:
    env = {"HOST_KEY": key} | ({"HOST_SCHEMA": schema} if schema else {})
    shell = Shell(commands, "tests.support.plain:create_app()", folder, url, **env)
    return with_history(shell, plain.REVISION.format(key=plain.KEYS[key], schema=schema))


@pytest.fixture(params=["uuid, own names", *plain.KEYS])
def host(request: pytest.FixtureRequest, commands: Commands, tmp_path: Path, url: str) -> Shell:
    """Each kind of key in turn; the first host has a naming convention, too."""
    if request.param in plain.KEYS:
        return plain_host(commands, tmp_path, url, request.param)
    return with_history(Shell(commands, "tests.support.foreign:create_app()", tmp_path, url), foreign.REVISION)


def test_fresh_upgrade_and_no_drift(reference: Shell) -> None:
    """C6: integer keys; upgrade, check."""
    reference.flask("db", "upgrade")
    assert reference.tables() >= CHAT_TABLES
    assert NO_DRIFT in reference.flask("db", "check")
    assert "Nothing to do" in reference.flask("chat", "install-migrations")


def test_life_of_a_host(host: Shell) -> None:
    """C6, C2: install, upgrade, check, the host's own later revision, down by just ours and up again."""
    assert "Wrote migrations/versions/nursecare_chat_0001" in host.flask("chat", "install-migrations")
    assert "Nothing to do" in host.flask("chat", "install-migrations")
    host.flask("db", "upgrade", "a1")
    own = host.tables()
    host.flask("db", "upgrade")
    assert host.tables() == own | CHAT_TABLES
    assert NO_DRIFT in host.flask("db", "check")
    assert "No changes in schema detected" in host.flask("db", "migrate", "-m", "nothing")
    host.flask("db", "revision", "-m", "later", "--rev-id", "z9")
    host.flask("db", "upgrade")
    assert "z9 (head)" in host.flask("db", "current")
    host.flask("db", "downgrade", "a1")
    assert host.tables() == own
    host.flask("db", "upgrade")
    assert host.tables() == own | CHAT_TABLES
    assert NO_DRIFT in host.flask("db", "check")
    assert "CREATE TABLE chat_threads" in host.flask("db", "upgrade", "--sql")  # offline, for those who review SQL


def test_a_host_in_a_schema(commands: Commands, tmp_path: Path, databases: Databases) -> None:
    """C6, C2: where its metadata puts its tables ours are put, and nothing anywhere else."""
    with databases.empty("postgresql", tmp_path) as url:
        shell = plain_host(commands, tmp_path, url, "integer", "care")
        env = tmp_path / "migrations" / "env.py"
        text = env.read_text()
        env.write_text(text.replace("get_metadata(),", "get_metadata(), include_schemas=True,"))
        shell.flask("chat", "install-migrations")
        shell.flask("db", "upgrade", "a1")
        assert "run `flask chat install-migrations`, then `flask db upgrade`" in shell.flask("chat", "purge", status=1)
        shell.flask("db", "upgrade")
        assert shell.tables("care") == {"member", "job"} | CHAT_TABLES
        assert shell.tables() == {"alembic_version"}
        assert NO_DRIFT in shell.flask("db", "check")
        assert "0 of 0 purged" in shell.flask("chat", "purge")
        assert "CREATE TABLE care.chat_threads" in shell.flask("db", "upgrade", "--sql")
        shell.flask("db", "downgrade", "a1")
        assert shell.tables("care") == {"member", "job"}
        shell.flask("db", "upgrade")
        assert NO_DRIFT in shell.flask("db", "check")


def test_what_install_migrations_refuses(commands: Commands, tmp_path: Path) -> None:
    """C6: each with what to do."""
    url = f"sqlite:///{tmp_path / 'host.db'}"
    shell = Shell(commands, "tests.support.foreign:create_app()", tmp_path, url)
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
        (versions / f"{name}.py").write_text(foreign.REVISION.replace('"a1"', f'"{name}"'))
    assert "flask db merge heads" in shell.flask("chat", "install-migrations", status=1)
    (versions / "b1.py").write_text(foreign.REVISION.replace('"a1", None', '"b1", "nowhere"'))
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
    migrated = sa.create_engine(reference.url)
    host = "reference" if migrated.dialect.name == "sqlite" else "reference-postgresql"
    created = make_bench(host).state.database.engine
    with migrated.connect() as one, created.connect() as other:
        assert reflect(one) == reflect(other)
    migrated.dispose()


@pytest.mark.parametrize("host", ["reference", "reference-postgresql"])
def test_the_schema_is_the_seeds(make_bench: Any, host: str) -> None:
    """C8: SEED.md's columns with their nullability, defaults and indexes, and what the contract adds."""
    with make_bench(host).state.database.engine.connect() as connection:
        shape = reflect(connection)
    threads, messages = shape["chat_threads"], shape["chat_messages"]
    assert {name: nullable for name, (_, nullable, _) in threads["columns"].items()} == {
        "id": False, "request_id": False, "admin_id": True, "client_id": False, "status": False, "opened_at": False,
        "closed_at": True, "last_seq": False,
    }  # fmt: skip
    assert threads["columns"]["status"][2].partition("::")[0] == "'open'"
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


@pytest.fixture(params=["reference", "reference-postgresql"])
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
        "UPDATE chat_messages SET client_message_key = (SELECT client_message_key FROM chat_messages WHERE seq = 1)"
        ", sender_id = 3",
        "DELETE FROM service_requests",
        "DELETE FROM users WHERE email = 'client@nursecare.test'",
        "DELETE FROM users WHERE email = 'admin2@nursecare.test'",
    ],
)
def test_the_database_itself_refuses(
    client_api: Api, admin_api: Api, thread: int, bench: Workbench, statement: str
) -> None:
    """C8, C9: status, closed_at exactly while closed, uniqueness; request, client and sender restrict."""
    client_api.say(thread, clientMessageId="k")
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
        connection.commit()
    assert client_api.open(1).get_json()["threadId"] > thread
