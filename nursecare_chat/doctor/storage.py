"""The storage, with something really put there; Azure's account with what browsers and purges need of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..errors import StorageUnavailable
from ..storage import names
from .findings import Finding, Patient

NEXT = {
    "ContainerNotFound": "Run `flask chat doctor --fix`, or make the container yourself, private.",
    "ContainerBeingDeleted": "Wait a minute, then run `flask chat doctor --fix`.",
    "AuthenticationFailed": "Look at CHAT_AZURE_CONNECTION_STRING, or the identity, and at this machine's clock.",
    "AuthorizationFailure": "Let this machine through the account's firewall, and look at its roles there.",
    "AuthorizationPermissionMismatch": (
        "Give the identity Storage Blob Data Contributor and Storage Blob Delegator on the account."
    ),
    "CorsRulesFull": "Remove one of the account's CORS rules, then run `flask chat doctor --fix` again.",
}
REACH = "See that CHAT_STORAGE_URL is right, and that it can be reached and written to."
ANY_NAME = names.new_name(1, "image/png")


def storage(patient: Patient) -> Iterator[Finding]:
    store: Any = patient.chat.storage
    try:
        try:
            store.canary()
        except StorageUnavailable as error:
            if error.kind != "ContainerNotFound" or not patient.fix:
                raise
            store.create()
            store.canary()
            yield Finding("storage", "ok", "The container was made.")
        if hasattr(store, "cors_problems"):
            store.sign_get(ANY_NAME, 60)  # an identity may store and not sign
    except StorageUnavailable as error:
        yield Finding("storage", "error", f"{error}.", NEXT.get(error.kind, REACH))
        return
    yield Finding("storage", "ok", "A canary was put, read and deleted.")
    if hasattr(store, "cors_problems"):
        yield from _account(patient, "CORS settings", lambda: _cors(patient, store))
        yield from _account(patient, "retention", lambda: _retention(store))


def _cors(patient: Patient, store: Any) -> list[Finding]:
    if not patient.origins:
        said = "Nobody said from which origins pages upload, so CORS was not looked at."
        return [Finding("storage", "warning", said, "Run `flask chat doctor --origin https://…`.")]
    problems = store.cors_problems(patient.origins)
    if problems and patient.fix:
        store.fix_cors(patient.origins)
        if not (problems := store.cors_problems(patient.origins)):
            return [Finding("storage", "ok", "The account's CORS settings were set right.")]
    named = " ".join(f"--origin {origin}" for origin in patient.origins)
    return [Finding("storage", "warning", said, f"Run `flask chat doctor --fix {named}`.") for said in problems] or [
        Finding("storage", "ok", "The account's CORS settings let the pages upload.")
    ]


def _retention(store: Any) -> list[Finding]:
    todo = "Change that in the account, or a purge erases less than it says."
    return [Finding("storage", "warning", said, todo) for said in store.recoverable()]


def _account(patient: Patient, what: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    """What an identity may not see or change is no failure of the chat's."""
    try:
        return look()
    except StorageUnavailable as error:
        todo = NEXT["CorsRulesFull"] if error.kind == "CorsRulesFull" else "Look yourself, or allow this identity to."
        return [Finding("storage", "warning", f"The account's {what}: {error}.", todo)]
