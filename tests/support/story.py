"""Stories that hypothesis makes up: people, workers, crashes and time, in any order, each step against the model."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import wraps
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from .model import ADMINS, LEASE, TTL, Message, Thread, Upload
from .pictures import picture
from .witness import CLOSED, OPENED, SAID, Request, Witness
from .world import IN_STORAGE, World, unavailable

PNG = picture("image/png", (2, 1))
WHO = st.sampled_from(["client", "admin", "admin2", "client2", "nurse"])
NETWORK = st.sampled_from(["fine", "fine", "lost", "refused"])
"""Whether the answer comes, is lost on its way, or the database refuses the commit."""

KEY = st.sampled_from([None, "a", "b", "c"])
BODY = st.sampled_from([("text", "Hello"), ("text", "\u2028 \U0001f9d1\n\nevent: x"), ("location", 52.5, -13.25), ("location", 0.0, 0.0)])
POSITION = st.integers(0, 9).map(str) | st.sampled_from(["x", "-1", "99999999999999999999", None])
SECONDS = st.sampled_from([1, 4, 5, 25, 29, 30, 59, 60, 61, 119, 120, 300, 899, 900, 1200])
TROUBLE = st.sampled_from(["none", "none", "killed", "fails", "refuses"])
PLACE = st.sampled_from([*IN_STORAGE, 1, 2, 3, 4, 5])
"""A call of the storage, or a commit, at which a worker is killed."""

ASLEEP = st.sampled_from([0, 30, LEASE - 1, LEASE, LEASE + 30])
MOST = 4
"""Requests in a story."""


def step(**strategies: Any) -> Callable[[Callable[..., Any]], Any]:
    """A rule whose runs are counted."""

    def make(function: Callable[..., Any]) -> Any:
        @wraps(function)
        def counted(self: Story, **given: Any) -> Any:
            try:
                result = function(self, **given)
            except BaseException:
                self.broken = True
                raise
            if not self.ending:
                self.world.step()
            return result

        return rule(**strategies)(counted)

    return make


class AnyStep:
    """In place of hypothesis' swarms, which leave out half of the rules: without a close there is not much to see."""

    def is_enabled(self, name: str) -> bool:
        return True


class Story(RuleBasedStateMachine):
    """
    :param varied: leave out some rules in each story, and so go far with the others.
    """

    requests, threads, uploads = Bundle("requests"), Bundle("threads"), Bundle("uploads")

    def __init__(self, world: World, varied: bool = False) -> None:
        super().__init__()
        if not varied:
            self._rules_strategy.enabled_rules_strategy = st.just(AnyStep())
        self.world = world
        if world.unfinished:
            world.wipe()
        world.unfinished = True
        world.begin()
        self.broken = self.ending = False
        self.witness = Witness(world)
        self.touched: set[Thread] = set()

    # -- people --------------------------------------------------------------------------------------------------

    def _call(self, network: str, who: str, method: str, path: str, **options: Any) -> Any:
        """The answer; of what was lost, that of the second try."""
        with self.world.refusing(network == "refused"):
            response = self.world.people[who].call(method, path, **options)
        return self.world.people[who].call(method, path, **options) if network == "lost" else response

    @initialize(target=threads)
    def first_chat(self) -> Any:
        return self._open(self._new_request("client"), "client", "fine")

    @precondition(lambda self: len(self.witness.requests) < MOST)
    @step(target=requests, client=st.sampled_from(["client", "client2"]))
    def new_request(self, client: str) -> Request:
        return self._new_request(client)

    def _new_request(self, client: str) -> Request:
        self.witness.requests.append(Request(self.world.new_request(client), client))
        return self.witness.requests[-1]

    @step(target=threads, request=requests, who=WHO, network=NETWORK)
    def open(self, request: Request, who: str, network: str) -> Any:
        return self._open(request, who, network)

    def _open(self, request: Request, who: str, network: str) -> Any:
        """C17, C18."""
        response = self._call(network, who, "POST", f"/api/requests/{request.id}/chat/open")
        thread = request.thread
        if who != request.client and who not in ADMINS:
            self.witness.expect(response, 403)
            return multiple()
        if network == "refused" and (thread is None or (who in ADMINS and thread.admin is None and not thread.purge)):
            self.witness.expect(response, 503)
            return multiple()
        answer = self.witness.expect(response, 200)
        if thread is None:
            thread = request.thread = Thread(answer["threadId"], request.client)
            assert all(thread.id > other.id for other in self.witness.threads)
            self.witness.threads.append(thread)
            self.witness.log.append((OPENED, thread, 0))
        thread.claim(who)
        assert answer == {"threadId": thread.id, "status": "closed" if thread.purge else "open"}
        self.touched.add(thread)
        return thread

    @step(thread=threads, who=WHO, body=BODY, key=KEY, network=NETWORK)
    def post(self, thread: Thread, who: str, body: tuple[Any, ...], key: str | None, network: str) -> None:
        names = {"text": ("text",), "location": ("lat", "lng")}[body[0]]
        self._post(thread, who, body, key, network, dict(zip(names, body[1:], strict=True)))

    @step(upload=uploads, who=WHO, key=KEY, network=NETWORK, elsewhere=st.none() | st.none() | threads)
    def post_photo(self, upload: Upload, who: str, key: str | None, network: str, elsewhere: Thread | None) -> None:
        thread = elsewhere or self._of(upload)
        self._post(thread, who, ("image", upload.path), key, network, {"mediaPath": upload.path})

    def _of(self, upload: Upload) -> Thread:
        return next(one for one in self.witness.threads if upload in one.uploads)

    def _post(
        self, thread: Thread, who: str, body: tuple[Any, ...], key: str | None, network: str, json: dict[str, Any]
    ) -> None:
        """C21 to C23, C25."""
        json = {"type": body[0], **json, **({"clientMessageId": key} if key else {})}
        if network == "lost" and key is None:
            network = "fine"  # nobody could know what a second one is
        response = self._call(network, who, "POST", f"/api/chat/threads/{thread.id}/messages", json=json)
        before = len(thread.messages)
        said = (deepcopy(thread) if network == "refused" else thread).post(who, body, key, self.world.now)
        if thread in self.witness.gone or isinstance(said, int):
            self.witness.expect(response, self.witness.status(thread, said if isinstance(said, int) else 403))
        elif network == "refused":
            self.witness.expect(response, 503)
        else:
            self._posted(thread, said, self.witness.expect(response, 200), len(thread.messages) > before)
        self.touched.add(thread)

    def _posted(self, thread: Thread, said: Message, answer: dict[str, Any], new: bool) -> None:
        if new:
            self.witness.log.append((SAID, thread, said.seq))
        assert answer["seq"] == said.seq
        assert self.witness.seen.ids.setdefault(said, answer["id"]) == answer["id"]
        assert ("media_url" in answer) == (said.body[0] == "image")

    @step(target=uploads, thread=threads, who=WHO)
    def issue(self, thread: Thread, who: str) -> Any:
        """C24."""
        wanted = self.witness.status(thread, thread.issue(who, self.world.now))
        json = {"contentType": "image/png", "size": len(PNG)}
        response = self._call("fine", who, "POST", f"/api/chat/threads/{thread.id}/uploads", json=json)
        answer = self.witness.expect(response, wanted)
        if wanted != 200:
            return multiple()
        until = self.world.now + TTL
        thread.uploads.append(Upload(answer["mediaPath"], who, until))
        self.witness.addresses[thread.uploads[-1]] = (answer, until)
        return thread.uploads[-1]

    @step(upload=uploads)
    def put(self, upload: Upload) -> None:
        """C24, C39: once, for as long as it is good, whatever became of the chat. What was erased can come once more."""
        thread, (issued, until) = self._of(upload), self.witness.addresses[upload]
        response = self._call("fine", "nurse", "PUT", issued["uploadUrl"], data=PNG, headers=issued["headers"])
        again = thread.purge is not None and thread.purge.erased is not False
        if self.world.now >= until:
            wanted = {403}
        elif upload.put:
            wanted = {201, 409} if again else {409}
        else:
            wanted = {201}
        assert response.status_code in wanted, (response.status_code, wanted)
        upload.put = upload.put or response.status_code == 201

    @precondition(lambda self: len(self.witness.log) > 3)
    @step(thread=threads, who=WHO, network=NETWORK)
    def close(self, thread: Thread, who: str, network: str) -> None:
        """C26."""
        response = self._call(network, who, "PATCH", f"/api/chat/threads/{thread.id}/close")
        if network == "refused" and thread.may(who) and thread not in self.witness.gone:
            self.witness.expect(response, 503)
            return
        self._closed(thread, who, response)

    def _closed(self, thread: Thread, who: str, response: Any) -> None:
        answer = self.witness.expect_of(thread, who, response)
        if answer is not None:
            assert answer["status"] == "closed"
            assert self.witness.seen.times.setdefault(thread, answer["closed_at"]) == answer["closed_at"]
            if thread.close(self.world.now):
                self.witness.log.append((CLOSED, thread, 0))
        self.touched.add(thread)

    # -- what they see -------------------------------------------------------------------------------------------

    @step(thread=threads, who=WHO, limit=st.integers(1, 3), way=st.sampled_from(["cursor", "after"]), busy=st.booleans())
    def page(self, thread: Thread, who: str, limit: int, way: str, busy: bool) -> None:
        """C19: each once, even while others post."""
        there, shown, place = list(thread.messages), [], {"after": "0"} if way == "after" else {}
        while place is not None:
            response = self.world.people[who].messages(thread.id, limit=limit, **place)
            answer = self.witness.expect_of(thread, who, response)
            if answer is None:
                return
            following = answer["nextAfter" if way == "after" else "nextCursor"]
            place = None if following is None else {way: following}
            shown = shown + answer["messages"] if way == "after" else answer["messages"] + shown
            assert len(answer["messages"]) == limit or place is None
            if busy and thread.purge is None and len(shown) < 10:
                self._post(thread, thread.client, ("text", "meanwhile"), None, "fine", {"text": "meanwhile"})
        count = max(len(there), len(shown)) if way == "after" else len(there)
        self.witness.messages(thread, who, shown, thread.messages[:count])

    @step(thread=threads, who=WHO, position=POSITION | st.integers(-2, 2))
    def follow(self, thread: Thread, who: str, position: str | int | None) -> None:
        """C30, C32: from anywhere; a number is counted from the end."""
        if isinstance(position, int):
            position = str(max(0, len(thread.messages) + position))
        self.witness.stream(thread, who, position)

    @step(who=WHO, garbage=st.sampled_from([False, False, False, True]))
    def follow_inbox(self, who: str, garbage: bool) -> None:
        self.witness.inbox_stream(who, garbage)

    @step(who=WHO, status=st.sampled_from([None, "open", "closed"]))
    def list_inbox(self, who: str, status: str | None) -> None:
        self.witness.inbox(who, status)

    @step(thread=threads, who=WHO)
    def read_receipt(self, thread: Thread, who: str) -> None:
        self.witness.receipt(thread, who)

    @precondition(lambda self: self.witness.seen.photos)
    @step()
    def look_at_photos(self) -> None:
        """C20, C37: under the addresses that were told first."""
        for thread in self.witness.threads:
            self.witness.photos(thread)

    # -- workers, and time ---------------------------------------------------------------------------------------

    @rule(seconds=SECONDS)
    def wait(self, seconds: int) -> None:
        self.world.now += seconds

    def _due(self) -> list[Thread]:
        return [one for one in self.witness.threads if one.purge and one.purge.free(self.world.now)]

    def _one_due(self, which: int) -> Thread:
        due = self._due()
        return due[which % len(due)]

    def _done(self, thread: Thread, found: bool) -> None:
        assert thread.purge is not None
        thread.purge.done(self.world.now, thread.horizon(), found)
        self.witness.erased(thread)
        self.touched.add(thread)

    @precondition(lambda self: any(one.purge and one.purge.state != "settled" for one in self.witness.threads))
    @step(thread=st.none() | threads, process=st.integers(0, 1), trouble=TROUBLE, place=PLACE)
    def work(self, thread: Thread | None, process: int, trouble: str, place: str | int) -> None:
        """C36 to C39: a worker sweeps, or is asked to look at one thread."""
        due = [one for one in self._due() if thread in (None, one)]
        if len(due) != 1 or (isinstance(place, int) and (thread is None or trouble != "killed")):
            trouble = "none"
        found = {one: bool(self.witness.in_storage(one)) for one in due}
        reached: list[str] = []

        def at(call: str, progress: Callable[[int], None]) -> None:
            if call == place and trouble != "none":
                reached.append(call)
                if trouble == "killed":
                    self.world.kill()
                raise unavailable(trouble == "refuses")

        commit = place if isinstance(place, int) and trouble == "killed" else None
        result = self.world.work(process, thread and thread.id, at, commit)
        if result is None:
            assert due[0].purge is not None
            if place != 1:
                due[0].purge.killed(self.world.now)
        elif reached:
            assert (result, due[0].purge is not None) == (0, True)
            due[0].purge.failed(self.world.now, trouble == "refuses")
        else:
            assert result == len(due), (result, due)
            for one in due:
                self._done(one, found[one])
        self.touched.update(due)

    @precondition(lambda self: self._due())
    @step(which=st.integers(0, MOST - 1), process=st.integers(0, 1), sleeps=ASLEEP)
    def two_workers(self, which: int, process: int, sleeps: int) -> None:
        """C36: one comes while the other is in the middle of it, and takes it over once that one slept too long."""
        thread = self._one_due(which)
        results, began, found = [], self.world.now, bool(self.witness.in_storage(thread))

        def at(call: str, progress: Callable[[int], None]) -> None:
            if call == "delete_prefix":
                self.world.now += sleeps
                results.append(self.world.work(1 - process, thread.id))

        results.append(self.world.work(process, thread.id, at))
        over = sleeps >= LEASE
        assert results == [int(over), int(not over)]
        if over and thread.purge is not None:
            thread.purge.killed(began)
        self._done(thread, found)

    @precondition(lambda self: self._due())
    @step(which=st.integers(0, MOST - 1), process=st.integers(0, 1))
    def much_to_delete(self, which: int, process: int) -> None:
        """C36: who is at work renews the lease, and nobody else gets it however long that takes."""
        thread = self._one_due(which)
        found = bool(self.witness.in_storage(thread))

        def at(call: str, progress: Callable[[int], None]) -> None:
            for _ in range(5 if call == "delete_prefix" else 0):
                self.world.now += 20
                progress(0)
                assert self.world.work(1 - process, thread.id) == 0

        assert self.world.work(process, thread.id, at) == 1
        self._done(thread, found)

    @step(how=st.sampled_from(["restart", "switched off"]), thread=threads, who=WHO)
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

    @step(request=requests)
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

    def teardown(self) -> None:
        """Everything is closed, erased, settled and forgotten at last; nothing of it is to be had by any way."""
        if self.broken:
            return
        self.ending = True
        for thread in self.witness.threads:
            if thread not in self.witness.gone:
                self._closed(thread, thread.client, self._call("fine", thread.client, "PATCH", f"/api/chat/threads/{thread.id}/close"))
        for _ in range(4):
            waiting = [one.purge for one in self.witness.threads if one.purge and one.purge.state != "settled"]
            if not waiting:
                break
            self.world.now = max([self.world.now, *(max(one.due, one.leased) for one in waiting)])
            self.work(thread=None, process=0, trouble="none", place=1)
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
