"""What is counted and measured, for Prometheus (contract C16, C43). No label holds an id or what somebody wrote."""

from __future__ import annotations

import glob
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from . import fork
from .metrics import Metrics

PREFIX = "nursecare_chat"
LAG_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds; 2.0 is what a lost ring may cost (C31)."""

# name: (its label, what it counts)
COUNTERS = {
    "threads_opened": ("", "Chats opened."),
    "threads_closed": ("", "Chats closed."),
    "messages_posted": ("type", "Messages posted."),
    "uploads_issued": ("content_type", "Upload URLs issued."),
    "uploads_rejected": ("content_type", "Uploads that were not what they said."),
    "media_uploaded_bytes": ("content_type", "Bytes of photos as they were uploaded, when looked at."),
    "media_posted_bytes": ("content_type", "Bytes of photos as they are kept."),
    "media_deletions": ("reason", "Blobs deleted: by a purge, beside a stored copy, or because they were refused."),
    "denials": ("reason", "Requests and streams denied."),
    "admin_overrides": ("ability", "What an admin did by privilege alone."),
    "purge_outcomes": ("outcome", "Attempts at purges of this process by how they ended."),
    "streams_ended": ("reason", "Streams that the server ended before their time."),
    "streams_turned_away": ("reason", "Streams that got what was there and the end: surplus, or no threads for them."),
}


class _Instruments:
    """One set of them, on a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        common: dict[str, Any] = {"namespace": PREFIX, "registry": self.registry}
        self.counters = {
            name: Counter(name, help_, [label] if label else [], **common) for name, (label, help_) in COUNTERS.items()
        }
        self.streams_open = Gauge("streams_open", "Open streams.", multiprocess_mode="livesum", **common)
        self.delivery_lag = Histogram(
            "delivery_lag_seconds", "From a message's commit to its live streams.", buckets=LAG_BUCKETS, **common
        )


_shared: _Instruments | None = None
_making = threading.Lock()


def _instruments() -> _Instruments:
    """An application's own; with ``PROMETHEUS_MULTIPROC_DIR`` those of the process.

    There a value lives in the process's file under its name alone, and two objects for it would overwrite each other:
    applications of one process are counted together then.
    """
    global _shared
    if not multiprocess():
        return _Instruments()
    with _making:
        if _shared is None:
            _shared = _Instruments()
    return _shared


def multiprocess() -> bool:
    """Whether values are in files; ``prometheus_client`` decides that once, when it is imported."""
    return bool(values.ValueClass._multiprocess) and "PROMETHEUS_MULTIPROC_DIR" in os.environ


class PrometheusMetrics(Metrics):
    """Safe between threads, greenlets and forks."""

    def __init__(self) -> None:
        self._made = _instruments()
        fork.register(self)

    def after_fork(self) -> None:
        """What the parent counted is the parent's to tell; values in files begin anew by themselves."""
        if not multiprocess():
            self._made = _instruments()

    def count(self, name: str, label: str = "", amount: float = 1) -> None:
        counter = self._made.counters[name]
        (counter.labels(label) if COUNTERS[name][0] else counter).inc(amount)

    def snapshot(self) -> dict[tuple[str, str], float]:
        found = {}
        for name, counter in self._made.counters.items():
            for sample in next(iter(counter.collect())).samples:
                if sample.name.endswith("_total"):
                    found[name, "".join(sample.labels.values())] = sample.value
        return found

    # -- what the hub tells: see stream.interfaces.Meter ----------------------------------------------------------

    def stream_opened(self) -> None:
        self._made.streams_open.inc()

    def stream_closed(self) -> None:
        self._made.streams_open.dec()

    def stream_ended(self, reason: str) -> None:
        self.count("streams_ended", reason)

    def stream_turned_away(self, reason: str) -> None:
        self.count("streams_turned_away", reason)

    def delivered(self, committed_at: Iterable[float | None]) -> None:
        now = time.monotonic()
        for at in committed_at:
            if at is not None:
                self._made.delivery_lag.observe(max(0.0, now - at))

    # -- serving -------------------------------------------------------------------------------------------------

    def exposition(self, backlog: Any) -> bytes:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Families(self._processes()))
        registry.register(_Families(_of_database(backlog)))
        return generate_latest(registry)

    def _processes(self) -> Iterator[Metric]:
        if not multiprocess():
            yield from self._made.registry.collect()
            return
        for metric in MultiProcessCollector.merge(_files(os.environ["PROMETHEUS_MULTIPROC_DIR"])):
            if metric.name.startswith(PREFIX + "_"):  # the host's own metrics may be in the same files
                yield metric


class _Families:
    """A collector of what is there already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> list[Metric]:
        return self._families


def _files(folder: str) -> list[str]:
    """Every process's files; of what only the living have, like open streams, only theirs."""
    found = []
    for path in glob.glob(os.path.join(glob.escape(folder), "*.db")):
        of_the_living = re.search(r"gauge_live[a-z]*_(\d+)\.db$", path)
        if of_the_living is None or _alive(int(of_the_living[1])):
            found.append(path)
    return found


def _alive(pid: int) -> bool:
    with suppress(PermissionError):  # somebody else's, so it lives
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


def _of_database(backlog: Any) -> Iterator[Metric]:
    def gauge(name: str, help_: str, value: float) -> Metric:
        return GaugeMetricFamily(f"{PREFIX}_{name}", help_, value=value)

    yield gauge("database_up", "Whether the database answered this scrape.", backlog is not None)
    if backlog is None:
        return
    states = GaugeMetricFamily(f"{PREFIX}_purges", "Purges by state, in the database.", labels=["state"])
    for state, count in sorted(backlog.states.items()):
        states.add_metric([state], count)
    yield states
    yield gauge("purges_due", "Purges that wait for an attempt now.", backlog.due)
    yield gauge(
        "purge_oldest_unerased_seconds", "Since the first close that is not erased yet; 0 if there is none.",
        backlog.oldest_unerased,
    )  # fmt: skip
    yield CounterMetricFamily(f"{PREFIX}_purge_attempts", "Attempts at purges, of all workers.", backlog.attempts)
    yield SummaryMetricFamily(
        f"{PREFIX}_purge_seconds", "From a chat's close to its first complete erasure.",
        count_value=backlog.purged, sum_value=backlog.purge_seconds,
    )  # fmt: skip
