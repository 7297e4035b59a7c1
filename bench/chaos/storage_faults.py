"""Azure's storage that refuses, fails, does not answer, or does half of what it is told (contract C25, C37 to C40)."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest.mock import patch

import httpx
import sqlalchemy as sa

from nursecare_chat.service.receipts import content, verify
from nursecare_chat.storage import azure_account, names
from nursecare_chat.testing import advance
from tests.support import azurite
from tests.support.databases import Databases
from tests.support.faulty import CUT, GONE, PAGE, TIMEOUT, Faulty, Request, everything
from tests.support.hosts import HOSTS, Workbench
from tests.support.photos import issue
from tests.support.photos import post as post_photo
from tests.support.pictures import JPEG

from .outcome import NEITHER, Fault, Outcome, Size

BLOB = b"\xff\xd8\xff" + bytes(500)
ANSWER = 1
"""Seconds for which an answer is waited for here, in place of ten."""

WAITS = (5, 30, 60, 120, 300, 300, 300)
"""Seconds after each attempt at a purge that fails, by the contract; after the fifth it is stalled."""

TRANSIENT = ("500", "503", TIMEOUT, CUT, GONE, PAGE, "503")
"""What each of them meets."""


class Store:
    """A host whose photos are in Azurite behind a proxy that fails, and a look at them past it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        self._azurite = azurite.Server()
        self.faulty = Faulty(self._azurite.url)
        self.faulty.seconds = ANSWER + 2
        self.databases = Databases(self.folder)
        container = f"chaos-{uuid.uuid4().hex}"
        settings = {
            "CHAT_STORAGE_URL": f"azure://{container}",
            "CHAT_AZURE_CONNECTION_STRING": self.faulty.connection_string,
            "CHAT_QUEUE_URL": "sqlite://",
        }
        with patch.object(azure_account, "ANSWER", ANSWER):
            self.bench = Workbench(HOSTS["reference-postgresql"], self.folder, self.databases, settings)
            self.purges: Any = self.bench.state.purges
            self.purges._wake = lambda thread, delay: None  # nobody but us attempts
            self.bench.state.storage.create()
        self.behind = azurite.storage(self._azurite.connection_string, container)
        self.client = self.bench.login("client")

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.bench.close()
        self.databases.close()
        self.faulty.close()
        self._azurite.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def open(self) -> int:
        with self.bench.app.app_context():
            request_id = self.bench.host.new_request("client")
        thread: int = self.client.open(request_id).get_json()["threadId"]
        return thread

    def closed(self, blobs: int) -> int:
        """A closed thread with so many photos and a message."""
        thread = self.open()
        for _ in range(blobs):
            self.behind.write(names.new_name(thread, "image/jpeg"), BLOB)
        assert self.client.say(thread, "canary").status_code == 200
        assert self.client.close(thread).status_code == 200
        return thread

    def row(self, thread: int) -> Any:
        purges = self.bench.state.models.purges
        with self.bench.state.database.read() as connection:
            return connection.execute(sa.select(purges).where(purges.c.thread_id == thread)).one()

    def waits(self, thread: int) -> float:
        """Seconds until the next attempt, by the clock of the purges."""
        purges, clock = self.bench.state.models.purges, self.bench.state.clock
        with self.bench.state.database.read() as connection:
            query = sa.select(purges.c.next_attempt_at, clock.utcnow()).where(purges.c.thread_id == thread)
            at, now = connection.execute(query).one()
        return float((at - now).total_seconds())

    def settle(self, thread: int) -> None:
        """Let time pass, and attempt whenever it is due, until there is nothing more to do."""
        for _ in range(10):
            if self.row(thread).state == "settled":
                return
            advance(self.bench.app, max(0, int(self.waits(thread))) + 1)
            self.purges.run(thread)

    def left(self, thread: int) -> int:
        """Blobs, and rows that still say something."""
        messages = self.bench.state.models.messages
        written = [column.is_not(None) for column in (messages.c.text, messages.c.media_path)]
        with self.bench.state.database.read() as connection:
            query = sa.select(sa.func.count()).where(messages.c.thread_id == thread, sa.or_(*written))
            rows = int(connection.scalar(query) or 0)
        return rows + len(self.behind.listing(names.prefix(thread)))

    def erased(self, outcome: Outcome, thread: int, blobs: int | None = None) -> None:
        """Nothing is left, and one receipt says so and is signed."""
        self.settle(thread)
        row = self.row(thread)
        outcome.left = (outcome.left or 0) + self.left(thread)
        outcome.check(row.state == "settled", f"the purge ended {row.state}")
        receipt = self.client.call("GET", f"/api/chat/threads/{thread}/receipt").get_json()
        signed = verify(content(row) | {"signature": row.signature}, self.bench.state.receipts._key.public())
        outcome.check(signed and receipt["signature"], "the receipt is not signed, or not by us")
        if blobs is not None:
            outcome.check(row.blobs_found == blobs, f"the receipt counts {row.blobs_found} of {blobs} photos")


@contextmanager
def alerts() -> Iterator[list[str]]:
    """What the purges log as errors meanwhile."""
    said: list[str] = []
    handler, log = logging.Handler(logging.ERROR), logging.getLogger("nursecare_chat.service.purges")
    handler.emit = lambda record: said.append(record.getMessage())
    disabled, propagates = logging.root.manager.disable, log.propagate
    logging.disable(logging.WARNING)
    log.addHandler(handler)
    log.propagate = False
    try:
        yield said
    finally:
        log.removeHandler(handler)
        log.propagate = propagates
        logging.disable(disabled)


def refuses(outcome: Outcome, size: Size, kind: str, share: float) -> None:
    """It will not delete, whenever it is asked; later it does."""
    with Store() as store:
        thread = store.closed(size.blobs)
        with store.faulty.failing(kind, only=lambda request: request.deletes, share=share), alerts() as said:
            for attempt in (1, 2):
                store.purges.run(thread)
                row = store.row(thread)
                outcome.check((row.state, row.attempts) == ("blocked", attempt), f"it is {row.state}, not blocked")
                shown = store.client.call("GET", f"/api/chat/threads/{thread}/receipt").get_json()
                outcome.check(not (row.signature or shown["signature"]), "a receipt is signed that is not true")
                there = len(store.behind.listing(names.prefix(thread)))
                assert there == size.blobs, f"only {there} of {size.blobs} photos could not be deleted"
                advance(store.bench.app, int(store.waits(thread)) + 1)
        outcome.check(said == ["chat purge blocked"] * 2, f"the alerts were {said}")
        store.erased(outcome, thread, size.blobs)


def forbidden(outcome: Outcome, size: Size) -> None:
    refuses(outcome, size, "403", 0)


def immutable(outcome: Outcome, size: Size) -> None:
    refuses(outcome, size, "409", 1)


def transient(outcome: Outcome, size: Size) -> None:
    """Something else each time; between attempts nobody tries."""
    with Store() as store, alerts() as said:
        thread = store.closed(size.blobs)
        for attempt, kind in enumerate(TRANSIENT, 1):
            with store.faulty.failing(kind):
                store.purges.run(thread)
            row, waits = store.row(thread), store.waits(thread)
            stalled, delay = attempt >= 5, WAITS[attempt - 1]
            outcome.check(abs(waits - delay) < 3, f"the next attempt after {attempt} is in {waits:.0f} s, not {delay}")
            outcome.check((row.state == "stalled") is stalled, f"after {attempt} attempts it is {row.state}")
            outcome.check(row.signature is None, "a receipt is signed that is not true")
            early = store.purges.run(thread) or store.row(thread).attempts != attempt
            outcome.check(not early, f"attempt {attempt + 1} was made before its time")
            advance(store.bench.app, delay + 1)
        outcome.check(said == ["chat purge stalled"] * 3, f"the alerts were {said}")
        store.erased(outcome, thread, size.blobs)


def half_batches(outcome: Outcome, size: Size) -> None:
    """More than one batch, and half of every one fails, each time for another reason."""
    with Store() as store:
        for kind in ("503", "500", "409"):
            blobs = 7 * size.blobs
            thread = store.closed(blobs)
            with store.faulty.failing(kind, share=0.5):
                store.purges.run(thread)
            store.erased(outcome, thread, blobs)
            outcome.check(store.row(thread).attempts == 1, "it took more than one attempt")
        outcome.check(store.faulty.injected.total() >= 3 * blobs // 2, "less than half of the deletions failed")


def photos(outcome: Outcome, size: Size) -> None:
    """A post of a photo reads it and writes a copy without metadata; the storage fails at either."""

    def writes(request: Request) -> bool:
        return request.method == "PUT"

    with Store() as store:
        outcome.posted, outcome.lost, outcome.doubled, outcome.longest = 0, 0, 0, 0.0
        thread = store.open()
        tried = [
            (kind, only) for kind in ("500", "503", "403", CUT, GONE, PAGE, TIMEOUT) for only in (everything, writes)
        ]
        for number, (kind, only) in enumerate(tried):
            issued = issue(store.client, thread, size=len(JPEG)).get_json()
            put = httpx.put(issued["uploadUrl"], content=JPEG, headers=issued["headers"])
            assert put.status_code == 201, put.text
            began = time.monotonic()
            with store.faulty.failing(kind, only):
                answer = post_photo(store.client, thread, issued["mediaPath"], clientMessageId=str(number))
            outcome.longest = max(outcome.longest, time.monotonic() - began)
            polite = (answer.status_code, answer.get_json().get("code")) == (503, "unavailable")
            outcome.check(polite and answer.headers.get("Retry-After"), f"{kind}: answered {answer.status_code}")
            before = len(store.client.messages(thread, limit=50).get_json()["messages"])
            outcome.check(before == number, f"{kind}: a message of a post that was not acknowledged")
            again = [
                post_photo(store.client, thread, issued["mediaPath"], clientMessageId=str(number)) for _ in range(2)
            ]
            ids = {one.get_json().get("id") for one in again if one.status_code == 200}
            outcome.posted += 1
            outcome.lost += not ids
            outcome.doubled += max(0, len(ids) - 1)
        shown = store.client.messages(thread, limit=50).get_json()["messages"]
        outcome.doubled += max(0, len(shown) - len(tried))
        seen = sum(httpx.get(one["media_url"]).status_code == 200 for one in shown)
        outcome.check(seen == len(tried), f"{seen} of {len(tried)} photos can be seen")
        assert store.client.close(thread).status_code == 200
        store.purges.run(thread)
        store.erased(outcome, thread)


ONCE = (NEITHER,)
FAULTS = (
    Fault("storage 403", "purge blocked with an alert, no receipt; erased once it may", forbidden, ONCE),
    Fault("storage 409 immutable", "purge blocked with an alert, no receipt; erased once it may", immutable, ONCE),
    Fault(
        "storage 500, 503, time-out, cut",
        "tried again after 5, 30, 60, 120 s, then stalled with an alert, each 300 s; one signed receipt in the end",
        transient,
        ONCE,
    ),
    Fault("storage fails half of a batch", "the rest again, in the same attempt; a signed receipt", half_batches, ONCE),
    Fault("storage fails at a photo's post", "503 with Retry-After; sent again: one row, the photo seen", photos, ONCE),
)
