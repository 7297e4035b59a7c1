"""What the chat has for one application (contract C1): it lives in the application, not here or on ``Chat``."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from flask import Flask, current_app

from .clock import Clock
from .config import ChatConfig
from .keys import wire
from .metrics import Metrics
from .models import ChatModels
from .rates import Rates
from .service.access import Access
from .service.audit import Audit
from .service.completion import Completion
from .service.images import Images
from .service.inboxes import Inboxes
from .service.log import Log
from .service.messages import Messages
from .service.purges import Purges
from .service.receipts import Receipts
from .service.sealing import Sealing
from .service.threads import Threads
from .service.unit_of_work import Database
from .service.uploads import Uploads
from .storage.base import BlobStorage
from .stream.doorbell import Doorbell, Ring
from .stream.hub import Hub
from .tasks import Tasks

log = logging.getLogger(__name__)

KEY = "nursecare_chat"


@dataclass
class ChatState:
    """Everything the chat has for one application; in ``app.extensions[KEY]``."""

    config: ChatConfig
    models: ChatModels
    metrics: Metrics
    database: Database
    access: Access
    rates: Rates
    storage: BlobStorage
    images: Images
    uploads: Uploads
    threads: Threads
    completion: Completion
    messages: Messages
    sealing: Sealing
    receipts: Receipts
    audit: Audit
    clock: Clock
    purges: Purges
    tasks: Tasks
    doorbell: Doorbell
    log: Log
    inboxes: Inboxes
    hub: Hub
    _warned: set[str] = field(default_factory=set)

    def warn_once(self, what: str) -> None:
        """Log a warning the first time it is true in this process."""
        if what not in self._warned:
            self._warned.add(what)
            log.warning("chat: %s", what, extra={"chat": True})

    def disconnect(self, user: Any) -> None:
        """End all of a user's streams, in every process (C34)."""
        # Loaded or not, expired, detached or deleted meanwhile: the identity is there without a query.
        mapped = sa.inspect(getattr(user, "_get_current_object", lambda: user)(), raiseerr=False)
        identity = getattr(mapped, "identity", None)
        user_id = identity[0] if identity else getattr(user, self.access.policy.user_key, None)
        if user_id is not None:
            self.doorbell.ring(Ring("disconnect", user=wire(user_id)))

    def on_user_logged_out(self, sender: Flask, user: Any = None, **extra: Any) -> None:
        """Runs inside the host's ``logout_user()``, which must not fail because of us."""
        try:
            self.disconnect(user)
        except Exception as error:
            log.error("chat streams not ended at logout: %s", type(error).__name__, extra={"chat": True})


def current() -> ChatState:
    """The current application's; needs an application context."""
    state: ChatState = current_app.extensions[KEY]
    return state
