"""What people see of the chat in a story, against what the model says that they must see."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_public_key

from .model import TTL, Message, Thread, Upload
from .sse import Event, parse
from .world import World

OPENED, SAID, CLOSED = "ThreadOpened", "MessageCreated", "ThreadClosed"
FIELDS: dict[object, tuple[str, ...]] = {"text": ("text",), "location": ("lat", "lng"), "image": ()}
REPLAYED = 3000
"""Milliseconds after which a server without threads tells a stream's client to come back."""


@dataclass(eq=False)
class Request:
    """Of the host."""

    id: Any
    client: str
    thread: Thread | None = None


@dataclass
class Inbox:
    """How far somebody's is.

    :ivar place: in everybody's log; :ivar had: the open threads that were in it.
    """

    id: str
    place: int
    had: list[Thread]


@dataclass
class Seen:
    """What was told once and must never be told differently."""

    ids: dict[Message, int] = field(default_factory=dict)
    times: dict[Message | Thread, str] = field(default_factory=dict)
    photos: dict[Message, tuple[str, int]] = field(default_factory=dict)
    receipts: dict[Thread, dict[str, Any]] = field(default_factory=dict)


class Witness:
    """
    :ivar log: everything that inboxes tell, in order; ``("ThreadOpened", thread, 0)`` and so on.
    :ivar gone: forgotten threads; :ivar addresses: what was answered for an upload, and until when that is good.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.requests: list[Request] = []
        self.threads: list[Thread] = []
        self.log: list[tuple[str, Thread, int]] = []
        self.gone: list[Thread] = []
        self.inboxes: dict[str, Inbox] = {}
        self.addresses: dict[Upload, tuple[dict[str, Any], int]] = {}
        self.seen = Seen()

    def status(self, thread: Thread, status: int) -> int:
        return 404 if thread in self.gone else status

    def expect(self, response: Any, status: int) -> Any:
        """The answer's body."""
        assert response.status_code == status, (response.status_code, status, response.get_data(as_text=True))
        return response.get_json(silent=True)

    def expect_of(self, thread: Thread, who: str, response: Any) -> Any:
        """The body of what everybody gets who may; ``None`` for others."""
        wanted = self.status(thread, 200 if thread.may(who) else 403)
        body = self.expect(response, wanted)
        return body if wanted == 200 else None

    # -- messages ------------------------------------------------------------------------------------------------

    def message(self, thread: Thread, message: Message, viewer: str, shown: dict[str, Any]) -> None:
        """As it must look to ``viewer`` now."""
        purge, shown = thread.purge, dict(shown)
        id_, at, url = shown.pop("id"), shown.pop("created_at"), shown.pop("media_url")
        assert self.seen.ids.setdefault(message, id_) == id_
        assert self.seen.times.setdefault(message, at) == at
        assert (url is not None) == (message.body[0] == "image" and purge is None)
        if url is not None:
            self.seen.photos.setdefault(message, (url, self.world.now + TTL))
        kept = {"seq": message.seq, "type": message.body[0], "sender_id": self.world.ids[message.sender]}
        erased = {**kept, "text": None, "lat": None, "lng": None}
        full = erased | dict(zip(FIELDS[message.body[0]], message.body[1:], strict=False))
        if viewer == message.sender and message.key is not None:
            full["clientMessageId"] = message.key
        possible = [erased] * (purge is not None and purge.erased is not False)
        possible += [full] * (purge is None or purge.erased is not True)
        assert shown in possible, (shown, possible)

    def messages(self, thread: Thread, who: str, shown: list[dict[str, Any]], wanted: list[Message]) -> None:
        assert [one["seq"] for one in shown] == [message.seq for message in wanted]
        for message, one in zip(wanted, shown, strict=True):
            self.message(thread, message, who, one)
        ids = [self.seen.ids[message] for message in wanted]
        assert ids == sorted(set(ids))

    def all_messages(self, thread: Thread, who: str) -> None:
        """C10, C19: dense from 1, in order, each once."""
        after, shown = "0", []
        while after is not None:
            response = self.world.people[who].messages(thread.id, after=after, limit=50)
            page = self.expect_of(thread, who, response)
            if page is None:
                return
            after = page["nextAfter"]
            shown += page["messages"]
        self.messages(thread, who, shown, thread.messages)

    def photos(self, thread: Thread) -> None:
        """Under the addresses that were told first: as long as those are good and the chat is not erased."""
        erased = False if thread.purge is None else thread.purge.erased
        wanted = {False: {200}, True: {404}, None: {200, 404}}[erased]
        for message in thread.messages:
            url, until = self.seen.photos.get(message, ("", 0))
            if url:
                status = self.world.people[thread.client].call("GET", url).status_code
                assert status in ({403} if self.world.now >= until else wanted), status

    # -- threads -------------------------------------------------------------------------------------------------

    def as_listed(self, thread: Thread) -> dict[str, Any]:
        request = next(one for one in self.requests if one.thread is thread)
        ids = self.world.ids
        return {
            "threadId": thread.id,
            "requestId": request.id if isinstance(request.id, int) else str(request.id),
            "adminId": None if thread.admin is None else ids[thread.admin],
            "clientId": ids[thread.client],
            "status": "open" if thread.purge is None else "closed",
            "lastSeq": len(thread.messages),
        }

    def listed(self, thread: Thread, shown: dict[str, Any]) -> None:
        wanted = self.as_listed(thread)
        assert {key: shown[key] for key in wanted} == wanted
        assert (shown["closedAt"] is None) == (thread.purge is None)
        if shown["closedAt"] is not None:
            assert self.seen.times.setdefault(thread, shown["closedAt"]) == shown["closedAt"]

    def listing(self, thread: Thread) -> None:
        """C27, as its client has it."""
        shown = self.expect_of(thread, thread.client, self.world.people[thread.client].thread(thread.id))
        if shown is not None:
            self.listed(thread, shown)

    def inbox(self, who: str, status: str | None) -> None:
        """C27."""
        shown, cursor = [], ""
        while cursor is not None:
            query = {"limit": "2"} | ({"cursor": cursor} if cursor else {}) | ({"status": status} if status else {})
            response = self.world.people[who].call("GET", "/api/chat/threads", query_string=query)
            page = self.expect(response, 200)
            cursor = page["nextCursor"]
            shown += page["threads"]
        wanted = [one for one in self.threads if one.listed(who) and one not in self.gone]
        wanted = [one for one in wanted if status in (None, "closed" if one.purge else "open")]
        wanted.sort(key=lambda one: -one.id)
        assert [one["threadId"] for one in shown] == [one.id for one in wanted]
        for thread, one in zip(wanted, shown, strict=True):
            self.listed(thread, one)

    # -- streams -------------------------------------------------------------------------------------------------

    def stream(self, thread: Thread, who: str, given: str | None) -> None:
        """C30, C32: what came after ``given``, or a reset; then the end of a closed one."""
        response = self.world.people[who].stream(thread.id, given)
        last, closed = len(thread.messages), thread.purge is not None
        position = int(given) if given is not None and given.isdigit() else None
        if closed and position == last + 1 and self.status(thread, 200) == 200 and thread.may(who):
            assert (response.status_code, response.data) == (204, b"")
            return
        wanted = self.status(thread, 200 if thread.may(who) else 403)
        assert response.status_code == wanted
        if wanted != 200:
            return
        parser, events = parse(response.data)
        assert parser.retry == REPLAYED
        if given is not None and (position is None or position > last):
            reset, *events = events
            assert (reset.name, reset.id) == ("reset", str(last))
            assert reset.json == {"threadId": thread.id, "lastSeq": last}
        start = last if position is None or position > last else position
        if closed:
            *events, end = events
            assert (end.name, end.id) == (CLOSED, str(last + 1))
            self._end(thread, end)
        assert parser.last_event_id == str(last + closed) or not events
        assert [(event.name, event.id) for event in events] == [(SAID, str(n)) for n in range(start + 1, last + 1)]
        self.messages(thread, who, [self._said(thread, event) for event in events], thread.messages[start:])

    def _said(self, thread: Thread, event: Event) -> dict[str, Any]:
        shown = dict(event.json)
        assert shown.pop("threadId") == thread.id
        return shown

    def _end(self, thread: Thread, event: Event) -> None:
        shown = event.json
        assert shown.keys() == {"threadId", "closed_at"}
        assert shown["threadId"] == thread.id
        assert self.seen.times.setdefault(thread, shown["closed_at"]) == shown["closed_at"]

    def inbox_stream(self, who: str, garbage: bool = False) -> None:
        """C46: everything since the last time; a repeat only of what was there before, and none in one answer; a reset
        if, and only if, a chat left the list without an event, or the id says nothing.
        """
        before = self.inboxes.get(who)
        given = "x" * 75 if garbage else before and before.id
        parser, events = self.world.people[who].follow(given)
        mine = [one for one in self.threads if one.listed(who) and one not in self.gone]
        had = [one for one in mine if one.purge is None]
        self.inboxes[who] = Inbox(parser.last_event_id, len(self.log), had)
        told = [(event.name, event.json.get("threadId"), event.json.get("seq", 0)) for event in events]
        if before is None or garbage:
            assert told == ([("reset", None, 0)] if garbage else [])
            return
        left = [one for one in before.had if one not in mine]
        assert told.count(("reset", None, 0)) == bool(left), (told, left)
        told = [one for one in told if one[0] != "reset"]
        assert len(told) == len(set(told)), told
        known = [(name, thread.id, seq) for name, thread, seq in self.log if thread in mine]
        owed = [(name, thread.id, seq) for name, thread, seq in self.log[before.place :] if thread in mine]
        assert set(owed) <= set(told) <= set(known), (owed, told)
        threads = {thread.id: thread for thread in mine}
        for thread in mine:
            of_it = [one for one in told if one[1] == thread.id]
            assert of_it == [one for one in known if one in of_it]
        for event in events:
            thread = threads.get(event.json.get("threadId"))
            if event.name == SAID:
                self.message(thread, thread.messages[event.json["seq"] - 1], who, self._said(thread, event))
            elif event.name == CLOSED:
                self._end(thread, event)
            elif event.name == OPENED:
                self.listed(thread, event.json)

    # -- erasure -------------------------------------------------------------------------------------------------

    def in_storage(self, thread: Thread) -> list[str]:
        folder = self.world.media / "chats" / str(thread.id)
        return [path.name for path in folder.glob("*") if not path.name.endswith(".spent")]

    def receipt(self, thread: Thread, who: str) -> None:
        """C38, C40."""
        response = self.world.people[who].call("GET", f"/api/chat/threads/{thread.id}/receipt")
        if thread.purge is None and thread.may(who):
            assert self.expect(response, 404)["code"] == "not_closed"
            return
        shown = self.expect_of(thread, who, response)
        if shown is None:
            return
        purge = thread.purge
        assert purge is not None
        assert (shown["threadId"], shown["state"], shown["attempts"]) == (thread.id, purge.state, purge.attempts)
        assert (shown["purgedAt"] is not None) == (purge.erased is True)
        assert (shown["settledAt"] is not None) == (shown["signature"] is not None) == (purge.state == "settled")
        assert self.seen.times.setdefault(thread, shown["closedAt"]) == shown["closedAt"]
        if purge.erased:
            assert shown["rowsRedacted"] == len(thread.messages)
        if purge.state == "settled":
            self.signed(shown)
            assert shown["listing"] == []
            assert shown["blobsDeleted"] == shown["blobsFound"]
            assert self.seen.receipts.setdefault(thread, shown) == shown

    def signed(self, receipt: dict[str, Any]) -> None:
        answer = self.world.people["client"].call("GET", "/api/chat/receipt-key").get_json()
        content = {key: value for key, value in receipt.items() if key != "signature"}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        key: Any = load_pem_public_key(answer["publicKey"].encode())
        key.verify(base64.b64decode(receipt["signature"]), text)

    def erased(self, thread: Thread) -> None:
        """After an attempt that did all: nothing of it is left anywhere."""
        assert self.in_storage(thread) == []
        self.all_messages(thread, thread.client)
        self.photos(thread)
