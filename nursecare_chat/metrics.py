"""What this process counted, by name and label (contract C16)."""

from __future__ import annotations

import threading
from collections import Counter


class Metrics:
    """Counters that only go up. Safe between threads and greenlets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def count(self, name: str, label: str = "") -> None:
        with self._lock:
            self._counts[name, label] += 1

    def snapshot(self) -> dict[tuple[str, str], int]:
        """``{(name, label): count}`` as of now."""
        with self._lock:
            return dict(self._counts)
