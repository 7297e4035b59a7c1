"""The one place that asks the policy, logs denials and overrides, and re-checks open streams (contract C16, C34)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, TypeVar

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


USERS = 100
"""Users that are read at once: the ORM makes them in one go, in about a slice."""


def chunks(keys: Iterable[Any], size: int = BATCH) -> Iterable[list[Any]]:
    """``keys`` without repetition, in lists that a statement can carry."""
    distinct = list(dict.fromkeys(keys))
    return (distinct[start : start + size] for start in range(0, len(distinct), size))


class Verdict(NamedTuple):
    """What the policy said; ``override`` if it took the admin's privilege."""

    override: bool
    allowed: bool


class Access:
    """Asks ``policy`` on behalf of routes and streams."""

    def __init__(self, policy: ChatThreadPolicy, models: ChatModels, database: Database, metrics: Metrics) -> None:
        self.policy = policy
        self._models = models
        self._database = database
        self._metrics = metrics

    def user_id(self, user: Any) -> Any:
        """
        :raises Forbidden: if the policy raises.
        """
        try:
            return self.policy.user_id(user)
        except Exception as error:
            self._failed("user_id", error)
            raise Forbidden() from None

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
        verdict = self.ask(user, ability, subject)
        if not verdict.allowed:
            raise Forbidden()
        if verdict.override:
            self.overridden(user, ability, thread_id)

    def overridden(self, user: Any, ability: str, thread_id: int | None) -> None:
        """Log and count that ``user`` did what only an admin may (C17)."""
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
        return self.ask(user, "view", thread).allowed

    def ask(self, user: Any, ability: str, subject: Any) -> Verdict:
        """What the policy says, without consequences."""
        first = self.first(user, ability)
        own = first is not False and self.own(user, ability, subject)
        return Verdict(False, False) if own is None else Verdict(bool(first) and not own, bool(first) or own)

    def first(self, user: Any, ability: str) -> bool | None:
        """The policy's word before it looks at anything: ``False`` denies; so does one that raises."""
        try:
            first = self.policy.before(user, ability)
            return None if first is None else bool(first)
        except Exception as error:
            return self._failed(ability, error)

    def own(self, user: Any, ability: str, subject: Any) -> bool | None:
        """The ability's own word; ``None`` if it raised, which denies whatever was said first."""
        try:
            return bool(getattr(self.policy, ability)(user, subject))
        except Exception as error:
            self._failed(ability, error)
            return None

    def _failed(self, ability: str, error: Exception) -> bool:
        if is_unreachable(error):  # no word of the policy's: it could not find out, and neither can we
            raise translate(error) from None
        self._raised(ability, error)
        return False

    def _raised(self, ability: str, error: Exception) -> None:
        log.error(
            "chat policy raised, denied",
            extra={"chat": True, "reason": "policy_raised", "ability": ability, "error": type(error).__name__},
        )

    def lost(self, pairs: Iterable[Pair]) -> set[Pair]:
        """Which of these ``(user id, thread id)`` may not view any more: users and threads are read in bulk (C34).

        An inbox, whose thread is ``None``, is any active user's.

        :param pairs: taken as they come, so that few of them are in memory at once; best by thread.
        """
        coming, lost, viewers = iter(pairs), set[Pair](), dict[Any, Viewer]()
        with self._database.session() as session:
            while some := list(islice(coming, BATCH)):
                if len(viewers) > 2 * BATCH:
                    viewers.clear()
                unknown = {user_id for user_id, _ in some} - viewers.keys()
                users = self._users(session, unknown)
                viewers |= {user_id: self._viewer(users.get(user_id)) for user_id in in_slices(unknown)}
                threads = self._rows(session, {thread_id for _, thread_id in some if thread_id is not None})
                lost |= {pair for pair in in_slices(some) if not viewers[pair[0]].may_view(threads, pair[1])}
        return lost

    def _rows(self, session: Session, ids: Iterable[int]) -> dict[int, Any]:
        threads, rows = self._models.threads, {}
        for some in chunks(ids):
            query = sa.select(threads).where(among(threads.c.id, some, self._database.dialect))
            rows |= {row.id: row for row in session.connection().execute(query)}
        return rows

    def admins(self, user_ids: Iterable[Any]) -> set[Any]:
        """Which of these are admins; they are read in bulk."""
        with self._database.session() as session:
            users = self._users(session, user_ids)
            return {user_id for user_id, user in in_slices(users.items()) if self.is_admin(user)}

    def _users(self, session: Session, user_ids: Iterable[Any]) -> dict[Any, Any]:
        key = self._models.user_key.column
        query, users = sa.select(key, self._models.user_model), {}
        for ids in in_slices(chunks(user_ids, USERS)):
            found = session.execute(query.where(among(key, ids, self._database.dialect)))
            users |= {user_id: user for user_id, user in found.unique()}  # a host may join lists of theirs to each
        return users

    def _viewer(self, user: Any) -> Viewer:
        try:
            active = user is not None and is_active(user)
        except Exception as error:
            self._raised("is_active", error)
            active = False
        return Viewer(self, user, active, self.first(user, "view") if active else False)


class Viewer(NamedTuple):
    """What an access check knows of a user before it looks at threads; ``first`` is the policy's first word."""

    access: Access
    user: Any
    is_active: bool
    first: bool | None

    def may_view(self, threads: dict[int, Any], thread_id: int | None) -> bool:
        """
        :param thread_id: ``None`` for the inbox.
        """
        if thread_id is None or not self.is_active:
            return self.is_active
        thread = threads.get(thread_id)
        if thread is None or self.first is False:
            return False
        own = self.access.own(self.user, "view", thread)
        return own is not None and (own or bool(self.first))


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
