"""The chat's tables, built against the host's own users and requests (contract C2, C8, C9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    inspect,
    text,
)
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.schema import conv

from .errors import ConfigurationError
from .keys import HostKey

TABLES = ("chat_threads", "chat_messages", "chat_uploads", "chat_purges")


def big_id() -> Any:
    """bigint; on SQLite only ``INTEGER`` counts up by itself."""
    return BigInteger().with_variant(Integer(), "sqlite")


def _reference(table: str, name: str, kind: Any, target: str, ondelete: str, nullable: bool = False) -> Column[Any]:
    key = ForeignKey(target, name=conv(f"fk_{table}_{name}"), ondelete=ondelete)
    return Column(name, kind, key, nullable=nullable)


@dataclass(frozen=True)
class ChatModels:
    """The classes made for one pair of host classes; ``*_table`` are the same as Core tables."""

    ChatThread: type
    ChatMessage: type
    ChatUpload: type
    ChatPurge: type
    user_model: type
    request_model: type
    user_key: HostKey
    request_key: HostKey

    def key_of_request(self, request: Any) -> Any | None:
        """The key of an instance of the host's request class, ``None`` if it is not in the database.

        :raises TypeError: for anything else; a row of another class may have the same key.
        """
        return _key_of(request, self.request_model)

    def key_of_user(self, user: Any) -> Any | None:
        """The same for the host's user class; Flask-Login's ``current_user`` will do."""
        return _key_of(getattr(user, "_get_current_object", lambda: user)(), self.user_model)

    @property
    def threads(self) -> Table:
        return self.ChatThread.__table__

    @property
    def messages(self) -> Table:
        return self.ChatMessage.__table__

    @property
    def uploads(self) -> Table:
        return self.ChatUpload.__table__

    @property
    def purges(self) -> Table:
        return self.ChatPurge.__table__


def _key_of(instance: Any, model: Any) -> Any | None:
    if not isinstance(instance, model):
        raise TypeError(f"{type(instance).__name__} given, an instance of {model.__name__} expected")
    identity = inspect(instance).identity
    return identity and identity[0]


def thread_table(metadata: MetaData, user: HostKey, request: HostKey) -> Table:
    """``chat_threads``: one per request, for ever (C8, C17, C18)."""
    return Table(
        "chat_threads",
        metadata,
        Column("id", big_id(), primary_key=True, autoincrement=True),
        _reference("chat_threads", "request_id", request.type, request.target, "RESTRICT"),
        _reference("chat_threads", "admin_id", user.type, user.target, "SET NULL", nullable=True),
        _reference("chat_threads", "client_id", user.type, user.target, "RESTRICT"),
        Column("status", String(16), nullable=False, server_default=text("'open'")),
        Column("opened_at", DateTime(), nullable=False),
        Column("closed_at", DateTime(), nullable=True),
        Column("last_seq", BigInteger(), nullable=False, server_default=text("0")),
        UniqueConstraint("request_id", name=conv("uq_chat_threads_request_id")),
        CheckConstraint("status IN ('open', 'closed')", name=conv("ck_chat_threads_status")),
        CheckConstraint("(status = 'open') = (closed_at IS NULL)", name=conv("ck_chat_threads_closed_at")),
        Index(conv("ix_chat_threads_admin_id_status"), "admin_id", "status"),
        Index(conv("ix_chat_threads_admin_id_status_id"), "admin_id", "status", "id"),
        Index(conv("ix_chat_threads_client_id_status_id"), "client_id", "status", "id"),
        Index(conv("ix_chat_threads_status_opened_at"), "status", "opened_at"),
        Index(conv("ix_chat_threads_closed_at"), "closed_at"),
        sqlite_autoincrement=True,  # an id, and so a blob prefix, is never used twice
    )


def message_table(metadata: MetaData, user: HostKey, threads: str) -> Table:
    """``chat_messages``: the log. ``seq`` is dense from 1 in its thread; no index holds what people wrote (C8)."""
    return Table(
        "chat_messages",
        metadata,
        Column("id", big_id(), primary_key=True, autoincrement=True),
        _reference("chat_messages", "thread_id", big_id(), f"{threads}.id", "CASCADE"),
        _reference("chat_messages", "sender_id", user.type, user.target, "RESTRICT"),
        Column("type", String(16), nullable=False),
        Column("text", Text(), nullable=True),
        Column("latitude", Numeric(10, 7, asdecimal=False), nullable=True),
        Column("longitude", Numeric(10, 7, asdecimal=False), nullable=True),
        Column("media_path", String(2048), nullable=True),
        Column("created_at", DateTime(), nullable=False),
        Column("seq", BigInteger(), nullable=False),
        Column("client_message_id", String(64), nullable=True),
        Column("client_message_key", LargeBinary(32), nullable=True),
        Column("sealed", LargeBinary(), nullable=True),
        UniqueConstraint("thread_id", "seq", name=conv("uq_chat_messages_thread_id_seq")),
        UniqueConstraint(
            "thread_id", "sender_id", "client_message_key", name=conv("uq_chat_messages_client_message_key")
        ),
        Index(conv("ix_chat_messages_thread_id_created_at"), "thread_id", "created_at"),
        Index(conv("ix_chat_messages_thread_id_id"), "thread_id", "id"),
        Index(conv("ix_chat_messages_sender_id"), "sender_id"),
        sqlite_autoincrement=True,
    )


def upload_table(metadata: MetaData, user: HostKey, threads: str) -> Table:
    """``chat_uploads``: what was issued to whom, until when, posted or not (C8, C24).

    ``copy_path`` is where the copy without metadata goes; ``rejected`` ones were no such picture, and are dead (C25).
    """
    return Table(
        "chat_uploads",
        metadata,
        Column("id", big_id(), primary_key=True, autoincrement=True),
        _reference("chat_uploads", "thread_id", big_id(), f"{threads}.id", "CASCADE"),
        _reference("chat_uploads", "sender_id", user.type, user.target, "RESTRICT"),
        Column("media_path", String(2048), nullable=False),
        Column("copy_path", String(2048), nullable=False),
        Column("content_type", String(32), nullable=False),
        Column("size", BigInteger(), nullable=False),
        Column("expires_at", DateTime(), nullable=False),
        Column("posted", Boolean(), nullable=False, server_default=false()),
        Column("posted_at", DateTime(), nullable=True),
        Column("rejected", Boolean(), nullable=False, server_default=false()),
        UniqueConstraint("media_path", name=conv("uq_chat_uploads_media_path")),
        Index(conv("ix_chat_uploads_thread_id_sender_id_expires_at"), "thread_id", "sender_id", "expires_at"),
        Index(conv("ix_chat_uploads_sender_id"), "sender_id"),
        sqlite_autoincrement=True,
    )


def purge_table(metadata: MetaData, request: HostKey) -> Table:
    """``chat_purges``: one row per closed thread, its purge's state and receipt; no foreign keys, so it stays (C8).

    ``uploads_end_at`` is when the last upload URL that was issued stops to count (C39). ``rows_plain`` and
    ``rows_sealed`` count rows by how their content was stored, ``key_store`` names the store that had the key (C41).
    """
    return Table(
        "chat_purges",
        metadata,
        Column("thread_id", BigInteger(), primary_key=True, autoincrement=False),
        Column("request_id", request.type, nullable=False),
        Column("state", String(16), nullable=False, server_default=text("'requested'")),
        Column("attempts", Integer(), nullable=False, server_default=text("0")),
        Column("failures", Integer(), nullable=False, server_default=text("0")),
        Column("empty_listings", Integer(), nullable=False, server_default=text("0")),
        Column("uploads_end_at", DateTime(), nullable=True),
        Column("next_attempt_at", DateTime(), nullable=True),
        Column("lease_owner", String(64), nullable=True),
        Column("lease_until", DateTime(), nullable=True),
        Column("rows_redacted", Integer(), nullable=False, server_default=text("0")),
        Column("rows_plain", Integer(), nullable=False, server_default=text("0")),
        Column("rows_sealed", Integer(), nullable=False, server_default=text("0")),
        Column("key_store", String(32), nullable=True),
        Column("blobs_found", Integer(), nullable=False, server_default=text("0")),
        Column("blobs_deleted", Integer(), nullable=False, server_default=text("0")),
        Column("last_error", String(128), nullable=True),
        Column("closed_at", DateTime(), nullable=False),
        Column("purged_at", DateTime(), nullable=True),
        Column("settled_at", DateTime(), nullable=True),
        Column("recoverable_until", String(32), nullable=True),
        Column("reason", String(128), nullable=True),
        Column("signature", String(128), nullable=True),
        Index(conv("ix_chat_purges_next_attempt_at"), "next_attempt_at"),
        Index(conv("ix_chat_purges_request_id"), "request_id"),
    )


def build_tables(metadata: MetaData, user: HostKey, request: HostKey) -> list[Table]:
    """All tables on ``metadata``, in the order in which they can be created."""
    threads = thread_table(metadata, user, request)
    return [
        threads,
        message_table(metadata, user, threads.fullname),
        upload_table(metadata, user, threads.fullname),
        purge_table(metadata, request),
    ]


def build_models(db: SQLAlchemy, user_model: type, request_model: type) -> ChatModels:
    """The chat's classes for these host classes; the same ones again for a second application on ``db``.

    They live in a registry of their own, so a host class called ``ChatMessage`` keeps working (C2), and on
    ``db.metadata``, so that the host's Alembic sees their tables and foreign keys are real.

    :raises ConfigurationError: if a host class cannot carry a foreign key, or a table name is taken.
    """
    metadata = db.metadata
    cache = metadata.info.setdefault("nursecare_chat", {})
    if (user_model, request_model) in cache:
        return cache[user_model, request_model]

    user, request = HostKey.of(user_model, "user_model"), HostKey.of(request_model, "request_model")
    for key, model in ((user, user_model), (request, request_model)):
        if key.column.table.metadata is not metadata:
            raise ConfigurationError(
                f"chat.init_app: {model.__name__} is not on db's default metadata; the chat's foreign keys need"
                " users and requests in the one database that `db` is bound to."
            )
    taken = [name for name in TABLES if name in {table.name for table in metadata.tables.values()}]
    if taken:
        why = "for other classes" if cache else "by the host"
        raise ConfigurationError(
            f"chat.init_app: the table name {taken[0]!r} is taken {why}; the chat needs {', '.join(TABLES)}."
        )

    threads, messages, uploads, purges = build_tables(metadata, user, request)
    base: Any = type("ChatBase", (DeclarativeBase,), {"metadata": metadata, "__module__": __name__})

    def model(name: str, table: Table) -> type:
        return type(name, (base,), {"__table__": table, "__module__": __name__})

    models = cache[user_model, request_model] = ChatModels(
        ChatThread=model("ChatThread", threads),
        ChatMessage=model("ChatMessage", messages),
        ChatUpload=model("ChatUpload", uploads),
        ChatPurge=model("ChatPurge", purges),
        user_model=user_model,
        request_model=request_model,
        user_key=user,
        request_key=request,
    )
    return models
