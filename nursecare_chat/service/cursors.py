"""Where an inbox's stream is, in all of its threads at once: what its ``id:`` says (contract C46).

Ids of messages do not help across threads: a lower one of another thread may be committed later. So an id says what
of the database was *visible* when everything visible had been sent, by the database's own account, :class:`Mark`.

PostgreSQL
    The snapshot's bounds: transactions below ``seen`` were over, from ``ahead`` on none had begun. A row that was not
    visible is from a transaction from ``seen`` on, which its ``xmin`` shows, however long that took to commit,
    savepoints and two phases included. A few of those were visible: they are repeated.
SQLite
    One writer at a time: messages are committed in the order of their ids, ``seen``, and nothing is stamped before what
    was committed earlier, ``moment`` being the latest of that.

Rows are looked up by their times from :data:`OVERLAP` before ``moment``, along indexes; that is for how long a
transaction may go on after its statement: ours are limited to seconds, the host's that calls ``chat.close_request``
may take its hour. What leaves no such trace is seen by a sum over the threads that the stream had: one that was
claimed by somebody else or given up, was forgotten, is hidden or shown by the policy now, or was closed by a
transaction that took longer still. Which of the newest threads it had, where many may have been opened at once, the id
says one by one. If what is there now does not explain that, the client is told to load its list anew.

An id is for its user and this application: it is signed, so that one from elsewhere is garbage instead of a gap. It has
no content; whoever has it can read of which of the newest threads the user was told.
"""

from __future__ import annotations

import hmac
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import blake2b, sha256
from itertools import combinations
from typing import Any, NamedTuple

from ..keys import wire

OVERLAP = {"postgresql": 3600, "sqlite": 60}
"""Seconds; on SQLite for a clock that was set back."""

TOO_OLD = timedelta(days=1)
"""What has been away for longer loads its list anew: that costs less than looking for what happened."""

EPOCH = datetime(1970, 1, 1)
NEWEST = 512
"""Threads, of everybody's, of which an id says one by one whether the stream had them."""

FORM = struct.Struct(f">qqqqQ{NEWEST // 8}s")
SIGNATURE_BYTES = 16
WRITTEN = re.compile("[A-Za-z0-9_-]{160}")
BITS = 0xFFFFFFFFFFFFFFFF
UNSURE = 100
"""Threads, of which the sum is tried with up to two here or there."""


class Mark(NamedTuple):
    """What was visible: see above. ``threads`` is the greatest thread's id."""

    moment: datetime
    seen: int
    ahead: int
    threads: int

    def covers_too_little(self, now: Mark) -> bool:
        """Whether it is of another database, or too old."""
        return self.seen > now.ahead or now.moment - self.moment > TOO_OLD or self.moment - now.moment > TOO_OLD


def earliest(marks: Iterable[Mark]) -> Mark:
    """One that covers nothing that one of these does not."""
    return Mark(*(min(values) for values in zip(*marks, strict=True)))


class Cursor(NamedTuple):
    """
    :ivar total: the sum over the threads that the stream had at ``mark``.
    :ivar newest: those of the last :data:`NEWEST` threads that it had.
    """

    mark: Mark
    total: int
    newest: frozenset[int]

    def explain(self, guess: set[int], unsure: set[int]) -> set[int] | None:
        """The threads that the stream had, if those are ``guess`` but for some of the newest, and up to two others,
        that it is ``unsure`` of.
        """
        floor = self.mark.threads - NEWEST
        otherwise = {thread for thread in guess ^ self.newest if thread > floor}
        if not otherwise <= unsure:
            return None
        guess = guess ^ otherwise
        candidates = sorted(thread for thread in unsure if thread <= floor)[-UNSURE:]
        turned = {thread: -_share(thread) if thread in guess else _share(thread) for thread in candidates}
        missing = self.total - total(guess)
        for count in range(3):
            for some in combinations(candidates, count):
                if (missing - sum(turned[thread] for thread in some)) & BITS == 0:
                    return guess.symmetric_difference(some)
        return None


class Cursors:
    """
    :param secrets: gives the keys to sign with, the present one first.
    """

    def __init__(self, secrets: Callable[[], list[bytes]]) -> None:
        self._secrets = secrets

    def encode(self, user_id: Any, mark: Mark, threads: Iterable[int]) -> str:
        """160 characters, all of which may stand in a header and an address.

        Of a thread that was opened behind ``mark`` it says nothing: the stream is told of it again.
        """
        moment = (mark.moment - EPOCH) // timedelta(microseconds=1)
        covered = [thread for thread in threads if thread <= mark.threads]
        body = FORM.pack(moment, *mark[1:], total(covered), _pack(covered, mark.threads))
        return urlsafe_b64encode(body + _sign(self._secrets()[0], user_id, body)).decode("ascii")

    def decode(self, user_id: Any, text: str) -> Cursor | None:
        """``None`` for what is no id of this user's."""
        if not WRITTEN.fullmatch(text):
            return None
        raw = urlsafe_b64decode(text)
        body, signature = raw[: FORM.size], raw[FORM.size :]
        signatures = [_sign(secret, user_id, body) for secret in self._secrets()]
        if not any(hmac.compare_digest(signature, one) for one in signatures):
            return None
        moment, seen, ahead, threads, sum_, newest = FORM.unpack(body)
        mark = Mark(EPOCH + timedelta(microseconds=moment), seen, ahead, threads)
        return Cursor(mark, sum_, _unpack(newest, threads))


def total(threads: Iterable[int]) -> int:
    """A sum that only these threads have, as far as anybody will see."""
    return sum(map(_share, threads)) & BITS


def _pack(threads: Iterable[int], last: int) -> bytes:
    """A bit for each of the :data:`NEWEST` threads up to ``last``."""
    bits = sum(1 << (last - thread) for thread in threads if thread > last - NEWEST)
    return bits.to_bytes(NEWEST // 8)


def _unpack(packed: bytes, last: int) -> frozenset[int]:
    bits = int.from_bytes(packed)
    return frozenset(last - place for place in range(bits.bit_length()) if bits >> place & 1)


@lru_cache(1 << 16)
def _share(thread: int) -> int:
    return int.from_bytes(blake2b(thread.to_bytes(8), digest_size=8).digest())


def _sign(secret: bytes, user_id: Any, body: bytes) -> bytes:
    return hmac.digest(secret, f"inbox|{wire(user_id)}|".encode() + body, sha256)[:SIGNATURE_BYTES]
