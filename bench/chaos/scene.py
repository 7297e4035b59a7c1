"""A server with its services, people who post and listen there, and the count of what became of it all."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

import sqlalchemy as sa

from bench.under_load import Listener, Load, Post, Stored, Tally, tally
from tests.support.databases import Databases
from tests.support.live import Live, Person
from tests.support.redis import Server as Redis
from tests.support.wait import eventually

from .outcome import BODY, HANDOFF, Outcome, Size

HEARTBEAT = 5
"""Seconds."""

SETTINGS = {
    "CHAT_STREAM_HEARTBEAT": str(HEARTBEAT),
    "CHAT_MAX_STREAMS_PER_USER": "off",
    "CHAT_RATE_POST": "1000000/minute",  # so that Redis is asked
    "GUNICORN_CMD_ARGS": "--access-logfile -",
}
SETTLE = 20.0
"""Seconds after the last post in which every stream must have everything."""

KEPT = 1.1
"""Seconds after which a client gives up a connection that it does not use."""

PATIENCE = 60.0
"""Seconds until a load that gets nothing acknowledged any more is given up."""


class Scene:
    """
    :param path: who writes streams, see :data:`~.outcome.PATHS`.
    :param transport: instead of the address of :attr:`redis`.
    :ivar login_at: the process of the server that lets people in, if that matters.
    :ivar postgres: PostgreSQL's server, where the host is on one.
    """

    def __init__(
        self,
        path: str,
        size: Size,
        kind: str = "two-gevent",
        host: str = "reference-postgresql",
        redis: Redis | None = None,
        transport: str = "",
        **env: str,
    ) -> None:
        self.path, self.size = path, size
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        self.redis, self.databases = redis or Redis(), Databases(self.folder)
        self.listeners: list[Listener] = []
        self.loads: list[Load] = []
        self.login_at = 0
        way = {
            "CHAT_STREAM_HANDOFF": "off" if path == BODY else "on",
            "CHAT_TRANSPORT_URL": transport or self.redis.url,
        }
        try:
            self.live = Live(kind, host, self.folder, self.databases, SETTINGS | way | env)
        except BaseException:
            self._close_services()
            raise
        self.postgres: Any = self.databases._server
        self.chats: list[int] = []

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for load in self.loads:
            load.stop(patience=0)
        for listener in self.listeners:
            listener.stop()
        self.live.close()
        self._close_services()

    def _close_services(self) -> None:
        self.databases.close()
        self.redis.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- people ------------------------------------------------------------------------------------------------------

    def people(self, pause: float = 0.03) -> Load:
        """Open the chats, a few streams of each, and begin to post; everything so far works.

        What is said in a chat goes to one of the server's processes, and half of its streams are in another: that one
        hears of it from outside.
        """
        self.chats += [self.live.new_thread() for _ in range(self.size.chats)]
        self.listen(self.chats * self.size.streams)
        self.prove_path()
        workers = self.live.server.workers()
        posters = self.login(["client"], self.size.posters)
        load = Load([], [], pause, f"{len(self.loads)}-")
        self.loads.append(load)
        for turn, worker in enumerate(workers):
            chats, mine = self.chats[turn :: len(workers)], posters[turn :: len(workers)]
            if chats and mine:
                with self.live.served_by(worker):
                    wanted = len(load.posts) + len(mine)
                    load.add(mine, chats)
                    eventually(lambda wanted=wanted: len(load.posts) >= wanted, self.live.server)
        self.wait_for_posts(load)
        return load

    def login(self, who: list[str], count: int) -> list[Person]:
        """So many people, by turns these, whose connections to whatever process let them in are given up."""
        with self.live.served_by(self.login_at) if self.login_at else nullcontext():
            people = [self.live.login(who[number % len(who)]) for number in range(count)]
        time.sleep(KEPT)
        return people

    def listen(self, chats: list[int]) -> list[Listener]:
        """A stream for each of ``chats``, by turns in each of the server's processes: else one may get all."""
        found, workers = [], self.live.server.workers()
        people = self.login(["client", "admin"], len(chats))
        for turn, worker in enumerate(workers):
            with self.live.served_by(worker):
                mine = [
                    Listener(people[number], chat, resumes=True)
                    for number, chat in enumerate(chats)
                    if (number + number // len(self.chats)) % len(workers) == turn
                ]
                eventually(lambda mine=mine: all(one.open for one in mine), self.live.server)
            found += mine
        self.listeners += found
        return found

    def post(
        self,
        chats: list[int] | None = None,
        people: int = 0,
        pause: float = 0.03,
        padding: tuple[str, int] = (".", 40),
    ) -> Load:
        posters = self.login(["client"], people or self.size.posters)
        self.loads.append(Load(posters, chats or [*self.chats], pause, f"{len(self.loads)}-", padding))
        return self.loads[-1]

    def wait_for_posts(self, load: Load, count: int = 0) -> None:
        """Until so many more were acknowledged.

        :raises AssertionError: if that takes more than :data:`PATIENCE` seconds.
        """
        wanted = len(load.posts) + (count or self.size.messages)
        eventually(lambda: len(load.posts) >= wanted, seconds=PATIENCE)

    def prove_path(self, streams: int = 0, before: int = 0) -> None:
        """Gunicorn notes a request as done when its connection was taken over, else when its stream has ended.

        :param streams: how many are open; those of the listeners unless it is said.
        :param before: what :meth:`written_off` was before these.
        """
        streams = streams or len(self.listeners)
        if self.path == HANDOFF:
            eventually(lambda: self.written_off() - before >= streams, self.live.server)
        else:
            assert '"POST /login HTTP/1.1" 200 ' in self.live.server.output, "there is no access log"
            assert self.written_off() == before, "streams that the server was to write were taken over"

    def written_off(self) -> int:
        return sum(self.live.written_off(chat) for chat in self.chats)

    # -- what became of it -------------------------------------------------------------------------------------------

    def stored(self) -> Stored:
        messages = self.live.bench.state.models.messages
        found: dict[int, dict[int, str]] = defaultdict(dict)
        with self.live.bench.state.database.read() as connection:
            for row in connection.execute(sa.select(messages.c.thread_id, messages.c.seq, messages.c.text)):
                found[row.thread_id][row.seq] = row.text
        return found

    @property
    def posts(self) -> list[Post]:
        """All that were acknowledged."""
        return [post for load in self.loads for post in load.posts]

    def settle(self, outcome: Outcome) -> Tally:
        """Stop posting, wait until the streams have everything, and count; what is wrong whatever the fault was."""
        for load in self.loads:
            load.stop()
        posts = self.posts
        stored, deadline = self.stored(), time.monotonic() + SETTLE
        while any(len(one.came) < len(stored[one.chat]) for one in self.listeners) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.3)  # what comes twice comes now
        found = tally(posts, self.listeners, stored)
        outcome.posted = (outcome.posted or 0) + found.posted
        outcome.lost = (outcome.lost or 0) + found.lost
        outcome.doubled = (outcome.doubled or 0) + found.doubled
        outcome.longest = max(outcome.longest or 0.0, found.longest)
        outcome.check(not found.disorder, f"{found.disorder} streams out of order")
        outcome.check(not found.phantoms, f"{found.phantoms} events of nothing that is stored")
        outcome.check(posts, "nothing was posted")
        outcome.check(not sum(load.rude for load in self.loads), "503 without Retry-After")
        outcome.check(not sum(load.unanswered for load in self.loads), "messages that were never acknowledged")
        rows = sum(map(len, stored.values()))
        outcome.check(rows == len(posts), f"{rows} rows of {len(posts)} acknowledged messages")
        final = {one.final for one in self.listeners} - {None}
        outcome.check(not final, f"streams answered {final}, after which browsers never come back")
        resets = sum(one.others["reset"] for one in self.listeners)
        outcome.check(not resets, f"{resets} resets")
        return found

    def caught_up(self, outcome: Outcome) -> None:
        """What was acknowledged so far comes by all streams, whatever is away right now."""
        posts = self.posts

        def missing() -> int:
            seen = {id(one): {came.seq for came in one.came} for one in self.listeners}
            return sum(
                post.seq not in seen[id(one)] for one in self.listeners for post in posts if post.chat == one.chat
            )

        deadline = time.monotonic() + SETTLE
        while (late := missing()) and time.monotonic() < deadline:
            time.sleep(0.2)
        outcome.check(not late, f"{late} messages did not come as long as it was so")

    def streams_stayed(self, outcome: Outcome) -> None:
        ends = sum(one.ends for one in self.listeners)
        outcome.check(not ends, f"streams ended {ends} times")

    def never_refused(self, outcome: Outcome) -> None:
        refused = sum((load.refused for load in self.loads), start=type(self.loads[0].refused)())
        outcome.check(not refused, f"posts were refused: {dict(refused)}")
