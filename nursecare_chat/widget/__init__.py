"""The browser's side: modules and style sheets in ``static``, and the Jinja macros that put them into a host's page."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader

HERE = Path(__file__).parent
STATIC = HERE / "static"
TYPES = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
SETTINGS = "nursecare_chat_widget"
"""What the macros know the settings of an element by."""


class File(NamedTuple):
    """``etag`` is strong: it names these bytes."""

    content: bytes
    content_type: str
    etag: str


def read(name: str) -> File | None:
    """The module or style sheet of this name; ``None`` if there is none."""
    match = re.fullmatch(r"[a-z][a-z0-9-]*\.(js|css)", name)
    try:
        content = (STATIC / name).read_bytes() if match else None
    except FileNotFoundError:
        content = None
    if match is None or content is None:
        return None
    return File(content, TYPES[match[1]], hashlib.sha256(content).hexdigest()[:32])


def version() -> str:
    """Names all files as they are now: under an address that has it, each may be kept for ever."""
    return _digest(tuple((path.name, path.stat().st_mtime_ns) for path in sorted(STATIC.iterdir())))


@lru_cache(maxsize=1)
def _digest(files: tuple[tuple[str, int], ...]) -> str:
    """:param files: names, and when they were changed."""
    digest = hashlib.sha256()
    for name, _ in files:
        digest.update(name.encode() + b"\0" + (STATIC / name).read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def modules() -> list[str]:
    """The names of all modules, so that a page can ask for them at once and not one import after the other."""
    return sorted(path.name for path in STATIC.glob("*.js"))


class Templates(FileSystemLoader):
    """Finds ``nursecare_chat/widget.html``.

    A macro that is imported sees no context processor's variables. So the settings are a global of the environment,
    which is there from the first use on: a host that uses no macro keeps its environment as it is (C7), and one that
    sets up Jinja after the chat finds it not made yet.

    :param settings: gives what an element must know, or ``None`` where there is nothing to show.
    """

    def __init__(self, settings: Callable[[], dict[str, Any] | None]) -> None:
        super().__init__(HERE / "templates")
        self._settings = settings

    def get_source(self, environment: Environment, template: str) -> Any:
        found = super().get_source(environment, template)
        environment.globals.setdefault(SETTINGS, self._settings)
        return found
