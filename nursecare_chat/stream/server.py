"""The server's worker under a stream: how many it carries, and when it stops (contract C45)."""

from __future__ import annotations

import resource
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any


class Worker:
    """
    :ivar places: streams that it may carry at once, of all applications in it; ``None`` for any number, 0 for none.
    :ivar stopping: whether it has been told to end.
    """

    def __init__(self, places: int | None = None, stopping: Callable[[], bool] = lambda: False) -> None:
        self.places = places
        self.stopping = stopping
        self._taken = 0
        self._lock = threading.Lock()

    def take(self) -> bool:
        """A place for one more stream; ``False`` if there is none."""
        with self._lock:
            if self.places is not None and self._taken >= self.places:
                return False
            self._taken += 1
            return True

    def give_back(self) -> None:
        """The place that :meth:`take` gave."""
        with self._lock:
            self._taken -= 1


SINGLE, UNKNOWN = Worker(places=0), Worker()
"""One that serves a request at a time, and a server that gives every request a thread."""

_known: weakref.WeakKeyDictionary[Any, Worker] = weakref.WeakKeyDictionary()


def find_worker(environ: Mapping[str, Any]) -> Worker:
    """The worker that is calling us, as far as it can be known; the same one for all applications in it.

    A thread of gunicorn's ``gthread`` is the stream's for as long as that lasts, so streams get half of them and the
    other half answers requests. How many there are stands in gunicorn's worker alone. Elsewhere streams get three
    quarters of the files that the process may open: whoever runs out of these accepts nobody.
    """
    if not environ.get("wsgi.multithread"):
        return SINGLE
    base = sys.modules.get("gunicorn.workers.base")
    gunicorns = base and (_told_to_end(base.Worker) or _caller(base.Worker))
    if not gunicorns:
        return UNKNOWN
    if gunicorns not in _known:
        threaded = sys.modules.get("gunicorn.workers.gthread")
        places = gunicorns.cfg.threads // 2 if threaded and isinstance(gunicorns, threaded.ThreadWorker) else _files()
        of_it = weakref.ref(gunicorns)
        _known.setdefault(gunicorns, Worker(places, lambda: not getattr(of_it(), "alive", False)))
    return _known[gunicorns]


def _files() -> int | None:
    """A stream has one once it is taken over, and two while the server writes it."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else max(1, limit * 3 // 4)


def _told_to_end(kind: type) -> Any:
    """The ``kind`` in this process whose method SIGTERM calls: whatever thread asks, or server stands in between."""
    owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return owner if isinstance(owner, kind) else None


def _caller(kind: type) -> Any:
    """The nearest caller that is a method of a ``kind``: where the host answers SIGTERM by itself."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_varnames[:1] == ("self",) and isinstance(owner := frame.f_locals.get("self"), kind):
            return owner
        frame = frame.f_back
    return None


def at_exit(method: Callable[[str], None], reason: str) -> bool:
    """Call a bound ``method`` when the process exits, if its object still lives; ``False`` if that cannot be had.

    A server whose threads still write streams when it exits would wait for them (gunicorn's gthread on a reload).
    ``atexit`` comes too late for that: the interpreter joins threads first. Where its hook for this is gone, the
    server's own timeout ends them.
    """
    register = getattr(threading, "_register_atexit", None)
    if register is None:
        return False
    reference = weakref.WeakMethod(method)

    def call() -> None:
        if (alive := reference()) is not None:
            alive(reason)

    register(call)
    return True
