"""The one place that names ``CHAT_*`` keys: parsing, defaults and errors (contract C5)."""

from __future__ import annotations

import importlib.util
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from .errors import ConfigurationError

IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp")
TRUE = frozenset({"1", "true", "on", "yes"})
FALSE = frozenset({"0", "false", "off", "no", ""})


class _Bad(ValueError):
    """Carries what is accepted; :func:`load` adds the key and the value."""


def parse_bool(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise _Bad("one of 1, true, on, yes, 0, false, off, no")


def _number(accepted: str, pattern: str) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        text = str(value).strip()
        if isinstance(value, bool) or not re.fullmatch(pattern, text, re.ASCII):
            raise _Bad(accepted)
        number = float(text)
        if not 0 < number <= 2**31 or math.isinf(number):
            raise _Bad(accepted)
        return number

    return parse


def _count(accepted: str) -> Callable[[Any], int]:
    number = _number(accepted, r"\d{1,10}")
    return lambda value: int(number(value))


def _or_off(parse: Callable[[Any], Any], accepted: str) -> Callable[[Any], Any]:
    def parse_or_off(value: Any) -> Any:
        if value is False or str(value).strip().lower() == "off":
            return None
        try:
            return parse(value)
        except _Bad:
            raise _Bad(accepted) from None

    return parse_or_off


def _items(value: Any) -> list[str]:
    parts = value if isinstance(value, (list, tuple, set, frozenset)) else str(value).split(",")
    return [str(part).strip().lower() for part in parts if str(part).strip()]


def _image_types(value: Any) -> tuple[str, ...]:
    types = tuple(dict.fromkeys(_items(value)))
    if not types or not set(types) <= set(IMAGE_TYPES):
        raise _Bad("a comma-separated subset of " + ",".join(IMAGE_TYPES))
    return types


def _origins(value: Any) -> frozenset[str]:
    # As browsers write them: without the scheme's own port.
    origins = frozenset(
        re.sub(r"^(https://[^/]+):443$|^(http://[^/]+):80$", r"\1\2", o.rstrip("/")) for o in _items(value)
    )
    for origin in origins:
        if not re.fullmatch(r"https?://[^/?#@\s]+", origin):
            raise _Bad("comma-separated origins such as https://app.example.org")
    return origins


def _rate(value: Any) -> str:
    text = str(value).strip().lower()
    if not re.fullmatch(r"[1-9]\d{0,8}\s*(/|per)\s*([1-9]\d{0,4}\s*)?(second|minute|hour|day)s?", text, re.ASCII):
        raise _Bad("a rate such as 120/minute, or off")
    return text


def _url(*schemes: str, empty: bool = False) -> Callable[[Any], str]:
    accepted = " or ".join(f"{scheme}://…" for scheme in schemes) + (", or empty" if empty else "")

    def parse(value: Any) -> str:
        text = str(value).strip()
        if empty and not text:
            return text
        try:
            parts = urlsplit(text)
            sound = parts.scheme in schemes and "://" in text and (parts.port or True)
        except ValueError:
            sound = False
        if not sound:
            raise _Bad(accepted)
        return text

    return parse


def _storage_url(value: Any) -> str:
    accepted = "file://, file:///an/absolute/folder or azure://container"
    try:
        text = _url("file", "azure")(value)
    except _Bad:
        raise _Bad(accepted) from None
    parts = urlsplit(text)
    # A container's name: docs.microsoft.com, "Naming and referencing containers".
    container = r"azure://(?=.{3,63}/?$)[a-z0-9]+(-[a-z0-9]+)*/?"
    if parts.query or parts.fragment or not re.fullmatch(rf"file://(/.*)?|{container}", text):
        raise _Bad(accepted)
    return text


def _metrics(value: Any) -> bool:
    if (on := parse_bool(value)) and importlib.util.find_spec("prometheus_client") is None:
        raise _Bad("off; with prometheus-client (pip install 'nursecare-chat[metrics]') also on")
    return on


def _text(value: Any) -> str:
    return str(value)


_SECONDS = _number("seconds, a number above 0", r"\d{1,9}(\.\d{1,6})?")
_RATE_OR_OFF = _or_off(_rate, "a rate such as 120/minute, or off")
_COUNT_OR_OFF = _or_off(_count("n"), "a whole number above 0, or off")

# key: (default, parser). The order is the contract's table.
_KEYS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "CHAT_ENABLED": (False, parse_bool),
    "CHAT_SIGNED_URL_TTL": (900, _count("seconds, a whole number above 0")),
    "CHAT_REDACT_MESSAGES": (True, parse_bool),
    "CHAT_ALLOWED_IMAGE_MIME": (",".join(IMAGE_TYPES), _image_types),
    "CHAT_TRANSPORT_URL": ("memory://", _url("memory", "redis", "rediss")),
    "CHAT_STORAGE_URL": ("file://", _storage_url),
    "CHAT_AZURE_CONNECTION_STRING": ("", _text),
    "CHAT_AZURE_ACCOUNT_URL": ("", _url("https", "http", empty=True)),
    "CHAT_QUEUE_URL": ("sqlite://", _url("sqlite", "redis", "rediss", "memory")),
    "CHAT_KEYSTORE_URL": ("", _url("file", empty=True)),
    "CHAT_RECEIPT_KEY": ("", _text),
    "CHAT_MAX_TEXT": (5000, _count("characters, a whole number above 0")),
    "CHAT_MAX_IMAGE_BYTES": (10485760, _count("bytes, a whole number above 0")),
    "CHAT_RATE_POST": ("120/minute", _RATE_OR_OFF),
    "CHAT_RATE_OPEN": ("30/minute", _RATE_OR_OFF),
    "CHAT_RATE_UPLOAD": ("30/minute", _RATE_OR_OFF),
    "CHAT_MAX_STREAMS_PER_USER": (20, _COUNT_OR_OFF),
    "CHAT_TRUSTED_ORIGINS": ("", _origins),
    "CHAT_STREAM_HEARTBEAT": (15, _SECONDS),
    "CHAT_STREAM_MAX_AGE": (900, _SECONDS),
    "CHAT_STREAM_HANDOFF": (True, parse_bool),
    "CHAT_IDLE_CLOSE_MINUTES": ("off", _COUNT_OR_OFF),
    "CHAT_MAX_AGE_DAYS": ("off", _COUNT_OR_OFF),
    "CHAT_METRICS": (False, _metrics),
    "CHAT_METRICS_TOKEN": ("", _text),
}
SECRETS = frozenset(
    {
        "CHAT_RECEIPT_KEY",
        "CHAT_METRICS_TOKEN",
        "CHAT_TRANSPORT_URL",
        "CHAT_QUEUE_URL",
        "CHAT_AZURE_CONNECTION_STRING",
        "CHAT_AZURE_ACCOUNT_URL",
    }
)


@dataclass(frozen=True)
class ChatConfig:
    """What :func:`load` read. Seconds, bytes and characters as in C5; ``None`` stands for ``off``.

    ``CHAT_ENABLED`` is not here: it is read from ``app.config`` on every request, see :func:`is_enabled`.
    """

    signed_url_ttl: int
    redact_messages: bool
    allowed_image_mime: tuple[str, ...]
    transport_url: str
    storage_url: str
    azure_connection_string: str
    azure_account_url: str
    queue_url: str
    keystore_url: str
    receipt_key: str
    max_text: int
    max_image_bytes: int
    rate_post: str | None
    rate_open: str | None
    rate_upload: str | None
    max_streams_per_user: int | None
    trusted_origins: frozenset[str]
    stream_heartbeat: float
    stream_max_age: float
    stream_handoff: bool
    idle_close_minutes: int | None
    max_age_days: int | None
    metrics: bool
    metrics_token: str
    explicit: frozenset[str]
    """The keys that the host or the environment set."""


def load(config: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> tuple[bool, ChatConfig]:
    """Read every key from ``config``, else from ``environ``; return ``(enabled, the rest)``.

    :raises ConfigurationError: naming the key, the value and what is accepted.
    """
    values: dict[str, Any] = {}
    explicit = set()
    for key, (default, parse) in _KEYS.items():
        raw = config.get(key)
        if raw is None:
            raw = environ.get(key)
        if raw is None:
            raw = default
        else:
            explicit.add(key)
        try:
            values[key] = parse(raw)
        except _Bad as bad:
            hidden = key in SECRETS and re.search("[@?=;&]", str(raw))
            shown = "…" if hidden else repr(raw)
            raise ConfigurationError(f"{key} is {shown}; accepted: {bad}.") from None
    enabled = values.pop("CHAT_ENABLED")
    fields = {key.removeprefix("CHAT_").lower(): value for key, value in values.items()}
    return enabled, ChatConfig(**fields, explicit=frozenset(explicit))


def parse_origins(values: Iterable[str]) -> tuple[str, ...]:
    """Origins as ``CHAT_TRUSTED_ORIGINS`` has them, sorted.

    :raises ConfigurationError: without the value.
    """
    try:
        return tuple(sorted(_origins(list(values))))
    except _Bad as bad:
        raise ConfigurationError(f"These are no origins; accepted: {bad}.") from None


def storage_folder(url: str, instance_path: str) -> Path:
    """The folder that ``CHAT_STORAGE_URL`` names: ``file://`` is one in the instance folder."""
    return Path(unquote(urlsplit(url).path) or Path(instance_path, "chat-media"))


def is_enabled(config: Mapping[str, Any]) -> bool:
    """The master flag as it stands in ``app.config`` now; what cannot be read is off."""
    try:
        return parse_bool(config.get("CHAT_ENABLED", False))
    except _Bad:
        return False


_EMBEDDED = {
    "CHAT_TRANSPORT_URL": "streams of other processes learn of messages by polling only",
    "CHAT_STORAGE_URL": "media are kept on this machine",
    "CHAT_QUEUE_URL": "workers must run on this machine",
    "CHAT_RECEIPT_KEY": "each machine signs receipts with a key of its own",
}


def warnings(config: ChatConfig) -> list[str]:
    """What an operator should hear at the start outside debug and testing."""
    embedded = [
        f"{key} is the embedded default: {what}" for key, what in _EMBEDDED.items() if key not in config.explicit
    ]
    opened = ["CHAT_METRICS is on without CHAT_METRICS_TOKEN: whoever reaches /api/chat/metrics reads it"]
    return embedded + (opened if config.metrics and not config.metrics_token else [])
