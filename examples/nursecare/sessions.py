"""Flask's session cookie, read and signed with a serializer that is made once: Flask makes one for each request."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from flask import Flask
from flask.sessions import SecureCookieSessionInterface


class Sessions(SecureCookieSessionInterface):
    def __init__(self) -> None:
        self._made = lru_cache(maxsize=4)(lambda app, *keys: super(Sessions, self).get_signing_serializer(app))

    def get_signing_serializer(self, app: Flask) -> Any:
        return self._made(app, app.secret_key, *(app.config["SECRET_KEY_FALLBACKS"] or ()))
