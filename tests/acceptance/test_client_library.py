"""The browser's library in a real Chromium, on a bare page of the host: what the elements are built upon."""

from __future__ import annotations

import io
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Error, Route, sync_playwright

from ..support import npm, pictures
from ..support.browser import launch
from ..support.databases import Databases
from ..support.live import Live
from ..support.pictures import SECRET
from ..support.servers import Server
from ..support.tabs import Person, Tab
from ..support.wait import eventually
from ..support.wire import BAD_GATEWAY, Wire

NO_LOCKS = "Object.defineProperty(Navigator.prototype, 'locks', { value: undefined });"
NO_DATABASE = "Object.defineProperty(window, 'indexedDB', { value: { open() { throw new Error('no'); } } });"

NO_TURNING = "window.createImageBitmap = async () => { throw new TypeError('not a valid value'); };"
QUICK_PAUSES = """
    window.pauses = [];
    const { setTimeout } = window;
    window.setTimeout = (step, milliseconds, ...more) => {
        const asked = [7000, 8000].includes(milliseconds);
        if (asked) pauses.push(milliseconds);
        return setTimeout(step, asked ? 10 : milliseconds, ...more);
    };
"""
"""Seven and eight seconds are over at once, and noted."""


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


@pytest.fixture
def wire(live: Live) -> Iterator[Wire]:
    """What is between a browser and the server."""
    wire = Wire(live.server.url)
    yield wire
    wire.close()


@pytest.fixture
def quiet(live: Live) -> None:
    """The streams of earlier tests have ended, so that this one's can be counted."""
    eventually(lambda: streams(live) == 0)


def streams(live: Live) -> int:
    """How many the server has open."""
    text = httpx.get(f"{live.server.url}/api/chat/metrics").text
    (count,) = re.findall(r"^nursecare_chat_streams_open(?:\{.*\})? (\S+)", text, re.MULTILINE)
    return int(float(count))


def stream_name(person: Person, thread: int) -> str:
    """What the lock and the channel of a shared stream are called."""
    return f'nursecare-chat:stream:["","{person.user}"]:{thread}'


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
        with suppress(Error):  # the page may go while the server answers
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
    client.do("() => { window.reads = 0; chat.addEventListener('read', () => reads++); }")
    client.do("chat.markRead(60)")
    client.do("chat.markRead(59)")
    assert client.do("[chat.lastRead, chat.unread, reads]") == [60, 0, 1]

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


def test_the_network_is_cut(live: Live, wire: Wire, sit_down: Callable[..., Person]) -> None:
    """C23, C30: what both typed meanwhile arrives once, in the order in which it was typed."""
    thread = live.new_thread()
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
    eventually(lambda: client.kept == [])  # the stream may be faster than the answer


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


def test_a_proxy_without_its_server(live: Live, wire: Wire, sit_down: Callable[..., Person]) -> None:
    """C30: a 502 is final for EventSource; the stream is made anew, resumes, and nothing is missed."""
    thread = live.new_thread()
    client = sit_down("client", url=wire.url).tab(thread)
    wire.cut(BAD_GATEWAY)
    client.until("chat.connection === 'reconnecting'")
    live.login("admin").say(thread, "said meanwhile")
    eventually(lambda: wire.refused > 1)
    wire.mend()
    client.has("said meanwhile")
    assert client.do("states") == ["live", "reconnecting", "live"]
    client.say("and after")
    client.has("said meanwhile", "and after")


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
    client = sit_down("client", QUICK_PAUSES).tab(thread)
    answers = iter([(429, "rate_limited", "7"), (503, "unavailable", "8")])
    sent: list[str] = []

    def busy(route: Route) -> None:
        if route.request.method != "POST":
            return route.fallback()
        sent.append(route.request.post_data_json["text"])
        status, code, after = next(answers, (0, "", ""))
        if not status:
            return route.continue_()
        route.fulfill(status=status, headers={"Retry-After": after}, json={"code": code, "message": "", "errors": {}})

    client.page.route(f"**/threads/{thread}/messages", busy)
    client.say("one", "two")
    client.has("one", "two")
    assert client.do("pauses") == [7000, 8000]
    assert sent == ["one", "one", "one", "two"]


# -- several tabs ------------------------------------------------------------------------------------------------------


def test_three_tabs_hold_one_stream(live: Live, quiet: None, sit_down: Callable[..., Person]) -> None:
    """C30, C35: it is handed on when its tab goes, with nothing lost or doubled; unread marks are shared, too."""
    thread = live.new_thread()
    person = sit_down("client")
    tabs = [person.tab(thread) for _ in range(3)]
    admin = live.login("admin")
    admin.say(thread, "one")
    for tab in tabs:
        tab.has("one")
    assert streams(live) == 1
    tabs[1].say("from the second")
    tabs[2].say("from the third")
    for tab in tabs:
        tab.until("chat.messages.filter(({ state }) => state === 'sent').length === 3")
    tabs[0].page.close()
    admin.say(thread, "while nobody listens")
    admin.say(thread, "and again")
    for tab in tabs[1:]:
        tab.until("chat.messages.length === 5")
        assert tab.texts() == stored(live, thread)
        assert tab.do("received") == ["one", "while nobody listens", "and again"]
    eventually(lambda: streams(live) == 1)
    tabs[1].do("chat.markRead(5)")
    tabs[2].until("chat.unread === 0")
    tabs[1].do("chat.closeThread()")
    tabs[2].until("chat.connection === 'closed'")
    assert tabs[2].do("chat.closedAt") == admin.thread(thread)["closedAt"]
    eventually(lambda: streams(live) == 0)


def test_another_tab_sends_what_one_left_behind(live: Live, sit_down: Callable[..., Person]) -> None:
    """C23: a tab that is closed in mid-sending hands its outbox on."""
    thread = live.new_thread()
    person = sit_down("client")
    first, second = person.tab(thread), person.tab(thread)
    sent: list[Any] = []
    first.page.route(f"**/threads/{thread}/messages", lose_answers(99, sent))
    first.say("one", "two")
    second.until("chat.messages.length === 2")
    first.page.close()
    second.has("one", "two")
    assert stored(live, thread) == ["one", "two"]
    eventually(lambda: second.kept == [])


@pytest.mark.parametrize("script", [pytest.param(NO_LOCKS, id="locks"), pytest.param(NO_DATABASE, id="database")])
def test_a_browser_without(script: str, live: Live, sit_down: Callable[..., Person]) -> None:
    """C30: no Web Locks (a page without TLS): each tab has a stream; no IndexedDB: the outbox lives with the page."""
    thread = live.new_thread()
    person = sit_down("client", script)
    first, second = person.tab(thread), person.tab(thread)
    first.say("one", "two")
    second.has("one", "two")
    second.say("three")
    first.has("one", "two", "three")
    assert stored(live, thread) == ["one", "two", "three"]


def test_the_browser_is_handed_over(live: Live, wire: Wire, sit_down: Callable[..., Person]) -> None:
    """C23: who logs in next neither sees nor sends what another typed; it goes when its author is back."""
    thread = live.new_thread()
    person = sit_down("client", url=wire.url)
    client = person.tab(thread)
    wire.cut()
    client.say("mine alone")
    eventually(lambda: len(client.kept) == 1)
    client.page.close()
    person.login("admin", live.server.url)
    wire.mend()
    admin = person.tab(thread)
    admin.say("I am the nurse")
    admin.has("I am the nurse")
    assert len(admin.messages) == 1
    admin.page.close()
    person.context.request.post(f"{wire.url}/logout", data={})
    person.login("client")
    client = person.tab(thread)
    client.has("I am the nurse", "mine alone")
    assert [message["mine"] for message in client.messages] == [False, True]


def test_a_tab_is_left_over(live: Live, wire: Wire, sit_down: Callable[..., Person]) -> None:
    """C23, C41: what one typed waits in their tab; it is not sent under the name of who logs in in another."""
    thread = live.new_thread()
    person = sit_down("client", url=wire.url)
    client = person.tab(thread)
    wire.cut()
    client.say("mine alone")
    eventually(lambda: len(client.kept) == 1)
    person.login("admin", live.server.url)
    wire.mend()
    client.do("dispatchEvent(new Event('online'))")
    client.until("chat.connection === 'denied'")
    admin = person.tab(thread)
    client.do("dispatchEvent(new Event('online'))")
    admin.say("I am the nurse")
    admin.has("I am the nurse")
    assert (client.texts("sending"), client.do("chat.error.code")) == (["mine alone"], "unauthenticated")
    assert client.do("client.post(chat.threadId, { type: 'text', text: '!' }).catch(({ code }) => code)") == (
        "unauthenticated"
    )
    assert stored(live, thread) == ["I am the nurse"]


def test_a_frozen_tab_has_the_stream(live: Live, sit_down: Callable[..., Person]) -> None:
    """C30: one that holds the lock and answers nothing loses it to one that is awake."""
    thread = live.new_thread()
    person = sit_down("client")
    frozen = person.tab()
    frozen.do(
        "name => { navigator.locks.request(name, () => new Promise(() => {})).catch(() => { window.lost = true; }); }",
        stream_name(person, thread),
    )
    client = person.tab(thread)
    live.login("admin").say(thread, "hello")
    client.has("hello")
    assert frozen.do("lost")


def test_another_tab_is_ahead_or_behind(live: Live, sit_down: Callable[..., Person]) -> None:
    """C30: what the tab with the stream did not hand on is asked for; what it hands on again is no second message."""
    thread = live.new_thread()
    person, admin = sit_down("client"), live.login("admin")
    leader = person.tab()
    leader.do(
        """async (name) => {
            window.channel = new BroadcastChannel(name);
            channel.onmessage = () => channel.postMessage({ state: "live" });
            await new Promise((resolve) => {
                navigator.locks.request(name, () => new Promise(() => resolve()));
            });
        }""",
        stream_name(person, thread),
    )
    client = person.tab(thread)
    for text in ("one", "two", "three"):
        admin.say(thread, text)
    messages = admin.http.get(f"/api/chat/threads/{thread}/messages").json()["messages"]
    frames = [{"event": "MessageCreated", "id": str(one["seq"]), "data": one} for one in messages]
    for frame in (frames[2], frames[1], frames[2]):
        leader.do("frame => channel.postMessage({ frame })", frame)
    client.has("one", "two", "three")
    admin.say(thread, "four")
    last = admin.http.get(f"/api/chat/threads/{thread}/messages").json()["messages"][-1]
    leader.do("frame => channel.postMessage({ frame })", {**frames[0], "data": last})
    client.has("one", "two", "three", "four")
    assert client.do("received") == ["one", "two", "three", "four"]


def test_the_chat_is_closed_meanwhile(live: Live, sit_down: Callable[..., Person]) -> None:
    """C22, C32, C41: what was typed for it is erased from the browser, though another chat is opened instead."""
    thread, other, third = (live.new_thread() for _ in range(3))
    person = sit_down("client")
    admin = live.login("admin")
    left, seen = person.tab(thread), person.tab(other)
    for tab in (left, seen):
        tab.page.route("**/messages", lambda route: route.abort())
        tab.say("never sent")
        tab.do("chat.markRead(1)")
    eventually(lambda: len(seen.kept) == 2)
    left.page.close()
    for one in (thread, other):
        admin.close(one)
    seen.until("chat.connection === 'closed'")
    seen.until("chat.messages.length === 0")
    assert seen.do("[chat.thread.status, chat.unread, chat.hasOlder]") == ["closed", 0, False]
    seen.until("chat.receipt?.state")
    eventually(lambda: len(seen.kept) == 1)
    last = person.tab(third)
    eventually(lambda: last.kept == [])
    again = person.tab(other, wait=False)
    again.until("chat.connection === 'closed'")
    assert again.do("chat.closedAt") == admin.thread(other)["closedAt"]
    assert [key for key in again.do("Object.keys(localStorage)") if key.endswith(f":{other}")] == []


def test_nobody_may_read(live: Live, sit_down: Callable[..., Person]) -> None:
    """C11, C12, C34: no right to a chat, no such chat, or no login any more: it is said, and nothing is asked again."""
    thread = live.new_thread()
    stranger = sit_down("client2")
    for number, code in ((thread, "forbidden"), (10**9, "not_found")):
        tab = stranger.tab(number, wait=False)
        tab.do("started")
        assert tab.do("[chat.connection, chat.error.code]") == ["denied", code]
    person = sit_down("client")
    client = person.tab(thread)
    person.context.request.post(f"{live.server.url}/logout", data={})
    client.until("chat.connection === 'denied'")
    client.say("is kept")
    eventually(lambda: len(client.kept) == 1)
    assert client.texts("sending") == ["is kept"]


# -- photos ------------------------------------------------------------------------------------------------------------


def telling_photo(size: tuple[int, int] = (3000, 4000)) -> bytes:
    """From a phone that was turned: stored on its side, with the place; upright it has this size, its top is red."""
    upright = Image.new("RGB", size, "blue")
    upright.paste("red", (0, 0, size[0], size[1] // 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise
    exif[0x010F] = SECRET.decode()
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 58.0), 3: "E", 4: (13.0, 22.0, 39.0)})
    file = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(file, "JPEG", exif=exif, comment=SECRET)
    return file.getvalue()


def watch_puts(tab: Tab, puts: list[bytes]) -> None:
    """What leaves the browser, before the server sees any of it."""

    def see(route: Route) -> None:
        if route.request.method == "PUT":
            puts.append(route.request.post_data_buffer or b"")
        route.fallback()

    tab.page.route("**/api/chat/media/**", see)


def test_a_photo_leaves_its_metadata_at_home(live: Live, sit_down: Callable[..., Person]) -> None:
    """C24, C25: upright, smaller, and what the camera wrote never leaves the browser; a signed address is renewed."""
    thread = live.new_thread()
    client, admin = sit_down("client").tab(thread), sit_down("admin").tab(thread)
    client.do(
        "chat.addEventListener('messages', () => { for (const { progress } of chat.messages)"
        " if (progress !== undefined) (window.progress ??= []).push(progress); })"
    )
    puts: list[bytes] = []
    watch_puts(client, puts)
    photo = telling_photo()
    assert SECRET in photo
    client.share(photo)
    client.say("typed behind it")
    assert client.do("chat.messages.length") == 2
    assert client.do("chat.messages[0].preview").startswith("blob:")
    admin.has(None, "typed behind it")
    (sent,) = puts
    assert SECRET not in sent
    picture = pictures.read(sent)
    assert (picture.format, picture.size, dict(picture.getexif())) == ("JPEG", (1920, 2560), {})
    assert [picture.getpixel((960, y))[0] > 200 for y in (100, 2400)] == [True, False]
    assert client.do("progress.at(-1)") == 1
    assert client.do("'progress' in chat.messages[0] || chat.messages[0].state") == "sent"

    shown = admin.messages[0]
    address = f"{live.server.url}{shown['media_url']}"
    assert pictures.read(httpx.get(address).content).size == (1920, 2560)
    eventually(lambda: httpx.get(address).status_code == 403)
    fresh = admin.do("chat.refreshMedia(chat.messages[0])")
    assert httpx.get(f"{live.server.url}{fresh}").status_code == 200
    assert admin.messages[0]["media_url"] == fresh != shown["media_url"]


@pytest.mark.parametrize(
    ("options", "sent_as"),
    [
        pytest.param({}, ("PNG", (320, 200)), id="png-stays"),
        pytest.param({"imageTypes": ["image/jpeg"]}, ("JPEG", (320, 200)), id="as-accepted"),
        pytest.param({"imageTypes": ["image/png"], "maxImageBytes": 20_000}, ("PNG", None), id="shrunk"),
    ],
)
def test_a_photo_is_made_to_fit(
    options: dict[str, Any], sent_as: Any, live: Live, sit_down: Callable[..., Person]
) -> None:
    """C24: of a type that the server takes, and below its limit."""
    thread = live.new_thread()
    client = sit_down("client").tab(thread, **options)
    puts: list[bytes] = []
    watch_puts(client, puts)
    file = io.BytesIO()
    Image.effect_noise((320, 200), 90).convert("RGB").save(file, "PNG")
    client.share(file.getvalue(), "noise.png", "image/png")
    client.has(None)
    picture = pictures.read(puts[0])
    assert picture.format == sent_as[0]
    assert sent_as[1] in (None, picture.size)
    assert len(puts[0]) <= options.get("maxImageBytes", 10**6)
    assert picture.width / picture.height == pytest.approx(1.6, abs=0.05)


def test_a_photo_in_a_browser_that_cannot_turn_bitmaps(live: Live, sit_down: Callable[..., Person]) -> None:
    """C25: Safari did not always know the option; the photo is upright all the same, and without metadata."""
    thread = live.new_thread()
    client = sit_down("client", NO_TURNING).tab(thread)
    puts: list[bytes] = []
    watch_puts(client, puts)
    client.share(telling_photo((600, 800)))
    client.has(None)
    picture = pictures.read(puts[0])
    assert (picture.size, dict(picture.getexif()), SECRET in puts[0]) == ((600, 800), {}, False)
    assert [picture.getpixel((300, y))[0] > 200 for y in (100, 700)] == [True, False]


def test_what_is_no_photo(live: Live, sit_down: Callable[..., Person]) -> None:
    """C24: nothing of it is sent; the codes say why; what comes behind it goes on."""
    thread = live.new_thread()
    person = sit_down("client")
    client = person.tab(thread, maxImageBytes=100)
    asked: list[str] = []
    client.page.on("request", lambda request: asked.append(request.url) if "/uploads" in request.url else None)
    svg = client.share(pictures.SVG, "drawing.svg", "image/svg+xml")
    client.share(pictures.JPEG[:40], "broken.jpg")
    client.share(telling_photo((600, 800)))
    client.say("behind them")
    client.has("behind them")
    failed = [message["error"] for message in client.messages if message["state"] == "failed"]
    assert failed == ["photo_unreadable", "photo_unreadable", "photo_too_big"]
    assert asked == []
    client.do("key => chat.cancel(key)", svg)
    client.until("chat.messages.length === 3")


def test_a_photo_that_cannot_be_drawn(live: Live, sit_down: Callable[..., Person]) -> None:
    """C24: whatever the browser says of it, it has failed, and what comes behind it goes on."""
    thread = live.new_thread()
    client = sit_down("client").tab(thread)
    client.do("""() => {
        CanvasRenderingContext2D.prototype.drawImage = () => { throw new DOMException("", "InvalidStateError"); };
    }""")
    client.share(telling_photo((600, 800)))
    client.say("behind it")
    client.has("behind it")
    assert [message["error"] for message in client.messages] == [None, "photo_unreadable"]


def test_who_answers_is_asked_once(live: Live, wire: Wire, sit_down: Callable[..., Person]) -> None:
    """C17, C30: no event says who claimed the chat; of many messages at once only the first makes a question."""
    thread = live.new_thread()
    client = sit_down("client", url=wire.url).tab(thread)
    wire.cut()
    admin = live.login("admin")
    for number in range(20):
        admin.say(thread, f"message {number}")
    asked: list[str] = []
    client.page.on("request", lambda one: asked.append(one.url) if one.url.endswith(f"/threads/{thread}") else None)
    wire.mend()
    client.has(*(f"message {number}" for number in range(20)))
    client.until("chat.thread.adminId !== null")
    assert len(asked) < 8  # the others are about the stream


def test_an_upload_on_a_bad_network(live: Live, sit_down: Callable[..., Person]) -> None:
    """C23, C24: a photo arrives once, whatever was lost on the way there or back, and also after a reload."""
    thread = live.new_thread()
    person = sit_down("client")
    client, admin = person.tab(thread), sit_down("admin").tab(thread)
    puts: list[str] = []
    posts: list[str] = []

    def unreliable(route: Route) -> None:
        if route.request.method == "PUT":
            puts.append(route.request.url)
            if len(puts) == 1:
                return route.abort("connectionreset")
            if len(puts) == 2:
                return route.fulfill(status=403, json={"code": "bad_signature", "message": "It has expired."})
            if len(puts) == 3:
                route.fetch()
                return route.abort("connectionreset")
        elif route.request.method == "POST" and route.request.url.endswith("/messages"):
            posts.append(route.request.post_data_json["mediaPath"])
            return route.abort("connectionreset")
        return route.continue_()

    client.page.route("**/api/chat/**", unreliable)
    client.share(telling_photo((600, 800)))
    client.until("chat.messages.length === 1")
    eventually(lambda: client.messages and posts)
    assert puts[0] == puts[1] != puts[2] == puts[3]
    client.page.reload()
    client.page.unroute_all()
    watched: list[bytes] = []
    watch_puts(client, watched)
    client.start(thread)
    client.has(None)
    admin.has(None)
    assert watched == []
    assert admin.messages[0]["type"] == "image"


def test_the_storage_is_out_of_reach(live: Live, sit_down: Callable[..., Person]) -> None:
    """C24: a photo that gets nowhere, though the server answers, keeps nothing back for ever; it can be tried again."""
    thread = live.new_thread()
    client = sit_down("client").tab(thread)
    client.page.route("**/api/chat/media/**", lambda route: route.abort("connectionrefused"))
    client.share(telling_photo((60, 80)))
    client.say("Did you get my photo?")

    def sent() -> bool:
        client.do("dispatchEvent(new Event('online'))")  # ends the pause before the next try
        return client.texts() == ["Did you get my photo?"]

    eventually(sent)
    (photo,) = [message for message in client.messages if message["state"] == "failed"]
    assert photo["error"] == "photo_storage_away"
    client.page.unroute_all()
    client.do(f"chat.retry('{photo['key']}')")
    client.has("Did you get my photo?", None)


def test_a_photo_is_cancelled(live: Live, sit_down: Callable[..., Person]) -> None:
    """C24: while it is uploaded; nothing of it stays in the browser, and what was typed behind it is sent."""
    thread = live.new_thread()
    client = sit_down("client").tab(thread)
    held: list[Route] = []
    client.page.route("**/api/chat/media/**", lambda route: held.append(route))
    key = client.share(telling_photo((600, 800)))
    client.say("behind it")
    eventually(lambda: client.messages and held)
    client.do("key => chat.cancel(key)", key)
    client.has("behind it")
    assert len(client.messages) == 1
    assert client.kept == []
    assert stored(live, thread) == ["behind it"]


# -- Laravel Echo ------------------------------------------------------------------------------------------------------

ECHO = """async (user) => {
    const { default: Echo } = await import("/laravel-echo.js");
    const { NurseCareConnector } = await import("/api/chat/widget/nursecare-chat.js");
    window.Echo = new Echo({ broadcaster: NurseCareConnector, user });
    window.heard = [];
}"""
SNIPPET = """(threadId) => {
    Echo.private(`chat.${threadId}`)
        .listen("MessageCreated", (e) => heard.push(["MessageCreated", e.threadId, e.seq, e.text]))
        .listen("ThreadClosed", (e) => heard.push(["ThreadClosed", e.threadId, e.closed_at]))
        .subscribed(() => heard.push("subscribed"))
        .error((error) => heard.push(["error", error.status]));
}"""


def with_echo(person: Person) -> Tab:
    """A tab with the npm package."""
    package = npm.installed("echo") / "laravel-echo" / "dist" / "echo.js"
    script = package.read_text()
    person.context.route("**/laravel-echo.js", lambda route: route.fulfill(body=script, content_type="text/javascript"))
    tab = person.tab()
    tab.do(ECHO, person.user)
    return tab


def test_laravel_echo(live: Live, wire: Wire, sit_down: Callable[..., Person]) -> None:
    """C29, C30, C32: the usual snippet hears both events, each once, also across a restart of the network."""
    thread, forbidden = live.new_thread(), live.login("client2").open(3)
    admin = live.login("admin")
    admin.say(thread, "before anybody listened")
    tab = with_echo(sit_down("client", url=wire.url))
    tab.do(SNIPPET, thread)
    tab.until("heard.includes('subscribed')")
    admin.say(thread, "hello")
    tab.until("heard.length === 2")
    assert tab.do("Echo.connectionStatus()") == "connected"
    wire.cut()
    admin.say(thread, "while the network was away")
    wire.mend()
    tab.do("dispatchEvent(new Event('online'))")
    tab.until("heard.filter(([kind]) => kind === 'MessageCreated').length === 2")
    closed_at = admin.close(thread).json()["closed_at"]
    tab.until("heard.some(([kind]) => kind === 'ThreadClosed')")
    assert [one for one in tab.do("heard") if one != "subscribed"] == [
        ["MessageCreated", thread, 2, "hello"],
        ["MessageCreated", thread, 3, "while the network was away"],
        ["ThreadClosed", thread, closed_at],
    ]
    tab.do("heard.length = 0")
    tab.do(SNIPPET, forbidden)
    tab.until("heard.length === 1")
    assert tab.do("heard") == [["error", 403]]


def test_laravel_echo_lets_go(live: Live, quiet: None, sit_down: Callable[..., Person]) -> None:
    """C33: stopListening and leave; the stream ends with its channel. One stream serves Echo and the elements."""
    thread = live.new_thread()
    admin = live.login("admin")
    tab = with_echo(sit_down("client"))
    tab.do(SNIPPET, thread)
    tab.do(
        "thread => { window.also = (e) => heard.push(['also', e.text]);"
        " Echo.private(`chat.${thread}`).listen('.MessageCreated', also); }",
        thread,
    )
    tab.until("heard.includes('subscribed')")
    tab.start(thread)
    assert streams(live) == 1
    admin.say(thread, "one")
    tab.until("heard.length === 3")
    tab.do("thread => { Echo.private(`chat.${thread}`).stopListening('MessageCreated', also); }", thread)
    admin.say(thread, "two")
    tab.has("one", "two")
    tab.until("heard.length === 4")
    tab.do("thread => { Echo.private(`chat.${thread}`).stopListening('MessageCreated'); }", thread)
    admin.say(thread, "three")
    tab.has("one", "two", "three")
    tab.do("thread => { Echo.leave(`chat.${thread}`); }", thread)
    admin.say(thread, "four")
    tab.has("one", "two", "three", "four")
    heard = [["MessageCreated", thread, 1, "one"], ["also", "one"], ["MessageCreated", thread, 2, "two"]]
    assert tab.do("heard.slice(1)") == heard
    tab.do("Echo.disconnect()")
    assert tab.do("Echo.connectionStatus()") == "disconnected"
    tab.do("chat.stop()")
    eventually(lambda: streams(live) == 0)
