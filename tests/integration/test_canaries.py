"""Canaries through real servers, workers and failures: after the purge no place has one of them, in any form."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis as redis_client
import sqlalchemy as sa

from nursecare_chat.storage import names

from ..support import azurite, postgres, redis
from ..support.canaries import Canary, Needles, found, kinds, raw, scan
from ..support.databases import Databases
from ..support.hosts import HOSTS, UNLIMITED, Workbench
from ..support.live import Person
from ..support.receipts import receipts
from ..support.servers import Process, Server
from ..support.wait import eventually

APP = "tests.support.loud:create_app()"
GONE_BEFORE = {"posted's pixels"}
"""The original of a photo is deleted as soon as its copy is shown."""


@dataclass
class Service:
    """A host with a worker.

    :ivar bench: another process's view of it, and a host without a key store on the same database.
    """

    bench: Workbench
    server: Server
    worker: Process
    engine: sa.Engine
    people: list[Person] = field(default_factory=list)

    def login(self, who: str) -> Person:
        self.people.append(Person(self.server.url, who))
        return self.people[-1]

    @property
    def logs(self) -> list[Path]:
        return [self.server.log, self.worker.log]

    def close(self) -> None:
        for person in self.people:
            person.http.close()
        self.worker.end()
        self.server.end()
        self.engine.dispose()
        self.bench.close()


@pytest.fixture
def start(beside: Callable[..., Process], tmp_path: Path) -> Iterator[Callable[..., Service]]:
    running: list[Service] = []

    def begin(host: str, databases: Databases, **env: str) -> Service:
        folder = tmp_path / "instance"
        (folder / "tmp").mkdir(parents=True)
        bench = Workbench(HOSTS[host], folder, databases, {"CHAT_STORAGE_URL": f"file://{tmp_path}/of the bench"})
        env = {"CHAT_ENABLED": "true", "TMPDIR": str(folder / "tmp"), **UNLIMITED, **env}
        own = {"NURSECARE_INSTANCE": str(folder), "NURSECARE_DATABASE_URL": bench.url}
        worker = beside(bench, "-m", "flask", "--app", APP, "chat", "worker", **env)
        server = Server("gevent", APP, folder, {**own, **env})
        engine = sa.create_engine(bench.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        running.append(Service(bench, server, worker, engine))
        worker.wait_for("Chat worker ready")
        return running[-1]

    yield begin
    for service in running:
        service.close()


def send(person: Person, thread: int, body: Any) -> int:
    return person.http.post(f"/api/chat/threads/{thread}/messages", json=body).status_code


def issue(person: Person, thread: int, size: int) -> dict[str, Any]:
    wanted = {"contentType": "image/jpeg", "size": size}
    issued: dict[str, Any] = person.http.post(f"/api/chat/threads/{thread}/uploads", json=wanted).json()
    return issued


def put(person: Person, issued: dict[str, Any], data: bytes) -> int:
    return person.http.put(issued["uploadUrl"], content=data, headers=issued["headers"]).status_code


REFUSE = {
    "sqlite": (
        [
            f"CREATE TRIGGER no_{what} BEFORE {what} ON chat_messages BEGIN SELECT RAISE(ABORT, 'refused'); END"
            for what in ("INSERT", "UPDATE")
        ],
        ["DROP TRIGGER no_INSERT", "DROP TRIGGER no_UPDATE"],
    ),
    "postgresql": (
        # Its DETAIL quotes the row.
        ["ALTER TABLE chat_messages ADD CONSTRAINT refuse CHECK (false) NOT VALID"],
        ["ALTER TABLE chat_messages DROP CONSTRAINT refuse"],
    ),
}
AWAY = (["ALTER TABLE chat_messages RENAME TO elsewhere"], ["ALTER TABLE elsewhere RENAME TO chat_messages"])
LOCK = {
    "sqlite": (["BEGIN IMMEDIATE"], ["ROLLBACK"]),
    "postgresql": (["BEGIN", "LOCK TABLE chat_messages IN EXCLUSIVE MODE"], ["ROLLBACK"]),
}


@contextmanager
def trouble(engine: sa.Engine, statements: tuple[list[str], list[str]]) -> Iterator[None]:
    with engine.connect() as connection:
        for statement in statements[0]:
            connection.exec_driver_sql(statement)
        try:
            yield
        finally:
            for statement in statements[1]:
                connection.exec_driver_sql(statement)


class Said(NamedTuple):
    """
    :ivar thread: still open.
    :ivar content: what may be nowhere once it is erased.
    :ivar rights: signed addresses and cookies, which may never be anywhere.
    :ivar paths: the blobs' names, which only the storage and the database know.
    """

    thread: int
    content: Needles
    rights: Needles
    paths: Needles


def converse(service: Service, canary: Canary) -> Said:
    """Everything that people may send, well-formed or not, while the database works and while it does not."""
    client, admin = service.login("client"), service.login("admin")
    thread = client.open(service.bench.host.request_id(1))
    reader = client.listen(thread, "0")
    words = {"type": "text", "text": canary.text, "clientMessageId": canary.client_message_id}
    place = {"type": "location", "lat": canary.latitude, "lng": float(canary.longitude)}
    assert [send(client, thread, words) for _ in range(2)] == [200, 200]
    assert send(client, thread, {**words, "text": f"{canary.word} again"}) == 422
    assert send(admin, thread, place) == 200
    for wrong in (
        {**words, "fileName": f"{canary.word}.jpg"},
        {**words, canary.word: 1},
        {**words, "text": canary.text * 500},
        {**place, "lat": canary.word},
        {"type": "image", "mediaPath": canary.word},
    ):
        assert send(client, thread, wrong) == 422
    broken = f'{{"type": "text", "text": "{canary.word}'.encode()
    kind = {"Content-Type": "application/json"}
    assert client.http.post(f"/api/chat/threads/{thread}/messages", content=broken, headers=kind).status_code == 422
    wanted = {"contentType": "image/jpeg", "size": 9, "fileName": f"{canary.word}.jpg"}
    assert client.http.post(f"/api/chat/threads/{thread}/uploads", json=wanted).status_code == 422
    posted, waiting = (canary.photo(what) for what in ("posted", "waiting"))
    addresses = [issue(client, thread, len(photo)) for photo in (posted, waiting, canary.word.encode())]
    assert [put(client, one, photo) for one, photo in zip(addresses, (posted, waiting), strict=False)] == [201, 201]
    photo = {"type": "image", "mediaPath": addresses[0]["mediaPath"]}
    shown = client.http.post(f"/api/chat/threads/{thread}/messages", json=photo).json()["media_url"]
    assert put(client, addresses[2], canary.word.encode()) in (201, 415)
    assert send(client, thread, {"type": "image", "mediaPath": addresses[2]["mediaPath"]}) == 422
    for broken_by in (REFUSE[service.engine.dialect.name], AWAY, LOCK[service.engine.dialect.name]):
        with trouble(service.engine, broken_by):
            assert send(admin, thread, place) in (500, 503)
            assert send(client, thread, {**words, "clientMessageId": None}) in (500, 503)
    listed = admin.http.get(f"/api/chat/threads/{thread}/messages").json()["messages"]
    assert [one["text"] for one in listed] == [canary.text, None, None]
    assert [event.json["seq"] for event in reader.wait(3)] == [1, 2, 3]
    content = canary.needles | scan("posted", posted) | scan("waiting", waiting)
    content |= scan("shown", client.http.get(shown).content)
    urls = [*(one["uploadUrl"] for one in addresses), shown]
    rights = [url.rpartition("sig=")[2].partition("&")[0].rpartition("/")[2] for url in urls]
    rights += [person.http.cookies["session"] for person in (client, admin)]
    paths = [one["mediaPath"].rpartition("/")[2].encode() for one in addresses]
    return Said(
        thread,
        content,
        {f"right {number}": right.encode() for number, right in enumerate(rights)},
        {f"path {number}": path for number, path in enumerate(paths)},
    )


def close(service: Service, thread: int) -> None:
    """With a first attempt that the database refuses."""
    with trouble(service.engine, REFUSE[service.engine.dialect.name]):
        assert service.people[0].close(thread).status_code == 200
        service.worker.wait_for("chat purge failed")
    eventually(lambda: receipts(service.bench)[thread].purged_at, service.worker, seconds=60)
    row = receipts(service.bench)[thread]
    assert (row.state, row.last_error, row.attempts > 1) == ("verified_empty", None, True)
    for log in service.logs:
        assert "INFO sqlalchemy.engine.Engine.nursecare_chat" in log.read_text()
    assert "chat database error" in service.server.output


@pytest.mark.database("sqlite")
def test_on_one_machine(start: Callable[..., Service], databases: Databases, tmp_path: Path) -> None:
    """C37, C41: SQLite with its write-ahead log, the local storage, SQLite's queue, and every log at DEBUG."""
    service = start("reference", databases, CHAT_QUEUE_URL="sqlite://", CHAT_STORAGE_URL="file://")
    with service.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    canary, folder = Canary(), tmp_path / "instance"
    said = converse(service, canary)
    assert kinds(found(said.content, folder)) == kinds(set(said.content)) - GONE_BEFORE
    assert kinds(found(said.content, *folder.glob("host.db*"))) == {"word", "text", "latitude", "longitude"}
    assert kinds(found(said.paths, *folder.glob("host.db*"))) == set(said.paths)
    close(service, said.thread)
    assert {path.name for path in folder.iterdir()} >= {"host.db", "host.db-wal", "chat-queue.db", "chat-media"}
    assert found(said.content | said.rights, tmp_path) == set()
    assert found(said.paths, *service.logs, *folder.glob("chat-queue.db*"), folder / "chat-media") == set()


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[tuple[postgres.Server, Databases]]:
    """A server that a base backup can be taken of."""
    server = postgres.Server(wal_level="replica", full_page_writes="on")
    databases = Databases(tmp_path)
    databases._server = server
    yield server, databases
    for pool in databases._pools.values():
        pool.close(keep=True)
    server.close()


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[azurite.Server]:
    """With its data in ``azure``."""
    (tmp_path / "azure").mkdir()
    server = azurite.Server(data=tmp_path / "azure")
    yield server
    server.close()


@pytest.fixture
def redis_server() -> Iterator[redis.Server]:
    """That writes down every command that changes anything, and compresses nothing."""
    server = redis.Server(appendonly="yes", rdbcompression="no")
    yield server
    server.close()


@contextmanager
def monitored(server: redis.Server, file: Path) -> Iterator[None]:
    """What Redis says of every command it gets, in a file."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"MONITOR\r\n")

        def write() -> None:
            with file.open("wb") as output:
                while said := connection.recv(65536):
                    output.write(said)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            yield
        finally:
            connection.shutdown(socket.SHUT_RDWR)
            writer.join()


def dumped(server: redis.Server) -> bytes:
    """Every key, as Redis serializes it; and its file of them is written anew."""
    server.command("SAVE")
    dumps = []
    for database in range(3):
        with redis_client.Redis(port=server.port, db=database) as client:
            dumps += [client.dump(key) or b"" for key in client.scan_iter()]
    return b"".join(dumps)


def back_up(server: postgres.Server, to: Path) -> None:
    """A base backup, with the write-ahead log that it needs."""
    with postgres.connect(server.url) as operator:
        named = operator.info.server_version >= 150000
        operator.execute("SELECT pg_backup_start('b', true)" if named else "SELECT pg_start_backup('b', true, false)")
        shutil.copytree(server.folder / "data", to)
        operator.execute("SELECT pg_backup_stop()" if named else "SELECT pg_stop_backup(false)")
    shutil.copytree(server.folder / "data" / "pg_wal", to / "pg_wal", dirs_exist_ok=True)


@pytest.mark.database("postgresql")
def test_on_servers(
    postgresql: tuple[postgres.Server, Databases],
    azure: azurite.Server,
    redis_server: redis.Server,
    start: Callable[..., Service],
    tmp_path: Path,
) -> None:
    """C37, C41: PostgreSQL's heap, write-ahead log and backup with a key store, Azurite's folder, and all of Redis.

    Another canary, of a host without a key store, says that the search would have found it.
    """
    server, databases = postgresql
    heard, backup, keys = tmp_path / "monitor", tmp_path / "backup", tmp_path / "instance" / "chat-keys"
    canary, control = Canary(), Canary()
    with monitored(redis_server, heard):
        service = start(
            "reference-postgresql",
            databases,
            CHAT_KEYSTORE_URL="file://",
            CHAT_STORAGE_URL="azure://photos",
            CHAT_AZURE_CONNECTION_STRING=azure.connection_string,
            CHAT_QUEUE_URL=f"{redis_server.url}/1",
            CHAT_TRANSPORT_URL=f"{redis_server.url}/2",
        )
        storage = azurite.storage(azure.connection_string, "photos")
        storage.create()
        said = converse(service, canary)
        key = raw("key", (keys / f"{said.thread}.key").read_bytes())
        say_in_the_clear(service, control)
        redis_server.command("SET", "canary", control.text)
        assert kinds(found(said.content, tmp_path / "azure")) >= {"word", "waiting's pixels", "shown's pixels"}
        assert kinds(found(key, keys)) == {"key"}
        back_up(server, backup)
        close(service, said.thread)
        dump = dumped(redis_server)
    with postgres.connect(server.url) as operator:
        operator.execute("CHECKPOINT")
    azure.collect_garbage()
    eventually(lambda: not found(said.content, tmp_path / "azure"), seconds=60)
    storage.write(names.new_name(10**6, "image/jpeg"), control.photo("kept"))
    in_redis = (heard, dump, redis_server.folder / "dump.rdb", redis_server.folder / "appendonlydir")
    for place in in_redis:
        assert kinds(found(control.needles, place)) >= {"word", "text"}, place
    for place in (server.folder / "data" / "base", server.folder / "data" / "pg_wal", backup / "base"):
        assert kinds(found(control.needles, place)) == {"word", "text", "latitude", "longitude"}, place
    assert kinds(found(control.needles, tmp_path / "azure")) == {"word"}
    places = [tmp_path, server.folder, redis_server.folder, dump]
    assert found(said.content | key | said.rights, *places) == set()
    assert found(said.paths, *in_redis, tmp_path / "azure") == set()


def say_in_the_clear(service: Service, canary: Canary) -> None:
    """In another chat, which is closed and erased as well."""
    api = service.bench.login("client")
    thread: int = api.open(2).get_json()["threadId"]
    assert api.say(thread, canary.text).status_code == 200
    assert api.post(thread, {"type": "location", "lat": canary.latitude, "lng": canary.longitude}).status_code == 200
    assert api.close(thread).status_code == 200
    assert receipts(service.bench)[thread].reason == "database_wal_and_backups"
