"""The REST interface: one module per resource, thin views over :mod:`nursecare_chat.service`."""

from __future__ import annotations

from typing import Any

from flask import Blueprint
from flask.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter

from ..widget import Templates
from . import errors, gates, media, messages, metrics, openapi, receipts, stream, threads, uploads, widget

NAME = "nursecare_chat"
OPEN = f"/api/requests/<{NAME}_key:request_id>/chat/open"

ROUTES = (
    ("POST", OPEN, threads.open_thread),
    ("GET", "/api/chat/threads", threads.list_threads),
    ("GET", "/api/chat/threads/<thread_id>", threads.show_thread),
    ("GET", "/api/chat/threads/<thread_id>/messages", messages.list_messages),
    ("POST", "/api/chat/threads/<thread_id>/messages", messages.post_message),
    ("POST", "/api/chat/threads/<thread_id>/uploads", uploads.issue_upload),
    ("PATCH", "/api/chat/threads/<thread_id>/close", threads.close_thread),
    ("GET", "/api/chat/threads/<thread_id>/stream", stream.stream_thread),
    ("GET", "/api/chat/stream", stream.stream_inbox),
    ("GET", "/api/chat/threads/<thread_id>/receipt", receipts.show_receipt),
    ("GET", "/api/chat/receipt-key", receipts.show_receipt_key),
    ("GET", "/api/chat/openapi.json", openapi.show_document),
    ("PUT", f"{media.PATH}/<token>", media.put_media),
    ("GET", f"{media.PATH}/<token>", media.get_media),
)
# Not an interface for the chat's users, so not in the document.
UNDOCUMENTED = (
    ("GET", metrics.PATH, metrics.show_metrics),
    ("GET", f"{widget.PATH}/<name>", widget.show_file),
    ("GET", f"{widget.PATH}/<version>/<name>", widget.show_file),
)
CATCH_ALL = ("/api/chat", f"/api/chat/<{NAME}_rest:rest>", OPEN)


class Key(BaseConverter):
    """A host's key; a string one may hold slashes."""

    regex = "(?s:.+?)"
    part_isolating = False


class Rest(BaseConverter):
    """Whatever follows, nothing and slashes at its start included; Werkzeug's ``path`` would redirect those as HTML."""

    regex = "(?s:.*?)"
    part_isolating = False


def create_blueprint() -> Blueprint:
    """The routes, with their gates and error handlers."""
    blueprint = Blueprint(NAME, __name__)
    blueprint.before_request(gates.before_request)
    errors.register(blueprint)
    blueprint.record(_add_converters)
    blueprint.jinja_loader = Templates(widget.settings)
    for method, path, view in (*ROUTES, *UNDOCUMENTED):
        options = {"methods": [method], "provide_automatic_options": False, "merge_slashes": False}
        blueprint.add_url_rule(path, view.__name__, view, **options)
    blueprint.record(_add_catch_all)
    return blueprint


def _add_converters(setup: BlueprintSetupState) -> None:
    setup.app.url_map.converters |= {f"{NAME}_key": Key, f"{NAME}_rest": Rest}


def _add_catch_all(setup: BlueprintSetupState) -> None:
    """Rules for any method at all: ``add_url_rule`` would make ``GET`` of none."""
    app: Any = setup.app
    endpoint = f"{NAME}.{gates.UNKNOWN}"
    app.view_functions[endpoint] = errors.unknown
    for path in CATCH_ALL:
        rule = app.url_rule_class(path, endpoint=endpoint, methods=None, strict_slashes=False, merge_slashes=False)
        rule.provide_automatic_options = False
        app.url_map.add(rule)
