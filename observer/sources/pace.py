"""A capture at the pace of its own times: batches of frames enter, the same frames leave when they are due.

As far after the first as in the capture; frames dated back come with the ones before them. Knows nothing of packets.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from typing import Final

import numpy as np

from observer.sources.frames import Frames

MIN_PAUSE_S: Final = 0.005
"""What is due within this is slept for together."""
MAX_PAUSE_S: Final = 3600.0
COLUMNS: Final = tuple(column.name for column in fields(Frames) if column.name != "data")


def paced(batches: Iterable[Frames], stop: threading.Event) -> Iterator[Frames]:
    """Cut batches so that each frame leaves when its time has come; end as soon as `stop` is set."""
    begun_ns = time.monotonic_ns()
    first_ns = None
    for frames in batches:
        times = np.maximum.accumulate(frames.times_ns)
        if first_ns is None:
            first_ns = int(times[0])
        at = 0
        while at < len(frames):
            now_ns = first_ns + time.monotonic_ns() - begun_ns
            due = int(np.searchsorted(times, now_ns, "right"))
            if due > at:
                yield replace(frames, **{name: getattr(frames, name)[at:due] for name in COLUMNS})
                at = due
            elif stop.wait(min(max((int(times[at]) - now_ns) / 1e9, MIN_PAUSE_S), MAX_PAUSE_S)):
                return
