"""The widget for everybody: by keyboard, with a screen reader, in both directions, narrow, at night."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, Route, expect

from nursecare_chat import errors

from ..support.axe import SCHEMES, assert_accessible, speak, violations
from ..support.databases import Databases
from ..support.visitors import (
    PICTURES,
    PLACE,
    Host,
    close_chat,
    connected,
    enter,
    jpeg,
    message_box,
    overflow,
    say,
    share,
    share_place,
    stage,
    title_count,
)

OWN_CODES = {"network", "photo_unreadable", "photo_too_big", "photo_storage_away", "photo_refused", "unknown"}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Host]:
    host = Host(tmp_path_factory.mktemp("widget"), databases, CHAT_MAX_TEXT="300")
    yield host
    host.close()


@pytest.fixture
def request_page(live: Host) -> str:
    return f"/requests/{live.new_request()}"


def refuse(route: Route) -> None:
    if route.request.method != "POST":
        return route.fallback()
    route.fulfill(status=422, json={"code": "validation_failed", "message": "No.", "errors": {}})


DENY_PLACE = """
    window.asked = 0;
    navigator.geolocation.getCurrentPosition = (done, failed) => {
        asked++;
        failed({ code: 1, PERMISSION_DENIED: 1 });
    };
"""
FOCUSED = """() => {
    let one = document.activeElement;
    while (one.shadowRoot?.activeElement) one = one.shadowRoot.activeElement;
    return one.getAttribute("aria-label") ?? one.textContent;
}"""
LISTEN = """() => {
    window.announced = [];
    const region = document.querySelector("nursecare-chat").shadowRoot.querySelector(".frame > [aria-live=polite]");
    new MutationObserver(() => announced.push(region.textContent)).observe(region, { childList: true });
}"""
"""Keeps what is given to screen readers to say."""


# -- every state -----------------------------------------------------------------------------------------------------


def test_nothing_to_complain_of_in_any_state(live: Host, request_page: str, sit_down: Callable[..., Page]) -> None:
    """C17, C26: axe-core finds nothing from start to end, in dialogs, in trouble; light, dark, both directions."""
    options = {"geolocation": PLACE, "permissions": ["geolocation"], "reduced_motion": "reduce"}
    client = sit_down(live, "client", request_page, **options)
    admin = live.login("admin")
    expect(client.get_by_role("button", name="Start chat")).to_be_visible()
    assert_accessible(client, "start")
    enter(client)
    assert_accessible(client, "empty")
    say(client, "Hello, the dressing has come loose. Is it still all right?")
    share(client, jpeg())
    share_place(client)
    expect(client.locator(".message.sent")).to_have_count(3)
    (thread,) = (one["threadId"] for one in admin.http.get("/api/chat/threads").json()["threads"][:1])
    admin.say(thread, "Yes, it covers the wound.")
    expect(client.locator(".message.theirs")).to_have_count(1)
    client.route("**/messages", refuse)
    say(client, "this one is refused")
    expect(client.get_by_text("This message was not accepted.")).to_be_visible()
    stage(client, jpeg(), {"name": "letter.txt", "mimeType": "text/plain", "buffer": b"no photo"})
    expect(client.get_by_role("alert")).to_contain_text("“letter.txt” is not a photo")
    message_box(client).fill("x" * 301)
    expect(client.get_by_text("1 character too many").first).to_be_visible()
    assert_accessible(client, "talk, failed, staged")
    message_box(client).fill("")

    for language in ("ar", "en"):
        speak(client, language)
        for button in (".close", "button.tool", ".photo"):
            client.locator(button).first.click()
            expect(client.locator("dialog[open]")).to_be_visible()
            for scheme in SCHEMES:
                client.emulate_media(color_scheme=scheme)
                assert (button, language, scheme, violations(client)) == (button, language, scheme, [])
            client.keyboard.press("Escape")
            expect(client.locator("dialog[open]")).to_have_count(0)

    client.context.set_offline(True)
    expect(client.get_by_role("status").first).to_have_text("Offline")
    expect(client.get_by_text("You are offline.")).to_be_visible()
    assert_accessible(client, "offline")
    client.context.set_offline(False)
    connected(client)
    close_chat(client)
    expect(client.get_by_text(re.compile("^Erased on"))).to_be_visible()
    client.get_by_text("Receipt of the erasure").click()
    assert_accessible(client, "closed")
    client.locator("nursecare-chat").evaluate("element => element.setAttribute('thread', 999999)")
    expect(client.get_by_text("This chat does not exist.")).to_be_visible()
    assert_accessible(client, "denied")


def test_an_element_goes_and_comes(live: Host, request_page: str, sit_down: Callable[..., Page]) -> None:
    """C29, C33: taken out of the page it lets its stream go and leaves the title alone; put in again it begins anew."""
    admin, thread = live.login("admin"), live.login("client").open(request_page.rpartition("/")[2])
    client = sit_down(live, "client", request_page)
    enter(client)
    say(client, "one")
    expect(client.locator(".message.sent")).to_have_count(1)
    client.evaluate("window.chat = document.querySelector('nursecare-chat'); chat.remove()")
    admin.say(thread, "two")
    client.evaluate("document.querySelector('.request').append(chat)")
    connected(client)
    expect(client.locator(".message.sent")).to_have_text([re.compile("one"), re.compile("two")])
    admin.say(thread, "three")
    expect(client.locator(".message.sent")).to_have_count(3)
    assert client.locator(".message").count() == 3
    client.evaluate("chat.setAttribute('heading', 'A knee')")
    expect(client.get_by_role("heading", name="A knee")).to_be_visible()
    expect(client.locator(".message.sent")).to_have_count(3)
    client.evaluate(
        "request => { chat.setAttribute('auto', ''); chat.setAttribute('request', request); }", live.new_request()
    )
    expect(client.get_by_role("heading", name="No messages yet")).to_be_visible()
    connected(client)


@pytest.mark.parametrize("language", ["en", "ar"])
def test_narrow_or_enlarged_nothing_is_cut_off(
    live: Host, request_page: str, sit_down: Callable[..., Page], language: str
) -> None:
    """WCAG 2.2, 1.4.4 and 1.4.10: at 320 px, as 640 px are at 200 %, nothing scrolls sideways, long words included."""
    client = sit_down(live, "client", request_page, viewport={"width": 320, "height": 512}, device_scale_factor=2)
    enter(client)
    say(client, "https://example.org/" + "a-very-long-address" * 12)
    share(client, jpeg())
    expect(client.locator(".message.sent")).to_have_count(2)
    speak(client, language)
    expect(client.locator(".message.sent")).to_have_count(2)
    assert overflow(client) == 0
    for part in (".log", ".head", ".composer"):
        wider = client.locator(part).first.evaluate("element => element.scrollWidth - element.clientWidth")
        assert wider <= 0, part
    client.screenshot(path=PICTURES / f"narrow-{language}.png")
    client.locator(".close").click()
    dialog = client.locator("dialog[open]")
    assert dialog.evaluate("element => element.scrollWidth - element.clientWidth") <= 0
    box = dialog.bounding_box()
    assert box is not None
    assert (box["x"], box["width"]) == (0, 320)
    client.screenshot(path=PICTURES / f"narrow-{language}-close.png")


def test_nothing_moves_for_who_wants_it_still(live: Host, request_page: str, sit_down: Callable[..., Page]) -> None:
    """WCAG 2.2, 2.3.3: prefers-reduced-motion; without it there are animations, so the test would see them."""
    client = sit_down(live, "client", request_page)
    enter(client)
    say(client, "hello")
    moving = "element => [getComputedStyle(element).animationName, getComputedStyle(element).transitionDuration].join()"
    message = client.locator(".message").first
    assert message.evaluate(moving) == "arrive,0s"
    client.emulate_media(reduced_motion="reduce")
    assert message.evaluate(moving) == "none,0s"
    client.get_by_role("button", name="Close chat").click()
    assert client.locator("dialog").evaluate(moving) == "none,0s"


# -- by keyboard, and by ear -----------------------------------------------------------------------------------------


def test_a_talk_by_keyboard(live: Host, request_page: str, sit_down: Callable[..., Page]) -> None:
    """C17, C21, C26: start, write, share a place, look at a photo, close: without a mouse, the focus never lost."""
    client = sit_down(live, "client", request_page, geolocation=PLACE, permissions=["geolocation"])

    def tab_to(name: str) -> None:
        for _ in range(30):
            client.keyboard.press("Tab")
            if name in client.evaluate(FOCUSED):
                return
        raise AssertionError(f"Tab does not come to {name!r}.")

    expect(client.get_by_role("button", name="Start chat")).to_be_visible()
    tab_to("Start chat")
    client.keyboard.press("Enter")
    expect(message_box(client)).to_be_focused()
    connected(client)
    client.keyboard.type("first line")
    client.keyboard.press("Shift+Enter")
    client.keyboard.type("second line")
    client.keyboard.press("Enter")
    expect(client.locator(".message.sent")).to_have_text(re.compile("first line\nsecond line"))
    expect(message_box(client)).to_be_focused()
    expect(message_box(client)).to_have_value("")

    tab_to("Share location")
    client.keyboard.press("Enter")
    expect(client.get_by_role("button", name="Share my location")).to_be_focused()
    client.keyboard.press("Escape")
    expect(client.get_by_role("button", name="Share location")).to_be_focused()
    client.keyboard.press("Enter")
    client.keyboard.press("Enter")
    expect(client.locator(".message.location.sent")).to_have_count(1)

    message_box(client).focus()
    client.keyboard.press("Shift+Tab")  # the map's link; the log itself scrolls by the keyboard
    client.keyboard.press("Shift+Tab")
    expect(client.get_by_role("log")).to_be_focused()
    client.keyboard.press("Shift+Tab")
    expect(client.get_by_role("button", name="Close chat")).to_be_focused()
    client.keyboard.press("Enter")
    expect(client.get_by_role("button", name="Keep chatting")).to_be_focused()
    client.keyboard.press("Tab")
    client.keyboard.press("Enter")
    expect(client.get_by_role("heading", name="This chat is closed")).to_be_focused()


def test_what_is_composed_is_not_sent(live: Host, request_page: str, sit_down: Callable[..., Page]) -> None:
    """C21: Enter that ends a composition (Japanese, Chinese) sends nothing; nor does one over the limit."""
    client = sit_down(live, "client", request_page)
    enter(client)
    message_box(client).fill("にほん")
    for detail in ({"isComposing": True}, {"keyCode": 229}):
        message_box(client).dispatch_event("keydown", {"key": "Enter", "bubbles": True, "cancelable": True, **detail})
    message_box(client).fill("😀" * 301)
    expect(client.get_by_text("1 character too many").first).to_be_visible()
    message_box(client).press("Enter")
    expect(message_box(client)).to_have_value("😀" * 301)
    message_box(client).fill("😀" * 300)
    expect(client.get_by_text("0 characters left").first).to_be_visible()
    message_box(client).press("Enter")
    expect(client.locator(".message.sent")).to_have_count(1)
    expect(client.locator(".message")).to_have_count(1)


def test_what_screen_readers_say(live: Host, request_page: str, sit_down: Callable[..., Page]) -> None:
    """C29: what comes is said once, shortly, politely; not what was there, nor one's own words; a flood is counted."""
    admin, thread = live.login("admin"), live.login("client").open(request_page.rpartition("/")[2])
    admin.say(thread, "from before")
    client = sit_down(live, "client", request_page)
    enter(client)
    log = client.get_by_role("log", name="Messages")
    assert log.get_attribute("aria-live") == "off"
    client.evaluate(LISTEN)
    say(client, "my own words")
    expect(client.locator(".message.mine.sent")).to_have_count(1)
    admin.say(thread, "We come at nine. " + "x" * 200)
    client.wait_for_function("() => announced.length === 1")
    (said,) = client.evaluate("announced")
    assert said.startswith("Care team: We come at nine. xxx")
    assert len(said) <= 161
    for number in range(5):
        admin.say(thread, f"line {number}")
    client.wait_for_function("() => announced.length >= 2")
    expect(client.locator(".message.theirs")).to_have_count(7)
    assert client.evaluate("announced.length") < 6
    assert "new messages" in client.evaluate("announced").pop()
    admin.close(thread)
    expect(client.get_by_role("heading", name="This chat is closed")).to_be_visible()
    assert client.evaluate("announced").pop() == ""


def test_unread_messages(live: Host, request_page: str, sit_down: Callable[..., Page]) -> None:
    """C19, C30: who reads further up stays there, hears how many came, finds where they begin; the title counts."""
    admin, thread = live.login("admin"), live.login("client").open(request_page.rpartition("/")[2])
    for number in range(60):
        admin.say(thread, f"message {number}")
    options = {"viewport": {"width": 420, "height": 700}, "reduced_motion": "reduce"}
    client = sit_down(live, "client", request_page, **options)
    enter(client)
    expect(client.locator(".message")).to_have_count(50)
    expect(client.get_by_text("message 59")).to_be_in_viewport()
    expect(client).to_have_title(re.compile("^t · NurseCare$"))

    log = client.get_by_role("log")
    log.evaluate("log => { log.scrollTop = log.scrollHeight / 2; }")
    expect(client.get_by_role("button", name="Latest messages")).to_be_visible()
    middle = client.get_by_text("message 35", exact=True)
    before = middle.bounding_box()
    admin.say(thread, "one more")
    admin.say(thread, "and another")
    jump = client.get_by_role("button", name="2 new messages")
    expect(jump).to_be_visible()
    expect(client).to_have_title("(2) t · NurseCare")
    assert title_count(client) == 2
    assert middle.bounding_box() == before
    client.screenshot(path=PICTURES / "unread.png")

    log.evaluate("log => { log.scrollTop = 10; }")  # what was before comes, and what is read stays where it is
    expect(client.locator(".message")).to_have_count(62)
    expect(client.get_by_text("message 10", exact=True)).to_be_in_viewport()
    expect(client.get_by_text("message 0", exact=True)).not_to_be_in_viewport()

    jump.click()
    expect(client.get_by_text("and another")).to_be_in_viewport()
    expect(client.locator(".new-marker")).to_have_text("2 new messages")
    expect(client.locator(".new-marker + .message")).to_contain_text("one more")
    expect(client).to_have_title("t · NurseCare")
    say(client, "I have read it")
    expect(client.locator(".new-marker")).to_have_count(0)


# -- consent, languages, colours -------------------------------------------------------------------------------------


def test_no_consent_no_place(live: Host, request_page: str, sit_down: Callable[..., Page]) -> None:
    """C21: the browser is asked for the position only after a yes; if it refuses, that is said, nothing sent."""
    client = sit_down(live, "client", request_page)
    client.add_init_script(DENY_PLACE)
    client.reload()
    enter(client)
    client.get_by_role("button", name="Share location").click()
    dialog = client.get_by_role("dialog", name="Share your location?")
    dialog.get_by_role("button", name="Not now").click()
    assert client.evaluate("asked") == 0
    client.get_by_role("button", name="Share location").click()
    dialog.get_by_role("button", name="Share my location").click()
    expect(dialog).to_contain_text("Your browser does not allow this page to see where you are.")
    assert client.evaluate("asked") == 1
    dialog.get_by_role("button", name="Not now").click()
    assert client.locator(".message").count() == 0


def test_catalogues(live: Host, sit_down: Callable[..., Page]) -> None:
    """C12: each language has every text with the same places in it, its own plurals, and words for every code."""
    page = sit_down(live, "client")
    loaded = """name => import(`/api/chat/widget/catalogue-${name}.js`).then((module) => module.default)"""
    catalogues = {name: page.evaluate(loaded, name) for name in ("en", "ar")}
    english = catalogues["en"]
    codes = {
        kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ChatError)
    }
    assert {key.removeprefix("error.") for key in english if key.startswith("error.")} == codes | OWN_CODES

    def places(text: str | dict[str, str]) -> set[str]:
        return set(re.findall(r"\{(\w+)\}", text if isinstance(text, str) else text["other"]))

    for name, catalogue in catalogues.items():
        assert catalogue.keys() == english.keys()
        forms = page.evaluate("name => new Intl.PluralRules(name).resolvedOptions().pluralCategories", name)
        for key, text in catalogue.items():
            assert places(text) == places(english[key]), key
            assert isinstance(text, dict) == isinstance(english[key], dict), key
            assert not isinstance(text, dict) or set(text) == set(forms), key


def test_a_host_adds_a_language(live: Host, request_page: str, sit_down: Callable[..., Page]) -> None:
    """A catalogue of a host's own; what it does not have stays English. The page's language is the element's."""
    client = sit_down(live, "client", request_page)
    enter(client)
    client.evaluate("""async () => {
        const { addCatalogue } = await customElements.whenDefined("nursecare-chat");
        addCatalogue("fr", { direction: "ltr", "chat.close": "Fermer", "chat.new": { one: "un", other: "des" } });
        document.querySelector("nursecare-chat").lang = "fr-CH";
    }""")
    expect(client.get_by_role("button", name="Fermer")).to_be_visible()
    expect(client.get_by_role("textbox", name="Message")).to_be_visible()
    speak(client, "ar")
    frame = client.locator("nursecare-chat .frame")
    expect(frame).to_have_attribute("dir", "rtl")
    expect(client.get_by_role("button", name="إغلاق المحادثة")).to_be_visible()
    message_box = client.get_by_role("textbox", name="الرسالة")
    message_box.fill("السلام عليكم")
    client.get_by_role("button", name="إرسال", exact=True).click()
    expect(client.locator(".message.sent")).to_have_count(1)
    client.screenshot(path=PICTURES / "arabic.png")


def test_a_host_chooses_colours(live: Host, request_page: str, sit_down: Callable[..., Page]) -> None:
    """Custom properties reach the bubbles, ``theme`` has the last word over the system's scheme, parts are there."""
    client = sit_down(live, "client", request_page, color_scheme="light")
    enter(client)
    say(client, "mine")
    bubble, frame = client.locator(".bubble").first, client.locator("nursecare-chat .frame")
    colour = "element => getComputedStyle(element).backgroundColor"
    client.evaluate("document.querySelector('nursecare-chat').style.setProperty('--nursecare-mine', 'rgb(1, 2, 3)')")
    assert bubble.evaluate(colour) == "rgb(1, 2, 3)"
    light = frame.evaluate(colour)
    client.evaluate("document.querySelector('nursecare-chat').setAttribute('theme', 'dark')")
    expect(frame).to_have_attribute("data-scheme", "dark")
    assert frame.evaluate(colour) != light
    client.evaluate("""() => {
        const sheet = new CSSStyleSheet();
        sheet.replaceSync("nursecare-chat::part(title) { color: rgb(4, 5, 6); }");
        document.adoptedStyleSheets = [sheet];
    }""")
    title = client.locator("nursecare-chat").get_by_role("heading", name="Chat")
    assert title.evaluate("element => getComputedStyle(element).color") == "rgb(4, 5, 6)"


@pytest.mark.parametrize(("lang", "language"), [("ar_EG", "ar-EG"), ("en-US.UTF-8", "en"), ("en-", "en")])
def test_what_servers_call_languages(
    lang: str, language: str, live: Host, request_page: str, sit_down: Callable[..., Page]
) -> None:
    """What is no BCP 47 tag is read as far as it can be, and never leaves the element empty."""
    client = sit_down(live, "client", request_page)
    speak(client, lang)
    expect(client.locator("nursecare-chat .frame")).to_have_attribute("lang", language)
    expect(client.locator("nursecare-chat .frame")).to_have_attribute("dir", "rtl" if language == "ar-EG" else "ltr")


def test_a_photo_that_does_not_fit(live: Host, request_page: str, sit_down: Callable[..., Page]) -> None:
    """C24: what this browser cannot make ready is said, and trying again is not offered in vain."""
    client = sit_down(live, "client", request_page)
    client.locator("nursecare-chat").evaluate("element => element.setAttribute('max-image-bytes', 100)")
    enter(client)
    share(client, jpeg())
    expect(client.locator(".message.failed")).to_have_count(1)
    expect(client.get_by_role("button", name="Discard")).to_be_visible()
    assert client.get_by_role("button", name="Try again").count() == 0


# -- what the element finds --------------------------------------------------------------------------------------------


def test_a_request_among_many(live: Host, request_page: str, sit_down: Callable[..., Page]) -> None:
    """C17, C27: its chat is shown at once, on whichever page of the list it is, though the network fails first."""
    live.login("client").open(request_page.rpartition("/")[2])
    for _ in range(50):
        live.new_thread()
    client = sit_down(live, "client")
    asked: list[str] = []

    def away(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=502, body="Bad Gateway") if len(asked) == 1 else route.fallback()

    client.route("**/api/chat/threads?*", away)
    client.goto(live.server.url + request_page)
    connected(client)
    assert len(asked) == 3
    assert client.get_by_role("button", name="Start chat").count() == 0


def test_a_device_whose_clock_is_behind(live: Host, request_page: str, sit_down: Callable[..., Page]) -> None:
    """C15: what waits has the device's time; days begin as often as they do, and nothing moves at each change."""
    admin, thread = live.login("admin"), live.login("client").open(request_page.rpartition("/")[2])
    client = sit_down(live, "client")
    client.clock.set_system_time("2020-05-05T12:00:00Z")
    client.goto(live.server.url + request_page)
    enter(client)
    client.route("**/messages", lambda route: route.abort() if route.request.method == "POST" else route.fallback())
    admin.say(thread, "now")
    expect(client.locator(".message.theirs")).to_have_count(1)
    say(client, "one, in 2020")
    expect(client.locator(".message.mine")).to_have_count(1)
    admin.say(thread, "now again")
    expect(client.locator(".message")).to_have_count(3)
    client.evaluate("""() => {
        const chat = document.querySelector("nursecare-chat");
        const { conversation } = chat;
        const [first, second, waiting] = conversation.messages;
        const late = { ...second, created_at: waiting.created_at };
        const last = { ...first, key: "last", seq: 3 };
        chat.list.update({ messages: [first, late, last], lastRead: 3, unread: 0, hasOlder: false }, true);
        window.moved = 0;
        new MutationObserver((all) => (moved += all.length)).observe(chat.list.list, { childList: true });
        chat.list.update({ messages: [first, late, last], lastRead: 3, unread: 0, hasOlder: false }, true);
    }""")
    assert client.evaluate("moved") == 0
    expect(client.locator(".separator.day")).to_have_count(3)
