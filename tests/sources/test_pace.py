import threading
import time

import numpy as np
import pytest

from observer.sources.pace import paced
from tests.captures import frames

BASE = 1_700_000_000_000_000_000
MS = 1_000_000


def test_frames_leave_whole_in_order_and_never_early():
    times = [BASE, BASE + 20 * MS, BASE + 20 * MS, BASE + 60 * MS]
    later = [BASE + 70 * MS, BASE + 10 * MS]  # dated back: comes with the one before
    batches = [frames([bytes([n]) * n for n in range(1, 5)], times_ns=times), frames([b"x", b"y"], times_ns=later)]
    begun = time.monotonic_ns()
    given = []
    for part in paced(batches, threading.Event()):
        assert int(part.times_ns.max()) - BASE <= time.monotonic_ns() - begun
        for at, size in zip(part.offsets.tolist(), part.lengths.tolist(), strict=True):
            given.append(bytes(part.data[at : at + size]))
    assert given == [b"\1", b"\2\2", b"\3\3\3", b"\4\4\4\4", b"x", b"y"]


def test_every_column_is_cut_alike():
    batch = frames([b"a", b"b"], times_ns=[BASE, BASE + 30 * MS])
    parts = list(paced([batch], threading.Event()))
    assert [len(part) for part in parts] == [1, 1]
    for name in ("offsets", "lengths", "wire_lengths", "times_ns", "link_types", "interfaces", "numbers"):
        assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(batch, name))


@pytest.mark.parametrize("gap_ns", [10**13, 1 << 62])
def test_it_stops_at_once_however_long_the_pause(gap_ns):
    stop = threading.Event()
    parts = paced([frames([b"a", b"b"], times_ns=[0, gap_ns])], stop)
    assert len(next(parts)) == 1
    threading.Timer(0.05, stop.set).start()
    assert list(parts) == []
