"""Every route, asked by everybody, of a chat in every state, with the flag on and off, against a table to be read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.hosts import Workbench
from ..support.isolation import ANSWERS, BODIES, ROUTES, Cell, cells, off
from ..support.report import note

MINE, OTHERS = "canary-of-the-chat", "canary-of-another-chat"
NO_THREAD = 999_999
CHANGING = ("open", "post", "upload", "close")
"""Allowed, these leave a chat that is not as it was."""


class Chats:
    """Chats of the same client in each state, with a text of theirs in each; and another client's."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.people = {
            "nobody": bench.login(None),
            "stranger": bench.login("client2"),
            "nurse": bench.login("nurse"),
            "client": bench.login("client"),
            "admin": bench.login("admin"),
            "other": bench.login("admin2"),
            "disabled": bench.login("client"),
            "left": bench.login("client"),
        }
        self.people["left"].call("POST", "/logout")
        self._kept: dict[str, tuple[Any, int]] = {}
        stranger = self.people["stranger"]
        stranger.say(stranger.open(3).get_json()["threadId"], OTHERS)

    def place(self, state: str, fresh: bool) -> tuple[Any, int]:
        """The ids of a request and its thread.

        :param fresh: one that nobody else is given.
        """
        if fresh:
            return self._make(state)
        if state not in self._kept:
            self._kept[state] = self._make(state)
        return self._kept[state]

    def _make(self, state: str) -> tuple[Any, int]:
        with self.bench.app.app_context():
            request = self.bench.host.new_request("client")
        if state == "none":
            return request, NO_THREAD
        client, admin = self.people["client"], self.people["admin"]
        path = f"/api/requests/{request}/chat/open"
        thread = client.call("POST", path).get_json()["threadId"]
        admin.call("POST", path)  # claims it
        client.say(thread, MINE)
        if state != "open":
            client.close(thread)
        if state == "purged":
            done = self.bench.app.test_cli_runner().invoke(args=["chat", "purge", "--thread", str(thread)])
            assert done.exit_code == 0, done.output
        return request, thread

    def ask(self, cell: Cell) -> Any:
        """The answer, from whom the cell names."""
        fresh = cell.route in CHANGING and cell.word == "ok"
        request, thread = self.place(cell.state, fresh)
        method, path = ROUTES[cell.route]
        options: dict[str, Any] = {}
        if cell.route in BODIES:
            options = {"data": json.dumps(BODIES[cell.route]), "content_type": "application/json"}
        return self.people[cell.actor].call(method, path.format(request=request, thread=thread), **options)


@pytest.fixture
def chats(make_bench: Callable[..., Workbench], request: pytest.FixtureRequest, tmp_path: Path) -> Chats:
    """What is closed stays unpurged until somebody asks: this queue has no worker."""
    return Chats(make_bench(request.param, CHAT_QUEUE_URL=f"sqlite:///{tmp_path}/queue.db"))


def complaint(cell: Cell, answer: Any) -> str | None:
    """What is wrong with an answer, if anything."""
    status, code = ANSWERS[cell.word]
    body, said = answer.get_data(as_text=True), answer.get_json(silent=True) or {}
    found = (answer.status_code, None if answer.status_code == 200 else said.get("code"))
    if found != (status, code):
        return f"{found} in place of {(status, code)}"
    if OTHERS in body:
        return "another chat's text"
    readable = cell.route in ("messages", "stream") and cell.word == "ok"
    if MINE in body and not readable:
        return "this chat's text"
    if MINE in body and cell.state == "purged":
        return "text that was erased"
    if code is not None and set(answer.get_json()) != {"code", "message", "errors"}:
        return "another shape"
    return None


def test_no_route_is_left_out(make_bench: Callable[..., Workbench]) -> None:
    """C11: what the application serves for the chat is what the table asks."""
    adapter = make_bench("reference").app.url_map.bind("localhost")
    asked = {
        adapter.match(path.partition("?")[0].format(request=1, thread=1), method=method)[0]
        for method, path in ROUTES.values()
    }
    served = {rule.endpoint for rule in adapter.map.iter_rules() if rule.endpoint.startswith("nursecare_chat.")}
    assert asked == served


@pytest.mark.one_process
@pytest.mark.parametrize("flag", ["on", "off"])
@pytest.mark.parametrize("chats", ["foreign", "reference-postgresql"], indirect=True)
def test_the_matrix(chats: Chats, flag: str, request: pytest.FixtureRequest) -> None:
    """C11, C12, C16, C17, C22, C27, C40: who may do what, and that no answer has a byte of another chat."""
    table = cells() if flag == "on" else [off(cell) for cell in cells()]
    for cell in table:
        chats.place(cell.state, fresh=False)
    chats.bench.app.config["CHAT_ENABLED"] = flag == "on"
    wrong = [*found_wrong(chats, (cell for cell in table if cell.actor != "disabled"))]
    with chats.bench.app.app_context():
        chats.bench.host.disable("client")
    wrong += found_wrong(chats, (cell for cell in table if cell.actor == "disabled"))
    assert wrong == []
    note("cells of the isolation matrix", request.node.nodeid, len(table))


def found_wrong(chats: Chats, asked: Iterable[Cell]) -> Iterator[str]:
    for cell in asked:
        if why := complaint(cell, chats.ask(cell)):
            yield f"{cell.route}, {cell.state}, {cell.actor}: {why}"
