"""The tables as both peers map them (``nursecare_chat/models.py`` and the reference host make them)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Numeric, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

HEARTBEAT = 15
"""Seconds."""

QUEUE = 1000
"""Messages that may wait for one client."""

CHANNEL = "chat."
"""What a thread's channel in Redis begins with."""


class Base(DeclarativeBase):
    pass


class Role(Base):
    __tablename__ = "roles"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(32))


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    active: Mapped[bool]
    role_id: Mapped[int | None] = mapped_column(ForeignKey("roles.id"))

    role: Mapped[Role | None] = relationship(lazy="joined")

    @property
    def is_active(self) -> bool:
        return self.active

    def may_see(self, thread: Thread) -> bool:
        is_admin = self.role is not None and self.role.name == "admin"
        return is_admin or self.id in (thread.client_id, thread.admin_id)


class Thread(Base):
    __tablename__ = "chat_threads"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    admin_id: Mapped[int | None]
    client_id: Mapped[int]
    status: Mapped[str] = mapped_column(String(16))
    last_seq: Mapped[int] = mapped_column(BigInteger)


class Message(Base):
    __tablename__ = "chat_messages"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    thread_id: Mapped[int] = mapped_column(BigInteger)
    sender_id: Mapped[int]
    type: Mapped[str] = mapped_column(String(16))
    text: Mapped[str | None] = mapped_column(Text)
    latitude: Mapped[float | None] = mapped_column(Numeric(10, 7, asdecimal=False))
    longitude: Mapped[float | None] = mapped_column(Numeric(10, 7, asdecimal=False))
    created_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC).replace(tzinfo=None))
    seq: Mapped[int] = mapped_column(BigInteger)

    def shown(self) -> dict[str, Any]:
        """As it goes to browsers."""
        return {
            "threadId": self.thread_id,
            "id": self.id,
            "type": self.type,
            "text": self.text,
            "lat": self.latitude,
            "lng": self.longitude,
            "sender_id": self.sender_id,
            "created_at": f"{self.created_at:%Y-%m-%dT%H:%M:%SZ}",
            "seq": self.seq,
        }
