"""The inbox of the browser's library in a real Chromium, on a bare page of the host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from ..support.browser import launch
from ..support.databases import Databases
from ..support.live import Live
from ..support.tabs import Person, Tab
from ..support.wait import eventually
from ..support.wire import Wire

INBOX = """async (options) => {
    const { ChatClient } = await import("/api/chat/widget/nursecare-chat.js");
    window.client = new ChatClient(options);
    window.inbox = client.inbox();
    window.arrived = [];
    inbox.addEventListener("arrived", ({ detail }) => arrived.push([detail.threadId, detail.text]));
    window.said = () => inbox.threads.map((one) =>
        [one.threadId, one.unclaimed, one.unread, one.preview?.text ?? null, one.preview?.mine ?? null]);
    await inbox.start();
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Live]:
    live = Live("gevent", "reference", tmp_path_factory.mktemp("inbox"), databases, {"CHAT_STREAM_HEARTBEAT": "5"})
    yield live
    live.close()


@pytest.fixture
def live(server: Live) -> Live:
    """Without an open chat."""
    admin = server.login("admin")
    while threads := admin.http.get("/api/chat/threads?status=open&limit=50").json()["threads"]:
        for thread in threads:
            admin.close(thread["threadId"])
    return server


@pytest.fixture
def wire(live: Live) -> Iterator[Wire]:
    """What is between the admin's browser and the server."""
    wire = Wire(live.server.url)
    yield wire
    wire.close()


@pytest.fixture
def admin(browser: Browser, wire: Wire) -> Iterator[Person]:
    """In front of a browser; script errors fail the test."""
    context = browser.new_context()
    person = Person(context, wire.url, "admin")
    yield person
    context.close()
    assert person.errors == []


def look(admin: Person) -> Tab:
    tab = admin.tab()
    tab.do(INBOX, tab.options)
    tab.until("inbox.connection === 'live'")
    return tab


def says(tab: Tab, *threads: list[object]) -> None:
    """Wait until the inbox is just this: id, unclaimed, unread, last text, whether it is one's own."""
    expected = [list(thread) for thread in threads]
    eventually(lambda: tab.do("said()") == expected)


def has(tab: Tab, *threads: list[object]) -> None:
    """The same in any order: what happens in the same second has none."""
    expected = sorted(list(thread) for thread in threads)
    eventually(lambda: sorted(tab.do("said()")) == expected)


def test_the_inbox_follows(live: Live, admin: Person) -> None:
    """C27, C46: unclaimed ones first, then the latest; the unread; claimed by answering, here or by another."""
    client, other = live.login("client"), live.login("admin2")
    first, second = live.new_thread(), live.new_thread()
    tab = look(admin)
    says(tab, [second, True, 0, None, None], [first, True, 0, None, None])
    client.say(first, "hello")
    says(tab, [first, True, 1, "hello", False], [second, True, 0, None, None])
    third = live.new_thread()
    client.say(third, "me too")
    tab.until("said().length === 3")
    tab.do("thread => client.post(thread, { type: 'text', text: 'Good morning' })", first)
    tab.do("thread => inbox.markRead(thread, 1)", first)
    says(
        tab,
        [third, True, 1, "me too", False],
        [second, True, 0, None, None],
        [first, False, 0, "Good morning", True],
    )
    other.say(third, "I take this")
    says(tab, [second, True, 0, None, None], [first, False, 0, "Good morning", True])
    client.close(first)
    says(tab, [second, True, 0, None, None])
    assert tab.do("arrived") == [[first, "hello"], [third, "me too"]]


def test_the_inbox_and_the_network(live: Live, wire: Wire, admin: Person) -> None:
    """C46: what happened meanwhile is there, once; several tabs share one stream and what was read."""
    client = live.login("client")
    thread, closed = live.new_thread(), live.new_thread()
    tab, second = look(admin), look(admin)
    client.say(thread, "one")
    for one in (tab, second):
        says(one, [thread, True, 1, "one", False], [closed, True, 0, None, None])
    wire.cut()
    client.say(thread, "two")
    client.say(thread, "three")
    client.close(closed)
    opened = live.new_thread()
    wire.mend()
    for one in (tab, second):
        has(one, [opened, True, 0, None, None], [thread, True, 3, "three", False])
        one.until("arrived.length === 3")
    tab.do("thread => inbox.markRead(thread, 3)", thread)
    for one in (tab, second):
        has(one, [opened, True, 0, None, None], [thread, True, 0, "three", False])
    tab.page.close()
    client.say(thread, "four")
    has(second, [thread, True, 1, "four", False], [opened, True, 0, None, None])
    assert second.do("arrived") == [[thread, text] for text in ("one", "two", "three", "four")]


def test_a_long_inbox(live: Live, admin: Person) -> None:
    """C27: a page at a time."""
    threads = [live.new_thread() for _ in range(53)]
    tab = look(admin)
    assert tab.do("[inbox.threads.length, inbox.hasMore]") == [50, True]
    tab.do("inbox.loadMore()")
    assert tab.do("inbox.hasMore") is False
    assert tab.do("inbox.threads.map(({ threadId }) => threadId)") == threads[::-1]


def test_a_chat_beyond_the_first_pages(live: Live, admin: Person) -> None:
    """C27: an old chat that came into view by a message stays when the list, which goes by age, is looked at again."""
    client, other = live.login("client"), live.login("admin2")
    threads = [live.new_thread() for _ in range(103)]
    tab = look(admin)
    for thread in threads[:2]:
        client.say(thread, "Is anybody there?")
    tab.until("inbox.threads.filter(({ unread }) => unread === 1).length === 2")
    pages: list[str] = []
    tab.page.on("request", lambda one: pages.append(one.url) if "/threads?status=open" in one.url else None)
    for answer in ("I am.", "Can I help?"):
        tab.page.context.set_offline(True)
        tab.until("inbox.connection === 'offline'")
        other.say(threads[1], answer)
        tab.page.context.set_offline(False)
        tab.until("inbox.connection === 'live' && inbox.threads.length === 51")
    assert tab.do("said()")[0] == [threads[0], True, 1, "Is anybody there?", False]
    assert threads[1] not in tab.do("inbox.threads.map(({ threadId }) => threadId)")
    assert [url for url in pages if "cursor" in url] == []


def test_a_chat_that_goes_while_it_is_asked_for(live: Live, admin: Person) -> None:
    """C46: the answer to a question may be older than what the stream said meanwhile."""
    client = live.login("client")
    old = live.new_thread()
    for _ in range(50):
        live.new_thread()
    tab = look(admin)
    tab.do("""thread => {
        window.real = client.thread.bind(client);
        window.answer = Promise.withResolvers();
        client.thread = async (id) => { const found = await real(id); asked = id; await answer.promise; return found; };
        window.asked = null;
    }""")
    client.say(old, "hello")
    tab.until(f"asked === {old}")
    client.close(old)
    live.new_thread()
    tab.until("inbox.threads.length === 51")
    tab.do("answer.resolve()")
    tab.do("inbox.summaries.onchange()")
    assert old not in tab.do("inbox.threads.map(({ threadId }) => threadId)")


def test_keys_that_javascript_rounds(live: Live, admin: Person) -> None:
    """C2: integer keys are JSON numbers, which JavaScript has in 53 bits; string keys are compared as they are."""
    tab = look(admin)
    is_me = """async ([user, json]) => {
        const { ChatClient } = await import("/api/chat/widget/nursecare-chat.js");
        return new ChatClient({ user }).isMe(JSON.parse(json));
    }"""
    big = str(2**60 + 1)
    cases = [("3", "3"), (big, big), ("03", '"3"'), ("a/b", '"a/b"'), ("4", "3")]
    assert [tab.do(is_me, case) for case in cases] == [True, True, False, True, False]
