"""What people do to a server who want to hurt it: slow, large, deep, and something else than it says."""

from __future__ import annotations

import gzip
import io
import socket
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import product

import httpx
import pytest
from PIL import Image

from nursecare_chat.storage.local import AT_ONCE, PART

from ..support.hosts import Api, Workbench
from ..support.live import Live
from ..support.photos import issue, media, post, put, upload
from ..support.pictures import FORMATS, JPEG, picture, read
from ..support.wait import eventually

REFERENCE = "reference-postgresql"
CANARY = b"<script>canary()</script>"
HANGING = 60
"""More than the database connections that a process has, ours and the host's."""


@contextmanager
def half_sent(live: Live, head: str, body: bytes) -> Iterator[socket.socket]:
    """A request that goes no further than this."""
    host, port = live.server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"{head}\r\nHost: x\r\n".encode() + body)
        yield connection


def test_uploads_that_never_end(own_live: Callable[..., Live]) -> None:
    """C24: of one address a few are borne; whoever sends a whole one is not kept from it, and nothing stays."""
    live = own_live("gevent")
    client, thread = live.login("client"), live.new_thread()
    wanted = {"contentType": "image/jpeg", "size": len(JPEG)}
    issued = client.http.post(f"/api/chat/threads/{thread}/uploads", json=wanted).json()
    head, body = (
        f"PUT {issued['uploadUrl']} HTTP/1.1\r\nContent-Type: image/jpeg\r\nContent-Length: {len(JPEG)}",
        b"\r\n" + JPEG[:100],
    )

    def under_way() -> int:
        return len([*live.bench.folder.rglob(f"chats/{thread}/*{PART}")])

    with ExitStack() as stack:
        for count in range(2 * AT_ONCE):
            stack.enter_context(half_sent(live, head, body))
            eventually(lambda count=count: under_way() == min(count + 1, AT_ONCE))
        assert client.http.put(issued["uploadUrl"], content=JPEG, headers=issued["headers"]).status_code == 201
        assert client.http.put(issued["uploadUrl"], content=JPEG, headers=issued["headers"]).status_code == 409
        assert under_way() < AT_ONCE
    eventually(lambda: under_way() == 0)
    posted = {"type": "image", "mediaPath": issued["mediaPath"]}
    assert client.http.post(f"/api/chat/threads/{thread}/messages", json=posted).status_code == 200


def test_bodies_that_never_come(live_servers: Callable[..., Live]) -> None:
    """C13, C10: they hold no database connection, so whoever sends whole ones is answered."""
    live = live_servers("gevent", REFERENCE)
    client, thread = live.login("client"), live.new_thread()
    cookie = "; ".join(f"{name}={value}" for name, value in client.http.cookies.items())
    head = f"POST /api/chat/threads/{thread}/messages HTTP/1.1\r\nContent-Type: application/json\r\nCookie: {cookie}"
    with ExitStack() as stack:
        for _ in range(HANGING):
            stack.enter_context(half_sent(live, f"{head}\r\nContent-Length: 60000", b'\r\n{"type": '))
        for number in range(5):
            assert client.say(thread, f"message {number}").status_code == 200
    assert client.thread(thread)["lastSeq"] == 5


def test_long_headers(live_servers: Callable[..., Live]) -> None:
    """C13, C30: up to the server's own bound each is an answer of ours, beyond it is its 4xx; nobody else notices."""
    live = live_servers("gevent", REFERENCE)
    client, own, thread = live.login("client"), live.login("client"), live.new_thread()
    sizes = {7000: {200, 401, 403}, 9000: {400, 431}, 200_000: {400, 431}}
    for header, (size, expected) in product(("Cookie", "Last-Event-ID", "X-Chat-User", "Origin"), sizes.items()):
        with suppress(httpx.TransportError):  # it may close before it has read everything
            answer = own.http.patch(f"/api/chat/threads/{thread}/close", headers={header: "x" * size})
            assert answer.status_code in expected, (header, size, answer.text)
    assert client.http.get(f"/api/chat/threads/{thread}").status_code == 200


def test_a_long_last_event_id(client_api: Api, thread: int) -> None:
    """C30: garbage, so a reset; closed besides, so that the stream ends."""
    client_api.close(thread)
    long = "9" * 3900
    for options in ({"headers": {"Last-Event-ID": long}}, {"query_string": {"lastEventId": long}}):
        answer = client_api.call("GET", f"/api/chat/threads/{thread}/stream", **options)
        assert (answer.status_code, answer.data.count(b"event: reset")) == (200, 1)


def test_compressed_bodies(client_api: Api, thread: int) -> None:
    """C13: nothing is inflated, so there is no bomb to go off: a compressed body is no JSON."""
    bomb = gzip.compress(b'{"type": "text", "text": "' + b"x" * 10**7 + b'"}')
    assert len(bomb) < 64 * 1024
    for encoding in ("gzip", "deflate", "br", "identity, gzip"):
        answer = client_api.post(thread, bomb, headers={"Content-Encoding": encoding})
        assert (answer.status_code, answer.get_json()["code"]) == (422, "validation_failed")


def test_a_compressed_photo(client_api: Api, thread: int) -> None:
    """C24: nor is it a photo."""
    data = gzip.compress(JPEG)
    issued = issue(client_api, thread, size=len(data)).get_json()
    issued["headers"]["Content-Encoding"] = "gzip"
    assert put(client_api, issued, data) == 415


def png_with(kind: bytes, body: bytes) -> bytes:
    """A sound picture with a chunk more, before its pixels."""
    data = picture("image/png")
    at = data.index(b"IDAT") - 4
    return (
        data[:at] + struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) + data[at:]
    )


INFLATED = 200 << 20
PRESSED = zlib.compress(b"\0" * INFLATED, 9)
CHUNKS = {
    "zTXt": b"Comment\0\0" + PRESSED,
    "iTXt": b"Comment\0\1\0\0\0" + PRESSED,
    "iCCP": b"profile\0\0" + PRESSED,
}


@pytest.mark.one_process
@pytest.mark.parametrize("kind", CHUNKS)
@pytest.mark.parametrize("bench", ["reference"], indirect=True)
def test_metadata_that_inflates(client_api: Api, thread: int, kind: str) -> None:
    """C25, C13: 200 MB in 200 KB beside the pixels: the post is accepted or refused, and takes no such memory."""
    data = png_with(kind.encode(), CHUNKS[kind])
    path = upload(client_api, thread, data, "image/png")
    tracemalloc.start()
    try:
        answer = post(client_api, thread, path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status_code in (200, 422)
    assert peak < INFLATED / 2


def zipped() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("index.html", CANARY)
    return data.getvalue()


def commented_jpeg() -> bytes:
    """One whose first segment is a comment that is a page."""
    return JPEG[:2] + b"\xff\xfe" + struct.pack(">H", len(CANARY) + 2) + CANARY + JPEG[2:]


POLYGLOTS = {
    "jpeg with a page behind": (JPEG + CANARY, "image/jpeg"),
    "jpeg with a page inside": (commented_jpeg(), "image/jpeg"),
    "jpeg and zip": (JPEG + zipped(), "image/jpeg"),
    "png and zip": (picture("image/png") + zipped(), "image/png"),
    "png with a page inside": (png_with(b"tEXt", b"Comment\0" + CANARY), "image/png"),
    "webp with a page behind": (picture("image/webp") + CANARY, "image/webp"),
    "pdf inside jpeg": (JPEG + b"%PDF-1.4\n" + CANARY, "image/jpeg"),
}


def test_polyglots(bench: Workbench, client_api: Api, thread: int) -> None:
    """C25: what is two things at once is one when it is shown: pixels, of the type that it says, that run nothing."""
    for name, (data, content_type) in POLYGLOTS.items():
        posted = post(client_api, thread, upload(client_api, thread, data, content_type))
        shown = client_api.call("GET", posted.get_json()["media_url"])
        assert (shown.status_code, shown.mimetype) == (200, content_type), name
        assert read(shown.data).format == FORMATS[content_type], name
        assert "sandbox" in shown.headers["Content-Security-Policy"], name
        assert not [trace for trace in (b"canary", b"PK\x03\x04", b"index.html", b"%PDF") if trace in shown.data], name
    assert len(media(bench, thread)) == len(POLYGLOTS)


def disguised() -> dict[str, tuple[bytes, str]]:
    """What begins as a photo, or calls itself one, and is none."""
    gif = io.BytesIO()
    Image.new("P", (8, 8)).save(gif, "GIF")
    return {
        "gif as png": (gif.getvalue(), "image/png"),
        "script that begins like a gif": (b"GIF89a=1;" + CANARY, "image/jpeg"),
        "webp that is an avi": (b"RIFF\x24\0\0\0AVI LIST" + CANARY, "image/webp"),
        "page behind the first bytes of a png": (b"\x89PNG\r\n\x1a\n" + CANARY, "image/png"),
        "page behind the first bytes of a webp": (b"RIFF\xff\xff\0\0WEBPVP8 " + CANARY, "image/webp"),
    }


def test_disguised(client_api: Api, thread: int) -> None:
    """C24, C25: refused at the upload, or at the post."""
    for name, (data, content_type) in disguised().items():
        issued = issue(client_api, thread, content_type, len(data)).get_json()
        if put(client_api, issued, data) == 201:
            assert post(client_api, thread, issued["mediaPath"]).status_code == 422, name
        else:
            assert client_api.thread(thread).get_json()["lastSeq"] == 0
