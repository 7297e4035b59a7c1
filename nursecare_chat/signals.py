"""What a host can listen to (contract C44): blinker signals, sent after the commit.

The sender is the Flask application. Receivers get ids and numbers, never what was written::

    @thread_purged.connect_via(app)
    def note(sender, thread_id, request_id, **more): ...

They run where the change was made, in an application context, and may use ``db.session``. One that raises is logged
and harms nobody. Take ``**more``: later releases may add arguments.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from blinker import Namespace, Signal

log = logging.getLogger(__name__)

_signals = Namespace()

thread_opened = _signals.signal("chat-thread-opened")
"""``thread_id, request_id, client_id, admin_id`` (``None`` until an admin claims the thread)."""

message_created = _signals.signal("chat-message-created")
"""``thread_id, message_id, seq, type, sender_id``."""

thread_closed = _signals.signal("chat-thread-closed")
"""``thread_id, request_id, last_seq``."""

thread_purged = _signals.signal("chat-thread-purged")
"""``thread_id, request_id``; what was written and uploaded is gone."""

Emit = Callable[..., None]
"""``emit(signal, **ids)``: sends for the application that the caller works for."""


def emitter(app: Any) -> Emit:
    """An :data:`Emit` whose sender is ``app``; coroutines are run as the application runs its views."""

    def emit(signal: Signal, **ids: Any) -> None:
        for receiver in signal.receivers_for(app):
            try:
                app.ensure_sync(receiver)(app, **ids)
            except Exception as error:
                log.error(
                    "chat signal receiver raised",
                    extra={
                        "chat": True,
                        "signal": signal.name,
                        "receiver": getattr(receiver, "__qualname__", type(receiver).__name__),
                        "error": type(error).__name__,
                    },
                )

    return emit
