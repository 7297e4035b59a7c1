"""The host's own tables. Nothing here knows of the chat."""

from __future__ import annotations

from datetime import date

from flask_login import UserMixin
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, String, bindparam, false, select
from sqlalchemy.orm import DeclarativeBase, Mapped, make_transient_to_detached, mapped_column, relationship
from werkzeug.security import check_password_hash, generate_password_hash


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


class Role(db.Model):
    __tablename__ = "roles"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(32), unique=True)


class User(UserMixin, db.Model):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    password_hash: Mapped[str] = mapped_column(String(255))
    active: Mapped[bool] = mapped_column(default=True)
    role_id: Mapped[int | None] = mapped_column(ForeignKey("roles.id"))

    role: Mapped[Role | None] = relationship()

    @property
    def is_active(self) -> bool:
        return self.active

    @property
    def is_admin(self) -> bool:
        return self.role is not None and self.role.name == "admin"

    @classmethod
    def logged_in(cls, user_id: int) -> User | None:
        """Asked with every request, so one statement, without a transaction or a session; the password stays there."""
        with db.engine.connect() as connection:
            if connection.dialect.name == "postgresql":  # where BEGIN and ROLLBACK are round trips
                connection.execution_options(isolation_level="AUTOCOMMIT")
            row = connection.execute(LOGGED_IN, {"user_id": user_id}).one_or_none()
        if row is None:
            return None
        role = None if row.role_id is None else Role(id=row.role_id, name=row.role_name)
        user = cls(id=row.id, email=row.email, name=row.name, active=row.active, role_id=row.role_id, role=role)
        for one in filter(None, (user, role)):
            make_transient_to_detached(one)
        return user

    def set_password(self, password: str) -> None:
        self.password_hash = generate_password_hash(password)

    def check_password(self, password: str) -> bool:
        return check_password_hash(self.password_hash, password)


LOGGED_IN = (
    select(User.id, User.email, User.name, User.active, User.role_id, Role.name.label("role_name"))
    .join_from(User, Role, isouter=True)
    .where(User.id == bindparam("user_id"))
)


class ServiceRequest(db.Model):
    __tablename__ = "service_requests"

    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    title: Mapped[str] = mapped_column(String(200))
    details: Mapped[str] = mapped_column(String(1000))
    visit_on: Mapped[date]
    done: Mapped[bool] = mapped_column(default=False, server_default=false())

    client: Mapped[User] = relationship()
