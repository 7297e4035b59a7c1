"""The browser's library in a real Chromium, on a bare page of the host: what the elements are built upon."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Route, sync_playwright

from ..support.browser import launch
from ..support.databases import Databases
from ..support.live import Live
from ..support.servers import Server
from ..support.tabs import Person
from ..support.wait import eventually
from ..support.wire import BAD_GATEWAY, Wire

NO_LOCKS = "Object.defineProperty(Navigator.prototype, 'locks', { value: undefined });"
NO_DATABASE = "Object.defineProperty(window, 'indexedDB', { value: { open() { throw new Error('no'); } } });"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Live]:
    """One server; each test takes a thread of its own there."""
    settings = {"CHAT_STREAM_HEARTBEAT": "5", "CHAT_METRICS": "on", "CHAT_SIGNED_URL_TTL": "4", "CHAT_MAX_TEXT": "100"}
    live = Live("gevent", "reference", tmp_path_factory.mktemp("library"), databases, settings)
    yield live
    live.close()


@pytest.fixture
def sit_down(browser: Browser, live: Live) -> Iterator[Callable[..., Person]]:
    """Somebody in front of a browser of their own; script errors fail the test."""
    people: list[Person] = []

    def person(who: str, script: str = "", url: str = "") -> Person:
        context = browser.new_context()
        if script:
            context.add_init_script(script)
        people.append(Person(context, url or live.server.url, who))
        return people[-1]

    yield person
    for one in people:
        one.context.close()
    assert [error for one in people for error in one.errors] == []


def streams(live: Live) -> int:
    """How many the server has open."""
    text = httpx.get(f"{live.server.url}/api/chat/metrics").text
    (count,) = re.findall(r"^nursecare_chat_streams_open(?:\{.*\})? (\S+)", text, re.MULTILINE)
    return int(float(count))


def stored(live: Live, thread: int) -> list[str]:
    """The texts in the server's log."""
    page = live.login("admin").http.get(f"/api/chat/threads/{thread}/messages?limit=50").json()
    return [message["text"] for message in page["messages"]]


def lose_answers(count: int, sent: list[Any]) -> Callable[[Route], None]:
    """The server gets it, the browser never hears of it; ``count`` times."""

    def lose(route: Route) -> None:
        if route.request.method != "POST":
            return route.fallback()
        sent.append(route.request.post_data_json)
        if len(sent) > count:
            return route.continue_()
        route.fetch()
        route.abort("connectionreset")

    return lose


# -- what comes and goes -----------------------------------------------------------------------------------------------


def test_two_people_talk(live: Live, sit_down: Callable[..., Person]) -> None:
    """C19, C20, C21, C29: texts both ways in the log's order, a location, pages of what was before, read marks."""
    thread = live.new_thread()
    nurse = live.login("admin")
    for number in range(60):
        nurse.say(thread, f"n{number}")
    client, admin = sit_down("client").tab(thread), sit_down("admin").tab(thread)
    assert client.do("[chat.messages.length, chat.hasOlder, chat.unread]") == [50, True, 50]
    client.do("chat.loadOlder()")
    assert client.texts() == [f"n{number}" for number in range(60)]
    assert client.do("[chat.hasOlder, chat.unread, chat.messages.some(({ mine }) => mine)]") == [False, 60, False]
    client.do("chat.markRead(60)")
    assert client.do("[chat.lastRead, chat.unread]") == [60, 0]

    client.say("How long must the bandage stay?")
    client.do("chat.sendLocation({ lat: 52.5163, lng: 13.3777 })")
    admin.until("received.length === 2")
    last = admin.messages[-1]
    assert (last["seq"], last["type"], last["lat"], last["lng"]) == (62, "location", 52.5163, 13.3777)
    assert (last["mine"], client.messages[-1]["mine"]) == (False, True)
    admin.say("Two days.")
    client.until("received.length === 1")
    assert client.do("[received, chat.unread]") == [["Two days."], 1]
    assert [one["seq"] for one in client.messages] == list(range(1, 64))
    assert client.do("chat.thread.adminId") == admin.options["user"]


def test_the_network_is_cut(live: Live, sit_down: Callable[..., Person]) -> None:
    """C23, C30: what both typed meanwhile arrives once, in the order in which it was typed."""
    thread = live.new_thread()
    wire = Wire(live.server.url)
    person = sit_down("client", url=wire.url)
    client, admin = person.tab(thread), sit_down("admin").tab(thread)
    client.say("before")
    admin.has("before")
    wire.cut()
    person.context.set_offline(True)
    client.until("chat.connection === 'offline'")
    client.say("one", "two", "three")
    admin.say("from the other side")
    admin.has("before", "from the other side")
    assert (client.texts(), client.texts("sending")) == (["before"], ["one", "two", "three"])
    wire.mend()
    person.context.set_offline(False)
    everything = ["before", "from the other side", "one", "two", "three"]
    for tab in (client, admin):
        tab.has(*everything)
    client.until("chat.connection === 'live'")
    assert client.do("received") == ["from the other side"]
    assert admin.do("received") == ["before", "one", "two", "three"]
    assert stored(live, thread) == everything
    assert client.kept == []
    wire.close()


def test_the_server_is_restarted(live: Live, sit_down: Callable[..., Person]) -> None:
    """C23, C30: the same, when it is killed in mid-talk."""
    thread = live.new_thread()
    client, admin = sit_down("client").tab(thread), sit_down("admin").tab(thread)
    client.say("before")
    admin.has("before")
    os.killpg(live.server.popen.pid, signal.SIGKILL)
    live.server.popen.wait()
    client.say("one", "two")
    client.until("chat.connection === 'reconnecting'")
    live.server = Server.again(live.server)
    for tab in (client, admin):
        tab.has("before", "one", "two")
        tab.until("chat.connection === 'live'")
    admin.say("after")
    client.has("before", "one", "two", "after")
    assert client.do("received") == ["after"]


def test_a_proxy_without_its_server(live: Live, sit_down: Callable[..., Person]) -> None:
    """C30: a 502 is final for EventSource; the stream is made anew, resumes, and nothing is missed."""
    thread = live.new_thread()
    wire = Wire(live.server.url)
    client = sit_down("client", url=wire.url).tab(thread)
    wire.cut(BAD_GATEWAY)
    client.until("chat.connection === 'reconnecting'")
    client.say("typed behind it")
    live.login("admin").say(thread, "said meanwhile")
    eventually(lambda: wire.refused > 3)
    assert client.texts("sending") == ["typed behind it"]
    wire.mend()
    client.has("said meanwhile", "typed behind it")
    client.until("chat.connection === 'live'")
    assert client.do("states") == ["live", "reconnecting", "live"]
    wire.close()


def test_an_answer_is_lost(live: Live, sit_down: Callable[..., Person]) -> None:
    """C23: the server took it, the browser did not hear so: the retry names the same message, which is there once."""
    thread = live.new_thread()
    person = sit_down("client")
    client = person.tab(thread)
    sent: list[Any] = []
    client.page.route(f"**/threads/{thread}/messages", lose_answers(2, sent))
    client.say("once")
    client.say("and then")
    client.has("once", "and then")
    eventually(lambda: client.kept == [])
    assert [body["text"] for body in sent] == ["once"] * 3 + ["and then"]
    assert len({body["clientMessageId"] for body in sent[:3]}) == 1
    assert stored(live, thread) == ["once", "and then"]


def test_a_reload_keeps_what_was_typed(live: Live, sit_down: Callable[..., Person]) -> None:
    """C23: it waits in the browser, is shown again, and sent once, under its first id, in order."""
    thread = live.new_thread()
    person = sit_down("client")
    client = person.tab(thread)
    sent: list[Any] = []
    client.page.route(f"**/threads/{thread}/messages", lose_answers(99, sent))
    client.say("one", "two")
    eventually(lambda: len(client.kept) == 2 and sent)
    keys = [message["key"] for message in client.messages]
    client.page.reload()
    client.start(thread)
    client.until("chat.messages.length === 2")
    assert [message["key"] for message in client.messages] == keys
    client.page.unroute_all()
    client.has("one", "two")
    assert [message["key"] for message in client.messages] == keys
    assert stored(live, thread) == ["one", "two"]
    eventually(lambda: client.kept == [])


def test_what_is_refused_can_be_tried_again_or_dropped(live: Live, sit_down: Callable[..., Person]) -> None:
    """C12, C21: a final answer marks this message only, with its code; those behind it go on."""
    thread = live.new_thread()
    client = sit_down("client").tab(thread)
    client.say("x" * 101, "after it", "y" * 101)
    client.has("after it")
    client.until("chat.messages.filter(({ state }) => state === 'failed').length === 2")
    first, second = (message for message in client.messages if message["state"] == "failed")
    assert (first["error"], first["mine"], first["seq"]) == ("validation_failed", True, None)
    assert list(client.do("chat.messages.find(({ error }) => error).error.errors")) == ["text"]
    client.page.reload()
    client.start(thread)
    client.until("chat.messages.length === 3")
    client.do("key => chat.cancel(key)", first["key"])
    client.page.route("**/messages", lambda route: route.fulfill(json={"id": 99, "seq": 2}))
    client.do("key => chat.retry(key)", second["key"])
    client.has("after it", "y" * 101)
    eventually(lambda: client.kept == [])


def test_a_server_that_has_no_time(live: Live, sit_down: Callable[..., Person]) -> None:
    """C13: 429 and 503 are about the moment; Retry-After is kept, the order too."""
    thread = live.new_thread()
    client = sit_down("client").tab(thread)
    answers = iter([(429, "rate_limited", "2"), (503, "unavailable", "1")])
    times: list[float] = []

    def busy(route: Route) -> None:
        if route.request.method != "POST":
            return route.fallback()
        times.append(time.monotonic())
        status, code, after = next(answers, (0, "", ""))
        if not status:
            return route.continue_()
        route.fulfill(status=status, headers={"Retry-After": after}, json={"code": code, "message": "", "errors": {}})

    client.page.route(f"**/threads/{thread}/messages", busy)
    client.say("one")
    client.say("two")
    client.has("one", "two")
    assert times[1] - times[0] >= 2
    assert times[2] - times[1] >= 1
