"""What a check is given, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..state import ChatState


@dataclass(frozen=True)
class Finding:
    """``status`` is ok, warning or error; ``next`` is what to do about the latter two."""

    check: str
    status: str
    message: str
    next: str = ""


@dataclass(frozen=True)
class Patient:
    """
    :ivar app: the host's application.
    :ivar origins: of the pages from which photos are uploaded.
    :ivar fix: whether the storage's account may be set right.
    """

    chat: ChatState
    app: Any
    origins: tuple[str, ...] = ()
    fix: bool = False

    @property
    def in_production(self) -> bool:
        return not (self.app.debug or self.app.testing)


Check = Callable[[Patient], Iterator[Finding]]
