"""The OpenAPI document, as what requests are made of: cases of each operation, sound and unsound, and its links."""

from __future__ import annotations

import copy
from collections import deque
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.core.transforms import Unresolvable
from schemathesis.generation.stateful.state_machine import StepOutput
from schemathesis.specs.openapi.stateful.links import OpenApiLink

JSON, STREAM = "application/json", "text/event-stream"
USES = 4
"""By other people, of other chats, in another state; to make one takes twice as long as to send it."""


class Document:
    """
    :ivar operations: by their ids.
    :ivar links: by operation and status of the answer that they follow.
    :ivar with_login: the operations that say that they need one.
    """

    def __init__(self, shown: dict[str, Any]) -> None:
        shown = _with_events(shown)
        self.schema = schemathesis.openapi.from_dict(shown)
        self.operations: dict[str, Any] = {}
        self.links: dict[tuple[str, int], list[OpenApiLink]] = {}
        self.with_login: set[str] = set()
        self._bodies: dict[str, Draft202012Validator] = {}
        for result in self.schema.get_all_operations():
            operation = result.ok()
            self._add(operation, shown["paths"][operation.path][operation.method], shown["components"])

    def _add(self, operation: Any, raw: dict[str, Any], components: dict[str, Any]) -> None:
        name = raw["operationId"]
        self.operations[name] = operation
        if raw["security"]:
            self.with_login.add(name)
        if schema := raw.get("requestBody", {}).get("content", {}).get(JSON):
            self._bodies[name] = Draft202012Validator(schema["schema"] | {"components": components})
        for status, answer in raw["responses"].items():
            self.links[name, int(status)] = [
                OpenApiLink(link, status, definition, operation) for link, definition in answer.get("links", {}).items()
            ]

    def takes(self, name: str, body: Any) -> bool | None:
        """Whether the document has such a JSON body for that operation; ``None`` if it takes no JSON."""
        return self._bodies[name].is_valid(body) if name in self._bodies else None


class Cases:
    """Made ahead, ``batch`` of a kind at a time, each for :data:`USES` requests; the same for the same ``start``."""

    def __init__(self, document: Document, start: int, batch: int) -> None:
        self._document, self._start, self._batch = document, start, batch
        self._ready: dict[tuple[str, GenerationMode], deque[Any]] = {}
        self._barren: set[tuple[str, GenerationMode]] = set()

    def take(self, name: str, mode: GenerationMode = GenerationMode.POSITIVE) -> Any | None:
        """The next one, or ``None`` where nothing can be unsound."""
        key = (name, mode)
        if key in self._barren:
            return None
        if not self._ready.get(key):
            self._ready[key] = deque(self._make(name, mode) * USES)
        if not self._ready[key]:
            self._barren.add(key)
            return None
        made = self._ready[key].popleft()
        return made.operation.Case(
            path_parameters={**made.path_parameters},
            headers=made.headers.copy(),
            cookies={**made.cookies},
            query={**made.query} if isinstance(made.query, dict) else made.query,
            body=copy.copy(made.body) if isinstance(made.body, (dict, list)) else made.body,
            media_type=made.media_type,
        )

    def plain(self, name: str) -> Any:
        """One for a link that says all that there is to say."""
        operation = self._document.operations[name]
        return self.take(name) if operation.body or operation.query or operation.headers else operation.Case()

    def _make(self, name: str, mode: GenerationMode) -> list[Any]:
        made: list[Any] = []
        self._start += 1

        @seed(self._start)
        @settings(
            max_examples=self._batch,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=self._document.operations[name].as_strategy(generation_mode=mode))
        def collect(case: Any) -> None:
            made.append(case)

        try:
            collect()
        except Unsatisfiable:
            return []
        return made


def follow(link: OpenApiLink, output: StepOutput, case: Any) -> bool:
    """Put into ``case`` what the link says; ``False`` if the answer does not have it, as one without a next page."""
    transition = link.extract(output)
    values = {}
    for container, parameters in transition.parameters.items():
        for name, parameter in parameters.items():
            value = parameter.value.ok() if isinstance(parameter.value, Ok) else None
            if value is None or isinstance(value, Unresolvable):
                return False
            values.setdefault(container, {})[name] = value
    if transition.request_body is not None:
        body = transition.request_body.value.ok() if isinstance(transition.request_body.value, Ok) else None
        if body is None or isinstance(body, Unresolvable):
            return False
        case.body = body
    for container, parameters in values.items():
        setattr(case, container.value if hasattr(container, "value") else container, parameters)
    return True


def _with_events(shown: dict[str, Any]) -> dict[str, Any]:
    """The document with what an event is in place of "a string": OpenAPI 3.1 has no words for that (C29, C46)."""
    shown = copy.deepcopy(shown)
    for methods in shown["paths"].values():
        for operation in methods.values():
            for answer in operation["responses"].values():
                if STREAM in answer.get("content", {}):
                    answer["content"][STREAM]["schema"] = EVENT
    return shown


def _event(name: str, data: dict[str, Any]) -> dict[str, Any]:
    embedded = {"type": "string", "contentMediaType": JSON, "contentSchema": data}
    properties = {"event": {"const": name}, "id": {"type": "string", "minLength": 1, "maxLength": 200}}
    return {"type": "object", "properties": properties | {"data": embedded}, "required": ["event", "id", "data"]}


def _has(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


_ID = {"type": "integer"}
EVENT = {
    "anyOf": [
        _event("MessageCreated", {"allOf": [{"$ref": "#/components/schemas/Message"}, _has(threadId=_ID)]}),
        _event("ThreadOpened", {"$ref": "#/components/schemas/Thread"}),
        _event("ThreadClosed", _has(threadId=_ID, closed_at={"type": "string", "format": "date-time"})),
        _event("ThreadLeft", _has(threadId=_ID)),
        _event("reset", {"type": "object"}),
    ]
}
"""One event of a stream."""
