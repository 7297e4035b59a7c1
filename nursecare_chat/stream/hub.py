"""The streams of this process: one reader of the log for all of them (contract C30 to C35, C46).

The hub knows neither policy, models nor Redis: it gets a reader of the log and an access check, hears rings from a
doorbell, and pushes bytes into streams. How those reach a socket is the stream's writer's affair
(:mod:`nursecare_chat.stream.body`), what those of inboxes get is :mod:`nursecare_chat.stream.board`'s.

A stream is first *behind*: its writer reads the log by itself, page by page. When it has reached the end it goes
*live*, and the hub looks at the thread once more: whatever was committed in between is found by its ``seq``, so
nothing falls between replay and live.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from .. import fork
from ..errors import ChatError
from .board import Board
from .delivery import bring
from .doorbell import Doorbell, Ring
from .inbox import InboxStream
from .interfaces import AccessCheck, InboxReader, Limits, LogReader, Meter
from .server import at_exit
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
            stream.client.close()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._streams: dict[int | None, set[Stream]] = {}
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
            if per_user is not None and sum(other.user == stream.user for other in self._all()) >= per_user:
                return False
            if not stream.worker.take():
                return False
            streams = self._streams.setdefault(stream.thread, set())
            streams.add(stream)
            if len(streams) == 1:
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

    def leave(self, stream: Stream) -> None:
        """Forget the stream and everything that it held."""
        with self._lock:
            streams = self._streams.get(stream.thread, set())
            if stream in streams:
                streams.remove(stream)
                self.meter.stream_closed()
                stream.worker.give_back()
            if not streams and self._streams.pop(stream.thread, None) is not None:
                self._doorbell.unwatch(stream.thread)
        stream.client.close()

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
            return len(self._all())

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
        """Bring the live streams of these threads to their heads."""
        if not threads:
            return
        # Heads first: whatever a head counts was committed before it, so reading on from here misses nothing of it.
        heads = self.reader.heads(threads)
        for thread in threads:
            with self._lock:
                live = [stream for stream in self._streams.get(thread, ()) if stream.live and not stream.ended]
            if thread not in heads:
                self._cut(live, "thread_gone")
            elif live:
                with self._attempted("delivery"):  # what fails for one thread must not hold up the others
                    bring(live, thread, heads[thread], self.reader, self.meter)

    # -- supervision ---------------------------------------------------------------------------------------------

    def _supervise(self, crew: object) -> None:
        next_check = time.monotonic() + RECHECK
        while True:
            time.sleep(LOOK)
            with self._lock:
                streams = self._all()
                if self._crew is not crew:
                    return
            now = time.monotonic()
            with self._attempted("supervision"):
                self._look_at(streams, now)
            if now >= next_check:
                with self._attempted("access check"), self._context():
                    self._check_access(streams)
                next_check = time.monotonic() + RECHECK

    def _look_at(self, streams: list[Stream], now: float) -> None:
        self._cut([stream for stream in streams if stream.worker.stopping()], "server_stops")
        for stream in streams:
            if stream.client.gone():
                stream.cut()
            elif stream.stuck(now):
                self._cut([stream], "not_reading")

    def _check_access(self, streams: list[Stream]) -> None:
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
        """End streams now. What the kernel still holds for a client that does not read must not reach it either."""
        for stream in streams:
            if stream.drained and stream.writing_since is None:
                continue
            stream.cut()
            self.meter.stream_ended(reason)
            if stream.writing_since is not None or stream.client.unsent():
                stream.client.abort()
            log.info("chat stream ended: %s", reason, extra={"chat": True, "reason": reason, "threadId": stream.thread})
