"""The hub on a log in memory, where every interleaving can be arranged."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext

import pytest

from nursecare_chat.errors import DatabaseUnavailable, StorageUnavailable
from nursecare_chat.stream import body as body_module
from nursecare_chat.stream import event
from nursecare_chat.stream import hub as hub_module
from nursecare_chat.stream import lines as lines_module
from nursecare_chat.stream.body import StreamBody
from nursecare_chat.stream.doorbell import MemoryDoorbell, Ring
from nursecare_chat.stream.hub import Hub
from nursecare_chat.stream.interfaces import Entry, Head, Limits, News
from nursecare_chat.stream.outlet import MAX_BACKLOG, Queue
from nursecare_chat.stream.subscriber import Stream


class Memory:
    """One thread's log. ``between`` runs after each read, as somebody else's commit would."""

    def __init__(self) -> None:
        self.last_seq = 0
        self.farewell: bytes | None = None
        self.between = lambda: None

    def news(self, positions: Mapping[int, int]) -> tuple[dict[int, News], bool]:
        head = Head(self.last_seq, self.farewell)
        news = {thread: News(head, self.after(thread, seq)) for thread, seq in positions.items()}
        self.between()
        return {thread: said for thread, said in news.items() if said.entries or self.farewell}, True

    def after(self, thread: int, seq: int) -> list[Entry]:
        found = range(seq + 1, min(self.last_seq, seq + 100) + 1)
        return [
            Entry(number, "s", lambda own, mount, n=number: (b"own %d;" if own else b"%d;") % n) for number in found
        ]


@pytest.fixture
def log() -> Memory:
    return Memory()


@pytest.fixture
def hub(log: Memory, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Never polls: what it finds it finds by a ring or by looking once more."""
    monkeypatch.setattr(hub_module, "POLL", 3600.0)
    return Hub(log, None, lambda pairs: set(), MemoryDoorbell(), Limits(heartbeat=0.2), nullcontext)


@pytest.fixture
def connected(hub: Hub) -> Iterator[tuple[Stream, Queue, socket.socket]]:
    """A stream that a server carries, what is written to it, and the client's end."""
    ours, theirs = socket.socketpair()
    queue = Queue({"gunicorn.socket": ours})
    ours.close()
    theirs.settimeout(20)
    stream = Stream(1, "u", 0)
    stream.outlet = queue
    hub.join(stream)
    yield stream, queue, theirs
    theirs.close()
    hub.leave(stream)


def test_disconnected_while_it_is_taken_over(
    hub: Hub, log: Memory, connected: tuple[Stream, Queue, socket.socket]
) -> None:
    """C34: whoever lost access meanwhile gets the end, and no frame."""
    stream, queue, client = connected
    hub._answer(Ring("disconnect", user="u"))
    assert hub.adopt(stream, queue, True, time.monotonic() + 60)
    log.last_seq = 1
    hub.go_live(stream)
    assert client.recv(1000) == b"0\r\n\r\n"
    assert client.recv(1000) == b""
    assert hub.count() == 0


@pytest.mark.parametrize("trouble", [OSError("too many open files"), RuntimeError("can't start new thread")])
def test_what_cannot_be_taken_over_stays(
    hub: Hub, connected: tuple[Stream, Queue, socket.socket], monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    """C35, C45: without a descriptor or a thread to be had the server goes on to write it."""
    stream, queue, _ = connected

    def fail() -> type:
        raise trouble

    monkeypatch.setattr(lines_module, "_epoll", fail)
    assert not hub.adopt(stream, queue, True, time.monotonic() + 60)
    hub.go_live(stream)
    assert stream.push(b"frame")
    assert queue.take(1) == b"frame"
    assert not queue.gone()
    assert hub.count() == 1


def bare(frames: bytes) -> bytes:
    """Without heartbeats and the retry at the start."""
    return re.sub(rb":\n\n|retry: \d+\n\n", b"", frames)


def read(frames: Iterator[bytes], until: bytes, seconds: float = 10) -> bytes:
    received = b""
    deadline = time.monotonic() + seconds
    while not received.endswith(until):
        assert time.monotonic() < deadline, received
        received += bare(next(frames))
    return received


def test_what_is_committed_between_replay_and_live(hub: Hub, log: Memory) -> None:
    """C30: right behind the last page that the replay read, with its ring lost."""
    log.last_seq = 3

    def commit() -> None:
        log.last_seq = 4
        log.between = lambda: None

    log.between = commit
    body = StreamBody(hub, Stream(1, "u", 0), b"", {})
    assert read(body, b"4;") == b"1;2;3;4;"
    body.close()


def test_a_close_between_replay_and_live(hub: Hub, log: Memory) -> None:
    """C32: ThreadClosed comes, and the end."""

    def close() -> None:
        log.farewell = b"bye"
        log.between = lambda: None

    log.between = close
    body = StreamBody(hub, Stream(1, "u", 0), b"", {})
    assert bare(b"".join(body)) == b"bye"
    body.close()


def test_rings_deliver_once_and_in_order(hub: Hub, log: Memory) -> None:
    """C30, C20: rings that are doubled, late, or ahead of each other; the sender's streams get its own frames."""
    bodies = [StreamBody(hub, Stream(1, user, 0), b"", {}) for user in ("u", "s")]
    for body in bodies:
        next(body)
    for seq in (1, 2, 3):
        log.last_seq = seq
    for seq in (3, 1, 1, 2):
        hub._doorbell.ring(Ring("message", thread=1, seq=seq))
    assert read(bodies[0], b"3;") == b"1;2;3;"
    assert read(bodies[1], b"3;") == b"own 1;own 2;own 3;"
    for body in bodies:
        body.close()
    assert hub.count() == 0


def test_own_messages_do_not_overtake(hub: Hub, log: Memory) -> None:
    """C30: whoever lacks what another process wrote before it gets both from the log."""
    stream = Stream(1, "u", 0)
    assert hub.join(stream)
    stream.live, log.last_seq = True, 2
    hub.offer(1, log.after(1, 1)[0])
    assert stream.outlet.empty
    hub.offer(1, log.after(1, 0)[0])
    assert stream.outlet.take(0) == b"1;"
    hub.leave(stream)


def test_who_cannot_take_more_falls_behind(hub: Hub, log: Memory) -> None:
    """C35, C30: and where it was, so that the log gives it what did not fit."""
    stream = Stream(1, "u", 0)
    assert hub.join(stream)
    stream.live, log.last_seq = True, 2
    assert stream.push(b"x" * (MAX_BACKLOG - 1))
    hub.offer(1, log.after(1, 0)[0])
    assert not stream.live
    while not stream.outlet.empty:
        stream.outlet.take(0)
    assert b"".join(stream.page(log)[0]) == b"1;2;"
    hub.leave(stream)


def test_who_goes_live_while_the_log_is_read(hub: Hub, log: Memory) -> None:
    """C30: what was read is for streams that were further; one that was not loses nothing between."""
    early, late = Stream(1, "u", 0), Stream(1, "u", 0)
    for stream in (early, late):
        assert hub.join(stream)
    early.position, early.live, late.position = 3, True, 1

    def go_live() -> None:
        log.between = lambda: None
        hub.go_live(late)

    log.last_seq, log.between = 4, go_live
    hub._answer(Ring("message", thread=1, seq=4))
    received = {}
    for stream in (early, late):
        received[stream] = b""
        deadline = time.monotonic() + 10
        while not received[stream].endswith(b"4;"):
            assert time.monotonic() < deadline, received
            received[stream] += stream.outlet.take(0.1) or b""
    assert [received[stream] for stream in (early, late)] == [b"4;", b"2;3;4;"]
    for stream in (early, late):
        hub.leave(stream)


def test_an_idle_stream_is_not_silent(log: Memory) -> None:
    """C29, C33: a thread of the server's writes comments meanwhile."""
    limits = Limits(heartbeat=0.05, max_age=1)
    hub = Hub(log, None, lambda pairs: set(), MemoryDoorbell(), limits, nullcontext)
    body = StreamBody(hub, Stream(1, "u", 0), b"", {})
    frames = list(body)
    body.close()
    assert event.HEARTBEAT in frames


def test_recycled(log: Memory) -> None:
    """C34: also where a thread of the server's writes it."""
    limits = Limits(heartbeat=0.2, max_age=0.3)
    hub = Hub(log, None, lambda pairs: set(), MemoryDoorbell(), limits, nullcontext)
    body = StreamBody(hub, Stream(1, "u", 0), b"", {})
    writer = threading.Thread(target=lambda: list(body), daemon=True)
    writer.start()
    writer.join(5)
    ended = not writer.is_alive()
    body.close()
    assert ended


def test_a_close_behind_more_than_a_page(hub: Hub, log: Memory) -> None:
    """C32: the farewell comes behind the last message, not behind the first page."""
    stream = Stream(1, "u", 0)
    assert hub.join(stream)
    stream.live, log.last_seq, log.farewell = True, 250, b"bye"
    hub._answer(Ring("closed", thread=1, seq=251))
    received, deadline = b"", time.monotonic() + 10
    while not stream.drained:
        assert time.monotonic() < deadline, received
        received += stream.outlet.take(0.1) or b""
    assert received == b"".join(b"%d;" % seq for seq in range(1, 251)) + b"bye"
    hub.leave(stream)


def test_a_cut_stream_takes_nothing_more() -> None:
    """C34: what was queued is dropped, what comes is refused."""
    stream = Stream(1, "u", 0)
    stream.push(b"before")
    stream.cut()
    assert not stream.push(b"after")
    assert stream.drained
    assert stream.outlet.take(0) == b""


def test_a_finished_stream_delivers_what_waits() -> None:
    """C32."""
    stream = Stream(1, "u", 0)
    stream.push(b"last")
    stream.finish()
    assert not stream.drained
    assert stream.outlet.take(0) == b"last"
    assert stream.drained


def test_the_bound_on_what_waits() -> None:
    """C35: beyond it the writer reads the log instead."""
    stream = Stream(1, "u", 0)
    frame = b"x" * 1000
    pushed = 0
    while stream.push(frame):
        pushed += 1
    assert pushed == MAX_BACKLOG // 1000
    stream.outlet.take(0)
    assert stream.push(frame)


def test_what_fails_for_one_thread_holds_up_no_other(hub: Hub, log: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """C31: whatever it is that fails, and the one comes by itself when it does no more."""
    streams = [Stream(thread, "u", 0) for thread in range(1, 6)]
    for stream in streams:
        stream.position, stream.live = 0, True
        assert hub.join(stream)
    real, broken = log.after, [True]

    def after(thread: int, seq: int) -> list[Entry]:
        if thread in (1, 3) and broken:
            raise (RuntimeError if thread == 1 else StorageUnavailable)("no signature")
        return real(thread, seq)

    monkeypatch.setattr(log, "after", after)
    log.last_seq = 2
    for count in range(2):
        for stream in streams:
            hub._answer(Ring("message", thread=stream.thread, seq=2))
        deadline = time.monotonic() + 10
        expected = [0, 2, 0, 2, 2] if count == 0 else [2] * 5
        while [stream.position for stream in streams] != expected:
            assert time.monotonic() < deadline, [stream.position for stream in streams]
            time.sleep(0.01)
        broken.clear()
    for stream in streams:
        hub.leave(stream)


def test_a_stream_that_waits_for_the_database_is_not_silent(
    hub: Hub, log: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C29, C31: proxies would give it up."""
    monkeypatch.setattr(body_module, "DATABASE_PAUSE", 0.01)
    away = [True]
    real = log.after

    def after(thread: int, seq: int) -> list[Entry]:
        if away:
            raise DatabaseUnavailable("OperationalError", None)
        return real(thread, seq)

    monkeypatch.setattr(log, "after", after)
    log.last_seq = 1
    body = StreamBody(hub, Stream(1, "u", 0), b"", {})
    next(body)
    assert [next(body) for _ in range(3)] == [b":\n\n"] * 3
    away.clear()
    assert read(body, b"1;").endswith(b"1;")
    body.close()
