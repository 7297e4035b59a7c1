"""Clients that vanish, do not read, or do the same thing fifty times at once (contract C18, C22, C23, C33, C35)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import sqlalchemy as sa

from bench.streams import Crowd, Watched, counts
from bench.under_load import Came, Listener, Load, longest_delay
from tests.support.hosts import HOSTS
from tests.support.live import Person
from tests.support.postgres import connect
from tests.support.raw import RawStream
from tests.support.wait import eventually

from .outcome import NEITHER, Fault, Outcome, Size
from .scene import HEARTBEAT, Scene

AT_ONCE = 50
MAX_STUCK = 30.0
"""Seconds after which a client is cut off that takes nothing."""

LONG = ("\u4e00", 5000)
"""Some 30 kB in a frame."""


def vanish(outcome: Outcome, size: Size) -> None:
    """Half of them with a reset, the other half with a plain end of the connection."""
    HOSTS.setdefault("watched", Watched("postgresql"))
    with (
        Scene(outcome.path, size, kind="crowded", host="watched", CHAT_METRICS="on") as scene,
        connect(sa.make_url(scene.live.bench.url)) as database,
    ):
        scene.chats += [scene.live.new_thread() for _ in range(size.chats)]
        crowd = Crowd(scene.live, scene.chats)
        crowd.grow(size.crowd // 5)  # so that pools have what they keep
        crowd.shrink(len(crowd.sockets))
        time.sleep(2 * HEARTBEAT)
        before = counts(scene.live, scene.redis, database)
        written_off = scene.written_off()
        crowd.grow(size.crowd)
        scene.prove_path(size.crowd, written_off)
        there = counts(scene.live, scene.redis, database)["open streams"] - before["open streams"]
        assert there == size.crowd, f"{there} of {size.crowd} streams were open"
        crowd.shrink(size.crowd)
        began = time.monotonic()
        while True:
            after = counts(scene.live, scene.redis, database)
            more = {name: after[name] - before[name] for name in before if name != "memory MB"}
            outcome.leaked = sum(max(0, count) for count in more.values())
            outcome.longest = time.monotonic() - began
            if not outcome.leaked or outcome.longest > 2 * HEARTBEAT:
                break
            time.sleep(0.5)
        outcome.check(not outcome.leaked, f"more than before: {more}")
        person = scene.live.login("client")
        outcome.check(person.say(scene.chats[0]).status_code == 200, "nobody can post afterwards")


class Sluggard:
    """Takes a byte each second, or none, until its connection is cut off; then comes back as a browser does."""

    def __init__(self, person: Person, chat: int, reads: bool) -> None:
        self._person, self._chat = person, chat
        self._raw = RawStream(person, chat, receive_buffer=4096).wait_head()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sip if reads else self._over.wait, daemon=True)
        self._thread.start()

    def _sip(self) -> None:
        while not self._over.wait(1) and self._raw.sip():
            pass

    def come_back(self) -> Listener:
        """With what had come, and from there on."""
        self._over.set()
        self._thread.join()
        with self._raw as raw:
            raw.wait_end()
            now = time.monotonic()
            came = [Came(event.json["seq"], event.json["text"], now) for event in raw.events]
        return Listener(self._person, self._chat, resumes=True, came=came)


def slow_readers(outcome: Outcome, size: Size) -> None:
    with Scene(outcome.path, size) as scene:
        scene.people()
        chat = scene.live.new_thread()
        scene.chats.append(chat)
        scene.listen([chat] * 2)
        others = [*scene.listeners]
        slow = [Sluggard(scene.live.login("client"), chat, reads) for reads in (True, True, False)]
        scene.post([chat], people=1, pause=0.2, padding=LONG)

        def cut_off() -> int:
            return scene.live.server.output.count("chat stream ended: not_reading")

        eventually(lambda: cut_off() == len(slow), seconds=2.5 * MAX_STUCK)
        back = [one.come_back() for one in slow]
        scene.listeners += back
        scene.settle(outcome)
        outcome.longest = longest_delay(scene.posts, others)
        ends = sum(one.ends for one in others)
        outcome.check(not ends, f"the others' streams ended {ends} times")
        early = [len(one.came) for one in back]
        outcome.check(all(early), f"what the slow ones got is {early}")


def at_once(do: Callable[[Person], httpx.Response], people: list[Person]) -> list[httpx.Response]:
    """Fifty times, as nearly at one moment as threads can."""
    barrier = threading.Barrier(AT_ONCE)

    def one(number: int) -> httpx.Response:
        barrier.wait()
        return do(people[number % len(people)])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, range(AT_ONCE)))


def same_post(outcome: Outcome, size: Size) -> None:
    with Scene(outcome.path, size) as scene:
        scene.chats.append(scene.live.new_thread())
        (chat,) = scene.chats
        listeners = scene.listen([chat] * 4)
        scene.prove_path()
        people = [scene.live.login("client") for _ in range(10)]
        outcome.posted = outcome.lost = outcome.doubled = 0
        for number in range(size.rounds):
            answers = at_once(partial(Person.say, thread=chat, text=f"{number}", clientMessageId=f"{number}"), people)
            codes = {answer.status_code for answer in answers}
            outcome.check(codes == {200}, f"posts were answered {codes}")
            ids = {answer.json().get("id") for answer in answers}
            outcome.doubled += len(ids) - 1
            outcome.posted += 1
        rows = scene.stored()[chat]
        outcome.doubled += len(rows) - size.rounds
        eventually(lambda: all(len(one.came) >= size.rounds for one in listeners))
        time.sleep(0.5)
        for one in listeners:
            seen = [came.text for came in one.came]
            outcome.lost += len({*rows.values()} - {*seen})
            outcome.doubled += len(seen) - len({*seen})


def same_open(outcome: Outcome, size: Size) -> None:
    with Scene(outcome.path, size) as scene:
        people = [scene.live.login(("client", "admin")[number % 2]) for number in range(10)]
        for _ in range(size.rounds):
            with scene.live.bench.app.app_context():
                request_id = scene.live.bench.host.new_request("client")
            path = f"/api/requests/{request_id}/chat/open"
            answers = at_once(lambda one, path=path: one.http.post(path), people)
            codes = {answer.status_code for answer in answers}
            outcome.check(codes == {200}, f"opens were answered {codes}")
            ids = {answer.json().get("threadId") for answer in answers}
            outcome.check(len(ids) == 1, f"{len(ids)} threads of one request")


def posts_and_close(outcome: Outcome, size: Size) -> None:
    """Each post is before the close, and everybody sees it before that, or it is refused."""
    with Scene(outcome.path, size) as scene:
        posters = [scene.live.login("client") for _ in range(size.posters)]
        closer, turned_away, late = scene.live.login("admin"), 0, 0
        for number in range(size.rounds):
            chat = scene.live.new_thread()
            scene.chats.append(chat)
            listeners = scene.listen([chat] * 2)
            if not number:
                scene.prove_path()
            load = Load(posters, [chat], pause=0, name=f"{number}-")
            scene.loads.append(load)
            eventually(lambda load=load: len(load.posts) >= 5)
            answer, closed_at = closer.close(chat), time.monotonic()
            outcome.check(answer.status_code == 200, f"the close was answered {answer.status_code}")
            eventually(lambda load=load: load.turned_away >= len(posters))
            load.stop()
            eventually(lambda some=listeners: all(one.others["ThreadClosed"] for one in some), scene.live.server)
            last = closer.thread(chat)["lastSeq"]
            late += sum(post.at > closed_at or post.seq > last for post in load.posts)
            turned_away += load.turned_away
        scene.settle(outcome)
        behind = late + sum(one.behind for one in scene.listeners)
        outcome.check(not behind, f"{behind} messages behind the close")
        outcome.check(turned_away, "nobody posted when it was closed")
        closes = {one.others["ThreadClosed"] for one in scene.listeners}
        outcome.check(closes == {1}, f"streams brought the close {closes} times")


FAULTS = (
    Fault("all clients vanish at once", "descriptors, greenlets, subscriptions, connections as before", vanish),
    Fault(
        "clients that read a byte a second, or nothing",
        "cut off at the bound, resume without loss; others notice nothing",
        slow_readers,
    ),
    Fault("the same post 50 at once", "each 200 with the same id; one row, one event", same_post),
    Fault("the same open 50 at once", "each 200 with the same id; one thread", same_open, (NEITHER,)),
    Fault("posts racing a close", "200 before it, or 403; nothing behind ThreadClosed", posts_and_close),
)
