"""Content sealed under a key per thread: the same chat for people, nothing for whoever has the database's files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nursecare_chat.errors import KeyStoreUnavailable
from nursecare_chat.service.sealing import FileKeyStore, Sealing
from nursecare_chat.testing import advance

from ..support.hosts import Api, Workbench
from ..support.photos import media, upload

CANARY = "canary-5d27 ünïcödé 🩺"
PLACE = {"type": "location", "lat": 12.3456789, "lng": 98.7654321}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture(params=["reference", "foreign-postgresql"])
def bench(request: pytest.FixtureRequest, make_bench: Callable[..., Workbench], keys: Path) -> Workbench:
    return make_bench(request.param, CHAT_KEYSTORE_URL=keys.as_uri())


def rows(bench: Workbench) -> list[Any]:
    with bench.state.database.read() as connection:
        return list(connection.execute(sa.select(bench.state.models.messages).order_by("seq")).all())


def receipt(api: Api, thread: int) -> dict[str, Any]:
    shown: dict[str, Any] = api.call("GET", f"/api/chat/threads/{thread}/receipt").get_json()
    return shown


def talk(api: Api, thread: int) -> None:
    assert api.say(thread, CANARY, clientMessageId="one").status_code == 200
    assert api.post(thread, PLACE).status_code == 200


def test_the_same_chat(bench: Workbench, client_api: Api, admin_api: Api, thread: int, keys: Path) -> None:
    """C41, C19, C20, C23, C30: lists, streams and retries as ever; in the rows nothing that was written."""
    talk(client_api, thread)
    listed = admin_api.messages(thread).get_json()["messages"]
    assert [(one["text"], one["lat"], one["lng"]) for one in listed] == [
        (CANARY, None, None),
        (None, PLACE["lat"], PLACE["lng"]),
    ]
    mine = client_api.messages(thread, after="0").get_json()["messages"][0]
    assert (mine["text"], mine["clientMessageId"]) == (CANARY, "one")
    assert client_api.say(thread, CANARY, clientMessageId="one").get_json()["seq"] == 1
    assert client_api.say(thread, "another", clientMessageId="one").status_code == 422
    client_api.close(thread)
    for row in rows(bench):
        assert (row.text, row.latitude, row.longitude, row.sealed) == (None, None, None, None)
    shown = receipt(client_api, thread)
    assert (shown["state"], shown["rowsRedacted"], shown["recoverableUntil"]) == ("settled", 2, "never")
    assert [file.name for file in keys.iterdir()] == [FileKeyStore.MARKER]
    assert client_api.messages(thread).get_json()["messages"][0]["text"] is None


def test_what_the_rows_have(bench: Workbench, client_api: Api, thread: int, keys: Path) -> None:
    """C41: bound to its thread and place: moved elsewhere, or changed, it shows nothing."""
    talk(client_api, thread)
    other = client_api.open(2).get_json()["threadId"]
    client_api.say(other, "elsewhere")
    before = rows(bench)
    assert all((row.text, row.latitude, row.client_message_id) == (None, None, None) for row in before)
    assert all(row.sealed for row in before)
    assert not any(b"canary" in row.sealed for row in before)
    messages = bench.state.models.messages
    mine = [row for row in before if row.thread_id == thread]
    with bench.state.database.write() as unit:
        for row, sealed in ((mine[0], mine[1].sealed), (mine[1], mine[1].sealed[:-1] + b"\0")):
            unit.connection.execute(messages.update().where(messages.c.id == row.id).values(sealed=sealed))
    shown = client_api.messages(thread).get_json()["messages"]
    assert [(one["text"], one["lat"]) for one in shown] == [(None, None)] * 2
    assert client_api.messages(other).get_json()["messages"][0]["text"] == "elsewhere"
    assert {file.stat().st_mode & 0o777 for file in keys.iterdir()} == {0o600}
    assert keys.stat().st_mode & 0o777 == 0o700


def test_the_store_is_away(bench: Workbench, client_api: Api, thread: int, keys: Path) -> None:
    """C13, C41: 503 to try again, nothing half-written, nothing in the clear; afterwards all is there."""
    talk(client_api, thread)
    (file,) = keys.glob("*.key")
    good = file.read_bytes()
    file.write_bytes(b"damaged")
    refused = client_api.say(thread, CANARY)
    assert (refused.status_code, refused.get_json()["code"], "Retry-After" in refused.headers) == (
        503,
        "unavailable",
        True,
    )
    assert client_api.messages(thread).status_code == 503
    file.write_bytes(good)
    assert client_api.messages(thread).get_json()["messages"][0]["text"] == CANARY


def test_a_folder_that_is_not_mounted(bench: Workbench, client_api: Api, thread: int, keys: Path) -> None:
    """C40, C41: nothing looks destroyed, not even behind a crash between the rows and the key."""
    talk(client_api, thread)
    purges, sealing = bench.state.purges, bench.state.sealing
    keys.rename(keys.with_name("elsewhere"))
    assert (client_api.messages(thread).status_code, client_api.say(thread).status_code) == (503, 503)
    keys.with_name("elsewhere").rename(keys)
    with pytest.MonkeyPatch.context() as patch:

        def crash(thread_id: int, holder: str) -> None:
            raise KeyboardInterrupt

        patch.setattr(sealing, "destroy", crash)
        purges._wake = lambda thread_id, delay: None
        client_api.close(thread)
        if receipt(client_api, thread)["attempts"] == 0:
            with pytest.raises(KeyboardInterrupt):
                purges.run(thread)
    keys.rename(keys.with_name("elsewhere"))
    FileKeyStore(keys).make(99)  # as another chat's first message does it in an empty mount point
    advance(bench.app, 61)
    assert not purges.run(thread)
    assert receipt(client_api, thread)["reason"].startswith("AnotherStore")
    shutil.rmtree(keys)
    keys.with_name("elsewhere").rename(keys)
    advance(bench.app, 31)
    assert purges.run(thread)
    assert (receipt(client_api, thread)["recoverableUntil"], list(keys.glob("*.*"))) == ("never", [])


def test_photos_do_not_wait_for_the_keys(bench: Workbench, client_api: Api, thread: int, keys: Path) -> None:
    """C37, C38: while the key store is away they go, and are counted; the text goes when it is back."""
    talk(client_api, thread)
    upload(client_api, thread)
    keys.rename(keys.with_name("elsewhere"))
    client_api.close(thread)
    assert media(bench, thread) == []
    assert receipt(client_api, thread)["state"] == "pending"
    keys.with_name("elsewhere").rename(keys)
    advance(bench.app, 6)
    assert bench.state.purges.run(thread)
    shown = receipt(client_api, thread)
    assert (shown["state"], shown["rowsRedacted"], shown["blobsDeleted"]) == ("purged", 2, 1)


def test_a_folder_that_was_lost(bench: Workbench, client_api: Api, thread: int, keys: Path) -> None:
    """C40, C41: the open chat cannot be read; its receipt does not say that a key was destroyed."""
    talk(client_api, thread)
    shutil.rmtree(keys)
    for app in bench.apps:  # as after a restart
        app.extensions["nursecare_chat"].sealing.store = FileKeyStore(keys)
    other = client_api.open(2).get_json()["threadId"]
    assert client_api.say(other).status_code == 200  # whoever begins anew puts up with the loss
    assert [one["text"] for one in client_api.messages(thread).get_json()["messages"]] == [None, None]
    client_api.close(thread)
    expected = "unknown" if bench.state.database.dialect == "postgresql" else "never"
    assert receipt(client_api, thread)["recoverableUntil"] == expected


def test_what_a_crash_leaves_beside_a_key(keys: Path) -> None:
    """C41: a second name of the same file goes with it, and an audit sees it."""
    store = FileKeyStore(keys)
    store.make(12)
    store.make(123)
    (keys / "12.0a1b2c3d").hardlink_to(keys / "12.key")
    store.destroy(12)
    assert {file.name for file in keys.iterdir()} == {FileKeyStore.MARKER, "123.key"}
    (keys / "12.0a1b2c3d").touch()
    assert Sealing(store).left_of(12)
    assert not Sealing(FileKeyStore(keys / "never used")).left_of(12)


@pytest.mark.one_process
def test_in_the_clear_before(make_bench: Callable[..., Workbench], keys: Path) -> None:
    """C40, C41: what was written before the store was switched on is not said to be gone from the server's files."""
    bench = make_bench("reference-postgresql", CHAT_KEYSTORE_URL=keys.as_uri())
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    store, bench.state.sealing.store = bench.state.sealing.store, None
    api.say(thread, "in the clear")
    bench.state.sealing.store = store
    api.say(thread, "sealed")
    assert [one["text"] for one in api.messages(thread).get_json()["messages"]] == ["in the clear", "sealed"]
    api.close(thread)
    assert receipt(api, thread)["reason"] == "database_wal_and_backups"


def test_fifty_make_one_key(keys: Path) -> None:
    """C41: whoever is first; a crash in between leaves none or a whole one."""
    with ThreadPoolExecutor(50) as pool:
        assert len({*pool.map(lambda _: FileKeyStore(keys).make(7), range(50))}) == 1
    assert {file.name for file in keys.iterdir()} == {FileKeyStore.MARKER, "7.key"}
    store = FileKeyStore(keys)
    store.destroy(7)
    store.destroy(7)
    assert store.get(7) is None
    (keys / "8.key").write_bytes(b"short")
    with pytest.raises(KeyStoreUnavailable, match="KeyDamaged"):
        store.get(8)
    assert Sealing(None).reveal([]) == []
