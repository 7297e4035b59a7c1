"""Stories that hypothesis makes up, against a model of the chat; ``tests.support.model_run`` tells more of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.databases import Databases
from ..support.hosts import HOSTS, Workbench
from ..support.model_run import DATABASES, TITLE, tell
from ..support.report import note
from ..support.world import World

STORIES = 4
EACH = [pytest.param(host, marks=pytest.mark.database(name)) for name, host in DATABASES.items()]


@pytest.fixture(params=EACH)
def world(request: pytest.FixtureRequest, tmp_path: Path, databases: Databases) -> Iterator[World]:
    """Always on two processes: where one of them remembers too much, the other knows better."""
    bench = Workbench(HOSTS[request.param], tmp_path, databases, {}, processes=2)
    world = World(bench)
    yield world
    world.close()
    bench.close()


@pytest.mark.one_process
def test_stories(world: World, request: pytest.FixtureRequest) -> None:
    """C10, C17, C18, C19, C22, C23, C26, C30, C32, C36, C37, C38, C39, C40: whatever people, workers, crashes and time
    do, in any order, the product does what the model says, and nothing of a chat is left in the end.
    """
    tell(world, STORIES)
    note(TITLE, request.node.nodeid, world.steps)
