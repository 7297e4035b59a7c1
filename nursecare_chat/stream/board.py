"""What the live streams of inboxes in this process are told (contract C46).

All streams of a user that have come as far share one place, ``{thread: seq}``: which threads they were told of, and how
much of each. A *round* reads some threads in bulk and brings every place to what it read: of a thread that is new the
streams hear ``ThreadOpened``, then its messages by ``seq``, then ``ThreadClosed``, or ``ThreadLeft`` where it became
somebody else's. A ring makes a round of that thread alone. Each poll makes one of all threads: only that sees
whatever was committed before its mark, so only then the streams' ids advance; what came in between keeps
the id of the poll before, and may be repeated after a reconnect.

A stream that comes from its replay has a place of its own, and is *fresh* until a round has looked at all of its user's
threads. Then it is where the others are.

Rounds are made by one thread, the hub's; others leave a note for the next.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator

from ..errors import ChatError
from . import event
from .doorbell import Ring
from .inbox import InboxStream, next_spans
from .interfaces import Entry, InboxReader, LogReader, Mark, Meter, Pair, Span, Topic

log = logging.getLogger(__name__)


class Group:
    """Streams of one user at one place."""

    def __init__(self, box: Box, place: dict[int, int], told: set[int]) -> None:
        self.box, self.place, self.told = box, place, told
        self.streams: list[InboxStream] = []

    def lacks(self, thread: int, topic: Topic) -> bool:
        """Whether it was not told of the thread, and should be."""
        if thread in self.place or thread in self.told or thread in self.box.hidden:
            return False
        if topic.farewell is None:
            return True
        return topic.recent and any(topic.closed_after(stream.mark) for stream in self.streams)

    def send(self, frame: bytes) -> None:
        for stream in self.streams:
            stream.give(frame)

    def leave(self, thread: int) -> None:
        del self.place[thread]
        self.send(event.thread_left(thread))


class Box:
    """A user's inbox.

    :ivar hidden: threads that the policy does not let the user view, as far as it was asked.
    :ivar denied: threads that were shown and may not be any more.
    """

    def __init__(self, first: InboxStream) -> None:
        self.user, self.is_admin = first.user, first.is_admin
        self.place, self.told = first.place, first.told
        self.hidden: set[int] = set()
        self.denied: set[int] = set()
        self.groups: list[Group] = []

    def take(self, streams: list[InboxStream]) -> None:
        """Who is here in this round."""
        groups = {id(self.place): Group(self, self.place, self.told)}
        for stream in streams:
            groups.setdefault(id(stream.place), Group(self, stream.place, stream.told)).streams.append(stream)
        self.groups = list(groups.values())

    def is_fresh(self) -> bool:
        return any(stream.fresh for group in self.groups for stream in group.streams)

    def merge(self) -> None:
        """After a look at all threads: who is where the others are goes on with them."""
        for group in self.groups:
            if group.place == self.place:
                self.told |= group.told
                for stream in group.streams:
                    stream.place, stream.told, stream.fresh = self.place, self.told, False


class Board:
    """
    :param log_reader: gives messages; :param reader: gives threads.
    """

    def __init__(self, log_reader: LogReader, reader: InboxReader, meter: Meter) -> None:
        self._log_reader, self._reader, self._meter = log_reader, reader, meter
        self._boxes: dict[Hashable, Box] = {}
        self._heads: dict[int, int] = {}

    # -- notes for the next round, by whichever thread -----------------------------------------------------------

    def hear(self, ring: Ring) -> bool:
        """Whether the ring is worth a round; the same one may come from here and from Redis."""
        known = None if ring.thread is None else self._heads.get(ring.thread)
        if known is None:
            return ring.kind == "opened"
        return ring.kind != "opened" and (ring.seq is None or ring.seq > known)

    def withdraw(self, lost: set[Pair], streams: Iterable[InboxStream]) -> list[InboxStream]:
        """Show the threads of these pairs no more; the streams that must end for that: something is on its way there.

        Whoever must not see a thread may be on in its other ones.
        """
        ending = []
        for stream in streams:
            threads = {thread for thread in list(stream.place) if (stream.user, thread) in lost}
            box = self._boxes.get(stream.user)
            if threads and (box is None or stream.fresh or stream.outlet.undelivered):
                ending.append(stream)
            elif threads and box is not None:
                box.denied |= threads
        return ending

    def reconsider(self) -> None:
        """Ask again who is an admin, and whether what was hidden still is."""
        boxes = list(self._boxes.values())
        admins = self._reader.admins([box.user for box in boxes])
        hidden = {(box.user, thread) for box in boxes for thread in list(box.hidden)}
        still = self._reader.lost(hidden) if hidden else set()
        for box in boxes:
            box.is_admin = box.user in admins
            box.hidden = {thread for thread in list(box.hidden) if (box.user, thread) in still}

    # -- a round -------------------------------------------------------------------------------------------------

    def bring(self, streams: list[InboxStream], rung: set[int], everything: bool) -> None:
        """Bring the live streams to what is there: in all threads, or in those that were rung for."""
        self._sort(streams)
        whole = [box for box in self._boxes.values() if everything or box.is_fresh()]
        if not (whole or rung):
            return
        mark = self._reader.mark() if everything and whole else None
        topics, gone = self._read(whole, rung)
        self._admit(topics)
        failed = self._say(topics)
        self._dismiss(topics, gone, failed)
        for box in whole:
            box.merge()
        if mark is not None:
            self._advance(mark, failed)

    def _sort(self, streams: list[InboxStream]) -> None:
        by_user: dict[Hashable, list[InboxStream]] = defaultdict(list)
        for stream in streams:
            by_user[stream.user].append(stream)
        self._boxes = {user: self._boxes.get(user) or Box(theirs[0]) for user, theirs in by_user.items()}
        if not self._boxes:
            self._heads = {}
        for user, box in self._boxes.items():
            box.take(by_user[user])
            denied, box.denied = box.denied, set()
            box.hidden |= denied
            for group in box.groups:
                for thread in denied & group.place.keys():
                    group.leave(thread)

    def _read(self, whole: list[Box], rung: set[int]) -> tuple[dict[int, Topic], set[int]]:
        """What this round is about, and which of it is there no more."""
        topics: dict[int, Topic] = {}
        held: set[int] = set()
        if whole:
            topics |= self._reader.members([box.user for box in whole], [box.user for box in whole if box.is_admin])
            places = [group for box in whole for group in box.groups]
            # Also what was opened and closed between two looks.
            topics |= self._reader.closed_since({stream.mark for group in places for stream in group.streams})
            held = {thread for group in places for thread in group.place}
        others = (held | rung) - topics.keys()
        topics |= self._reader.topics(others) if others else {}
        return topics, others - topics.keys()

    def _groups(self) -> Iterator[Group]:
        return (group for box in self._boxes.values() for group in box.groups)

    def _admit(self, topics: dict[int, Topic]) -> None:
        """Tell of threads that are new to somebody, if the policy lets them view these."""
        new: list[tuple[Group, int]] = []
        for thread, topic in topics.items():
            for box in self._concerned(topic):
                new += [(group, thread) for group in box.groups if group.lacks(thread, topic)]
        if not new:
            return
        lost = self._reader.lost({(group.box.user, thread) for group, thread in new})
        for group, thread in new:
            if (group.box.user, thread) in lost:
                group.box.hidden.add(thread)
            else:
                group.send(topics[thread].opened())
                group.place[thread] = 0 if topics[thread].recent else topics[thread].last_seq

    def _concerned(self, topic: Topic) -> list[Box]:
        if topic.admin is None:
            return [box for box in self._boxes.values() if topic.concerns(box.user, box.is_admin)]
        boxes = (self._boxes.get(user) for user in {topic.client, topic.admin})
        return [box for box in boxes if box is not None and topic.concerns(box.user, box.is_admin)]

    def _say(self, topics: dict[int, Topic]) -> set[int]:
        """Messages, in the order of each thread; the threads of which they cannot be read now."""
        failed: set[int] = set()
        listening: dict[int, list[Group]] = defaultdict(list)
        for group in self._groups():
            for thread in group.place.keys() & topics.keys():
                if topics[thread].concerns(group.box.user, group.box.is_admin):
                    listening[thread].append(group)
        while spans := next_spans(
            (thread, min(group.place[thread] for group in groups), topics[thread].last_seq)
            for thread, groups in listening.items()
            if thread not in failed
        ):
            entries = self._entries(spans, failed)
            for span in spans:
                if span.thread not in failed:
                    self._deliver(span, entries.get(span.thread, []), listening[span.thread])
        return failed

    def _deliver(self, span: Span, entries: list[Entry], groups: list[Group]) -> None:
        for group in groups:
            for entry in entries:
                if entry.seq > group.place[span.thread]:
                    for stream in group.streams:
                        stream.give(stream.frame_of(entry))
            group.place[span.thread] = max(span.high, group.place[span.thread])
        self._meter.delivered(entry.committed_at for entry in entries)

    def _entries(self, spans: list[Span], failed: set[int]) -> dict[int, list[Entry]]:
        """All in one, but what fails for one thread must not hold up the others."""
        try:
            return dict(self._log_reader.between(spans))
        except Exception as error:
            if len(spans) == 1:
                failed.add(spans[0].thread)
                what = error if isinstance(error, ChatError) else type(error).__name__
                log.warning("chat stream delivery failed: %s", what, extra={"chat": True, "threadId": spans[0].thread})
                return {}
        found: dict[int, list[Entry]] = {}
        for span in spans:
            found |= self._entries([span], failed)
        return found

    def _dismiss(self, topics: dict[int, Topic], gone: set[int], failed: set[int]) -> None:
        """Say farewell in threads that are closed, and let go of those that are somebody else's, or gone."""
        for group in self._groups():
            for thread in (group.place.keys() & topics.keys()) - failed:
                topic = topics[thread]
                if not topic.concerns(group.box.user, group.box.is_admin):
                    group.leave(thread)
                elif topic.farewell is not None:
                    group.send(topic.farewell)
                    del group.place[thread]
                    group.told.add(thread)
            for thread in group.place.keys() & gone:
                group.leave(thread)
        held = {thread for group in self._groups() for thread in group.place.keys() & topics.keys()} - failed
        for thread in topics.keys() | gone:
            if thread in held:
                self._heads[thread] = topics[thread].last_seq
            else:
                self._heads.pop(thread, None)

    def _advance(self, mark: Mark, failed: set[int]) -> None:
        for box in self._boxes.values():
            if failed & box.place.keys():
                continue
            streams = [stream for group in box.groups for stream in group.streams if stream.place is box.place]
            for stream in streams:
                stream.mark = mark
            waiting = [stream for stream in streams if stream.has_news and not stream.ended]
            cursor = self._reader.cursor(box.user, mark, box.place) if waiting else ""
            for stream in waiting:
                stream.advance(cursor)
