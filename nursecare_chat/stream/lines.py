"""All sockets that were taken over from the server: one epoll, no thread for each (contract C33 to C35)."""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .interfaces import Limits
from .line import Line
from .subscriber import Stream

log = logging.getLogger(__name__)

TICK = 5.0
"""Seconds at most between two looks at all lines: heartbeats, recycling, clients that do not read."""

SLICE = 0.005
"""Seconds of writing before other work of the process gets its turn."""

MANY = 1000
"""Events that are asked for at once."""

# Of epoll(7); gevent takes what names them out of the module.
ROOM, GONE = 0x004, 0x008 | 0x010 | 0x2000


class Lines:
    """All lines of a hub: one epoll and one thread, which lives while there are any.

    :param limits: ``heartbeat`` is the silence after which a line gets a comment.
    :param leave: called with a stream whose line has ended.
    :param go_live: called with one that had fallen behind, when its client has taken all that waited.
    :param cut_off: called with those whose clients do not read.
    """

    def __init__(
        self,
        limits: Limits,
        leave: Callable[[Stream], None],
        go_live: Callable[[Stream], None],
        cut_off: Callable[[list[Stream]], None],
    ) -> None:
        self._heartbeat = limits.heartbeat
        self._tick = min(TICK, limits.heartbeat / 3, limits.max_age / 4)
        self._leave, self._go_live, self._cut_off = leave, go_live, cut_off
        self._lock = threading.Lock()
        self._streams: dict[int, Stream] = {}
        self._epoll: Any = None

    def adopt(self, stream: Stream, descriptor: int, chunked: bool, recycle_at: float) -> Line:
        """From now on the connection is ours, and only we write to it.

        :raises OSError, RuntimeError: if there is no epoll or no thread to be had; then it is still the caller's.
        """
        with self._lock:
            if self._epoll is None:
                self._start()
            self._epoll.register(descriptor, GONE)
            self._streams[descriptor] = stream
        os.set_blocking(descriptor, False)
        return Line(self, descriptor, chunked, recycle_at)

    def release(self, descriptor: int) -> None:
        """The line has ended; again does nothing."""
        with self._lock:
            stream = self._streams.pop(descriptor, None)
            if stream is not None:
                with suppress(OSError):
                    self._epoll.unregister(descriptor)
        if stream is not None:
            self._leave(stream)

    def await_room(self, descriptor: int, wanted: bool) -> None:
        """Whether to be told that the kernel takes more."""
        self._epoll.modify(descriptor, GONE | ROOM if wanted else GONE)

    def _start(self) -> None:
        epoll = _epoll()()
        threading.Thread(target=self._attend, args=(epoll,), name="nursecare-chat_lines", daemon=True).start()
        self._epoll = epoll

    def abandon(self) -> None:
        """In a child: the thread is the parent's, but as a greenlet it may live on here."""
        self._lock = threading.Lock()
        self._streams = {}

    def _attend(self, epoll: Any) -> None:
        with epoll:
            try:
                self._follow(epoll)
            except Exception as error:  # nobody would look after them; their clients come back
                log.error("chat stream lines failed: %s", type(error).__name__, extra={"chat": True})
                while not self._over():
                    for stream in list(self._streams.values()):
                        with suppress(Exception):
                            stream.outlet.drop()
                    time.sleep(0)  # for one that is on its way here

    def _follow(self, epoll: Any) -> None:
        """Until no line is left."""
        waiter = select.poll()  # gevent's where it has patched: epoll's own would stop the process
        waiter.register(epoll.fileno(), select.POLLIN)
        next_tick = time.monotonic() + self._tick
        while not self._over():
            waiter.poll(max(0.0, next_tick - time.monotonic()) * 1000)
            # Resolved before anything is closed: a descriptor's number is soon somebody else's.
            found = [(self._streams.get(descriptor), what) for descriptor, what in epoll.poll(0, MANY)]
            for stream, what in found:
                if stream is not None:
                    self._attempt(stream, self._happened, what)
            if (now := time.monotonic()) >= next_tick:
                self._look(now)
                next_tick = time.monotonic() + self._tick

    def _over(self) -> bool:
        with self._lock:
            if not self._streams:
                self._epoll = None
            return not self._streams

    def _attempt(self, stream: Stream, work: Callable[[Stream, Line, Any], None], what: object) -> None:
        """What fails for one line ends that one, whose client comes back, and not the thread of all."""
        line = stream.outlet
        if not isinstance(line, Line):  # on its way here
            return
        try:
            work(stream, line, what)
        except Exception as error:
            log.error("chat stream line failed: %s", type(error).__name__, extra={"chat": True})
            with suppress(Exception):
                line.drop()

    def _happened(self, stream: Stream, line: Line, what: int) -> None:
        if what & GONE:
            line.drop()
        elif line.flush():
            if line.ended:
                line.hang_up()
            elif not stream.live:
                self._go_live(stream)

    def _look(self, now: float) -> None:
        turn = time.perf_counter()
        for stream in list(self._streams.values()):
            self._attempt(stream, self._look_at, now)
            if time.perf_counter() - turn > SLICE:
                time.sleep(0)
                turn = time.perf_counter()

    def _look_at(self, stream: Stream, line: Line, now: float) -> None:
        if now >= line.recycle_at:
            line.finish()
        elif now + self._tick - line.wrote_at > self._heartbeat:
            line.beat(now)
        if line.stuck(now):
            self._cut_off([stream])


def _epoll() -> Any:
    """The class; gevent takes it out of the module, for whoever waits in it would stop the process."""
    if hasattr(select, "epoll"):
        return select.epoll
    return sys.modules["gevent.monkey"].get_original("select", "epoll")
