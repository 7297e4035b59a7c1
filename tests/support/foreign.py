"""A host that is nothing like the reference: other names, UUID keys, its own ``ChatMessage``, limiter and handlers."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from flask import Flask, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user, logout_user
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from limits.storage import MemoryStorage
from sqlalchemy import MetaData

from nursecare_chat import Chat


class Counts(MemoryStorage):
    """Without its race: two requests at once can start the same thread of its, which fails one of them."""

    STORAGE_SCHEME: ClassVar[list[str]] = ["one-at-a-time"]
    _turn = threading.Lock()

    def incr(self, *arguments: Any, **named: Any) -> int:
        with self._turn:
            return super().incr(*arguments, **named)


CONVENTION = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
PATIENT_NAMESPACE = uuid.UUID("7d0f5c52-0000-4000-8000-000000000000")

REVISION = '''
"""the host's own tables"""
from alembic import op
import sqlalchemy as sa

revision, down_revision, branch_labels, depends_on = "a1", None, None, None


def upgrade():
    op.create_table(
        "people",
        sa.Column("uid", sa.Uuid(), nullable=False),
        sa.Column("mail", sa.String(200)),
        sa.Column("role", sa.String(20)),
        sa.Column("blocked", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_people")),
        sa.UniqueConstraint("mail", name=op.f("uq_people_mail")),
    )
    op.create_table(
        "home_visits",
        sa.Column("visit_no", sa.Uuid(), nullable=False),
        sa.Column("patient_uid", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["patient_uid"], ["people.uid"], name=op.f("fk_home_visits_patient_uid_people")),
        sa.PrimaryKeyConstraint("visit_no", name=op.f("pk_home_visits")),
    )
    op.create_table(
        "chat_message",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("body", sa.String(100)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat_message")),
    )


def downgrade():
    for table in ("chat_message", "home_visits", "people"):
        op.drop_table(table)
'''

db = SQLAlchemy(metadata=MetaData(naming_convention=CONVENTION))
migrate = Migrate()
chat = Chat()


class Person(UserMixin, db.Model):
    __tablename__ = "people"

    uid = db.Column(db.Uuid, primary_key=True, default=uuid.uuid4)
    mail = db.Column(db.String(200), unique=True)
    role = db.Column(db.String(20))
    blocked = db.Column(db.Boolean, default=False, nullable=False)

    def get_id(self) -> str:
        return str(self.uid)

    @property
    def is_active(self) -> bool:
        return not self.blocked


class Visit(db.Model):
    __tablename__ = "home_visits"

    visit_no = db.Column(db.Uuid, primary_key=True, default=uuid.uuid4)
    patient_uid = db.Column(db.Uuid, db.ForeignKey("people.uid"), nullable=False)


class ChatMessage(db.Model):
    """The host's own, older idea of a chat message: table ``chat_message``."""

    id = db.Column(db.Integer, primary_key=True)
    body = db.Column(db.String(100))


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    app = Flask(__name__, instance_path=os.environ.get("NURSECARE_INSTANCE", "/nonexistent"))
    app.config.update(
        SECRET_KEY="of the foreign host",
        SQLALCHEMY_DATABASE_URI=os.environ.get("NURSECARE_DATABASE_URL", "sqlite://"),
        CHAT_ENABLED=True,
        RATELIMIT_STORAGE_URI="memory://",
        RATELIMIT_HEADERS_ENABLED=True,
    )
    app.config.update(config or {})
    sqlite = app.config["SQLALCHEMY_DATABASE_URI"].startswith("sqlite")
    timeout = "timeout" if sqlite else "connect_timeout"
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"connect_args": {timeout: 3}}
    db.init_app(app)
    migrate.init_app(app, db, directory=os.environ.get("HOST_MIGRATIONS", "migrations"))

    login = LoginManager(app)
    login.login_view = "sign_in"

    @login.user_loader
    def load(uid: str) -> Person | None:
        return db.session.get(Person, uuid.UUID(uid))

    limiter = Limiter(get_remote_address, app=app, default_limits=["100000/hour"], storage_uri="one-at-a-time://")

    @app.errorhandler(401)
    @app.errorhandler(403)
    @app.errorhandler(404)
    @app.errorhandler(405)
    @app.errorhandler(422)
    @app.errorhandler(500)
    def plain(error: Any) -> tuple[str, int]:
        return f"<h1>the host's own {error.code}</h1>", error.code

    @app.errorhandler(Exception)
    def everything(error: Exception) -> tuple[str, int]:
        return "<h1>the host's own handler</h1>", 500

    @app.route("/sign-in")
    def sign_in() -> str:
        return "<form>sign in</form>"

    @app.post("/login")
    def log_in() -> tuple[dict[str, str], int]:
        person = db.session.scalar(db.select(Person).filter_by(mail=request.get_json()["email"]))
        return ({"uid": str(person.uid)}, 200) if person and login_user(person) else ({}, 401)

    @app.post("/logout")
    @login_required
    def log_out() -> dict[str, str]:
        logout_user()
        return {}

    @app.get("/limited")
    @limiter.limit("2/minute")
    def limited() -> str:
        return "fine"

    @app.get("/whoami")
    def whoami() -> str:
        return current_user.mail if current_user.is_authenticated else "nobody"

    chat.init_app(app, db=db, user_model=Person, request_model=Visit, request_client="patient_uid")
    return app


def seed() -> None:
    """The same people and requests as the reference host's."""
    people = {
        name: Person(mail=f"{name}@nursecare.test", role=role)
        for name, role in (
            ("admin", "admin"),
            ("admin2", "admin"),
            ("client", "client"),
            ("client2", "client"),
            ("nurse", None),
        )
    }
    db.session.add_all(people.values())
    db.session.flush()
    for number, owner in ((1, "client"), (2, "client"), (3, "client2")):
        db.session.add(Visit(visit_no=uuid.uuid5(PATIENT_NAMESPACE, str(number)), patient_uid=people[owner].uid))
    db.session.add(ChatMessage(body="the host's own"))
    db.session.commit()
