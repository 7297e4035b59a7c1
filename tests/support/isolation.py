"""Who may do what to a chat in which state: what is expected, as a person reads it.

A row is a route and the states of the chat in which it answers so. Its columns are those who ask:

nobody      without a login           client      whose request it is
stranger    another client            admin       who handles it
nurse       a user without a role     other       another admin
disabled    the client, disabled since they logged in
left        the client, after a logout

A cell is ``ok``, or the code of the error. While the flag is off every cell is ``disabled``; see :func:`off`.
"""

from __future__ import annotations

from typing import NamedTuple

ACTORS = ("nobody", "stranger", "nurse", "client", "admin", "other", "disabled", "left")
STATES = ("none", "open", "closed", "purged")

TABLE = """
route           states                  | nobody stranger nurse  client admin  other  disabled left
open            none open closed purged | login  no       no     ok     ok     ok     login    login
thread          none                    | login  missing  missing missing missing missing login login
thread          open closed purged      | login  no       no     ok     ok     ok     login    login
messages        none                    | login  missing  missing missing missing missing login login
messages        open closed purged      | login  no       no     ok     ok     ok     login    login
post            none                    | login  missing  missing missing missing missing login login
post            open                    | login  no       no     ok     ok     ok     login    login
post            closed purged           | login  no       no     closed closed closed login    login
upload          none                    | login  missing  missing missing missing missing login login
upload          open                    | login  no       no     ok     ok     ok     login    login
upload          closed purged           | login  no       no     closed closed closed login    login
close           none                    | login  missing  missing missing missing missing login login
close           open closed purged      | login  no       no     ok     ok     ok     login    login
stream          none                    | login  missing  missing missing missing missing login login
stream          open closed purged      | login  no       no     ok     ok     ok     login    login
receipt         none                    | login  missing  missing missing missing missing login login
receipt         open                    | login  no       no     early  early  early  login    login
receipt         closed purged           | login  no       no     ok     ok     ok     login    login
inbox           none open closed purged | login  ok       ok     ok     ok     ok     login    login
inbox-stream    none open closed purged | login  ok       ok     ok     ok     ok     login    login
receipt-key     none open closed purged | login  ok       ok     ok     ok     ok     login    login
openapi         none open closed purged | login  ok       ok     ok     ok     ok     login    login
widget          none open closed purged | login  ok       ok     ok     ok     ok     login    login
metrics         none open closed purged | login  missing  missing missing missing missing login login
nothing         none open closed purged | login  missing  missing missing missing missing login login
media-put       none open closed purged | forged forged   forged forged forged forged forged   forged
media-get       none open closed purged | forged forged   forged forged forged forged forged   forged
"""

ANSWERS = {
    "ok": (200, None),
    "login": (401, "unauthenticated"),
    "no": (403, "forbidden"),
    "closed": (403, "thread_closed"),
    "forged": (403, "bad_signature"),
    "missing": (404, "not_found"),
    "early": (404, "not_closed"),
    "disabled": (501, "disabled"),
}
"""Status and code of each word."""

ROUTES = {
    "open": ("POST", "/api/requests/{request}/chat/open"),
    "thread": ("GET", "/api/chat/threads/{thread}"),
    "messages": ("GET", "/api/chat/threads/{thread}/messages"),
    "post": ("POST", "/api/chat/threads/{thread}/messages"),
    "upload": ("POST", "/api/chat/threads/{thread}/uploads"),
    "close": ("PATCH", "/api/chat/threads/{thread}/close"),
    "stream": ("GET", "/api/chat/threads/{thread}/stream?lastEventId=0"),
    "receipt": ("GET", "/api/chat/threads/{thread}/receipt"),
    "inbox": ("GET", "/api/chat/threads"),
    "inbox-stream": ("GET", "/api/chat/stream"),
    "receipt-key": ("GET", "/api/chat/receipt-key"),
    "openapi": ("GET", "/api/chat/openapi.json"),
    "widget": ("GET", "/api/chat/widget/nursecare-chat.js"),
    "metrics": ("GET", "/api/chat/metrics"),
    "nothing": ("GET", "/api/chat/nothing"),
    "media-put": ("PUT", "/api/chat/media/forged"),
    "media-get": ("GET", "/api/chat/media/forged"),
}
BODIES = {
    "post": {"type": "text", "text": "from the matrix"},
    "upload": {"contentType": "image/png", "size": 100},
}


class Cell(NamedTuple):
    route: str
    state: str
    actor: str
    word: str


def cells() -> list[Cell]:
    """The table, cell by cell; every route in every state for everybody, once each."""
    found = []
    for line in TABLE.strip().splitlines()[1:]:
        left, right = line.split("|")
        route, *states = left.split()
        for state in states:
            found += [Cell(route, state, actor, word) for actor, word in zip(ACTORS, right.split(), strict=True)]
    assert sorted({cell[:3] for cell in found}) == sorted((r, s, a) for r in ROUTES for s in STATES for a in ACTORS)
    assert len(found) == len({cell[:3] for cell in found})
    return found


def off(cell: Cell) -> Cell:
    """With the flag off nobody learns anything (C11)."""
    return cell._replace(word="disabled")
