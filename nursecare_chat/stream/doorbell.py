"""Doorbells: they say that something happened, never what (contract C31)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Ring:
    """Ids and numbers only. ``user`` is a key as JSON has it.

    Kinds: ``opened``, ``message`` and ``closed`` (``thread`` is at ``seq``), ``claimed`` (``thread`` has an admin now),
    ``disconnect`` (all streams of ``user`` end).
    """

    kind: str
    thread: int | None = None
    seq: int | None = None
    user: int | str | None = None


class Doorbell(Protocol):
    """What carries rings between the processes of an application. One that is lost costs latency, never data."""

    def listen(self, answer: Callable[[Ring], None]) -> None:
        """Hand every ring for a watched thread, and every ring without a thread, to ``answer``; it does not block."""

    def watch(self, thread: int | None) -> None:
        """This process has a stream of ``thread`` now, ``None``: of an inbox, which may be about any thread."""

    def unwatch(self, thread: int | None) -> None:
        """It has none any more."""

    def ring(self, ring: Ring) -> None:
        """Tell every process. Does not block and does not raise."""


class MemoryDoorbell:
    """Rings in this process alone; what other processes write is found by the hub's polling."""

    def __init__(self) -> None:
        self._answer: Callable[[Ring], None] = lambda ring: None

    def listen(self, answer: Callable[[Ring], None]) -> None:
        self._answer = answer

    def watch(self, thread: int | None) -> None:
        """Nothing to do: every ring of this process arrives."""

    def unwatch(self, thread: int | None) -> None:
        """Nothing to do."""

    def ring(self, ring: Ring) -> None:
        self._answer(ring)
