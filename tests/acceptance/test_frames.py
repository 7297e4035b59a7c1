"""Frames against the browser's own reader."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser

from ..support.frames import FRAMES, NAMES, Frame, told

COUNT, SEED, PIECE = 300, 29, 777
"""Frames, what they are made from, and bytes in which they are sent: frames are cut anywhere."""

LISTEN = """names => new Promise(resolve => {
    const seen = [], source = new EventSource("/stream");
    const note = event => seen.push([event.type, event.data, event.lastEventId]);
    for (const name of [...names, "message"]) source.addEventListener(name, note);
    source.addEventListener("error", () => { source.close(); resolve(seen); });
})"""


def many() -> list[Frame]:
    """The same ones each time."""
    made: list[Frame] = []

    @seed(SEED)
    @settings(
        max_examples=COUNT // 4,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(FRAMES, min_size=2, max_size=8))
    def collect(frames: list[Frame]) -> None:
        made.extend(frames)

    collect()
    return made


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return many()


@pytest.fixture
def origin(frames: list[Frame]) -> Iterator[str]:
    """Serves an empty page, and one stream, which ends."""
    raw = b"".join(frame.raw for frame in frames)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            streams = self.path == "/stream"
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream" if streams else "text/html")
            self.end_headers()
            for start in range(0, len(raw) if streams else 0, PIECE):
                self.wfile.write(raw[start : start + PIECE])
                self.wfile.flush()

        def log_message(self, *arguments: Any) -> None:
            """Nothing, as nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_browser_sees_what_was_written(browser: Browser, origin: str, frames: list[Frame]) -> None:
    """C29, C30, C46: hundreds of frames of every kind, with anything in them, one after the other: name, data, and the
    id from which it would resume, as ``EventSource`` in Chromium has them."""
    page = browser.new_page()
    page.goto(origin)
    seen = page.evaluate(LISTEN, NAMES)
    page.close()
    expected = told(frames)
    assert len(frames) >= COUNT
    assert {name for name, _, _ in expected} == set(NAMES)
    for number, ((name, data, last), event) in enumerate(zip(expected, seen, strict=True)):
        assert (event[0], json.loads(event[1]), event[2]) == (name, data, last), f"frame {number}"
