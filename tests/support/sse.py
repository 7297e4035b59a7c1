"""An independent reader of event streams, after WHATWG HTML 9.2.6, byte for byte."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import Any, NamedTuple

import httpx

from .patience import PATIENCE


class Event(NamedTuple):
    name: str
    data: str
    id: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class Parser:
    """Bytes in, events out; keeps ``last_event_id`` and ``retry`` as a browser does."""

    def __init__(self) -> None:
        self._rest = ""
        self._name, self._data, self._id = "", [], ""
        self.last_event_id = ""
        self.retry: int | None = None
        self.comments = 0
        self.raw = b""

    def feed(self, chunk: bytes) -> list[Event]:
        self.raw += chunk
        events = []
        *lines, self._rest = (self._rest + chunk.decode("utf-8")).replace("\r\n", "\n").split("\n")
        for line in lines:
            if line:
                self._field(line)
                continue
            self.last_event_id = self._id
            if self._data:
                events.append(Event(self._name or "message", "\n".join(self._data), self._id))
            self._name, self._data = "", []
        return events

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            self.comments += 1
        elif name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isdigit():
            self.retry = int(value)


def parse(body: bytes) -> tuple[Parser, list[Event]]:
    """A whole answer at once."""
    parser = Parser()
    return parser, parser.feed(body)


class Reader:
    """Reads one stream, of ``thread`` or, without one, of the inbox, until it ends or :meth:`stop` is called."""

    def __init__(
        self, client: httpx.Client, thread: int | None, last_event_id: str | None = None, **options: Any
    ) -> None:
        self.parser = Parser()
        self.events: list[Event] = []
        self.response: httpx.Response | None = None
        self.ended = threading.Event()
        self.last_byte_at = 0.0
        self._stopped = False
        self._news = threading.Condition()
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        path = "/api/chat/stream" if thread is None else f"/api/chat/threads/{thread}/stream"
        self._request = client.build_request("GET", path, headers=headers, **options)
        self._client = client
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.response = self._open()
            for chunk in self.response.iter_raw():
                if self._stopped:
                    return
                events = self.parser.feed(chunk)
                with self._news:
                    self.last_byte_at = time.monotonic()
                    self.events += events
                    self._news.notify_all()
        except (httpx.TransportError, httpx.StreamError, OSError, RuntimeError):
            pass  # a connection that breaks ends the stream like any other end
        finally:
            if self.response is not None:
                self.response.close()
            self.ended.set()
            with self._news:
                self._news.notify_all()

    def _open(self) -> httpx.Response:
        """A kept connection may have been closed just before it was used; then a GET is sent again, as browsers do
        (RFC 9112, 9.3.1).
        """
        try:
            return self._client.send(self._request, stream=True)
        except (httpx.RemoteProtocolError, httpx.ReadError):
            if self._stopped:
                raise
            return self._client.send(self._request, stream=True)

    def wait(self, count: int, seconds: float = 20 * PATIENCE) -> list[Event]:
        """The events as soon as there are ``count``."""
        with self._news:
            self._news.wait_for(lambda: len(self.events) >= count or self.ended.is_set(), seconds)
        assert len(self.events) >= count, f"only {self.events} of {count} events came"
        return self.events

    def wait_for(self, thread: int, *kinds: str, seconds: float = 20 * PATIENCE) -> list[Event]:
        """The events of one thread as soon as they are of these kinds, in this order."""
        deadline = time.monotonic() + seconds
        with self._news:
            while [event.name for event in self.of(thread)] != list(kinds):
                left = deadline - time.monotonic()
                assert left > 0, f"not {kinds}: {self.events}"
                assert not self.ended.is_set(), f"it ended before {kinds}: {self.events}"
                self._news.wait(left)
        return self.of(thread)

    def of(self, thread: int) -> list[Event]:
        """What came about one thread."""
        return [event for event in self.events if event.json.get("threadId") == thread]

    def wait_open(self, seconds: float = 20 * PATIENCE) -> Reader:
        """As soon as the first bytes are there, and with them the place from which it is live."""
        with self._news:
            self._news.wait_for(lambda: self.parser.raw or self.ended.is_set(), seconds)
        assert self.parser.raw or self.ended.is_set()
        return self

    def wait_end(self, seconds: float = 20 * PATIENCE) -> list[Event]:
        assert self.ended.wait(seconds), f"the stream did not end; events: {self.events}"
        return self.events

    def stop(self) -> None:
        """Vanish, as a phone does."""
        self._stopped = True
        if self.response is not None:
            stream = self.response.extensions["network_stream"].get_extra_info("socket")
            with contextlib.suppress(OSError):
                stream.shutdown(2)
        self.ended.wait(10)
