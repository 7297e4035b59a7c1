"""Installing the plugin: what init_app takes, refuses, and leaves alone."""

from __future__ import annotations

import logging
import sqlite3
import traceback
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from click import ClickException
from flask import Flask, abort, g
from flask_login import LoginManager, UserMixin, current_user, logout_user
from flask_sqlalchemy import SQLAlchemy
from huey import MemoryHuey
from sqlalchemy import CHAR, Engine, TypeDecorator, event
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import SingletonThreadPool

from nursecare_chat import Chat, ChatThreadPolicy, ConfigurationError
from nursecare_chat import config as configuration
from nursecare_chat.errors import DatabaseError
from nursecare_chat.service.messages import Draft

from ..support.databases import Databases
from ..support.hosts import TESTING, Workbench
from ..support.sse import parse as parse_stream


def make_app(**config: Any) -> Flask:
    app = Flask(__name__)
    defaults = {"SECRET_KEY": "k", "SQLALCHEMY_DATABASE_URI": "sqlite://", "CHAT_ENABLED": True}
    app.config.update({**defaults, **TESTING, **config})
    return app


class Small:
    """The smallest host: users and jobs with keys of any type.

    :param parse: makes a key of what Flask-Login put into its session.
    """

    def __init__(self, key: Any = None, parse: Callable[[str], Any] = int, **config: Any) -> None:
        self.db = db = SQLAlchemy()
        key = key or db.Integer

        class User(UserMixin, db.Model):
            id = db.Column(key, primary_key=True)
            role = db.Column(db.String(10))

        class Job(db.Model):
            id = db.Column(key, primary_key=True)
            client_id = db.Column(key, db.ForeignKey("user.id"))

        self.User, self.Job = User, Job
        self.app = make_app(**config)
        db.init_app(self.app)
        login = LoginManager(self.app)
        login.user_loader(lambda text: db.session.get(User, parse(text)))

    def install(self, **options: Any) -> Any:
        options = {"db": self.db, "user_model": self.User, "request_model": self.Job, **options}
        Chat().init_app(self.app, **options)
        return self.app.extensions["nursecare_chat"]

    def client(self, user_id: Any) -> Any:
        client = self.app.test_client()
        with client.session_transaction() as session:
            session.update(_user_id=str(user_id), _fresh=True)
        return client

    def add(self, *rows: Any) -> None:
        with self.app.app_context():
            self.db.create_all()
            self.db.session.add_all(rows)
            self.db.session.commit()

    def close(self) -> None:
        self.app.extensions["nursecare_chat"].database.dispose()
        with self.app.app_context():
            self.db.session.remove()
            self.db.engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def make_small(request: pytest.FixtureRequest, tmp_path: Path, databases: Databases) -> Iterator[Callable[..., Small]]:
    """Small hosts on a database of their own, of each kind in turn."""
    made: list[Small] = []
    with databases.empty(request.param, tmp_path) as url:

        def make(key: Any = None, parse: Callable[[str], Any] = int, **config: Any) -> Small:
            made.append(Small(key, parse, SQLALCHEMY_DATABASE_URI=url, **config))
            return made[-1]

        yield make
        for small in made:
            small.close()


def test_init_app_never_touches_the_database() -> None:
    """C1: nor makes a file, with a database that nobody can reach."""
    small = Small(SQLALCHEMY_DATABASE_URI="sqlite:////nonexistent/folder/x.db", CHAT_QUEUE_URL="sqlite://")
    small.install()


def test_routes_are_a_blueprint() -> None:
    """C1: chat.blueprint, registered by init_app."""
    small, chat = Small(), Chat()
    chat.init_app(small.app, db=small.db, user_model=small.User, request_model=small.Job)
    assert small.app.blueprints[chat.blueprint.name] is chat.blueprint


def test_several_apps_in_one_process() -> None:
    """C1: one Chat on two applications with different settings, policies and databases; neither knows the other."""
    chat, benches = Chat(), []
    for limit in (3, 9):
        small = Small(CHAT_MAX_TEXT=limit)
        chat.init_app(small.app, db=small.db, user_model=small.User, request_model=small.Job)
        small.add(small.User(id=1), small.Job(id=1, client_id=1))
        benches.append(small)
    answers = []
    for small in benches:
        client = small.client(1)
        client.post("/api/requests/1/chat/open")
        answers.append(client.post("/api/chat/threads/1/messages", json={"type": "text", "text": "12345"}).status_code)
    assert answers == [422, 200]


def test_the_same_db_in_a_second_app() -> None:
    """C1, C2: a second create_app() on the same models gets the same classes."""
    small = Small()
    first = small.install().models
    small.app = make_app()
    small.db.init_app(small.app)
    assert small.install().models is first


class StrictGuid(TypeDecorator[uuid.UUID]):
    """A common recipe for UUIDs without a native type: it takes nothing else, and says it holds text."""

    impl = CHAR(32)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        return None if value is None else value.hex

    def process_result_value(self, value: Any, dialect: Any) -> uuid.UUID | None:
        return None if value is None else uuid.UUID(value)


class Guid(TypeDecorator[uuid.UUID]):
    """SQLAlchemy's own recipe for UUIDs: native where there are some, else text."""

    impl = CHAR
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        return dialect.type_descriptor(postgresql.UUID() if dialect.name == "postgresql" else CHAR(32))

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return value.hex

    def process_result_value(self, value: Any, dialect: Any) -> uuid.UUID | None:
        return value if value is None or isinstance(value, uuid.UUID) else uuid.UUID(value)


def number_from(start: int) -> Callable[[int], int]:
    return lambda n: start + n


def spelled(n: int) -> str:
    return str(uuid.UUID(int=n))


KEYS = {  # the column's type, the n-th key, and how Flask-Login's text becomes one
    "integer": (sa.Integer(), number_from(0), int),
    "bigint": (sa.BigInteger(), number_from(2**40), int),
    "uuid": (sa.Uuid(), lambda n: uuid.UUID(int=n), uuid.UUID),
    "uuid as text": (sa.Uuid(as_uuid=False), spelled, str),
    "string": (sa.String(40), lambda n: f"a/b //ü%2F {n}?#", str),
    "recipe": (Guid(), lambda n: uuid.UUID(int=n), uuid.UUID),
    "strict recipe": (StrictGuid(), lambda n: uuid.UUID(int=n), uuid.UUID),
}


@pytest.mark.parametrize("kind", KEYS)
def test_key_types(make_small: Callable[..., Small], kind: str) -> None:
    """C2, C9, C17, C23, C30, C37: a chat's whole life; integers are JSON numbers, others strings; keys are real."""
    column, make, parse = KEYS[kind]
    small = make_small(column, parse)
    state = small.install()
    small.add(small.User(id=make(1)), small.User(id=make(2), role="admin"))
    small.add(small.Job(id=make(3), client_id=make(1)), small.Job(id=make(4), client_id=make(1)))
    assert {key.target_fullname for key in state.models.threads.foreign_keys} == {"user.id", "job.id"}
    client, admin = small.client(make(1)), small.client(make(2))

    def wire(n: int) -> Any:
        return make(n) if isinstance(make(n), int) else str(make(n))

    def path(n: int) -> str:
        return f"/api/requests/{quote(str(make(n)), safe='')}/chat/open"

    thread = client.post(path(3)).get_json()["threadId"]
    assert admin.post(path(3)).get_json() == {"threadId": thread, "status": "open"}
    base = f"/api/chat/threads/{thread}"
    shown = client.get(base).get_json()
    assert (shown["clientId"], shown["adminId"], shown["requestId"]) == (wire(1), wire(2), wire(3))
    body = {"type": "text", "text": "x", "clientMessageId": "once"}
    first, again = (client.post(f"{base}/messages", json=body) for _ in range(2))
    assert (first.status_code, first.get_json()) == (200, again.get_json())
    place = {"type": "location", "lat": 12.3456789, "lng": "-179.1234567", "clientMessageId": "there"}
    posted = [admin.post(f"{base}/messages", json=place).get_json() for _ in range(2)]
    assert posted == [{"id": posted[0]["id"], "seq": 2}] * 2
    listed = client.get(f"{base}/messages").get_json()["messages"]
    assert [message["sender_id"] for message in listed] == [wire(1), wire(2)]
    assert (listed[1]["lat"], listed[1]["lng"]) == (12.3456789, -179.1234567)
    _, events = parse_stream(client.get(f"{base}/stream", headers={"Last-Event-ID": "0"}).data)
    assert [event.json for event in events] == [{"threadId": thread, **message} for message in listed]
    assert state.access.lost([(make(1), thread), (make(2), thread), (make(4), thread)]) == {(make(4), thread)}

    other = client.post(path(4)).get_json()["threadId"]
    assert admin.post(f"/api/chat/threads/{other}/messages", json={"type": "text", "text": "y"}).status_code == 200
    assert client.get(f"/api/chat/threads/{other}").get_json()["adminId"] == wire(2)

    for one in (thread, other):
        assert client.patch(f"/api/chat/threads/{one}/close").get_json()["status"] == "closed"
    erased = client.get(f"{base}/messages").get_json()["messages"]
    assert [(message["text"], message["lat"], message["sender_id"]) for message in erased] == [
        (None, None, wire(1)),
        (None, None, wire(2)),
    ]
    run = small.app.test_cli_runner().invoke
    assert "1 chat(s) forgotten" in run(args=["chat", "forget", "--request", str(make(3))]).output
    assert "1 chat(s) forgotten" in run(args=["chat", "forget", "--user", str(make(2))]).output
    assert client.get(base).status_code == 404
    with state.database.read() as connection:
        purges = connection.execute(state.models.purges.select().order_by("thread_id")).all()
    assert [(purge.request_id, purge.state, purge.rows_redacted) for purge in purges] == [
        (make(3), "settled", 2),
        (make(4), "settled", 1),
    ]
    with small.app.app_context():
        for model in (small.Job, small.User):
            small.db.session.execute(small.db.delete(model))
        small.db.session.commit()


@pytest.mark.parametrize("kind", KEYS)
def test_keys_that_name_nothing(make_small: Callable[..., Small], kind: str) -> None:
    """C13, C2: 404 for what the key's column cannot hold or read as well; the command says so, too."""
    column, make, parse = KEYS[kind]
    small = make_small(column, parse)
    small.install()
    small.add(small.User(id=make(1), role="admin"))
    client = small.client(make(1))
    run = small.app.test_cli_runner().invoke
    for text in ("nonsense", "2147483648", str(2**63 - 1), str(uuid.uuid4()), "x" * 255, "\u4e00"):
        assert client.post(f"/api/requests/{text}/chat/open").status_code == 404, text
        assert f"There is no Job {text!r}" in run(args=["chat", "forget", "--request", text]).output


def test_in_memory_with_a_name(tmp_path: Any) -> None:
    """C10: a shared-cache database is opened a second time, in every thread."""
    uri = f"sqlite:///file:{tmp_path.name}?mode=memory&cache=shared&uri=true"
    options = {"poolclass": SingletonThreadPool, "connect_args": {"check_same_thread": False}}
    small = Small(SQLALCHEMY_DATABASE_URI=uri, SQLALCHEMY_ENGINE_OPTIONS=options)
    state = small.install()
    with small.app.app_context(), small.db.engine.connect():  # as long as somebody has it open, it is there
        small.add(small.User(id=1), small.Job(id=1, client_id=1))
        statuses: list[int] = []

        def open_it() -> None:
            statuses.append(small.client(1).post("/api/requests/1/chat/open").status_code)

        for _ in range(2):
            worker = Thread(target=open_it)
            worker.start()
            worker.join()
        state.database.dispose()
        small.db.engine.dispose()
    assert statuses == [200, 200]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"user_model": None}, "needs user_model="),
        ({"request_model": None}, "needs request_model="),
        ({"db": None}, "needs db="),
        ({"db": object()}, "Flask-SQLAlchemy"),
        ({"user_model": int}, "user_model=<class 'int'> is not a model"),
        ({"request_client": "patient"}, "has no attribute 'patient'"),
        ({"request_client": 7}, "neither an attribute's name nor a callable"),
        ({"policy": dict}, "no ChatThreadPolicy"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], says: str) -> None:
    """C1 to C3: the error names the argument and what to do, and the CLI shows it without a traceback."""
    with pytest.raises(ClickException, match=says):
        Small().install(**options)


def test_twice_is_refused() -> None:
    """C1."""
    small = Small()
    small.install()
    with pytest.raises(ConfigurationError, match="twice"):
        small.install()


def test_taken_table_name() -> None:
    """C2: a host table with our name is an error that says so, not a mystery."""
    small = Small()
    small.db.Table("chat_threads", small.db.metadata)
    with pytest.raises(ConfigurationError, match=r"chat_threads.*taken by the host"):
        small.install()


def test_host_class_of_the_same_name(make_bench: Any) -> None:
    """C2: the foreign host has a ChatMessage of its own, before and after ours."""
    from ..support import foreign

    bench = make_bench("foreign")
    with bench.app.app_context():
        assert foreign.db.session.scalar(foreign.db.select(foreign.ChatMessage)).body == "the host's own"
        ours = bench.state.models.ChatMessage
        assert foreign.db.session.scalars(foreign.db.select(ours)).all() == []


def test_request_client_may_be_a_callable() -> None:
    """C2."""
    small = Small()
    small.install(request_client=lambda job: job.client_id)
    small.add(small.User(id=1), small.User(id=2), small.Job(id=1, client_id=1))
    assert small.client(1).post("/api/requests/1/chat/open").status_code == 200
    assert small.client(2).post("/api/requests/1/chat/open").status_code == 403


def test_request_without_a_client() -> None:
    """C17: an admin cannot open a chat with nobody."""
    small = Small()
    small.install()
    small.add(small.User(id=1, role="admin"), small.Job(id=1, client_id=None))
    response = small.client(1).post("/api/requests/1/chat/open")
    assert (response.status_code, response.get_json()["code"]) == (422, "validation_failed")


def test_a_policy_that_cannot_reach_the_database_denies_nobody() -> None:
    """C3, C13: 503 to try again; 403 would tell the client that it may not, for good."""

    class Unlucky(ChatThreadPolicy):
        def open(self, user: Any, request: Any) -> bool:
            raise OperationalError("SELECT", {}, Exception("database is locked"))

    small = Small()
    small.install(policy=Unlucky)
    small.add(small.User(id=1), small.Job(id=1, client_id=1))
    response = small.client(1).post("/api/requests/1/chat/open")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")


def test_a_wrong_statement_of_the_hosts_is_not_an_outage() -> None:
    """C3, C13: SQLite has one class of errors for both; the policy denies, and the user loader's is an error."""

    class Wrong(ChatThreadPolicy):
        def open(self, user: Any, request: Any) -> bool:
            return bool(small.db.session.execute(sa.text("SELECT nothing FROM nowhere")))

    small = Small()
    small.install(policy=Wrong)
    small.add(small.User(id=1), small.Job(id=1, client_id=1))
    person = small.client(1)
    assert person.post("/api/requests/1/chat/open").status_code == 403

    @small.app.login_manager.user_loader
    def load(text: str) -> Any:
        return small.db.session.execute(sa.text("SELECT nothing FROM nowhere"))

    small.app.config["PROPAGATE_EXCEPTIONS"] = False
    assert person.post("/api/requests/1/chat/open").status_code == 500


class NursesToo(ChatThreadPolicy):
    def view(self, user: Any, thread: Any) -> bool:
        return True


class Closed(ChatThreadPolicy):
    def before(self, user: Any, ability: str) -> bool | None:
        return False if ability == "open" else super().before(user, ability)


class Raising(ChatThreadPolicy):
    def is_admin(self, user: Any) -> bool:
        raise RuntimeError("no directory")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (None, (200, 403, 200)),
        (NursesToo, (200, 200, 200)),
        (NursesToo(), (200, 200, 200)),
        (Closed, (403, None, 403)),
        (Raising, (403, None, 403)),
    ],
)
def test_policies(policy: Any, expected: tuple[int, int | None, int]) -> None:
    """C3: a subclass or an instance; what raises denies."""
    small = Small()
    small.install(policy=policy)
    small.add(small.User(id=1), small.User(id=2), small.User(id=3, role="admin"), small.Job(id=1, client_id=1))
    opened = small.client(1).post("/api/requests/1/chat/open").status_code
    nurse = small.client(2).get("/api/chat/threads/1").status_code if opened == 200 else None
    admin = small.client(3).post("/api/requests/1/chat/open").status_code
    assert (opened, nurse, admin) == expected


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize(
    ("ability", "refused"),
    [("open", {"open"}), ("view", {"view", "post", "close"}), ("post", {"post"}), ("close", {"close"})],
)
def test_each_ability_is_its_own(ability: str, refused: set[str], raises: bool) -> None:
    """C3, C17, C26: what is asked for is asked by its name, of a client who may do all else; raising denies."""

    def refuse(self: Any, user: Any, subject: Any) -> bool:
        if raises:
            raise RuntimeError("no directory")
        return False

    small = Small()
    small.install(policy=type("Refusing", (ChatThreadPolicy,), {ability: refuse}))
    small.add(small.User(id=1), small.Job(id=1, client_id=1))
    client, thread = small.client(1), "/api/chat/threads/1"
    answers = {
        "open": client.post("/api/requests/1/chat/open"),
        "view": client.get(thread),
        "post": client.post(f"{thread}/messages", json={"type": "text", "text": "x"}),
        "close": client.patch(f"{thread}/close"),
    }
    assert {name for name, answer in answers.items() if answer.status_code == 403} == refused


def test_what_is_denied_at_first_ends_streams_too() -> None:
    """C3, C34: whatever the ability's own method says."""

    class Blind(ChatThreadPolicy):
        def before(self, user: Any, ability: str) -> bool | None:
            return False if ability == "view" else None

    small = Small()
    state = small.install(policy=Blind)
    small.add(small.User(id=1), small.Job(id=1, client_id=1))
    thread = small.client(1).post("/api/requests/1/chat/open").get_json()["threadId"]
    with small.app.app_context():
        assert state.access.lost([(1, thread)]) == {(1, thread)}


def test_who_cannot_be_told_is_no_admin() -> None:
    """C3, C17: of a policy that asks nobody before, whose rule for admins raises: its client claims nothing."""

    class Unsure(Raising):
        def before(self, user: Any, ability: str) -> bool | None:
            return None

    small = Small()
    small.install(policy=Unsure)
    small.add(small.User(id=1), small.Job(id=1, client_id=1))
    client = small.client(1)
    assert client.post("/api/requests/1/chat/open").status_code == 200
    assert client.get("/api/chat/threads/1").get_json()["adminId"] is None


def test_a_policy_needs_no_flask_request() -> None:
    """C3: called with plain objects."""

    class Thing:
        def __init__(self, **values: Any) -> None:
            self.__dict__.update(values)

    policy = ChatThreadPolicy()
    thread = Thing(client_id=1, admin_id=None)
    admin = Thing(id=3, role=Thing(name="admin"))
    assert policy.view(Thing(id=1), thread)
    assert not policy.view(Thing(id=None), thread)
    assert not policy.post(Thing(id=2, role=None), thread)
    assert policy.is_admin(admin)
    assert policy.is_admin(Thing(id=3, role="admin"))
    assert not policy.is_admin(Thing(id=3))
    assert policy.before(admin, "view") is True
    assert policy.before(Thing(id=1), "view") is None
    assert policy.open(Thing(id=1), Thing(client_id=1))


def test_one_policy_instance_serves_two_hosts() -> None:
    """C1, C3: init_app does not write into what it was given."""
    policy = NursesToo()
    first, second = Small(), Small()
    first.install(policy=policy, request_client=lambda job: job.client_id)
    second.install(policy=policy)
    assert policy.request_client == "client_id"


def test_the_hosts_huey_is_used() -> None:
    """C4: its tasks are ours, ids only; with a second application on it, each finds its own work."""
    huey = MemoryHuey("host", immediate=False)
    small = Small()
    state = small.install(huey=huey)
    assert state.tasks.huey is huey
    small.add(small.User(id=1), small.Job(id=1, client_id=1))
    client = small.client(1)
    client.post("/api/requests/1/chat/open")
    client.patch("/api/chat/threads/1/close")
    (task,) = huey.pending()
    assert (task.name, task.args) == ("close_chat_and_purge_media", (1,))
    other = Small()
    other.install(huey=huey)
    other.add(other.User(id=1), other.Job(id=1, client_id=1))
    huey.execute(huey.dequeue())
    with state.database.read() as connection:
        assert (
            connection.scalar(state.models.purges.select().with_only_columns(state.models.purges.c.state)) == "settled"
        )


BAD = [
    ("CHAT_ENABLED", "maybe"), ("CHAT_SIGNED_URL_TTL", "abc"), ("CHAT_SIGNED_URL_TTL", "0"),
    ("CHAT_SIGNED_URL_TTL", "1.5"), ("CHAT_SIGNED_URL_TTL", True), ("CHAT_REDACT_MESSAGES", "2"),
    ("CHAT_ALLOWED_IMAGE_MIME", "image/gif"), ("CHAT_ALLOWED_IMAGE_MIME", ""), ("CHAT_TRANSPORT_URL", "amqp://x"),
    ("CHAT_STORAGE_URL", "s3://x"), ("CHAT_STORAGE_URL", "file://host/x"), ("CHAT_STORAGE_URL", "file:///x?y"),
    ("CHAT_STORAGE_URL", "file:///x#y"), ("CHAT_QUEUE_URL", "nonsense"), ("CHAT_KEYSTORE_URL", "http://x"),
    ("CHAT_MAX_TEXT", "-1"), ("CHAT_MAX_TEXT", "١٢"), ("CHAT_MAX_IMAGE_BYTES", "1_000"), ("CHAT_RATE_POST", "fast"),
    ("CHAT_RATE_OPEN", "0/minute"), ("CHAT_RATE_UPLOAD", "3/week"), ("CHAT_MAX_STREAMS_PER_USER", "none"),
    ("CHAT_TRUSTED_ORIGINS", "app.example"), ("CHAT_TRUSTED_ORIGINS", "https://a.example/path"),
    ("CHAT_STREAM_HEARTBEAT", "0"), ("CHAT_STREAM_MAX_AGE", "inf"), ("CHAT_IDLE_CLOSE_MINUTES", "soon"),
    ("CHAT_MAX_AGE_DAYS", "-3"), ("CHAT_METRICS", "prometheus"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), BAD)
def test_bad_configuration_stops_the_start(key: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """C5: naming the key, the value and what is accepted; from app.config and from the environment alike."""
    with pytest.raises(ClickException) as from_config:
        Small(**{key: value}).install()
    small = Small()
    small.app.config.pop(key, None)
    monkeypatch.setenv(key, str(value))
    if value is not True:
        with pytest.raises(ClickException) as from_environment:
            small.install()
        assert from_environment.value.message == from_config.value.message
    assert key in from_config.value.message
    assert repr(value) in from_config.value.message
    assert "accepted: " in from_config.value.message


def test_a_password_in_a_url_is_not_shown() -> None:
    """C5, C41: the error names the key and what is accepted, not the secret."""
    with pytest.raises(ClickException) as error:
        Small(CHAT_QUEUE_URL="amqp://user:hunter2@queue").install()
    assert "hunter2" not in error.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [(" TRUE ", True), ("1", True), ("On", True), ("yes", True), ("0", False), ("False", False), ("OFF", False),
     ("no", False), ("", False), (True, True), (False, False), (1, True)],
)  # fmt: skip
def test_booleans(text: Any, expected: bool) -> None:
    """C5: in any case."""
    small = Small(CHAT_ENABLED=text)
    small.install()
    assert small.app.config["CHAT_ENABLED"] is expected


def test_defaults_and_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """C5: the contract's table; lists trimmed and lower-cased; app.config wins over the environment."""
    monkeypatch.setenv("CHAT_MAX_TEXT", "7")
    monkeypatch.setenv("CHAT_SIGNED_URL_TTL", "60")
    small = Small(CHAT_MAX_TEXT=8, CHAT_ALLOWED_IMAGE_MIME=" Image/PNG , image/jpeg ", CHAT_MAX_STREAMS_PER_USER="off")
    del small.app.config["CHAT_RATE_POST"]
    config = small.install().config
    assert (config.max_text, config.signed_url_ttl, config.max_streams_per_user) == (8, 60, None)
    assert config.allowed_image_mime == ("image/png", "image/jpeg")
    assert (config.redact_messages, config.max_image_bytes) == (True, 10485760)
    assert (config.stream_heartbeat, config.stream_max_age) == (15, 900)
    assert config.idle_close_minutes is None
    _, defaults = configuration.load({}, {})
    assert (defaults.rate_post, defaults.rate_open, defaults.rate_upload) == ("120/minute", "30/minute", "30/minute")


def test_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """C5: nothing set is switched off."""
    small = Small()
    del small.app.config["CHAT_ENABLED"]
    small.install()
    assert small.app.config["CHAT_ENABLED"] is False


def test_embedded_defaults_warn_outside_debug_and_testing(caplog: pytest.LogCaptureFixture) -> None:
    """C5: one warning each."""
    small = Small(TESTING=False)
    del small.app.config["CHAT_QUEUE_URL"]
    small.install()
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    for key in ("CHAT_TRANSPORT_URL", "CHAT_STORAGE_URL", "CHAT_QUEUE_URL", "CHAT_RECEIPT_KEY"):
        assert sum(key in text for text in warned) == 1
    caplog.clear()
    Small().install()
    assert caplog.records == []


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, {"SECURE", "SAMESITE"}),
        ({"SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_SAMESITE": "Lax"}, set()),
        ({"SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_SAMESITE": "None"}, {"SAMESITE"}),
        (
            {"SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_SAMESITE": "strict", "SESSION_COOKIE_HTTPONLY": False},
            {"HTTPONLY"},
        ),
    ],
    ids=["Flask's own", "sound", "anybody's", "scripts'"],
)
def test_a_weak_session_cookie_is_told_at_the_start(
    caplog: pytest.LogCaptureFixture, settings: dict[str, Any], named: set[str]
) -> None:
    """C12, C14: whoever has the cookie is the user; once each, outside debug and testing."""
    Small(TESTING=False, **settings).install()
    told = [text for record in caplog.records if "SESSION_COOKIE" in (text := record.getMessage())]
    assert len(told) == len(named)
    assert all(any(f"SESSION_COOKIE_{name} " in text for text in told) for name in named)


class TestGoodGuest:
    """C7: what the host has, it keeps; on and off."""

    @pytest.fixture(params=[True, False], ids=["on", "off"])
    def enabled(self, request: pytest.FixtureRequest) -> bool:
        enabled: bool = request.param
        return enabled

    @pytest.fixture(params=["foreign", "foreign-postgresql"])
    def bench(self, request: pytest.FixtureRequest, make_bench: Any, enabled: bool) -> Workbench:
        bench: Workbench = make_bench(request.param, CHAT_ENABLED=enabled)
        return bench

    def test_error_handlers_limiter_and_login(self, bench: Workbench) -> None:
        """C7: the host's 404 is HTML, its limiter counts its own routes only, its login_view redirects nobody here."""
        api = bench.login("client")
        assert b"the host's own 404" in api.call("GET", "/nowhere").data
        assert b"the host's own 405" in api.call("GET", "/login").data
        assert [api.call("GET", "/limited").status_code for _ in range(2)] == [200, 200]
        for _ in range(5):
            api.call("GET", "/api/chat/threads/1")
        assert api.call("GET", "/whoami").data == b"client@nursecare.test"
        assert bench.app.login_manager.login_view == "sign_in"

    @pytest.mark.one_process
    def test_uncommitted_work_of_the_host_stays_its_own(self, bench: Workbench) -> None:
        """C7, C10: our transactions neither commit nor roll back what db.session has pending in the same request."""
        host = bench.host

        @bench.app.before_request
        def habit() -> None:
            g.visit = host.request_model(patient_uid=current_user.uid)
            host.db.session.add(g.visit)

        outcomes = []

        @bench.app.teardown_request
        def look(error: Any) -> None:
            if "visit" in g:
                outcomes.append(g.visit in host.db.session.new)

        api = bench.login("client")
        api.open(1)
        api.open(2)
        assert outcomes == [True, True]
        with bench.app.app_context():
            assert host.db.session.query(host.request_model).count() == 3

    def test_one_connection_for_everybody(self, make_bench: Any) -> None:
        """C7, C10: on in-memory SQLite our write neither commits nor rolls back what the host has flushed."""
        bench = make_bench("memory")
        host = bench.host
        thread = bench.login("client").open(1).get_json()["threadId"]
        with bench.app.app_context():
            client_id = host.user_id("client")
            for outcome, count in (("rollback", 3), ("commit", 4)):
                visit = host.request_model(client_id=client_id, title="t", details="d", visit_on=date(2030, 1, 1))
                host.db.session.add(visit)
                host.db.session.flush()
                bench.state.threads.get(thread)
                bench.state.messages.post(
                    bench.state.threads.get(thread), client_id, Draft("text", text=outcome), as_admin=False
                )
                getattr(host.db.session, outcome)()
                assert host.db.session.query(host.request_model).count() == count
        (kept,) = bench.login("client").messages(thread).get_json()["messages"]
        assert (kept["text"], kept["seq"]) == ("commit", 1)

    def test_engine_and_pragmas(self, make_bench: Any, enabled: bool) -> None:
        """C7: the host's connections keep their settings; ours are set on connections of our own."""
        bench = make_bench("foreign", CHAT_ENABLED=enabled)
        api = bench.login("client")
        api.open(1)
        with bench.app.app_context(), bench.host.db.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 0
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete"
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 3000
            assert connection.connection.driver_connection.isolation_level == ""
            assert not event.contains(bench.host.db.engine, "do_execute", lambda *a: None)

    def test_logging_configuration(self, bench: Workbench) -> None:
        """C7: no handler, no level of ours."""
        logger = logging.getLogger("nursecare_chat")
        assert (logger.handlers, logger.level, logger.propagate) == ([], logging.NOTSET, True)

    @pytest.mark.one_process
    def test_cleanup_goes_on_when_off(self, bench: Workbench) -> None:
        """C7: switching the feature off never strands data: neither a thread's task nor the sweep asks the flag."""
        bench.app.config["CHAT_ENABLED"] = True
        api, state = bench.login("client"), bench.state
        state.purges._wake = lambda thread_id, delay: None
        threads = [api.open(number).get_json()["threadId"] for number in (1, 2)]
        for thread in threads:
            api.say(thread, "to be erased")
            api.close(thread)
        bench.app.config["CHAT_ENABLED"] = False
        state.tasks.purge(threads[0])
        assert state.purges.due() == threads[1:]
        state.tasks.sweep()
        assert state.purges.due() == []


def test_unexpected_errors_are_ours_alone(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """C12, C7: a bug in a route is our JSON 500, logged by the host's app, whatever its handler for Exception does."""
    bench = make_bench("foreign", TESTING=False)
    bench.state.threads.get = lambda thread_id: 1 / 0
    response = bench.login("client").thread(1)
    assert (response.status_code, response.get_json()["code"]) == (500, "internal_error")


def test_what_the_host_aborts_with(make_bench: Any) -> None:
    """C12: while one of our routes runs, in its user loader for example, it is the same JSON with the host's status."""
    bench = make_bench("foreign")
    client = bench.login("client")

    @bench.app.login_manager.user_loader
    def load(user_id: str) -> Any:
        abort(409)

    response = client.thread(1)
    assert (response.status_code, response.get_json()["code"]) == (409, "conflict")


def test_without_flask_login(caplog: pytest.LogCaptureFixture) -> None:
    """C12: a host that forgot Flask-Login hears what to do."""
    small = Small(TESTING=False, PROPAGATE_EXCEPTIONS=False)
    small.install()
    del small.app.login_manager
    assert small.app.test_client().get("/api/chat/threads/1").status_code == 500
    assert "LoginManager(app)" in caplog.text


def test_an_account_that_is_authenticated_but_not_active() -> None:
    """C11, C34: Flask-Login would not log it in; a session from before does not either, whatever the class says."""
    small = Small()
    small.User.is_authenticated, small.User.is_active = True, False
    small.install()
    small.add(small.User(id=1), small.Job(id=1, client_id=1))
    assert small.client(1).post("/api/requests/1/chat/open").status_code == 401


def test_users_with_lists_that_are_joined(make_small: Callable[..., Small]) -> None:
    """C2, C34: SQLAlchemy gives such a user once for each thing in the list, or an error, unless it is asked not to."""
    small = make_small()
    small.User.jobs = small.db.relationship(small.Job, lazy="joined", viewonly=True)
    state = small.install()
    small.add(*(small.User(id=n) for n in range(1, 251)))
    small.add(*(small.Job(id=n, client_id=1) for n in (1, 2, 3)))
    thread = small.client(1).post("/api/requests/1/chat/open").get_json()["threadId"]
    strangers = {(n, thread) for n in range(2, 251)}
    assert state.access.lost([(1, thread), (1, None), *strangers]) == strangers


def test_a_write_has_the_lock_from_its_beginning(make_bench: Any) -> None:
    """C10: BEGIN IMMEDIATE: nobody else writes between what a unit of work reads and what it writes."""
    bench = make_bench("reference")
    with bench.state.database.write():
        other = sqlite3.connect(bench.path, timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()


@pytest.mark.parametrize("host", ["reference", "reference-postgresql"])
@pytest.mark.parametrize("how", ["deleted", "detached"])
@pytest.mark.parametrize("enabled", [True, False])
def test_the_hosts_logout_never_fails_because_of_us(make_bench: Any, host: str, how: str, enabled: bool) -> None:
    """C7, C34: with the account's row just deleted, or its object out of any session; the streams end all the same."""
    bench = make_bench(host, CHAT_ENABLED=enabled)
    session = bench.host.db.session
    rings: list[Any] = []
    bench.state.doorbell.listen(rings.append)

    @bench.app.post("/leave")
    def leave() -> str:
        user_id = current_user.id
        if how == "deleted":
            session.execute(bench.host.db.text(f"DELETE FROM users WHERE id = {user_id}"))
        session.commit()
        if how == "detached":
            session.remove()
        logout_user()
        return "bye"

    api = bench.login("nurse")
    with bench.app.app_context():
        nurse = bench.host.user_id("nurse")
    assert api.call("POST", "/leave").data == b"bye"
    assert [(ring.kind, ring.user) for ring in rings] == [("disconnect", nurse)]


def test_a_writer_that_does_not_end(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """C10, C13: posts wait for a bounded time, then 503; those who only read find a connection meanwhile."""
    monkeypatch.setattr("nursecare_chat.service.sqlite.LOCK_TIMEOUT", 1.0)
    bench = make_bench("reference")
    thread = bench.login("client").open(1).get_json()["threadId"]
    posters, reader = [bench.login("client") for _ in range(25)], bench.login("admin")
    blocker = sqlite3.connect(bench.path)
    blocker.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(25) as pool:
        posts = [pool.submit(poster.say, thread) for poster in posters]
        reads = [reader.messages(thread).status_code for _ in range(20)]
        answers = [post.result() for post in posts]
    assert set(reads) == {200}
    assert {(answer.status_code, answer.headers["Retry-After"]) for answer in answers} == {(503, "1")}
    blocker.rollback()
    blocker.close()
    assert posters[0].say(thread).get_json()["seq"] == 1


@pytest.mark.parametrize("host", ["reference", "reference-postgresql"])
def test_without_tables(make_bench: Any, caplog: pytest.LogCaptureFixture, host: str) -> None:
    """C13: 503 with Retry-After, and a log line that says what to run; no traceback."""
    bench = make_bench(host)
    with bench.app.app_context():
        for table in ("chat_messages", "chat_uploads", "chat_threads", "chat_purges"):
            bench.host.db.session.execute(bench.host.db.text(f"DROP TABLE {table}"))
        bench.host.db.session.commit()
    response = bench.login("client").open(1)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert response.get_json()["code"] == "unavailable"
    assert "flask chat install-migrations" in caplog.text
    assert "flask db upgrade" in caplog.text
    assert "Traceback" not in caplog.text
    result = bench.app.test_cli_runner().invoke(args=["chat", "purge"])
    assert result.exit_code == 1
    assert "flask db upgrade" in result.output


@pytest.mark.parametrize("host", ["reference", "memory", "reference-postgresql"])
def test_an_error_carries_nothing_of_the_statement(make_bench: Any, host: str) -> None:
    """C41: neither in its text nor in the chain of exceptions that a logger prints, on any kind of engine."""
    bench = make_bench(host)
    statement = bench.state.models.messages.insert().values(text="canary", thread_id=1)
    with pytest.raises(DatabaseError) as raised, bench.state.database.write() as unit:
        unit.connection.execute(statement)
    assert raised.value.__context__ is None
    assert raised.value.__cause__ is None
    assert "canary" not in "".join(traceback.format_exception(raised.value)).replace('text="canary"', "")


def test_a_host_with_sqlalchemys_recipe_for_sqlite(make_bench: Any) -> None:
    """C7, C10: listeners on every engine that begin transactions; with WAL, where readers hold up nobody."""

    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    def prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    bench = make_bench("reference")
    with bench.app.app_context(), bench.host.db.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = wal")
    event.listen(Engine, "connect", prepare)
    event.listen(Engine, "begin", begin)
    try:
        api = bench.login("client")
        thread = api.open(1).get_json()["threadId"]
        assert api.say(thread).status_code == 200
        assert api.close(thread).status_code == 200
    finally:
        event.remove(Engine, "connect", prepare)
        event.remove(Engine, "begin", begin)
