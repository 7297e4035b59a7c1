"""Bringing live streams to where the log is (contract C30, C32, C35)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from ..errors import ChatError, DatabaseError
from .interfaces import Entry, Head, LogReader, Meter, News
from .registry import Registry
from .subscriber import Stream

log = logging.getLogger(__name__)


class Delivery:
    """
    :param gone: called with the streams of a thread that is there no more.
    """

    def __init__(
        self, streams: Registry, reader: LogReader, meter: Meter, gone: Callable[[Iterable[Stream]], object]
    ) -> None:
        self._streams, self._reader, self._meter, self._gone = streams, reader, meter, gone
        self._turn = threading.Lock()
        """Whoever pushes: what a stream gets next depends on what it has."""

    def offer(self, thread: int, entry: Entry) -> None:
        """A message that this process has just committed: whoever lacks nothing before it gets it without the log.

        The others, and inboxes, hear its ring.
        """
        with self._turn:
            at_hand = [stream for stream in self._streams.live(thread) if stream.position == entry.seq - 1]
            if at_hand:
                self._deliver(at_hand, News(None, [entry]))

    def bring(self, threads: set[int]) -> None:
        """Bring the live streams of these threads to where the log is, with one query for all."""
        while positions := self._positions(threads):
            news, complete = self._read(positions)
            threads = set() if complete else positions.keys() - news.keys()
            for thread, said in news.items():
                with attempted("delivery"):
                    if self._tell(thread, said, positions[thread]):
                        threads.add(thread)

    def _positions(self, threads: Iterable[int]) -> dict[int, int]:
        """How far the live streams of each thread are; of a thread without any there is nothing to know."""
        found = {}
        for thread in threads:
            positions = [s.position for s in self._streams.of_thread(thread) if s.live and not s.outlet.ended]
            if positions:
                found[thread] = min(positions)
        return found

    def _read(self, positions: dict[int, int]) -> tuple[dict[int, News], bool]:
        """What fails for one thread must not hold up the others."""
        try:
            return self._reader.news(positions)
        except DatabaseError:
            raise
        except Exception:
            if len(positions) == 1:
                raise
        found: dict[int, News] = {}
        for thread, position in positions.items():
            with attempted("delivery"):
                found |= self._read({thread: position})[0]
        return found, True

    def _tell(self, thread: int, news: News, since: int) -> bool:
        """Whether there is more of this thread to read.

        :param since: the position that the news follow. A stream that went live meanwhile may be before it, and would
            lose what is between: it has its own ring.
        """
        if news.head is None:
            self._gone(self._streams.live(thread))
            return False
        with self._turn:
            self._deliver([stream for stream in self._streams.live(thread) if stream.position >= since], news)
        return bool(news.entries) and news.entries[-1].seq < news.head.last_seq

    def _deliver(self, streams: Iterable[Stream], news: News) -> None:
        """What is new, then the farewell, if there is one and nothing is missing before it."""
        live = [stream for stream in streams if _push_all(stream, news.entries)]
        self._meter.delivered(entry.committed_at for entry in news.entries)
        if news.head is not None and news.head.farewell is not None:
            for stream in live:
                _say_farewell(stream, news.head, news.head.farewell)


def _push_all(stream: Stream, entries: list[Entry]) -> bool:
    for entry in entries:
        if stream.ended:
            return False
        if entry.seq <= stream.position:
            continue
        if not stream.push(stream.frame_of(entry)):
            stream.fall_behind()
            return False
        stream.position = entry.seq
    return True


def _say_farewell(stream: Stream, head: Head, farewell: bytes) -> None:
    if stream.position < head.last_seq or stream.ended:
        return
    if stream.push(farewell):
        stream.finish()
    else:
        stream.fall_behind()


@contextmanager
def attempted(name: str) -> Iterator[None]:
    """Whatever fails here is tried again at the next turn; streams stay."""
    try:
        yield
    except ChatError as error:
        log.warning("chat stream %s failed: %s", name, error, extra={"chat": True})
    except Exception as error:
        log.error("chat stream %s failed: %s", name, type(error).__name__, extra={"chat": True})
