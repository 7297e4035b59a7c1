"""For tests of hosts and of the chat itself (contract C39)."""

from __future__ import annotations

from flask import Flask

from .state import KEY


def advance(app: Flask, seconds: int) -> None:
    """Let so many seconds pass for what waits: the attempts and second looks of purges, and the ages at which chats are
    closed. Signed addresses, streams and times in answers keep the real time.
    """
    app.extensions[KEY].clock.ahead += seconds
