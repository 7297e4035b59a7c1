"""Databases with a host's tables and people in them, clean for every bench."""

from __future__ import annotations

import os
import secrets
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from .postgres import Server, connect

# What a test may have done to a database besides writing rows.
SHAPE = """
SELECT md5(string_agg(thing, ',' ORDER BY thing)) FROM (
  SELECT oid || relname AS thing FROM pg_class WHERE relnamespace = 'public'::regnamespace
  UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
) AS things
"""
OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
Fill = Callable[[str], list[str]]
"""Makes tables and people at a URL; the tables' names, parents first."""


class Database:
    """What a bench works on. ``path`` is SQLite's file, else ``None``."""

    def __init__(self, url: str, path: Path | None = None, give_back: Callable[[], None] = lambda: None) -> None:
        self.url, self.path, self.give_back = url, path, give_back


class Databases:
    """Makes them for one process of the test run; a PostgreSQL server is started with the first that needs one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Path] = {}
        self._pools: dict[str, Pool] = {}
        self._server: Server | None = None
        self._missing = ""

    def take(self, kind: str, name: str, folder: Path, fill: Fill) -> Database:
        """A database of ``kind`` for the host ``name``, as ``fill`` leaves it."""
        if kind == "memory":
            return Database("sqlite://")
        if kind == "postgresql":
            if name not in self._pools:
                self._pools[name] = Pool(self.postgres, fill)
            return self._pools[name].take()
        if name not in self._files:
            self._files[name] = self._folder / f"{name}.db"
            fill(f"sqlite:///{self._files[name]}")
        path = folder / "host.db"
        shutil.copy(self._files[name], path)
        return Database(f"sqlite:///{path}", path)

    @contextmanager
    def empty(self, kind: str, folder: Path) -> Iterator[str]:
        """The URL of a database of ``kind`` without anything in it."""
        if kind == "sqlite":
            yield f"sqlite:///{folder / 'empty.db'}"
            return
        url = create(self.postgres)
        try:
            yield text(url)
        finally:
            drop(url, self.postgres)

    @property
    def postgres(self) -> sa.URL:
        """A server on which databases may be made."""
        if named := os.environ.get("TEST_POSTGRESQL_URL"):
            return sa.make_url(named).set(drivername="postgresql+psycopg")
        if self._missing:
            pytest.fail(self._missing, pytrace=False)
        if self._server is None:
            try:
                self._server = Server()
            except AssertionError as error:
                self._missing = str(error)
                pytest.fail(self._missing, pytrace=False)
        return self._server.url

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close(keep=self._server is not None)
        if self._server is not None:
            self._server.close()


def create(server: sa.URL, template: str | None = None) -> sa.URL:
    """A new database on ``server``; its URL."""
    name = f"chat_{os.getpid()}_{secrets.token_hex(4)}"
    with connect(server) as connection:
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
            # Quicker here than the default of PostgreSQL 15 and later, 34 ms instead of 40; older ones know no other.
            statement += sql.SQL(" STRATEGY FILE_COPY" if connection.info.server_version >= 150000 else "")
        connection.execute(statement)
    return server.set(database=name)


def drop(url: sa.URL, server: sa.URL) -> None:
    with connect(server) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(url.database or "")))


class Pool:
    """One host's databases. One that is given back is filled anew in 2 ms; making one takes 40, a TRUNCATE alone 20."""

    def __init__(self, server: sa.URL, fill: Fill) -> None:
        self._server = server
        self._made: dict[str, psycopg.Connection[Any] | None] = {}
        self._free: list[sa.URL] = []
        self._shapes: dict[str, Any] = defaultdict(str)
        self._template = create(server)
        self._made[str(self._template.database)] = None
        tables = fill(text(self._template))
        with connect(self._template) as connection:
            connection.execute("CREATE SCHEMA kept")
            for table in tables:
                connection.execute(f'CREATE TABLE kept."{table}" AS TABLE "{table}"')
            counters = connection.execute("SELECT sequencename, last_value FROM pg_sequences").fetchall()
        steps = [f'DELETE FROM "{table}"' for table in reversed(tables)]
        steps += [f'INSERT INTO "{table}" TABLE kept."{table}"' for table in tables]
        steps += [f"SELECT setval('{name}', {last or 1}, {last is not None})" for name, last in counters]
        self._refill = "; ".join(["SET lock_timeout = '10s'", "BEGIN", *steps, "COMMIT"])

    def take(self) -> Database:
        url = self._free.pop() if self._free else self._make()
        return Database(text(url), None, lambda: self._give_back(url))

    def _make(self) -> sa.URL:
        url = create(self._server, self._template.database)
        self._made[str(url.database)] = connection = connect(url)
        self._shapes[str(url.database)] = connection.execute(SHAPE).fetchone()
        return url

    def _give_back(self, url: sa.URL) -> None:
        connection = self._made[str(url.database)]
        assert connection is not None
        try:
            connection.execute(OTHERS)
            if connection.execute(SHAPE).fetchone() == self._shapes[str(url.database)]:
                connection.execute(self._refill)
                self._free.append(url)
                return
        except psycopg.Error:
            pass  # whatever the test did to it: the next one gets another
        self._drop(str(url.database))

    def _drop(self, name: str) -> None:
        connection = self._made.pop(name)
        if connection is not None:
            connection.close()
        drop(self._server.set(database=name), self._server)

    def close(self, keep: bool) -> None:
        """:param keep: leave the databases to a server that is about to go itself."""
        for connection in self._made.values():
            if keep and connection is not None:
                connection.close()
        for name in [] if keep else list(self._made):
            self._drop(name)


def text(url: sa.URL) -> str:
    return url.render_as_string(hide_password=False)
