"""A blob storage that fails as it is told: a proxy in front of Azurite."""

from __future__ import annotations

import http.client
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .azurite import ACCOUNT, KEY

STATUSES = {
    "403": "AuthorizationPermissionMismatch",
    "409": "BlobImmutableDueToPolicy",
    "500": "InternalError",
    "503": "ServerBusy",
}
"""What the service calls each of the answers that it can be told to give."""

GONE, CUT, TIMEOUT, PAGE = "gone", "cut", "timeout", "page"
"""No answer; half of one, when the request was done; none in time, when it was done, too; and a page for people, with
status 200, by something that stands in between."""

KINDS = (*STATUSES, GONE, CUT, TIMEOUT, PAGE)

SIGNED = re.compile(rb"(?im)^(authorization: *sharedkey [^:\r\n]+:)(.)")
HOP_BY_HOP = ("transfer-encoding", "content-length", "connection", "keep-alive", "date", "server")


class Request(NamedTuple):
    method: str
    path: str

    @property
    def is_batch(self) -> bool:
        return self.method == "POST" and "comp=batch" in self.path

    @property
    def deletes(self) -> bool:
        return self.method == "DELETE" or self.is_batch


class Fault(NamedTuple):
    """
    :ivar kind: one of :data:`KINDS`.
    :ivar share: of a batch's deletions that fail by themselves, in an answer of 202; 0: the batch itself fails.
    """

    kind: str
    share: float = 0.0


Choice = Callable[[Request], Fault | None]


def well(request: Request) -> None:
    """Nothing fails."""


def everything(request: Request) -> bool:
    return True


class Faulty(ThreadingHTTPServer):
    """Passes requests on to ``target``, unless :attr:`choose` has a fault for one.

    :ivar injected: how often each kind of fault was; in batches each deletion counts.
    :ivar seconds: until a request that is not answered in time is cut off.
    """

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target).netloc
        self.choose: Choice = well
        self.injected: Counter[str] = Counter()
        self.seconds = 30.0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who was killed breaks off its connections."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{ACCOUNT}"

    @property
    def connection_string(self) -> str:
        return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.url};"

    @contextmanager
    def failing(self, kind: str, only: Callable[[Request], bool] = everything, share: float = 0.0) -> Iterator[Faulty]:
        """
        :param only: what fails.
        :param share: see :class:`Fault`; then nothing but deletions fails, and single ones only if it is 1.
        :raises AssertionError: at the end, if nothing failed.
        """

        def choose(request: Request) -> Fault | None:
            spared = share and not (request.is_batch or (request.deletes and share == 1))
            return None if spared or not only(request) else Fault(kind, share)

        before, self.choose = self.injected[kind], choose
        try:
            yield self
        finally:
            self.choose = well
        assert self.injected[kind] > before, f"the storage never failed with {kind}"

    def now_and_then(self, percent: float) -> None:
        """So many of each hundred requests get a 500, a 503 or a connection that breaks off."""

        def choose(request: Request) -> Fault | None:
            if random.random() * 100 >= percent:
                return None
            return Fault(GONE if random.random() < 0.3 else random.choice(("500", "503")))

        self.choose = choose

    def close(self) -> None:
        self.choose = well
        self.shutdown()
        self.server_close()


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Faulty

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, self.path)
        fault = self.server.choose(request)
        if fault is None:
            self._give(self._pass(body))
        elif fault.share and request.is_batch:
            spoilt, count = spoil(body, fault.share)
            answer = self._pass(spoilt)
            self.server.injected[fault.kind] += count
            self._give(answer._replace(body=blame(answer.body, int(fault.kind))))
        else:
            self.server.injected[fault.kind] += 1
            self._fail(fault.kind, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _pass(self, body: bytes) -> Answer:
        upstream = http.client.HTTPConnection(self.server.target, timeout=30)
        try:
            upstream.request(self.command, self.path, body, dict(self.headers.items()))
            answer = upstream.getresponse()
            headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP]
            return Answer(answer.status, headers, answer.read())
        finally:
            upstream.close()

    def _give(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in (*answer.headers, ("Content-Length", str(len(answer.body)))):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _fail(self, kind: str, body: bytes) -> None:
        if kind in STATUSES:
            self._give(Answer(int(kind), [("x-ms-error-code", STATUSES[kind])], b""))
            return
        if kind == PAGE:
            self._give(Answer(200, [("Content-Type", "text/html")], b"<html><body>Please log in<br></body></html>"))
            return
        self.close_connection = True
        if kind == GONE:
            return
        answer = self._pass(body)
        if kind == TIMEOUT:
            time.sleep(self.server.seconds)
            return
        lines = [f"{name}: {value}" for name, value in (*answer.headers, ("Content-Length", len(answer.body) + 100))]
        head = "\r\n".join((f"HTTP/1.1 {answer.status} Half", *lines, "", "")).encode()
        with suppress(OSError):  # what has no body is cut in its first line
            self.wfile.write(head + answer.body[: len(answer.body) // 2] if answer.body else head[:9])

    def log_message(self, *arguments: Any) -> None:
        pass


def spoil(batch: bytes, share: float) -> tuple[bytes, int]:
    """The batch with the signatures of some of its deletions broken, as long as it was, which is signed as a whole;
    and how many these are.
    """
    count = 0

    def break_some(found: re.Match[bytes]) -> bytes:
        nonlocal count, number
        number += 1
        if int(number * share) == int((number - 1) * share):
            return found[0]
        count += 1
        return found[1] + (b"A" if found[2] != b"A" else b"B")

    number = 0
    return SIGNED.sub(break_some, batch), count


def blame(answer: bytes, status: int) -> bytes:
    """A batch's answer with this status where the service says that a signature is broken."""
    code = STATUSES[str(status)].encode()
    answer = re.sub(rb"HTTP/1\.1 403[^\r\n]*", b"HTTP/1.1 %d Failed" % status, answer)
    return re.sub(rb"(?i)(x-ms-error-code: *)[^\r\n]*", rb"\1" + code, answer)
