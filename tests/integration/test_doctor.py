"""`flask chat doctor`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from ..support.hosts import Workbench


def doctor(bench: Workbench) -> tuple[int, dict[str, Any]]:
    result = bench.app.test_cli_runner().invoke(args=["chat", "doctor", "--json"])
    return result.exit_code, json.loads(result.stdout)


def test_all_is_well(make_bench: Callable[..., Workbench], redis_url: str) -> None:
    """C42: also with the feature switched off; what is not ok says the next step."""
    status, said = doctor(make_bench(CHAT_ENABLED=False, CHAT_TRANSPORT_URL=redis_url))
    assert (status, said["ok"]) == (0, True), said
    assert all(finding["next"] for finding in said["findings"] if finding["status"] != "ok")
    found = {finding["check"]: finding["status"] for finding in said["findings"]}
    assert found["storage"] == found["transport"] == found["migrations"] == "ok"


def test_what_is_away(make_bench: Callable[..., Workbench]) -> None:
    """C42: a Redis that refuses and a table that is missing do not stop the others; no password is shown."""
    bench = make_bench(CHAT_TRANSPORT_URL="redis://:pass-7c1d@127.0.0.1:1/0")
    with bench.state.database.write() as unit:
        unit.connection.execute(sa.text("DROP TABLE chat_purges"))
    status, said = doctor(bench)
    assert (status, said["ok"], "pass-7c1d" in json.dumps(said)) == (1, False, False)
    found = {finding["check"]: finding["status"] for finding in said["findings"]}
    assert found["transport"] == found["migrations"] == found["purges"] == "error"
    assert found["storage"] == "ok"
