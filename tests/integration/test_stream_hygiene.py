"""What streams cost and leave behind, seen from inside one process or through its descriptors."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from nursecare_chat.service.messages import Draft
from nursecare_chat.stream.client import ClientSocket
from nursecare_chat.stream.doorbell import Ring
from nursecare_chat.stream.outlet import MAX_BACKLOG, MAX_STUCK, Queue
from nursecare_chat.stream.subscriber import Stream

from ..support.hosts import HOSTS, TESTING, Workbench
from ..support.live import Live, Person
from ..support.servers import serve_here
from ..support.wait import eventually


class Inside:
    """A server in this process and the state behind it."""

    def __init__(self, bench: Workbench, url: str) -> None:
        self.bench, self.url = bench, url
        self.hub = bench.state.hub
        self.people: list[Person] = []

    def login(self, who: str) -> Person:
        self.people.append(Person(self.url, who))
        return self.people[-1]


@pytest.fixture(params=["reference", "reference-postgresql"])
def inside(request: pytest.FixtureRequest, make_bench: Any) -> Iterator[Inside]:
    bench = make_bench(request.param, CHAT_STREAM_HEARTBEAT="60", CHAT_MAX_STREAMS_PER_USER="off")
    with serve_here(bench.app) as url:
        inside = Inside(bench, url)
        yield inside
        for person in inside.people:
            person.http.close()
        eventually(lambda: inside.hub.count() == 0)


def test_idle_streams_hold_no_database_connection(inside: Inside) -> None:
    """C33: neither of our pool nor of the host's."""
    client = inside.login("client")
    thread = client.open(1)
    readers = [client.listen(thread).wait_open() for _ in range(20)]
    eventually(lambda: inside.hub.count() == 20)
    eventually(lambda: inside.bench.state.database.engine.pool.checkedout() == 0)
    with inside.bench.app.app_context():
        host_engine = inside.bench.host.db.engine
    eventually(lambda: host_engine.pool.checkedout() == 0)
    for reader in readers:
        reader.stop()


def test_clients_that_vanish_leave_nothing(inside: Inside) -> None:
    """C33: with a heartbeat of a minute, a look at the sockets finds them; descriptors are back at the baseline."""
    client = inside.login("client")
    thread = client.open(1)
    client.listen(thread).wait_open().stop()
    eventually(lambda: inside.hub.count() == 0)
    gc.collect()
    baseline = len(os.listdir("/proc/self/fd"))
    readers = [client.listen(thread).wait_open() for _ in range(40)]
    eventually(lambda: inside.hub.count() == 40)
    for reader in readers:
        reader.stop()
    eventually(lambda: inside.hub.count() == 0)
    del readers
    gc.collect()
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= baseline + 2)


@pytest.mark.one_process
def test_vanishing_under_gunicorn(live_servers: Callable[..., Live]) -> None:
    """C33: the same for a gevent worker's descriptors."""
    live = live_servers("gevent", CHAT_STREAM_HEARTBEAT="60", CHAT_MAX_STREAMS_PER_USER="off")
    thread = live.new_thread()
    client = live.login("client")
    client.listen(thread).wait_open().stop()
    time.sleep(1)
    baseline = live.server.descriptors()
    for _ in range(3):
        readers = [client.listen(thread).wait_open() for _ in range(60)]
        assert live.server.descriptors() >= baseline + 55  # idle ones of before may have been closed
        for reader in readers:
            reader.stop()
        eventually(lambda: live.server.descriptors() <= baseline + 3)


def test_flag_off_ends_streams(inside: Inside) -> None:
    """C34, C5: within 5 s, and nothing comes back before it is on again."""
    client = inside.login("client")
    thread = client.open(1)
    reader = client.listen(thread).wait_open()
    inside.bench.app.config["CHAT_ENABLED"] = False
    reader.wait_end(6)
    assert client.http.get(f"/api/chat/threads/{thread}/stream").status_code == 501


def test_policy_that_changes_its_mind_or_raises(make_bench: Any) -> None:
    """C34, C3: a policy that says no, or raises, by now ends the stream; other people's stay."""
    bench = make_bench("reference", CHAT_STREAM_HEARTBEAT="60")
    asked: dict[str, Any] = {}

    def view(user: Any, thread: Any) -> bool:
        if user.email in asked:
            raise RuntimeError("the policy's own trouble")
        return True

    bench.state.access.policy.view = view
    with serve_here(bench.app) as url:
        client, nurse = Person(url, "client"), Person(url, "nurse")
        thread = client.open(1)
        reader, bystander = nurse.listen(thread).wait_open(), client.listen(thread).wait_open()
        asked["nurse@nursecare.test"] = True
        reader.wait_end(6)
        client.say(thread, "still here")
        assert bystander.wait(1)
        bystander.stop()
        for person in (client, nurse):
            person.http.close()


def test_one_account_that_raises_stops_nobody_elses_check(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """C34: its own streams end; the next check still ends those of somebody who was disabled."""
    client, nurse, admin = inside.login("client"), inside.login("nurse"), inside.login("admin")
    monkeypatch.setattr(inside.bench.state.access.policy, "view", lambda user, thread: True)
    thread = client.open(1)
    raising, disabled = nurse.listen(thread).wait_open(), client.listen(thread).wait_open()
    bystander = admin.listen(thread).wait_open()

    def active(user: Any) -> bool:
        if user.email.startswith("nurse"):
            raise RuntimeError("no directory")
        return bool(user.active)

    monkeypatch.setattr(inside.bench.host.user_model, "is_active", property(active))
    with inside.bench.app.app_context():
        inside.bench.host.disable("client")
    raising.wait_end(8)
    disabled.wait_end(8)
    assert not bystander.ended.is_set()
    bystander.stop()


@pytest.mark.one_process
def test_whom_a_check_finds(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """C34, C5: accounts that are disabled, or of which that cannot be told; with the flag off everybody."""
    bench = make_bench("reference")
    thread = bench.login("client").open(1).get_json()["threadId"]
    monkeypatch.setattr(bench.state.access.policy, "view", lambda user, thread: True)

    def active(user: Any) -> bool:
        if user.email.startswith("nurse"):
            raise RuntimeError("no directory")
        return bool(user.active)

    with bench.app.app_context():
        pairs = {who: (bench.host.user_id(who), thread) for who in ("client", "nurse", "admin")}
        lost = bench.state.hub._lost_access
        assert lost(pairs.values()) == set()
        monkeypatch.setattr(bench.host.user_model, "is_active", property(active))
        assert lost(pairs.values()) == {pairs["nurse"]}
        bench.host.disable("client")
        assert lost(pairs.values()) == {pairs["nurse"], pairs["client"]}
        bench.app.config["CHAT_ENABLED"] = False
        assert lost(pairs.values()) == set(pairs.values())


def test_a_check_that_fails_outright_ends_the_streams(inside: Inside) -> None:
    """C34, C3: who cannot be checked may not read on."""
    client = inside.login("client")
    thread = client.open(1)
    reader = client.listen(thread).wait_open()
    inside.hub._lost_access = lambda pairs: 1 / 0
    reader.wait_end(6)


def test_forgotten_thread_ends_its_streams(inside: Inside) -> None:
    """C34: where there is no thread there is nothing to view."""
    client = inside.login("client")
    thread = client.open(1)
    reader = client.listen(thread).wait_open()
    with inside.bench.state.database.write() as unit:
        unit.connection.execute(inside.bench.state.models.threads.delete())
    reader.wait_end(6)
    assert reader.events == []


def test_disconnect_ends_a_users_streams(inside: Inside) -> None:
    """C34: chat.disconnect(user), all of that user's and nobody else's."""
    client, admin = inside.login("client"), inside.login("admin")
    thread = client.open(1)
    readers, bystander = [client.listen(thread).wait_open() for _ in range(3)], admin.listen(thread).wait_open()
    from examples.nursecare import chat

    with inside.bench.app.app_context():
        chat.disconnect(inside.bench.host.user("client"))
    for reader in readers:
        reader.wait_end(2)
    client.say(thread)
    bystander.wait(1)
    assert not bystander.ended.is_set()
    bystander.stop()


@pytest.mark.one_process
@pytest.mark.parametrize("host", ["reference", "reference-postgresql"])
def test_a_child_starts_afresh(make_bench: Any, host: str) -> None:
    """C33: whatever another thread of the parent held while it forked, and whatever streams it had."""
    bench = make_bench(host)
    state, hub = bench.state, bench.state.hub
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    ours, theirs = socket.socketpair()
    stream = Stream(thread, 7, 0)
    stream.outlet = Queue({"werkzeug.socket": ours})
    hub.join(stream)
    with hub._lock, state.database._setup, state.database._turn:
        read_end, write_end = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python 3.12 warns of a fork beside other threads, which is the point
            child = os.fork()
        if child == 0:
            signal.alarm(20)
            answer = api.say(thread, "from the child").status_code
            os.write(write_end, f"{answer} {hub.count()}".encode())
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write_end)
    assert os.read(read_end, 100) == b"200 0"
    os.close(read_end)
    assert not stream.outlet.gone()  # the child has not shut the parent's connection
    hub.leave(stream)
    for one in (ours, theirs):
        one.close()


def test_a_logout_while_a_stream_is_being_opened(make_bench: Any) -> None:
    """C34: let in before the logout, it ends at once; one asked for after a new login does not."""
    hub = make_bench("reference").state.hub
    early = Stream(1, 7, 0)
    hub._answer(Ring("disconnect", user=7))
    late = Stream(1, 7, 0)
    for stream in (early, late):
        hub.join(stream)
    assert (early.ended, late.ended) == (True, False)
    for stream in (early, late):
        hub.leave(stream)


def test_lost_ring_costs_latency_only(inside: Inside) -> None:
    """C31: with the doorbell torn off, message and close are found by polling, heartbeats being a minute apart."""
    client, admin = inside.login("client"), inside.login("admin")
    thread = client.open(1)
    reader = admin.listen(thread).wait_open()
    inside.bench.state.doorbell.listen(lambda ring: None)
    client.say(thread, "unheard")
    assert reader.wait(1, 3)[0].json["text"] == "unheard"
    client.close(thread)
    assert reader.wait_end(3)[-1].name == "ThreadClosed"


def test_database_trouble_does_not_end_a_stream(inside: Inside, caplog: pytest.LogCaptureFixture) -> None:
    """C31, C41: the hub tries again; its log has no driver message."""
    client = inside.login("client")
    thread = client.open(1)
    reader = client.listen(thread).wait_open()
    engine = inside.bench.state.database.engine
    with caplog.at_level(logging.WARNING, "nursecare_chat"):
        with engine.connect() as connection:
            connection.exec_driver_sql("ALTER TABLE chat_messages RENAME TO elsewhere")
            connection.commit()
        client.say(thread, "refused")
        with engine.connect() as connection:
            connection.exec_driver_sql("ALTER TABLE chat_threads RENAME TO away")
            connection.commit()
        eventually(lambda: "chat stream delivery failed" in caplog.text)
        with engine.connect() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO chat_threads")
            connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO chat_messages")
            connection.commit()
    assert client.say(thread, "back").status_code == 200
    assert reader.wait(1)[0].json["text"] == "back"
    assert "no such table: " not in caplog.text
    assert "does not exist" not in caplog.text
    reader.stop()


@pytest.mark.parametrize("kind", ["gevent", "generator"])
def test_client_that_never_reads_is_cut_off(live_servers: Callable[..., Live], kind: str) -> None:
    """C35: at a bound; it slows nobody, and resumes where it was."""
    live = live_servers(kind, CHAT_STREAM_HEARTBEAT="60", CHAT_MAX_STREAMS_PER_USER="off")
    thread = live.new_thread()
    client, admin = live.login("client"), live.login("admin")
    reader = admin.listen(thread).wait_open()
    host, port = live.server.url.removeprefix("http://").split(":")
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.connect((host, int(port)))
    cookie = "; ".join(f"{name}={value}" for name, value in client.http.cookies.items())
    lazy.sendall(f"GET /api/chat/threads/{thread}/stream HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n".encode())
    lazy.recv(1)
    text = "\u4e00" * 5000  # 30 kB in a frame
    count = (8 << 20) // 30_000  # beyond the bound and whatever the kernel buffers
    for _ in range(count):
        assert client.say(thread, text).status_code == 200
    assert len(reader.wait(count, 60)) == count
    eventually(lambda: "chat stream ended: not_reading" in live.server.output, seconds=90)
    lazy.settimeout(20)
    received = b""
    with suppress(ConnectionError):
        while chunk := lazy.recv(1 << 16):
            received += chunk
    lazy.close()
    assert len(received) < count * 30_000
    seen = received.count(b"\n\nevent: MessageCreated")
    again = admin.listen(thread, str(seen))
    assert again.wait(count - seen)[0].json["seq"] == seen + 1
    for one in (reader, again):
        one.stop()


def test_a_stuck_client_without_much_traffic_is_cut_off() -> None:
    """C35: what waits is not left to wait for ever either."""
    queue = Queue()
    later = time.monotonic() + MAX_STUCK + 1
    assert not queue.stuck(later)
    queue.writing_since = time.monotonic()
    assert not queue.stuck(time.monotonic())
    assert queue.stuck(later)


@pytest.mark.one_process
def test_a_response_that_is_never_read_leaves_nothing(make_bench: Any) -> None:
    """C33: HEAD, and a body that the server drops before its first byte."""
    bench = make_bench("reference")
    api = bench.login("client")
    thread = api.open(1).get_json()["threadId"]
    for method in ("HEAD", "GET"):
        response = api.call(
            method, f"/api/chat/threads/{thread}/stream", environ_overrides={"wsgi.multithread": True}, buffered=False
        )
        response.close()
    assert bench.state.hub.count() == 0


def test_an_application_can_be_collected(make_bench: Any, tmp_path: Any) -> None:
    """C1: nothing global holds an app: not the signal, the queue, or the extension object."""
    app = HOSTS["reference"].create_app("sqlite://", TESTING)
    gone = weakref.ref(app)
    del app
    gc.collect()
    assert gone() is None


def test_a_slow_client_that_reads_is_not_cut_off(inside: Inside) -> None:
    """C35: more than may wait for it comes from the log, at its own pace, whole and in order."""
    client = inside.login("client")
    thread = client.open(1)
    state = inside.bench.state
    reader = client.listen(thread).wait_open()
    (stream,) = inside.hub._streams.of_thread(thread)
    text = "\u4e00" * 5000
    with inside.bench.app.app_context():
        sender = inside.bench.host.user_id("client")
    for _ in range(MAX_BACKLOG // 30_000 * 4):
        state.messages.post(state.threads.get(thread), sender, Draft("text", text=text), as_admin=False)
    last = state.threads.get(thread).last_seq
    assert [event.json["seq"] for event in reader.wait(last)] == list(range(1, last + 1))
    eventually(lambda: stream.live)
    assert (
        state.messages.post(state.threads.get(thread), sender, Draft("text", text="live again"), as_admin=False)[1]
        == last + 1
    )
    assert reader.wait(last + 1)[-1].json["text"] == "live again"
    reader.stop()


def test_what_the_kernel_holds_does_not_reach_a_client_that_lost_access(inside: Inside) -> None:
    """C34: a client that stopped reading before it was disabled gets nothing of what waited for it."""
    client = inside.login("client")
    thread = client.open(1)
    host, port = inside.url.removeprefix("http://").split(":")
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.connect((host, int(port)))
    cookie = "; ".join(f"{name}={value}" for name, value in client.http.cookies.items())
    lazy.sendall(f"GET /api/chat/threads/{thread}/stream HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n".encode())
    assert lazy.recv(20).startswith(b"HTTP/1.1 200")
    for _ in range(20):
        client.say(thread, "\u4e00" * 5000)
    (stream,) = inside.hub._streams.of_thread(thread)
    eventually(lambda: stream.outlet.writing_since is not None and stream.outlet.client.unsent() > 0)
    with inside.bench.app.app_context():
        inside.bench.host.disable("client")
    eventually(lambda: inside.hub.count() == 0)
    received = b""
    lazy.settimeout(5)
    with suppress(ConnectionError):
        while chunk := lazy.recv(1 << 16):
            received += chunk
    lazy.close()
    assert len(received) < 20_000  # what its own machine had taken already


def test_looking_at_a_socket_changes_nothing_about_it() -> None:
    """C33, C7: whatever default timeout the host gives to new sockets, and whether the server's blocks or not."""
    for blocking in (True, False):
        ours, theirs = socket.socketpair()
        ours.setblocking(blocking)
        socket.setdefaulttimeout(5)
        try:
            client = ClientSocket({"gunicorn.socket": ours})
        finally:
            socket.setdefaulttimeout(None)
        assert os.get_blocking(ours.fileno()) is blocking
        assert not client.gone()
        theirs.close()
        assert client.gone()
        client.close()
        ours.close()
