"""The one place that asks the policy, logs denials and overrides, and re-checks open streams (contract C16, C34)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ..errors import Forbidden
from ..keys import wire
from ..metrics import Metrics
from ..models import ChatModels
from ..policy import ChatThreadPolicy
from ..stream.interfaces import Pair
from .lookup import among
from .unit_of_work import Database, is_unreachable, translate

log = logging.getLogger(__name__)
T = TypeVar("T")

SLICE = 0.005
"""Seconds of policy evaluation before other work of the process gets its turn (C34)."""

BATCH = 1000
"""Keys in one IN list."""


def chunks(keys: Iterable[Any]) -> Iterable[list[Any]]:
    """``keys`` without repetition, in lists that a statement can carry."""
    distinct = list(dict.fromkeys(keys))
    return (distinct[start : start + BATCH] for start in range(0, len(distinct), BATCH))


class Access:
    """Asks ``policy`` on behalf of routes and streams."""

    def __init__(self, policy: ChatThreadPolicy, models: ChatModels, database: Database, metrics: Metrics) -> None:
        self.policy = policy
        self._models = models
        self._database = database
        self._metrics = metrics

    def user_id(self, user: Any) -> Any:
        return self.policy.user_id(user)

    def is_admin(self, user: Any) -> bool:
        """As the policy says; one that raises denies."""
        try:
            return bool(self.policy.is_admin(user))
        except Exception as error:
            if is_unreachable(error):
                raise translate(error) from None
            self._raised("is_admin", error)
            return False

    def authorize(self, user: Any, ability: str, subject: Any, *, thread_id: int | None = None) -> None:
        """Let ``user`` do ``ability`` (``open``, ``view``, ``post``, ``close``) to a request or thread.

        :raises Forbidden: if the policy says no, or raises.
        """
        override, allowed = self._ask(user, ability, subject)
        if not allowed:
            raise Forbidden()
        if override:
            self._metrics.count("admin_overrides", ability)
            log.info(
                "chat admin override",
                extra={
                    "chat": True,
                    "reason": "admin",
                    "ability": ability,
                    "threadId": thread_id,
                    "userId": wire(self.user_id(user)),
                },
            )

    def may_view(self, user: Any, thread: Any) -> bool:
        """Whether the policy lets ``user`` see ``thread``; for lists, where nothing is denied or overridden."""
        return self._ask(user, "view", thread)[1]

    def _ask(self, user: Any, ability: str, subject: Any) -> tuple[bool, bool]:
        """``(whether it took the admin's privilege, whether it is allowed)``."""
        try:
            first = self.policy.before(user, ability)
            if first is not None and not first:
                return False, False
            own = bool(getattr(self.policy, ability)(user, subject))
            return bool(first) and not own, bool(first) or own
        except Exception as error:
            if is_unreachable(error):  # no word of the policy's: it could not find out, and neither can we
                raise translate(error) from None
            self._raised(ability, error)
            return False, False

    def _raised(self, ability: str, error: Exception) -> None:
        log.error(
            "chat policy raised, denied",
            extra={"chat": True, "reason": "policy_raised", "ability": ability, "error": type(error).__name__},
        )

    def lost(self, pairs: Iterable[Pair]) -> set[Pair]:
        """Which of these ``(user id, thread id)`` may not view any more: users and threads are read in bulk (C34).

        An inbox, whose thread is ``None``, is any active user's.
        """
        of_user: dict[Any, list[Pair]] = {}
        for pair in pairs:
            of_user.setdefault(pair[0], []).append(pair)
        with self._database.session() as session:
            lost: set[Pair] = set()
            some: list[Pair] = []
            for theirs in of_user.values():
                some += theirs
                if len(some) >= BATCH:
                    lost |= self._lost(session, some)
                    some = []
            return lost | self._lost(session, some)

    def _lost(self, session: Session, pairs: list[Pair]) -> set[Pair]:
        """The same for as many as are held in memory at once."""
        threads = self._models.threads
        query, rows = sa.select(threads), {}
        for ids in chunks(thread_id for _, thread_id in pairs if thread_id is not None):
            found = session.connection().execute(query.where(among(threads.c.id, ids, self._database.dialect)))
            rows |= {row.id: row for row in found}
        users = self._users(session, (user_id for user_id, _ in pairs))
        return {
            (user_id, thread_id)
            for user_id, thread_id in in_slices(pairs)
            if not self._may_still_view(users.get(user_id), thread_id, rows.get(thread_id))
        }

    def admins(self, user_ids: Iterable[Any]) -> set[Any]:
        """Which of these are admins; they are read in bulk."""
        with self._database.session() as session:
            users = self._users(session, user_ids)
            return {user_id for user_id, user in in_slices(users.items()) if self.is_admin(user)}

    def _users(self, session: Session, user_ids: Iterable[Any]) -> dict[Any, Any]:
        key = self._models.user_key.column
        query, users = sa.select(key, self._models.user_model), {}
        for ids in chunks(user_ids):
            found = session.execute(query.where(among(key, ids, self._database.dialect)))
            users |= {user_id: user for user_id, user in found}
        return users

    def _may_still_view(self, user: Any, thread_id: int | None, thread: Any) -> bool:
        if user is None or (thread is None and thread_id is not None):
            return False
        try:
            active = is_active(user)
        except Exception as error:
            self._raised("is_active", error)
            return False
        return active and (thread_id is None or self.may_view(user, thread))


def in_slices(items: Iterable[T]) -> Iterator[T]:
    """``items``, with other work's turns in between."""
    turn = time.perf_counter()
    for item in items:
        yield item
        if time.perf_counter() - turn > SLICE:
            time.sleep(0)
            turn = time.perf_counter()


def is_active(user: Any) -> bool:
    """Flask-Login's rule for a disabled account."""
    return bool(getattr(user, "is_active", True))
