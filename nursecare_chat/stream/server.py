"""The server's worker under a stream: how many it carries, and when it stops (contract C45)."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Worker:
    """
    :ivar places: streams that it may carry at once; ``None`` for any number, 0 for none at all.
    :ivar stopping: whether it has been told to end.
    """

    places: int | None = None
    stopping: Callable[[], bool] = _never


def find_worker(environ: Mapping[str, Any]) -> Worker:
    """The worker that is calling us, as far as it can be known.

    A thread of gunicorn's ``gthread`` is the stream's for as long as that lasts, so streams get half of them and the
    other half answers requests. How many there are stands in the worker alone.
    """
    if not environ.get("wsgi.multithread"):
        return Worker(places=0)
    base = sys.modules.get("gunicorn.workers.base")
    worker = base and (_told_to_end(base.Worker) or _caller(base.Worker))
    if not worker:
        return Worker()
    threaded = sys.modules.get("gunicorn.workers.gthread")
    places = worker.cfg.threads // 2 if threaded and isinstance(worker, threaded.ThreadWorker) else None
    return Worker(places, lambda: not worker.alive)


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
