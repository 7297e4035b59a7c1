"""The streams of this process: one reader of the log for all of them (contract C30 to C35, C46).

The hub knows neither policy, models nor Redis: it gets a reader of the log and an access check, hears rings from a
doorbell, and pushes bytes into streams. How those reach a socket is the stream's writer's affair
(:mod:`nursecare_chat.stream.body`), what those of inboxes get is :mod:`nursecare_chat.stream.board`'s.

A stream is first *behind*: its writer reads the log by itself, page by page. When it has reached the end it goes
*live*, and the hub looks at the thread once more: whatever was committed in between is found by its ``seq``, so
nothing falls between replay and live. Then, or when it could not take more and has taken all that it was given, the
hub brings it on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from itertools import chain

from .. import fork
from ..errors import ChatError
from .board import Board
from .delivery import Delivery, attempted
from .doorbell import Doorbell, Ring
from .inbox import InboxStream
from .interfaces import AccessCheck, Entry, InboxReader, Limits, LogReader, Meter
from .lines import Lines
from .outlet import Queue
from .registry import Registry
from .server import at_exit
from .subscriber import Stream

log = logging.getLogger(__name__)

POLL = 1.5
"""Seconds between two looks at all watched threads: a lost ring is found within 2 s (C31)."""

RECHECK = 4.0
"""Seconds between two access checks, which take some tenths: lost access ends a stream within 5 s (C34)."""

MAX_OPENING = 60.0
"""Seconds for which a stream may be on its way from the login to the hub."""

LOOK = 0.5
"""Seconds between two looks for clients that went away or do not read."""


class Hub:
    """
    :param reader: the log; :param inboxes: the lists of threads.
    :param lost_access: see :data:`AccessCheck`; it raises ``ChatError`` if it cannot tell right now.
    :param context: entered around every use of ``reader`` and ``lost_access`` in the hub's own threads.
    """

    def __init__(
        self,
        reader: LogReader,
        inboxes: InboxReader,
        lost_access: AccessCheck,
        doorbell: Doorbell,
        limits: Limits,
        context: Callable[[], AbstractContextManager[object]],
        meter: Meter | None = None,
    ) -> None:
        self.meter = meter or Meter()
        self.reader = reader
        self._inboxes = inboxes
        self.limits = limits
        self._lost_access = lost_access
        self._doorbell = doorbell
        self._context = context
        self._reset()
        doorbell.listen(self._answer)
        fork.register(self)

    def after_fork(self) -> None:
        """The parent's streams are the parent's; here their sockets are only closed."""
        streams, lines = list(self._streams), self._lines
        self._reset()
        lines.abandon()
        for stream in streams:
            stream.outlet.close()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._streams = Registry()
        self._delivery = Delivery(self._streams, self.reader, self.meter, partial(self._cut, reason="thread_gone"))
        self._lines = Lines(self.limits, self.leave, self.go_live, partial(self._cut, reason="not_reading"))
        self._board = Board(self.reader, self._inboxes, self.meter)
        self._rung: set[int | None] = set()
        self._rung_inboxes: set[int] = set()
        self._bell = threading.Event()
        self._disconnected: dict[str, float] = {}
        self.ends_at_exit = False
        self._crew: object | None = None

    # -- streams come and go -------------------------------------------------------------------------------------

    def join(self, stream: Stream) -> bool:
        """Take the stream in; ``False`` if its user or the server has too many in this process already (C35, C45).

        One that was asked for before its user was disconnected is taken in only to end at once (C34).
        """
        with self._lock:
            per_user = self.limits.per_user
            if per_user is not None and self._streams.count_of(stream.user) >= per_user:
                return False
            if not stream.worker.take():
                return False
            if self._streams.add(stream):
                self._doorbell.watch(stream.thread)
            self.meter.stream_opened()
            if self._disconnected.get(str(stream.user), 0.0) > stream.asked_at:
                stream.cut()
            if self._crew is None:
                self._start_crew()
        return True

    def _start_crew(self) -> None:
        """Two threads for all streams; they end when the last stream has left."""
        self._crew = object()
        if not self.ends_at_exit:
            self.ends_at_exit = at_exit(self.end_all, "server_stops")
        try:
            for work in (self._deliver, self._supervise):
                name = f"nursecare-chat{work.__name__}"
                threading.Thread(target=work, args=(self._crew,), name=name, daemon=True).start()
        except RuntimeError:  # no more threads to be had: the next stream tries again
            self._crew = None
            raise

    def adopt(self, stream: Stream, queue: Queue, chunked: bool, recycle_at: float) -> bool:
        """Write to the client directly from now on; ``False`` if that cannot be, and nothing has changed.

        :param queue: what the server wrote so far; nothing waits there, for the stream is behind.
        :param chunked: see :class:`~nursecare_chat.stream.line.Line`.
        """
        descriptor = queue.client.fileno()
        if descriptor is None:
            return False
        try:
            line = self._lines.adopt(stream, descriptor, chunked, recycle_at)
        except (OSError, RuntimeError):  # no more descriptors, or threads
            return False
        queue.client.detach()
        stream.outlet = line
        with self._lock:
            self._streams.carried.discard(stream)
        if queue.ended:  # meanwhile
            line.cut()
        return True

    def leave(self, stream: Stream) -> None:
        """Forget the stream and everything that it held."""
        with self._lock:
            if stream in self._streams.of_thread(stream.thread):
                if self._streams.remove(stream):
                    self._doorbell.unwatch(stream.thread)
                self.meter.stream_closed()
                stream.worker.give_back()
        stream.outlet.close()

    def go_live(self, stream: Stream) -> None:
        """The stream has replayed the log to its end; look once more, then push."""
        with self._lock:
            stream.live = True
            self._rung.add(stream.thread)
        self._bell.set()

    def end_all(self, reason: str) -> None:
        """Every stream of this process ends; the clients come back with their last id."""
        with self._lock:
            streams = list(self._streams)
        self._cut(streams, reason)

    def count(self) -> int:
        """Open streams in this process."""
        with self._lock:
            return len(self._streams)

    # -- own messages --------------------------------------------------------------------------------------------

    def is_watched(self, thread: int) -> bool:
        """Whether this process has a stream of the thread."""
        return bool(self._streams.of_thread(thread))

    def offer(self, thread: int, entry: Entry) -> None:
        """A message that this process has just committed, see :meth:`Delivery.offer`."""
        with attempted("delivery"):
            self._delivery.offer(thread, entry)

    # -- rings ---------------------------------------------------------------------------------------------------

    def _answer(self, ring: Ring) -> None:
        if ring.kind == "disconnect":
            now = time.monotonic()
            with self._lock:
                recent = {user: at for user, at in self._disconnected.items() if at > now - MAX_OPENING}
                self._disconnected = {**recent, str(ring.user): now}
                ended = [stream for stream in self._streams if str(stream.user) == str(ring.user)]
            self._cut(ended, "disconnected")
        elif ring.thread is not None:
            with self._lock:
                streams = self._streams.of_thread(ring.thread)
                # None, or all have it: one's own rings come back from Redis.
                if not all(stream.live and ring.seq is not None and stream.position >= ring.seq for stream in streams):
                    self._rung.add(ring.thread)
                if self._streams.of_thread(None) and self._board.hear(ring):
                    self._rung_inboxes.add(ring.thread)
                if not (self._rung or self._rung_inboxes):
                    return
            self._bell.set()

    # -- delivery ------------------------------------------------------------------------------------------------

    def _deliver(self, crew: object) -> None:
        next_poll = time.monotonic() + POLL
        while True:
            self._bell.wait(max(0.0, next_poll - time.monotonic()))
            self._bell.clear()
            with self._lock:
                if not self._streams or self._crew is not crew:
                    self._crew = None if self._crew is crew else self._crew
                    return
                threads, self._rung = self._rung, set()
                rung, self._rung_inboxes = self._rung_inboxes, set()
                polls = time.monotonic() >= next_poll
                if polls:
                    threads = self._streams.threads()
                    next_poll = time.monotonic() + POLL
                inboxes = [stream for stream in self._streams.live(None) if isinstance(stream, InboxStream)]
            with self._context():
                with attempted("delivery"):
                    self._delivery.bring({thread for thread in threads if thread is not None})
                with attempted("delivery"):
                    self._board.bring(inboxes, rung, everything=polls)

    # -- supervision ---------------------------------------------------------------------------------------------

    def _supervise(self, crew: object) -> None:
        next_check = time.monotonic() + RECHECK
        while True:
            time.sleep(min(LOOK, max(0.0, next_check - time.monotonic())))
            with self._lock:
                carried = list(self._streams.carried)
                if self._crew is not crew:
                    return
            now = time.monotonic()
            with attempted("supervision"):
                self._look_at(carried, now)
            if now >= next_check:
                with attempted("access check"), self._context():
                    self._check_access()
                next_check = time.monotonic() + RECHECK

    def _look_at(self, streams: list[Stream], now: float) -> None:
        """
        :param streams: those that a thread of the server's writes; :class:`Lines` looks after the others.
        """
        if any(worker.stopping() for worker in self._streams.workers):
            with self._lock:
                ending = [stream for stream in self._streams if stream.worker.stopping()]
            self._cut(ending, "server_stops")
        for stream in streams:
            if stream.outlet.gone():
                stream.cut()
            elif stream.outlet.stuck(now):
                self._cut([stream], "not_reading")

    def _check_access(self) -> None:
        with self._lock:
            streams = list(self._streams)
        inboxes = [stream for stream in streams if isinstance(stream, InboxStream)]
        shown = {(stream.user, thread) for stream in inboxes for thread in list(stream.place)}
        try:
            lost = self._lost_access(chain(((stream.user, stream.thread) for stream in streams), shown))
        except ChatError:
            raise
        except Exception:  # who cannot be checked may not read on
            self._cut(streams, "access_unknown")
            raise
        self._cut([stream for stream in streams if (stream.user, stream.thread) in lost], "access_lost")
        if inboxes:
            self._cut(self._board.withdraw(lost, inboxes), "access_lost")
            self._bell.set()
            self._board.reconsider()

    def _cut(self, streams: Iterable[Stream], reason: str) -> None:
        """End streams now."""
        for stream in streams:
            if stream.outlet.cut():
                self.meter.stream_ended(reason)
                of_it = {"reason": reason, "threadId": stream.thread}
                log.info("chat stream ended: %s", reason, extra={"chat": True, **of_it})
