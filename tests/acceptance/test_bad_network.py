"""Half a minute without a network, as people in front of the widget have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from ..support.databases import Databases
from ..support.visitors import PICTURES, Host, connected, enter, say, texts
from ..support.wire import Wire

GONE = 30
"""Seconds: two heartbeats of the server are missed, and the browser tries again more than once."""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Host]:
    host = Host(tmp_path_factory.mktemp("network"), databases)
    yield host
    host.close()


@pytest.fixture
def wire(live: Host) -> Iterator[Wire]:
    wire = Wire(live.server.url)
    yield wire
    wire.close()


def test_half_a_minute_without_a_network(live: Host, wire: Wire, sit_down: Callable[..., Page]) -> None:
    """C23, C30: what both typed meanwhile arrives once, in order, though no browser knows that it is offline."""
    path = f"/requests/{live.new_request()}"
    client, admin = enter(sit_down(live, "client", path, wire.url)), enter(sit_down(live, "admin", path))
    say(client, "before")
    expect(admin.locator(".message")).to_have_count(1)
    wire.cut()
    for number in range(1, 6):
        say(client, f"client {number}")
        say(admin, f"admin {number}")
        client.wait_for_timeout(GONE * 1000 / 5)
    expect(client.locator(".message.sending")).to_have_count(5)
    assert texts(admin) == ["before", *(f"admin {number}" for number in range(1, 6))]
    client.screenshot(path=PICTURES / "cut-off.png")
    wire.mend()
    for page in (client, admin):
        expect(page.locator(".message.sent, .message:not(.mine)")).to_have_count(11)
        connected(page)
    assert texts(client) == texts(admin) == [
        "before", *(f"admin {number}" for number in range(1, 6)), *(f"client {number}" for number in range(1, 6))
    ]  # fmt: skip
