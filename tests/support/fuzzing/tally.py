"""What came of it: answers by operation and status, and what was wrong with some, each thing once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Failure:
    """
    :ivar seed: of the round in which it was seen first, which had so many ``requests``.
    """

    operation: str
    status: int
    check: str
    message: str
    request: str
    host: str
    seed: int
    requests: int
    times: int = 0


@dataclass
class Tally:
    """
    :ivar answers: how many of each operation and status; 500 also for an exception that came out of the application.
    :ivar followed: how often each link led to a success.
    :ivar wrong: answers that something was wrong with.
    """

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    followed: Counter[str] = field(default_factory=Counter)
    failures: dict[tuple[str, int, str], Failure] = field(default_factory=dict)
    wrong: int = 0

    @property
    def requests(self) -> int:
        return self.answers.total()

    @property
    def server_errors(self) -> int:
        return sum(number for (_, status), number in self.answers.items() if status >= 500)

    def fail(self, failure: Failure) -> None:
        self.failures.setdefault((failure.operation, failure.status, failure.check), failure).times += 1

    def add(self, other: Tally) -> None:
        self.answers += other.answers
        self.followed += other.followed
        self.wrong += other.wrong
        for key, failure in other.failures.items():
            if key in self.failures:
                self.failures[key].times += failure.times
            else:
                self.failures[key] = failure

    def never_reached(self, operations: set[str]) -> list[str]:
        """The operations that were never answered with a success."""
        reached = {operation for (operation, status), number in self.answers.items() if 200 <= status < 300 and number}
        return sorted(operations - reached)

    def table(self) -> str:
        """Operations down, classes of answers across."""
        classes = ("2xx", "3xx", "4xx", "5xx")
        width = max((len(operation) for operation, _ in self.answers), default=0)
        lines = [f"{'':{width}} " + "".join(f"{name:>9}" for name in classes)]
        for name in sorted({operation for operation, _ in self.answers}):
            row = [
                sum(number for (one, status), number in self.answers.items() if one == name and status // 100 == first)
                for first in (2, 3, 4, 5)
            ]
            lines.append(f"{name:{width}} " + "".join(f"{number:>9,}" for number in row))
        return "\n".join(lines)
