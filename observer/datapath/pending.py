"""Requests that wait in the kernel for their responses: the map pending_requests, as bpf/pending.h lays it out.

The number of a connection and an id enter; the request leaves as the kernel remembers it, if it still waits. Programs
write while it is read here: what was not the same twice is read again.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np

from observer.datapath.libbpf import Map
from observer.datapath.losses import Counter
from observer.datapath.ring import Counters
from observer.record import TEXT_SIZE

WAYS: Final = 16
NEAR: Final = 8
BITS: Final = 12
"""PENDING_WAYS, PENDING_NEAR and PENDING_BITS."""

TRIES: Final = 16
"""Readings of a bucket, of which two must agree."""

PENDING: Final = np.dtype(
    [
        ("connection", "<u8"),
        ("time_ns", "<u8"),
        ("id", "<u4"),
        ("egress_rule", "<u4"),
        ("ingress_rule", "<u4"),
        ("present", "<u2"),
        ("l7_method", "<u2"),
        ("l7_version", "<u2"),
        ("flags", "u1"),
        ("l7_kind", "u1"),
        ("verdict", "u1"),
        ("direction", "u1"),
        ("policy_match", "u1"),
        ("drop_reason_desc", "u1"),
        ("is_ambiguous", "u1"),
        ("pad", "u1"),
        ("turn", "<u2"),
        ("text_length", "u1", (4,)),
        ("parser", "u1", (16,)),
        ("text", "u1", (TEXT_SIZE,)),
    ],
    align=True,
)
"""`struct pending`, and its texts."""

BUCKET: Final = struct.Struct(f"=2I{WAYS}I")
"""`struct pending_bucket` up to its slots: the lock, turns taken, and the slots' tags."""


class PendingRequests:
    """The requests that wait; `len` says how many."""

    name: Final = "pending_requests"

    def __init__(self, table: Map, counters: Map) -> None:
        self._table = table
        self._counters = Counters(counters)
        self.max_entries = table.max_entries * WAYS

    def __len__(self) -> int:
        """Requests that took a slot and have not given it up; those that are being counted may be wrong by a few."""
        sums = self._counters.read()
        return max(0, int(sums[Counter.PENDING_PUT]) - int(sums[Counter.PENDING_TAKEN]))

    def get(self, connection: int, id: int) -> Any | None:
        """The request, a row of PENDING, if it waits."""
        bucket, tag = place(connection, id)
        known = b""
        for _ in range(TRIES):
            value = self._table.get(bucket)
            if value is None:
                return None
            lock, _, *tags = BUCKET.unpack_from(value)
            if tag not in tags:
                return None
            start = BUCKET.size + tags.index(tag) * PENDING.itemsize
            slot = value[start : start + PENDING.itemsize]
            if slot != known or lock:
                known = slot
                continue
            found = np.frombuffer(slot, PENDING)[0]
            return found if found["connection"] == connection and found["id"] == id else None
        return None


def place(connection: int, id: int) -> tuple[bytes, int]:
    """The key of the bucket that a request belongs to, and the tag of its slot there: find_bucket."""
    near = connection + id // NEAR * 0x9E3779B97F4A7C15
    hashed = near * 0xD6E8FEB86659FD93 & (1 << 64) - 1
    return (hashed >> 64 - BITS).to_bytes(4, "little"), (hashed ^ id) & 0xFFFFFFFF | 1 << 31
