"""The pool of our own connections: who waits gets the next one, whoever else comes."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from nursecare_chat.service.fair_pool import FairPool, Turns

from ..support.wait import eventually


def make_engine(places: int, timeout: float = 10, creator: Any = None) -> sa.Engine:
    creator = creator or (lambda: sqlite3.connect(":memory:", check_same_thread=False))
    return sa.create_engine(
        "sqlite://", poolclass=FairPool, pool_size=places, max_overflow=0, pool_timeout=timeout, creator=creator
    )


def waiting(turns: Turns) -> int:
    return len(turns._waiting)


def test_first_come_first_served() -> None:
    """C10: five wait in their order; a newcomer, who asks just as a place comes back, is not before them."""
    turns, order = Turns(1), list[int]()
    assert turns.take(1)

    def visit(number: int) -> None:
        assert turns.take(30)
        order.append(number)
        turns.give_back()

    visitors = [threading.Thread(target=visit, args=(number,)) for number in range(5)]
    for number, visitor in enumerate(visitors, 1):
        visitor.start()
        eventually(lambda number=number: waiting(turns) == number)
    turns.give_back()
    assert turns.take(30)  # the place is theirs first
    order.append(5)
    for visitor in visitors:
        visitor.join()
    assert order == [0, 1, 2, 3, 4, 5]


def test_nobody_comes_in_time() -> None:
    """C13: who gives up leaves the row, and no place is lost."""
    engine = make_engine(1, timeout=0.05)
    with engine.connect() as first:
        with pytest.raises(sa.exc.TimeoutError):
            engine.connect()
        assert waiting(engine.pool._turns) == 0
        first.invalidate()
    for _ in range(3):
        with engine.connect() as connection:
            assert connection.scalar(sa.select(1)) == 1


def test_a_connection_that_cannot_be_made() -> None:
    """C13: costs no place, however often; nor does one that is taken out of the pool."""
    working: list[bool] = []

    def create() -> Any:
        if not working:
            raise sqlite3.OperationalError("away")
        return sqlite3.connect(":memory:", check_same_thread=False)

    engine = make_engine(2, timeout=0.05, creator=create)
    for _ in range(5):
        with pytest.raises(sa.exc.OperationalError):
            engine.connect()
    working.append(True)
    taken_out = engine.connect()
    taken_out.detach()
    with engine.connect(), engine.connect():
        pass
    taken_out.close()
    engine.dispose()
    with engine.connect(), engine.connect(), pytest.raises(sa.exc.TimeoutError):
        engine.connect()
    engine.dispose()


def test_a_place_given_to_somebody_who_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """C10: goes to the next."""
    turns = Turns(1)
    assert turns.take(1)

    class Killed(BaseException):
        pass

    class Called:
        """In place of a lock on which a greenlet is killed after it was called."""

        def acquire(self, timeout: float | None = None) -> bool:
            if timeout is not None:
                turns.give_back()
                raise Killed
            return True

        def release(self) -> None:
            pass

    monkeypatch.setattr("nursecare_chat.service.fair_pool.threading.Lock", Called)
    with pytest.raises(Killed):
        turns.take(30)
    monkeypatch.undo()
    assert turns.take(0)
