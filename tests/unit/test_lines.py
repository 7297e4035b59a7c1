"""Connections that the hub writes to by itself, over pairs of sockets."""

from __future__ import annotations

import _socket
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from nursecare_chat.stream.interfaces import Limits
from nursecare_chat.stream.line import LAST_CHUNK, Line
from nursecare_chat.stream.lines import Lines
from nursecare_chat.stream.outlet import MAX_BACKLOG, MAX_STUCK
from nursecare_chat.stream.subscriber import Stream

from ..support.wait import eventually

HEARTBEAT = b"3\r\n:\n\n\r\n"


class Pair:
    """A stream on its line, and the client's end."""

    def __init__(self, lines: Lines, recycle_in: float = 3600.0) -> None:
        ours, self.client = socket.socketpair()
        self.stream = Stream(1, 7, 0)
        self.line = lines.adopt(self.stream, ours.detach(), True, time.monotonic() + recycle_in)
        self.stream.outlet = self.line
        self.client.settimeout(20)

    def read(self) -> bytes:
        """All that comes up to the end."""
        found = b""
        while data := self.client.recv(1 << 16):
            found += data
        return found


class Leaver:
    """The hub's part: forgets a stream, or fails to."""

    def __init__(self) -> None:
        self.failing: list[Stream] = []
        self.left: list[Stream] = []

    def __call__(self, stream: Stream) -> None:
        if stream in self.failing:
            raise RuntimeError("the host's own trouble")
        self.left.append(stream)
        stream.outlet.close()


@pytest.fixture
def leave() -> Leaver:
    return Leaver()


@pytest.fixture
def cut_off() -> list[Stream]:
    return []


@pytest.fixture
def lines(leave: Leaver, cut_off: list[Stream]) -> Lines:
    return Lines(Limits(heartbeat=0.2), leave, lambda stream: None, cut_off.extend)


@pytest.fixture
def make(lines: Lines) -> Iterator[Callable[..., Pair]]:
    """Pairs that share an epoll."""
    pairs: list[Pair] = []

    def one(**options: float) -> Pair:
        pairs.append(Pair(lines, **options))
        return pairs[-1]

    yield one
    for pair in pairs:
        pair.line.drop()
        pair.client.close()


def fill(descriptor: int) -> int:
    """Write until the kernel takes no more; how many bytes it took."""
    connection = _socket.socket(fileno=descriptor)
    taken = 0
    try:
        while True:
            taken += connection.send(b"x" * 4096)
    except BlockingIOError:
        return taken
    finally:
        connection.detach()


def test_what_fails_for_one_does_not_end_the_others(make: Callable[..., Pair], leave: Leaver) -> None:
    """C33, C35: a line whose end fails is closed all the same; the others go on to get heartbeats, and are let go."""
    failing, other = make(), make()
    leave.failing.append(failing.stream)
    failing.client.shutdown(socket.SHUT_WR)
    assert failing.client.recv(100) in (b"", HEARTBEAT)
    for _ in range(3):
        assert other.client.recv(len(HEARTBEAT), socket.MSG_WAITALL) == HEARTBEAT
    other.client.shutdown(socket.SHUT_WR)
    eventually(lambda: other.stream in leave.left)
    assert failing.line.gone()


def test_a_look_that_fails_does_not_end_the_others(make: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    """C33, C35: neither does anything else that is done to a line from time to time."""
    failing, other = make(), make()
    beat = Line.beat

    def beat_one(line: Line, now: float) -> None:
        if line is failing.line:
            raise RuntimeError("trouble")
        beat(line, now)

    monkeypatch.setattr(Line, "beat", beat_one)
    assert failing.read() == b""
    for _ in range(3):
        assert other.client.recv(len(HEARTBEAT), socket.MSG_WAITALL) == HEARTBEAT


def test_without_an_epoll_they_end(make: Callable[..., Pair], leave: Leaver, monkeypatch: pytest.MonkeyPatch) -> None:
    """C33, C35: rather than to stay with nobody to look after them; the next one is looked after again."""
    pairs = [make(), make()]
    monkeypatch.setattr(Lines, "_look", lambda lines, now: 1 / 0)
    for pair in pairs:
        assert pair.read() == b""
    assert leave.left == [pair.stream for pair in pairs]
    eventually(lambda: "nursecare-chat_lines" not in {thread.name for thread in threading.enumerate()})
    monkeypatch.undo()
    later = make()
    assert later.client.recv(len(HEARTBEAT), socket.MSG_WAITALL) == HEARTBEAT


def test_one_that_has_ended_can_be_ended_in_every_way(make: Callable[..., Pair], leave: Leaver) -> None:
    """C46: a client that went away in the middle of a round does not disturb those that come after it."""
    pair = make()
    pair.client.close()
    while pair.line.push(b"news"):
        pass
    assert leave.left == [pair.stream]
    pair.line.finish()
    pair.line.drop()
    pair.line.hang_up()
    pair.line.beat(time.monotonic())
    pair.line.close()
    assert not pair.line.cut()
    assert not pair.line.flush()
    assert pair.line.gone()
    assert pair.line.empty
    assert not pair.line.undelivered


def test_the_end_waits_for_its_turn(make: Callable[..., Pair], leave: Leaver) -> None:
    """C32, C34: with no room for the last chunk it comes behind what waits in the kernel; it is not left out."""
    pair = make()
    taken = fill(pair.line._descriptor)
    pair.line.finish()
    assert leave.left == []
    assert pair.read() == b"x" * taken + LAST_CHUNK
    eventually(lambda: leave.left == [pair.stream])


def test_recycled_with_a_backlog(make: Callable[..., Pair], lines: Lines) -> None:
    """C34: at its age a slow reader gets all that waits, and then the end."""
    pair = make(recycle_in=20.0)
    taken = fill(pair.line._descriptor)
    assert pair.line.push(b"frame")
    for later, ended in ((10, False), (21, True)):
        lines._look(time.monotonic() + later)
        assert pair.line.ended is ended
    assert pair.read() == b"x" * taken + b"5\r\nframe\r\n" + LAST_CHUNK


def test_an_idle_one_is_not_silent(make: Callable[..., Pair], lines: Lines) -> None:
    """C29, C33: a comment, when the next look would be too late for it."""
    pair = make()
    lines._look(time.monotonic() + 1)
    pair.client.setblocking(False)
    assert pair.client.recv(100).startswith(HEARTBEAT)


def test_the_bound_on_what_waits(make: Callable[..., Pair]) -> None:
    """C35: beyond it the hub reads the log instead, when there is room again."""
    pair, frame = make(), b"x" * 1000
    fill(pair.line._descriptor)
    chunk = len(b"%x\r\n%b\r\n" % (len(frame), frame))
    pushed = [pair.line.push(frame) for _ in range(MAX_BACKLOG // len(frame) + 10)]
    assert sum(pushed) == MAX_BACKLOG // chunk
    while not pair.line.push(frame):
        assert pair.client.recv(1 << 16)


def test_who_takes_nothing_is_cut_off(make: Callable[..., Pair], lines: Lines, cut_off: list[Stream]) -> None:
    """C35: once something has waited for too long; who reads stays."""
    idle, reading = make(), make()
    fill(idle.line._descriptor)
    for pair in (idle, reading):
        assert pair.line.push(b"frame")
    since = idle.line.stalled_since
    assert since is not None
    for late, expected in ((MAX_STUCK - 1, []), (MAX_STUCK + 1, [idle.stream])):
        lines._look(since + late)
        assert cut_off == expected


def test_a_childs_thread_ends() -> None:
    """C33: where a fork copies greenlets, the one of the parent's lines lets go of them."""
    left: list[Stream] = []
    lines = Lines(Limits(heartbeat=0.1), left.append, lambda stream: None, lambda streams: None)
    before = set(threading.enumerate())
    pair = Pair(lines)
    (thread,) = set(threading.enumerate()) - before
    lines.abandon()
    thread.join(20)
    assert not thread.is_alive()
    assert left == []
    pair.line.close()
    pair.client.close()
