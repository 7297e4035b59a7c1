"""Bringing live streams of one thread to its head (contract C30, C32, C35)."""

from __future__ import annotations

from .interfaces import Entry, Head, LogReader, Meter
from .subscriber import PAGE, Stream


def bring(live: list[Stream], thread: int, head: Head, reader: LogReader, meter: Meter) -> None:
    """Push what they miss up to ``head``, then the farewell, if there is one."""
    while live:
        start = min(stream.position for stream in live)
        if start >= head.last_seq:
            break
        entries = reader.after(thread, start, PAGE)
        if not entries:
            break
        live = [stream for stream in live if _push_all(stream, entries)]
        meter.delivered(entry.committed_at for entry in entries)
    if head.farewell is not None:
        for stream in live:
            if stream.position >= head.last_seq and not stream.ended:
                if stream.push(head.farewell):
                    stream.finish()
                else:
                    stream.fall_behind()


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
