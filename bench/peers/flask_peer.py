"""Flask, Flask-Login, Flask-SQLAlchemy's ORM, redis-py; a greenlet and a queue for each stream.

gunicorn -k gevent bench.peers.flask_peer:app
"""

from __future__ import annotations

import json
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import redis
from flask import Flask, Response, abort, request
from flask_login import LoginManager, UserMixin, current_user, login_required
from flask_sqlalchemy import SQLAlchemy
from gevent.queue import Empty, Queue
from marshmallow import Schema, ValidationError, fields, validate, validates_schema
from sqlalchemy import update

from .models import CHANNEL, HEARTBEAT, QUEUE, Base, Message, Thread, User

app = Flask(__name__)
app.config.update(
    SECRET_KEY=os.environ["SECRET_KEY"],
    SQLALCHEMY_DATABASE_URI=os.environ["PEER_DATABASE_URL"],
    SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 10, "max_overflow": 10},
)
db = SQLAlchemy(app, model_class=Base, session_options={"expire_on_commit": False})
login_manager = LoginManager(app)
cache = redis.from_url(os.environ["PEER_REDIS_URL"])
listeners: defaultdict[int, set[Queue[Any]]] = defaultdict(set)
starting = threading.Lock()
dispatcher: list[threading.Thread] = []


class Account(UserMixin):
    """What Flask-Login keeps: the user, who may see what."""

    def __init__(self, user: User) -> None:
        self.user, self.id = user, user.id

    @property
    def is_active(self) -> bool:
        return self.user.active


class Post(Schema):
    type = fields.String(required=True, validate=validate.OneOf(["text", "location"]))
    text = fields.String(validate=validate.Length(1, 5000))
    lat = fields.Float(validate=validate.Range(-90, 90))
    lng = fields.Float(validate=validate.Range(-180, 180))

    @validates_schema
    def is_complete(self, data: dict[str, Any], **options: Any) -> None:
        needed = ("text",) if data["type"] == "text" else ("lat", "lng")
        if not all(name in data for name in needed):
            raise ValidationError("a field is missing")


post_schema = Post()


@login_manager.user_loader
def load_user(user_id: str) -> Account | None:
    user = db.session.get(User, int(user_id))
    return user and Account(user)


def get_thread(thread_id: int) -> Thread:
    thread = db.session.get(Thread, thread_id)
    if thread is None:
        abort(404)
    if not current_user.user.may_see(thread):
        abort(403)
    return thread


@app.get("/login")
def login() -> dict[str, str]:
    return {"status": "up"}


@app.post("/api/chat/threads/<int:thread_id>/messages")
@login_required
def post_message(thread_id: int) -> dict[str, int]:
    thread = get_thread(thread_id)
    try:
        body = post_schema.load(request.get_json())
    except ValidationError:
        abort(422)
    take_seq = (
        update(Thread)
        .where(Thread.id == thread.id, Thread.status == "open")
        .values(last_seq=Thread.last_seq + 1)
        .returning(Thread.last_seq)
        .execution_options(synchronize_session=False)
    )
    seq = db.session.scalar(take_seq)
    if seq is None:
        abort(403)
    message = Message(
        thread_id=thread.id,
        sender_id=current_user.id,
        type=body["type"],
        text=body.get("text"),
        latitude=body.get("lat"),
        longitude=body.get("lng"),
        seq=seq,
    )
    db.session.add(message)
    db.session.commit()
    cache.publish(f"{CHANNEL}{thread.id}", json.dumps(message.shown()))
    return {"id": message.id, "seq": seq}


@app.get("/api/chat/threads/<int:thread_id>/stream")
@login_required
def stream(thread_id: int) -> Response:
    thread = get_thread(thread_id)
    listen()
    given = request.headers.get("Last-Event-ID", type=int)
    frames = events(thread.id, thread.last_seq if given is None else given)
    return Response(frames, mimetype="text/event-stream", headers={"Cache-Control": "no-store"})


def events(thread_id: int, seq: int) -> Iterator[bytes]:
    """What was missed, then what comes: listening begins before reading, so nothing falls between."""
    waiting: Queue[Any] = Queue(QUEUE)
    listeners[thread_id].add(waiting)
    try:
        yield b"retry: 2000\n\n"
        with app.app_context():
            later = db.select(Message).where(Message.thread_id == thread_id, Message.seq > seq).order_by(Message.seq)
            missed = [message.shown() for message in db.session.scalars(later)]
        for message in missed:
            yield created(message)
            seq = message["seq"]
        while True:
            try:
                message = waiting.get(timeout=HEARTBEAT)
            except Empty:
                yield b":\n\n"
                continue
            if message is None:
                return
            if message["seq"] > seq:
                yield created(message)
                seq = message["seq"]
    finally:
        listeners[thread_id].discard(waiting)
        if not listeners[thread_id]:
            del listeners[thread_id]


def created(message: dict[str, Any]) -> bytes:
    return f"id: {message['seq']}\nevent: MessageCreated\ndata: {json.dumps(message)}\n\n".encode()


def listen() -> None:
    """Start the one listener of this worker, with its first stream."""
    with starting:
        if not dispatcher:
            pubsub = cache.pubsub(ignore_subscribe_messages=True)
            pubsub.psubscribe(f"{CHANNEL}*")
            dispatcher.append(threading.Thread(target=dispatch, args=(pubsub,), daemon=True))
            dispatcher[0].start()


def dispatch(pubsub: Any) -> None:
    """One connection to Redis for all streams of the process."""
    for ring in pubsub.listen():
        message = json.loads(ring["data"])
        for waiting in list(listeners.get(message["threadId"], ())):
            if waiting.full():
                listeners[message["threadId"]].discard(waiting)
                waiting.get_nowait()
                waiting.put_nowait(None)
            else:
                waiting.put_nowait(message)
