"""Photos without what they tell about their takers: decoded, turned upright, encoded anew (contract C25).

Needs Pillow, ``pip install nursecare_chat[images]``. Without it photos are kept as they came.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .. import fork

try:
    from PIL import Image, ImageCms, ImageOps
except ImportError:  # the extra is not installed
    Image = None  # type: ignore[assignment]

MAX_PIXELS = 50_000_000
"""Decoded, each of them takes three or four bytes, and the steps below hold two such pictures for a moment."""

AT_ONCE = 2
"""Pictures that one process decodes at the same time."""

FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
ENCODING: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 90, "optimize": True},
    "PNG": {},
    "WEBP": {"quality": 90, "method": 3},
}


class NotAnImage(ValueError):
    """It cannot be decoded as its type, or has more than :data:`MAX_PIXELS`; the message is for its sender."""


class Images:
    """Cleans pictures, a few at a time, without holding up the greenlets of the process."""

    def __init__(self) -> None:
        self.after_fork()
        fork.register(self)

    def after_fork(self) -> None:
        self._places = threading.BoundedSemaphore(AT_ONCE)

    @property
    def available(self) -> bool:
        """Whether Pillow is there."""
        return Image is not None

    def clean(self, data: bytes, content_type: str) -> bytes:
        """The same picture, upright, in the same format, with pixels only: no EXIF, GPS, comments or profiles.

        :raises NotAnImage: if it cannot be decoded, or has too many pixels.
        """
        with self._places:
            return _beside_the_greenlets(lambda: _clean(data, FORMATS[content_type]))


def _beside_the_greenlets(work: Callable[[], bytes]) -> bytes:
    """In a real thread where gevent has patched them away: decoding takes a processor, not a turn."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        return work()
    from gevent import get_hub

    result: bytes = get_hub().threadpool.apply(work)
    return result


def _clean(data: bytes, kind: str) -> bytes:
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise NotAnImage(f"At most {MAX_PIXELS:,} pixels.")
            profile = image.info.get("icc_profile")
            picture = _in_mode_for(kind, _in_srgb(ImageOps.exif_transpose(image), profile))
            picture.info = {}  # encoders write what they find there
            result = io.BytesIO()
            picture.save(result, kind, **ENCODING[kind])
            return result.getvalue()
    except NotAnImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise NotAnImage(f"At most {MAX_PIXELS:,} pixels.") from None
    except Exception:  # each decoder has errors of its own for broken data
        raise NotAnImage("This picture cannot be decoded.") from None


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
