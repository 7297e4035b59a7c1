"""Blobs in a folder, with signed URLs that the plugin itself serves (contract C11, C24, C25).

The guarantees are the cloud's: a URL is signed for one method and one name, it expires, and it creates its blob once.
No path that a client sent comes near the file system: names are read from under our signature, and matched as a whole
against the one form that they have.
"""

from __future__ import annotations

import hashlib
import os
import secrets as random
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from itsdangerous import BadData, URLSafeSerializer

from ..errors import AlreadyUploaded, BadSignature, BodyTooLarge, Busy, StorageUnavailable, UnsupportedMediaType
from . import canary, names
from .base import Retention, SignedPut

SPENT = ".spent"
"""Ends the name of the empty file that says an upload URL was used; it goes with its thread's folder."""

MARKER = ".nursecare-chat"
"""The empty file that says that this is the folder, and not the place where it should be mounted."""

PART = ".part"
"""Ends the name of an upload that is under way."""

WHOLE = ".whole"
"""Ends the name of one that has come to its end, and is about to get its own."""

AT_ONCE = 3
"""Uploads to one address that may be under way: a client tries again before the server notices that its connection
broke. Without a bound one address could fill the disk with what never ends. Whoever comes then takes the place of the
one that was silent for longest, which may be what a killed process left."""


class Grant(NamedTuple):
    """What a signed URL allows. ``expires_at`` on ``time.time()``'s clock; ``size`` in bytes, 0 for reading."""

    name: str
    content_type: str
    size: int
    expires_at: float


class LocalStorage:
    """
    :param root: the folder; made when the first upload is signed.
    :param secrets: gives the keys of the signatures, the present one first; called at each use.
    :param base: the path under which :mod:`nursecare_chat.api.media` serves signed URLs.
    """

    def __init__(
        self,
        root: Path,
        secrets: Callable[[], list[bytes]],
        base: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._secrets = secrets
        self._base = base
        self._clock = clock

    # -- signed URLs ---------------------------------------------------------------------------------------------

    @property
    def origin(self) -> None:
        return None

    def sign_put(self, name: str, content_type: str, size: int, ttl: int) -> SignedPut:
        with _translated():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._root / MARKER).touch(mode=0o600)
        token = self._sign("put", Grant(_checked(name), content_type, size, self._clock() + ttl))
        return SignedPut(f"{self._base}/{token}", {"Content-Type": content_type})

    def sign_get(self, name: str, ttl: int) -> str:
        grant = Grant(_checked(name), names.content_type_of(name), 0, self._clock() + ttl)
        return f"{self._base}/{self._sign('get', grant)}"

    def verify(self, method: str, token: str) -> Grant:
        """What the URL that ends in ``token`` allows for ``method`` (``put`` or ``get``).

        :raises BadSignature: if it is not ours, was signed for the other method, or has expired.
        """
        try:
            grant = Grant(*self._serializer(method).loads(token))
        except (BadData, UnicodeError, TypeError):
            raise BadSignature() from None
        if self._clock() >= grant.expires_at:
            raise BadSignature("This address has expired.")
        return grant

    def _sign(self, method: str, grant: Grant) -> str:
        return str(self._serializer(method).dumps(list(grant)))

    def _serializer(self, method: str) -> URLSafeSerializer:
        options = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
        return URLSafeSerializer(self._secrets()[::-1], salt=f"nursecare_chat.{method}", signer_kwargs=options)

    def receive(self, grant: Grant, chunks: Iterable[bytes]) -> None:
        """Create the blob that ``grant`` names from an upload's body; nothing of it stays if that fails.

        :raises AlreadyUploaded: if the URL has created it before.
        :raises Busy: as soon as later ones have taken this one's place, see :data:`AT_ONCE`.
        :raises BodyTooLarge: as soon as there are more bytes than were declared.
        :raises UnsupportedMediaType: as soon as the first bytes are not of the declared type.
        """
        target = self._file(grant.name)
        with _translated():
            if _spent(target).exists():
                raise AlreadyUploaded()
            _make_room(target)
            with self._part(target) as (part, file):
                head, size = b"", 0
                for chunk in chunks:
                    size += len(chunk)
                    if size > grant.size:
                        raise BodyTooLarge(f"More than the {grant.size} bytes that were declared.")
                    if len(head) < names.HEAD:
                        head = (head + chunk)[: names.HEAD]
                        if len(head) == names.HEAD:
                            _require_type(head, grant.content_type)
                    if not os.fstat(file.fileno()).st_nlink:
                        raise Busy()
                    file.write(chunk)
                _require_type(head, grant.content_type)
                file.flush()
                os.fsync(file.fileno())
                _give_name(part, target)

    def open_granted(self, grant: Grant) -> BinaryIO | None:
        """The blob that a reading ``grant`` names, ``None`` if there is none."""
        with _translated():
            try:
                return self._file(grant.name).open("rb")
            except FileNotFoundError:
                return None

    # -- BlobStorage ---------------------------------------------------------------------------------------------

    def read(self, name: str, limit: int) -> bytes | None:
        with _translated():
            try:
                with self._file(name).open("rb") as file:
                    return file.read(limit + 1)
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        target = self._file(name)
        with _translated(), self._part(target) as (part, file):
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            part.replace(target)

    def delete(self, name: str) -> None:
        with _translated():
            self._file(name).unlink(missing_ok=True)

    def listing(self, prefix: str) -> list[str]:
        with _translated():
            return [prefix + name for name in self._under(prefix)]

    def check(self) -> None:
        if not (self._root / MARKER).is_file():
            raise StorageUnavailable(
                "FolderMissing", "the folder of CHAT_STORAGE_URL is not the one that was written to"
            )

    def canary(self) -> None:
        canary.sing(self)

    def delete_prefix(self, prefix: str, progress: Callable[[int], None] = lambda found: None) -> int:
        with _translated():
            count = len(self._under(prefix))
        progress(count)
        with _translated(), suppress(FileNotFoundError):
            shutil.rmtree(self._folder(prefix))
        return count

    def retention(self) -> Retention:
        """A folder keeps nothing; what copies it elsewhere is the operator's."""
        return Retention()

    def _under(self, prefix: str) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self._folder(prefix)) if not name.endswith(SPENT))
        except FileNotFoundError:
            return []

    def _folder(self, prefix: str) -> Path:
        if not names.is_prefix(prefix):
            raise ValueError("not a thread's prefix")
        return self._root / prefix

    def _file(self, name: str) -> Path:
        return self._root / _checked(name)

    @contextmanager
    def _part(self, target: Path) -> Iterator[tuple[Path, BinaryIO]]:
        """A file beside ``target`` to write to; gone at the end unless it was renamed."""
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.{random.token_hex(4)}{PART}")
        try:
            with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                yield part, file
        finally:
            part.unlink(missing_ok=True)


def _give_name(part: Path, target: Path) -> None:
    """To an upload that came to its end; of two at once one gets it.

    :raises AlreadyUploaded, Busy: see :meth:`LocalStorage.receive`.
    """
    whole = part.with_suffix(WHOLE)  # nobody takes its place any more
    try:
        part.rename(whole)
    except FileNotFoundError:
        raise Busy() from None
    try:
        try:
            # Whoever makes this file has the name.
            os.close(os.open(_spent(target), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            raise AlreadyUploaded() from None
        try:
            whole.rename(target)
        except OSError:
            _spent(target).unlink()  # nothing was created, so the address is good for another try
            raise
    finally:
        whole.unlink(missing_ok=True)


def _make_room(target: Path) -> None:
    """For one more of :data:`AT_ONCE`."""

    def heard_of(part: Path) -> int:
        with suppress(FileNotFoundError):
            return part.stat().st_mtime_ns
        return 0

    under_way = sorted(target.parent.glob(f"{target.name}.*{PART}"), key=heard_of, reverse=True)
    for part in under_way[AT_ONCE - 1 :]:
        part.unlink(missing_ok=True)


def _checked(name: str) -> str:
    if not names.is_name(name):
        raise ValueError("not a blob's name")
    return name


def _spent(target: Path) -> Path:
    return target.with_name(target.name + SPENT)


def _require_type(head: bytes, content_type: str) -> None:
    if names.sniff(head) != content_type:
        raise UnsupportedMediaType(f"This is no {content_type}.")


@contextmanager
def _translated() -> Iterator[None]:
    """
    :raises StorageUnavailable: for what the file system says: a full disk, no permission.
    """
    try:
        yield
    except OSError as error:
        raise StorageUnavailable(type(error).__name__, error.errno) from None
