"""A host with strong habits, with the chat on, with it switched off, or without it; and that host's own test suite."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from flask import Flask, Response, abort, g, jsonify, request, session
from flask.json.provider import DefaultJSONProvider
from flask_limiter import Limiter
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user, logout_user
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from huey import MemoryHuey
from sqlalchemy import event

from nursecare_chat import Chat

VARIANTS = ("without", "off", "on")
OWN = ("CHAT_", "SQLALCHEMY_DATABASE_URI")
VOLATILE = ("Date", "Set-Cookie", "X-RateLimit-Reset", "Retry-After")


class Tagged(DefaultJSONProvider):
    """The host's JSON: sorted, with a blank, and its own idea of sets."""

    sort_keys = True

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return super().dumps(obj, **{**kwargs, "separators": (", ", ": ")}) + " "

    @staticmethod
    def default(obj: Any) -> Any:
        return sorted(obj) if isinstance(obj, set) else DefaultJSONProvider.default(obj)


class Host:
    """``variant`` is one of :data:`VARIANTS`; everything else is the same each time."""

    def __init__(self, folder: Path, variant: str, url: str | None = None, **config: Any) -> None:
        self.statements: list[str] = []
        self.app = app = Flask(__name__, instance_path=str(folder))
        app.json = Tagged(app)
        app.url_map.strict_slashes = False
        app.config.update(
            SECRET_KEY="of a host with habits",
            SQLALCHEMY_DATABASE_URI=url or f"sqlite:///{folder}/habits.db",
            # One connection, and no patience: whoever took a second one would stand still.
            SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 1, "max_overflow": 0, "pool_timeout": 2},
            RATELIMIT_STORAGE_URI="memory://",
            RATELIMIT_HEADERS_ENABLED=True,
            MAX_CONTENT_LENGTH=2000,
            TRAP_HTTP_EXCEPTIONS=False,
            REMEMBER_COOKIE_NAME="keep",
            **config,
        )
        self.db = db = SQLAlchemy(app, session_options={"expire_on_commit": False, "autoflush": False})
        Migrate(app, db)
        self.huey = MemoryHuey("habits", immediate=True, results=False)
        self.limiter = Limiter(lambda: request.headers.get("X-Tenant", "none"), app=app, default_limits=["40/hour"])
        self._models()
        self._login()
        self._habits()
        self._routes()
        if variant != "without":
            self.chat = Chat()
            app.config.update(CHAT_ENABLED=variant == "on", CHAT_STORAGE_URL=f"file://{folder}/media")
            models = {"user_model": self.User, "request_model": self.Job, "request_client": "owner_id"}
            self.chat.init_app(app, db=db, huey=self.huey, **models)
        with app.app_context():
            db.create_all()
            event.listen(db.engine, "before_cursor_execute", self._note_statement)
            db.session.add_all([self.User(id=1, name="ann"), self.User(id=2, name="bob", role="admin")])
            db.session.flush()
            db.session.add_all([self.Job(id=number, owner_id=1) for number in (1, 2, 3)])
            db.session.commit()

    def _note_statement(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        self.statements.append(re.sub(r"\s+", " ", statement))

    def _models(self) -> None:
        db = self.db

        class User(UserMixin, db.Model):
            id = db.Column(db.Integer, primary_key=True)
            name = db.Column(db.String(40))
            role = db.Column(db.String(10))
            jobs = db.relationship("Job", cascade="all, delete-orphan", passive_deletes=False)

        class Job(db.Model):
            id = db.Column(db.Integer, primary_key=True)
            owner_id = db.Column(db.Integer, db.ForeignKey("user.id", ondelete="CASCADE"))
            done = db.Column(db.Boolean, default=False)
            notes = db.relationship("Note", cascade="all, delete-orphan")

        class Note(db.Model):
            id = db.Column(db.Integer, primary_key=True)
            job_id = db.Column(db.Integer, db.ForeignKey("job.id", ondelete="CASCADE"))
            text = db.Column(db.String(40))

        self.User, self.Job, self.Note = User, Job, Note

    def _login(self) -> None:
        login = LoginManager(self.app)
        login.login_view, login.session_protection = "sign_in", "strong"
        login.user_loader(lambda text: self.db.session.get(self.User, int(text)))
        login.unauthorized_handler(lambda: (jsonify(problem="who are you"), 418))

    def _habits(self) -> None:
        app, db = self.app, self.db

        @app.before_request
        def begin() -> None:
            g.begun = db.session.execute(db.select(db.func.count()).select_from(self.User)).scalar()
            session["visits"] = session.get("visits", 0) + 1

        @app.after_request
        def commit_everything(response: Response) -> Response:
            if response.status_code < 400:
                db.session.commit()
            else:
                db.session.rollback()
            response.headers["X-Begun"] = str(g.get("begun"))
            return response

        @app.errorhandler(Exception)
        def everything(error: Exception) -> tuple[Response, int]:
            return jsonify(problem=type(error).__name__, tags={"b", "a"}), getattr(error, "code", None) or 500

        @app.errorhandler(404)
        def nothing(error: Exception) -> tuple[str, int]:
            return "<h1>not here</h1>", 404

        @app.cli.command("count")
        def count() -> None:
            click.echo(db.session.query(self.User).count())

        @self.huey.task()
        def tidy(job_id: int) -> None:
            with app.app_context():
                db.session.get(self.Job, job_id).done = True
                db.session.commit()

        self.tidy = tidy

    def _routes(self) -> None:
        app, db = self.app, self.db

        @app.route("/sign-in")
        def sign_in() -> str:
            return "<form>"

        @app.post("/login")
        def log_in() -> dict[str, Any]:
            user = db.session.get(self.User, request.get_json()["id"]) or abort(401)
            login_user(user, remember=True)
            return {"hello": user.name}

        @app.post("/logout")
        @login_required
        def log_out() -> str:
            logout_user()
            return "bye"

        @app.get("/me")
        @login_required
        def me() -> dict[str, Any]:
            return {"me": current_user.name, "visits": session["visits"]}

        @app.route("/jobs/<int:job_id>/notes", methods=["GET", "POST"])
        @login_required
        def notes(job_id: int) -> Any:
            job = db.session.get(self.Job, job_id) or abort(404)
            if request.method == "POST":
                with db.session.begin_nested():
                    job.notes.append(self.Note(text=request.get_json()["text"]))
            db.session.flush()
            return jsonify([note.text for note in job.notes])

        @app.post("/jobs/<int:job_id>/tidy")
        @login_required
        def tidy(job_id: int) -> str:
            db.session.commit()
            self.tidy(job_id)
            return "tidied"

        @app.delete("/users/<int:user_id>")
        @login_required
        def delete_user(user_id: int) -> str:
            db.session.delete(db.session.get(self.User, user_id) or abort(404))
            return "gone"

        @app.get("/rare")
        @self.limiter.limit("2/hour")
        def rare() -> str:
            return "rare"

        @app.get("/broken")
        def broken() -> str:
            db.session.add(self.User(id=77, name="never"))
            db.session.flush()
            raise KeyError("broken")

        @app.post("/large")
        def large() -> str:
            return str(len(request.get_data()))


def setup_of(host: Host) -> dict[str, Any]:
    """What a host has set up, that a guest might have changed."""
    app = host.app
    root = logging.getLogger()
    with app.app_context(), host.db.engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("foreign_keys", "journal_mode", "secure_delete", "synchronous", "busy_timeout")
            if host.db.engine.dialect.name == "sqlite"
        }
        pool = host.db.engine.pool.status()
    return {
        "handlers": {
            code: [kind.__name__ for kind in kinds] for code, kinds in app.error_handler_spec[None].items() if kinds
        },
        "before": len(app.before_request_funcs.get(None, [])),
        "after": len(app.after_request_funcs.get(None, [])),
        "teardown": len(app.teardown_appcontext_funcs),
        "context processors": len(app.template_context_processors[None]),
        "rules": sorted(str(rule) for rule in app.url_map.iter_rules() if not re.match("/api/", str(rule))),
        "login": {name: str(value).split(" at 0x")[0] for name, value in sorted(vars(app.login_manager).items())},
        "json": type(app.json).__name__,
        "config": {key: str(value) for key, value in app.config.items() if not key.startswith(OWN)},
        "pragmas": pragmas,
        "pool": pool,
        "loggers": (root.level, [type(handler).__name__ for handler in root.handlers], logging.raiseExceptions),
        "warnings": len(warnings.filters),
        "commands": sorted(set(app.cli.commands) - {"chat"}),
    }


def own_suite(host: Host, between: Callable[[], None] = lambda: None) -> list[Any]:
    """What the host answers, has in its database, and does there, step by step.

    :param between: run between the steps, as somebody else's requests.
    """
    client, seen = host.app.test_client(), []

    def step(method: str, path: str, **options: Any) -> None:
        headers = {"X-Tenant": "suite", **options.pop("headers", {})}
        response = client.open(path, method=method, headers=headers, **options)
        kept = {name: value for name, value in response.headers.items() if name not in VOLATILE}
        cookies = sorted(value.partition("=")[0] for value in response.headers.getlist("Set-Cookie"))
        seen.append((method, path, response.status_code, response.get_data(as_text=True), kept, cookies))
        between()

    step("GET", "/me")
    step("POST", "/login", json={"id": 9})
    step("POST", "/login", json={"id": 1})
    for path in ("/me", "/me/", "/nowhere", "/api", "/api/requests", "/broken", "/login", "/static/x", "/jobs/9/notes"):
        step("GET", path)
    for text in ("first", "second"):
        step("POST", "/jobs/1/notes", json={"text": text})
    step("GET", "/jobs/1/notes")
    step("POST", "/jobs/1/tidy")
    for _ in range(3):
        step("GET", "/rare")
    step("POST", "/large", data=b"x" * 1900)
    step("POST", "/large", data=b"x" * 2100)
    step("POST", "/jobs/1/notes", data="{", content_type="application/json")
    step("OPTIONS", "/login")
    step("DELETE", "/users/9")
    step("DELETE", "/users/2")
    step("POST", "/logout")
    step("GET", "/me")
    for _ in range(25):
        step("GET", "/sign-in")
    seen.append(host.app.test_cli_runner().invoke(args=["count"]).output)
    with host.app.app_context():
        session, models = host.db.session, (host.User, host.Job, host.Note)
        seen.append([session.query(model).order_by(model.id).count() for model in models])
        session.add(host.Note(job_id=2, text="pending"))
        session.flush()
        session.rollback()
        seen.append(session.query(host.Note).count())
    return seen
