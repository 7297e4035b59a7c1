"""Browsers, and people who sit down in front of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from ..support.browser import launch
from ..support.visitors import PICTURES, Visitors

expect.set_options(timeout=30_000)  # milliseconds; it is no promise, and a busy machine takes its time


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On a machine that is busy with the rest of the suite a browser may be late for once; the summary says which."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def sit_down(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Somebody with a browser of their own, logged in at ``live``; errors in the console fail the test."""
    visitors = Visitors(browser)
    yield visitors.page_of
    visitors.leave()
    assert visitors.errors == []
