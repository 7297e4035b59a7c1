"""Small files that are there whole or not at all, however the process ends."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def put(target: Path, data: bytes) -> None:
    """Write a file for its owner alone, durably; not over what somebody else put there meanwhile.

    :raises OSError: as the file system says it.
    """
    part = target.with_name(f"{target.stem}.{os.urandom(4).hex()}")
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(part, target)
    finally:
        part.unlink(missing_ok=True)
    sync(target.parent)


def sync(folder: Path) -> None:
    """Make what was linked and unlinked in it durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
