"""PostgreSQL that restarts, hangs, or has a row that somebody does not let go of (contract C10, C13, C23)."""

from __future__ import annotations

import time

import psycopg
import sqlalchemy as sa

from tests.support.postgres import Server as Postgres
from tests.support.postgres import connect

from .outcome import Fault, Outcome, Size
from .scene import Scene

LOCK_TIMEOUT, ANSWER_TIMEOUT = 5.0, 12.0
"""Seconds for which a post may wait for a row, and for an answer of the database's."""

SLACK = 10.0
"""Seconds by which a busy machine may be late at a bound."""


def is_away(server: Postgres) -> bool:
    try:
        connect(server.url.update_query_dict({"connect_timeout": "2"})).close()
    except psycopg.OperationalError:
        return True
    return False


def only_unavailable(scene: Scene, outcome: Outcome) -> None:
    """503, and no other refusal, and nobody waited for ever."""
    refused = {answer for load in scene.loads for answer in load.refused}
    outcome.check(refused <= {"503"}, f"posts were answered {refused}")
    outcome.check(refused, "nobody's post was refused, so the database was not away")


def restarted(outcome: Outcome, size: Size) -> None:
    with Scene(outcome.path, size) as scene:
        load = scene.people()
        scene.postgres.stop()
        assert is_away(scene.postgres)
        time.sleep(size.away / 2)
        scene.postgres.start()
        scene.wait_for_posts(load)
        scene.settle(outcome)
        only_unavailable(scene, outcome)
        outcome.check(load.retried, "no message was sent again")
        scene.streams_stayed(outcome)


def hung(outcome: Outcome, size: Size) -> None:
    """For longer than we wait for an answer. What the host asks waits as long as the host lets it."""
    with Scene(outcome.path, size) as scene:
        load = scene.people()
        scene.postgres.hang()
        time.sleep(ANSWER_TIMEOUT + 2)
        assert is_away(scene.postgres)
        scene.postgres.resume()
        scene.wait_for_posts(load)
        found = scene.settle(outcome)
        refused = {*load.refused} - {"503"}
        outcome.check(not refused, f"posts were answered {refused}")
        outcome.check(found.longest > ANSWER_TIMEOUT, "nobody waited, so the database was there")
        outcome.check(load.slowest < 2 * ANSWER_TIMEOUT + SLACK, f"a post waited for {load.slowest:.0f} s")
        scene.streams_stayed(outcome)


def locked(outcome: Outcome, size: Size) -> None:
    """Some wait for one chat's row, while posts to others go on, and everybody's lists and streams."""
    with Scene(outcome.path, size) as scene:
        others = scene.people()
        chat = scene.live.new_thread()
        scene.chats.append(chat)
        watching = scene.listen([chat])
        with connect(sa.make_url(scene.live.bench.url)) as holder, holder.transaction():
            holder.execute("SELECT 1 FROM chat_threads WHERE id = %s FOR UPDATE", [chat])
            stuck = scene.post([chat], people=4)
            began, posted = time.monotonic(), len(others.posts)
            time.sleep(LOCK_TIMEOUT + 3)
            outcome.check(not stuck.posts, "a post went past the row's lock")
            outcome.check(stuck.refused["503"], "no post to the locked chat was refused")
            pace = (len(others.posts) - posted) / (time.monotonic() - began)
            outcome.check(pace > 1, "posts to other chats did not go on")
            for path in (f"/api/chat/threads/{chat}", f"/api/chat/threads/{chat}/messages", "/api/chat/threads"):
                status = scene.live.login("client").http.get(path).status_code
                outcome.check(status == 200, f"{path} was answered {status} meanwhile")
        scene.wait_for_posts(stuck, count=10)
        scene.settle(outcome)
        only_unavailable(scene, outcome)
        outcome.check(not others.refused, f"posts to other chats were refused: {dict(others.refused)}")
        outcome.check(stuck.slowest < LOCK_TIMEOUT + SLACK, f"a post waited for {stuck.slowest:.0f} s")
        outcome.check(watching[0].came, "the chat's stream brought nothing")
        scene.streams_stayed(outcome)


FAULTS = (
    Fault("postgresql restarted", "posts 503 with Retry-After, sent again: one row; streams stay", restarted),
    Fault("postgresql hung", "posts wait, or 503 and are sent again: one row; streams stay, and catch up", hung),
    Fault("postgresql row locked", "503 with Retry-After after 5 s, on posts to that chat only", locked),
)
