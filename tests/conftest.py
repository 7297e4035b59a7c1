"""Fixtures that every test may use; real servers and the browser are in ``tests/support``."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from .support import azurite
from .support.databases import Databases
from .support.hosts import HOSTS, Api, Workbench
from .support.live import Live
from .support.redis import Databases as RedisDatabases


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chat", "What the hosts run on; without these each host has a cell of its own")
    group.addoption("--transport", choices=("memory", "redis"), help="what carries rings and counts, for all hosts")
    group.addoption("--processes", type=int, choices=(1, 2), help="how many serve each host, by turns")


def pytest_configure() -> None:
    """A shell that runs us in the background has us, and so every server that we start, ignore SIGINT."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


CELLS = {"foreign": ("redis", 2), "reference-postgresql": ("memory", 2), "foreign-postgresql": ("redis", 1)}
"""What the hosts run on where the command line does not say; the others on memory, in one process."""


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
def redis_databases() -> Iterator[RedisDatabases]:
    """A Redis with databases to take."""
    databases = RedisDatabases()
    yield databases
    databases.close()


@pytest.fixture
def redis_url(redis_databases: RedisDatabases) -> str:
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
def make_bench(
    request: pytest.FixtureRequest, tmp_path: Path, databases: Databases, redis_databases: RedisDatabases
) -> Iterator[Callable[..., Workbench]]:
    """Make applications: ``make_bench("foreign", CHAT_MAX_TEXT=10)``."""
    benches: list[Workbench] = []
    one_process = request.node.get_closest_marker("one_process") is not None

    def make(name: str = "reference", **config: Any) -> Workbench:
        folder = tmp_path / str(len(benches))
        folder.mkdir()
        transport, processes = cell(request.config, name)
        if transport == "redis" and "CHAT_TRANSPORT_URL" not in config:
            config["CHAT_TRANSPORT_URL"] = redis_databases.take()
        benches.append(Workbench(HOSTS[name], folder, databases, config, 1 if one_process else processes))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


def cell(config: pytest.Config, host: str) -> tuple[str, int]:
    """The transport of a host, and how many processes serve it."""
    transport, processes = CELLS.get(host, ("memory", 1))
    if host == "memory":  # its database is one connection of one process
        return config.getoption("--transport") or transport, 1
    return config.getoption("--transport") or transport, config.getoption("--processes") or processes


@pytest.fixture(params=sorted(HOSTS))
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


@pytest.fixture(scope="session")
def live_servers(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Callable[..., Live]]:
    """Servers that tests share: one for each (kind, host, settings); every test takes a thread of its own there."""
    running: dict[Any, Live] = {}

    def serve(kind: str, host: str = "reference", **env: str) -> Live:
        key = (kind, host, *sorted(env.items()))
        if key not in running:
            running[key] = Live(kind, host, tmp_path_factory.mktemp(kind), databases, env)
        return running[key]

    yield serve
    for live in running.values():
        live.close()
