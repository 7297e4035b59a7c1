"""The reference host with a Huey of its own, as its ``huey_consumer`` would load it: ``HOST_QUEUE_URL`` says where."""

from __future__ import annotations

import logging
import os

from flask import Flask, current_app
from flask_login import LoginManager
from flask_sqlalchemy import SQLAlchemy
from huey import RedisHuey, SqliteHuey

from examples.nursecare.models import ServiceRequest, User, db
from nursecare_chat import Chat, thread_purged

URL = os.environ["HOST_QUEUE_URL"]
huey = RedisHuey("host", url=URL) if "://" in URL else SqliteHuey("host", filename=URL)


@huey.task()
def habit() -> None:
    """The host's own."""
    print("the host's own task ran", flush=True)


def create_app() -> Flask:
    app = Flask(__name__, instance_path=os.environ["NURSECARE_INSTANCE"])
    app.config.update(
        SECRET_KEY="live", SQLALCHEMY_DATABASE_URI=os.environ["NURSECARE_DATABASE_URL"], CHAT_ENABLED=True, TESTING=True
    )
    database: SQLAlchemy = db
    database.init_app(app)
    LoginManager(app).user_loader(lambda text: db.session.get(User, int(text)))
    Chat().init_app(app, db=database, user_model=User, request_model=ServiceRequest, huey=huey)
    thread_purged.connect(_tell, app)
    return app


def _tell(sender: Flask, thread_id: int, **more: object) -> None:
    """Receivers have the application's context, a fresh one each time."""
    context = "in its context" if current_app._get_current_object() is sender else "elsewhere"
    print(f"purged {thread_id} {context}", flush=True)


logging.basicConfig(level=logging.INFO)
app = create_app()
