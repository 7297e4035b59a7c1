"""Rules whose addresses are built by code that is compiled when the first one is asked for.

Werkzeug compiles it with each rule, which is half of what it takes to make an application, and the tests make
thousands, most of which never build an address.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from werkzeug.routing import Rule


def use() -> None:
    """From now on, in this process."""
    compile_now = Rule._compile_builder

    def compile_later(rule: Rule, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        compiled = cache(lambda: compile_now(rule, append_unknown))

        def build(bound: Rule, **values: Any) -> tuple[str, str]:
            return compiled()(bound, **values)

        return build

    Rule._compile_builder = compile_later
