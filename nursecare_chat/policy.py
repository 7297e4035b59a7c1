"""Who may do what (SEED.md's ``ChatThreadPolicy``; contract C3, C11, C17)."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from .errors import ConfigurationError


class ChatThreadPolicy:
    """The default policy. A host's own is a subclass, given to ``init_app`` as a class or an instance.

    ``user`` is an instance of the host's user class, ``request`` of its request class; ``thread`` has the columns of
    ``chat_threads`` as attributes (``id, request_id, admin_id, client_id, status, …``). No method needs a Flask
    request. Whether a thread is open is not asked here: a closed one refuses posts to everybody alike (C22).
    Where ``post`` is asked, ``thread.last_seq`` may be of an earlier post. A method that raises denies.
    """

    user_key = "id"
    """The attribute that holds a user's primary key; set by ``init_app`` from the user class."""

    request_client: str | Callable[[Any], Any] = "client_id"
    """Where a request's client id is; set by ``init_app`` from its argument of the same name."""

    def is_admin(self, user: Any) -> bool:
        """``user.role.name == "admin"`` or ``user.role == "admin"``; a user without a role is no admin."""
        role = getattr(user, "role", None)
        return getattr(role, "name", role) == "admin"

    def before(self, user: Any, ability: str) -> bool | None:
        """Asked first: ``True`` allows, ``False`` denies, ``None`` leaves it to the ability's own method."""
        return True if self.is_admin(user) else None

    def open(self, user: Any, request: Any) -> bool:
        """May open the request's thread: the request's client."""
        return self._is(user, self.client_of(request))

    def view(self, user: Any, thread: Any) -> bool:
        """May read and subscribe: the participants."""
        user_id = self.user_id(user)
        return user_id is not None and user_id in (thread.client_id, thread.admin_id)

    def post(self, user: Any, thread: Any) -> bool:
        """May send messages: the participants."""
        return self.view(user, thread)

    def close(self, user: Any, thread: Any) -> bool:
        """May close the thread: the participants."""
        return self.view(user, thread)

    def client_of(self, request: Any) -> Any:
        """The id of the client that made ``request``."""
        if callable(self.request_client):
            return self.request_client(request)
        return getattr(request, self.request_client)

    def user_id(self, user: Any) -> Any:
        """The user's primary key."""
        return getattr(user, self.user_key)

    def _is(self, user: Any, user_id: Any) -> bool:
        return user_id is not None and self.user_id(user) == user_id


def bind(
    policy: type[ChatThreadPolicy] | ChatThreadPolicy | None,
    *,
    user_key: str,
    request_client: str | Callable[[Any], Any] | None,
) -> ChatThreadPolicy:
    """An instance that knows this host's names; the host's own instance stays as it is, another app may use it too.

    :raises ConfigurationError: if ``policy`` is neither a ``ChatThreadPolicy`` nor a subclass of it.
    """
    instance = policy() if isinstance(policy, type) else copy(policy or ChatThreadPolicy())
    if not isinstance(instance, ChatThreadPolicy):
        raise ConfigurationError(
            f"chat.init_app: policy={policy!r} is no ChatThreadPolicy; subclass nursecare_chat.ChatThreadPolicy."
        )
    instance.user_key = user_key
    if request_client is not None:
        if not (callable(request_client) or isinstance(request_client, str)):
            raise ConfigurationError(
                f"chat.init_app: request_client={request_client!r} is neither an attribute's name nor a callable."
            )
        instance.request_client = request_client
    return instance
