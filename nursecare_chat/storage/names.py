"""What blobs are called, and how their first bytes tell their type (contract C24, C25)."""

from __future__ import annotations

import re
import secrets

EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
TYPES = {extension: content_type for content_type, extension in EXTENSIONS.items()}

_NAME = re.compile(rf"chats/[1-9][0-9]{{0,18}}/[0-9a-f]{{32}}\.({'|'.join(TYPES)})")
_PREFIX = re.compile(r"chats/[1-9][0-9]{0,18}/")

HEAD = 12
"""Bytes that tell the type."""


def new_name(thread_id: int, content_type: str) -> str:
    """A name that nobody can guess: ``chats/{threadId}/{32 hex}.{jpg|png|webp}``."""
    return f"{prefix(thread_id)}{secrets.token_hex(16)}.{EXTENSIONS[content_type]}"


def prefix(thread_id: int) -> str:
    """What the names of a thread's blobs begin with. The slash is part of it: ``chats/1`` begins ``chats/12`` too."""
    return f"chats/{thread_id}/"


def is_name(text: str) -> bool:
    """Whether the whole of ``text`` is a blob's name."""
    return _NAME.fullmatch(text) is not None


def is_prefix(text: str) -> bool:
    """Whether the whole of ``text`` is a thread's prefix."""
    return _PREFIX.fullmatch(text) is not None


def content_type_of(name: str) -> str:
    """The type that a blob's name says."""
    return TYPES[name.rpartition(".")[2]]


def sniff(head: bytes) -> str | None:
    """The type that the first :data:`HEAD` bytes say, ``None`` for any other."""
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return None
