"""Content that is unreadable without a key that the database never sees (contract C41).

A database server keeps erased rows in its heap, its write-ahead log and its backups. What was stored there sealed under
a thread's own key is gone everywhere the moment that key is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..durable import put, sync
from ..errors import KeyStoreUnavailable

KEY_BYTES, NONCE_BYTES = 32, 12
VERSION = b"\1"
FIELD = "content"
SEALED = ("text", "latitude", "longitude", "client_message_id")
"""What people choose freely."""


class KeyStore(Protocol):
    """Keeps one key for each thread, outside the database.

    Every method raises :class:`~nursecare_chat.errors.KeyStoreUnavailable` while it cannot be reached.
    """

    def name(self) -> str:
        """Which store this is, the same for ever; another folder in its place has another name."""

    def has(self, thread_id: int) -> bool:
        """Whether there is anything of the thread's."""

    def get(self, thread_id: int) -> bytes | None:
        """The thread's key, ``None`` if there is none (any more)."""

    def make(self, thread_id: int) -> bytes:
        """The thread's key, made and durable if there was none."""

    def destroy(self, thread_id: int) -> None:
        """Remove the key for ever, durably; none is as good."""


class FileKeyStore:
    """A file per thread, in a folder of one host or on a shared mount that is not backed up.

    :param folder: made with the first key, and a marker with its name in it. Without that it is unavailable: what is
        not mounted must not look destroyed.
    """

    MARKER = "nursecare-chat-keys"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen = False

    def name(self) -> str:
        with self._opened():
            return (self._folder / self.MARKER).read_text()

    def has(self, thread_id: int) -> bool:
        with self._opened():
            return any(self._files(thread_id))

    def get(self, thread_id: int) -> bytes | None:
        with self._opened():
            try:
                key = self._file(thread_id).read_bytes()
            except FileNotFoundError:
                return None
        if len(key) != KEY_BYTES:
            raise KeyStoreUnavailable("KeyDamaged")
        return key

    def make(self, thread_id: int) -> bytes:
        """Whole or not at all, and of two at once one, however the process ends."""
        self._begin()
        if (key := self.get(thread_id)) is not None:
            return key
        key = os.urandom(KEY_BYTES)
        with self._opened():
            put(self._file(thread_id), key)
        return self.get(thread_id) or key

    def destroy(self, thread_id: int) -> None:
        with self._opened():
            for file in self._files(thread_id):
                file.unlink(missing_ok=True)
            sync(self._folder)

    def _begin(self) -> None:
        """Make the folder and its marker, unless there are keys without one, or was one before in this process."""
        marker = self._folder / self.MARKER
        try:
            if self._seen or marker.is_file():
                return
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not any(self._folder.glob("*.key")):
                put(marker, os.urandom(16).hex().encode())
        except OSError as error:
            raise KeyStoreUnavailable(type(error).__name__, error.errno) from None

    @contextmanager
    def _opened(self) -> Iterator[None]:
        try:
            if not (self._folder / self.MARKER).is_file():
                raise KeyStoreUnavailable("FolderMissing")
            self._seen = True
            yield
        except OSError as error:
            raise KeyStoreUnavailable(type(error).__name__, error.errno) from None

    def _files(self, thread_id: int) -> Iterator[Path]:
        """The key, and what a crash left beside it."""
        return self._folder.glob(f"{int(thread_id)}.*")

    def _file(self, thread_id: int) -> Path:
        return self._folder / f"{int(thread_id)}.key"


class Sealing:
    """Seals what people write and where they are, AES-GCM under the thread's key (NIST SP 800-38D).

    :param store: ``None`` to store in the clear; what was sealed earlier stays unreadable then.
    """

    def __init__(self, store: KeyStore | None) -> None:
        self.store = store

    def seal(self, thread_id: int, seq: int, content: dict[str, Any]) -> dict[str, Any]:
        """``content`` as the row has it. Called while the thread's row is locked open: no key is made behind a close.

        :param content: columns of the row, those of :data:`SEALED` among them.

        :raises KeyStoreUnavailable: if there is no key to be had; nothing is stored in the clear instead.
        """
        inner = {name: content[name] for name in SEALED if content.get(name) is not None}
        if self.store is None or not inner:
            return content
        nonce = os.urandom(NONCE_BYTES)
        text, key = json.dumps(inner).encode(), self.store.make(thread_id)
        sealed = AESGCM(key).encrypt(nonce, text, _bound_to(thread_id, seq))
        return {**content, **dict.fromkeys(SEALED), "sealed": VERSION + nonce + sealed}

    def reveal(self, rows: Iterable[Any]) -> Sequence[Any]:
        """The rows with their content; without it where the key is gone.

        :raises KeyStoreUnavailable: if the keys cannot be looked at now.
        """
        keys: dict[int, bytes | None] = {}
        return [row if row.sealed is None else self._revealed(row, keys) for row in rows]

    def _revealed(self, row: Any, keys: dict[int, bytes | None]) -> Any:
        if row.thread_id not in keys:
            keys[row.thread_id] = None if self.store is None else self.store.get(row.thread_id)
        key, shown = keys[row.thread_id], SimpleNamespace(**row._mapping)
        if key is not None:
            start = len(VERSION)
            nonce, sealed = row.sealed[start : start + NONCE_BYTES], row.sealed[start + NONCE_BYTES :]
            with suppress(InvalidTag):  # somebody moved it here from another message
                inner = AESGCM(key).decrypt(nonce, sealed, _bound_to(row.thread_id, row.seq))
                vars(shown).update(json.loads(inner))
        return shown

    def holder_of(self, thread_id: int) -> str | None:
        """The name of the store that has the thread's key; ``None`` if it was lost, or there is no store any more.

        :raises KeyStoreUnavailable: if the keys cannot be looked at now.
        """
        return self.store.name() if self.store is not None and self.store.has(thread_id) else None

    def destroy(self, thread_id: int, holder: str) -> None:
        """
        :param holder: the name of the store that had the key.
        :raises KeyStoreUnavailable: if it is not this one, or cannot be reached: the key may be there yet.
        """
        if self.store is None or self.store.name() != holder:
            raise KeyStoreUnavailable("AnotherStore")
        self.store.destroy(thread_id)

    def left_of(self, thread_id: int) -> bool:
        """Whether anything of the thread's is in the store, for an audit; in one that was never used nothing is."""
        try:
            return self.store is not None and self.store.has(thread_id)
        except KeyStoreUnavailable as error:
            if error.kind == "FolderMissing":
                return False
            raise

    def canary(self) -> None:
        """Make, read and destroy a key that is no thread's (C42).

        :raises KeyStoreUnavailable: if that cannot be done.
        """
        if self.store is not None:
            nobody = -int.from_bytes(os.urandom(6), "big")  # threads' ids begin at 1
            if self.store.make(nobody) != self.store.get(nobody):
                raise KeyStoreUnavailable("KeyLost")
            self.store.destroy(nobody)


def _bound_to(thread_id: int, seq: int) -> bytes:
    return f"{thread_id}|{seq}|{FIELD}".encode()


def choose(url: str, instance_path: str) -> KeyStore | None:
    """The store that ``CHAT_KEYSTORE_URL`` names; ``file://`` is a folder in the instance folder."""
    if not url:
        return None
    return FileKeyStore(Path(unquote(urlsplit(url).path) or Path(instance_path, "chat-keys")))
