"""An Azure account's own settings, as far as the chat depends on them (contract C24, C40, C42)."""

from __future__ import annotations

from collections.abc import Iterable

from azure.storage.blob import BlobServiceClient, ContainerClient, CorsRule

from ..errors import StorageUnavailable

METHODS = ("GET", "HEAD", "PUT")
HEADERS = ("content-type", "x-ms-blob-type")
"""What a browser must be allowed to send: the headers of an upload."""

OURS = [*HEADERS, "x-ms-version", "x-ms-client-request-id"]
"""By these we know our own rule again."""

MAX_AGE = 3600
"""Seconds for which a browser may remember the answer."""

MOST_RULES = 5
"""The service takes no more."""


def cors_problems(client: BlobServiceClient, origins: Iterable[str]) -> list[str]:
    rules = client.get_service_properties()["cors"]
    return [
        f"No rule of the account's CORS settings lets pages of {origin} upload: {', '.join(METHODS)}"
        f" with the headers {', '.join(HEADERS)} are needed."
        for origin in dict.fromkeys(origins)
        if not any(_allows(rule, origin) for rule in rules)
    ]


def fix_cors(client: BlobServiceClient, origins: Iterable[str]) -> None:
    """Add one rule of ours, or the origins to it; the other rules and settings stay as they are."""
    rules = client.get_service_properties()["cors"]
    wanted = [origin for origin in dict.fromkeys(origins) if not any(_allows(rule, origin) for rule in rules)]
    if not wanted:
        return
    others = [rule for rule in rules if _words(rule.allowed_headers) != set(OURS)]
    had = [origin for rule in rules if rule not in others for origin in rule.allowed_origins.split(",")]
    if len(others) >= MOST_RULES:
        raise StorageUnavailable("CorsRulesFull", MOST_RULES)
    ours = CorsRule(
        [*had, *wanted], list(METHODS), allowed_headers=OURS, exposed_headers=[], max_age_in_seconds=MAX_AGE
    )
    client.set_service_properties(cors=[*others, ours])


def _allows(rule: CorsRule, origin: str) -> bool:
    headers = _words(rule.allowed_headers)
    return (
        bool({"*", origin.lower()} & _words(rule.allowed_origins))
        and {method.lower() for method in METHODS} <= _words(rule.allowed_methods)
        and all(any(_matches(pattern, header) for pattern in headers) for header in HEADERS)
    )


def _matches(pattern: str, header: str) -> bool:
    return header.startswith(pattern[:-1]) if pattern.endswith("*") else header == pattern


def _words(text: str | None) -> set[str]:
    return {word.strip().lower() for word in (text or "").split(",")} - {""}


def soft_delete_days(client: BlobServiceClient) -> int:
    """For how long the account keeps deleted blobs; 0 for not at all."""
    kept = client.get_service_properties()["delete_retention_policy"]
    return int(kept.days or 0) if kept is not None and kept.enabled else 0


def recoverable(client: BlobServiceClient, container: ContainerClient) -> list[str]:
    """Versions are no such thing: a purge deletes them too. Nor can a container's own soft delete be seen from here."""
    found = []
    if days := soft_delete_days(client):
        found.append(f"Soft delete keeps deleted photos for {days} days.")
    properties = container.get_container_properties()
    if properties.has_immutability_policy or properties.immutable_storage_with_versioning_enabled:
        found.append("An immutability policy of the container keeps photos from being deleted.")
    if properties.has_legal_hold:
        found.append("A legal hold on the container keeps photos from being deleted.")
    if properties.public_access:
        found.append("The container is public: whoever knows a photo's name reads it without a signed address.")
    return found
