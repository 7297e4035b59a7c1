"""Two people in two real browsers, on the reference host's own pages."""

from __future__ import annotations

import io
import os
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from ..support.browser import launch
from ..support.databases import Databases
from ..support.live import Live
from ..support.servers import ROOT, Process, Server

PICTURES = ROOT / "test-artifacts"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def live(request: pytest.FixtureRequest, tmp_path: Path, databases: Databases) -> Iterator[Live]:
    """The reference host and its worker; a test's indirect parameter adds to the settings."""
    settings = {"CHAT_STREAM_HEARTBEAT": "5", **getattr(request, "param", {})}
    live = Live("gevent", "reference", tmp_path, databases, settings)
    worker = Process(
        [sys.executable, "-m", "flask", "--app", live.bench.host.wsgi, "chat", "worker"],
        tmp_path / "worker.log",
        {"NURSECARE_INSTANCE": str(tmp_path), "NURSECARE_DATABASE_URL": live.bench.url},
    )
    yield live
    worker.end()
    live.close()


@pytest.fixture
def sit_down(browser: Browser, live: Live) -> Iterator[Callable[..., Page]]:
    """Somebody in front of a browser of their own, logged in; pages with script errors fail the test."""
    contexts, errors = [], []

    def page_of(who: str, **options: Any) -> Page:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(live.server.url)
        page.get_by_label("E-mail").fill(f"{who}@nursecare.test")
        page.get_by_label("Password").fill("demo")
        page.get_by_role("button", name="Log in").click()
        return page

    yield page_of
    for context in contexts:
        context.close()
    assert errors == []


def open_chat(page: Page) -> None:
    page.get_by_role("link", name="Wound dressing at home").click()
    page.get_by_role("button", name="Open the chat").click()
    expect(page.get_by_role("status")).to_have_text("Connected")


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def texts(page: Page) -> list[str]:
    return [re.sub(r"\n\d\d:\d\d.*", "", text) for text in page.locator(".message").all_inner_texts()]


def test_two_people_talk_one_closes_it_is_gone(live: Live, sit_down: Callable[..., Page]) -> None:
    """C17, C21, C29, C26, C41: text both ways, a location, a reload, the end, and nothing left in the database."""
    place = {"latitude": 52.5163, "longitude": 13.3777}
    client = sit_down("client", viewport={"width": 420, "height": 800}, geolocation=place, permissions=["geolocation"])
    admin = sit_down("admin", viewport={"width": 1100, "height": 800})
    expect(admin.get_by_role("heading", name="Inbox")).to_be_visible()
    admin.screenshot(path=PICTURES / "inbox.png")
    open_chat(client)
    say(client, "Hello, when will the nurse come tomorrow?")
    admin.reload()
    expect(admin.get_by_text("waiting for an answer")).to_be_visible()
    open_chat(admin)
    say(admin, "Around nine. Is the bell working?")
    expect(client.locator(".message")).to_have_count(2)
    say(client, "Yes, second floor.\nI share where the door is.")
    client.get_by_role("button", name="Share location").click()
    expect(admin.locator(".message")).to_have_count(4)
    expect(admin.get_by_role("link", name="Location 52.51630, 13.37770")).to_be_visible()
    admin.screenshot(path=PICTURES / "admin.png")
    client.screenshot(path=PICTURES / "client.png")
    say(admin, "<img src=x onerror=alert(1)>")
    expect(client.get_by_text("<img src=x onerror=alert(1)>")).to_be_visible()

    client.reload()
    expect(client.locator(".message")).to_have_count(5)
    assert texts(client) == texts(admin)

    admin.get_by_role("button", name="Close and erase").click()
    for page in (client, admin):
        expect(page.get_by_text("Its messages are erased")).to_be_visible()
        expect(page.get_by_label("Message")).to_be_hidden()
    client.screenshot(path=PICTURES / "closed.png")
    deadline = time.monotonic() + 30
    while _texts_in(live.bench.path):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    admin.get_by_role("link", name="Inbox").click()
    expect(admin.get_by_text("chat erased")).to_be_visible()


def _texts_in(database: Path) -> int:
    connection = sqlite3.connect(database, timeout=10)
    (count,) = connection.execute("SELECT count(*) FROM chat_messages WHERE text IS NOT NULL").fetchone()
    connection.close()
    return int(count)


def test_a_page_survives_a_restart_of_the_server(live: Live, sit_down: Callable[..., Page]) -> None:
    """C30: messages typed and sent while the server is away arrive once, in order, and none is lost."""
    client, admin = sit_down("client"), sit_down("admin")
    open_chat(client)
    open_chat(admin)
    say(client, "one")
    expect(admin.locator(".message")).to_have_count(1)
    os.killpg(live.server.popen.pid, signal.SIGKILL)
    live.server.popen.wait()
    say(client, "two")
    expect(client.get_by_text("Not sent yet")).to_be_visible()
    restarted = Server.again(live.server)
    try:
        expect(admin.locator(".message")).to_have_count(2, timeout=30_000)
        say(admin, "three")
        expect(client.locator(".message:not(.sending)")).to_have_count(3, timeout=30_000)
        assert texts(client) == texts(admin) == ["one", "two", "three"]
    finally:
        restarted.end()


def test_the_request_is_done(live: Live, sit_down: Callable[..., Page]) -> None:
    """C44: the host completes the request and closes its chat in one transaction; the client's page sees the end."""
    client, admin = sit_down("client"), sit_down("admin")
    open_chat(client)
    say(client, "Thank you, all is well.")
    admin.get_by_role("link", name="Wound dressing at home").click()
    admin.get_by_role("button", name="Mark as done").click()
    expect(admin.get_by_text("· done")).to_be_visible()
    expect(client.get_by_text("Its messages are erased.")).to_be_visible()
    expect(client.get_by_role("status")).to_have_text("Closed")
    client.get_by_role("link", name="Your requests").click()
    expect(client.get_by_text("chat erased")).to_be_visible()


def test_login_page(live: Live, sit_down: Callable[..., Page], browser: Browser) -> None:
    """The reference host: a wrong password is said, a person without requests sees so."""
    nurse = sit_down("nurse")
    expect(nurse.get_by_text("There are no requests")).to_be_visible()
    nurse.get_by_role("button", name="Log out").click()
    nurse.get_by_label("E-mail").fill("nurse@nursecare.test")
    nurse.get_by_label("Password").fill("wrong")
    nurse.get_by_role("button", name="Log in").click()
    expect(nurse.get_by_role("alert")).to_have_text("This e-mail address and password do not match.")
    nurse.screenshot(path=PICTURES / "login.png")


# -- photos ----------------------------------------------------------------------------------------------------------

SIDEWAYS = 6
"""The EXIF orientation of a camera that was turned: what it stored lies on its side."""

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'

COUNT_OBJECT_URLS = """
    window.objectUrls = new Set();
    const [create, revoke] = [URL.createObjectURL, URL.revokeObjectURL];
    URL.createObjectURL = (file) => { const url = create(file); objectUrls.add(url); return url; };
    URL.revokeObjectURL = (url) => { objectUrls.delete(url); revoke(url); };
"""


def knee() -> Image.Image:
    """A drawing of a dressing on a knee, upright."""
    picture = Image.new("RGB", (1920, 1440), "#e3ecec")
    draw = ImageDraw.Draw(picture)

    def limb(colour: str, width: int, *points: tuple[int, int]) -> None:
        draw.line(points, fill=colour, width=width, joint="curve")
        for x, y in points:
            draw.ellipse((x - width // 2, y - width // 2, x + width // 2, y + width // 2), fill=colour)

    draw.rectangle((0, 1150, 1920, 1440), fill="#c3d5d6")
    limb("#d9a586", 400, (-150, 1330), (950, 640), (1560, 1700))
    limb("#4f7f86", 450, (-150, 1340), (240, 1094))
    draw.arc((800, 590, 1130, 960), 30, 130, fill="#c48d6d", width=12)
    draw.rounded_rectangle((740, 480, 1150, 770), 60, fill="#f7f3ea", outline="#d8d0bd", width=8)
    draw.rounded_rectangle((840, 545, 1050, 705), 24, fill="#ffffff", outline="#e4dfd2", width=6)
    for x in (775, 808, 1082, 1115):
        for y in range(565, 700, 40):
            draw.ellipse((x - 7, y - 7, x + 7, y + 7), fill="#d8d0bd")
    return picture.resize((960, 720), Image.Resampling.LANCZOS)


def jpeg(picture: Image.Image | None = None, name: str = "knee.jpg") -> dict[str, Any]:
    """A file for a picker, as a phone that was turned makes it: on its side, with the place and the camera's name."""
    exif = Image.Exif()
    exif[0x0112] = SIDEWAYS
    exif[0x010F] = "Telltale"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 58.0), 3: "E", 4: (13.0, 22.0, 39.0)})
    file = io.BytesIO()
    (picture or knee()).transpose(Image.Transpose.ROTATE_90).save(file, "JPEG", quality=92, exif=exif)
    return {"name": name, "mimeType": "image/jpeg", "buffer": file.getvalue()}


def plain(kind: str, colour: str, name: str) -> dict[str, Any]:
    file = io.BytesIO()
    Image.new("RGB", (320, 200), colour).save(file, kind)
    return {"name": name, "mimeType": f"image/{kind.lower()}", "buffer": file.getvalue()}


def share(page: Page, *files: dict[str, Any]) -> None:
    page.get_by_label("Share photos").set_input_files(list(files))


def photos(page: Page, count: int) -> Any:
    """The photos that arrived, loaded, on a page that has ``count`` of them."""
    shown = page.locator("button.photo img")
    expect(shown).to_have_count(count, timeout=30_000)
    for index in range(count):
        shown.nth(index).scroll_into_view_if_needed()
        expect(shown.nth(index)).to_have_js_property("complete", True)
    return shown


def size_of(image: Any) -> list[int]:
    """As the browser decoded it, in pixels."""
    size: list[int] = image.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    return size


def served(page: Page, image: Any) -> bytes:
    """What the server gives the page under an image's address."""
    answer = page.request.get(image.evaluate("image => image.src"))
    assert answer.status == 200
    return answer.body()


def test_a_photo_goes_from_one_browser_to_the_other(live: Live, sit_down: Callable[..., Page]) -> None:
    """C20, C24, C25, C41: upright and without what its camera wrote, small and large, by keyboard, until the close."""
    client = sit_down("client", viewport={"width": 360, "height": 740})
    admin = sit_down("admin", viewport={"width": 1100, "height": 860}, color_scheme="dark")
    client.add_init_script(COUNT_OBJECT_URLS)
    open_chat(client)
    open_chat(admin)
    say(client, "Hello, the dressing has come loose. Is it still all right?")
    share(client, jpeg())
    for page in (admin, client):
        photo = photos(page, 1)
        assert size_of(photo) == [960, 720]
        assert photo.bounding_box() == pytest.approx({**photo.bounding_box(), "width": 240, "height": 180}, abs=45)
        with Image.open(io.BytesIO(served(page, photo))) as picture:
            assert (picture.format, picture.size, dict(picture.getexif())) == ("JPEG", (960, 720), {})
    assert b"Telltale" not in served(admin, photos(admin, 1))
    expect(client.locator(".sending")).to_have_count(0)
    say(admin, "Yes, it covers the wound. I look at it tomorrow at nine.")
    expect(client.locator(".message")).to_have_count(3)
    admin.screenshot(path=PICTURES / "photo-dark.png")
    client.screenshot(path=PICTURES / "photo-narrow.png")
    admin.emulate_media(color_scheme="light")
    admin.screenshot(path=PICTURES / "photo.png")

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

    admin.get_by_role("button", name="Close and erase").click()
    for page in (client, admin):
        expect(page.get_by_text("Its messages are erased")).to_be_visible()
        expect(page.get_by_role("dialog")).to_be_hidden()
        assert page.locator("img").evaluate_all("images => images.filter(image => image.src).length") == 0
    assert client.evaluate("objectUrls.size") == 0


def test_several_photos_at_once_chosen_pasted_and_dropped(live: Live, sit_down: Callable[..., Page]) -> None:
    """C24, C25: they arrive one after the other in the order in which they were given, whatever their names say."""
    client, admin = sit_down("client"), sit_down("admin")
    open_chat(client)
    open_chat(admin)
    share(client, *(plain("PNG", "red", f"{number}.png") for number in range(6)), plain("WEBP", "red", "misnamed.jpg"))
    photos(admin, 7)
    transfer = client.evaluate_handle(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "given.png", {type: "image/png"}));
            return transfer;
        }""",
        list(plain("PNG", "blue", "")["buffer"]),
    )
    client.get_by_label("Message").dispatch_event("dragover", {"dataTransfer": transfer})
    expect(client.get_by_role("region", name="Chat")).to_have_class(re.compile("dropping"))
    client.get_by_label("Message").dispatch_event("drop", {"dataTransfer": transfer})
    expect(client.get_by_role("region", name="Chat")).not_to_have_class(re.compile("dropping"))
    paste = "(box, data) => box.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true}))"
    client.get_by_label("Message").evaluate(paste, transfer)
    shown = photos(admin, 9)
    kinds = [Image.open(io.BytesIO(served(admin, shown.nth(index)))) for index in range(9)]
    assert [kind.format for kind in kinds] == ["PNG"] * 6 + ["WEBP", "PNG", "PNG"]
    assert [kind.convert("RGB").getpixel((9, 9))[2] > 200 for kind in kinds] == [False] * 7 + [True] * 2
    assert client.locator(".message").evaluate_all("all => all.map(one => one.dataset.seq)") == list("123456789")


@pytest.mark.parametrize("live", [{"CHAT_MAX_IMAGE_BYTES": "20000"}], indirect=True)
def test_what_is_no_photo_is_refused_with_words(live: Live, sit_down: Callable[..., Page]) -> None:
    """C24, C25: before an upload for another type or size, after it for what cannot be decoded; the rest goes on."""
    client = sit_down("client", viewport={"width": 360, "height": 740})
    asked = []
    client.on("request", lambda request: asked.append(request.url) if request.url.endswith("/uploads") else None)
    open_chat(client)
    alert = client.get_by_role("alert")
    share(
        client,
        {"name": "drawing.jpg", "mimeType": "image/jpeg", "buffer": SVG},
        {"name": "long.png", "mimeType": "image/png", "buffer": plain("PNG", "red", "")["buffer"].ljust(30_000, b"\0")},
        {"name": "empty.png", "mimeType": "image/png", "buffer": b""},
    )
    expect(alert).to_contain_text("“drawing.jpg” is not a JPEG, PNG or WebP photo.")
    expect(alert).to_contain_text("“long.png” is too big: it has 29.3 KB, and a photo may have 19.5 KB.")
    expect(alert).to_contain_text("“empty.png” is not a JPEG")
    assert asked == []
    client.screenshot(path=PICTURES / "photo-refused.png")

    broken = plain("PNG", "red", "broken.png")
    broken["buffer"] = broken["buffer"][:60]
    share(client, broken, plain("PNG", "red", "sound.png"))
    expect(alert).to_have_text("“broken.png” was not sent. This picture cannot be decoded.")
    photos(client, 1)
    expect(client.locator(".message")).to_have_count(1)
    say(client, "so it is")
    expect(alert).to_be_hidden()

    person = live.login("client")
    thread = person.open(1)
    for _ in range(5):  # as after five uploads that broke off
        body = {"contentType": "image/png", "size": 9}
        assert person.http.post(f"/api/chat/threads/{thread}/uploads", json=body).status_code == 200
    share(client, plain("PNG", "red", "sixth.png"))
    expect(alert).to_have_text(
        "“sixth.png” was not sent: too many photos are under way. Try again in 15 minutes.", timeout=20_000
    )
    expect(client.locator(".message")).to_have_count(2)


def test_an_upload_survives_a_bad_network(live: Live, sit_down: Callable[..., Page]) -> None:
    """C23, C24: a photo arrives once, whatever was lost on the way there or back; a refused address is renewed."""
    client, admin = sit_down("client"), sit_down("admin")
    open_chat(client)
    open_chat(admin)
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
    expect(client.get_by_text("Not sent yet")).to_be_visible()
    client.screenshot(path=PICTURES / "photo-sending.png")
    for page in (admin, client):
        assert size_of(photos(page, 1)) == [960, 720]
    expect(client.get_by_text("Not sent yet")).to_be_hidden()
    expect(client.locator(".message")).to_have_count(1)
    assert [path == puts[0] for path in puts] == [True, True, False, False]
    assert [path.rpartition("/")[2] for path in posts] == ["uploads", "uploads", "uploads", "messages", "messages"]


def test_a_photo_can_be_called_back_before_it_is_sent(live: Live, sit_down: Callable[..., Page]) -> None:
    """The reference host: Cancel ends an upload, and those behind it go on."""
    client = sit_down("client")
    client.add_init_script(COUNT_OBJECT_URLS)
    open_chat(client)
    client.route("**/api/chat/media/*", lambda route: route.abort())
    share(client, plain("PNG", "red", "wrong.png"), plain("PNG", "blue", "right.png"))
    expect(client.get_by_text("Not sent yet")).to_be_visible()
    client.get_by_role("button", name="Cancel sending “wrong.png”").click()
    client.unroute("**/api/chat/media/*")
    with Image.open(io.BytesIO(served(client, photos(client, 1)))) as picture:
        assert picture.convert("RGB").getpixel((9, 9)) == (0, 0, 255)
    expect(client.locator(".message")).to_have_count(1)
    assert client.evaluate("objectUrls.size") == 0


def test_a_close_ends_an_upload(live: Live, sit_down: Callable[..., Page]) -> None:
    """C22, C41: nothing of a photo that was on its way stays on the page, and nobody tries it again."""
    client, admin = sit_down("client"), sit_down("admin")
    client.add_init_script(COUNT_OBJECT_URLS)
    open_chat(client)
    open_chat(admin)
    tried = []
    client.route("**/api/chat/media/*", lambda route: tried.append(route))  # which never get an answer
    share(client, plain("PNG", "red", "one.png"), plain("PNG", "blue", "two.png"))
    expect(client.locator(".sending img")).to_have_count(2)
    admin.get_by_role("button", name="Close and erase").click()
    expect(client.get_by_text("Its messages are erased")).to_be_visible()
    expect(client.get_by_text("Not sent yet")).to_be_hidden()
    client.wait_for_timeout(2000)
    assert client.locator("#messages img").count() == client.evaluate("objectUrls.size") == 0
    assert len(tried) == 1


def test_what_is_sent_is_shown_while_the_stream_is_away(live: Live, sit_down: Callable[..., Page]) -> None:
    """C21, C30: the answer to a post is as good; when the stream is back, nothing between was missed or comes twice."""
    client, admin = sit_down("client"), sit_down("admin")
    client.route("**/stream*", lambda route: route.abort())
    client.get_by_role("link", name="Wound dressing at home").click()
    client.get_by_role("button", name="Open the chat").click()
    expect(client.get_by_role("status")).to_have_text("Reconnecting…")
    open_chat(admin)
    say(admin, "from the admin")
    expect(admin.locator(".message:not(.sending)")).to_have_count(1)
    say(client, "from the client")
    expect(client.locator(".message:not(.sending)")).to_have_count(1)
    share(client, jpeg())
    photos(client, 1)
    client.unroute("**/stream*")
    expect(client.get_by_role("status")).to_have_text("Connected", timeout=20_000)
    for page in (client, admin):
        expect(page.locator(".message:not(.sending)")).to_have_count(3)
        assert page.locator(".message").evaluate_all("all => all.map(one => one.dataset.seq)") == list("123")
    assert texts(client)[:2] == ["from the admin", "from the client"]


@pytest.mark.parametrize("live", [{"CHAT_SIGNED_URL_TTL": "2"}], indirect=True)
def test_an_expired_address_is_renewed(live: Live, sit_down: Callable[..., Page]) -> None:
    """C20: a photo that comes into view late asks for a fresh address, once; what has none is said to be missing."""
    client, admin = sit_down("client"), sit_down("admin")
    open_chat(client)
    share(client, jpeg())
    photos(client, 1)
    renewals = []
    admin.on("request", lambda request: renewals.append(request.url) if "after=" in request.url else None)
    late = []

    def hold(route: Route) -> None:
        if not late:
            late.append(route.request.url)
            time.sleep(3)
        route.continue_()

    admin.route("**/api/chat/media/*", hold)
    open_chat(admin)
    photo = photos(admin, 1)
    assert late != [photo.evaluate("image => image.src")]
    assert size_of(photo) == [960, 720]
    assert len(renewals) == 1

    for file in live.bench.folder.glob("chat-media/chats/*/*"):
        file.unlink()
    admin.reload()
    expect(admin.get_by_role("button", name="Photo not available")).to_be_visible()
    admin.get_by_role("button", name="Photo not available").click()
    expect(admin.get_by_role("dialog")).to_be_hidden()
    admin.screenshot(path=PICTURES / "photo-missing.png")
    assert len(renewals) == 2


def test_the_api_has_a_page(live: Live, sit_down: Callable[..., Page], browser: Browser) -> None:
    """C28: the document as a page of the host's own, whose requests work with the session; nothing from elsewhere."""
    stranger = browser.new_page()
    stranger.goto(f"{live.server.url}/api-docs/")
    expect(stranger.get_by_role("heading", name="Log in")).to_be_visible()
    stranger.close()

    client = sit_down("client", viewport={"width": 1100, "height": 1000})
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

    thread = try_out("open_thread", requestId="1")["threadId"]
    posted = try_out("post_message", threadId=str(thread), body='{"type": "text", "text": "from the page"}')
    assert posted["seq"] == 1
    assert [listed["threadId"] for listed in try_out("list_threads", status="open")["threads"]] == [thread]
    client.screenshot(path=PICTURES / "api-tried.png", full_page=True)
    client.emulate_media(color_scheme="dark")
    client.set_viewport_size({"width": 360, "height": 740})
    client.screenshot(path=PICTURES / "api-dark-narrow.png")
    assert {urlsplit(url).netloc for url in asked if not url.startswith("data:")} == {urlsplit(live.server.url).netloc}
