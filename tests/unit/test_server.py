"""What is known of the server's worker."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest
from gunicorn.workers.gthread import ThreadWorker
from gunicorn.workers.sync import SyncWorker

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
    ("kind", "threads", "places"), [(ThreadWorker, 5, 2), (ThreadWorker, 1, 0), (SyncWorker, 9, None)]
)
def test_gunicorns_worker(monkeypatch: pytest.MonkeyPatch, kind: type, threads: int, places: int | None) -> None:
    """C45: half of its threads, for all applications together; and it says when it stops."""
    gunicorns = object.__new__(kind)
    gunicorns.cfg, gunicorns.alive = SimpleNamespace(threads=threads), True
    before = signal.signal(signal.SIGTERM, gunicorns.handle_exit)
    try:
        worker, again = find_worker(THREADED), find_worker(THREADED)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert worker is again
    assert worker.places == places
    if places is not None:
        assert [worker.take() for _ in range(places + 1)] == [True] * places + [False]
        for _ in range(places):
            worker.give_back()
    assert not worker.stopping()
    gunicorns.alive = False
    assert worker.stopping()
