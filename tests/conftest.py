"""Fixtures that every test may use; real servers and the browser are in ``tests/support``."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from .support import azurite, cells, lazy_routes, redis
from .support.cells import Cell
from .support.databases import Databases
from .support.hosts import EACH, HOSTS, Api, Workbench
from .support.live import Live
from .support.order import longest_first
from .support.report import noted
from .support.servers import Process


def pytest_addoption(parser: pytest.Parser) -> None:
    cells.add_options(parser)


def pytest_make_parametrize_id(config: pytest.Config, val: Any) -> str | None:
    return Cell(config).name_of(val)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items[:], others = Cell(config).divide(items)
    longest_first(items)
    config.hook.pytest_deselected(items=others)


STARTED = time.time()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much was tried, from the tests that say so."""
    for title, number in noted(since=STARTED).items():
        terminalreporter.write_line(f"{title}: {number:,}")


def pytest_configure() -> None:
    lazy_routes.use()
    # A shell that runs us in the background has us, and so every server that we start, ignore SIGINT.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _push_request_context() -> None:
    """Instead of pytest-flask's: a context around the whole test would hand one person's login to the next request."""


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Where benches get theirs."""
    databases = Databases(tmp_path_factory.mktemp("databases"))
    yield databases
    databases.close()


@pytest.fixture(scope="session")
def redis_databases() -> Iterator[redis.Databases]:
    """A Redis with databases to take."""
    databases = redis.Databases()
    yield databases
    databases.close()


@pytest.fixture
def redis_url(redis_databases: redis.Databases) -> str:
    """An empty Redis database."""
    return redis_databases.take()


@pytest.fixture(scope="session")
def azurite_accounts() -> Iterator[azurite.Accounts]:
    accounts = azurite.Accounts()
    yield accounts
    accounts.close()


@pytest.fixture
def azure_accounts(azurite_accounts: azurite.Accounts) -> azurite.Accounts:
    """An account of Azurite's without CORS rules, with settings to take."""
    azurite_accounts.forget_cors()
    return azurite_accounts


@pytest.fixture
def own_redis() -> Iterator[redis.Server]:
    """A server of this test alone, to be killed."""
    server = redis.Server()
    yield server
    server.close()


@pytest.fixture
def cell(request: pytest.FixtureRequest) -> Cell:
    """What this test's hosts run on."""
    cell = Cell(request.config)
    marker = request.node.get_closest_marker("one_process")
    if marker is not None and (cell.transport or "memory") in (marker.args or ("memory", "redis")):
        cell.processes = 1
    return cell


@pytest.fixture
def make_bench(
    cell: Cell, tmp_path: Path, databases: Databases, redis_databases: redis.Databases
) -> Iterator[Callable[..., Workbench]]:
    """Make applications: ``make_bench("foreign", CHAT_MAX_TEXT=10)``."""
    benches: list[Workbench] = []

    def make(name: str = "reference", **config: Any) -> Workbench:
        folder = tmp_path / str(len(benches))
        folder.mkdir()
        host = cell.host(name)
        transport, processes = cell.bench(host)
        if transport == "redis" and "CHAT_TRANSPORT_URL" not in config:
            config["CHAT_TRANSPORT_URL"] = redis_databases.take()
        benches.append(Workbench(HOSTS[host], folder, databases, config, processes))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


@pytest.fixture(params=EACH)
def bench(request: pytest.FixtureRequest, make_bench: Callable[..., Workbench]) -> Workbench:
    """An application of each host in turn."""
    return make_bench(request.param)


@pytest.fixture
def app(bench: Workbench) -> Flask:
    """For pytest-flask's ``client``, which is nobody's."""
    return bench.app


@pytest.fixture
def nobody(bench: Workbench, client: FlaskClient) -> Api:
    """Without a login, through pytest-flask's client."""
    return Api([client], bench)


@pytest.fixture
def client_api(bench: Workbench) -> Api:
    """The client who owns requests 1 and 2."""
    return bench.login("client")


@pytest.fixture
def admin_api(bench: Workbench) -> Api:
    return bench.login("admin")


@pytest.fixture
def nurse_api(bench: Workbench) -> Api:
    """Somebody without a role who owns nothing."""
    return bench.login("nurse")


@pytest.fixture
def thread(client_api: Api) -> int:
    """The open thread of request 1."""
    thread: int = client_api.open(1).get_json()["threadId"]
    return thread


@pytest.fixture
def serve(
    cell: Cell, tmp_path_factory: pytest.TempPathFactory, databases: Databases, redis_databases: redis.Databases
) -> Callable[..., Live]:
    """Start a server, which whoever calls closes: ``serve("gthread", "foreign", CHAT_MAX_TEXT="10")``."""

    def start(kind: str, host: str = "reference", **env: str) -> Live:
        if cell.transport == "redis":
            env = {"CHAT_TRANSPORT_URL": redis_databases.take(), **env}
        folder = tmp_path_factory.mktemp(kind)
        return Live(kind, cell.host(host), folder, databases, env, cell.processes or 1)

    return start


@pytest.fixture
def own_live(serve: Callable[..., Live]) -> Iterator[Callable[..., Live]]:
    """Servers of this test alone, which may stop them."""
    running: list[Live] = []

    def start(kind: str, host: str = "reference", **env: str) -> Live:
        running.append(serve(kind, host, **env))
        return running[-1]

    yield start
    for live in running:
        live.close()


@pytest.fixture(scope="session")
def _running(databases: Databases, redis_databases: redis.Databases) -> Iterator[dict[Any, Live]]:
    """What :func:`live_servers` has started; ended before the services that it uses."""
    running: dict[Any, Live] = {}
    yield running
    for live in running.values():
        live.close()


@pytest.fixture
def live_servers(cell: Cell, serve: Callable[..., Live], _running: dict[Any, Live]) -> Callable[..., Live]:
    """Servers that tests share: one for each (kind, host, settings); every test takes a thread of its own there."""

    def find(kind: str, host: str = "reference", **env: str) -> Live:
        key = (kind, host, cell.processes, *sorted(env.items()))
        if key not in _running:
            _running[key] = serve(kind, host, **env)
        return _running[key]

    return find


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start programs of a bench's host: ``beside(bench, "-m", "flask", …)``."""
    processes: list[Process] = []

    def start(bench: Workbench, *arguments: str, **env: str) -> Process:
        services = {
            "NURSECARE_INSTANCE": str(bench.folder),
            "NURSECARE_DATABASE_URL": bench.url,
            "CHAT_STORAGE_URL": f"file://{bench.folder}/media",
            "CHAT_QUEUE_URL": bench.state.config.queue_url,
        }
        log = tmp_path / f"process-{len(processes)}.log"
        processes.append(Process([sys.executable, *arguments], log, services | env))
        return processes[-1]

    yield start
    for process in processes:
        process.end()
