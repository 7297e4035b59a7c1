"""A temporary, request-scoped chat for a Flask application: see README.md."""

from .errors import ChatError, ConfigurationError
from .extension import Chat
from .policy import ChatThreadPolicy

__all__ = ["Chat", "ChatError", "ChatThreadPolicy", "ConfigurationError"]
