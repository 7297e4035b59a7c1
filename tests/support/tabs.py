"""Tabs of a browser with a bare page of the host, which has the client library and no elements."""

from __future__ import annotations

import base64
from typing import Any

from playwright.sync_api import BrowserContext, Page, Route, TimeoutError

BARE = "**/bare"
START = """async ([thread, options]) => {
    const { ChatClient } = await import("/api/chat/widget/nursecare-chat.js");
    window.client = new ChatClient(options);
    window.chat = client.conversation(thread);
    window.received = [];
    chat.addEventListener("received", ({ detail }) => received.push(detail.text));
    window.states = [];
    chat.addEventListener("connection", () => states.push(chat.connection));
    window.started = chat.start();
}"""
STATE = """() => window.chat && ({
    connection: chat.connection,
    states,
    error: chat.error?.toJSON(),
    messages: chat.messages.map(({ state, error }) => [state, error?.code]),
})"""
FILE = (
    """([bytes, name, type]) => new File([Uint8Array.from(atob(bytes), (one) => one.charCodeAt(0))], name, { type })"""
)
KEPT = """() => new Promise((resolve) => {
    const opening = indexedDB.open("nursecare-chat", 1);
    opening.onupgradeneeded = () => opening.transaction.abort(); // there is none yet
    opening.onerror = () => resolve([]);
    opening.onsuccess = () => {
        const all = opening.result.transaction("outbox").objectStore("outbox").getAll();
        all.onsuccess = () => {
            opening.result.close();
            resolve(all.result.map(({ key, body }) => [key, body.text]));
        };
    };
})"""


class Person:
    """Somebody's browser, logged in; their tabs share its cookies, storage and locks.

    :param url: the host's.
    """

    def __init__(self, context: BrowserContext, url: str, who: str) -> None:
        self.context = context
        self.url = url
        self.errors: list[str] = []
        context.route(BARE, self._bare)
        self.login(who)

    @staticmethod
    def _bare(route: Route) -> None:
        route.fulfill(body="<!doctype html><title>Bare</title>", content_type="text/html")

    def login(self, who: str, url: str = "") -> None:
        """
        :param url: what reaches the server, if the network of the person's tabs does not; cookies know no ports.
        """
        body = {"email": f"{who}@nursecare.test", "password": "demo"}
        self.user = self.context.request.post(f"{url or self.url}/login", data=body).json()["id"]

    def tab(self, thread: int | None = None, wait: bool = True, **options: Any) -> Tab:
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(f"{self.url}/bare")
        tab = Tab(page, {"user": self.user, **options})
        if thread is not None:
            tab.start(thread, wait)
        return tab


class Tab:
    """A page in which ``chat`` is a conversation."""

    def __init__(self, page: Page, options: dict[str, Any]) -> None:
        self.page = page
        self.options = options

    def start(self, thread: int, wait: bool = True) -> None:
        """:param wait: until the stream is there."""
        self.page.evaluate(START, [thread, self.options])
        if wait:
            self.until("chat.connection === 'live'")

    def do(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def until(self, condition: str, seconds: float = 30) -> None:
        """
        :raises AssertionError: if it does not come true; with what the conversation says of itself.
        """
        try:
            self.page.wait_for_function(f"() => {condition}", timeout=seconds * 1000, polling=50)
        except TimeoutError:
            raise AssertionError(f"not {condition}: {self.do(STATE)}") from None

    def say(self, *texts: str) -> None:
        for text in texts:
            self.do("text => { chat.sendText(text); }", text)

    def share(self, data: bytes, name: str = "photo.jpg", content_type: str = "image/jpeg") -> str:
        """A photo; its key."""
        file = self.page.evaluate_handle(FILE, [base64.b64encode(data).decode(), name, content_type])
        key: str = self.page.evaluate("file => chat.sendPhoto(file)", file)
        return key

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All, with the code of what went wrong."""
        found: list[dict[str, Any]] = self.do("chat.messages.map((one) => ({ ...one, error: one.error?.code }))")
        return found

    def texts(self, state: str = "sent") -> list[str]:
        return [message["text"] for message in self.messages if message["state"] == state]

    def has(self, *texts: str, seconds: float = 30) -> None:
        """Wait until exactly these are sent; then nothing else may be there."""
        self.until(f"chat.messages.filter(({{ state }}) => state === 'sent').length >= {len(texts)}", seconds)
        assert self.texts() == list(texts)

    @property
    def kept(self) -> list[list[str]]:
        """What this browser's outbox keeps: keys and texts."""
        entries: list[list[str]] = self.do(KEPT)
        return entries
