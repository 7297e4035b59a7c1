"""The reference host: a small home-care application with the chat installed in it."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy.exc import DBAPIError

from .extensions import chat, login_manager, migrate
from .models import ServiceRequest, User, db
from .pages import api_docs, pages
from .seed import seed_command
from .sessions import Sessions

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """The application. ``NURSECARE_INSTANCE`` moves the instance folder, ``NURSECARE_DATABASE_URL`` the database."""
    instance = os.environ.get("NURSECARE_INSTANCE") or str(ROOT / "instance")
    app = Flask(__name__, instance_path=instance)
    app.session_interface = Sessions()
    app.config.update(
        SQLALCHEMY_DATABASE_URI=os.environ.get("NURSECARE_DATABASE_URL", "sqlite:///nursecare.db"),
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_HTTPONLY=True,
    )
    if "CHAT_ENABLED" not in os.environ:
        app.config["CHAT_ENABLED"] = True
    app.config.update(config or {})
    if app.config["SQLALCHEMY_DATABASE_URI"].startswith("postgresql"):
        # One that is opened for a peak and closed after it costs PostgreSQL a process.
        app.config.setdefault("SQLALCHEMY_ENGINE_OPTIONS", {"pool_size": 20, "max_overflow": 0})
    if not app.secret_key:
        app.secret_key = _secret_key(Path(instance, "secret-key"))
    logging.basicConfig(
        level=os.environ.get("NURSECARE_LOG_LEVEL", "INFO"), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )

    chat.init_app(app, db=db, user_model=User, request_model=ServiceRequest)  # first: it says which driver is missing
    db.init_app(app)
    migrate.init_app(app, db, directory=str(HERE / "migrations"))
    login_manager.init_app(app)
    login_manager.login_view = "pages.login"

    app.register_blueprint(pages)
    app.register_blueprint(api_docs)
    app.cli.add_command(seed_command)
    app.teardown_appcontext(let_go)
    return app


def let_go(error: BaseException | None) -> None:
    """Before Flask-SQLAlchemy's own: a connection that the server cut meanwhile must not make a 500 of an answer."""
    if not db.session.registry.has():
        return
    try:
        db.session.rollback()
    except DBAPIError:
        db.session().invalidate()


@login_manager.user_loader
def load_user(user_id: str) -> User | None:
    return User.logged_in(int(user_id))


def _secret_key(path: Path) -> str:
    """Made once; server and worker start at the same time and must agree on it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        with open(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        with suppress(FileExistsError):
            os.link(part, path)  # there at once with all that is in it
        part.unlink()
    return path.read_text()
