"""The kernel's ring buffers, mapped and read in place: records as one array, snapshots item by item.

A ring's pages leave here as copies whose slots the kernel may then use again. Slots of one size make the ring an array
(512 bytes: the kernel's header and a record); the data pages are mapped twice in a row, so that none is ever cut.
Format: Documentation/bpf/ringbuf.rst. The positions are read and written as on x86, in the order of the program;
a machine that reorders loads would need acquire and release here.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from typing import Final

import numpy as np
import numpy.typing as npt

from observer.datapath.libbpf import Map
from observer.errors import DatapathError
from observer.record import RECORD, RECORD_SIZE, Records

BUSY: Final = 1 << 31
"""In the length of an item: reserved, and not yet written."""
DISCARD: Final = 1 << 30
"""In the length of an item: given up."""
HEADER: Final = struct.Struct("<II")
"""Of each item: its length with the two bits, and a page offset for the kernel's own use."""

RAW: Final = np.dtype(f"V{RECORD_SIZE}")
"""A record without its fields: numpy copies structures field by field, and this in one go."""
SLOT: Final = np.dtype([("length", "<u4"), ("page", "<u4"), ("record", RAW)])
"""One item of a ring of records."""

assert SLOT.itemsize == 512 == HEADER.size + RECORD_SIZE


class Ring:
    """The two positions and the data of one ring; `fd` becomes readable when the kernel adds to an empty ring."""

    def __init__(self, map: Map) -> None:
        page = mmap.PAGESIZE
        self.fd = map.fd
        self.name = map.name
        self.size = map.max_entries
        self._owner = map  # whose object would close the ring
        consumer = mmap.mmap(map.fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        produced = mmap.mmap(map.fd, page + 2 * self.size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        # These keep the mappings alive, which are unmapped when they go.
        self._consumer = ctypes.c_uint64.from_buffer(consumer)
        self._producer: npt.NDArray[np.uint64] = np.frombuffer(produced, "<u8", 1)
        self.data = memoryview(produced)[page:]

    @property
    def waiting(self) -> int:
        """Bytes that the kernel has added, and that were not read."""
        return int(self._producer[0]) - self._consumer.value

    @property
    def position(self) -> int:
        """Where in `data` the next item is."""
        return self._consumer.value & self.size - 1

    def advance(self, size: int) -> None:
        """Give the next `size` bytes back to the kernel."""
        self._consumer.value += size


class RecordRing:
    """A ring of which every item is one record."""

    def __init__(self, map: Map) -> None:
        self._ring = Ring(map)
        self.fd = self._ring.fd
        self._slots: npt.NDArray[np.void] = np.frombuffer(self._ring.data, SLOT)

    @property
    def waiting(self) -> int:
        """How many records wait, those given up or not yet written among them."""
        return self._ring.waiting // SLOT.itemsize

    @property
    def capacity(self) -> int:
        """How many records it holds."""
        return self._ring.size // SLOT.itemsize

    def take(self, limit: int) -> Records:
        """The next records in the order in which their slots were reserved, at most `limit`: a copy."""
        start = self._ring.position // SLOT.itemsize
        slots = self._slots[start : start + min(self.waiting, limit)]
        lengths = slots["length"]
        written = lengths == RECORD_SIZE
        if written.all():
            records: npt.NDArray[np.void] = slots["record"].copy()
        else:
            busy = np.flatnonzero(lengths & BUSY)
            if len(busy):
                slots, lengths, written = slots[: busy[0]], lengths[: busy[0]], written[: busy[0]]
            if not (written | (lengths & DISCARD).astype(bool)).all():
                raise DatapathError(f"the ring {self._ring.name} holds records of another layout: run `make bpf`")
            records = slots["record"][written]
        self._ring.advance(len(slots) * SLOT.itemsize)
        return records.view(RECORD)


class ItemRing:
    """A ring of items of any length."""

    def __init__(self, map: Map) -> None:
        self._ring = Ring(map)
        self.fd = self._ring.fd

    @property
    def waiting(self) -> int:
        """How many bytes wait, headers included."""
        return self._ring.waiting

    def take(self, limit: int) -> list[bytes]:
        """The next items in the order of their reservation, until they have `limit` bytes or more: copies."""
        ring, data = self._ring, self._ring.data
        waiting = ring.waiting
        begin = at = ring.position
        end = begin + min(waiting, limit)
        items = []
        while at < end:
            length, _ = HEADER.unpack_from(data, at)
            if length & BUSY:
                break
            size = length & ~DISCARD
            body = at + HEADER.size
            if not length & DISCARD:
                items.append(bytes(data[body : body + size]))
            at = body + (size + 7 & ~7)
        ring.advance(at - begin)
        return items


class Counters:
    """Sums over the CPUs of a per-CPU array of u64: told as what was added since the last look."""

    def __init__(self, map: Map) -> None:
        self._map = map
        self._told = np.zeros(map.max_entries, np.uint64)

    def read(self) -> npt.NDArray[np.uint64]:
        """The sums now."""
        _, values = self._map.lookup_batch()
        sums: npt.NDArray[np.uint64] = values.view("<u8").reshape(self._map.max_entries, -1).sum(axis=1)
        return sums

    def added(self) -> npt.NDArray[np.uint64]:
        """What each has grown by since this was asked last."""
        now = self.read()
        added = now - self._told
        self._told = now
        return added
