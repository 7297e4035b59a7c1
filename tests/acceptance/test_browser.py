"""Two people in two real browsers, on the reference host's own pages."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

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
def live(tmp_path: Path, databases: Databases) -> Iterator[Live]:
    live = Live("gevent", "reference", tmp_path, databases, {"CHAT_STREAM_HEARTBEAT": "5"})
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
