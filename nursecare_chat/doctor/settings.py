"""The settings, the chat's and those of the host's that it relies on."""

from __future__ import annotations

from collections.abc import Iterator

from .. import config as configuration
from .. import session_cookie
from .findings import Finding, Patient

SHORTEST_KEY = 16
"""Bytes; whoever guesses the key signs in as anybody."""


def settings(patient: Patient) -> Iterator[Finding]:
    found = [*_secret_key(patient), *_cookie(patient), *_keys(patient)]
    yield from found or [Finding("settings", "ok", "Nothing to say about them.")]


def _secret_key(patient: Patient) -> Iterator[Finding]:
    key = patient.app.secret_key
    todo = "Set it to `python -c 'import secrets; print(secrets.token_hex(32))'`, the same in every process."
    if not key:
        yield Finding("settings", "error", "SECRET_KEY is not set; logins and the chat need it.", todo)
    elif len(key if isinstance(key, bytes) else str(key).encode()) < SHORTEST_KEY:
        status = "error" if patient.in_production else "warning"
        said = f"SECRET_KEY is shorter than {SHORTEST_KEY} bytes: who guesses it signs in as anybody."
        yield Finding("settings", status, said, todo)


def _cookie(patient: Patient) -> Iterator[Finding]:
    for said, todo in session_cookie.weaknesses(patient.app.config, in_production=patient.in_production):
        yield Finding("settings", "warning", said, todo)
    if patient.in_production and _outlives_logout(patient):
        said = "A session's cookie that was captured before the logout still works after it."
        todo = (
            "Keep sessions on the server, or let the user's get_id() carry a nonce that the user_loader compares and"
            " every logout changes."
        )
        yield Finding("settings", "warning", said, todo)


def _outlives_logout(patient: Patient) -> bool:
    """With Flask's own sessions, and Flask-Login's own idea of what stands in them."""
    from flask.sessions import SecureCookieSessionInterface
    from flask_login import UserMixin

    get_id = getattr(patient.chat.models.user_model, "get_id", UserMixin.get_id)
    signed = isinstance(patient.app.session_interface, SecureCookieSessionInterface)
    return signed and get_id is UserMixin.get_id


def _keys(patient: Patient) -> Iterator[Finding]:
    """The transport's and the queue's defaults are their own checks' to tell."""
    for said in configuration.warnings(patient.chat.config):
        key = said.split()[0]
        if key == "CHAT_METRICS":
            yield Finding("settings", "warning", f"{said}.", "Set CHAT_METRICS_TOKEN.")
        elif patient.in_production and key != "CHAT_TRANSPORT_URL":
            yield Finding("settings", "warning", f"{said}.", f"Set {key}, if only to say that this is meant.")
