"""The stream of one client's inbox: all the threads of a list, and one id that resumes them (contract C46)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import NamedTuple

from . import event
from .interfaces import Entry, LogReader, Mark, Span, Topic
from .subscriber import PAGE, Stream


class Resume(NamedTuple):
    """Where an inbox's stream starts.

    :ivar first: its first frame; empty where the client's own id goes on to be good.
    :ivar cursor: the id of what is replayed; :ivar follows: the one after that.
    :ivar mark: what ``place`` and ``topics`` show at least.
    :ivar place: ``{thread: seq}``: the threads that the client knows of, or is told of now, and how far.
    :ivar told: closed threads of which it needs to hear no more.
    :ivar opened: frames, without ids, of threads that it does not know of.
    :ivar topics: the threads that have something to replay.
    :ivar reset: whether its list must be loaded anew, whatever is replayed.
    """

    first: bytes
    cursor: str
    follows: str
    mark: Mark
    place: dict[int, int]
    told: set[int]
    opened: list[bytes]
    topics: dict[int, Topic]
    reset: bool


class InboxStream(Stream):
    """
    :ivar is_admin: as the policy said when it was asked for.
    :ivar cursor: the id that everything sent gets, until it is known that nothing before the next one is missing.
    :ivar place: ``{thread: seq}``; one object for all streams of a user that have come as far, see :mod:`.board`.
    :ivar told: likewise, the closed threads that need no more telling.
    :ivar mark: what it was told all about.
    :ivar fresh: whether the threads were not looked at since its start.
    :ivar has_news: whether anything was sent since :attr:`cursor`.
    """

    __slots__ = ("_resume", "cursor", "fresh", "has_news", "is_admin", "mark", "place", "told")

    def __init__(
        self, user: Hashable, is_admin: bool, resume: Resume, asked_at: float | None = None, mount: str = ""
    ) -> None:
        super().__init__(None, user, 0, asked_at, mount)
        self.is_admin = is_admin
        self.mark = resume.mark
        self.cursor = resume.cursor
        self.place, self.told = resume.place, resume.told
        self.fresh = True
        self.has_news = False
        self._resume = resume

    # -- replay, by the writer -----------------------------------------------------------------------------------

    def page(self, reader: LogReader) -> tuple[Iterable[bytes], bool]:
        opened, topics = self._resume.opened, self._resume.topics
        if opened:
            frames = [event.identified(frame, self.cursor) for frame in opened]
            opened.clear()
            return frames, False
        spans = next_spans((thread, self.place[thread], topic.last_seq) for thread, topic in topics.items())
        if spans:
            return self._said(spans, reader.between(spans)), False
        return self._end_of_replay(), True

    def _said(self, spans: list[Span], entries: Mapping[int, list[Entry]]) -> Iterator[bytes]:
        for span in spans:
            for entry in entries.get(span.thread, ()):
                yield event.identified(self.frame_of(entry), self.cursor)
            self.place[span.thread] = span.high  # what is not there was erased with its row

    def _end_of_replay(self) -> Iterator[bytes]:
        for thread, topic in self._resume.topics.items():
            if topic.farewell is not None:
                yield event.identified(topic.farewell, self.cursor)
                del self.place[thread]
                self.told.add(thread)
        if not self._resume.first:
            self.cursor = self._resume.follows
            yield event.reset_inbox(self.cursor) if self._resume.reset else event.position(self.cursor)

    def rest(self, reader: LogReader) -> Iterator[Iterable[bytes]]:
        """All that is there now, page by page."""
        everything = False
        while not everything:
            frames, everything = self.page(reader)
            yield frames

    # -- live, by the hub ----------------------------------------------------------------------------------------

    def give(self, frame: bytes) -> None:
        """Queue a frame without an id. If too much waits, it ends behind what does, and the client resumes (C35)."""
        self.has_news = True
        if not self.push(event.identified(frame, self.cursor)):
            self.finish()

    def advance(self, cursor: str) -> None:
        """Everything up to here was given, so a reconnect may resume from here."""
        if self.push(event.position(cursor)):
            self.cursor, self.has_news = cursor, False


def next_spans(behind: Iterable[tuple[int, int, int]]) -> list[Span]:
    """The next page of what is missing where ``(thread, position, last seq)`` say."""
    spans, left = [], PAGE
    for thread, low, last in behind:
        if low < last and left:
            spans.append(Span(thread, low, min(last, low + left)))
            left -= spans[-1].high - low
    return spans
