"""Rings: what the kernel writes is read once, in order, over the end of the ring, and what found no room is counted."""

import ctypes
import mmap
import os
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from observer.datapath.libbpf import Runner
from observer.datapath.losses import LOST, Counter, count_losses
from observer.datapath.ring import BUSY, DISCARD, Counters, ItemRing, RecordRing
from observer.errors import DatapathError
from observer.losses import Losses
from observer.record import RECORD_SIZE

SLOTS = 128  # of the tiny object's ring


@pytest.fixture
def tiny(load):
    """On one CPU, for each numbers its own records."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    yield load("flowscope_tc", "discard", "snapshot")
    os.sched_setaffinity(0, cpus)


def numbers(records) -> list[int]:
    """The second field of each: which record it was."""
    return records["latency_ns"].tolist()


@pytest.mark.ebpf
@pytest.mark.parametrize("counts", [[1], [127], [100, 100, 100], [1] * 300, [127, 1, 127, 5]])
def test_records_come_in_order_and_once_over_the_end_of_the_ring(tiny, counts):
    ring = RecordRing(tiny.map("events"))
    program = tiny.program("flowscope_tc")
    seen, told = [], 0
    for count in counts:
        program.test_run(bytes(60), repeat=count)
        assert ring.waiting == count
        while ring.waiting:
            seen += numbers(ring.take(64))
        told += count
    assert sorted(seen) == seen == sorted(set(seen))
    assert len(seen) == told
    assert len(ring.take(64)) == 0


@pytest.mark.ebpf
def test_what_is_taken_is_a_copy(tiny):
    ring = RecordRing(tiny.map("events"))
    tiny.program("flowscope_tc").test_run(bytes(60))
    records = ring.take(64)
    before = records.tobytes()
    tiny.program("flowscope_tc").test_run(bytes(90), repeat=SLOTS)
    assert records.tobytes() == before


@pytest.mark.ebpf
def test_a_ring_that_overflows_is_counted_to_the_record(tiny):
    ring, counters = RecordRing(tiny.map("events")), Counters(tiny.map("counters"))
    tiny.program("flowscope_tc").test_run(bytes(60), repeat=1000)
    seen = len(ring.take(10_000))
    full, _, sent, _ = counters.added().tolist()
    assert sent == 1000
    assert seen + full == sent
    assert 0 < seen < ring.capacity == SLOTS
    assert counters.added().tolist() == [0, 0, 0, 0]
    tiny.program("flowscope_tc").test_run(bytes(60), repeat=3)
    assert counters.added().tolist() == [0, 0, 3, 0]


@pytest.mark.ebpf
def test_what_was_given_up_is_passed_over(tiny):
    ring = RecordRing(tiny.map("events"))
    runner, data = Runner(tiny.program("discard")), ctypes.create_string_buffer(200)
    sizes = [60, 61, 63, 62, 65, 64, 67]
    for size in sizes:
        runner.run(ctypes.addressof(data), size)
    assert ring.waiting == len(sizes)
    assert ring.take(64)["bytes"].tolist() == [size for size in sizes if size % 2 == 0]
    assert ring.waiting == 0


@pytest.mark.ebpf
def test_items_of_any_length_come_whole_over_the_end_of_the_ring(tiny):
    ring = ItemRing(tiny.map("snapshots"))
    runner = Runner(tiny.program("snapshot"))
    for number in range(3000):
        frame = struct.pack(">I", number) + os.urandom(56 + number % 90)
        data = ctypes.create_string_buffer(frame, len(frame))
        runner.run(ctypes.addressof(data), len(frame))
        if number % 7 == 0:
            assert len(ring.take(1 << 20)) == (7 if number else 1)
        items = []
    while more := ring.take(1):
        assert len(more) == 1  # however small the limit, one comes
        items += more
    assert [struct.unpack_from(">I", item)[0] for item in items] == list(range(2997 - 2997 % 7 + 1, 3000))
    assert {len(item) for item in items} <= {24, 100}


@pytest.mark.ebpf
def test_a_full_ring_of_items_is_counted(tiny):
    ring, counters = ItemRing(tiny.map("snapshots")), Counters(tiny.map("counters"))
    tiny.program("snapshot").test_run(bytes(200), repeat=1000)
    items = ring.take(1 << 20)
    assert len(items) + counters.added().tolist()[1] == 1000
    assert 0 < len(items) < 1000


class Written:
    """A ring whose items a test writes itself, as the kernel lays them out: no program is slow enough."""

    def __init__(self, size=1 << 14):
        page = mmap.PAGESIZE
        self.descriptor = os.memfd_create("ring")
        os.ftruncate(self.descriptor, 2 * page + 2 * size)
        self.file = mmap.mmap(self.descriptor, 0)
        self.begin = 2 * page
        self.map = SimpleNamespace(fd=self.descriptor, name="events", max_entries=size)

    def slot(self, number, length, latency=0):
        self.file.seek(self.begin + 512 * number)
        self.file.write(struct.pack("<IIQQ", length, 0, 0, latency))

    def item(self, offset, length, content=b""):
        self.file.seek(self.begin + offset)
        self.file.write(struct.pack("<II", length, 0) + content)

    def produced(self, size):
        struct.pack_into("<Q", self.file, mmap.PAGESIZE, size)


@pytest.fixture
def written():
    ring = Written()
    yield ring
    os.close(ring.descriptor)


def test_reading_stops_at_a_record_that_is_being_written(written):
    ring = RecordRing(written.map)
    for number in range(5):
        written.slot(number, RECORD_SIZE, number)
    written.slot(1, RECORD_SIZE | DISCARD)
    written.slot(3, RECORD_SIZE | BUSY)
    written.produced(5 * 512)
    assert numbers(ring.take(64)) == [0, 2]
    assert numbers(ring.take(64)) == []
    assert ring.waiting == 2
    written.slot(3, RECORD_SIZE, 3)
    assert numbers(ring.take(64)) == [3, 4]
    assert ring.waiting == 0


def test_reading_stops_at_an_item_that_is_being_written(written):
    ring = ItemRing(written.map)
    written.item(0, 3, b"one")
    written.item(16, 3 | DISCARD, b"two")
    written.item(32, 5 | BUSY, b"three")
    written.produced(48)
    assert ring.take(1 << 20) == [b"one"]
    assert ring.take(1 << 20) == []
    written.item(32, 5, b"three")
    assert ring.take(1 << 20) == [b"three"]
    assert ring.waiting == 0


def test_records_of_another_layout_are_told(written):
    written.slot(0, 248)
    written.produced(512)
    with pytest.raises(DatapathError, match="another layout"):
        RecordRing(written.map).take(64)


def test_counters_are_named_in_the_order_of_the_header():
    header = (Path(__file__).parents[2] / "bpf" / "maps.h").read_text()
    body = header.partition("enum counter {")[2].partition("}")[0]
    names = [line.split(",")[0].strip() for line in body.splitlines() if line.strip().startswith("COUNT")]
    assert names.pop() == "COUNTERS_SIZE"
    assert names == [f"COUNT_{counter.name}" for counter in Counter]


def test_losses_are_counted_by_stage_and_reason():
    losses = Losses()
    added = np.arange(len(Counter), dtype="u8")
    count_losses(added, losses)
    count_losses(added, losses)
    assert losses.snapshot() == {LOST[counter]: 2 * counter for counter in LOST if counter}
