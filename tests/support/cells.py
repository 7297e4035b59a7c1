"""What the hosts run on: a database, a transport, one process or two."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from .hosts import HOSTS

CELLS = {"foreign": ("redis", 2), "reference-postgresql": ("memory", 2), "foreign-postgresql": ("redis", 1)}
"""What benches run on where the command line does not say; the others, and servers, on memory, in one process."""


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("chat", "What the hosts run on; without these each host has a cell of its own")
    group.addoption("--database", choices=("sqlite", "postgresql"), help="hosts of the other are their twins on this")
    group.addoption("--transport", choices=("memory", "redis"), help="what carries rings and counts, for all hosts")
    group.addoption("--processes", type=int, choices=(1, 2), help="how many serve each host, by turns")


class Cell:
    """The command line's choice, each part of which may be ``None``."""

    def __init__(self, config: pytest.Config) -> None:
        self.database: str | None = config.getoption("--database")
        self.transport: str | None = config.getoption("--transport")
        self.processes: int | None = config.getoption("--processes")

    @property
    def chosen(self) -> bool:
        return any((self.database, self.transport, self.processes))

    def host(self, name: str) -> str:
        """The host's twin on this cell's database."""
        host = HOSTS[name]
        if self.database is None or self.database == {"memory": "sqlite"}.get(host.database, host.database):
            return name
        return host.named(self.database, host.sealed)

    def bench(self, name: str) -> tuple[str, int]:
        """The transport of a bench of this host, and how many processes serve it."""
        transport, processes = CELLS.get(name, ("memory", 1))
        if HOSTS[name].database == "memory":  # one connection of one process
            return self.transport or transport, 1
        return self.transport or transport, self.processes or processes

    def moved(self, parameter: Any) -> Any:
        """What a test was parametrized with, with the hosts' names in it as they are here."""
        if isinstance(parameter, tuple):
            return tuple(self.moved(part) for part in parameter)
        if parameter == "two-gevent" and self.processes is not None:
            return "gevent"
        return self.host(parameter) if isinstance(parameter, str) and parameter in HOSTS else parameter

    def name_of(self, parameter: Any) -> str | None:
        """A test's name says which host it is really on."""
        parts = self.moved(parameter if isinstance(parameter, tuple) else (parameter,))
        hosts = [part for part in parts if isinstance(part, str) and part in HOSTS]
        return "-".join(map(str, parts)) if hosts else None

    def divide(self, items: Iterable[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
        """Those that mean something here, and those that are about another database or the same as one before."""
        kept: list[pytest.Item] = []
        others: list[pytest.Item] = []
        seen = set()
        for item in items:
            parameters = item.callspec.params if hasattr(item, "callspec") else {}
            same = (item.nodeid.partition("[")[0], repr({name: self.moved(one) for name, one in parameters.items()}))
            only = item.get_closest_marker("database")
            elsewhere = only is not None and self.database not in (None, *only.args)
            if elsewhere or (self.chosen and same in seen):
                others.append(item)
            else:
                kept.append(item)
            seen.add(same)
        return kept, others
