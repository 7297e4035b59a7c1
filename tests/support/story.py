"""Stories about closed chats: workers that come, are killed, sleep and fail, at any time; and how every story ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import hypothesis.strategies as st
from hypothesis.stateful import invariant, precondition, rule

from .model import LEASE, Purge, Thread
from .story_people import MOST, WHO, People, step
from .witness import Request
from .world import IN_STORAGE, unavailable

SECONDS = st.sampled_from([1, 4, 5, 25, 29, 30, 59, 60, 61, 119, 120, 300, 899, 900, 1200])


class Visit(NamedTuple):
    """Of a worker.

    :ivar which: of the chats that are not settled yet; :ivar sweeps: and whether it looks for others that are due, too.
    :ivar when: now, or at the moment from which the purge may be attempted again, or a second before.
    :ivar how: what becomes of it, at ``place``: a call of the storage, or the commit that it does not live to see.
    """

    which: int
    sweeps: bool
    process: int
    when: str
    how: str
    place: str | int


VISIT = st.builds(
    Visit,
    st.integers(0, MOST - 1),
    st.booleans(),
    st.integers(0, 1),
    st.sampled_from(["now", "now", "just then", "just then", "just before"]),
    st.sampled_from(["well", "well", "killed", "killed", "fails", "refused"]),
    st.sampled_from([*IN_STORAGE, 1, 2, 3, 4, 5]),
)
SLEEP = st.sampled_from([0, 30, LEASE - 1, LEASE, LEASE + 30])


class Story(People):
    @precondition(lambda self: self._unsettled() or self.witness.addresses)
    @rule(seconds=SECONDS)
    def wait(self, seconds: int) -> None:
        self.world.now += seconds

    def _unsettled(self) -> list[tuple[Thread, Purge]]:
        return [(one, one.purge) for one in self.witness.threads if one.purge and one.purge.state != "settled"]

    def _due(self) -> list[Thread]:
        return [one for one, purge in self._unsettled() if purge.free(self.world.now)]

    def _done(self, thread: Thread, found: bool) -> None:
        assert thread.purge is not None
        thread.purge.done(self.world.now, thread.horizon(), found)
        self.witness.erased(thread)
        self.touched.add(thread)

    @precondition(lambda self: self._unsettled())
    @step(visit=VISIT)
    def work(self, visit: Visit) -> None:
        self._visit(visit)

    @precondition(lambda self: self._unsettled())
    @step(visits=st.lists(VISIT, min_size=2, max_size=5))
    def work_on(self, visits: list[Visit]) -> None:
        for visit in visits:
            if self._unsettled():
                self._visit(visit)

    def _visit(self, visit: Visit) -> None:
        """C36 to C39: a worker sweeps, or is asked to look at one thread."""
        thread, purge = self._unsettled()[visit.which % len(self._unsettled())]
        if visit.when != "now":
            free = max(purge.due, purge.leased) - (visit.when == "just before")
            self.world.now = max(self.world.now, free)
        due = [one for one in self._due() if visit.sweeps or one is thread]
        by_commit = isinstance(visit.place, int)
        alone = len(due) == 1 and not (by_commit and (visit.sweeps or visit.how != "killed"))
        how = visit.how if alone else "well"
        found = {one: bool(self.witness.in_storage(one)) for one in due}
        reached: list[str] = []

        def at(call: str, progress: Callable[[int], None]) -> None:
            if call == visit.place and how != "well":
                reached.append(call)
                if how == "killed":
                    self.world.kill()
                raise unavailable(how == "refused")

        commit = visit.place if isinstance(visit.place, int) and how == "killed" else None
        result = self.world.work(visit.process, None if visit.sweeps else thread.id, at, commit)
        if result is None:
            if visit.place != 1:  # else it died before it had the lease
                _purge(due[0]).killed(self.world.now)
        elif reached:
            assert result == 0
            _purge(due[0]).failed(self.world.now, how == "refused")
        else:
            assert result == len(due), (result, due)
            for one in due:
                self._done(one, found[one])
        self.touched.update(due)

    @precondition(lambda self: self._due())
    @step(which=st.integers(0, MOST - 1), process=st.integers(0, 1), sleeps=SLEEP)
    def two_workers(self, which: int, process: int, sleeps: int) -> None:
        """C36: one comes while the other is in the middle of it, and takes it over once that one slept too long."""
        thread = self._due()[which % len(self._due())]
        results, began, found = [], self.world.now, bool(self.witness.in_storage(thread))

        def at(call: str, progress: Callable[[int], None]) -> None:
            if call == "delete_prefix":
                self.world.now += sleeps
                results.append(self.world.work(1 - process, thread.id))

        results.append(self.world.work(process, thread.id, at))
        over = sleeps >= LEASE
        assert results == [int(over), int(not over)]
        if over:
            _purge(thread).killed(began)
        self._done(thread, found)

    @precondition(lambda self: self._due())
    @step(which=st.integers(0, MOST - 1), process=st.integers(0, 1))
    def much_to_delete(self, which: int, process: int) -> None:
        """C36: who is at work renews the lease, and nobody else gets it however long that takes."""
        thread = self._due()[which % len(self._due())]
        found = bool(self.witness.in_storage(thread))

        def at(call: str, progress: Callable[[int], None]) -> None:
            for _ in range(5 if call == "delete_prefix" else 0):
                self.world.now += 20
                progress(0)
                assert self.world.work(1 - process, thread.id) == 0

        assert self.world.work(process, thread.id, at) == 1
        self._done(thread, found)

    @step(how=st.sampled_from(["restart", "switched off"]), thread=People.threads, who=WHO)
    def operate(self, how: str, thread: Thread, who: str) -> None:
        """A process begins anew; or C7, C11: 501 from every route, and erasing goes on."""
        if how == "restart":
            self.world.restart(self.witness.threads.index(thread) % 2)
            self.touched.add(thread)
            return
        person = self.world.people[who]
        with self.world.switched_off():
            calls = [person.messages, person.say, person.close, person.stream, person.thread]
            assert {call(thread.id).status_code for call in calls} == {501}
            due = {one: bool(self.witness.in_storage(one)) for one in self._due()}
            assert self.world.work(0, None) == len(due)
        for one, found in due.items():
            self._done(one, found)

    @precondition(lambda self: any(one.purge for one in self.witness.threads))
    @step(request=People.requests)
    def forget(self, request: Request) -> None:
        """C9: once it is settled, and not before."""
        thread = request.thread
        settled = thread is not None and thread.purge is not None and thread.purge.state == "settled"
        assert self.world.forget(request.id) == (int(settled), int(thread is not None and not settled))
        if thread is not None and settled:
            self.witness.gone.append(thread)
            request.thread = None
            self.touched.add(thread)

    # -- after each step, and at the end -------------------------------------------------------------------------

    @invariant()
    def as_the_model_has_it(self) -> None:
        try:
            for thread in self.touched:
                self.witness.all_messages(thread, thread.client)
                self.witness.listing(thread)
        except BaseException:
            self.broken = True
            raise
        self.touched.clear()

    def _ending(self) -> None:
        """At least once a story: a worker dies, others come too early, one fails, and one has another beside it."""
        for when, how, place in (
            ("just then", "killed", "delete_prefix"),
            ("now", "well", 1),
            ("just before", "well", 1),
            ("just then", "fails", "listing"),
            ("just before", "well", 1),
        ):
            self._visit(Visit(0, False, 0, when, how, place))
        self._hurry()
        self.much_to_delete(which=0, process=0)
        self._hurry()
        if self._due():
            self.two_workers(which=0, process=1, sleeps=LEASE - 1)

    def _last_words(self, thread: Thread | None) -> None:
        """At least once a story: a retry, another body under its id, both admins, all pages, a stream."""
        if thread is None or thread.purge is not None:
            return
        for text in ("at last", "at last", "in vain"):
            self._post(thread, thread.client, ("text", text), "z", "fine", {"text": text})
        for who in ("admin2", "admin"):  # the first has it for ever
            self._post(thread, who, ("text", "yes"), None, "fine", {"text": "yes"})
        self.as_the_model_has_it()
        for way in ("cursor", "after"):
            self.page(thread=thread, who=thread.client, limit=1, way=way, busy=False)
        for position in (-1, 0, 1):
            self.follow(thread=thread, who=thread.client, position=position)

    def _hurry(self) -> None:
        """To when all is due."""
        self.world.now = max([self.world.now, *(max(one.due, one.leased) for _, one in self._unsettled())])

    def teardown(self) -> None:
        """Everything is closed, erased, settled and forgotten at last; nothing of it is to be had by any way."""
        if self.broken:
            return
        self.ending = True
        self._last_words(self.witness.threads[-1] if self.witness.threads else None)
        for thread in self.witness.threads:
            if thread not in self.witness.gone:
                self._closed(
                    thread,
                    thread.client,
                    self._call("fine", thread.client, "PATCH", f"/api/chat/threads/{thread.id}/close"),
                )
        if self._unsettled():
            self._ending()
        for _ in range(4):
            if not self._unsettled():
                break
            self._hurry()
            self._visit(Visit(0, True, 0, "now", "well", 1))
        for thread in self.witness.threads:
            assert thread.purge is not None
            assert thread.purge.state == "settled"
        for who in sorted({*self.witness.inboxes, "client"}):
            self.witness.inbox_stream(who)
            self.witness.inbox(who, None)
        for thread in self.witness.threads:
            for who in (thread.client, "nurse"):
                self.witness.receipt(thread, who)
                self.witness.stream(thread, who, "0")
            self.witness.erased(thread)
        for upload in self.witness.addresses:
            self.put(upload=upload)
        for request in self.witness.requests:
            self.forget(request=request)
        self.as_the_model_has_it()
        self.world.unfinished = False


def _purge(thread: Thread) -> Purge:
    assert thread.purge is not None
    return thread.purge
