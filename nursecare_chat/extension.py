"""The extension object: wiring only (contract C1 to C7)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from typing import Any

from flask import Blueprint, Flask
from flask_login import user_logged_out
from flask_sqlalchemy import SQLAlchemy
from huey import Huey

from . import config as configuration
from . import session_cookie
from .api import create_blueprint, media
from .background import Background
from .cli import chat_cli
from .clock import Clock
from .errors import ConfigurationError
from .metrics import make_metrics
from .models import ChatModels, build_models
from .policy import ChatThreadPolicy, bind
from .rates import Rates
from .receipt_key import ReceiptKey
from .service.access import Access
from .service.audit import Audit
from .service.completion import Completion
from .service.erasure import Erasure
from .service.expiry import Expiry
from .service.images import Images
from .service.inboxes import Inboxes
from .service.log import Log
from .service.messages import Messages, Posted
from .service.postgres import require_driver
from .service.purges import Purges
from .service.receipts import Receipts
from .service.sealing import Sealing
from .service.sealing import choose as choose_key_store
from .service.threads import Threads
from .service.unit_of_work import Database
from .service.uploads import Uploads
from .signals import emitter
from .state import KEY, ChatState, current
from .storage.choice import choose
from .stream.doorbell import Doorbell, MemoryDoorbell
from .stream.hub import Hub
from .stream.interfaces import Limits, Pair
from .stream.redis_doorbell import RedisDoorbell
from .tasks import Tasks

EXAMPLE = "chat.init_app(app, db=db, user_model=User, request_model=ServiceRequest)"


class Chat:
    """The plugin. One object serves any number of applications; what belongs to one is in ``app.extensions``.

    ::

        chat = Chat()
        chat.init_app(app, db=db, user_model=User, request_model=ServiceRequest)
    """

    def __init__(self) -> None:
        self.blueprint: Blueprint = create_blueprint()

    def init_app(
        self,
        app: Flask,
        *,
        db: SQLAlchemy | None = None,
        user_model: type | None = None,
        request_model: type | None = None,
        huey: Huey | None = None,
        policy: type[ChatThreadPolicy] | ChatThreadPolicy | None = None,
        request_client: str | Callable[[Any], Any] | None = None,
    ) -> None:
        """Install the chat into ``app``. Never touches the database (C1).

        :param db: the host's Flask-SQLAlchemy object.
        :param user_model: the host's user class; :param request_model: the class of what a chat is about.
        :param huey: the host's Huey instance; without it one is made from ``CHAT_QUEUE_URL``.
        :param policy: a :class:`ChatThreadPolicy` subclass or instance.
        :param request_client: the attribute that holds a request's client id (default ``"client_id"``), or a callable
            that gives it for a request.
        :raises ConfigurationError: naming what is missing or wrong and what to do.
        """
        if db is None or user_model is None or request_model is None:
            given = {"db": db, "user_model": user_model, "request_model": request_model}
            missing = ", ".join(f"{name}=…" for name, value in given.items() if value is None)
            raise ConfigurationError(f"chat.init_app needs {missing}, for example: {EXAMPLE}")
        if not isinstance(db, SQLAlchemy):
            raise ConfigurationError(f"chat.init_app: db={db!r} is no Flask-SQLAlchemy object; {EXAMPLE}")
        if KEY in app.extensions:
            raise ConfigurationError("chat.init_app was called twice for one application; call it once.")

        require_driver(app.config)
        enabled, config = configuration.load(app.config)
        models = build_models(db, user_model, request_model)
        bound = bind(policy, user_key=_attribute(user_model, models), request_client=request_client)
        _check_request_client(bound, request_model)

        app.config["CHAT_ENABLED"] = enabled
        state = _assemble(app, db, config, models, bound, huey)
        app.extensions[KEY] = state
        app.register_blueprint(self.blueprint)
        app.cli.add_command(chat_cli)
        user_logged_out.connect(state.on_user_logged_out, app)
        if enabled and not (app.debug or app.testing):
            for warning in configuration.warnings(config):
                state.warn_once(warning)
            for said, todo in session_cookie.weaknesses(app.config, in_production=True):
                state.warn_once(f"{said} {todo}")
            if not state.images.available:
                state.warn_once(
                    "Pillow is missing (nursecare_chat[images]), so photos keep what their cameras wrote in"
                )

    @property
    def models(self) -> ChatModels:
        """The current application's ``ChatThread`` and its siblings, for the host's own queries."""
        return current().models

    @property
    def config(self) -> configuration.ChatConfig:
        """The current application's settings as they were read, for the host's own pages."""
        return current().config

    @property
    def storage_origin(self) -> str | None:
        """Where browsers send and load photos, for ``connect-src`` and ``img-src``; ``None`` if that is the host."""
        return current().storage.origin

    def close_request(self, request: Any) -> bool:
        """Close the chat of ``request``, whose work is done, in the host's own transaction (C44).

        It joins ``db.session`` and commits nothing: event, signal and erasure follow the host's commit, and a rollback
        undoes the close. Works with the chat switched off too. Needs an application context.

        :param request: an instance of the host's request class.
        :returns: whether there was an open chat.
        """
        return current().completion.close(request)

    def disconnect(self, user: Any) -> None:
        """End all streams of ``user`` at once, for example after disabling the account (C34).

        Needs an application context.
        """
        current().disconnect(user)

    def forget(self, subject: Any) -> tuple[int, int]:
        """Delete the rows of a request's or a user's settled chats, so that the host can delete its own row (C9).

        Needs an application context.

        :param subject: an instance of the host's request or user class.
        :returns: ``(chats forgotten, chats kept because they are open or not purged yet)``.
        """
        return current().threads.forget(subject)


def _attribute(model: Any, models: ChatModels) -> str:
    """What the host calls its users' primary key."""
    name: str = model.__mapper__.get_property_by_column(models.user_key.column).key
    return name


def _check_request_client(policy: ChatThreadPolicy, request_model: type) -> None:
    name = policy.request_client
    if (
        type(policy).client_of is ChatThreadPolicy.client_of
        and isinstance(name, str)
        and not hasattr(request_model, name)
    ):
        raise ConfigurationError(
            f"chat.init_app: {request_model.__name__} has no attribute {name!r}; say where a request's client id is"
            ' with request_client="…" or a callable.'
        )


def _assemble(
    app: Flask,
    db: SQLAlchemy,
    config: configuration.ChatConfig,
    models: ChatModels,
    policy: ChatThreadPolicy,
    huey: Huey | None,
) -> ChatState:
    def host_engine() -> Any:
        with app.app_context():
            return db.engine

    def secrets() -> list[bytes]:
        keys = [app.secret_key, *(app.config.get("SECRET_KEY_FALLBACKS") or ())]
        if not keys[0]:
            raise ConfigurationError("SECRET_KEY is not set; logins and the chat need it.")
        raw = (key if isinstance(key, bytes) else str(key).encode() for key in keys)
        return [hmac.digest(key, b"nursecare_chat", hashlib.sha256) for key in raw]

    def lost_access(pairs: Iterable[Pair]) -> set[Pair]:
        lost = access.lost(pairs) if configuration.is_enabled(app.config) else set(pairs)
        for _ in lost:
            metrics.count("denials", "access_lost")
        return lost

    options = {**getattr(db, "_engine_options", {}), **app.config.get("SQLALCHEMY_ENGINE_OPTIONS", {})}
    database = Database(host_engine, options)
    metrics, emit = make_metrics(), emitter(app)
    rates, doorbell = _transport(config)
    access = Access(policy, models, database, metrics)
    tasks = Tasks(app, huey, config.queue_url, lambda: purges, lambda: expiry)
    storage = choose(
        config.storage_url,
        folder=configuration.storage_folder(config.storage_url, app.instance_path),
        secrets=secrets,
        base=media.PATH,
        connection_string=config.azure_connection_string,
        account_url=config.azure_account_url,
        ttl=config.signed_url_ttl,
    )
    clock = Clock()
    sealing = Sealing(choose_key_store(config.keystore_url, app.instance_path))
    receipts = Receipts(database, models, ReceiptKey(config.receipt_key, lambda: app.instance_path))
    erasure = Erasure(database, models, storage, sealing, receipts, clock, config.redact_messages)
    purges = Purges(database, models, erasure, metrics, clock, tasks.wake, emit)
    images = Images()
    uploads = Uploads(database, models, storage, images, metrics, config.signed_url_ttl)
    threads = Threads(database, models, access, purges, metrics, doorbell.ring, emit)
    expiry = Expiry(database, models, threads, clock, config.idle_close_minutes, config.max_age_days)
    reader = Log(database, models, uploads.url, sealing)
    inboxes = Inboxes(database, models, access, secrets)

    def show(posted: Posted) -> None:
        # An address of a photo is for the log to sign, which sees whether closing has begun.
        if posted.media_path is None and hub.is_watched(posted.thread_id):
            hub.offer(posted.thread_id, reader.entry(posted))

    limits = Limits(config.stream_heartbeat, config.stream_max_age, config.max_streams_per_user, config.stream_handoff)
    hub = Hub(reader, inboxes, lost_access, doorbell, limits, app.app_context, metrics)
    return ChatState(
        config=config,
        models=models,
        metrics=metrics,
        database=database,
        access=access,
        rates=rates,
        storage=storage,
        images=images,
        uploads=uploads,
        threads=threads,
        completion=Completion(lambda: db.session(), models, threads, app.app_context),
        messages=Messages(database, models, uploads, metrics, doorbell.ring, show, emit, secrets, sealing),
        sealing=sealing,
        receipts=receipts,
        audit=Audit(database, models, storage, sealing, tasks.suspicious, config.transport_url, config.redact_messages),
        clock=clock,
        purges=purges,
        tasks=tasks,
        doorbell=doorbell,
        log=reader,
        inboxes=inboxes,
        hub=hub,
    )


def _transport(config: configuration.ChatConfig) -> tuple[Rates, Doorbell]:
    """What ``CHAT_TRANSPORT_URL`` carries: rings, and the counts of the rates."""
    limited = {"open": config.rate_open, "post": config.rate_post, "upload": config.rate_upload}
    if not config.transport_url.startswith("redis"):
        return Rates(limited), MemoryDoorbell()

    def release() -> None:  # an idle process keeps the one connection that its streams listen on (C33)
        doorbell.release()
        rates.release()

    background = Background("nursecare-chat_rings", idle=release)
    doorbell = RedisDoorbell(config.transport_url, background)
    rates = Rates(limited, config.transport_url, used=background.touch)
    return rates, doorbell
