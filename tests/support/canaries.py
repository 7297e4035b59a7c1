"""Words and places that nobody else writes, in every form in which bytes may keep them, and the search for those."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import secrets
import struct
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from PIL import Image

Needles = dict[str, bytes]
"""What is looked for, by what to call it."""

ODD = 'ünï\\cödé "&" 🩺/+'
"""Characters that JSON, URLs and Redis's MONITOR each write in a way of their own."""


def _random(low: int, high: int) -> int:
    return low + secrets.randbelow(high - low)


class Canary:
    """
    :ivar word: ASCII; part of everything that is sent but the places.
    """

    def __init__(self) -> None:
        self.word = f"canary{secrets.token_hex(6)}"
        self.text = f"{self.word}-text {self.word[6:]} {ODD}"
        self.client_message_id = f"{self.word}-id"
        self.latitude, self.longitude = (
            f"{whole}.{_random(10**6, 10**7) | 1}" for whole in (_random(10, 90), _random(10, 90))
        )

    @property
    def needles(self) -> Needles:
        return {
            **_forms("word", self.word),
            **_odd_forms(self.word[6:]),
            **_place("latitude", self.latitude),
            **_place("longitude", self.longitude),
        }

    def photo(self, what: str) -> bytes:
        """A JPEG of noise with the word in its EXIF, in a comment, and behind its end."""
        said, data = f"{self.word}-{what}".encode(), io.BytesIO()
        exif = Image.Exif()
        exif[0x010E] = said.decode()
        noise = Image.frombytes("RGB", (64, 64), secrets.token_bytes(64 * 64 * 3))
        noise.save(data, "JPEG", exif=exif, comment=said, quality=80)
        return data.getvalue() + said


def scan(what: str, photo: bytes) -> Needles:
    """Some of a JPEG's pixels, as its file has them."""
    middle = photo.index(b"\xff\xda") + len(photo) // 4
    return {f"{what}'s pixels": photo[middle : middle + 24]}


def raw(what: str, data: bytes) -> Needles:
    """Bytes that are no text: as they are, in hexadecimal and in base64."""
    return {what: data, f"{what}, hex": data.hex().encode(), f"{what}, base64": base64.b64encode(data)[:-4]}


def _forms(what: str, text: str) -> Needles:
    """Those of ASCII letters, digits and dots, which JSON and URLs write as they are, wherever in a text."""
    data = text.encode()
    forms = {
        f"{what}, UTF-8": data,
        f"{what}, UTF-16LE": text.encode("utf-16-le"),
        f"{what}, UTF-16BE": text.encode("utf-16-be"),
        f"{what}, hex": data.hex().encode(),
        f"{what}, HEX": data.hex().upper().encode(),
    }
    for shift in range(3):  # which base64 depends on what is before it
        encoded = base64.b64encode(bytes(shift) + data)
        forms[f"{what}, base64+{shift}"] = encoded[-(-shift * 8 // 6) : (shift + len(data)) * 8 // 6]
    return forms


def _odd_forms(before: str) -> Needles:
    text = f"{before} {ODD}"
    return {
        "text, UTF-8": text.encode(),
        "text, JSON in ASCII": json.dumps(text)[1:-1].encode(),
        "text, JSON": json.dumps(text, ensure_ascii=False)[1:-1].encode(),
        "text, URL": quote(text).encode(),
        "text, form": quote(text, safe="").replace("%20", "+").encode(),
        "text, escaped": repr(text.encode())[2:-1].replace('"', '\\"').encode(),
        "text, UTF-16LE": text.encode("utf-16-le"),
    }


def _place(what: str, degrees: str) -> Needles:
    """As text, as IEEE 754 has it, and as PostgreSQL's NUMERIC, whose digits are of base 10000."""
    whole, _, part = degrees.partition(".")
    digits = [int(whole), int(part[:4]), int(part[4:].ljust(4, "0"))]
    return {
        **_forms(what, degrees),
        f"{what}, double": struct.pack("<d", float(degrees)),
        f"{what}, double, network": struct.pack(">d", float(degrees)),
        f"{what}, numeric": struct.pack("<3h", *digits),
        f"{what}, numeric, network": struct.pack(">3h", *digits),
    }


def found(needles: Needles, *places: Path | bytes) -> set[str]:
    """Which of ``needles`` are in files, in everything under folders, or in bytes, and where."""
    hits, seen = set(), set()
    for where, data in _contents(places):
        digest = hashlib.sha1(data, usedforsecurity=False).digest()
        if digest not in seen:  # most files of a database are there several times
            seen.add(digest)
            hits |= {f"{what} in {where}" for what, needle in needles.items() if needle in data}
    return hits


def kinds(hits: set[str]) -> set[str]:
    """What was found, whatever its form and wherever."""
    return {hit.partition(" in ")[0].partition(",")[0] for hit in hits}


def _contents(places: tuple[Path | bytes, ...]) -> Iterator[tuple[str, bytes]]:
    for place in places:
        if isinstance(place, bytes):
            yield "memory", place
            continue
        for file in [place] if place.is_file() else sorted(place.rglob("*")):
            try:
                if file.is_file():
                    yield str(file), file.read_bytes().rstrip(b"\0")
            except FileNotFoundError:  # a service removed it meanwhile
                continue
