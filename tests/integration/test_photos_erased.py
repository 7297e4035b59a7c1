"""Photos after the close, on every host, and in the logs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nursecare_chat.clock import utcnow
from nursecare_chat.errors import StorageUnavailable
from nursecare_chat.service import purges
from nursecare_chat.storage import names
from nursecare_chat.testing import advance

from ..support.hosts import VARIED, Api, Workbench
from ..support.photos import issue, media, post, put, refused, upload
from ..support.pictures import JPEG
from ..support.sse import parse


@pytest.fixture
def purge_state(bench: Workbench) -> Callable[[int], Any]:
    def state(thread: int) -> Any:
        table = bench.state.models.purges
        with bench.state.database.read() as connection:
            return connection.execute(sa.select(table).where(table.c.thread_id == thread)).one()

    return state


def test_closing_erases_photos(
    bench: Workbench, client_api: Api, thread: int, purge_state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C37, C20: posted, waiting and half-done ones; the old address is dead, the list says null."""
    url = post(client_api, thread, upload(client_api, thread)).get_json()["media_url"]
    upload(client_api, thread)
    root = Path(bench.state.storage._root)
    (root / names.prefix(thread) / "half.part").write_bytes(JPEG)
    other = client_api.open(2).get_json()["threadId"]
    kept = post(client_api, other, upload(client_api, other)).get_json()["media_url"]
    client_api.close(thread)
    assert not (root / names.prefix(thread)).exists()
    assert client_api.call("GET", url).status_code == 404
    assert client_api.messages(thread).get_json()["messages"][0]["media_url"] is None
    assert client_api.call("GET", kept).status_code == 200
    purge = purge_state(thread)
    assert (purge.state, purge.blobs_found, purge.blobs_deleted) == ("verified_empty", 3, 3)
    messages = bench.state.models.messages.c
    with bench.state.database.read() as connection:
        assert connection.scalar(sa.select(messages.media_path).where(messages.thread_id == thread)) is None


@pytest.mark.parametrize("bench", VARIED, indirect=True)
def test_closed_and_not_erased_yet(bench: Workbench, client_api: Api, thread: int) -> None:
    """C20: no address is signed from the close on, neither by the list nor by a stream: it would outlive its photo."""
    post(client_api, thread, upload(client_api, thread))
    assert client_api.messages(thread).get_json()["messages"][0]["media_url"]
    with bench.state.database.write() as unit:
        unit.connection.execute(bench.state.models.threads.update().values(status="closed", closed_at=utcnow()))
    (listed,) = client_api.messages(thread).get_json()["messages"]
    replayed = parse(client_api.stream(thread, "0", environ_overrides={"wsgi.multithread": False}).data)[1]
    assert [message["media_url"] for message in (listed, replayed[0].json)] == [None, None]


def test_a_late_put_is_erased_by_the_second_pass(
    bench: Workbench, client_api: Api, thread: int, purge_state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C39: an address from before the close can still write; the purge settles behind its horizon only."""
    issued = issue(client_api, thread).get_json()
    client_api.close(thread)
    purge = purge_state(thread)
    assert purge.state == "verified_empty"
    assert purge.settled_at is None
    horizon = purge.next_attempt_at - purge.closed_at
    assert timedelta(minutes=34) < horizon < timedelta(minutes=36)
    for early in (False, True):  # nor does an operator hurry what did not fail
        assert not bench.state.purges.run(thread, early=early)
    assert put(client_api, issued) == 201
    assert len(media(bench, thread)) == 1
    advance(bench.app, 36 * 60)
    for state, deleted in (("verified_empty", 1), ("verified_empty", 1), ("settled", 1)):
        assert bench.state.purges.run(thread)
        assert media(bench, thread) == []
        assert not bench.state.purges.run(thread)
        advance(bench.app, 61)
        purge = purge_state(thread)
        assert (purge.state, purge.blobs_deleted) == (state, deleted)
    assert not bench.state.purges.run(thread)


def hurry(bench: Workbench) -> None:
    """Make every purge due."""
    table = bench.state.models.purges
    with bench.state.database.write() as unit:
        due = table.update().where(table.c.next_attempt_at.is_not(None))
        unit.connection.execute(due.values(next_attempt_at=table.c.closed_at))


def test_a_folder_that_is_not_mounted_is_not_empty(
    bench: Workbench, client_api: Api, thread: int, purge_state: Any
) -> None:
    """C37, C38: tried again with an error, never settled; it goes on when the folder is back."""
    post(client_api, thread, upload(client_api, thread))
    root = Path(bench.state.storage._root)
    for instead in ("missing", "empty"):
        root.rename(root.with_name("elsewhere"))
        if instead == "empty":
            root.mkdir()
        if instead == "missing":
            client_api.close(thread)
        else:
            hurry(bench)
            bench.state.purges.run(thread)
        purge = purge_state(thread)
        assert (purge.state, purge.purged_at) == ("text_erased", None)
        assert purge.last_error.startswith("FolderMissing")
        if instead == "empty":
            root.rmdir()
        root.with_name("elsewhere").rename(root)
    hurry(bench)
    assert bench.state.purges.run(thread)
    assert (purge_state(thread).state, purge_state(thread).blobs_deleted) == ("verified_empty", 1)
    assert media(bench, thread) == []


def test_failures_of_the_second_pass_count_anew(
    bench: Workbench, client_api: Api, thread: int, purge_state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C38: five before it is stalled, whatever happened before it was purged."""
    issue(client_api, thread)

    def away(prefix: str, progress: Any) -> int:
        raise OSError("no route to the storage")

    with monkeypatch.context() as patch:
        patch.setattr(bench.state.storage, "delete_prefix", away)
        client_api.close(thread)
        for _ in range(3):
            hurry(bench)
            bench.state.purges.run(thread)
    assert purge_state(thread).failures == 4
    hurry(bench)
    assert bench.state.purges.run(thread)
    assert (purge_state(thread).state, purge_state(thread).failures) == ("verified_empty", 0)
    monkeypatch.setattr(bench.state.storage, "delete_prefix", away)
    for count in range(1, 6):
        hurry(bench)
        assert not bench.state.purges.run(thread)
        assert (purge_state(thread).state, purge_state(thread).failures) == (
            "stalled" if count == 5 else "verified_empty",
            count,
        )


def test_a_storage_that_is_away_holds_the_purge_up(
    bench: Workbench, client_api: Api, thread: int, purge_state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C38, C37: tried again, and not purged before the photos are gone."""
    upload(client_api, thread)

    def away(prefix: str, progress: Any) -> int:
        raise OSError("no route to the storage")

    with monkeypatch.context() as patch:
        patch.setattr(bench.state.storage, "delete_prefix", away)
        client_api.close(thread)
    purge = purge_state(thread)
    assert (purge.state, purge.attempts, purge.last_error) == ("text_erased", 1, "OSError")
    assert purge.purged_at is None
    with monkeypatch.context() as patch:
        patch.setattr(bench.state.storage, "delete_prefix", lambda prefix, progress: 0)
        hurry(bench)
        assert not bench.state.purges.run(thread)
    assert purge_state(thread).last_error == "BlobsLeft"


@pytest.mark.one_process
def test_no_text_waits_for_anothers_photos(
    bench: Workbench, client_api: Api, monkeypatch: pytest.MonkeyPatch, purge_state: Any
) -> None:
    """C36, C37: a sweep erases the text of all that is due before it asks the storage, however long that takes."""
    threads = [client_api.open(number).get_json()["threadId"] for number in (1, 2)]
    bench.state.purges._wake = lambda thread_id, delay: None
    for thread in threads:
        client_api.say(thread, "in the way of nobody")
        upload(client_api, thread)
        client_api.close(thread)

    def hang(prefix: str, progress: Any) -> int:
        raise StorageUnavailable("TimeoutError")

    with monkeypatch.context() as patch:
        patch.setattr(bench.state.storage, "delete_prefix", hang)
        patch.setattr(purges, "SWEEP", 0)  # one has taken it all
        bench.state.purges.sweep()
    rows = [purge_state(thread) for thread in threads]
    assert sorted((row.state, row.attempts, row.lease_owner) for row in rows) == [
        ("text_erased", 0, None), ("text_erased", 1, None)
    ]  # fmt: skip
    messages = bench.state.models.messages
    with bench.state.database.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).where(messages.c.text.is_not(None))) == 0
    hurry(bench)
    assert bench.state.purges.sweep() == 2
    assert {purge_state(thread).blobs_deleted for thread in threads} == {1}


def test_nothing_of_it_is_logged(client_api: Api, thread: int, caplog: pytest.LogCaptureFixture) -> None:
    """C41: neither addresses nor paths, at any level."""
    with caplog.at_level(logging.DEBUG):
        issued = issue(client_api, thread).get_json()
        put(client_api, issued)
        answer = post(client_api, thread, issued["mediaPath"]).get_json()
        client_api.call("GET", answer["media_url"])
        refused(post(client_api, thread, issued["mediaPath"]))
        client_api.close(thread)
    written = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    for secret in (issued["uploadUrl"], answer["media_url"], issued["mediaPath"]):
        assert secret.rpartition("/")[2] not in written
