"""What a forked child must not share with its parent: locks in mid-use, sockets, pooled connections."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    def after_fork(self) -> None:
        """Called in the child, before anything else of ours runs there."""


_objects: WeakSet[Forkable] = WeakSet()


def register(thing: Forkable) -> None:
    """Call ``thing.after_fork()`` in every child, as long as ``thing`` lives."""
    _objects.add(thing)


def _after_fork() -> None:
    for thing in list(_objects):
        thing.after_fork()


os.register_at_fork(after_in_child=_after_fork)
