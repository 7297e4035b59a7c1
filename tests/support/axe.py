"""axe-core, the accessibility checker, on a page as it stands (rules of WCAG 2.2 A and AA, and its best practices)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

from playwright.sync_api import Page, expect

from . import npm

SCHEMES: tuple[Literal["dark"], Literal["light"]] = ("dark", "light")
RUN = """() => axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => violations.flatMap(
    ({ id, nodes }) => nodes.map(({ target, failureSummary: why }) => `${id}: ${target.flat().join(" ")}: ${why}`)))"""


@cache
def _source() -> str:
    return (npm.installed("axe") / "axe-core" / "axe.min.js").read_text()


def violations(page: Page) -> list[str]:
    """What it finds, each with where it is. Evaluated from outside, so that the page's policy stays as it is."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(_source())
    found: Any = page.evaluate(RUN)
    return list(found)


def assert_accessible(page: Page, state: str, languages: Sequence[str] = ("ar", "en")) -> None:
    """In this state: drawn anew in each language, from right to left and from left to right, and dark and light.

    The browser wants reduced motion: colours in mid-fade are nobody's.
    """
    messages = page.locator(".message").count()
    for language in languages:
        speak(page, language)
        expect(page.locator(".message")).to_have_count(messages)
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            if found := violations(page):
                raise AssertionError(f"{state}, {language}, {scheme}: " + "\n".join(found))


def speak(page: Page, language: str) -> None:
    page.locator("nursecare-chat, nursecare-chat-inbox").first.evaluate(
        "(element, language) => { element.lang = language; }", language
    )
