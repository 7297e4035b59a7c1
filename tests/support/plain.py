"""A host with keys of the kind that ``HOST_KEY`` names, in the schema that ``HOST_SCHEMA`` names, if any."""

from __future__ import annotations

import os
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask_login import LoginManager, UserMixin
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

from nursecare_chat import Chat

KEYS: dict[str, Any] = {
    "integer": sa.Integer(),
    "bigint": sa.BigInteger(),
    "uuid": sa.Uuid(),
    "string": sa.String(40),
}

REVISION = '''
"""the host's own tables"""
from alembic import op
import sqlalchemy as sa

revision, down_revision, branch_labels, depends_on = "a1", None, None, None
schema = {schema!r}


def upgrade():
    if schema:
        op.execute(f"CREATE SCHEMA {{schema}}")
    op.create_table(
        "member",
        sa.Column("id", sa.{key!r}, nullable=False),
        sa.Column("role", sa.String(20)),
        sa.PrimaryKeyConstraint("id"),
        schema=schema,
    )
    op.create_table(
        "job",
        sa.Column("id", sa.{key!r}, nullable=False),
        sa.Column("client_id", sa.{key!r}),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["client_id"], [f"{{schema}}.member.id" if schema else "member.id"]),
        schema=schema,
    )


def downgrade():
    for table in ("job", "member"):
        op.drop_table(table, schema=schema)
'''


def create_app() -> Flask:
    key, schema = KEYS[os.environ["HOST_KEY"]], os.environ.get("HOST_SCHEMA")
    db = SQLAlchemy(metadata=sa.MetaData(schema=schema))

    class Member(UserMixin, db.Model):
        id = db.Column(key, primary_key=True)
        role = db.Column(db.String(20))

    class Job(db.Model):
        id = db.Column(key, primary_key=True)
        client_id = db.Column(key, db.ForeignKey(Member.id))

    app = Flask(__name__, instance_path=os.environ["NURSECARE_INSTANCE"])
    app.config.update(
        SECRET_KEY="k", SQLALCHEMY_DATABASE_URI=os.environ["NURSECARE_DATABASE_URL"], CHAT_ENABLED=True, TESTING=True
    )
    db.init_app(app)
    Migrate(app, db, directory=os.environ["HOST_MIGRATIONS"])
    LoginManager(app).user_loader(lambda text: db.session.get(Member, text))
    Chat().init_app(app, db=db, user_model=Member, request_model=Job)
    return app
