"""What becomes of rings on their way to Redis."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from nursecare_chat.background import Background
from nursecare_chat.stream.doorbell import Ring
from nursecare_chat.stream.redis_doorbell import RedisDoorbell

from ..support.redis import Server
from ..support.wait import eventually


@pytest.fixture
def background() -> Background:
    return Background("test-rings")


@pytest.fixture
def doorbell(own_redis: Server, background: Background) -> Iterator[RedisDoorbell]:
    doorbell = RedisDoorbell(own_redis.url, background)
    yield doorbell
    assert background.flush(10)
    doorbell.release()


@pytest.fixture
def heard(own_redis: Server) -> Iterator[list[dict[str, Any]]]:
    """What another process hears, as it comes."""
    rings: list[dict[str, Any]] = []
    with redis.Redis(port=own_redis.port) as client, client.pubsub(ignore_subscribe_messages=True) as listening:
        listening.psubscribe(**{"private-chat.*": lambda message: rings.append(json.loads(message["data"]))})
        thread = listening.run_in_thread(sleep_time=0.01, daemon=True)
        eventually(lambda: own_redis.command("PUBSUB", "NUMPAT") == 1)
        yield rings
        thread.stop()
        thread.join()


def said(kind: str, seq: int | None, thread: int | None = 1, user: int | None = None) -> dict[str, Any]:
    return {"kind": kind, "thread": thread, "seq": seq, "user": user}


def test_while_a_connection_is_made(
    doorbell: RedisDoorbell, background: Background, heard: list[dict[str, Any]]
) -> None:
    """C31: of several rings of one kind for one thread the last is enough; all others are kept, in their order."""
    made = threading.Event()
    background.submit(made.wait)
    doorbell.ring(Ring("opened", thread=1, seq=0))
    for seq in range(1, 6):
        doorbell.ring(Ring("message", thread=1, seq=seq))
    doorbell.ring(Ring("message", thread=2, seq=7))
    doorbell.ring(Ring("claimed", thread=1))
    doorbell.ring(Ring("closed", thread=1, seq=6))
    doorbell.ring(Ring("disconnect", user=3))
    doorbell.ring(Ring("disconnect", user=4))
    made.set()
    expected = [
        said("opened", 0), said("message", 5), said("message", 7, thread=2), said("claimed", None), said("closed", 6),
        said("disconnect", None, None, 3), said("disconnect", None, None, 4),
    ]  # fmt: skip
    eventually(lambda: heard == expected)


def test_a_connection_is_kept_and_each_ring_goes_at_once(
    doorbell: RedisDoorbell, background: Background, own_redis: Server, heard: list[dict[str, Any]]
) -> None:
    """C31, C33: nothing in the background is waited for, and one connection carries them all."""
    doorbell.ring(Ring("message", thread=1, seq=1))
    assert background.flush(10)
    held = threading.Event()
    background.submit(held.wait)
    for seq in range(2, 101):
        doorbell.ring(Ring("message", thread=1, seq=seq))
    eventually(lambda: heard == [said("message", seq) for seq in range(1, 101)])
    held.set()
    assert len([one for one in own_redis.clients() if one["name"] == "nursecare-chat"]) == 1


def test_a_connection_that_redis_closed(
    doorbell: RedisDoorbell, background: Background, own_redis: Server, heard: list[dict[str, Any]]
) -> None:
    """C31: as it does with idle ones, or when it restarts: the next ring opens another, and is not lost."""
    doorbell.ring(Ring("message", thread=1, seq=1))
    eventually(lambda: heard == [said("message", 1)])
    own_redis.command("CLIENT", "KILL", "TYPE", "normal")
    doorbell.ring(Ring("message", thread=1, seq=2))
    eventually(lambda: heard[-1] == said("message", 2))


def test_a_redis_that_refuses(
    doorbell: RedisDoorbell, background: Background, own_redis: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """C31, C41: is said, with no more than the kind of error, and not asked again at once."""
    own_redis.command("ACL", "SETUSER", "default", "resetchannels")
    doorbell.ring(Ring("message", thread=1, seq=1))
    assert background.flush(10)

    def refused() -> bool:
        doorbell.ring(Ring("message", thread=1, seq=2))
        background.flush(10)
        return bool(caplog.records)

    eventually(refused)
    assert [(one.getMessage(), one.__dict__["error"]) for one in caplog.records] == [
        ("chat follow-up failed", "ResponseError")
    ]
    assert not [one for one in own_redis.clients() if one["name"] == "nursecare-chat"]
