"""The admin's inbox in a real browser: what waits comes first, everything by itself, and by keyboard."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from ..support.axe import assert_accessible
from ..support.databases import Databases
from ..support.visitors import PICTURES, Host, connected, message_box, overflow, say, title_count

WIDE = {"width": 1280, "height": 800}
NARROW = {"width": 320, "height": 640}


@pytest.fixture
def live(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Host]:
    """A host of each test's own: the inbox has everything that is open."""
    host = Host(tmp_path_factory.mktemp("inbox"), databases)
    yield host
    host.close()


def section(page: Page, name: str) -> Locator:
    """The rows under one of the inbox's headings."""
    return page.locator(f"nursecare-chat-inbox .threads > section:has(h3:text-is('{name}')) .row")


def row(page: Page, text: str) -> Locator:
    return page.locator("nursecare-chat-inbox .row", has_text=text)


def named(rows: Locator, *names: str) -> None:
    expect(rows.locator(".row-name")).to_have_text(list(names))


def test_the_inbox_lives(live: Host, sit_down: Callable[..., Page]) -> None:
    """C27, C46: chats come, move and go by themselves, unclaimed first; unread ones are counted; answering claims."""
    admin, other = (sit_down(live, who, viewport=WIDE) for who in ("admin", "admin2"))
    for page in (admin, other):
        expect(page.get_by_role("heading", name="No open chats")).to_be_visible()
    client, client2 = live.login("client"), live.login("client2")
    wound = client.open(1)
    insulin = client2.open(3)
    waiting, mine = section(admin, "Waiting for an answer"), section(admin, "Your chats")
    expect(waiting).to_have_count(2)
    client.say(wound, "The dressing has come loose.")
    expect(row(admin, "Wound dressing at home")).to_contain_text("The dressing has come loose.")
    expect(row(admin, "Wound dressing at home")).to_contain_text("1 unread")
    named(waiting, "Wound dressing at home", "Insulin injection")
    client2.say(insulin, "May she come at eight?")
    expect(row(admin, "Insulin injection")).to_contain_text("May she come at eight?")
    named(waiting, "Insulin injection", "Wound dressing at home")
    expect(admin).to_have_title("(2) Inbox · NurseCare")
    expect(row(admin, "Insulin injection").get_by_text("New")).to_be_visible()
    admin.screenshot(path=PICTURES / "inbox.png")

    row(admin, "Wound dressing at home").click()
    connected(admin)
    chat = admin.locator("nursecare-chat")
    expect(chat.get_by_role("heading", name="Wound dressing at home")).to_be_visible()
    expect(chat.get_by_role("link", name="Show request")).to_have_attribute("href", "/requests/1")
    expect(admin).to_have_title("(1) Inbox · NurseCare")
    expect(mine).to_have_count(0)
    say(admin, "I look at it at once.")
    expect(mine).to_have_count(1)
    expect(row(admin, "Wound dressing at home")).to_contain_text("You: I look at it at once.")
    expect(section(other, "Waiting for an answer")).to_have_count(1)
    expect(row(other, "Wound dressing at home")).to_have_count(0)

    client2.say(insulin, "Hello?")
    expect(row(admin, "Insulin injection")).to_contain_text("2 unread")
    assert title_count(admin) == 2
    client.say(wound, "Thank you!")
    expect(chat.get_by_text("Thank you!")).to_be_visible()
    expect(row(admin, "Wound dressing at home")).not_to_contain_text("unread")
    admin.screenshot(path=PICTURES / "inbox-talk.png")

    client2.close(insulin)
    for page in (admin, other):
        expect(row(page, "Insulin injection")).to_have_count(0)
    expect(admin).to_have_title("Inbox · NurseCare")
    client.close(wound)
    expect(chat.get_by_role("heading", name="This chat is closed")).to_be_visible()
    expect(admin.get_by_role("heading", name="No open chats")).to_be_visible()


def test_the_inbox_by_keyboard(live: Host, sit_down: Callable[..., Page]) -> None:
    """C27, C46: arrows, Home, End, Enter, Escape; one stop for Tab; the focus stays with its row while others move."""
    client, client2 = live.login("client"), live.login("client2")
    for person, request, text in ((client, 1, "first"), (client2, 3, "second"), (client, 2, "third")):
        person.say(person.open(request), text)
    admin = sit_down(live, "admin", viewport=WIDE)
    rows = admin.locator("nursecare-chat-inbox .row")
    expect(rows.locator(".row-preview")).to_have_text(["third", "second", "first"])  # until then they may change places
    named(rows, "Blood pressure check", "Insulin injection", "Wound dressing at home")
    assert rows.evaluate_all("rows => rows.map(row => row.tabIndex)") == [0, -1, -1]
    rows.first.focus()
    for key, expected in (("ArrowDown", 1), ("End", 2), ("ArrowDown", 2), ("ArrowUp", 1), ("Home", 0), ("ArrowUp", 0)):
        admin.keyboard.press(key)
        expect(rows.nth(expected)).to_be_focused()
    client.say(client.open(1), "I am first now")
    expect(rows.first).to_contain_text("I am first now")
    expect(row(admin, "Blood pressure check")).to_be_focused()
    admin.keyboard.press("Enter")
    expect(message_box(admin)).to_be_focused()
    connected(admin)
    admin.keyboard.type("On Monday.")
    admin.keyboard.press("Enter")
    expect(section(admin, "Your chats")).to_have_count(1)
    expect(message_box(admin)).to_be_focused()
    admin.get_by_role("button", name="Close chat").press("Enter")
    admin.keyboard.press("Escape")  # ends the dialog alone
    expect(admin.get_by_role("alertdialog")).to_have_count(0)
    expect(message_box(admin)).to_be_visible()
    admin.keyboard.press("Escape")
    expect(message_box(admin)).to_have_count(0)
    expect(row(admin, "Blood pressure check")).to_be_focused()


def test_the_inbox_in_every_state(live: Host, sit_down: Callable[..., Page]) -> None:
    """C46: axe-core finds nothing: empty, with chats, with one chosen, on two panes and on one, which fits a phone."""
    admin = sit_down(live, "admin", viewport=WIDE, reduced_motion="reduce")
    expect(admin.get_by_role("heading", name="No open chats")).to_be_visible()
    assert_accessible(admin, "empty")
    client, client2 = live.login("client"), live.login("client2")
    thread = client.open(1)
    client.say(thread, "When does the nurse come?")
    client2.say(client2.open(3), "A text that is so long that a row cannot hold it at all, whatever is tried. " * 3)
    live.login("admin").say(thread, "At nine.")
    expect(row(admin, "At nine.")).to_be_visible()
    assert_accessible(admin, "list")
    row(admin, "At nine.").click()
    connected(admin)
    assert_accessible(admin, "two panes")
    admin.set_viewport_size({"width": 768, "height": 900})
    assert overflow(admin) == 0
    admin.screenshot(path=PICTURES / "inbox-768.png")
    admin.set_viewport_size(NARROW)
    expect(admin.get_by_role("heading", name="Inbox", exact=True)).to_be_hidden()
    assert_accessible(admin, "one pane")
    assert overflow(admin) == 0
    admin.screenshot(path=PICTURES / "inbox-narrow-chat.png")
    admin.get_by_role("button", name="Back to the inbox").click()
    expect(row(admin, "At nine.")).to_be_focused()
    assert overflow(admin) == 0
    rows = admin.locator("nursecare-chat-inbox .threads")
    assert rows.evaluate("element => element.scrollWidth - element.clientWidth") <= 0
    admin.screenshot(path=PICTURES / "inbox-narrow.png")


def test_a_host_shows_chats_its_own_way(live: Host, sit_down: Callable[..., Page]) -> None:
    """A script names the chats, and takes the choice over; without either they have their numbers."""
    client = live.login("client")
    client.say(client.open(1), "hello")
    admin = sit_down(live, "admin")
    admin.evaluate("""() => {
        const inbox = document.querySelector("nursecare-chat-inbox");
        inbox.describe = async ({ requestId }) => (requestId === 1 ? { title: "A knee" } : null);
        inbox.setAttribute("describe-url", "/elsewhere");
        window.chosen = [];
        document.addEventListener("nursecare-open", (event) => {
            event.preventDefault();
            chosen.push(event.detail.requestId);
        });
    }""")
    row(admin, "A knee").click()
    assert admin.evaluate("chosen") == [1]
    assert admin.locator("nursecare-chat").count() == 0
    client2 = live.login("client2")
    client2.open(3)
    expect(row(admin, "Request 3")).to_be_visible()
    expect(admin).to_have_title(re.compile("Inbox"))


def test_a_host_that_is_early_or_late(live: Host, sit_down: Callable[..., Page]) -> None:
    """C46: what a script calls chats is heard before the module is there and after it is; a number is a name."""
    live.login("client").open(1)
    admin = sit_down(live, "admin", viewport=WIDE)
    source = "/api/chat/widget/nursecare-chat-elements.js"
    body = f"""<!doctype html><title>Host</title><nursecare-chat-inbox></nursecare-chat-inbox><script>
        inbox = document.querySelector("nursecare-chat-inbox");
        inbox.describe = async ({{ requestId }}) => ({{ title: requestId * 1000, detail: null }});
    </script><script type="module" src="{source}"></script>"""
    admin.route("**/bare", lambda route: route.fulfill(body=body, content_type="text/html"))
    admin.goto(f"{live.server.url}/bare")
    rows = admin.locator("nursecare-chat-inbox .row")
    named(rows, "1000")
    rows.first.click()
    connected(admin)
    admin.evaluate("inbox.describe = async () => ({ title: 'Wound' })")
    named(rows, "Wound")
    expect(admin.locator("nursecare-chat").get_by_role("heading", name="Wound")).to_be_visible()


def test_half_an_answer_waits(live: Host, sit_down: Callable[..., Page]) -> None:
    """C46: who looks at another chat in between finds what was written; nobody else gets it."""
    first, second = live.login("client").open(1), live.login("client2").open(3)
    admin = sit_down(live, "admin", viewport=WIDE)
    row(admin, "Wound dressing at home").click()
    message_box(admin).fill("Please do not")
    row(admin, "Insulin injection").click()
    expect(admin.locator(f"nursecare-chat[thread='{second}']")).to_have_count(1)
    expect(message_box(admin)).to_have_value("")
    row(admin, "Wound dressing at home").click()
    expect(message_box(admin)).to_have_value("Please do not")
    message_box(admin).press("Escape")
    admin.locator("nursecare-chat-inbox").evaluate("inbox => inbox.setAttribute('lang', 'fr')")
    row(admin, "Wound dressing at home").click()
    admin.locator("nursecare-chat-inbox").evaluate("inbox => inbox.setAttribute('lang', 'en')")
    expect(message_box(admin)).to_have_value("Please do not")
    message_box(admin).press("Enter")
    expect(message_box(admin)).to_have_value("")
    expect(admin.locator(f"nursecare-chat[thread='{first}'] .message.sent")).to_have_text(re.compile("Please do not"))
