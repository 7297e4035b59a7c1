"""A plugin of pytest's: of what is collected it keeps the tests that ``MUTANTS_TESTS`` names.

An example that hypothesis finds is left as it is: nobody reads how small it could be.
"""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import Phase, settings

from . import Witness

VARIABLE = "MUTANTS_TESTS"
"""A JSON list of :class:`Witness` as lists."""


settings.register_profile("mutants", phases=(Phase.explicit, Phase.generate))


def pytest_configure() -> None:
    settings.load_profile("mutants")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = [Witness(file, function, *map(tuple, rest)) for file, function, *rest in json.loads(os.environ[VARIABLE])]
    kept = [item for item in items if any(test.is_meant_by(item.nodeid) for test in wanted)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
