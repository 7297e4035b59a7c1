"""A client that speaks HTTP over a socket of its own: it sees each byte, and reads when it likes."""

from __future__ import annotations

import re
import socket
from types import TracebackType

from .live import Person
from .patience import PATIENCE
from .sse import Event, parse

LAST_CHUNK = b"0\r\n\r\n"


class RawStream:
    """The stream of ``thread``, asked for from the start.

    :param receive_buffer: bytes that the client's machine takes while nobody reads; the kernel's choice without it.
    :param behind: sent together with the request.
    :ivar received: every byte so far.
    :ivar reset: whether the connection broke instead of ending.
    """

    def __init__(
        self,
        person: Person,
        thread: int,
        version: str = "1.1",
        receive_buffer: int | None = None,
        behind: bytes = b"",
    ) -> None:
        url = person.http.base_url
        self.received = b""
        self.reset = False
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(30 * PATIENCE)
        self._socket.connect((url.host, url.port))
        cookie = "; ".join(f"{name}={value}" for name, value in person.http.cookies.items())
        lines = (
            f"GET /api/chat/threads/{thread}/stream HTTP/{version}",
            "Host: x",
            f"Cookie: {cookie}",
            "Last-Event-ID: 0",
        )
        self._socket.sendall("\r\n".join((*lines, "", "")).encode() + behind)

    def __enter__(self) -> RawStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def wait_head(self) -> RawStream:
        """Until the first frame is there, and no further."""
        while b"\r\n\r\n" not in self.received or b"retry:" not in self.received:
            self._take(256)
        return self

    def wait(self, count: int) -> list[Event]:
        """The events as soon as there are ``count``, or at the end."""
        while (self.received.count(b"event: ") < count or len(self.events) < count) and self._take():
            pass
        return self.events

    def wait_end(self) -> list[Event]:
        """All events, when the server has ended the connection in whatever way."""
        while self._take():
            pass
        return self.events

    def sip(self) -> bool:
        """One byte; whether there was one."""
        return self._take(1)

    def _take(self, most: int = 1 << 18) -> bool:
        try:
            data = self._socket.recv(most)
        except ConnectionError:
            self.reset = True
            return False
        self.received += data
        return bool(data)

    @property
    def headers(self) -> dict[str, str]:
        lines = self.received.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def body(self) -> bytes:
        """Without what chunks need."""
        body = self.received.partition(b"\r\n\r\n")[2]
        if self.headers.get("transfer-encoding") != "chunked":
            return body
        whole = b""
        while size := re.match(rb"([0-9a-fA-F]+)\r\n", body):
            chunk = body[size.end() :][: int(size[1], 16)]
            whole += chunk
            body = body[size.end() + len(chunk) + 2 :]
        assert body in (b"", b"\r") or re.fullmatch(rb"[0-9a-fA-F]*\r?", body), body[:40]
        return whole

    @property
    def events(self) -> list[Event]:
        return parse(self.body)[1]

    @property
    def ended_cleanly(self) -> bool:
        """Whether the client knows that nothing is missing (RFC 9112, 8); the end itself has been waited for."""
        return not self.reset and self.received.endswith(b"\r\n" + LAST_CHUNK)
