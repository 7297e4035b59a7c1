"""A temporary, request-scoped chat for a Flask application: see README.md."""

from .errors import ChatError, ConfigurationError
from .extension import Chat
from .policy import ChatThreadPolicy
from .signals import message_created, thread_closed, thread_opened, thread_purged

__all__ = [
    "Chat",
    "ChatError",
    "ChatThreadPolicy",
    "ConfigurationError",
    "message_created",
    "thread_closed",
    "thread_opened",
    "thread_purged",
]
