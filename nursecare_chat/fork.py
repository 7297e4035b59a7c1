"""What a forked child must not share with its parent: locks in mid-use, sockets, pooled connections.

Nor may a worker that is patched by gevent after it was forked (``gunicorn --preload``) keep locks from before: waiting
for one of those stops the whole worker.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    def after_fork(self) -> None:
        """Called in the child before anything else of ours runs there, and once more if it is patched then."""


_kind_of_lock: object = threading.Lock
_objects: WeakSet[Forkable] = WeakSet()


def register(thing: Forkable) -> None:
    """Call ``thing.after_fork()`` in every child, as long as ``thing`` lives."""
    _objects.add(thing)


def _after_fork() -> None:
    for thing in list(_objects):
        thing.after_fork()


def notice_patching() -> None:
    """Make new locks if ``threading`` was patched since they were made. Called before they are used by a request."""
    global _kind_of_lock
    if _kind_of_lock is not threading.Lock:
        _kind_of_lock = threading.Lock
        _after_fork()


os.register_at_fork(after_in_child=_after_fork)
