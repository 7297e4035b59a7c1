"""The load: one process with thousands of streams, and posts that come when they are due, whatever the server does.

Open loop: a post has a moment at which it is due, and the latency of each of its deliveries counts from there, not from
when a busy server let it be sent. Nothing is tried again; what fails is counted.
"""

from __future__ import annotations

import math
import random
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .visits import Office, Seat, Stream
from .wire import Poller

IN_FLIGHT = 200
"""Streams that are being opened at once."""

GIVE_UP = 5.0
"""Seconds of latency at which a rate is known to be too high."""

SETTLE = 5.0
"""Seconds after the last answer in which every delivery must have come."""

TEXT = b"%08d See you tomorrow at ten; please have the last letter from the hospital ready."


@dataclass
class Figures:
    """One window. Latencies in milliseconds, ``None`` where so many deliveries never came."""

    rate: float
    seconds: float
    posts: int
    answers: dict[str, int]
    p50: float | None
    p99: float | None
    lost: int
    """Deliveries that never came, those of refused posts included."""
    duplicates: int
    disordered: int
    gave_up: bool
    client_cpu: float
    """This process's share of its core: at one, it is the client that is measured."""


class Ledger:
    """What was due when, and what came of it. Numbers count on from window to window, so a latecomer is known."""

    def __init__(self, first: int = 0) -> None:
        self.first = first
        self.due = array("d")
        self.delays = array("d")
        self.answers: Counter[str] = Counter()
        self.duplicates = self.disordered = 0

    def arrived(self, number: int, now: float) -> None:
        place = number - self.first
        if 0 <= place < len(self.due):
            self.delays.append(now - self.due[place])

    def percentile(self, part: float, expected: int) -> float | None:
        """Of all that were expected; milliseconds."""
        ordered = sorted(self.delays)
        place = math.ceil(expected * part) - 1
        return round(ordered[place] * 1000, 1) if 0 <= place < len(ordered) else None


class Crowd:
    """Everybody who uses one server.

    :param numbered: whether a frame's ``id`` is the message's dense number in its thread.
    :ivar errors: of streams, by what they were.
    """

    def __init__(
        self,
        port: int,
        stream_path: Callable[[int], str],
        post_path: Callable[[int], str],
        numbered: bool = True,
        seed: int = 1,
    ) -> None:
        self.address, self.host = ("127.0.0.1", port), f"127.0.0.1:{port}"
        self.stream_path, self.post_path, self.numbered = stream_path, post_path, numbered
        self.poller = Poller()
        self.streams: dict[Seat, Stream] = {}
        self.errors: Counter[str] = Counter()
        self.ledger = Ledger()
        self._opening = 0
        self._random = random.Random(seed)
        self._office = Office(self)

    # -- streams -------------------------------------------------------------------------------------------------

    def open(self, seats: Iterable[Seat], resume: int | None = None, timeout: float = 300) -> float:
        """Open a stream for each of them, :data:`IN_FLIGHT` at once; the seconds until all have had something.

        Who has had nothing after ``timeout`` seconds is an error, and leaves.
        """
        started = time.monotonic()
        waiting = deque(seats)
        while (waiting or self._opening) and time.monotonic() - started < timeout:
            while waiting and self._opening < IN_FLIGHT:
                seat = waiting.popleft()
                self._opening += 1
                self.streams[seat] = Stream(self, seat, resume)
            self.poller.turn(0.1)
        late = {seat for seat, stream in self.streams.items() if not stream.opened}
        if late:
            self.errors["late"] += len(late)
        self.keep(self.streams.keys() - late)
        return time.monotonic() - started

    def stream_opened(self) -> None:
        self._opening -= 1

    def stream_ended(self, stream: Stream) -> None:
        self.errors[stream.error or "ended"] += 1
        if not stream.opened:
            self._opening -= 1
        if self.streams.get(stream.seat) is stream:
            del self.streams[stream.seat]

    def keep(self, seats: set[Seat]) -> None:
        """Everybody else leaves."""
        for seat in [seat for seat in self.streams if seat not in seats]:
            stream = self.streams.pop(seat)
            stream.close()
            self._opening -= not stream.opened

    def close(self) -> None:
        self.keep(set())
        self._office.close()

    # -- posts ---------------------------------------------------------------------------------------------------

    def window(self, rate: float, seconds: float) -> Figures:
        """``rate`` messages a second, spread evenly over the threads that are followed, their people in turn."""
        by_thread: dict[int, list[Seat]] = {}
        for seat in self.streams:
            by_thread.setdefault(seat.thread, []).append(seat)
        order = sorted(by_thread)
        self._random.shuffle(order)
        ledger = self.ledger = Ledger(self.ledger.first + len(self.ledger.due))
        expected, total, gave_up = 0, int(rate * seconds), False
        cpu, started = time.process_time(), time.monotonic()
        for number in range(total):
            due = started + number / rate
            while (left := due - time.monotonic()) > 0:
                self.poller.turn(left)
            self.poller.turn(0)
            seats = by_thread[order[number % len(order)]]
            ledger.due.append(due)
            expected += len(seats)
            self._office.send(self._request(seats[number // len(order) % len(seats)], ledger.first + number))
            late = bool(ledger.delays) and ledger.delays[-1] > GIVE_UP
            if gave_up := late or self._office.unanswered > rate * GIVE_UP:
                break
        share = (time.process_time() - cpu) / (time.monotonic() - started)
        self._settle(expected)
        return Figures(
            rate=rate,
            seconds=seconds,
            posts=len(ledger.due),
            answers=dict(ledger.answers),
            p50=ledger.percentile(0.5, expected),
            p99=ledger.percentile(0.99, expected),
            lost=expected - len(ledger.delays),
            duplicates=ledger.duplicates,
            disordered=ledger.disordered,
            gave_up=gave_up,
            client_cpu=round(share, 2),
        )

    def _settle(self, expected: int) -> None:
        """Until everything has come, or nothing has for a while."""
        quiet_since, before = time.monotonic(), (-1, -1)
        while time.monotonic() - quiet_since < SETTLE:
            now = (self._office.unanswered, len(self.ledger.delays))
            if now == (0, expected):
                return
            if now != before:
                quiet_since, before = time.monotonic(), now
            self.poller.turn(0.05)
        self._office.close()

    def _request(self, seat: Seat, number: int) -> bytes:
        body = b'{"type": "text", "text": "%b"}' % (TEXT % number)
        head = (
            f"POST {self.post_path(seat.thread)} HTTP/1.1\r\nHost: {self.host}\r\nUser-Agent: bench\r\n"
            f"Cookie: {seat.cookie}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body
