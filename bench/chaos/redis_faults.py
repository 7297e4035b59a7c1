"""Redis that is not there, hangs, is slow, or cuts connections: nobody notices but by the clock (contract C31)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from tests.support.redis import Server as Redis
from tests.support.slow import Slow
from tests.support.wait import eventually

from .outcome import Fault, Outcome, Size
from .scene import Scene

LAG = 0.7
"""Seconds for which the slow network holds back each kilobyte."""


def is_away(server: Redis) -> bool:
    """Whether it leaves somebody without an answer."""
    try:
        with redis.Redis(port=server.port, socket_timeout=1, socket_connect_timeout=1) as client:
            client.ping()
    except redis.RedisError:
        return True
    return False


def comes_back(scene: Scene, outcome: Outcome) -> None:
    """Streams listen to it again, and nobody restarted anything."""
    try:
        eventually(lambda: all(scene.redis.listeners(chat) for chat in scene.chats), scene.live.server)
    except AssertionError:
        outcome.check(False, "nobody listens to the Redis that is back")


def unnoticed(scene: Scene, outcome: Outcome) -> None:
    scene.settle(outcome)
    scene.never_refused(outcome)
    scene.streams_stayed(outcome)


@contextmanager
def served(outcome: Outcome, size: Size) -> Iterator[Scene]:
    """Under load before and after; inside the block is the fault."""
    with Scene(outcome.path, size) as scene:
        load = scene.people()
        yield scene
        scene.wait_for_posts(load)
        comes_back(scene, outcome)
        unnoticed(scene, outcome)


def down_at_start(outcome: Outcome, size: Size) -> None:
    server = Redis()
    server.kill()
    with Scene(outcome.path, size, redis=server) as scene:
        assert is_away(server)
        load = scene.people()
        time.sleep(size.away / 2)
        scene.caught_up(outcome)
        assert is_away(server)
        server.start()
        scene.wait_for_posts(load)
        comes_back(scene, outcome)
        unnoticed(scene, outcome)


def killed(outcome: Outcome, size: Size) -> None:
    with served(outcome, size) as scene:
        scene.redis.kill()
        time.sleep(size.away)
        scene.caught_up(outcome)
        assert is_away(scene.redis)
        scene.redis.start()


def hung(outcome: Outcome, size: Size) -> None:
    with served(outcome, size) as scene:
        scene.redis.hang()
        time.sleep(size.away)
        scene.caught_up(outcome)
        assert is_away(scene.redis)
        scene.redis.resume()


def slow(outcome: Outcome, size: Size) -> None:
    server = Redis()
    network = Slow(server.port)
    try:
        with Scene(outcome.path, size, redis=server, transport=f"redis://127.0.0.1:{network.port}") as scene:
            load = scene.people()
            network.delay = LAG
            scene.wait_for_posts(load)
            time.sleep(size.away)
            scene.caught_up(outcome)
            network.delay = 0
            scene.wait_for_posts(load)
            unnoticed(scene, outcome)
            assert network.held > 5, "nothing was slow"
    finally:
        network.close()


def cut(outcome: Outcome, size: Size) -> None:
    """By an operator's CLIENT KILL, and by Redis itself when more waits for a subscriber than it keeps."""
    with served(outcome, size) as scene:
        scene.redis.command("CONFIG SET", "client-output-buffer-limit", "pubsub 65536 65536 1")
        ends, cuts = time.monotonic() + size.away, 0
        while time.monotonic() < ends:
            cuts += int(scene.redis.command("CLIENT KILL TYPE", "pubsub"))
            cuts += int(scene.redis.command("CLIENT KILL TYPE", "normal", "SKIPME", "yes"))
            time.sleep(0.7)
            scene.redis.command("PUBLISH", "private-chat.users", "x" * (8 << 20))
            time.sleep(0.7)
        assert cuts >= 2, f"{cuts} connections were cut"


FAULTS = (
    Fault("redis down at start", "it starts; posts 200; streams poll, and ring once it is there", down_at_start),
    Fault("redis killed", "posts 200; streams stay, poll, and ring again by themselves", killed),
    Fault("redis hung", "posts 200; streams stay, poll, and ring again by themselves", hung),
    Fault("redis slow", "posts 200; gaps are found and filled from the database", slow),
    Fault("redis cuts connections", "posts 200; gaps are found and filled from the database", cut),
)
