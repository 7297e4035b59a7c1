"""The reference host with a profiler in it: where the process is whenever another millisecond of its CPU is used up.

``cProfile`` would make calls dear and so hide what costs without calling, and it gets confused by greenlets.
"""

from __future__ import annotations

import signal
import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from flask import Flask

import examples.nursecare

EVERY = 0.001
"""Seconds of CPU between two looks; the kernel's clock may make it more."""

PLACES = (*(f"{sysconfig.get_path(name)}/" for name in ("purelib", "stdlib")), f"{Path(__file__).parents[1]}/")


class Sampler:
    """:ivar own: by code that ran; :ivar inside: by code that ran or waited for what it had called."""

    def __init__(self) -> None:
        self.own: Counter[CodeType] = Counter()
        self.inside: Counter[CodeType] = Counter()

    def start(self) -> None:
        self.own.clear()
        self.inside.clear()
        signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)

    def stop(self) -> dict[str, Any]:
        """Shares of the whole: ``packages``, ``functions`` (own) and ``inside``, as ``[[name, share], …]``."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        packages: Counter[str] = Counter()
        for code, count in self.own.items():
            packages[package(code)] += count
        return {
            "packages": self._shares(packages),
            "functions": self._shares(self._named(self.own)),
            "inside": self._shares(self._named(self.inside)),
        }

    def _look(self, signum: int, frame: FrameType | None) -> None:
        if frame is not None:
            self.own[frame.f_code] += 1
            self.inside.update({one.f_code for one in _outwards(frame)})

    def _named(self, counts: Counter[CodeType]) -> Counter[str]:
        named: Counter[str] = Counter()
        for code, count in counts.items():
            named[f"{short(code)}:{code.co_qualname}"] += count
        return named

    def _shares(self, counts: Counter[str]) -> list[tuple[str, float]]:
        total = self.own.total() or 1
        return [(name, count / total) for name, count in counts.most_common(60)]


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def short(code: CodeType) -> str:
    """The file's name as one imports it from."""
    name = code.co_filename
    for place in PLACES:
        name = name.removeprefix(place)
    return name


def package(code: CodeType) -> str:
    """``sqlalchemy``, or for our own code the room it is in: ``nursecare_chat/api``."""
    parts = short(code).split("/")
    return "/".join(parts[:2]) if parts[0] == "nursecare_chat" else parts[0]


def create_app() -> Flask:
    app = examples.nursecare.create_app()
    sampler = Sampler()
    app.add_url_rule("/sample/start", "start", lambda: sampler.start() or {})
    app.add_url_rule("/sample/stop", "stop", sampler.stop)
    return app
