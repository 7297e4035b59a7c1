"""What can go wrong, each kind knowing its code and HTTP status (contract C12, C13)."""

from __future__ import annotations

import click


class ConfigurationError(click.ClickException):
    """The host's set-up is wrong; the message says what to do (C5).

    A ``ClickException``, so that ``flask …`` prints the message instead of a traceback.
    """


class ChatError(Exception):
    """A refusal that a client sees as ``{"code", "message", "errors"}`` with :attr:`status` (C12)."""

    status = 500
    code = "internal_error"
    message = "Something went wrong."

    def __init__(
        self,
        message: str | None = None,
        *,
        errors: dict[str, list[str]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message or self.message)
        self.message = message or self.message
        self.errors = errors or {}
        self.headers = headers or {}


class BadRequest(ChatError):
    status, code, message = 400, "bad_request", "The request cannot be read."


class Disabled(ChatError):
    status, code, message = 501, "disabled", "The chat is switched off."


class BodyTooLarge(ChatError):
    status, code, message = 413, "body_too_large", "The request body is too large."


class CrossSite(ChatError):
    status, code, message = 403, "cross_site", "Requests from another site are refused."


class Unauthenticated(ChatError):
    status, code, message = 401, "unauthenticated", "Log in first."


class NotFound(ChatError):
    status, code, message = 404, "not_found", "There is nothing here."


class NotClosed(ChatError):
    status, code, message = 404, "not_closed", "This chat is not closed."


class MethodNotAllowed(ChatError):
    status, code, message = 405, "method_not_allowed", "This method is not allowed here."


class Forbidden(ChatError):
    status, code, message = 403, "forbidden", "You may not do this."


class ThreadClosed(ChatError):
    status, code, message = 403, "thread_closed", "This chat is closed."


class UnsupportedMediaType(ChatError):
    status, code, message = 415, "unsupported_media_type", "Send the body as application/json."


class ValidationFailed(ChatError):
    status, code, message = 422, "validation_failed", "The request is not valid."


class BadSignature(ChatError):
    status, code, message = 403, "bad_signature", "This address is not valid."


class AlreadyUploaded(ChatError):
    status, code, message = 409, "already_uploaded", "Something was uploaded to this address before."


class RateLimited(ChatError):
    status, code, message = 429, "rate_limited", "Too many requests; try again later."


class TooManyUploads(ChatError):
    status, code, message = 429, "too_many_uploads", "Too many uploads wait to be posted in this chat."


class Unavailable(ChatError):
    """Asking again later may help."""

    status, code, message = 503, "unavailable", "The chat is not available right now; try again shortly."

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


class Busy(Unavailable):
    """Too much is being done at this moment."""


class StorageUnavailable(Unavailable):
    """The blob storage is away or refuses. Says the kind of failure only."""

    def __init__(self, kind: str, detail: object = None) -> None:
        super().__init__()
        self.kind = kind
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.kind} ({self.detail}) in the blob storage"


class KeyStoreUnavailable(StorageUnavailable):
    """The key store is away or refuses."""

    def __str__(self) -> str:
        return f"{self.kind} ({self.detail}) in the key store"


class DatabaseError(ChatError):
    """A statement of ours failed. Says the kind and SQLSTATE only: the driver's own message and the
    statement's parameters would carry what people wrote into the host's log (C41).

    :ivar kind: the SQLAlchemy exception's class name.
    :ivar sqlstate: the SQLSTATE, or SQLite's error name.
    """

    def __init__(self, kind: str, sqlstate: str | None) -> None:
        super().__init__()
        self.kind = kind
        self.sqlstate = sqlstate

    def __str__(self) -> str:
        return f"{self.kind} (SQLSTATE {self.sqlstate or 'unknown'}) on a chat statement"


class DatabaseConflict(DatabaseError):
    """A constraint refused a write."""


class DatabaseUnavailable(DatabaseError):
    """The database is away, too busy, or has no chat tables; asking again later may help."""

    status, code, message = Unavailable.status, Unavailable.code, Unavailable.message

    def __init__(self, kind: str, sqlstate: str | None, hint: str = "") -> None:
        super().__init__(kind, sqlstate)
        self.hint = hint
        self.headers = {"Retry-After": "1"}

    def __str__(self) -> str:
        return super().__str__() + (f": {self.hint}" if self.hint else "")
