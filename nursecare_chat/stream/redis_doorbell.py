"""A doorbell between processes: Redis publish/subscribe (contract C31, C33)."""

from __future__ import annotations

import json
import logging
import random
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .. import fork
from ..background import Background
from ..redis_pool import make_pool
from .doorbell import Ring
from .redis_publisher import Publisher

log = logging.getLogger(__name__)

PREFIX = "private-chat."
USERS = PREFIX + "users"
"""The channel of rings without a thread. Every process that has streams listens there."""

EVERYTHING = PREFIX + "*"
"""The pattern that processes with streams of inboxes listen to; what they watch besides arrives twice then."""

TIMEOUT = 2.0
"""Seconds to wait for Redis in a thread of ours; no request waits for it at all."""

PING = 5.0
"""Seconds between two signs of life; a Redis that hangs is given up after as many more."""

PAUSE = 1.0
"""Seconds, give or take a half, between attempts to reach a Redis that is away."""

LINGER = 1.0
"""Seconds for which the connection outlives the last stream."""

MANY = 500
"""Channels named in one command."""


class RedisDoorbell:
    """One connection listens for all streams of this process, another sends rings and waits for nothing.

    Redis is waited for in the listener's thread and in the background only, where the other one is made. While it is
    away, rings of this process still arrive here, the others' are found by the hub's polling, and both come back by
    themselves.

    :param url: ``redis://`` or ``rediss://``.
    :param background: where the connection for rings is made.
    """

    def __init__(self, url: str, background: Background) -> None:
        self._pool = make_pool(
            "CHAT_TRANSPORT_URL",
            url,
            socket_connect_timeout=TIMEOUT,
            socket_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            client_name="nursecare-chat",
        )
        self._publisher = Publisher(self._pool, background, TIMEOUT, PAUSE)
        self._answer: Callable[[Ring], None] = lambda ring: None
        self._reset()
        fork.register(self)

    def after_fork(self) -> None:
        """The parent's connections are the parent's; redis-py sees that for those of the pool."""
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._watched: set[int | None] = set()
        self._changed: dict[int | None, bool] = {}
        self._waker: socket.socket | None = None
        self._heard = True

    def listen(self, answer: Callable[[Ring], None]) -> None:
        self._answer = answer

    # -- ringing -------------------------------------------------------------------------------------------------

    def ring(self, ring: Ring) -> None:
        self._answer(ring)
        body = {"kind": ring.kind, "thread": ring.thread, "seq": ring.seq, "user": ring.user}
        channel = USERS if ring.thread is None else f"{PREFIX}{ring.thread}"
        self._publisher.publish((ring.kind, ring.thread, ring.user), channel, json.dumps(body))

    def release(self) -> None:
        """Give back the connection that rings were sent on; the next ring opens another."""
        self._publisher.release()

    # -- listening -----------------------------------------------------------------------------------------------

    def watch(self, thread: int | None) -> None:
        with self._lock:
            self._watched.add(thread)
            self._changed[thread] = True
            if self._waker is None:
                self._start()
            else:
                _wake(self._waker)

    def unwatch(self, thread: int | None) -> None:
        with self._lock:
            self._watched.discard(thread)
            self._changed[thread] = False
            if self._waker is not None:
                _wake(self._waker)

    def _start(self) -> None:
        bell, self._waker = socket.socketpair()
        for end in (bell, self._waker):
            end.setblocking(False)
        name, ends = "nursecare-chat_doorbell", (bell, self._waker)
        try:
            threading.Thread(target=self._listen, args=ends, name=name, daemon=True).start()
        except RuntimeError as error:  # no more threads to be had: polling finds it all, the next stream tries again
            self._waker = None
            self._lost(error)
            for end in ends:
                end.close()

    def _listen(self, bell: socket.socket, waker: socket.socket) -> None:
        """Until no stream is left; in the meantime whatever breaks is set up anew."""
        try:
            while not self._over(waker):
                # Not the pool's make_connection(): it would keep each one that it made.
                connection, failed = self._pool.connection_class(**self._pool.connection_kwargs), False
                try:
                    self._attend(connection, bell, waker)
                except Exception as error:  # whatever a wrong setting makes of it, others come after it
                    failed = True
                    self._lost(error)
                finally:
                    connection.disconnect()
                if failed:
                    time.sleep(PAUSE * random.uniform(0.5, 1.5))  # nosec B311 # spreads processes out
        finally:
            with self._lock:
                if self._waker is waker:
                    self._waker = None
            bell.close()
            waker.close()

    def _over(self, waker: socket.socket) -> bool:
        """Whether nobody listens any more; then whoever comes next starts anew."""
        with self._lock:
            if self._waker is waker and self._watched:
                return False
            self._waker = None if self._waker is waker else self._waker
            return True

    def _attend(self, connection: Any, bell: socket.socket, waker: socket.socket) -> None:
        """One connection's life."""
        connection.connect()
        with self._lock:
            self._changed = dict.fromkeys(self._watched, True)
        connection.send_command("SUBSCRIBE", USERS)
        poll = select.poll()
        for one in (connection._sock, bell):
            poll.register(one.fileno(), select.POLLIN)
        alive = pinged = time.monotonic()
        while True:
            self._subscribe(connection)
            idle = not self._watched
            poll.poll((LINGER if idle else PING) * 1000)
            _drain(bell)
            if idle and self._over(waker):
                return
            while connection.can_read(0):
                self._heard_of(connection.read_response())
                alive = time.monotonic()
            now = time.monotonic()
            if now - alive > 2 * PING:
                raise redis.TimeoutError("no sign of life")
            if now - max(alive, pinged) >= PING:
                connection.send_command("PING")
                pinged = now

    def _subscribe(self, connection: Any) -> None:
        with self._lock:
            changed, self._changed = self._changed, {}
        for command, wanted in (("SUBSCRIBE", True), ("UNSUBSCRIBE", False)):
            threads = [thread for thread, watched in changed.items() if watched is wanted]
            for some in _slices([f"{PREFIX}{thread}" for thread in threads if thread is not None]):
                connection.send_command(command, *some)
            if None in threads:
                connection.send_command("P" + command, EVERYTHING)

    def _heard_of(self, response: Any) -> None:
        self._found()
        if isinstance(response, list) and response[0] in (b"message", b"pmessage"):
            ring = parse(response[-1])
            if ring is not None:
                self._answer(ring)

    def _lost(self, error: Exception) -> None:
        if self._heard:
            self._heard = False
            log.warning(
                "chat doorbell lost; streams poll the database",
                extra={"chat": True, "error": type(error).__name__, "streams": len(self._watched)},
            )

    def _found(self) -> None:
        if not self._heard:
            self._heard = True
            log.info("chat doorbell is back", extra={"chat": True, "streams": len(self._watched)})


def parse(body: bytes) -> Ring | None:
    """A ring as it came, ``None`` for anything else: whoever can publish can wake us, and nothing more."""
    try:
        said = json.loads(body)
        ring = Ring(said["kind"], said["thread"], said["seq"], said["user"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    numbers = all(value is None or (isinstance(value, int) and 0 <= value < 2**63) for value in (ring.thread, ring.seq))
    return ring if numbers and isinstance(ring.kind, str) and isinstance(ring.user, (int, str, type(None))) else None


def _wake(waker: socket.socket) -> None:
    with suppress(OSError):  # so full that it wakes all the same, or its thread is just ending
        waker.send(b"\0")


def _drain(bell: socket.socket) -> None:
    with suppress(BlockingIOError):
        while bell.recv(4096):
            pass


def _slices(items: list[str]) -> Iterable[list[str]]:
    return (items[start : start + MANY] for start in range(0, len(items), MANY))
