"""Connections to the Redis that a setting names (contract C5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import redis

from .errors import ConfigurationError

SPOKEN: dict[str, Any] = {"protocol": 2, "decode_responses": False}
"""RESP 2 does all that is needed here, and every Redis and Valkey speaks it."""


def make_pool(key: str, url: str, kind: type[redis.ConnectionPool] = redis.ConnectionPool, **defaults: Any) -> Any:
    """A pool of connections; none is opened yet. What the URL says about timeouts has the last word.

    :param key: the setting, for the error.
    :raises ConfigurationError: if the URL has an option that no connection takes: it would fail at every use.
    """
    try:
        pool = kind.from_url(_without(url, SPOKEN), **defaults, **SPOKEN)
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError, redis.RedisError) as error:
        said = str(error).removeprefix("AbstractConnection.__init__() ").removeprefix("Connection.__init__() ")
        raise ConfigurationError(f"{key} cannot be used: {said}") from None
    return pool


def _without(url: str, options: Iterable[str]) -> str:
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in options]
    return parts._replace(query=urlencode(kept)).geturl()
