"""Stories that hypothesis makes up, each step against the model: what people do, on a bad network too."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import wraps
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, precondition, rule

from .model import ADMINS, TTL, Message, Thread, Upload
from .pictures import picture
from .witness import CLOSED, OPENED, SAID, Request, Witness
from .world import World

PNG = picture("image/png", (2, 1))
WHO = st.sampled_from(["client", "admin", "admin2", "client2", "nurse"])
CLOSER = st.sampled_from(["client", "client", "client2", "admin", "admin2", "nurse"])
NETWORK = st.sampled_from(["fine", "fine", "fine", "lost", "refused"])
"""Whether the answer comes, is lost on its way, or the database refuses the commit."""

KEY = st.sampled_from([None, "a", "b", "c"])
BODY = st.sampled_from(
    [("text", "Hello"), ("text", "\u2028 \U0001f9d1\n\nevent: x"), ("location", 52.5, -13.25), ("location", 0.0, 0.0)]
)
POSITION = st.integers(0, 9).map(str) | st.sampled_from(["x", "-1", "99999999999999999999", None])

MOST = 4
"""Requests in a story."""


def step(**strategies: Any) -> Callable[[Callable[..., Any]], Any]:
    """A rule whose runs are counted."""

    def make(function: Callable[..., Any]) -> Any:
        @wraps(function)
        def counted(self: People, **given: Any) -> Any:
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


class People(RuleBasedStateMachine):
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
        """With a photo that may be posted, or be in the way of its erasure."""
        thread = self._open(self._new_request("client"), "client", "fine")
        self._put(self._issue(thread, "client"))
        return thread

    @initialize(target=uploads)
    def second_chat(self) -> Any:
        return self._issue(self._open(self._new_request("client"), "admin", "fine"), "admin")

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
        refused = thread in self.witness.gone or isinstance(said, int)
        if network == "refused" and (not refused or response.status_code == 503):
            self.witness.expect(response, 503)  # also where the database was asked before the post was found wanting
        elif refused:
            self.witness.expect(response, self.witness.status(thread, said if isinstance(said, int) else 403))
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
        return self._issue(thread, who)

    def _issue(self, thread: Thread, who: str) -> Any:
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
        self._put(upload)

    def _put(self, upload: Upload) -> None:
        """C24, C39: once, for as long as it is good, whatever became of the chat; what was erased once more."""
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

    @precondition(lambda self: len(self.witness.log) > 2)
    @step(thread=threads, who=CLOSER, network=NETWORK)
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

    @step(
        thread=threads, who=WHO, limit=st.integers(1, 3), way=st.sampled_from(["cursor", "after"]), busy=st.booleans()
    )
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
            assert len(shown) <= len(thread.messages)
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

    @step(who=WHO, how=st.sampled_from(["stream", "stream", "stream", "stream from nowhere", "list", "open", "closed"]))
    def inbox(self, who: str, how: str) -> None:
        if how.startswith("stream"):
            self.witness.inbox_stream(who, how == "stream from nowhere")
        else:
            self.witness.inbox(who, None if how == "list" else how)

    @step(thread=threads, who=WHO)
    def read_receipt(self, thread: Thread, who: str) -> None:
        """C40, C37: and look at the photos, under the addresses that were told first."""
        self.witness.receipt(thread, who)
        self.witness.photos(thread)
