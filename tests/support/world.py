"""An application on two processes whose time, storage, commits and workers a story has in its hands."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import sqlalchemy as sa

from nursecare_chat.errors import StorageUnavailable
from nursecare_chat.keys import wire
from nursecare_chat.service import lease, pipeline, purges, uploads

from .hosts import PEOPLE, Api, Workbench

AHEAD = timedelta(hours=1)
"""Stories have a time of their own, which is ahead of the database's: what that stamps is always in their past."""

REFUSED = b"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100'; END $$"
"""In a COMMIT's place: the disk is full."""

IN_STORAGE = ("check", "delete_prefix", "half", "listing", "retention")
"""Where a worker can be stopped there: before each of its calls, and between two deletions."""


At = Callable[[str, Callable[[int], None]], None]


def _nothing(call: str, progress: Callable[[int], None]) -> None:
    pass


class Killed(BaseException):
    """What SIGKILL is to a worker: nothing of the product's catches it, and nothing that it does afterwards has any
    effect, see :meth:`World._alive`.
    """


class World:
    """
    :ivar now: seconds since the story began; a database's or machine's clock never moves them.
    :ivar steps: of all stories so far; :ivar stepped: called after each.
    :ivar unfinished: whether a story is under way, or broke off.
    """

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.now = 0
        self.people: dict[str, Api] = {}
        self._began = datetime.now(UTC)
        self.steps = 0
        self.stepped: Callable[[], None] = lambda: None
        self.unfinished = False
        self._refusing = self._dead = False
        self._killed_at: int | None = None
        self._at: At = _nothing
        self._patches = ExitStack()
        with self._patches:
            patch = self._patches.enter_context
            patch(mock.patch.object(uploads, "utcnow", self._utcnow))
            patch(mock.patch.object(uploads, "now", self._utcnow))
            patch(mock.patch.object(lease, "time", SimpleNamespace(monotonic=lambda: self.now)))
            patch(mock.patch.object(pipeline.Pipelined, "_exchange", self._exchange(pipeline.Pipelined._exchange)))
            for app in bench.apps:
                self._take_hold(app.extensions["nursecare_chat"])
            self._log_in()
            with bench.app.app_context():
                self.ids = {who: wire(bench.host.user_id(who)) for who in PEOPLE}
            self._patches = self._patches.pop_all()

    def close(self) -> None:
        self._patches.close()

    # -- time, and processes that come and go --------------------------------------------------------------------

    def begin(self) -> None:
        """A story begins."""
        self.now, self._began = 0, datetime.now(UTC) + AHEAD

    def step(self) -> None:
        """One more that went well."""
        self.steps += 1
        self.stepped()

    def wipe(self) -> None:
        """After a story that broke off: nothing of it is left."""
        models = self.bench.state.models
        with self.bench.state.database.write() as unit:
            for table in (models.messages, models.uploads, models.purges, models.threads):
                unit.connection.execute(table.delete())
        shutil.rmtree(self.media, ignore_errors=True)
        for number in range(len(self.bench.apps)):
            self.restart(number)

    def new_request(self, client: str) -> Any:
        with self.bench.app.app_context():
            return self.bench.host.new_request(client)

    def forget(self, request_id: Any) -> tuple[int, int]:
        host = self.bench.host
        with self.bench.app.app_context():
            forgotten: tuple[int, int] = self.bench.chat.forget(host.db.session.get(host.request_model, request_id))
        return forgotten

    @property
    def media(self) -> Path:
        return self.bench.folder / "media"

    def restart(self, number: int) -> None:
        self.bench.restart(number)
        self._take_hold(self.state(number))
        self._log_in()

    def state(self, number: int) -> Any:
        return self.bench.apps[number].extensions["nursecare_chat"]

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        for app in self.bench.apps:
            app.config["CHAT_ENABLED"] = False
        try:
            yield
        finally:
            for app in self.bench.apps:
                app.config["CHAT_ENABLED"] = True

    def _log_in(self) -> None:
        self.people = {who: self.bench.login(who) for who in PEOPLE}

    def _utcnow(self, seconds: int = 0) -> Any:
        moment = self._began + timedelta(seconds=self.now + seconds)
        return sa.literal(moment.replace(tzinfo=None), sa.DateTime())

    def _take_hold(self, state: Any) -> None:
        state.clock.utcnow = state.clock.now = self._utcnow
        state.purges._wake = lambda thread_id, delay: None  # queues lose everything
        storage, engine = state.storage, state.database.engine
        storage._clock = lambda: self._began.timestamp() + self.now
        for name in ("check", "delete_prefix", "listing", "retention"):
            setattr(storage, name, self._watched(storage, name))
        sa.event.listen(engine, "commit", self._before_commit)
        sa.event.listen(engine, "before_cursor_execute", self._alive)

    # -- commits that are refused --------------------------------------------------------------------------------

    @contextmanager
    def refusing(self, refuses: bool = True) -> Iterator[None]:
        """The database takes no commit."""
        self._refusing = refuses
        try:
            yield
        finally:
            self._refusing = False

    def _exchange(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def exchange(pipelined: Any, *arguments: Any) -> Any:
            if not (self._refusing and pipelined._name.startswith(b"nursecare_chat_append")):
                return real(pipelined, *arguments)
            with mock.patch.object(pipeline, "COMMIT", REFUSED):
                return real(pipelined, *arguments)

        return exchange

    def _before_commit(self, connection: sa.Connection) -> None:
        self._alive()
        if self._refusing:
            raise sa.exc.OperationalError("COMMIT", {}, OSError())
        if self._killed_at is not None:
            self._killed_at -= 1
            if self._killed_at == 0:
                self.kill()

    # -- workers -------------------------------------------------------------------------------------------------

    def work(
        self,
        process: int,
        thread: int | None,
        at: At | None = None,
        killed_at: int | None = None,
    ) -> int | None:
        """A worker comes to a purge, or sweeps; what that gave, ``None`` if it was killed.

        :param at: told of each of :data:`IN_STORAGE`, with what tells the worker of progress; may let time pass, raise,
            or kill.
        :param killed_at: the commit that it does not live to see, the first being 1.
        """
        erasing: purges.Purges = self.state(process).purges
        before = self._at
        self._at, self._killed_at = at or _nothing, killed_at
        try:
            return erasing.sweep() if thread is None else int(erasing.run(thread))
        except Killed:
            return None
        finally:
            self._at, self._killed_at, self._dead = before, None, False

    def kill(self) -> None:
        """The worker that is at work."""
        self._dead = True
        raise Killed

    def _alive(self, *_: Any) -> None:
        if self._dead:
            raise Killed

    def _watched(self, storage: Any, name: str) -> Callable[..., Any]:
        real = getattr(storage, name)

        def call(prefix: str = "", progress: Callable[[int], None] = lambda found: None) -> Any:
            def halfway(found: int) -> None:
                progress(found)
                if found > 1:
                    next(path for path in (self.media / prefix).iterdir() if path.suffix != ".spent").unlink()
                    self._at("half", progress)

            self._alive()
            self._at(name, progress)
            if name == "delete_prefix":
                return real(prefix, halfway)
            return real(prefix) if prefix else real()

        return call


def unavailable(refuses: bool) -> StorageUnavailable:
    """What the storage raises."""
    return StorageUnavailable("Forbidden", 403) if refuses else StorageUnavailable("Timeout")
