"""A browser that uploads to Azure's storage, which is another origin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from nursecare_chat.storage.azure import AzureStorage
from nursecare_chat.storage.azure_account import Service, account_of

from ..support.azurite import Accounts
from ..support.browser import launch
from ..support.databases import Databases
from ..support.live import Live
from ..support.pictures import JPEG


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


def test_a_photo_by_way_of_azure(
    browser: Browser, tmp_path: Path, databases: Databases, azure_accounts: Accounts
) -> None:
    """C24, C25, C42: the page sends what it was given across origins, again after a lost answer, and shows it."""
    settings = azure_accounts.settings()
    account = account_of(settings["CHAT_AZURE_CONNECTION_STRING"], "", 900)
    storage = AzureStorage(Service(account), settings["CHAT_STORAGE_URL"].removeprefix("azure://"))
    storage.create()
    live = Live("gthread", "reference", tmp_path, databases, settings)
    context = browser.new_context()
    try:
        page: Page = context.new_page()
        asked: list[tuple[str, str]] = []
        page.on("request", lambda request: asked.append((request.method, request.url)))
        lost: list[str] = []

        def lose_the_first_answer(route: Route) -> None:
            if route.request.method == "PUT" and not lost:
                lost.append(route.request.url)
                route.fetch()
                route.abort()
            else:
                route.continue_()

        page.route(f"{account.url}/**", lose_the_first_answer)
        storage.fix_cors([live.server.url])
        assert storage.cors_problems([live.server.url]) == []
        page.goto(live.server.url)
        page.get_by_label("E-mail").fill("client@nursecare.test")
        page.get_by_label("Password").fill("demo")
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("link", name="Wound dressing at home").click()
        page.get_by_role("button", name="Open the chat").click()
        expect(page.get_by_role("status")).to_have_text("Connected")
        photo = {"name": "knee.jpg", "mimeType": "image/jpeg", "buffer": JPEG}
        page.get_by_label("Share photos").set_input_files([photo])
        shown = page.locator("button.photo img")
        expect(shown).to_have_count(1, timeout=30_000)
        shown.scroll_into_view_if_needed()
        expect(shown).to_have_js_property("complete", True)
        assert shown.evaluate("image => image.naturalWidth") > 0
        assert [method for method, url in asked if url.startswith(account.url)] == ["PUT", "PUT", "GET"]
        assert [url for method, url in asked if method == "PUT"] == lost * 2
        assert page.locator(".sending").count() == 0
    finally:
        context.close()
        live.close()
