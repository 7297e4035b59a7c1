"""Photos without what they tell about their takers: decoded, turned upright, encoded anew (contract C25).

Needs Pillow, ``pip install nursecare_chat[images]``. Without it photos are kept as they came.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from .. import fork
from ..errors import Busy

try:
    from PIL import Image, ImageCms, ImageOps
except ImportError:  # the extra is not installed
    Image = None

MAX_PIXELS = 50_000_000
"""Decoded, each of them takes four bytes, and the steps below hold two or three such pictures for a moment."""

MAX_FULL_PIXELS = MAX_PIXELS // 2
"""Above it a JPEG is decoded at half its width and height, which its format allows, and others are refused."""

MAX_SCANS = 100
"""A JPEG that comes in passes has about ten; each costs the time of a whole picture, in a few bytes."""

AT_ONCE = 2
"""Pictures that one process decodes at the same time."""

MAX_WAITING, PATIENCE = 8, 5.0
"""Pictures and seconds that wait for that; those who wait hold a connection of the host's, from their login."""

FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
ENCODING: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 90, "optimize": True},
    "PNG": {},
    "WEBP": {"quality": 90, "method": 2},  # quicker ones cannot encode everything, better ones take ten times as long
}


_decoding: ContextVar[bool] = ContextVar("nursecare_chat_decoding", default=False)


class _NoMetadata(logging.Filter):
    """Pillow logs the metadata that it reads, at DEBUG; of what people send us nothing is logged at any level (C41)."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _decoding.get()


_no_metadata = _NoMetadata()


class NotAnImage(ValueError):
    """It cannot be decoded as its type, or has more than :data:`MAX_PIXELS`; the message is for its sender."""


class Images:
    """Cleans pictures, a few at a time, without holding up the greenlets of the process."""

    def __init__(self) -> None:
        logging.getLogger("PIL.TiffImagePlugin").addFilter(_no_metadata)
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self._queue = threading.BoundedSemaphore(AT_ONCE + MAX_WAITING)

    @property
    def available(self) -> bool:
        """Whether Pillow is there."""
        return Image is not None

    def clean(self, data: bytes, content_type: str) -> bytes:
        """The same picture, upright, in the same format, with pixels only: no EXIF, GPS, comments or profiles.

        :raises NotAnImage: if it cannot be decoded, or has too many pixels.
        :raises Busy: if too many others are at it.
        """
        with _one_of(self._queue, 0.0), _one_of(self._places, PATIENCE):
            return _beside_the_greenlets(lambda: _clean(data, FORMATS[content_type]))


@contextmanager
def _one_of(places: threading.BoundedSemaphore, seconds: float) -> Iterator[None]:
    if not places.acquire(timeout=seconds):
        raise Busy()
    try:
        yield
    finally:
        places.release()


def _beside_the_greenlets(work: Callable[[], bytes]) -> bytes:
    """In a real thread where gevent has patched them away: decoding takes a processor, not a turn."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        return work()
    from gevent import get_hub

    result: bytes = get_hub().threadpool.apply(work)
    return result


def _clean(data: bytes, kind: str) -> bytes:
    if kind == "JPEG" and data.count(b"\xff\xda") > MAX_SCANS:
        raise NotAnImage("This picture comes in too many passes.")
    most = MAX_PIXELS if kind == "JPEG" else MAX_FULL_PIXELS
    decoding = _decoding.set(True)
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            pixels = image.width * image.height
            if pixels > most:
                raise NotAnImage(f"At most {most:,} pixels.")
            if pixels > MAX_FULL_PIXELS:
                image.draft(None, (image.width // 2, image.height // 2))
            profile = image.info.get("icc_profile")
            picture = _in_mode_for(kind, _in_srgb(ImageOps.exif_transpose(image), profile))
            picture.info = {}  # encoders write what they find there
            result = io.BytesIO()
            picture.save(result, kind, **ENCODING[kind])
            return result.getvalue()
    except NotAnImage:
        raise
    except (MemoryError, ImportError):  # says nothing about the picture
        raise Busy() from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise NotAnImage(f"At most {most:,} pixels.") from None
    except Exception:  # each decoder has errors of its own for broken data
        raise NotAnImage("This picture cannot be decoded.") from None
    finally:
        _decoding.reset(decoding)


def _in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Without its profile a picture is taken for sRGB, so its colours are turned into that."""
    if profile and picture.mode in ("RGB", "CMYK"):
        with suppress(ImageCms.PyCMSError, OSError):  # a broken profile is no profile
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            return converted or picture
    return picture


def _in_mode_for(kind: str, picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits a pixel, which conversion would clip
        picture = picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if kind != "JPEG" and (picture.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in picture.info):
        return picture.convert("RGBA")
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")
