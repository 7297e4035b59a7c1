"""`flask chat doctor`."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from huey.constants import EmptyData

import nursecare_chat.doctor
from nursecare_chat.tasks import SEEN

from ..support.azurite import KEY, Accounts
from ..support.databases import Databases
from ..support.hosts import Workbench
from ..support.redis import Server
from ..support.servers import Process, free_port
from ..support.shell import Commands, Shell

PASSWORD = "pass-7c1d"
TOKEN = "token-51fe"
ORIGIN = "https://pages.nursecare.test"
Found = dict[str, list[dict[str, str]]]


def doctor(bench: Workbench, *arguments: str) -> tuple[int, dict[str, Any]]:
    result = bench.app.test_cli_runner().invoke(args=["chat", "doctor", "--json", *arguments])
    assert KEY not in result.output
    return result.exit_code, json.loads(result.stdout)


def by_check(said: dict[str, Any]) -> Found:
    found: Found = {}
    for finding in said["findings"]:
        assert set(finding) == {"check", "status", "message", "next"}
        assert finding["status"] in ("ok", "warning", "error")
        assert finding["next"] or finding["status"] == "ok", finding
        found.setdefault(finding["check"], []).append(finding)
    assert said["ok"] == (not any(finding["status"] == "error" for finding in said["findings"]))
    return found


def words(found: Found, check: str, status: str) -> str:
    return " ".join(f"{one['message']} {one['next']}" for one in found.get(check, []) if one["status"] == status)


# -- in this process -------------------------------------------------------------------------------------------------


def test_all_is_well(make_bench: Callable[..., Workbench], redis_url: str) -> None:
    """C42: also with the feature switched off; what is not ok says the next step."""
    status, said = doctor(make_bench(CHAT_ENABLED=False, CHAT_TRANSPORT_URL=redis_url))
    assert (status, said["ok"]) == (0, True), said
    found = {finding["check"]: finding["status"] for finding in said["findings"]}
    assert by_check(said)
    assert found["storage"] == found["transport"] == found["migrations"] == "ok"


def test_what_is_away(make_bench: Callable[..., Workbench]) -> None:
    """C42: a Redis that refuses and a table that is missing do not stop the others; no password is shown."""
    bench = make_bench(CHAT_TRANSPORT_URL=f"redis://:{PASSWORD}@127.0.0.1:1/0")
    with bench.state.database.write() as unit:
        unit.connection.execute(sa.text("DROP TABLE chat_purges"))
    status, said = doctor(bench)
    assert (status, said["ok"], PASSWORD in json.dumps(said)) == (1, False, False)
    found = by_check(said)
    assert all(words(found, check, "error") for check in ("transport", "migrations", "purges"))
    assert "install-migrations" in words(found, "migrations", "error")
    assert words(found, "storage", "ok")


def test_azure_from_nothing(make_bench: Callable[..., Workbench], azure_accounts: Accounts) -> None:
    """C42: a missing container and CORS rule are named, and made by --fix; no key is shown."""
    bench = make_bench(**azure_accounts.settings())
    status, said = doctor(bench)
    assert status == 1
    assert "ContainerNotFound" in words(by_check(said), "storage", "error")
    assert "doctor --fix" in words(by_check(said), "storage", "error")
    status, said = doctor(bench, "--fix")
    assert status == 0, said
    assert "--origin" in words(by_check(said), "storage", "warning")
    status, said = doctor(bench, "--origin", ORIGIN)
    assert status == 0
    assert f"doctor --fix --origin {ORIGIN}" in words(by_check(said), "storage", "warning")
    doctor(bench, "--fix", "--origin", ORIGIN)
    status, said = doctor(bench, "--origin", ORIGIN)
    assert (status, words(by_check(said), "storage", "warning")) == (0, "")


def test_azure_takes_the_trusted_origins(make_bench: Callable[..., Workbench], azure_accounts: Accounts) -> None:
    """C42: without --origin, those of CHAT_TRUSTED_ORIGINS."""
    trusted = "https://trusted.nursecare.test"
    bench = make_bench(CHAT_TRUSTED_ORIGINS=trusted, **azure_accounts.settings())
    bench.state.storage.create()
    assert trusted in words(by_check(doctor(bench)[1]), "storage", "warning")


def test_azure_keeps_what_is_deleted(
    make_bench: Callable[..., Workbench], azure_accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C42: what brings deleted photos back is a warning."""
    bench = make_bench(**azure_accounts.settings())
    storage: Any = bench.state.storage
    storage.create()
    monkeypatch.setattr(storage, "recoverable", lambda: ["Soft delete keeps deleted photos for 7 days."])
    status, said = doctor(bench)
    assert status == 0
    assert "Soft delete keeps" in words(by_check(said), "storage", "warning")


def test_azure_away(make_bench: Callable[..., Workbench], azure_accounts: Accounts) -> None:
    """C42: a storage that refuses connections, within the time that every check has."""
    settings = azure_accounts.settings()
    settings["CHAT_AZURE_CONNECTION_STRING"] = (
        f"AccountName=one;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:{free_port()}/one"
    )
    status, said = doctor(make_bench(**settings))
    assert status == 1
    assert words(by_check(said), "storage", "error")


def test_no_origin(make_bench: Callable[..., Workbench]) -> None:
    """C42: what is no origin is refused, and not repeated."""
    result = make_bench().app.test_cli_runner().invoke(args=["chat", "doctor", "--origin", f"https://a:{PASSWORD}@b"])
    assert result.exit_code == 1
    assert "https://app.example.org" in result.output
    assert PASSWORD not in result.output


# -- as an operator types it -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    commands = Commands()
    yield commands
    commands.close()


@pytest.fixture(scope="module")
def redis() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def shell(commands: Commands, tmp_path: Path) -> Callable[..., Shell]:
    """The reference host on an SQLite without tables, or on what is given."""

    def make(url: str = "", **env: str) -> Shell:
        return Shell(commands, "wsgi", tmp_path, url or f"sqlite:///{tmp_path}/host.db", **env)

    return make


def examine(shell: Shell, status: int = 0) -> Found:
    """Both forms; the JSON's findings."""
    lines = shell.flask("chat", "doctor", status=status)
    output = shell.flask("chat", "doctor", "--json", status=status)
    for text in (lines, output):
        assert "Traceback" not in text
        assert PASSWORD not in text
        assert TOKEN not in text
    said = json.loads(output[output.index("{\n") : output.rindex("}") + 1])
    assert set(said) == {"ok", "findings"}
    return by_check(said)


def test_a_fresh_host(shell: Callable[..., Shell]) -> None:
    """C42: without tables it fails and says how to make them; with them all is well, and warnings say the rest."""
    host = shell(CHAT_METRICS="1", CHAT_METRICS_TOKEN=TOKEN)
    assert "flask db upgrade" in words(examine(host, 1), "migrations", "error")
    host.flask("db", "upgrade")
    found = examine(host)
    for check in ("database", "migrations", "queue", "purges", "storage"):
        assert words(found, check, "ok"), check
    assert "PostgreSQL" in words(found, "database", "warning")
    assert "worker" in words(found, "worker", "warning")
    said = words(found, "settings", "warning")
    for word in ("SESSION_COOKIE_SECURE", "CHAT_STORAGE_URL", "CHAT_QUEUE_URL", "CHAT_RECEIPT_KEY", "logout"):
        assert word in said


def test_a_host_without_the_revisions(commands: Commands, tmp_path: Path) -> None:
    """C42: what the host's migrations folder lacks is named, with the command that writes it."""
    host = Shell(
        commands, "tests.support.plain:create_app()", tmp_path, f"sqlite:///{tmp_path}/h.db", HOST_KEY="integer"
    )
    host.flask("db", "init")
    said = words(examine(host, 1), "migrations", "error")
    assert "lacks nursecare_chat_0001" in said
    assert "Run `flask chat install-migrations`" in said


def test_the_database_is_away(shell: Callable[..., Shell]) -> None:
    """C42: a PostgreSQL that refuses; the other checks go on, and its password is not shown."""
    found = examine(shell(f"postgresql+psycopg://me:{PASSWORD}@127.0.0.1:{free_port()}/none"), 1)
    assert "OperationalError" in words(found, "database", "error")
    assert words(found, "storage", "ok")


def test_postgresql(shell: Callable[..., Shell], databases: Databases, tmp_path: Path) -> None:
    """C42: all is well there too; a log that gets what people wrote is a warning."""
    with databases.empty("postgresql", tmp_path) as url:
        host = shell(url)
        host.flask("db", "upgrade")
        found = examine(host)
        assert words(found, "database", "ok")
        assert "log_statement" not in words(found, "database", "warning")
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f'ALTER DATABASE "{engine.url.database}" SET log_statement = "all"')
        engine.dispose()
        assert "log_statement = all" in words(examine(host), "database", "warning")


def test_redis_refuses(shell: Callable[..., Shell]) -> None:
    """C42: as transport and as queue; nothing of the URL is shown."""
    url = f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0"
    host = shell(CHAT_TRANSPORT_URL=url, CHAT_QUEUE_URL=url)
    found = examine(host, 1)
    assert words(found, "transport", "error")
    assert words(found, "queue", "error")


def test_redis_hangs(shell: Callable[..., Shell], redis: Server) -> None:
    """C42: the command ends all the same."""
    host = shell(CHAT_TRANSPORT_URL=redis.url, CHAT_QUEUE_URL=redis.url)
    redis.hang()
    try:
        began = time.monotonic()
        found = examine(host, 1)
        assert time.monotonic() - began < 2 * 20
    finally:
        redis.resume()
    assert words(found, "transport", "error")
    assert words(found, "queue", "error")


def test_what_hangs_is_left(make_bench: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch) -> None:
    """C42: what never answers is an error, and what it found before and the others find is told."""
    over = threading.Event()

    def stuck(patient: nursecare_chat.doctor.Patient) -> Iterator[nursecare_chat.doctor.Finding]:
        yield nursecare_chat.doctor.Finding("stuck", "ok", "So far.")
        over.wait()

    bench = make_bench()
    monkeypatch.setattr(nursecare_chat.doctor, "TIMEOUT", 0.5)
    patient = nursecare_chat.doctor.Patient(bench.state, bench.app)
    found = nursecare_chat.doctor.examine(patient, (stuck, nursecare_chat.doctor.images))
    over.set()
    assert [(one.check, one.status) for one in found] == [("stuck", "ok"), ("stuck", "error"), ("images", "ok")]


def test_a_hosts_own_queue_hangs(commands: Commands, redis: Server, tmp_path: Path) -> None:
    """C42: a host's Huey has timeouts of its own, and its queue is the one that is examined."""
    url = f"sqlite:///{tmp_path}/host.db"
    host = Shell(commands, "tests.support.queue_host", tmp_path, url, HOST_QUEUE_URL=f"{redis.url}/4")
    assert "0 task(s) wait" in words(examine(host, 1), "queue", "ok")
    redis.hang()
    try:
        found = examine(host, 1)
    finally:
        redis.resume()
    assert words(found, "queue", "error")
    assert words(found, "storage", "ok")


def test_a_queue_on_redis(shell: Callable[..., Shell], redis: Server, make_bench: Callable[..., Workbench]) -> None:
    """C42: with no worker, with one, and with one that fell silent."""
    url = f"{redis.url}/3"
    host = shell(CHAT_TRANSPORT_URL=url, CHAT_QUEUE_URL=url)
    host.flask("db", "upgrade")
    found = examine(host)
    assert "No worker has been heard of." in words(found, "worker", "warning")
    assert words(found, "transport", "ok")
    env = {"NURSECARE_INSTANCE": str(host.folder), "NURSECARE_DATABASE_URL": host.url, "CHAT_QUEUE_URL": url}
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "chat", "worker"]
    worker = Process(command, host.folder / "worker.log", env)
    storage = make_bench(CHAT_QUEUE_URL=url).state.tasks.huey.storage
    try:
        worker.wait_for("Chat worker ready")
        deadline = time.monotonic() + 20
        while storage.peek_data(SEEN) is EmptyData and time.monotonic() < deadline:
            time.sleep(0.05)
        assert words(examine(host), "worker", "ok")
    finally:
        worker.end()
    storage.put_data(SEEN, str(time.time() - 3600).encode())  # as if it had ended an hour ago
    assert "heard of for 36" in words(examine(host), "worker", "warning")
    storage.pool.disconnect()
