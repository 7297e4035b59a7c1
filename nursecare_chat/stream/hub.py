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
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from .. import fork
from ..errors import ChatError, DatabaseError
from .board import Board
from .delivery import deliver
from .doorbell import Doorbell, Ring
from .inbox import InboxStream
from .interfaces import AccessCheck, InboxReader, Limits, LogReader, Meter, News
from .line import Lines
from .outlet import Queue
from .server import Worker, at_exit
from .subscriber import Stream

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between two looks at all watched threads: a lost ring is found within 2 s (C31)."""

RECHECK = 3.0
"""Seconds between two access checks: lost access ends a stream within 5 s (C34)."""

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
        streams = self._all()
        self._reset()
        for stream in streams:
            stream.outlet.close()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._streams: dict[int | None, tuple[Stream, ...]] = {}
        self._of_user: dict[Hashable, int] = {}
        self._carried: set[Stream] = set()
        self._workers: set[Worker] = set()
        self._lines = Lines(self.limits.heartbeat, self.leave, self.go_live, partial(self._cut, reason="not_reading"))
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
            per_user, theirs = self.limits.per_user, self._of_user.get(stream.user, 0)
            if per_user is not None and theirs >= per_user:
                return False
            if not stream.worker.take():
                return False
            self._of_user[stream.user] = theirs + 1
            self._carried.add(stream)
            self._workers.add(stream.worker)
            others = self._streams.get(stream.thread, ())
            self._streams[stream.thread] = (*others, stream)
            if not others:
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
        self._carried.discard(stream)
        if queue.ended:  # meanwhile
            line.cut()
        return True

    def leave(self, stream: Stream) -> None:
        """Forget the stream and everything that it held."""
        with self._lock:
            streams = self._streams.get(stream.thread, ())
            if stream in streams:
                self._forget(stream, tuple(other for other in streams if other is not stream))
        stream.outlet.close()

    def _forget(self, stream: Stream, others: tuple[Stream, ...]) -> None:
        if others:
            self._streams[stream.thread] = others
        else:
            del self._streams[stream.thread]
            self._doorbell.unwatch(stream.thread)
        self._of_user[stream.user] -= 1
        if not self._of_user[stream.user]:
            del self._of_user[stream.user]
        self._carried.discard(stream)
        self.meter.stream_closed()
        stream.worker.give_back()

    def go_live(self, stream: Stream) -> None:
        """The stream has replayed the log to its end; look once more, then push."""
        with self._lock:
            stream.live = True
            self._rung.add(stream.thread)
        self._bell.set()

    def end_all(self, reason: str) -> None:
        """Every stream of this process ends; the clients come back with their last id."""
        with self._lock:
            streams = self._all()
        self._cut(streams, reason)

    def count(self) -> int:
        """Open streams in this process."""
        with self._lock:
            return sum(self._of_user.values())

    def _all(self) -> list[Stream]:
        return [stream for streams in self._streams.values() for stream in streams]

    # -- rings ---------------------------------------------------------------------------------------------------

    def _answer(self, ring: Ring) -> None:
        if ring.kind == "disconnect":
            now = time.monotonic()
            with self._lock:
                recent = {user: at for user, at in self._disconnected.items() if at > now - MAX_OPENING}
                self._disconnected = {**recent, str(ring.user): now}
                ended = [stream for stream in self._all() if str(stream.user) == str(ring.user)]
            self._cut(ended, "disconnected")
        elif ring.thread is not None:
            with self._lock:
                streams = self._streams.get(ring.thread, ())
                # None, or all have it: one's own rings come back from Redis.
                if not all(stream.live and ring.seq is not None and stream.position >= ring.seq for stream in streams):
                    self._rung.add(ring.thread)
                if None in self._streams and self._board.hear(ring):
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
                    threads = set(self._streams)
                    next_poll = time.monotonic() + POLL
                inboxes = [stream for stream in self._inbox_streams() if stream.live and not stream.ended]
            with self._context():
                with self._attempted("delivery"):
                    self._drain({thread for thread in threads if thread is not None})
                with self._attempted("delivery"):
                    self._board.bring(inboxes, rung, everything=polls)

    def _inbox_streams(self) -> list[InboxStream]:
        return [stream for stream in self._streams.get(None, ()) if isinstance(stream, InboxStream)]

    def _drain(self, threads: set[int]) -> None:
        """Bring the live streams of these threads to where the log is, all with one query."""
        while positions := {t: min(stream.position for stream in live) for t in threads if (live := self._live(t))}:
            news, complete = self._read(positions)
            threads = {thread for thread, said in news.items() if self._tell(thread, said)}
            if not complete:
                threads |= positions.keys() - news.keys()

    def _live(self, thread: int) -> list[Stream]:
        return [stream for stream in self._streams.get(thread, ()) if stream.live and not stream.ended]

    def _read(self, positions: dict[int, int]) -> tuple[dict[int, News], bool]:
        """What fails for one thread must not hold up the others."""
        try:
            return self.reader.news(positions)
        except DatabaseError:
            raise
        except Exception:
            if len(positions) == 1:
                raise
        found: dict[int, News] = {}
        for thread, position in positions.items():
            with self._attempted("delivery"):
                found |= self._read({thread: position})[0]
        return found, True

    def _tell(self, thread: int, news: News) -> bool:
        """Whether there is more of this thread to read."""
        live = self._live(thread)
        if news.head is None:
            self._cut(live, "thread_gone")
            return False
        deliver(live, news, self.meter)
        return bool(news.entries) and news.entries[-1].seq < news.head.last_seq

    # -- supervision ---------------------------------------------------------------------------------------------

    def _supervise(self, crew: object) -> None:
        next_check = time.monotonic() + RECHECK
        while True:
            time.sleep(LOOK)
            with self._lock:
                carried = list(self._carried)
                if self._crew is not crew:
                    return
            now = time.monotonic()
            with self._attempted("supervision"):
                self._look_at(carried, now)
            if now >= next_check:
                with self._attempted("access check"), self._context():
                    self._check_access()
                next_check = time.monotonic() + RECHECK

    def _look_at(self, streams: list[Stream], now: float) -> None:
        """
        :param streams: those that a thread of the server's writes; :class:`Lines` looks after the others.
        """
        if any(worker.stopping() for worker in self._workers):
            with self._lock:
                ending = [stream for stream in self._all() if stream.worker.stopping()]
            self._cut(ending, "server_stops")
        for stream in streams:
            if stream.outlet.gone():
                stream.cut()
            elif stream.outlet.stuck(now):
                self._cut([stream], "not_reading")

    def _check_access(self) -> None:
        with self._lock:
            streams = self._all()
        inboxes = [stream for stream in streams if isinstance(stream, InboxStream)]
        shown = {(stream.user, thread) for stream in inboxes for thread in list(stream.place)}
        try:
            lost = self._lost_access({(stream.user, stream.thread) for stream in streams} | shown)
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

    @contextmanager
    def _attempted(self, name: str) -> Iterator[None]:
        """Whatever fails here is tried again at the next turn; streams stay."""
        try:
            yield
        except ChatError as error:
            log.warning("chat stream %s failed: %s", name, error, extra={"chat": True})
        except Exception as error:
            log.error("chat stream %s failed: %s", name, type(error).__name__, extra={"chat": True})

    def _cut(self, streams: Iterable[Stream], reason: str) -> None:
        """End streams now."""
        for stream in streams:
            if stream.outlet.cut():
                self.meter.stream_ended(reason)
                of_it = {"reason": reason, "threadId": stream.thread}
                log.info("chat stream ended: %s", reason, extra={"chat": True, **of_it})
