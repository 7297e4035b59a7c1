"""The host's session cookie: whoever has it is the user (OWASP ASVS 5.0, V3.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def weaknesses(config: Mapping[str, Any], *, in_production: bool) -> Iterator[tuple[str, str]]:
    """What is wrong with Flask's ``SESSION_COOKIE_*`` settings, each with what to do.

    :param in_production: neither debug nor testing; only there a cookie must not go over plain HTTP.
    """
    if in_production and not config.get("SESSION_COOKIE_SECURE"):
        said = "SESSION_COOKIE_SECURE is off: the session's cookie also goes over plain HTTP."
        yield said, "Set SESSION_COOKIE_SECURE = True, and serve over HTTPS."
    if not config.get("SESSION_COOKIE_HTTPONLY"):
        said = "SESSION_COOKIE_HTTPONLY is off: scripts in a page read the session's cookie."
        yield said, "Set SESSION_COOKIE_HTTPONLY = True."
    if str(config.get("SESSION_COOKIE_SAMESITE")).lower() not in ("lax", "strict"):
        said = "SESSION_COOKIE_SAMESITE is neither Lax nor Strict: other sites' requests may carry the cookie."
        yield said, 'Set SESSION_COOKIE_SAMESITE = "Lax".'
