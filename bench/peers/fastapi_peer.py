"""FastAPI, sse-starlette, SQLAlchemy's asynchronous ORM, redis.asyncio; an asyncio queue for each stream.

uvicorn bench.peers.fastapi_peer:app --loop uvloop --http httptools
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import redis.asyncio as redis
from fastapi import Cookie, Depends, FastAPI, Header, HTTPException
from itsdangerous import BadSignature, URLSafeTimedSerializer
from pydantic import BaseModel, Field, model_validator
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sse_starlette import EventSourceResponse, ServerSentEvent

from .models import CHANNEL, HEARTBEAT, QUEUE, Message, Thread, User

engine = create_async_engine(os.environ["PEER_DATABASE_URL"], pool_size=10, max_overflow=10)
Session = async_sessionmaker(engine, expire_on_commit=False)
cache = redis.from_url(os.environ["PEER_REDIS_URL"])
sessions = URLSafeTimedSerializer(os.environ["SECRET_KEY"])
Queue = asyncio.Queue[dict[str, Any] | None]
listeners: defaultdict[int, set[Queue]] = defaultdict(set)


class Post(BaseModel):
    type: Literal["text", "location"]
    text: str | None = Field(None, min_length=1, max_length=5000)
    lat: float | None = Field(None, ge=-90, le=90)
    lng: float | None = Field(None, ge=-180, le=180)

    @model_validator(mode="after")
    def is_complete(self) -> Post:
        needed = [self.text] if self.type == "text" else [self.lat, self.lng]
        if None in needed:
            raise ValueError("a field is missing")
        return self


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    pubsub = cache.pubsub(ignore_subscribe_messages=True)
    await pubsub.psubscribe(f"{CHANNEL}*")
    task = asyncio.create_task(dispatch(pubsub))
    yield
    task.cancel()
    await pubsub.aclose()
    await cache.aclose()
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


async def dispatch(pubsub: Any) -> None:
    """One connection to Redis for all streams of the process."""
    async for ring in pubsub.listen():
        message = json.loads(ring["data"])
        for queue in list(listeners.get(message["threadId"], ())):
            if queue.full():
                listeners[message["threadId"]].discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(message)


async def database() -> AsyncIterator[AsyncSession]:
    async with Session() as session:
        yield session


# Ended with the endpoint, not with the response: else a stream would keep a connection of the pool for its life.
Database = Annotated[AsyncSession, Depends(database, scope="function")]


async def current_user(db: Database, session: Annotated[str | None, Cookie()] = None) -> User:
    try:
        user_id = sessions.loads(session or "", max_age=86400)["user_id"]
    except BadSignature:
        raise HTTPException(401) from None
    user = await db.get(User, user_id)
    if user is None or not user.active:
        raise HTTPException(401)
    return user


async def current_thread(thread_id: int, db: Database, user: Annotated[User, Depends(current_user)]) -> Thread:
    thread = await db.get(Thread, thread_id)
    if thread is None:
        raise HTTPException(404)
    if not user.may_see(thread):
        raise HTTPException(403)
    return thread


CurrentUser = Annotated[User, Depends(current_user)]
CurrentThread = Annotated[Thread, Depends(current_thread)]


@app.get("/login")
async def login() -> dict[str, str]:
    return {"status": "up"}


@app.post("/api/chat/threads/{thread_id}/messages")
async def post_message(body: Post, db: Database, user: CurrentUser, thread: CurrentThread) -> dict[str, int]:
    take_seq = (
        update(Thread)
        .where(Thread.id == thread.id, Thread.status == "open")
        .values(last_seq=Thread.last_seq + 1)
        .returning(Thread.last_seq)
        .execution_options(synchronize_session=False)
    )
    seq = await db.scalar(take_seq)
    if seq is None:
        raise HTTPException(403)
    message = Message(
        thread_id=thread.id,
        sender_id=user.id,
        type=body.type,
        text=body.text,
        latitude=body.lat,
        longitude=body.lng,
        seq=seq,
    )
    db.add(message)
    await db.commit()
    await cache.publish(f"{CHANNEL}{thread.id}", json.dumps(message.shown()))
    return {"id": message.id, "seq": seq}


@app.get("/api/chat/threads/{thread_id}/stream")
async def stream(
    thread: CurrentThread, last_event_id: Annotated[int | None, Header(ge=0)] = None
) -> EventSourceResponse:
    start = thread.last_seq if last_event_id is None else last_event_id
    return EventSourceResponse(
        events(thread.id, start),
        ping=HEARTBEAT,
        ping_message_factory=lambda: ServerSentEvent(comment=""),
    )


async def events(thread_id: int, seq: int) -> AsyncIterator[ServerSentEvent]:
    """What was missed, then what comes: listening begins before reading, so nothing falls between."""
    queue: Queue = asyncio.Queue(QUEUE)
    listeners[thread_id].add(queue)
    try:
        yield ServerSentEvent(retry=2000)
        async with Session() as db:
            later = select(Message).where(Message.thread_id == thread_id, Message.seq > seq).order_by(Message.seq)
            missed = [message.shown() for message in await db.scalars(later)]
        for message in missed:
            yield created(message)
            seq = message["seq"]
        while (waiting := await queue.get()) is not None:
            if waiting["seq"] > seq:
                yield created(waiting)
                seq = waiting["seq"]
    finally:
        listeners[thread_id].discard(queue)
        if not listeners[thread_id]:
            del listeners[thread_id]


def created(message: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(message), event="MessageCreated", id=str(message["seq"]))
