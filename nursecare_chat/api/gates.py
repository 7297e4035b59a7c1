"""The gates that every request passes, in the contract's order (C11).

flag → body size → cross-site → login → rate, for every route of the blueprint in :func:`before_request`; then, where a
route needs them: lookup → policy (:func:`thread`) → thread state (:func:`require_open`) → content type → validation
(:func:`json_body`). Behind the flag the local storage's signed addresses check for themselves (:mod:`.media`).
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from flask import Response, current_app, request
from flask_login import current_user
from sqlalchemy import Row
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.routing import RoutingException

from .. import fork
from ..config import is_enabled
from ..errors import (
    BadRequest,
    BodyTooLarge,
    ConfigurationError,
    CrossSite,
    Disabled,
    NotFound,
    Unauthenticated,
    UnsupportedMediaType,
)
from ..keys import parse_integer, wire
from ..service.access import is_active
from ..state import current
from .loading import parse_json

MAX_BODY = 64 * 1024
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
UNKNOWN = "unknown"
"""The endpoint behind every path and method that is no route of ours."""
SIGNED = frozenset({"put_media", "get_media"})
"""The endpoints where the address is the right."""
METRICS = "show_metrics"
"""The endpoint that has a token in place of a login, and is there only if configured."""
RATED = {"open_thread": "open", "post_message": "post", "issue_upload": "upload"}
"""The endpoints that are limited, and as what."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
BELIEVED_USER = "X-Chat-User"
"""Whom a page believes to be logged in, percent-encoded: a tab may be left over from somebody else, and what was typed
there must not be posted under the name of who came after. Optional."""
DEFAULT_PORTS = {"http": 80, "https": 443}


def before_request() -> Response | None:
    if not is_enabled(current_app.config):
        raise Disabled()
    fork.notice_patching()
    if request.method == "OPTIONS" and (allowed := allowed_methods()):
        # A CORS preflight carries no cookie. Flask's own answer finds no methods beside a rule that takes them all.
        return Response(headers={"Allow": ", ".join([*allowed, "OPTIONS"])})
    name = endpoint()
    if name in SIGNED or (name == METRICS and current().config.metrics):
        return None
    _require_small_body()
    if request.method not in SAFE_METHODS:
        _require_same_site()
    _require_login()
    if name in RATED:
        current().rates.hit(RATED[name], current().access.user_id(user()))
    return None


def endpoint() -> str:
    """Which route of ours is asked for."""
    return (request.endpoint or "").rpartition(".")[2]


def allowed_methods() -> list[str]:
    """The methods that some route has for this path, found by asking the URL map for each."""
    adapter = current_app.create_url_adapter(request)
    allowed = []
    for method in METHODS:
        try:
            rule, _ = adapter.match(method=method, return_rule=True)
        except (RoutingException, HTTPException):
            continue
        name = rule.endpoint.rpartition(".")[2]
        if name != UNKNOWN and (name != METRICS or current().config.metrics):
            allowed.append(method)
    return allowed


def _require_small_body() -> None:
    """Reads at most one byte too many: of a chunked body Werkzeug cuts off at its limit without a word."""
    request.max_content_length = MAX_BODY + 1
    try:
        size = len(request.get_data())
    except RequestEntityTooLarge:
        raise BodyTooLarge() from None
    except Exception:  # each server has errors of its own for a body that breaks off or is wrongly chunked
        raise BadRequest() from None
    if size > MAX_BODY:
        raise BodyTooLarge()


def _require_same_site() -> None:
    """Fetch metadata, else ``Origin`` against ``Host`` (C14, OWASP CSRF cheat sheet)."""
    origin = request.headers.get("Origin")
    if origin is not None and origin.lower().rstrip("/") in current().config.trusted_origins:
        return
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        same = site.lower() in ("same-origin", "none")
    else:
        same = origin is None or _same_host(origin, request.headers.get("Host", ""))
    if not same:
        raise CrossSite()


def _same_host(origin: str, host: str) -> bool:
    """Whether both name one host and port; a TLS-terminating proxy may hide the scheme, so it does not count."""
    try:
        there, here = urlsplit(origin), urlsplit(f"//{host}")
        default = DEFAULT_PORTS[there.scheme]
        return there.hostname is not None and (there.hostname, there.port or default) == (
            here.hostname,
            here.port or default,
        )
    except (ValueError, KeyError):
        return False


def _require_login() -> None:
    """Never Flask-Login's own answer to this: that may be a redirect or HTML (C12)."""
    if not hasattr(current_app, "login_manager"):
        raise ConfigurationError("The chat needs Flask-Login: call LoginManager(app) and give it a user_loader.")
    if not is_logged_in():
        raise Unauthenticated()
    believed = request.headers.get(BELIEVED_USER)
    if believed is not None and unquote(believed) != str(wire(current().access.user_id(user()))):
        raise Unauthenticated("Somebody else is logged in by now.")


def is_logged_in() -> bool:
    return bool(current_user.is_authenticated and is_active(current_user))


def mount() -> str:
    """The path under which the server has the application, as this request says it; never another host's name.

    A proxy's header may say anything, so it is for the answer to this request alone.
    """
    root = re.sub("/+", "/", quote("/" + request.script_root.strip("/"), safe="/~"))
    return "" if root == "/" else root


def user() -> Any:
    """Who is logged in: the host's own user object."""
    return current_user._get_current_object()


def thread(text: str, ability: str) -> Row[Any]:
    """The thread that the path names, if the user may do ``ability`` to it.

    :raises NotFound: if it names nothing.
    :raises Forbidden: if the policy says no.
    """
    chat = current()
    row = chat.threads.get(thread_id(text))
    chat.access.authorize(user(), ability, row, thread_id=row.id)
    return row


def thread_id(text: str) -> int:
    """
    :raises NotFound: if that is no integer of ours.
    """
    number = parse_integer(text)
    if number is None:
        raise NotFound("No such chat.")
    return number


def require_open(row: Row[Any]) -> None:
    current().threads.require_open(row)


def json_body() -> dict[str, Any]:
    """The strictly read body.

    :raises UnsupportedMediaType: if it is not ``application/json``.
    :raises ValidationFailed: if it is no sound JSON object.
    """
    if request.mimetype != "application/json":
        raise UnsupportedMediaType()
    return parse_json(request.get_data())
