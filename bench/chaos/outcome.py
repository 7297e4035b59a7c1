"""What a fault did, and how large it was made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

HANDOFF, BODY = PATHS = ("handoff", "body")
"""Who writes streams: the hub, on sockets that it took over from gunicorn's gevent worker, or the server itself."""

NEITHER = "–"
"""The path of a fault that no stream has to do with."""


class Size(NamedTuple):
    """
    :ivar messages: acknowledged at least before a fault, and again after it.
    :ivar away: seconds.
    :ivar crowd: streams that are opened, and vanish at once.
    :ivar rounds: of races.
    :ivar kills: of processes.
    :ivar threads: that are closed and erased while workers are killed, and :ivar blobs: of each.
    """

    chats: int
    streams: int
    posters: int
    messages: int
    away: float
    crowd: int
    rounds: int
    kills: int
    threads: int
    blobs: int


FULL = Size(chats=10, streams=4, posters=6, messages=250, away=8, crowd=1000, rounds=20, kills=6, threads=12, blobs=40)
QUICK = Size(chats=2, streams=2, posters=2, messages=20, away=3, crowd=100, rounds=3, kills=2, threads=3, blobs=8)


@dataclass
class Outcome:
    """One line of the table. A figure is ``None`` where the fault has nothing to do with it.

    :ivar sees: what somebody in front of it sees, which :meth:`check` has looked at.
    :ivar wrong: what was not as it should be, in sentences.
    :ivar longest: seconds.
    """

    fault: str
    path: str
    sees: str
    posted: int | None = None
    lost: int | None = None
    doubled: int | None = None
    left: int | None = None
    leaked: int | None = None
    longest: float | None = None
    wrong: list[str] = field(default_factory=list)

    def check(self, so: object, otherwise: str) -> None:
        if not so:
            self.wrong.append(otherwise)

    @property
    def survived(self) -> bool:
        return not self.wrong and not any((self.lost, self.doubled, self.left, self.leaked))


class Fault(NamedTuple):
    """
    :ivar inject: makes it, and checks what is seen and that it really was there. What it raises counts as wrong.
    :ivar sees: what one sees.
    """

    name: str
    sees: str
    inject: Callable[[Outcome, Size], None]
    paths: tuple[str, ...] = PATHS
