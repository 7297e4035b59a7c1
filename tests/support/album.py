"""The pictures in ``docs``: the reference host as two people see it. ``script/pictures`` runs this."""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from .browser import launch
from .databases import Databases
from .servers import ROOT
from .visitors import PLACE, Host, Visitors, enter, jpeg, photos, say, share, share_place

DOCS = ROOT / "docs"
LARGEST = 150_000
"""Bytes that a picture may have."""

DESK = {"width": 1180, "height": 760}
PHONE = {"width": 390, "height": 780}
COLOURS = 256


def take(page: Page, name: str) -> None:
    """Without a caret or anything in mid-fade; few colours do, and load quickly.

    :raises AssertionError: if it is too large for a page that people read.
    """
    page.mouse.move(1, 1)
    page.evaluate("document.fonts.ready")
    file = io.BytesIO(page.screenshot(animations="disabled", caret="hide"))
    path = DOCS / f"{name}.png"
    with Image.open(file) as picture:
        few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
    size = path.stat().st_size
    assert size < LARGEST, f"{path} has {size} bytes."
    print(f"{path.relative_to(ROOT)}  {size // 1000} KB")


def to_end(page: Page) -> None:
    page.get_by_role("log").evaluate("log => { log.scrollTop = log.scrollHeight; }")


def talk(client: Page, admin: Page) -> None:
    """About a visit and a wound, with a place and a photo."""
    enter(client)
    say(client, "The bell is broken, so please come round to the garden door:")
    share_place(client)
    say(client, "And the dressing has come loose at one side. Is it still all right?")
    share(client, jpeg())
    photos(client, 1)
    admin.get_by_role("button", name="Wound dressing at home").click()
    photos(admin, 1)
    say(admin, "Good morning! Yes, it still covers the wound. The nurse changes it tomorrow at nine.")
    expect(client.locator(".message.theirs")).to_have_count(1)
    say(client, "Thank you, until tomorrow!")
    expect(admin.locator(".message")).to_have_count(6)
    for page in (client, admin):
        to_end(page)


def take_all(host: Host, page_of: Callable[..., Page]) -> None:
    place = {"geolocation": PLACE, "permissions": ["geolocation"]}
    for number, text in ((3, "Good morning, can she come at seven in the evening?"), (2, "Shall I fast before?")):
        person = host.login("client2" if number == 3 else "client")
        person.say(person.open(number), text)
    thread = host.login("client").open(2)
    host.login("admin").say(thread, "No need to, just rest a little.")
    host.login("client").say(thread, "Thanks! Until Monday, then.")

    client = page_of(host, "client", "/requests/1", viewport=PHONE, device_scale_factor=2, **place)
    admin = page_of(host, "admin", viewport=DESK, device_scale_factor=1.5)
    talk(client, admin)
    take(admin, "inbox")
    take(client, "phone")
    desk = page_of(host, "client", "/requests/1", viewport=DESK, device_scale_factor=1.5)
    photos(desk, 1)
    to_end(desk)
    take(desk, "chat")
    desk.emulate_media(color_scheme="dark")
    take(desk, "chat-dark")
    desk.locator("nursecare-chat").evaluate("chat => { chat.lang = 'ar'; }")
    photos(desk, 1)
    to_end(desk)
    take(desk, "chat-arabic")
    admin.get_by_role("button", name="Close chat").click()
    admin.get_by_role("button", name="Close and erase").click()
    expect(client.get_by_text("Receipt of the erasure")).to_be_visible(timeout=60_000)
    client.get_by_text("Receipt of the erasure").click()
    take(client, "phone-closed")


def main() -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)  # the reference host wants to hear of everything
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        databases = Databases(folder)
        (folder / "host").mkdir()
        host = Host(folder / "host", databases)
        try:
            with sync_playwright() as playwright:
                browser = launch(playwright)
                visitors = Visitors(browser)
                take_all(host, visitors.page_of)
                visitors.leave()
                browser.close()
        finally:
            host.close()
            databases.close()


if __name__ == "__main__":
    main()
