"""Taking a connection over from the server in the middle of a response (contract C45).

Gunicorn's gevent worker keeps a greenlet, its stack, a parser and a request for every response that is being written.
A stream that only waits needs none of these. So the server writes the head and the replay, as for any response; then
its descriptor of the connection is made to lead nowhere, so that it takes the client for gone, notes the request and
forgets it, while the connection lives on under a descriptor of ours.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from functools import cache
from types import FrameType
from typing import Any

TRANSPARENT = {f"{__package__}.body", "werkzeug.wrappers.response", "werkzeug.wsgi"}
"""Modules that pass on what a body gives, byte for byte."""


def announce(environ: Mapping[str, Any]) -> Any | None:
    """Gunicorn's response object, if its connection can be taken over, else ``None``. Called before the head is sent.

    That is so under a ``gevent`` worker, without TLS or HTTP/2 in it, if nobody but Werkzeug stands between us and the
    loop that writes: a middleware that looks at bodies, or changes them, goes on to get each frame. The head will say
    that the connection ends with the response (RFC 9112, 9.6): nobody but us knows when that is.
    """
    workers, http = sys.modules.get("gunicorn.workers.ggevent"), sys.modules.get("gunicorn.http.wsgi")
    frame: FrameType | None = sys._getframe(1) if workers and http else None
    while frame is not None:
        if frame.f_code.co_name == "handle_request" and frame.f_code.co_varnames[:1] == ("self",):
            worker, response = frame.f_locals["self"], frame.f_locals.get("resp")
            if isinstance(worker, workers.GeventWorker) and type(response) is http.Response:
                connection = environ.get("gunicorn.socket")
                if response.headers_sent or response.sock is not connection or worker.cfg.is_ssl:
                    return None
                response.force_close()
                return response
        if frame.f_globals.get("__name__") not in TRANSPARENT:
            return None
        frame = frame.f_back
    return None


def is_ready(response: Any, written: int) -> bool:
    """Whether every byte of ours reached it, and nothing else did.

    :param written: the bytes that our body has given so far.
    """
    return response.headers_sent and response.sent == written


@cache
def nowhere() -> socket.socket:
    """A connection whose other end is closed: whoever writes to it hears that the client has gone. One is enough.

    :raises OSError: if there are no descriptors left.
    """
    connection, other = socket.socketpair()
    other.close()
    connection.setblocking(False)
    return connection
