"""Two browsers whose photos go by way of Azure's storage, which is another origin."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, Route, expect

from nursecare_chat.storage.azure import AzureStorage
from nursecare_chat.storage.azure_account import Service, account_of

from ..support.azurite import Accounts
from ..support.databases import Databases
from ..support.visitors import Host, close_chat, enter, jpeg, photos, served, share, size_of


def test_a_photo_by_way_of_azure(
    tmp_path: Path, databases: Databases, azure_accounts: Accounts, sit_down: Callable[..., Page]
) -> None:
    """C24, C25, C41, C42: sent across origins, again after a lost answer, shown to the other, gone with the chat; the
    strict content security policy names the account."""
    settings = azure_accounts.settings()
    account = account_of(settings["CHAT_AZURE_CONNECTION_STRING"], "", 900)
    storage = AzureStorage(Service(account), settings["CHAT_STORAGE_URL"].removeprefix("azure://"))
    storage.create()
    live = Host(tmp_path, databases, **settings)
    try:
        storage.fix_cors([live.server.url])
        assert storage.cors_problems([live.server.url]) == []
        client, admin = (sit_down(live, who, "/requests/1") for who in ("client", "admin"))
        asked: list[tuple[str, str]] = []
        client.on("request", lambda request: asked.append((request.method, request.url)))
        lost: list[str] = []

        def lose_the_first_answer(route: Route) -> None:
            if route.request.method == "PUT" and not lost:
                lost.append(route.request.url)
                route.fetch()
                route.abort()
            else:
                route.continue_()

        client.route(f"{account.url}/**", lose_the_first_answer)
        enter(client)
        share(client, jpeg())
        photos(client, 1)
        assert [method for method, url in asked if url.startswith(account.url)] == ["PUT", "PUT"]
        assert [url for method, url in asked if method == "PUT"] == lost * 2
        assert client.locator(".sending").count() == 0

        admin.reload()
        photo = photos(admin, 1)
        assert photo.evaluate("image => image.src").startswith(account.url)
        assert size_of(photo) == [960, 720]
        with Image.open(io.BytesIO(served(admin, photo))) as picture:
            assert dict(picture.getexif()) == {}
        policy = admin.request.get(live.server.url).headers["content-security-policy"]
        assert f"connect-src 'self' {storage.origin};" in policy

        close_chat(admin)
        expect(admin.get_by_text("1 photo deleted", exact=True)).to_be_attached()
        assert storage.listing("chats/1/") == []
    finally:
        live.close()
