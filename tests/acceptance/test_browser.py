"""Two people in two real browsers, on the reference host's own pages, which have the widget in them."""

from __future__ import annotations

import io
import os
import re
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect

from ..support.databases import Databases
from ..support.servers import Server
from ..support.visitors import (
    PICTURES,
    PLACE,
    Host,
    close_chat,
    connected,
    enter,
    jpeg,
    message_box,
    photos,
    plain,
    say,
    served,
    share,
    size_of,
    stage,
    texts,
)

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
MARKUP = "<img src=x onerror=alert(1)>"
STREAM = re.compile(r"/stream(\?|$)")
NOT_SENT = "What you write is kept here"

COUNT_OBJECT_URLS = """
    window.objectUrls = new Set();
    const [create, revoke] = [URL.createObjectURL, URL.revokeObjectURL];
    URL.createObjectURL = (file) => { const url = create(file); objectUrls.add(url); return url; };
    URL.revokeObjectURL = (url) => { objectUrls.delete(url); revoke(url); };
"""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Host]:
    """One host; each test takes a request of its own there."""
    host = Host(tmp_path_factory.mktemp("browser"), databases)
    yield host
    host.close()


@pytest.fixture
def request_page(live: Host) -> str:
    return f"/requests/{live.new_request()}"


@pytest.fixture
def meet(live: Host, request_page: str, sit_down: Callable[..., Page]) -> Callable[..., tuple[Page, Page]]:
    """A client and an admin in one chat."""

    def both(script: str = "", **options: Any) -> tuple[Page, Page]:
        client, admin = (sit_down(live, who, **options) for who in ("client", "admin"))
        if script:
            client.add_init_script(script)
        for page in (client, admin):
            page.goto(live.server.url + request_page)
            enter(page)
        return client, admin

    return both


def erased(page: Page) -> None:
    expect(page.get_by_role("heading", name="This chat is closed")).to_be_visible()
    expect(message_box(page)).to_be_hidden()


def sequence(page: Page) -> list[str]:
    found: list[str] = page.locator(".message").evaluate_all("all => all.map(one => one.dataset.seq)")
    return found


def test_two_people_talk_one_closes_it_is_gone(live: Host, sit_down: Callable[..., Page]) -> None:
    """C17, C21, C29, C26, C40, C41: text both ways, a place, a reload, the end, and nothing left in the database;
    under a strict content security policy, with nothing at all in the console."""
    console: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        console.append(f"{message.type}: {message.text}")

    phone = {"viewport": {"width": 390, "height": 800}, "geolocation": PLACE, "permissions": ["geolocation"]}
    client = sit_down(live, "client", **phone)
    admin = sit_down(live, "admin", "/requests", viewport={"width": 1280, "height": 820})
    for page in (client, admin):
        page.on("console", hear)
    client.get_by_role("link", name="Wound dressing at home").click()
    expect(client.get_by_text("everything in it is erased for good")).to_be_visible()
    client.screenshot(path=PICTURES / "start.png")
    enter(client)
    expect(client.get_by_role("heading", name="No messages yet")).to_be_visible()
    say(client, "Hello, when will the nurse come tomorrow?")
    expect(client.locator(".message.sent")).to_have_count(1)
    admin.reload()
    expect(admin.get_by_text("waiting for an answer")).to_be_visible()
    admin.get_by_role("link", name="Wound dressing at home").click()
    enter(admin)
    say(admin, "Around nine. Is the bell working?")
    expect(client.locator(".message")).to_have_count(2)
    say(client, "Yes, second floor.\nI share where the door is.")
    client.get_by_role("button", name="Share location").click()
    consent = client.get_by_role("dialog", name="Share your location?")
    expect(consent).to_contain_text("Your position is read once, now, and sent as a message.")
    client.screenshot(path=PICTURES / "consent.png")
    expect(client.locator(".message.location")).to_have_count(0)
    consent.get_by_role("button", name="Share my location").click()
    expect(admin.locator(".message")).to_have_count(4)
    link = admin.get_by_role("link", name="Open map")
    assert (link.get_attribute("href") or "").startswith("https://www.openstreetmap.org/?mlat=52.5163&mlon=13.3777#")
    assert link.get_attribute("rel") == "noopener noreferrer"
    expect(admin.get_by_text("52.51630, 13.37770").first).to_be_visible()
    admin.screenshot(path=PICTURES / "admin.png")
    client.screenshot(path=PICTURES / "client.png")
    say(admin, MARKUP)
    expect(client.get_by_text(MARKUP, exact=True)).to_be_visible()
    assert client.locator(".bubble img").count() == 0

    client.reload()
    connected(client)
    expect(client.locator(".message")).to_have_count(5)
    assert texts(client) == texts(admin)

    admin.get_by_role("button", name="Close chat").click()
    warning = admin.get_by_role("alertdialog", name="Close and erase this chat?")
    expect(warning).to_contain_text("All messages, photos and locations are erased, for everybody in it.")
    expect(warning).to_contain_text("This cannot be undone")
    expect(warning.get_by_role("button", name="Keep chatting")).to_be_focused()
    admin.screenshot(path=PICTURES / "close.png")
    warning.get_by_role("button", name="Close and erase").click()
    for page in (client, admin):
        erased(page)
        assert page.locator(".message").count() == 0
        expect(page.get_by_text(re.compile("^Erased on .+"))).to_be_visible(timeout=30_000)
    assert _texts_in(live.bench.path) == 0
    client.screenshot(path=PICTURES / "closed.png")
    client.get_by_text("Receipt of the erasure").click()
    expect(client.get_by_text("5 messages erased")).to_be_visible()
    receipt = client.request.get(
        live.server.url + client.get_by_role("link", name="Download receipt").get_attribute("href")
    )
    assert receipt.json()["state"] in ("purged", "settled")
    admin.get_by_role("link", name="← Requests").click()
    expect(admin.get_by_text("chat erased")).to_be_visible()
    assert console == []


def _texts_in(database: Path) -> int:
    connection = sqlite3.connect(database, timeout=10)
    (count,) = connection.execute("SELECT count(*) FROM chat_messages WHERE text IS NOT NULL").fetchone()
    connection.close()
    return int(count)


def test_a_page_survives_a_restart_of_the_server(live: Host, meet: Callable[..., tuple[Page, Page]]) -> None:
    """C30: messages typed and sent while the server is away arrive once, in order, and none is lost."""
    client, admin = meet()
    say(client, "one")
    expect(admin.locator(".message")).to_have_count(1)
    os.killpg(live.server.popen.pid, signal.SIGKILL)
    live.server.popen.wait()
    say(client, "two")
    say(client, "three")
    expect(client.locator(".message.sending")).to_have_count(2)
    expect(client.get_by_text(NOT_SENT)).to_be_visible()
    client.screenshot(path=PICTURES / "reconnecting.png")
    live.server = Server.again(live.server)
    expect(admin.locator(".message")).to_have_count(3)
    connected(admin)
    say(admin, "four")
    expect(client.locator(".message.sent")).to_have_count(4)
    assert texts(client) == texts(admin) == ["one", "two", "three", "four"]
    expect(client.get_by_text(NOT_SENT)).to_be_hidden()


def test_the_request_is_done(live: Host, request_page: str, sit_down: Callable[..., Page]) -> None:
    """C44: the host completes the request and closes its chat in one transaction; the client's page sees the end."""
    client, admin = (sit_down(live, who, request_page) for who in ("client", "admin"))
    enter(client)
    say(client, "Thank you, all is well.")
    expect(client.locator(".message.sent")).to_have_count(1)
    admin.get_by_role("button", name="Mark as done").click()
    expect(admin.get_by_text("· done")).to_be_visible()
    for page in (client, admin):
        erased(page)
        expect(page.get_by_role("status").first).to_have_text("Closed")
    client.reload()
    erased(client)


def test_login_page(live: Host, sit_down: Callable[..., Page]) -> None:
    """The reference host: a wrong password is said, a person without requests sees so."""
    nurse = sit_down(live, "nurse")
    expect(nurse.get_by_text("There are no requests")).to_be_visible()
    nurse.get_by_role("button", name="Log out").click()
    nurse.get_by_label("E-mail").fill("nurse@nursecare.test")
    nurse.get_by_label("Password").fill("wrong")
    nurse.get_by_role("button", name="Log in").click()
    expect(nurse.get_by_role("alert")).to_have_text("This e-mail address and password do not match.")
    nurse.screenshot(path=PICTURES / "login.png")
    nurse.get_by_label("E-mail").fill("client@nursecare.test")
    nurse.get_by_label("Password").fill("demo")
    nurse.get_by_role("button", name="Log in").click()
    expect(nurse.get_by_role("heading", name="Your requests")).to_be_visible()


# -- photos ----------------------------------------------------------------------------------------------------------


def test_a_photo_goes_from_one_browser_to_the_other(meet: Callable[..., tuple[Page, Page]]) -> None:
    """C20, C24, C25, C41: upright and without what its camera wrote, small and large, by keyboard, until the close."""
    client, admin = meet(COUNT_OBJECT_URLS, viewport={"width": 1100, "height": 860}, color_scheme="dark")
    client.set_viewport_size({"width": 360, "height": 740})
    say(client, "Hello, the dressing has come loose. Is it still all right?")
    stage(client, jpeg())
    expect(client.get_by_role("list", name="Photos to send").get_by_role("listitem")).to_have_count(1)
    client.screenshot(path=PICTURES / "photo-staged.png")
    client.get_by_role("button", name="Send", exact=True).click()
    for page in (admin, client):
        photo = photos(page, 1)
        assert size_of(photo) == [960, 720]
        box = photo.bounding_box()
        assert box is not None
        assert box["width"] / box["height"] == pytest.approx(4 / 3, rel=0.02)
    with Image.open(io.BytesIO(served(admin, photos(admin, 1)))) as picture:
        assert (picture.format, picture.size, dict(picture.getexif())) == ("JPEG", (960, 720), {})
    assert b"Telltale" not in served(admin, photos(admin, 1))
    expect(client.locator(".sending")).to_have_count(0)
    say(admin, "Yes, it covers the wound. I look at it tomorrow at nine.")
    expect(client.locator(".message")).to_have_count(3)
    admin.screenshot(path=PICTURES / "photo-dark.png")
    client.screenshot(path=PICTURES / "photo-narrow.png")

    dialog = admin.get_by_role("dialog", name="Photo")
    admin.get_by_role("button", name="Photo, received").press("Enter")
    expect(dialog.get_by_role("img", name="Photo, received")).to_be_visible()
    assert size_of(dialog.locator("img")) == [960, 720]
    admin.screenshot(path=PICTURES / "photo-large.png")
    admin.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(admin.get_by_role("button", name="Photo, received")).to_be_focused()
    client.get_by_role("button", name="Photo, sent").click()
    client.screenshot(path=PICTURES / "photo-large-narrow.png")

    close_chat(admin)
    for page in (client, admin):
        erased(page)
        expect(page.get_by_role("dialog")).to_be_hidden()
        assert page.locator("nursecare-chat img").count() == 0
    assert client.evaluate("objectUrls.size") == 0


def test_several_photos_at_once_chosen_pasted_and_dropped(meet: Callable[..., tuple[Page, Page]]) -> None:
    """C24, C25: they arrive one after the other in the order in which they were given, whatever their names say."""
    client, admin = meet()
    pngs = [plain("PNG", "red", f"{number}.png") for number in range(4)]
    stage(client, *pngs, plain("WEBP", "red", "misnamed.jpg"), plain("PNG", "lime", "mistaken.png"))
    client.get_by_role("button", name="Remove mistaken.png").click()
    transfer = client.evaluate_handle(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "given.png", {type: "image/png"}));
            return transfer;
        }""",
        list(plain("PNG", "blue", "")["buffer"]),
    )
    message_box(client).dispatch_event("dragover", {"dataTransfer": transfer})
    expect(client.get_by_text("Drop photos here")).to_be_visible()
    message_box(client).dispatch_event("drop", {"dataTransfer": transfer})
    expect(client.get_by_text("Drop photos here")).to_be_hidden()
    paste = "(box, data) => box.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true}))"
    message_box(client).evaluate(paste, transfer)
    expect(client.get_by_role("list", name="Photos to send").get_by_role("listitem")).to_have_count(7)
    message_box(client).fill("So it looks today.")
    client.screenshot(path=PICTURES / "photos-staged.png")
    message_box(client).press("Enter")
    shown = photos(admin, 7)
    expect(admin.locator(".message")).to_have_count(8)
    kinds = [Image.open(io.BytesIO(served(admin, shown.nth(index)))) for index in range(7)]
    assert [kind.format for kind in kinds] == ["PNG"] * 4 + ["WEBP", "PNG", "PNG"]
    assert [kind.convert("RGB").getpixel((9, 9))[2] > 200 for kind in kinds] == [False] * 5 + [True] * 2
    assert sequence(client) == list("12345678")


def test_what_is_no_photo_is_refused_with_words(live: Host, request_page: str, sit_down: Callable[..., Page]) -> None:
    """C24, C25: before an upload where the browser sees it, after it where the server does; the rest goes on."""
    client = sit_down(live, "client", request_page, viewport={"width": 360, "height": 740})
    asked: list[str] = []
    client.on("request", lambda request: asked.append(request.url) if request.url.endswith("/uploads") else None)
    enter(client)
    broken = {"name": "broken.jpg", "mimeType": "image/jpeg", "buffer": jpeg()["buffer"][:20]}
    drawing = {"name": "drawing.jpg", "mimeType": "image/jpeg", "buffer": SVG}
    stage(client, drawing, broken, {"name": "empty.png", "mimeType": "image/png", "buffer": b""})
    alert = client.get_by_role("alert")
    for name in ("drawing.jpg", "broken.jpg", "empty.png"):
        expect(alert).to_contain_text(f"“{name}” is not a photo that can be sent. Choose a JPEG, PNG, or WebP file.")
    assert asked == []
    client.screenshot(path=PICTURES / "photo-refused.png")
    share(client, plain("PNG", "red", "sound.png"))
    photos(client, 1)
    expect(alert).to_be_empty()

    person = live.login("client")
    thread = person.open(request_page.rpartition("/")[2])
    for _ in range(5):  # as after five uploads that broke off
        body = {"contentType": "image/png", "size": 9}
        assert person.http.post(f"/api/chat/threads/{thread}/uploads", json=body).status_code == 200
    share(client, plain("PNG", "red", "sixth.png"))
    say(client, "One photo is missing.")
    failed = client.locator(".message.failed")
    expect(failed).to_contain_text("Too many photos are on their way. Please wait a few minutes and try again.")
    expect(client.get_by_text("One photo is missing.")).to_be_visible()
    client.screenshot(path=PICTURES / "photo-failed.png")
    failed.get_by_role("button", name="Discard").click()
    expect(client.locator(".message")).to_have_count(2)


def test_an_upload_survives_a_bad_network(meet: Callable[..., tuple[Page, Page]]) -> None:
    """C23, C24: a photo arrives once, whatever was lost on the way there or back; a refused address is renewed."""
    client, admin = meet()
    puts, posts = [], []

    def lose_on_the_way_back(route: Route) -> None:
        route.fetch()
        route.abort("connectionreset")

    def unreliable(route: Route) -> None:
        path = urlsplit(route.request.url).path
        if route.request.method == "PUT":
            puts.append(path)
            if len(puts) == 1:
                return route.abort("connectionreset")
            if len(puts) == 2:
                return route.fulfill(status=403, json={"code": "bad_signature", "message": "This address has expired."})
            if len(puts) == 3:
                return lose_on_the_way_back(route)
        elif route.request.method == "POST":
            posts.append(path)
            if posts.count(path) == 1:
                return lose_on_the_way_back(route)
        return route.continue_()

    client.route(re.compile(r"/uploads$|/api/chat/media/|/messages$"), unreliable)
    share(client, jpeg(name="first.jpg"))
    expect(client.get_by_role("progressbar", name="Sending photo")).to_be_visible()
    client.screenshot(path=PICTURES / "photo-sending.png")
    for page in (admin, client):
        assert size_of(photos(page, 1)) == [960, 720]
    expect(client.locator(".sending")).to_have_count(0)
    expect(client.locator(".message")).to_have_count(1)
    assert [path == puts[0] for path in puts] == [True, True, False, False]
    # The stream may bring the message before it is posted once more.
    assert [path.rpartition("/")[2] for path in posts][:4] == ["uploads", "uploads", "uploads", "messages"]
    assert len(posts) <= 5


def test_a_photo_can_be_called_back_before_it_is_sent(
    live: Host, request_page: str, sit_down: Callable[..., Page]
) -> None:
    """C24: Cancel ends an upload, and those behind it go on."""
    client = sit_down(live, "client")
    client.add_init_script(COUNT_OBJECT_URLS)
    client.goto(live.server.url + request_page)
    enter(client)
    client.route("**/api/chat/media/*", lambda route: route.abort())
    share(client, plain("PNG", "red", "wrong.png"), plain("PNG", "blue", "right.png"))
    expect(client.locator(".message.sending")).to_have_count(2)
    client.get_by_role("button", name="Cancel sending this photo").first.click()
    expect(message_box(client)).to_be_focused()
    expect(client.locator(".message")).to_have_count(1)
    client.unroute("**/api/chat/media/*")
    photos(client, 1)
    assert client.evaluate("objectUrls.size") == 1  # what is shown of the one that was sent
    client.reload()
    with Image.open(io.BytesIO(served(client, photos(client, 1)))) as picture:
        assert picture.convert("RGB").getpixel((9, 9)) == (0, 0, 255)


def test_a_close_ends_an_upload(meet: Callable[..., tuple[Page, Page]]) -> None:
    """C22, C41: nothing of a photo that was on its way stays on the page, and nobody tries it again."""
    client, admin = meet(COUNT_OBJECT_URLS)
    tried: list[Route] = []
    client.route("**/api/chat/media/*", lambda route: tried.append(route))  # which never get an answer
    share(client, plain("PNG", "red", "one.png"), plain("PNG", "blue", "two.png"))
    expect(client.locator(".sending img")).to_have_count(2)
    close_chat(admin)
    erased(client)
    assert client.locator("nursecare-chat img").count() == client.evaluate("objectUrls.size") == 0
    client.reload()
    erased(client)
    assert len(tried) == 1


def test_what_is_sent_is_shown_while_the_stream_is_away(
    live: Host, request_page: str, sit_down: Callable[..., Page]
) -> None:
    """C21, C30: the answer to a post is as good; when the stream is back, nothing between was missed or comes twice."""
    client, admin = (sit_down(live, who) for who in ("client", "admin"))
    client.route(STREAM, lambda route: route.abort())
    client.goto(live.server.url + request_page)
    client.get_by_role("button", name="Start chat").click()
    expect(client.get_by_role("status")).to_have_text("Reconnecting…")
    admin.goto(live.server.url + request_page)
    enter(admin)
    say(admin, "from the admin")
    expect(admin.locator(".message.sent")).to_have_count(1)
    say(client, "from the client")
    expect(client.locator(".message.sent")).to_have_count(1)
    share(client, jpeg())
    photos(client, 1)
    client.unroute(STREAM)
    connected(client)
    for page in (client, admin):
        expect(page.locator(".message.sent")).to_have_count(3)
        assert sequence(page) == list("123")
    assert texts(client) == ["from the admin", "from the client"]


def test_an_expired_address_is_renewed(tmp_path: Path, databases: Databases, sit_down: Callable[..., Page]) -> None:
    """C20: a photo that comes into view late asks for a fresh address, once; what has none is said to be missing."""
    live = Host(tmp_path, databases, CHAT_SIGNED_URL_TTL="2")
    try:
        client, admin = (sit_down(live, who, "/requests/1") for who in ("client", "admin"))
        enter(client)
        share(client, jpeg())
        photos(client, 1)
        renewals: list[str] = []
        admin.on("request", lambda request: renewals.append(request.url) if "after=0" in request.url else None)
        late: list[str] = []

        def hold(route: Route) -> None:
            if not late:
                late.append(route.request.url)
                time.sleep(3)
            route.continue_()

        admin.route("**/api/chat/media/*", hold)
        admin.reload()
        photo = photos(admin, 1)
        assert late != [photo.evaluate("image => image.src")]
        assert size_of(photo) == [960, 720]
        assert len(renewals) == 1

        for file in live.bench.folder.glob("chat-media/chats/*/*"):
            file.unlink()
        admin.reload()
        missing = admin.get_by_role("button", name="Photo not available")
        expect(missing).to_be_visible()
        missing.click()
        expect(admin.get_by_role("dialog")).to_be_hidden()
        admin.screenshot(path=PICTURES / "photo-missing.png")
        assert len(renewals) == 2
    finally:
        live.close()


def test_the_api_has_a_page(live: Host, sit_down: Callable[..., Page], browser: Browser) -> None:
    """C28: the document as a page of the host's own, whose requests work with the session; nothing from elsewhere."""
    stranger = browser.new_page()
    stranger.goto(f"{live.server.url}/api-docs/")
    expect(stranger.get_by_role("heading", name="Log in")).to_be_visible()
    stranger.close()

    client = sit_down(live, "client", viewport={"width": 1100, "height": 1000})
    asked: list[str] = []
    client.on("request", lambda request: asked.append(request.url))
    client.get_by_role("link", name="API").click()
    expect(client.get_by_role("heading", name="NurseCare Chat")).to_be_visible(timeout=20_000)
    client.screenshot(path=PICTURES / "api.png")

    def try_out(operation: str, **given: str) -> Any:
        block = client.locator(f".opblock[id$={operation}]")
        block.locator(".opblock-summary-control").click()
        block.get_by_role("button", name="Try it out").click()
        for name, value in given.items():
            if name == "body":
                block.locator("textarea.body-param__text").fill(value)
            elif name == "status":
                block.locator("[data-param-name=status] select").select_option(value)
            else:
                block.get_by_placeholder(name).fill(value)
        with client.expect_response(lambda response: "/api/" in response.url) as answer:
            block.get_by_role("button", name="Execute").click()
        expect(block.locator(".live-responses-table tbody .response-col_status")).to_have_text("200")
        return answer.value.json()

    request = live.new_request()
    thread = try_out("open_thread", requestId=str(request))["threadId"]
    posted = try_out("post_message", threadId=str(thread), body='{"type": "text", "text": "from the page"}')
    assert posted["seq"] == 1
    assert thread in [listed["threadId"] for listed in try_out("list_threads", status="open")["threads"]]
    client.screenshot(path=PICTURES / "api-tried.png", full_page=True)
    client.emulate_media(color_scheme="dark")
    client.set_viewport_size({"width": 360, "height": 740})
    client.screenshot(path=PICTURES / "api-dark-narrow.png")
    assert {urlsplit(url).netloc for url in asked if not url.startswith("data:")} == {urlsplit(live.server.url).netloc}
