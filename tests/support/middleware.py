"""Gunicorn's configuration for a host whose middleware changes the bodies of streams: ``-c python:…``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "longer": lambda frames: frames.replace(b"hello", b"hello from the middleware"),
    "as long": lambda frames: frames.replace(b"hello", b"HELLO"),
}


class Changed:
    """What a middleware gives to the server: a body of its own."""

    def __init__(self, body: Iterable[bytes], change: Callable[[bytes], bytes]) -> None:
        self._body, self._change = body, change

    def __iter__(self) -> Iterator[bytes]:
        for frames in self._body:
            yield self._change(frames)

    def close(self) -> None:
        with suppress(AttributeError):
            self._body.close()


def post_worker_init(worker: Any) -> None:
    """Gunicorn calls this before the worker's first request."""
    application, change = worker.wsgi, CHANGES[os.environ["MIDDLEWARE"]]

    def middleware(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = application(environ, start_response)
        return Changed(body, change) if environ["PATH_INFO"].endswith("/stream") else body

    worker.wsgi = middleware
