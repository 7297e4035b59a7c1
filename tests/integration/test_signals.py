"""Signals for the host, and closing in the host's own transaction, on every host."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from blinker import Signal

import nursecare_chat
from nursecare_chat import message_created, thread_closed, thread_opened, thread_purged

from ..support.hosts import Api, Workbench

pytestmark = pytest.mark.one_process

SIGNALS = (thread_opened, message_created, thread_closed, thread_purged)


class Heard:
    """What a host that listens to everything has heard: ``(signal's name, arguments)``."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._receivers = [(signal, self._receiver(signal)) for signal in SIGNALS]
        for signal, receiver in self._receivers:
            signal.connect(receiver, bench.app)

    def _receiver(self, signal: Signal) -> Any:
        def receive(sender: Any, **ids: Any) -> None:
            assert sender is self.bench.app
            self.events.append((signal.name.removeprefix("chat-"), ids))
            # A host may do anything with its own session here, and what is told stands by now.
            self.bench.host.db.session.scalar(sa.select(sa.func.count()).select_from(self.bench.host.user_model))

        return receive

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def stop(self) -> None:
        for signal, receiver in self._receivers:
            signal.disconnect(receiver, self.bench.app)


@pytest.fixture
def heard(bench: Workbench) -> Iterator[Heard]:
    heard = Heard(bench)
    yield heard
    heard.stop()


def test_they_are_public_names() -> None:
    """C44."""
    assert {signal.name for signal in SIGNALS} == {
        "chat-thread-opened", "chat-message-created", "chat-thread-closed", "chat-thread-purged",
    }  # fmt: skip
    assert {"thread_opened", "message_created", "thread_closed", "thread_purged"} <= set(nursecare_chat.__all__)


def test_the_life_of_a_chat(bench: Workbench, client_api: Api, admin_api: Api, heard: Heard) -> None:
    """C44: each once, with ids as the host knows them, and nothing of what was written."""
    thread = client_api.open(1).get_json()["threadId"]
    admin_api.open(1)
    said = client_api.say(thread, "canary", clientMessageId="k").get_json()
    client_api.say(thread, "canary", clientMessageId="k")
    client_api.close(thread)
    admin_api.close(thread)
    with bench.app.app_context():
        client, request = bench.host.user_id("client"), bench.host.request_id(1)
    assert sorted(heard.names) == ["message-created", "thread-closed", "thread-opened", "thread-purged"]
    events = dict(heard.events)
    assert events["thread-opened"] == {
        "thread_id": thread, "request_id": request, "client_id": client, "admin_id": None,
    }  # fmt: skip
    assert events["message-created"] == {
        "thread_id": thread, "message_id": said["id"], "seq": 1, "type": "text", "sender_id": client,
    }  # fmt: skip
    assert events["thread-closed"] == {"thread_id": thread, "request_id": request, "last_seq": 1}
    assert events["thread-purged"] == {"thread_id": thread, "request_id": request}
    assert "canary" not in str(heard.events)


def test_what_is_refused_is_not_told(bench: Workbench, client_api: Api, heard: Heard, thread: int) -> None:
    """C44: after a commit only."""
    heard.events.clear()
    bench.login("nurse").open(1)
    bench.login("nurse").say(thread)
    client_api.say(thread, "")
    client_api.open(1)
    assert heard.events == []


def test_a_receiver_that_raises_harms_nobody(
    bench: Workbench, client_api: Api, admin_api: Api, heard: Heard, thread: int, caplog: pytest.LogCaptureFixture
) -> None:
    """C44: the answer, the other receivers and the ring are as without it; the log names the signal only."""
    rings: list[Any] = []
    bench.state.messages._ring = rings.append

    def broken(sender: Any, **ids: Any) -> None:
        raise RuntimeError("canary in the host's own words")

    with message_created.connected_to(broken, bench.app):
        assert client_api.say(thread).status_code == 200
    assert heard.names[-1] == "message-created"
    assert len(rings) == 1
    (record,) = [record for record in caplog.records if record.getMessage() == "chat signal receiver raised"]
    assert (record.signal, record.error, record.levelno) == ("chat-message-created", "RuntimeError", logging.ERROR)
    assert "canary" not in caplog.text


def test_another_application_hears_nothing(make_bench: Any) -> None:
    """C44, C1: the sender is the application."""
    first, second = make_bench("reference"), make_bench("reference")
    heard = Heard(second)
    first.login("client").open(1)
    heard.stop()
    assert heard.events == []


# -- close_request -------------------------------------------------------------------------------------------------


class Completing:
    """A host that marks a request as done, in an application context."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.session = bench.host.db.session
        self.context = bench.app.app_context()

    def __enter__(self) -> Completing:
        self.context.push()
        return self

    def __exit__(self, *exc: object) -> None:
        self.context.pop()

    def close(self, number: int = 1) -> bool:
        request = self.session.get(self.bench.host.request_model, self.bench.host.request_id(number))
        return bool(self.bench.chat.close_request(request))


def status(bench: Workbench, thread: int) -> str:
    shown: str = bench.login("client").thread(thread).get_json()["status"]
    return shown


def test_it_follows_the_hosts_commit(bench: Workbench, client_api: Api, thread: int, heard: Heard) -> None:
    """C44: nothing before it; then the event, the signals and the erasure, once."""
    client_api.say(thread, "gone soon")
    rings: list[Any] = []
    bench.state.threads._ring = rings.append
    heard.events.clear()
    with Completing(bench) as host:
        assert host.close() is True
        assert (heard.events, rings) == ([], [])
        host.session.commit()
    assert heard.names == ["thread-closed", "thread-purged"]
    assert [(ring.kind, ring.thread, ring.seq) for ring in rings] == [("closed", thread, 2)]
    assert status(bench, thread) == "closed"
    assert client_api.messages(thread).get_json()["messages"][0]["text"] is None
    assert client_api.say(thread).get_json()["code"] == "thread_closed"


@pytest.mark.parametrize("how", ["rollback", "remove", "close", "exception"])
def test_a_rollback_undoes_it(bench: Workbench, client_api: Api, thread: int, heard: Heard, how: str) -> None:
    """C44: however the host's transaction ends without a commit; the chat goes on."""
    heard.events.clear()
    with Completing(bench) as host:
        host.close()
        if how == "exception":
            with pytest.raises(ZeroDivisionError), host.session.begin_nested():
                raise ZeroDivisionError
            host.session.rollback()
        else:
            getattr(host.session, how)()
        host.session.commit()
    assert heard.events == []
    assert status(bench, thread) == "open"
    assert client_api.say(thread).status_code == 200
    with bench.state.database.read() as connection:
        assert connection.execute(sa.select(bench.state.models.purges)).all() == []


def test_a_rolled_back_savepoint_undoes_it(bench: Workbench, thread: int, heard: Heard) -> None:
    """C44: though the outer transaction is committed."""
    heard.events.clear()
    with Completing(bench) as host:
        savepoint = host.session.begin_nested()
        assert host.close()
        savepoint.rollback()
        host.session.commit()
    assert heard.events == []
    assert status(bench, thread) == "open"


def test_a_released_savepoint_is_no_commit(bench: Workbench, thread: int, heard: Heard) -> None:
    """C44: told when the outer transaction is durable, not before."""
    heard.events.clear()
    with Completing(bench) as host:
        with host.session.begin_nested():
            host.close()
        assert heard.events == []
        with host.session.begin_nested():
            pass
        assert heard.events == []
        host.session.commit()
    assert heard.names == ["thread-closed", "thread-purged"]


def test_savepoint_then_rollback_of_all(bench: Workbench, thread: int, heard: Heard) -> None:
    """C44. Something is written first: to Python's SQLite driver a savepoint alone is no transaction."""
    heard.events.clear()
    with Completing(bench) as host:
        bench.host.user("nurse").role = None
        bench.host.user("admin").role = None
        host.session.flush()
        with host.session.begin_nested():
            host.close()
        host.session.rollback()
        host.session.commit()
    assert heard.events == []
    assert status(bench, thread) == "open"


def test_several_in_one_transaction_and_again(bench: Workbench, client_api: Api, heard: Heard) -> None:
    """C44, C26: each is told once; one without a chat, or closed already, is no error."""
    threads = [client_api.open(number).get_json()["threadId"] for number in (1, 2)]
    heard.events.clear()
    with Completing(bench) as host:
        assert [host.close(number) for number in (1, 2, 1, 3)] == [True, True, False, False]
        host.session.commit()
        assert sorted(heard.names) == ["thread-closed"] * 2 + ["thread-purged"] * 2
        assert host.close(1) is False
        host.session.commit()
    assert len(heard.events) == 4
    assert [status(bench, thread) for thread in threads] == ["closed", "closed"]


def test_the_hosts_own_changes_go_along(bench: Workbench, thread: int) -> None:
    """C44: one transaction; what the host wrote with it stands or falls with it."""
    with Completing(bench) as host:
        bench.host.user("nurse").role = None
        host.close()
        assert host.session().in_transaction()
        host.session.rollback()
        bench.host.disable("nurse")
        host.close()
        host.session.commit()
    assert status(bench, thread) == "closed"
    assert bench.login("nurse").thread(thread).status_code == 401


def test_within_the_hosts_own_block(
    bench: Workbench, thread: int, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    """C44: receivers have a session that works, though the host's is not done with its commit."""
    heard.events.clear()
    with Completing(bench) as host:
        request_model, number = bench.host.request_model, bench.host.request_id(1)
        with host.session.begin():
            assert bench.chat.close_request(host.session.get(request_model, number))
    assert heard.names == ["thread-closed", "thread-purged"]
    assert "chat signal receiver raised" not in caplog.text


def test_what_is_no_request(bench: Workbench, thread: int, heard: Heard) -> None:
    """C44, C9: a row of another class may have the same key; nobody's chat is closed or forgotten for it."""
    heard.events.clear()
    with Completing(bench) as host:
        user = bench.host.user("admin")
        for wrong in (user, None, 1, "1", object()):
            with pytest.raises(TypeError, match="expected"):
                bench.chat.close_request(wrong)
        for wrong in (None, 1, object(), bench.host.request_model):
            with pytest.raises(TypeError, match="expected"):
                bench.chat.forget(wrong)
        host.session.commit()
    assert heard.events == []
    assert status(bench, thread) == "open"


def test_a_session_that_was_replaced(
    bench: Workbench, thread: int, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C44, C7: as the tests of many a host do it."""
    with Completing(bench) as host:
        monkeypatch.setattr(bench.host.db, "session", bench.host.db._make_scoped_session({}))
        request = bench.host.db.session.get(bench.host.request_model, bench.host.request_id(1))
        assert bench.chat.close_request(request)
        bench.host.db.session.commit()
        bench.host.db.session.remove()
        host.session.remove()
    assert status(bench, thread) == "closed"


def test_a_request_that_is_not_in_the_database_yet(bench: Workbench) -> None:
    """C44: nobody chats about it."""
    with Completing(bench):
        assert bench.chat.close_request(bench.host.request_model()) is False


def test_it_works_switched_off(bench: Workbench, thread: int) -> None:
    """C7, C44: completing requests never strands a chat's data."""
    bench.app.config["CHAT_ENABLED"] = False
    with Completing(bench) as host:
        assert host.close()
        host.session.commit()
    bench.app.config["CHAT_ENABLED"] = True
    with bench.state.database.read() as connection:
        assert connection.scalar(sa.select(bench.state.models.purges.c.state)) == "settled"


def test_the_queue_is_away(bench: Workbench, thread: int, caplog: pytest.LogCaptureFixture) -> None:
    """C44, C36: the host's commit is not disturbed; the purge's row waits for the sweep."""

    def fail(thread_id: int, delay: int) -> None:
        raise ConnectionError("the queue is away")

    bench.state.purges._wake = fail
    with Completing(bench) as host:
        host.close()
        host.session.commit()
    assert bench.state.purges.due() == [thread]
    assert "chat follow-up failed" in caplog.text
