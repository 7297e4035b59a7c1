"""Opening, showing and closing over HTTP, on every host."""

from __future__ import annotations

import logging
import re
from threading import Thread
from typing import Any

import pytest

from ..support.hosts import BOTH_WAYS, Api, Workbench

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def wire(value: object) -> object:
    return value if isinstance(value, int) else str(value)


def test_open_gives_the_requests_thread(bench: Workbench, client_api: Api) -> None:
    """C17: 200, a number, open; the client comes from the request."""
    response = client_api.open(1)
    assert response.status_code == 200
    assert response.get_json() == {"threadId": response.get_json()["threadId"], "status": "open"}
    with bench.app.app_context():
        expected = wire(bench.host.user_id("client"))
    shown = client_api.thread(response.get_json()["threadId"]).get_json()
    assert shown["clientId"] == expected
    assert shown["adminId"] is None


def test_an_admin_who_opens_first_is_not_the_client(bench: Workbench, admin_api: Api) -> None:
    """C17: the client is the request's, whoever opens; the admin has it from then on."""
    shown = admin_api.thread(admin_api.open(3).get_json()["threadId"]).get_json()
    with bench.app.app_context():
        assert shown["clientId"] == wire(bench.host.user_id("client2"))
        assert shown["adminId"] == wire(bench.host.user_id("admin"))


def test_thread_shows_every_key(bench: Workbench, client_api: Api, thread: int) -> None:
    """C27, C15, C2: exact keys, UTC times, and host keys as numbers or strings."""
    shown = client_api.thread(thread).get_json()
    assert set(shown) == {
        "threadId", "requestId", "adminId", "clientId", "status", "openedAt", "closedAt", "lastSeq",
    }  # fmt: skip
    assert shown["requestId"] == wire(bench.host.request_id(1))
    assert TIME.fullmatch(shown["openedAt"])
    assert shown["closedAt"] is None
    assert shown["lastSeq"] == 0


def test_open_again_is_the_same_thread(client_api: Api, admin_api: Api, thread: int) -> None:
    """C18: idempotent, for whoever opens."""
    assert [api.open(1).get_json()["threadId"] for api in (client_api, admin_api)] == [thread, thread]


@pytest.mark.one_process
def test_somebody_opens_between_the_look_and_the_insert(
    bench: Workbench, client_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C18: theirs it is."""
    first = client_api.open(1).get_json()
    threads, looks = bench.state.threads, iter(["nothing", "nothing"])
    look = threads._select
    monkeypatch.setattr(threads, "_select", lambda *which: None if next(looks, "") else look(*which))
    again = client_api.open(1)
    assert (again.status_code, again.get_json()) == (200, first)


@pytest.mark.parametrize("host", ["reference", "foreign", "reference-postgresql", "foreign-postgresql"])
def test_fifty_opens_at_once_make_one_thread(make_bench: Any, host: str) -> None:
    """C18: fifty 200s with one id, and one thread; on files, for threads cannot share an in-memory connection."""
    bench = make_bench(host)
    apis = [bench.login("client" if number % 2 else "admin") for number in range(50)]
    responses: list[object] = []
    workers = [Thread(target=lambda api=api: responses.append(api.open(2))) for api in apis]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [response.status_code for response in responses] == [200] * 50
    assert len({response.get_json()["threadId"] for response in responses}) == 1
    assert bench.state.metrics.snapshot()["threads_opened", ""] == 1


@pytest.mark.parametrize(("who", "status"), [("client", 200), ("admin", 200), ("client2", 403), ("nurse", 403)])
def test_who_may_open(bench: Workbench, who: str, status: int) -> None:
    """C17: the request's client and admins."""
    response = bench.login(who).open(1)
    assert response.status_code == status
    if status == 403:
        assert response.get_json()["code"] == "forbidden"


def test_first_admin_claims_by_opening(bench: Workbench, thread: int, admin_api: Api) -> None:
    """C17: claimed once, never overwritten."""
    admin_api.open(1)
    bench.login("admin2").open(1)
    with bench.app.app_context():
        assert admin_api.thread(thread).get_json()["adminId"] == wire(bench.host.user_id("admin"))


def test_first_admin_claims_by_posting(bench: Workbench, thread: int, admin_api: Api) -> None:
    """C17: a look claims nothing, a post does."""
    admin2 = bench.login("admin2")
    assert admin_api.thread(thread).get_json()["adminId"] is None
    admin2.say(thread)
    admin_api.say(thread)
    with bench.app.app_context():
        assert admin_api.thread(thread).get_json()["adminId"] == wire(bench.host.user_id("admin2"))


def test_two_admins_claim_at_once(bench: Workbench, thread: int, admin_api: Api) -> None:
    """C17: both found it unclaimed; the second overwrites nothing."""
    with bench.app.app_context():
        first, second = bench.host.user_id("admin"), bench.host.user_id("admin2")
        assert bench.state.threads._claim(thread, first) is not None
        assert bench.state.threads._claim(thread, second) is None
    assert admin_api.thread(thread).get_json()["adminId"] == wire(first)


def test_open_logs_creation_once(bench: Workbench, caplog: pytest.LogCaptureFixture) -> None:
    """C18: one structured record with the ids."""
    with caplog.at_level(logging.INFO, "nursecare_chat"):
        thread = bench.login("admin").open(1).get_json()["threadId"]
        bench.login("client").open(1)
    (record,) = [record for record in caplog.records if record.getMessage() == "chat thread opened"]
    with bench.app.app_context():
        admin, client = wire(bench.host.user_id("admin")), wire(bench.host.user_id("client"))
    assert (record.chat, record.threadId, record.adminId, record.clientId) == (True, thread, admin, client)
    assert record.requestId == wire(bench.host.request_id(1))


@pytest.mark.parametrize("bench", BOTH_WAYS, indirect=True)
def test_close_is_final_and_idempotent(client_api: Api, admin_api: Api, thread: int) -> None:
    """C26, C18: the same answer again; opening gives the closed thread back."""
    first = client_api.close(thread)
    assert first.status_code == 200
    assert first.get_json()["status"] == "closed"
    assert TIME.fullmatch(first.get_json()["closed_at"])
    assert admin_api.close(thread).get_json() == first.get_json()
    assert client_api.open(1).get_json() == {"threadId": thread, "status": "closed"}
    assert client_api.thread(thread).get_json()["closedAt"] == first.get_json()["closed_at"]


def test_admin_does_not_claim_a_closed_thread(client_api: Api, admin_api: Api, thread: int) -> None:
    """C17, C18: after the close nothing changes any more."""
    client_api.close(thread)
    admin_api.open(1)
    assert admin_api.thread(thread).get_json()["adminId"] is None


@pytest.mark.parametrize(("who", "status"), [("client", 200), ("admin", 200), ("client2", 403), ("nurse", 403)])
def test_who_may_close(bench: Workbench, thread: int, who: str, status: int) -> None:
    """C26: either participant or an admin."""
    assert bench.login(who).close(thread).status_code == status


@pytest.mark.one_process
def test_second_close_writes_nothing(bench: Workbench, client_api: Api, thread: int) -> None:
    """C26: no second event or job."""
    assert [client_api.close(thread).status_code for _ in range(2)] == [200, 200]
    assert bench.state.metrics.snapshot()["threads_closed", ""] == 1
    with bench.state.database.read() as connection:
        assert len(connection.execute(bench.state.models.purges.select()).all()) == 1


@pytest.mark.parametrize("path", ["", "/messages", "/stream"])
@pytest.mark.parametrize("who", ["client2", "nurse"])
def test_strangers_see_nothing(bench: Workbench, client_api: Api, thread: int, who: str, path: str) -> None:
    """C11, C17: forbidden, and no byte of the thread."""
    client_api.say(thread, "between us")
    response = bench.login(who).call("GET", f"/api/chat/threads/{thread}{path}")
    assert (response.status_code, response.get_json()["code"]) == (403, "forbidden")
    assert b"between us" not in response.data


def test_thread_without_admin_is_nobodys(bench: Workbench, nurse_api: Api, thread: int) -> None:
    """C3: an unclaimed thread's empty admin matches no user."""
    assert nurse_api.thread(thread).status_code == 403


def test_unknown_request_and_thread(client_api: Api) -> None:
    """C13, C17: 404 in our shape."""
    for response in (
        client_api.call("POST", "/api/requests/00000000-0000-4000-8000-000000000000/chat/open"),
        client_api.call("POST", "/api/requests/999999/chat/open"),
        client_api.thread(999),
        client_api.close(999),
        client_api.messages(999),
        client_api.stream(999),
        client_api.say(999),
    ):
        assert (response.status_code, response.get_json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("bench", BOTH_WAYS, indirect=True)
def test_forgetting_who_only_asked_to_upload(bench: Workbench, client_api: Api, thread: int) -> None:
    """C9: their row points at the user all the same, so it goes, and the host can delete them."""
    wanted = {"contentType": "image/jpeg", "size": 1}
    bench.login("admin2").call("POST", f"/api/chat/threads/{thread}/uploads", json=wanted)
    client_api.close(thread)
    purges = bench.state.models.purges
    with bench.app.app_context():
        admin = bench.host.user("admin2")
        assert bench.chat.forget(admin) == (0, 1)
        with bench.state.database.write() as unit:
            unit.connection.execute(purges.update().values(state="settled"))
        assert bench.chat.forget(admin) == (1, 0)
        bench.host.db.session.delete(admin)
        bench.host.db.session.commit()


@pytest.mark.parametrize("bench", BOTH_WAYS, indirect=True)
def test_rows_survive_what_c9_promises(bench: Workbench, client_api: Api, admin_api: Api, thread: int) -> None:
    """C9: forget deletes settled threads only, and the receipt's row stays."""
    client_api.say(thread)
    admin_api.say(thread)
    with bench.app.app_context():
        chat = bench.app.extensions["nursecare_chat"]
        request = bench.host.db.session.get(bench.host.request_model, bench.host.request_id(1))
        assert chat.threads.forget(request) == (0, 1)
        client_api.close(thread)
        assert chat.threads.forget(request) == (1, 0)
    assert client_api.thread(thread).status_code == 404
    with bench.state.database.read() as connection:
        (purge,) = connection.execute(bench.state.models.purges.select()).all()
    assert (purge.thread_id, purge.state) == (thread, "settled")
