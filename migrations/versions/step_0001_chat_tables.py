"""Threads, messages, uploads and purges (contract C8, C9)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from .. import Host


def _big_id() -> Any:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade(op: Any, host: Host) -> None:
    users, requests, threads = host.users, host.requests, host.own("chat_threads")
    op.create_table(
        "chat_threads",
        sa.Column("id", _big_id(), nullable=False, autoincrement=True),
        sa.Column("request_id", requests.type, nullable=False),
        sa.Column("admin_id", users.type, nullable=True),
        sa.Column("client_id", users.type, nullable=False),
        sa.Column("status", sa.String(16), nullable=False, server_default=sa.text("'open'")),
        sa.Column("opened_at", sa.DateTime(), nullable=False),
        sa.Column("closed_at", sa.DateTime(), nullable=True),
        sa.Column("last_seq", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat_threads")),
        sa.ForeignKeyConstraint(
            ["request_id"], [requests.target], name=op.f("fk_chat_threads_request_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["admin_id"], [users.target], name=op.f("fk_chat_threads_admin_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["client_id"], [users.target], name=op.f("fk_chat_threads_client_id"), ondelete="RESTRICT"
        ),
        sa.UniqueConstraint("request_id", name=op.f("uq_chat_threads_request_id")),
        sa.CheckConstraint("status IN ('open', 'closed')", name=op.f("ck_chat_threads_status")),
        sa.CheckConstraint("(status = 'open') = (closed_at IS NULL)", name=op.f("ck_chat_threads_closed_at")),
        schema=host.schema,
        sqlite_autoincrement=True,
    )
    op.create_table(
        "chat_messages",
        sa.Column("id", _big_id(), nullable=False, autoincrement=True),
        sa.Column("thread_id", _big_id(), nullable=False),
        sa.Column("sender_id", users.type, nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("latitude", sa.Numeric(10, 7), nullable=True),
        sa.Column("longitude", sa.Numeric(10, 7), nullable=True),
        sa.Column("media_path", sa.String(2048), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("client_message_id", sa.String(64), nullable=True),
        sa.Column("client_message_key", sa.LargeBinary(32), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat_messages")),
        sa.ForeignKeyConstraint(
            ["thread_id"], [f"{threads}.id"], name=op.f("fk_chat_messages_thread_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["sender_id"], [users.target], name=op.f("fk_chat_messages_sender_id"), ondelete="RESTRICT"
        ),
        sa.UniqueConstraint("thread_id", "seq", name=op.f("uq_chat_messages_thread_id_seq")),
        sa.UniqueConstraint(
            "thread_id", "sender_id", "client_message_key", name=op.f("uq_chat_messages_client_message_key")
        ),
        schema=host.schema,
        sqlite_autoincrement=True,
    )
    op.create_table(
        "chat_uploads",
        sa.Column("id", _big_id(), nullable=False, autoincrement=True),
        sa.Column("thread_id", _big_id(), nullable=False),
        sa.Column("sender_id", users.type, nullable=False),
        sa.Column("media_path", sa.String(2048), nullable=False),
        sa.Column("copy_path", sa.String(2048), nullable=False),
        sa.Column("content_type", sa.String(32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.Column("posted", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("posted_at", sa.DateTime(), nullable=True),
        sa.Column("rejected", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat_uploads")),
        sa.ForeignKeyConstraint(
            ["thread_id"], [f"{threads}.id"], name=op.f("fk_chat_uploads_thread_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["sender_id"], [users.target], name=op.f("fk_chat_uploads_sender_id"), ondelete="RESTRICT"
        ),
        sa.UniqueConstraint("media_path", name=op.f("uq_chat_uploads_media_path")),
        schema=host.schema,
        sqlite_autoincrement=True,
    )
    op.create_table(
        "chat_purges",
        sa.Column("thread_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("request_id", requests.type, nullable=False),
        sa.Column("state", sa.String(16), nullable=False, server_default=sa.text("'requested'")),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("failures", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("empty_listings", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("uploads_end_at", sa.DateTime(), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(), nullable=True),
        sa.Column("lease_owner", sa.String(64), nullable=True),
        sa.Column("lease_until", sa.DateTime(), nullable=True),
        sa.Column("rows_redacted", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("rows_plain", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("rows_sealed", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("key_store", sa.String(32), nullable=True),
        sa.Column("blobs_found", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("blobs_deleted", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("last_error", sa.String(128), nullable=True),
        sa.Column("closed_at", sa.DateTime(), nullable=False),
        sa.Column("purged_at", sa.DateTime(), nullable=True),
        sa.Column("settled_at", sa.DateTime(), nullable=True),
        sa.Column("recoverable_until", sa.String(32), nullable=True),
        sa.Column("reason", sa.String(128), nullable=True),
        sa.Column("signature", sa.String(128), nullable=True),
        sa.PrimaryKeyConstraint("thread_id", name=op.f("pk_chat_purges")),
        schema=host.schema,
    )
    for table, *columns in INDEXES:
        name = op.f("_".join(["ix", table, *columns]))
        op.create_index(name, table, columns, schema=host.schema)


def downgrade(op: Any, host: Host) -> None:
    for table, *columns in reversed(INDEXES):
        op.drop_index(op.f("_".join(["ix", table, *columns])), table_name=table, schema=host.schema)
    for table in ("chat_purges", "chat_uploads", "chat_messages", "chat_threads"):
        op.drop_table(table, schema=host.schema)


INDEXES = (
    ("chat_threads", "admin_id", "status"),
    ("chat_threads", "admin_id", "status", "id"),
    ("chat_threads", "client_id", "status", "id"),
    ("chat_threads", "status", "opened_at"),
    ("chat_threads", "closed_at"),
    ("chat_messages", "thread_id", "created_at"),
    ("chat_messages", "thread_id", "id"),
    ("chat_messages", "sender_id"),
    ("chat_uploads", "thread_id", "sender_id", "expires_at"),
    ("chat_uploads", "sender_id"),
    ("chat_purges", "next_attempt_at"),
    ("chat_purges", "request_id"),
)
