"""What a view takes and answers, said beside it; the OpenAPI document is made of this (contract C28)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from marshmallow import Schema

View = TypeVar("View", bound=Callable[..., Any])
JSON = "application/json"


@dataclass(frozen=True)
class Description:
    """
    :ivar query: the schema that validates the query; :ivar body: the one that validates a JSON body.
    :ivar headers: optional ones that it looks at.
    :ivar takes: the content types of a body that is no JSON.
    :ivar answer: the schema of a JSON answer; :ivar gives: the content types of another one.
    :ivar status: of success; :ivar also: other successes, with their meaning.
    :ivar errors: statuses of this view's own, besides those of every view.
    :ivar signed: the address is the right; no login is asked for.
    """

    summary: str
    note: str = ""
    query: type[Schema] | None = None
    body: type[Schema] | None = None
    headers: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    answer: type[Schema] | None = None
    gives: tuple[str, ...] = (JSON,)
    status: int = 200
    also: dict[int, str] = field(default_factory=dict)
    errors: tuple[int, ...] = ()
    signed: bool = False


def describe(summary: str, **details: Any) -> Callable[[View], View]:
    """Say of a view what :class:`Description` has."""

    def mark(view: View) -> View:
        view.description = Description(summary, **details)
        return view

    return mark
