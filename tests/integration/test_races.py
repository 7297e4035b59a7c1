"""Many at once, on real servers: nothing lost, doubled, out of order, or behind a close."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ..support.live import Live, Person
from ..support.sse import Reader

ENV = {"CHAT_STREAM_HEARTBEAT": "5", "CHAT_MAX_STREAMS_PER_USER": "off"}


SERVERS = [
    ("gevent", "reference"),
    ("two-gevent", "reference"),
    ("two-gevent", "reference-postgresql"),
    ("gthread", "foreign-postgresql"),
]


@pytest.fixture(params=SERVERS)
def live(request: pytest.FixtureRequest, live_servers: Callable[..., Live]) -> Live:
    """One process, and two on one database with doorbells of their own; PostgreSQL with greenlets and with threads."""
    return live_servers(*request.param, **ENV)


class Reconnecting(threading.Thread):
    """Reads a thread to its end, breaking the connection all the time."""

    def __init__(self, person: Person, thread: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.person, self.thread, self.random = person, thread, random.Random(seed)
        self.seen: list[int] = []
        self.connections = 0

    def run(self) -> None:
        last = "0"
        while True:
            self.connections += 1
            reader = Reader(self.person.http, self.thread, last)
            if self.random.random() < 0.8:  # on a busy machine no byte would ever come in so short a time
                reader.wait_open(60)
            reader.ended.wait(self.random.uniform(0.005, 0.08))
            reader.stop()
            # What the parser dispatched is what a browser has seen, whatever was cut off behind it.
            for event in reader.events:
                if event.name == "ThreadClosed":
                    return
                assert event.name == "MessageCreated", event
                self.seen.append(event.json["seq"])
            last = reader.parser.last_event_id or last


@pytest.mark.parametrize("live", [*SERVERS, ("generator", "reference")], indirect=True)
def test_readers_who_reconnect_all_the_time(live: Live) -> None:
    """C30, C10: four of them see each of 200 messages of eight posters once, in order."""
    thread = live.new_thread()
    readers = [Reconnecting(live.login(who), thread, seed) for seed, who in enumerate(["client", "admin"] * 2)]
    for reader in readers:
        reader.start()
    posters = [live.login(who) for who in ["client", "admin"] * 4]

    def post(poster: Person) -> list[int]:
        seqs = []
        for number in range(25):
            seqs.append(poster.say(thread, str(number)).json()["seq"])
            time.sleep(random.uniform(0, 0.06))  # a talk, so that readers come and go many times in it
        return seqs

    with ThreadPoolExecutor(8) as pool:
        acknowledged = [seq for seqs in pool.map(post, posters) for seq in seqs]
    posters[0].close(thread)
    for reader in readers:
        reader.join(120)
        assert not reader.is_alive()
    assert sorted(acknowledged) == list(range(1, 201))
    for reader in readers:
        assert reader.seen == list(range(1, 201))
        assert reader.connections > 5


def test_posts_racing_a_close(live: Live) -> None:
    """C10, C22: in six rounds of 24 posts, each is either before the close or refused; nothing is behind it."""
    posters = [live.login(who) for who in ["client", "admin"] * 12]
    for _ in range(6):
        thread = live.new_thread()
        reader = posters[0].listen(thread, "0").wait_open()
        with ThreadPoolExecutor(25) as pool:
            posts = [pool.submit(poster.say, thread, "race") for poster in posters]
            closing = pool.submit(posters[1].close, thread)
        assert closing.result().status_code == 200
        answers = [post.result() for post in posts]
        assert {answer.status_code for answer in answers} <= {200, 403}
        accepted = sorted(answer.json()["seq"] for answer in answers if answer.status_code == 200)
        assert {answer.json()["code"] for answer in answers if answer.status_code == 403} <= {"thread_closed"}
        shown = posters[0].thread(thread)
        assert accepted == list(range(1, shown["lastSeq"] + 1))
        *messages, farewell = reader.wait_end()
        assert [event.json["seq"] for event in messages] == accepted
        assert (farewell.name, farewell.id) == ("ThreadClosed", str(shown["lastSeq"] + 1))
        with live.bench.state.database.read() as connection:
            table = live.bench.state.models.messages
            rows = connection.execute(table.select().where(table.c.thread_id == thread)).all()
        assert sorted(row.seq for row in rows) == accepted


def test_commit_order_is_seq_order_is_id_order(live: Live) -> None:
    """C10: dense, and ids grow with seq."""
    thread = live.new_thread()
    posters = [live.login(who) for who in ["client", "admin"] * 4]
    with ThreadPoolExecutor(8) as pool:
        answers = [a.json() for a in pool.map(lambda poster: poster.say(thread), posters * 10)]
    by_seq = sorted(answers, key=lambda answer: answer["seq"])
    assert [answer["seq"] for answer in by_seq] == list(range(1, 81))
    assert by_seq == sorted(answers, key=lambda answer: answer["id"])


def test_fifty_opens_at_once(live: Live) -> None:
    """C18, C10: fifty 200s with one id, though every login holds a connection of the host's; logged once."""
    with live.bench.app.app_context():
        request_id = live.bench.host.new_request("client")
    people = [live.login("client" if number % 2 else "admin") for number in range(50)]
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda p: p.http.post(f"/api/requests/{request_id}/chat/open"), people))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["threadId"] for answer in answers}) == 1
    before = len(re.findall("chat thread opened", live.server.output))
    live.login("client").open(request_id)
    assert len(re.findall("chat thread opened", live.server.output)) == before
