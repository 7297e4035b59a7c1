"""Pictures as cameras and attackers make them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image, ImageCms, PngImagePlugin

FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
SECRET = b"canary-in-the-metadata"


def picture(content_type: str = "image/jpeg", size: tuple[int, int] = (60, 40), **options: Any) -> bytes:
    """A plain one: its left half red, its right half blue."""
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, 0, *size))
    data = io.BytesIO()
    image.save(data, FORMATS[content_type], **options)
    return data.getvalue()


def telling(content_type: str) -> bytes:
    """One that says where it was taken and by what, and is to be shown turned: it is 40 × 60 when upright."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise
    exif[0x010E] = SECRET.decode()
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 0.0), 3: "E", 4: (13.0, 24.0, 0.0)})
    options: dict[str, Any] = {"exif": exif}
    if content_type == "image/png":
        text = PngImagePlugin.PngInfo()
        text.add_text("Comment", SECRET.decode())
        options["pnginfo"] = text
    else:
        options["xmp"] = b"<x:xmpmeta>" + SECRET + b"</x:xmpmeta>"
    if content_type == "image/jpeg":
        options["comment"] = SECRET
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return picture(content_type, icc_profile=profile, **options) + SECRET


def bomb(width: int = 40_000, height: int = 25_000) -> bytes:
    """A PNG of 10⁹ pixels in a few bytes: its header says so, and its rows never come."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1_000_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def read(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


JPEG = picture()
