"""A stream as a response body that the WSGI server iterates (contract C29 to C35, C45, C46).

Where the server lets go of its sockets it writes only the beginning, up to the log's end; then the hub does, see
:mod:`.handoff` and :mod:`.line`. Elsewhere the body lasts as long as the stream.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import ChatError
from . import event, handoff
from .hub import Hub
from .outlet import MAX_PIECE, Queue
from .subscriber import Stream

log = logging.getLogger(__name__)

SURPLUS_RETRY = 10_000
"""Milliseconds after which a surplus stream comes back; an error status would be final for EventSource (C35)."""

DEGRADED_RETRY = 3_000
"""Milliseconds between the reconnects that replace a stream where a worker cannot carry one (C45)."""

DATABASE_PAUSE = 1.0
"""Seconds between attempts to replay while the database is away."""


class StreamBody:
    """Frames for one client, until it leaves, loses access, is recycled, or the thread is closed.

    Joins the hub at the first iteration and leaves it in :meth:`close`, which WSGI servers call whatever happens
    (PEP 3333), so a response that is never iterated leaves nothing behind.

    :param first: the frame that says where the stream starts, if any.
    :param environ: the WSGI environment, for the socket.
    :param replays: whether the log has, or may have, more than the stream's position.
    """

    def __init__(
        self, hub: Hub, stream: Stream, first: bytes, environ: Mapping[str, Any], replays: bool = True
    ) -> None:
        self._hub = hub
        self._stream = stream
        self._environ = environ
        self._replays = replays
        self._frames = self._run(first)
        self._queue = stream.outlet = Queue(environ)
        self._response: Any = None
        self._written = 0
        self._joined = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._queue.writing_since = None
        frames = next(self._frames)
        self._queue.writing_since = time.monotonic()
        self._written += len(frames)
        return frames

    def close(self) -> None:
        self._queue.writing_since = None
        self._queue.drop()
        if self._joined:
            self._joined = False
            self._hub.leave(self._stream)

    def _run(self, first: bytes) -> Iterator[bytes]:
        hub, stream, queue = self._hub, self._stream, self._queue
        self._joined = True  # even if joining fails half-way: leaving is safe
        if not hub.join(stream):
            hub.meter.stream_turned_away("surplus")
            yield from replay_once(hub, stream, first, SURPLUS_RETRY)
            return
        if hub.limits.hand_over:
            self._response = handoff.announce(self._environ)
        recycle_at = time.monotonic() + hub.limits.max_age
        yield event.retry_with_jitter() + first
        while not stream.drained:
            if stream.behind:
                if self._replays:
                    yield from self._replay(recycle_at)
                self._replays = True
                if stream.ended or self._hand_over(recycle_at):
                    return
                hub.go_live(stream)
            left = recycle_at - time.monotonic()
            if left <= 0:
                return
            frames = queue.take(min(hub.limits.heartbeat, left))
            if frames:
                yield frames
            elif frames is None and time.monotonic() < recycle_at:
                yield event.HEARTBEAT

    def _replay(self, recycle_at: float) -> Iterator[bytes]:
        hub, stream = self._hub, self._stream
        while not stream.ended and time.monotonic() < recycle_at:
            try:
                frames, all_of_it = stream.page(hub.reader)
            except ChatError as error:
                log.warning("chat stream replay failed: %s", error, extra={"chat": True, "threadId": stream.thread})
                self._queue.take(DATABASE_PAUSE)
                yield event.HEARTBEAT  # proxies give up what is silent
                continue
            for piece in pieces(frames):
                if stream.ended:
                    return
                yield piece
            if all_of_it:
                return

    def _hand_over(self, recycle_at: float) -> bool:
        """Give the connection to the hub, if the server can do without it; then it is no concern of ours any more."""
        response = self._response
        if response is None or not handoff.is_ready(response, self._written):
            return False
        try:
            nowhere = handoff.nowhere()
        except OSError:
            return False
        if not self._hub.adopt(self._stream, self._queue, response.chunked, recycle_at):
            return False
        self._joined = False
        os.dup2(nowhere.fileno(), response.sock.fileno(), inheritable=False)
        self._hub.go_live(self._stream)
        return True


def pieces(frames: Iterable[bytes]) -> Iterator[bytes]:
    """The frames, joined to pieces that a slow client is seen to take."""
    piece = bytearray()
    for frame in frames:
        piece += frame
        if len(piece) >= MAX_PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def replay_once(hub: Hub, stream: Stream, first: bytes, retry: int) -> Iterator[bytes]:
    """Where there is no place for a stream: what is there now, then the end, so that reconnecting gets everything.

    :param retry: milliseconds until the client comes back.
    """
    yield event.retry(retry) + first
    try:
        for frames in stream.rest(hub.reader):
            yield from pieces(frames)
    except ChatError as error:  # the client comes back
        log.warning("chat stream replay failed: %s", error, extra={"chat": True, "threadId": stream.thread})
