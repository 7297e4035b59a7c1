"""What everybody tells who counts, and who counts nothing (contract C16, C43).

Counting needs prometheus-client, ``pip install nursecare-chat[metrics]``; see :mod:`.prometheus`.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from .stream.interfaces import Meter

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of Prometheus' text format."""


class Metrics(Meter):
    """Counts nothing, for whoever lacks prometheus-client."""

    def count(self, name: str, label: str = "", amount: float = 1) -> None:
        """Add to one of :data:`.prometheus.COUNTERS`."""

    def snapshot(self) -> dict[tuple[str, str], float]:
        """``{(name, label): count}`` of this process as of now."""
        return {}

    def exposition(self, backlog: Any) -> bytes:
        """Everything in Prometheus' text format.

        :param backlog: a :class:`~nursecare_chat.service.backlog.Backlog`, ``None`` while the database is away.
        """
        return b""


def make_metrics() -> Metrics:
    """One application's; ``CHAT_METRICS=on`` stops the start where nothing counts, see :mod:`.config`."""
    if importlib.util.find_spec("prometheus_client") is None:
        return Metrics()
    from .prometheus import PrometheusMetrics

    return PrometheusMetrics()
