"""People who post and listen while something goes wrong, and what became of every message.

Every post has a ``clientMessageId`` and is sent again until it is acknowledged, as a client does; every message has a
text of its own, so that one that came in another's place is noticed.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

import httpx

from tests.support.live import Person
from tests.support.sse import Parser

RECONNECT = 0.2
"""Seconds until a listener comes back; browsers take some seconds, and people do not want to wait for them."""


class Post(NamedTuple):
    """One that was acknowledged; the times are ``time.monotonic()``'s and seconds."""

    chat: int
    seq: int
    text: str
    at: float
    took: float
    tries: int


class Came(NamedTuple):
    """A message that a stream brought, at ``time.monotonic()``."""

    seq: int
    text: str
    at: float


class Listener:
    """One stream from the chat's beginning.

    :param resumes: whether it comes back with ``Last-Event-ID`` after an end, as ``EventSource`` does.
    :param came: what came before, by a stream of another kind.
    :ivar ends: how often its stream ended before the chat or :meth:`stop` did.
    :ivar behind: messages that came after ``ThreadClosed``.
    :ivar final: an answer after which ``EventSource`` would never come back; then neither does it.
    """

    def __init__(self, person: Person, chat: int, resumes: bool = False, came: Iterable[Came] = ()) -> None:
        self.chat = chat
        self.came = [*came]
        self.behind = 0
        self.others: Counter[str] = Counter()
        self.ends = 0
        self.final: int | None = None
        self._client = person.http
        self._resumes = resumes
        self._last = str(self.came[-1].seq if self.came else 0)
        self._over = False
        self._response: httpx.Response | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def open(self) -> bool:
        """Whether the head has come, for once."""
        return self._response is not None

    def _run(self) -> None:
        while not self._over:
            with suppress(httpx.TransportError, httpx.StreamError, OSError, RuntimeError):
                self._follow()
            if self._over or self.final or self.others["ThreadClosed"]:
                return
            self.ends += 1
            if not self._resumes:
                return
            time.sleep(RECONNECT)

    def _follow(self) -> None:
        parser = Parser()
        request = self._client.build_request(
            "GET", f"/api/chat/threads/{self.chat}/stream", headers={"Last-Event-ID": self._last}
        )
        response = self._client.send(request, stream=True)
        self._response = response
        try:
            if response.status_code != 200:
                self.final = response.status_code
                return
            for chunk in response.iter_raw():
                self._take(parser, chunk, time.monotonic())
        finally:
            response.close()

    def _take(self, parser: Parser, chunk: bytes, now: float) -> None:
        for event in parser.feed(chunk):
            if event.name == "MessageCreated":
                self.came.append(Came(event.json["seq"], event.json["text"], now))
                self.behind += self.others["ThreadClosed"] > 0
            else:
                self.others[event.name] += 1
        self._last = parser.last_event_id or self._last

    def stop(self) -> None:
        """Vanish."""
        self._over = True
        if self._response is not None:
            stream = self._response.extensions["network_stream"].get_extra_info("socket")
            with suppress(OSError, AttributeError):
                stream.shutdown(2)
        self._thread.join(5)


class Load:
    """Posts from a thread for each of ``people`` until told to stop.

    :param pause: seconds between two posts of one of them.
    :param padding: what fills a text up to so many characters.
    :ivar turned_away: messages that were not posted because the chat is closed.
    :ivar refused: what attempts were answered: a status, or the error of a connection.
    :ivar rude: answers of 503 without ``Retry-After``.
    :ivar slowest: seconds, of all attempts that were answered.
    :ivar unanswered: messages that were still not acknowledged when everybody gave up.
    """

    def __init__(
        self,
        people: list[Person],
        chats: list[int],
        pause: float,
        name: str = "",
        padding: tuple[str, int] = (".", 40),
    ) -> None:
        self.posts: list[Post] = []
        self.refused: Counter[str] = Counter()
        self.turned_away = 0
        self.rude = 0
        self.slowest = 0.0
        self.unanswered = 0
        self._stop = threading.Event()
        self._give_up_at = float("inf")
        self._pause = pause
        self._name = name
        self._padding, self._length = padding
        self._threads: list[threading.Thread] = []
        self.add(people, chats)

    def add(self, people: list[Person], chats: list[int]) -> None:
        """More of them, each in all of ``chats`` by turns."""
        for person in people:
            number = len(self._threads)
            self._threads.append(threading.Thread(target=self._post, args=(number, person, chats), daemon=True))
            self._threads[-1].start()

    def _post(self, number: int, person: Person, chats: list[int]) -> None:
        count = 0
        while not self._stop.is_set():
            chat, text = chats[count % len(chats)], f"{self._name}{number}-{count}"
            count += 1
            self._until_acknowledged(person, chat, text, text.ljust(self._length, self._padding))
            time.sleep(self._pause)

    def _until_acknowledged(self, person: Person, chat: int, key: str, text: str) -> None:
        tries, started = 0, time.monotonic()
        while time.monotonic() < self._give_up_at:
            tries, attempted = tries + 1, time.monotonic()
            try:
                answer = person.say(chat, text, clientMessageId=key)
            except httpx.TransportError as error:
                self.refused[type(error).__name__] += 1
            else:
                took = time.monotonic() - attempted
                self.slowest = max(self.slowest, took)
                if answer.status_code == 200:
                    self.posts.append(Post(chat, answer.json()["seq"], text, started, took, tries))
                    return
                if answer.status_code == 403 and answer.json()["code"] == "thread_closed":
                    self.turned_away += 1
                    return
                self.refused[str(answer.status_code)] += 1
                self.rude += answer.status_code == 503 and "Retry-After" not in answer.headers
            time.sleep(0.2)
        self.unanswered += 1

    def stop(self, patience: float = 60) -> None:
        """When each has had its last post acknowledged, or after so many seconds."""
        self._give_up_at = time.monotonic() + patience
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def retried(self) -> int:
        """Messages that were not acknowledged at the first attempt."""
        return sum(post.tries > 1 for post in self.posts)


Stored = Mapping[int, Mapping[int, str]]
"""The texts of a database's messages, by chat and ``seq``."""


class Tally(NamedTuple):
    """What became of every message.

    :ivar lost: acknowledged ones that the database does not have, and those that a stream did not bring, for each
        stream.
    :ivar doubled: rows of one message beyond the first, and what a stream brought again.
    :ivar disorder: streams that brought something out of order.
    :ivar phantoms: what a stream brought and no row has.
    :ivar longest: seconds from the first attempt at a post to its coming by a stream.
    """

    posted: int
    lost: int
    doubled: int
    disorder: int
    phantoms: int
    longest: float


def tally(posts: list[Post], listeners: list[Listener], stored: Stored) -> Tally:
    lost = sum(stored.get(post.chat, {}).get(post.seq) != post.text for post in posts)
    doubled = sum(len(rows) - len(set(rows.values())) for rows in stored.values())
    disorder = phantoms = 0
    for one in listeners:
        rows, seen = stored.get(one.chat, {}), {came.seq: came.text for came in one.came}
        lost += sum(seen.get(seq) != text for seq, text in rows.items())
        doubled += len(one.came) - len(seen)
        phantoms += sum(rows.get(seq) != text for seq, text in seen.items())
        order = [came.seq for came in one.came]
        disorder += order != sorted(order)
    return Tally(len(posts), lost, doubled, disorder, phantoms, longest_delay(posts, listeners))


def longest_delay(posts: list[Post], listeners: list[Listener]) -> float:
    """Seconds from the first attempt at a post to its coming by a stream."""
    at = {(post.chat, post.seq): post.at for post in posts}
    delays = [came.at - at[one.chat, came.seq] for one in listeners for came in one.came if (one.chat, came.seq) in at]
    return max(delays, default=0.0)


def percentile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")
