"""A good guest: the host's own suite behaves identically without the chat, with it switched off, and with it on."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ..support.guest import VARIANTS, Host, own_suite, setup_of
from ..support.pictures import picture


@pytest.fixture
def make_host(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    hosts: list[Host] = []

    def make(variant: str, **config: Any) -> Host:
        folder = tmp_path / f"{len(hosts)}-{variant}"
        folder.mkdir()
        hosts.append(Host(folder, variant, **config))
        return hosts[-1]

    yield make
    for host in hosts:
        if "nursecare_chat" in host.app.extensions:
            host.app.extensions["nursecare_chat"].database.dispose()
        with host.app.app_context():
            host.db.engine.dispose()


def visit(host: Host) -> Callable[[], None]:
    """Somebody who chats all the while: every route, and things that fail."""
    api, thread, tenants = host.app.test_client(), 0, itertools.count()

    def call(method: str, path: str, **options: Any) -> Any:
        # The host limits every route by tenant, ours too; that is its right, and here not the matter.
        return api.open(path, method=method, headers={"X-Tenant": f"chat {next(tenants)}"}, **options)

    call("POST", "/login", json={"id": 1})

    def chat() -> None:
        nonlocal thread
        thread = (call("POST", "/api/requests/3/chat/open").get_json() or {}).get("threadId", thread)
        messages = f"/api/chat/threads/{thread}/messages"
        call("POST", messages, json={"type": "text", "text": "hello"})
        call("POST", messages, data=b"{" * 70_000)
        call("GET", messages)
        call("GET", "/api/chat/threads")
        call("GET", "/api/chat/nowhere")
        call("GET", f"/api/chat/threads/{thread}/stream", environ_overrides={"wsgi.multithread": False})
        wanted = {"contentType": "image/jpeg", "size": 9999}
        upload = call("POST", f"/api/chat/threads/{thread}/uploads", json=wanted).get_json()
        if "uploadUrl" in upload:
            call("PUT", upload["uploadUrl"], data=picture(size=(300, 300)), content_type="image/jpeg")
            call("POST", messages, json={"type": "image", "mediaPath": upload["mediaPath"]})

    return chat


def test_the_hosts_suite_behaves_identically(make_host: Callable[..., Host]) -> None:
    """C7: answers, headers, cookies, limits, rows, its statements to the last one, and its set-up."""
    seen = {}
    for variant in VARIANTS:
        host = make_host(variant)
        before = setup_of(host)
        host.statements.clear()
        answers = own_suite(host)
        seen[variant] = (answers, list(host.statements), before, setup_of(host))
    assert len(seen["without"][0]) > 45
    for variant in ("off", "on"):
        for ours, theirs in zip(seen[variant], seen["without"], strict=True):
            assert ours == theirs


@pytest.mark.parametrize("variant", ["off", "on"])
def test_while_people_chat(make_host: Callable[..., Host], variant: str) -> None:
    """C7, C10: the same, with chat requests between the host's own; its one connection is never waited for."""
    without, host = make_host("without"), make_host(variant)
    chat = visit(host)
    expected, seen = own_suite(without), own_suite(host, chat)
    assert seen == expected
    if variant == "on":
        state = host.app.extensions["nursecare_chat"]
        with state.database.read() as connection:
            assert connection.scalar(sa.select(sa.func.count()).select_from(state.models.messages)) > 45


def test_switched_off_in_between(make_host: Callable[..., Host]) -> None:
    """C7, C5: at run time, and on again."""
    without, host = make_host("without"), make_host("on")
    chat, turns = visit(host), iter(range(10**6))

    def between() -> None:
        host.app.config["CHAT_ENABLED"] = next(turns) % 2 == 0
        chat()

    assert own_suite(host, between) == own_suite(without)


@pytest.mark.parametrize("variant", VARIANTS)
def test_cascading_deletes(make_host: Callable[..., Host], variant: str) -> None:
    """C7, C9: what nobody chatted about goes with its owner, as without us."""
    host = make_host(variant)
    with host.app.app_context():
        user = host.db.session.get(host.User, 1)
        host.db.session.add(host.Note(job_id=1, text="n"))
        host.db.session.commit()
        host.db.session.delete(user)
        host.db.session.commit()
        assert host.db.session.query(host.Job).count() == 0
        assert host.db.session.query(host.Note).count() == 0


def test_cascading_deletes_of_what_was_chatted_about(make_host: Callable[..., Host]) -> None:
    """C9: forget first, then the host's own cascade goes through; the receipts' rows stay."""
    host = make_host("on", CHAT_RATE_OPEN="off")
    visit(host)()
    with host.app.app_context():
        db, state = host.db, host.app.extensions["nursecare_chat"]
        job = db.session.get(host.Job, 3)
        assert host.chat.forget(job) == (0, 1)
        assert host.chat.close_request(job)
        job.done = True
        db.session.commit()
        purges, uploads = state.models.purges, state.models.uploads
        with state.database.write() as unit:  # as after the horizon of its uploads
            unit.connection.execute(uploads.delete())
        for _ in range(2):
            with state.database.write() as unit:
                unit.connection.execute(purges.update().values(next_attempt_at=purges.c.closed_at))
            assert state.purges.sweep() == 1
        assert host.chat.forget(db.session.get(host.User, 1)) == (1, 0)
        db.session.delete(db.session.get(host.User, 1))
        db.session.commit()
        assert db.session.query(host.Job).count() == 0
        with state.database.read() as connection:
            assert [row.thread_id for row in connection.execute(sa.select(purges))] == [1]
            assert connection.execute(sa.select(state.models.threads)).all() == []


def test_host_logging(make_host: Callable[..., Host], caplog: pytest.LogCaptureFixture) -> None:
    """C7: its own records are its own; ours come under our name alone."""
    host = make_host("on")
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        own_suite(host, visit(host))
    ours = {record.name for record in caplog.records if getattr(record, "chat", False)}
    assert all(name.startswith("nursecare_chat") for name in ours)
    assert not [record for record in caplog.records if record.name == "sqlalchemy.pool.impl.QueuePool"]
