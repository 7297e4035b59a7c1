"""Publishing to Redis without waiting for it (contract C31).

A command goes into the socket's buffer, where the kernel has it from then on, and its answer is read when the next one
is sent. So a ring costs a request three system calls, and no other thread or greenlet is woken for it.
"""

from __future__ import annotations

import ssl
import threading
import time
from functools import partial
from typing import Any

import redis

from .. import fork
from ..background import Background

WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

MANY = 1000
"""Channels with something that waits for a connection; what does not fit is dropped."""


class Publisher:
    """One connection, made in the background at the first use, and again when it was lost.

    What is published while it is being made is sent then, of one ``key`` only the last. While Redis is away nothing is
    kept: whoever listens finds it in the database.

    :param pool: says how to connect; :param background: where that is waited for.
    :param timeout: seconds in which Redis must answer something; :param pause: seconds for which one that did not, or
        was not there, is not asked again.
    """

    def __init__(self, pool: Any, background: Background, timeout: float, pause: float) -> None:
        self._pool = pool
        self._background = background
        self._timeout, self._pause = timeout, pause
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        """The parent's connection is the parent's."""
        self._lock = threading.Lock()
        self._connection: Any = None
        self._unanswered, self._heard_at = 0, 0.0
        self._waiting: dict[object, tuple[str, str]] = {}
        self._connecting = False
        self._away_until = 0.0

    def publish(self, key: object, channel: str, message: str) -> None:
        """Never waits and never raises.

        :param key: of what waits only the last with the same one is of use.
        """
        with self._lock:
            if self._connection is not None:
                try:
                    self._hear()
                    self._send([(channel, message)])
                except (redis.RedisError, OSError) as error:
                    self._lose(error)
            if self._connection is None:
                self._later(key, channel, message)
        self._background.touch()

    def release(self) -> None:
        """Close the connection; the next message opens another."""
        with self._lock:
            self._drop()

    def _later(self, key: object, channel: str, message: str) -> None:
        if time.monotonic() < self._away_until or (len(self._waiting) >= MANY and key not in self._waiting):
            return
        self._waiting[key] = channel, message
        if not self._connecting:
            self._connecting = self._background.submit(self._connect)

    def _connect(self) -> None:
        """In the background; an error is logged there."""
        try:
            connection = self._pool.connection_class(**self._pool.connection_kwargs)
            connection.connect()
            connection._sock.settimeout(0)
        except Exception:
            with self._lock:
                self._connecting, self._away_until = False, time.monotonic() + self._pause
                self._waiting.clear()
            raise
        with self._lock:
            self._connection, self._connecting = connection, False
            self._unanswered, waiting = 0, list(self._waiting.values())
            self._waiting.clear()
            try:
                self._send(waiting)
            except (redis.RedisError, OSError) as error:
                self._lose(error)

    def _lose(self, error: Exception) -> None:
        """One that was closed is made again at once: its server may be there again, or end what is idle."""
        self._drop()
        if isinstance(error, (redis.TimeoutError, redis.ResponseError)):
            self._away_until = time.monotonic() + self._pause
        self._background.submit(partial(_raise, error))  # logs it now and then

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def _send(self, messages: list[tuple[str, str]]) -> None:
        """All in one write."""
        packed = [self._connection.pack_command("PUBLISH", *message) for message in messages]
        data = b"".join(part for command in packed for part in command)
        if not self._unanswered:
            self._heard_at = time.monotonic()
        try:
            sent = self._connection._sock.send(data)
        except WOULD_BLOCK:
            sent = 0
        if sent < len(data):  # the kernel keeps thousands for a Redis that reads nothing
            raise redis.TimeoutError("not read")
        self._unanswered += len(messages)

    def _hear(self) -> None:
        """What came meanwhile: a line for each message, the number of who listens; or the end."""
        while True:
            try:
                answers = self._connection._sock.recv(65536)
            except WOULD_BLOCK:
                if self._unanswered and time.monotonic() - self._heard_at > self._timeout:
                    raise redis.TimeoutError("no answer") from None
                return
            if not answers:
                raise redis.ConnectionError("closed")
            if b"-" in answers:
                raise redis.ResponseError("refused")
            self._unanswered -= answers.count(b"\n")
            self._heard_at = time.monotonic()


def _raise(error: Exception) -> None:
    raise error
