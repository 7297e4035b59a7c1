"""One host with a database of its own, and a number of requests there: every operation alone, then along the links."""

from __future__ import annotations

import json
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from schemathesis import GenerationMode
from schemathesis.generation.stateful.state_machine import StepOutput
from schemathesis.specs.openapi.stateful.links import OpenApiLink

from ..databases import Databases
from ..pictures import picture
from .checks import as_curl, complaints, strangers
from .document import Cases, Document, follow
from .people import ADMINS, CLIENTS, EVERYBODY, NOBODY, People
from .tally import Failure, Tally

SOUND, UNSOUND = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
ALONG = {
    "open_thread": 4,
    "list_threads": 3,
    "show_thread": 4,
    "list_messages": 8,
    "post_message": 14,
    "issue_upload": 8,
    "put_media": 12,
    "get_media": 7,
    "close_thread": 1.5,
    "stream_thread": 6,
    "stream_inbox": 2,
    "show_receipt": 3,
    "show_receipt_key": 1,
    "show_document": 0.5,
}
"""How often each operation is asked along the links; the document itself takes 25 ms."""

ALONE_TOO = {**dict.fromkeys(ALONG, 3), "post_message": 10, "issue_upload": 6, "list_messages": 6, "show_document": 0.5}
"""The same for every operation alone: more where there is more to get wrong."""

ALONE = 0.35
"""The part of the requests in which every operation is asked alone."""

OPEN_EVERY = 25
"""Requests until the next chat is opened; on the way others are closed."""

PHOTOS = {kind: picture(kind, (9, 7)) for kind in ("image/jpeg", "image/png", "image/webp")}


class Stop(Exception):
    """Enough."""


class Step(NamedTuple):
    """What may be asked next: a link, the exchange that it follows, and whose that was."""

    link: OpenApiLink
    output: StepOutput
    who: str
    thread: int | None


class Round:
    """
    :param host: one of ``HOSTS``; :param seed: of everything that is chosen or made.
    :param requests: about so many are made, of :data:`ALONE` every operation alone.
    :param progress: called after each request; may raise :class:`Stop`.
    :ivar operations: the ids of all.
    """

    def __init__(
        self, host: str, databases: Databases, folder: Path, seed: int, requests: int, progress: Callable[[], None]
    ) -> None:
        self.tally = Tally()
        self._host, self._seed, self._requests, self._progress = host, seed, requests, progress
        self._random = Random(seed)
        self._people = People(host, folder, databases)
        self._document = Document(self._people.show_document())
        self.operations = set(self._document.operations)
        self._cases = Cases(self._document, seed * 100_000, max(5, requests // 80))
        self._steps: dict[str, deque[Step]] = {name: deque(maxlen=40) for name in self._document.operations}
        self._owners: dict[Any, str] = {}  # of threads
        self._photos: deque[Step] = deque(maxlen=20)  # uploaded, and yet to be posted

    def run(self) -> Tally:
        """What came of it."""
        try:
            while self.tally.requests < self._requests * ALONE:
                self._ask_alone()
            while self.tally.requests < self._requests:
                if self._random.random() < 1 / OPEN_EVERY or not any(self._steps.values()):
                    self._open("client2" if self._random.random() < 0.2 else "client")
                else:
                    self._walk()
        except Stop:
            pass
        finally:
            self._people.close()
        return self.tally

    # -- every operation alone -----------------------------------------------------------------------------------

    def _ask_alone(self) -> None:
        """As it was made; and with ids that name something, else nearly all would end at a 404."""
        name = self._one_of(ALONE_TOO)
        for mode in (SOUND, UNSOUND):
            case = self._cases.take(name, mode)
            if case is None:
                continue
            if self._random.random() < 0.7:
                who, ids = self._somebodys_ids()
                who = who if self._random.random() < 0.8 else self._anybody()
                known = {key: value for key, value in ids.items() if key in (case.path_parameters or {})}
                if known:
                    case.path_parameters = {**case.path_parameters, **known}
            else:
                who = self._random.choice(EVERYBODY)
            self._send(who, name, case, mode)

    def _somebodys_ids(self) -> tuple[str, dict[str, Any]]:
        steps = [step for step in self._steps["show_thread"] if step.thread is not None]
        if not steps or self._random.random() < 0.05:
            self._open("client")
            steps = [*self._steps["show_thread"]]
        if not steps:  # none could be opened
            return self._anybody(), {}
        step = steps[-1] if self._random.random() < 0.6 else self._random.choice(steps)
        ids = {} if step.thread is None else {"threadId": step.thread}
        return step.who, {**(step.output.case.path_parameters or {}), **ids}

    # -- along the links -----------------------------------------------------------------------------------------

    def _open(self, who: str) -> None:
        """A fresh request, and its chat; often with something in it that others must not see."""
        request = self._people.new_request(who)
        if self._random.random() < 0.3:
            self._people.speak(who, request)
        case = self._cases.plain("open_thread")
        case.path_parameters = {"requestId": request}
        response = self._send(who, "open_thread", case, SOUND)
        if response is not None and response.status_code == 200:
            self._owners[json.loads(response.content)["threadId"]] = who
        if self._random.random() < 0.2:
            self._people.change(self._random.choice(EVERYBODY[:-1]))

    def _walk(self) -> None:
        step = self._choose()
        mode = UNSOUND if self._random.random() < 0.15 else SOUND
        name = step.link.target.definition.raw["operationId"]
        case = (mode is UNSOUND and self._cases.take(name, mode)) or self._cases.plain(name)
        body = case.body
        if not follow(step.link, step.output, case):
            return
        if mode is UNSOUND and self._document.takes(name, body) is not None:
            case.body = body  # it is about this thread all the same
        who = step.who if self._random.random() < 0.7 else self._anybody()
        extra: dict[str, Any] = {}
        if name == "put_media" and mode is SOUND:
            extra = self._photo(step)
        if name == "issue_upload" and mode is SOUND and self._random.random() < 0.8:
            case.body = {**case.body, "size": max(case.body["size"], 5_000)}
        response = self._send(who, name, case, mode, **extra)
        if response is None or response.status_code >= 300:
            return
        self.tally.followed[step.link.full_name] += 1
        if name == "put_media":
            self._photos += self._siblings(step, "post_image")

    def _choose(self) -> Step:
        if self._photos and self._random.random() < 0.3:
            return self._photos.popleft()
        stocked = {name: ALONG[name] for name, steps in self._steps.items() if steps}
        steps = self._steps[self._one_of(stocked)]
        return steps[-1] if self._random.random() < 0.3 else self._random.choice(steps)

    def _siblings(self, step: Step, link: str) -> list[Step]:
        """What else may follow the same exchange."""
        name = step.output.case.operation.definition.raw["operationId"]
        links = self._document.links[name, step.output.response.status_code]
        return [step._replace(link=one) for one in links if one.name == link]

    def _photo(self, step: Step) -> dict[str, Any]:
        """What a browser would send there; sometimes another one, or a part of it."""
        try:
            headers = json.loads(step.output.response.content)["headers"]
        except (ValueError, KeyError):
            headers = {"Content-Type": "image/png"}
        photo = PHOTOS[headers["Content-Type"]]
        chance = self._random.random()
        if chance < 0.05:
            photo = photo[: self._random.randrange(len(photo))]
        elif chance < 0.1:
            photo = self._random.choice([*PHOTOS.values()])
        return {"headers": headers, "data": photo}

    def _one_of(self, weights: dict[str, float]) -> str:
        return self._random.choices([*weights], [*weights.values()])[0]

    def _anybody(self) -> str:
        return self._random.choice((*CLIENTS, *ADMINS, "client", "admin", "nurse", NOBODY))

    # -- one request ---------------------------------------------------------------------------------------------

    def _send(self, who: str, name: str, case: Any, mode: GenerationMode, **extra: Any) -> Any | None:
        if who != NOBODY:
            case.cookies = {}  # else a made one takes the place of the login
        status, response, wrong = 500, None, []
        try:
            response = case.call(session=self._people.clients[who], app=self._people.bench.app, **extra)
            status = response.status_code
            wrong = [*complaints(self._document, name, case, response, who, mode)]
            wrong += strangers(self._owners, name, case, response, who)
        except Exception as error:
            wrong = [(f"raises {type(error).__name__}", "".join(traceback.format_exception(error)[-6:]))]
        self.tally.answers[name, status] += 1
        self.tally.wrong += bool(wrong)
        for check, message in wrong:
            shown = as_curl(response.request) if response is not None else f"{case.method} {case.formatted_path}"
            self.tally.fail(
                Failure(name, status, check, f"as {who}: {message}", shown, self._host, self._seed, self._requests)
            )
        if response is not None and status < 300:
            self._stock(StepOutput(response, case), name, who)
        self._progress()
        return response

    def _stock(self, output: StepOutput, name: str, who: str) -> None:
        thread = (output.case.path_parameters or {}).get("threadId")
        if name == "open_thread":
            thread = json.loads(output.response.content)["threadId"]
        if name == "close_thread":
            self._forget(thread)
        for link in self._document.links[name, output.response.status_code]:
            target = link.target.definition.raw["operationId"]
            self._steps[target].append(Step(link, output, who, thread))

    def _forget(self, thread: Any) -> None:
        """Most of what led to a thread that is closed now, or all would end there."""
        for name, steps in self._steps.items():
            if name != "show_receipt":
                kept = [step for step in steps if step.thread != thread or self._random.random() < 0.2]
                self._steps[name] = deque(kept, steps.maxlen)
