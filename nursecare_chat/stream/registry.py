"""Which streams this process has, of which threads and users (contract C33, C35, C45); the hub's lock guards it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from .server import Worker
from .subscriber import Stream


class Registry:
    """
    :ivar carried: streams that a thread of the server's writes.
    :ivar workers: those of the server that carry or carried streams; a process has one or two.
    """

    def __init__(self) -> None:
        self.carried: set[Stream] = set()
        self.workers: set[Worker] = set()
        self._of_thread: dict[int | None, tuple[Stream, ...]] = {}
        self._of_user: dict[Hashable, int] = {}

    def __bool__(self) -> bool:
        return bool(self._of_thread)

    def __len__(self) -> int:
        return sum(self._of_user.values())

    def __iter__(self) -> Iterator[Stream]:
        return (stream for streams in self._of_thread.values() for stream in streams)

    def threads(self) -> set[int | None]:
        """``None`` among them if there are streams of inboxes."""
        return set(self._of_thread)

    def of_thread(self, thread: int | None) -> tuple[Stream, ...]:
        """The thread's; those of inboxes for ``None``."""
        return self._of_thread.get(thread, ())

    def live(self, thread: int | None) -> list[Stream]:
        """Those of the thread's that the hub brings on."""
        return [stream for stream in self.of_thread(thread) if stream.live and not stream.outlet.ended]

    def count_of(self, user: Hashable) -> int:
        return self._of_user.get(user, 0)

    def add(self, stream: Stream) -> bool:
        """Whether it is the thread's first."""
        others = self.of_thread(stream.thread)
        self._of_thread[stream.thread] = (*others, stream)
        self._of_user[stream.user] = self.count_of(stream.user) + 1
        self.carried.add(stream)
        self.workers.add(stream.worker)
        return not others

    def remove(self, stream: Stream) -> bool:
        """Whether it was the thread's last."""
        others = tuple(other for other in self.of_thread(stream.thread) if other is not stream)
        if others:
            self._of_thread[stream.thread] = others
        else:
            del self._of_thread[stream.thread]
        self._of_user[stream.user] -= 1
        if not self._of_user[stream.user]:
            del self._of_user[stream.user]
        self.carried.discard(stream)
        return not others
