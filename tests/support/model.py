"""A chat in a hundred lines: what must come of whatever anybody does (contract C10, C17 to C40). Times in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field

LEASE, TTL, LATE, APART, WAITING = 60, 900, 20 * 60, 60, 5
DELAYS, STALLED, ADMINS = (5, 30, 60, 120), 300, ("admin", "admin2")


@dataclass(eq=False)
class Message:
    seq: int
    sender: str
    body: tuple[object, ...]  # its type, and what that needs
    key: str | None  # the clientMessageId


@dataclass(eq=False)
class Upload:
    path: str
    sender: str
    until: int  # from then on it can write no more
    put: bool = False
    posted: bool = False


@dataclass(eq=False)
class Purge:
    due: int
    leased: int = 0
    attempts: int = 0
    failures: int = 0
    state: str = "pending"
    erased: bool | None = False  # None: perhaps, for an attempt was broken off
    empty: int = 0  # looks in a row that found nothing, after the horizon

    def free(self, now: int) -> bool:
        return self.state != "settled" and self.due <= now and self.leased <= now

    def done(self, now: int, horizon: int, found: bool) -> None:
        first, self.attempts, self.failures, self.leased = self.erased is not True, self.attempts + 1, 0, 0
        self.empty = 0 if first or found or horizon > now else self.empty + 1
        self.due = horizon if horizon > now else now + APART
        self.state = "settled" if horizon <= now and (first or self.empty == 2) else "purged"
        self.erased = True

    def failed(self, now: int, refused: bool) -> None:
        self.due = now + (*DELAYS, STALLED)[min(self.failures, len(DELAYS))]
        self.attempts, self.failures, self.leased = self.attempts + 1, self.failures + 1, 0
        self.state = "blocked" if refused else "stalled" if self.failures > len(DELAYS) else self.state
        self.erased = self.erased or None

    def killed(self, now: int) -> None:
        self.attempts, self.leased, self.erased = self.attempts + 1, now + LEASE, self.erased or None


@dataclass(eq=False)
class Thread:
    id: int
    client: str
    admin: str | None = None
    messages: list[Message] = field(default_factory=list)
    uploads: list[Upload] = field(default_factory=list)
    purge: Purge | None = None  # it is closed

    def may(self, who: str) -> bool:
        return who == self.client or who in ADMINS

    def listed(self, who: str) -> bool:
        return who == self.client or (who in ADMINS and self.admin in (None, who))

    def claim(self, who: str) -> None:
        self.admin = who if self.admin is None and self.purge is None and who in ADMINS else self.admin

    def post(self, who: str, body: tuple[object, ...], key: str | None, now: int) -> Message | int:
        upload = next((one for one in self.uploads if body == ("image", one.path)), None)
        earlier = next((one for one in self.messages if key and (one.sender, one.key) == (who, key)), None)
        if not self.may(who) or self.purge:
            return 403
        if body[0] == "image" and not (upload and upload.sender == who and upload.put):
            return 422
        if earlier or (upload and upload.posted):
            return earlier if earlier and earlier.body == body else 422
        if upload:
            upload.posted, upload.until = True, max(upload.until, now)
        self.claim(who)
        self.messages += [Message(len(self.messages) + 1, who, body, key)]
        return self.messages[-1]

    def issue(self, who: str, now: int) -> int:
        waiting = [one for one in self.uploads if one.sender == who and not one.posted and one.until > now]
        return 403 if not self.may(who) or self.purge else 429 if len(waiting) >= WAITING else 200

    def close(self, now: int) -> bool:
        first, self.purge = self.purge is None, self.purge or Purge(due=now)
        return first

    def horizon(self) -> int:
        return max((one.until + LATE for one in self.uploads), default=0)
