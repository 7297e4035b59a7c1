"""What one connection of a load is: a stream that is followed, or a way for posts."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .wire import MESSAGE, SEQ, Connection, Frames, Unchunked

if TYPE_CHECKING:
    from .load import Crowd

KEEP = 1.0
"""Seconds for which a connection of posts is kept: every server here keeps it longer, so none is closed under one."""

MAX_CONNECTIONS = 500
"""For posts; what is due while all are busy waits, and its latency counts on."""


@dataclass(frozen=True)
class Seat:
    """Somebody who follows a thread, and posts there; ``cookie`` is their session."""

    thread: int
    cookie: str


class Stream(Connection):
    """
    :ivar opened: whether the status was 200 and something of the body came.
    :ivar seen: the last ``id``.
    """

    def __init__(self, crowd: Crowd, seat: Seat, resume: int | None) -> None:
        self.seat = seat
        self.opened = False
        self.seen = resume
        self._crowd = crowd
        self._head: bytes | None = b""
        self._chunks: Unchunked | None = None
        self._frames = Frames()
        last = "" if resume is None else f"Last-Event-ID: {resume}\r\n"
        request = (
            f"GET {crowd.stream_path(seat.thread)} HTTP/1.1\r\nHost: {crowd.host}\r\nUser-Agent: bench\r\n"
            f"Accept: text/event-stream\r\nCookie: {seat.cookie}\r\n{last}\r\n"
        )
        super().__init__(crowd.poller, crowd.address, request.encode())

    def received(self, data: bytes, now: float) -> None:
        if self._head is not None:
            data = self._take_head(data)
        if self._chunks is not None:
            data = self._chunks.feed(data)
        for frame in self._frames.feed(data):
            if not self.opened:
                self.opened = True
                self._crowd.stream_opened()
            self._look(frame, now)

    def _take_head(self, data: bytes) -> bytes:
        assert self._head is not None
        head, end, rest = (self._head + data).partition(b"\r\n\r\n")
        if not end:
            self._head = head
            return b""
        self._head = None
        if not head.startswith(b"HTTP/1.1 200"):
            self._end(head[9:12].decode())
            return b""
        if b"transfer-encoding: chunked" in head.lower():
            self._chunks = Unchunked()
        return rest

    def _look(self, frame: bytes, now: float) -> None:
        found = MESSAGE.search(frame)
        if found is None:
            return
        ledger = self._crowd.ledger
        if self._crowd.numbered and (given := SEQ.search(frame)):
            seq = int(given[1])
            if self.seen is not None and seq <= self.seen:
                ledger.duplicates += 1
                return
            if self.seen is not None and seq != self.seen + 1:
                ledger.disordered += 1
            self.seen = seq
        ledger.arrived(int(found[1]), now)

    def ended(self) -> None:
        self._crowd.stream_ended(self)


class Poster(Connection):
    """A kept-alive connection that posts one message at a time."""

    def __init__(self, office: Office, request: bytes) -> None:
        self._office = office
        self._answer = b""
        self.idle_since = 0.0
        self.busy = True
        super().__init__(office.crowd.poller, office.crowd.address, request)

    def post(self, request: bytes) -> None:
        self.busy = True
        self.send(request)

    def received(self, data: bytes, now: float) -> None:
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not end:
            return
        fields = head.lower()
        length = fields.partition(b"content-length:")[2].partition(b"\r")[0].strip()
        if len(body) < int(length or 0):
            return
        status, self._answer, self.busy, self.idle_since = head[9:12].decode(), b"", False, now
        if b"connection: close" in fields or not length:
            self.close()
        self._office.answered(self, status)

    def ended(self) -> None:
        if self.busy:
            self.busy = False
            self._office.answered(self, self.error or "closed")


class Office:
    """Sends what is due over as few connections as it takes."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.waiting: deque[bytes] = deque()
        self.unanswered = 0
        self._idle: list[Poster] = []
        self._all: set[Poster] = set()

    def send(self, request: bytes) -> None:
        self.unanswered += 1
        self.waiting.append(request)
        self._work()

    def answered(self, poster: Poster, status: str) -> None:
        self.unanswered -= 1
        self.crowd.ledger.answers[status] += 1
        if poster.closed:
            self._all.discard(poster)
        else:
            self._idle.append(poster)
        self._work()

    def _work(self) -> None:
        now = time.monotonic()
        while self.waiting:
            while self._idle and (self._idle[-1].closed or now - self._idle[-1].idle_since > KEEP):
                poster = self._idle.pop()
                poster.close()
                self._all.discard(poster)
            if self._idle:
                self._idle.pop().post(self.waiting.popleft())
            elif len(self._all) < MAX_CONNECTIONS:
                self._all.add(Poster(self, self.waiting.popleft()))
            else:
                return

    def close(self) -> None:
        self.waiting.clear()
        self.unanswered = 0
        for poster in self._all:
            poster.busy = False
            poster.close()
        self._idle.clear()
        self._all.clear()
