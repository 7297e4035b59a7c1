"""Bringing the live streams of a thread to where the log is (contract C30, C32, C35)."""

from __future__ import annotations

from collections.abc import Iterable

from .interfaces import Entry, Head, Meter, News
from .subscriber import Stream


def deliver(streams: Iterable[Stream], news: News, meter: Meter) -> None:
    """Push what is new, then the farewell, if there is one and nothing is missing before it."""
    live = [stream for stream in streams if _push_all(stream, news.entries)]
    meter.delivered(entry.committed_at for entry in news.entries)
    if news.head is not None and news.head.farewell is not None:
        for stream in live:
            _say_farewell(stream, news.head, news.head.farewell)


def _push_all(stream: Stream, entries: list[Entry]) -> bool:
    for entry in entries:
        if stream.ended:
            return False
        if entry.seq <= stream.position:
            continue
        if not stream.push(stream.frame_of(entry)):
            stream.fall_behind()
            return False
        stream.position = entry.seq
    return True


def _say_farewell(stream: Stream, head: Head, farewell: bytes) -> None:
    if stream.position < head.last_seq or stream.ended:
        return
    if stream.push(farewell):
        stream.finish()
    else:
        stream.fall_behind()
