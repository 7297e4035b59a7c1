"""What is known of the server's worker."""

from __future__ import annotations

import resource
import signal
from types import SimpleNamespace

import pytest
from gunicorn.workers.ggevent import GeventWorker
from gunicorn.workers.gthread import ThreadWorker

from nursecare_chat.stream.server import SINGLE, UNKNOWN, find_worker

THREADED = {"wsgi.multithread": True}


def test_one_request_at_a_time() -> None:
    """C45: no place for a stream."""
    assert find_worker({"wsgi.multithread": False}) is SINGLE
    assert not SINGLE.take()


def test_a_server_that_says_nothing() -> None:
    """C45: any number."""
    assert find_worker(THREADED) is UNKNOWN
    assert UNKNOWN.take()
    UNKNOWN.give_back()


@pytest.mark.parametrize(
    ("kind", "threads", "places"), [(ThreadWorker, 5, 2), (ThreadWorker, 1, 0), (GeventWorker, 9, 75)]
)
def test_gunicorns_worker(monkeypatch: pytest.MonkeyPatch, kind: type, threads: int, places: int | None) -> None:
    """C45: half of its threads, else three quarters of its files, for all applications together; and when it stops."""
    monkeypatch.setattr(resource, "getrlimit", lambda what: (100, 1000))
    gunicorns = object.__new__(kind)
    gunicorns.cfg, gunicorns.alive = SimpleNamespace(threads=threads), True
    before = signal.signal(signal.SIGTERM, gunicorns.handle_exit)
    try:
        worker, again = find_worker(THREADED), find_worker(THREADED)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert worker is again
    assert worker.places == places
    assert [worker.take() for _ in range(places + 1)] == [True] * places + [False]
    for _ in range(places):
        worker.give_back()
    assert not worker.stopping()
    gunicorns.alive = False
    assert worker.stopping()
