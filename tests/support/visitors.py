"""People in front of browsers, on the reference host's pages, and what they do there."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect

from .databases import Databases
from .live import Live
from .servers import ROOT, Process

PICTURES = ROOT / "test-artifacts"
PLACE = {"latitude": 52.5163, "longitude": 13.3777}
SIDEWAYS = 6
"""The EXIF orientation of a camera that was turned: what it stored lies on its side."""


class Host(Live):
    """The reference host with a worker beside it."""

    def __init__(self, folder: Path, databases: Databases, **env: str) -> None:
        super().__init__("gevent", "reference", folder, databases, {"CHAT_STREAM_HEARTBEAT": "5", **env})
        self.worker = Process(
            [sys.executable, "-m", "flask", "--app", self.bench.host.wsgi, "chat", "worker"],
            folder / "worker.log",
            {"NURSECARE_INSTANCE": str(folder), "NURSECARE_DATABASE_URL": self.bench.url, **env},
        )

    def new_request(self, who: str = "client") -> int:
        with self.bench.app.app_context():
            request: int = self.bench.host.new_request(who)
        return request

    def close(self) -> None:
        self.worker.end()
        super().close()


class Visitors:
    """
    :ivar errors: exceptions that no script caught, and what the console calls an error, but for answers that are one.
    """

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self.errors: list[str] = []

    def page_of(self, live: Live, who: str, path: str = "/", url: str = "", **options: Any) -> Page:
        """
        :param url: what reaches the server, if not its own address.
        """
        url = url or live.server.url
        context = self._browser.new_context(**options)
        self._contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._hear)
        login = {"email": f"{who}@nursecare.test", "password": "demo"}
        assert context.request.post(f"{url}/login", data=login).ok
        page.goto(url + path)
        return page

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.errors.append(message.text)

    def leave(self) -> None:
        for context in self._contexts:
            context.close()


# -- the chat ---------------------------------------------------------------------------------------------------------


def message_box(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Message")


def enter(page: Page) -> Page:
    """Be in the chat of the request that the page shows."""
    start = page.get_by_role("button", name="Start chat")
    expect(start.or_(message_box(page))).to_be_visible()
    if start.is_visible():
        start.click()
    connected(page)
    return page


def connected(page: Page, seconds: float = 30) -> None:
    expect(page.locator("nursecare-chat").get_by_role("status")).to_have_text("Connected", timeout=seconds * 1000)


def say(page: Page, text: str) -> None:
    message_box(page).fill(text)
    message_box(page).press("Enter")


def texts(page: Page) -> list[str]:
    return page.locator(".message .text").all_inner_texts()


def share_place(page: Page) -> None:
    page.get_by_role("button", name="Share location").click()
    page.get_by_role("dialog").get_by_role("button", name="Share my location").click()


def close_chat(page: Page) -> None:
    page.get_by_role("button", name="Close chat").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Close and erase").click()


# -- photos -----------------------------------------------------------------------------------------------------------


def stage(page: Page, *files: dict[str, Any]) -> None:
    page.get_by_label("Add photos").set_input_files(list(files))


def share(page: Page, *files: dict[str, Any]) -> None:
    """Choose photos, see them, send them."""
    stage(page, *files)
    expect(page.get_by_role("list", name="Photos to send").get_by_role("listitem")).to_have_count(len(files))
    page.get_by_role("button", name="Send", exact=True).click()


def photos(page: Page, count: int) -> Locator:
    """The photos that arrived, loaded, on a page that has ``count`` of them."""
    shown = page.locator(".message.sent button.photo img")
    expect(shown).to_have_count(count, timeout=30_000)
    for index in range(count):
        shown.nth(index).scroll_into_view_if_needed()
        expect(shown.nth(index)).to_have_js_property("complete", True)
        expect(shown.nth(index)).not_to_have_js_property("naturalWidth", 0)
    return shown


def size_of(image: Locator) -> list[int]:
    """As the browser decoded it, in pixels."""
    size: list[int] = image.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    return size


def served(page: Page, image: Locator) -> bytes:
    """What the server gives the page under an image's address."""
    answer = page.request.get(image.evaluate("image => image.src"))
    assert answer.status == 200
    return answer.body()


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


def overflow(page: Page) -> int:
    """Pixels by which the page, or any part of it that does not cut them off, is wider than the window."""
    pixels: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return pixels


def title_count(page: Page) -> int:
    """What the badge in front of the page's title says."""
    found = re.match(r"\((\d+)\) ", page.title())
    return int(found[1]) if found else 0
