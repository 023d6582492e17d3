"""IP fragments to datagrams (RFC 791, RFC 8200 section 4.5), within bounds of count, bytes and age.

A fragment enters, the whole payload leaves with the last one missing. Overlaps are refused with their datagram
(RFC 5722): two readings of one packet are how a peer hides. Fragments that make no datagram are counted, each once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, NamedTuple

from observer.losses import Losses

MAX_DATAGRAMS: Final = 1024
MAX_BYTES: Final = 8 << 20
"""Held in all; a fragment counts PIECE_OVERHEAD more than its payload."""
PIECE_OVERHEAD: Final = 128
MAX_AGE_NS: Final = 30_000_000_000
"""Since the first fragment, as Linux (net.ipv4.ipfrag_time)."""
MAX_DATAGRAM: Final = 65_535


class Whole(NamedTuple):
    """A datagram put together."""

    protocol: int
    """As the first fragment says."""
    payload: bytes


class _Datagram:
    __slots__ = ("held", "payloads", "protocol", "refused", "since_ns", "starts", "total")

    def __init__(self, since_ns: int) -> None:
        self.since_ns = since_ns
        self.starts: list[int] = []  # ascending
        self.payloads: dict[int, bytes] = {}
        self.held = 0
        self.total: int | None = None
        self.protocol = 0
        self.refused: str | None = None


class Fragments:
    """The datagrams that wait for fragments, oldest first."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._waiting: OrderedDict[Hashable, _Datagram] = OrderedDict()
        self._held = 0

    def add(self, key: Hashable, time_ns: int, offset: int, more: bool, protocol: int, payload: bytes) -> Whole | None:
        """Take a fragment; the datagram if that makes it whole. `key` is RFC 791's: addresses, protocol, id."""
        self._expire(time_ns)
        end = offset + len(payload)
        if not payload or (more and len(payload) & 7) or end > MAX_DATAGRAM:
            self._count("impossible fragment")
            return None
        datagram = self._waiting.get(key)
        if datagram is None:
            if len(self._waiting) == MAX_DATAGRAMS:
                self._drop_oldest("too many datagrams in fragments")
            datagram = self._waiting[key] = _Datagram(time_ns)
        if datagram.refused is not None:
            self._count(datagram.refused)
            return None
        if datagram.payloads.get(offset) == payload and more == (datagram.total != end):
            self._count("duplicate fragment")
            return None
        if self._collides(datagram, offset, end, more):
            # The datagram stays, empty: what still comes of it is refused too.
            datagram.refused = "overlapping fragments"
            self._count(datagram.refused, len(datagram.starts) + 1)
            self._release(datagram)
            return None
        datagram.starts.insert(bisect_left(datagram.starts, offset), offset)
        datagram.payloads[offset] = payload
        datagram.held += len(payload)
        self._held += len(payload) + PIECE_OVERHEAD
        if not more:
            datagram.total = end
        if offset == 0:
            datagram.protocol = protocol
        if datagram.held == datagram.total:  # nothing overlaps, so nothing is missing
            whole = Whole(datagram.protocol, b"".join(map(datagram.payloads.__getitem__, datagram.starts)))
            self._release(datagram)
            del self._waiting[key]
            return whole
        while self._held > MAX_BYTES:
            self._drop_oldest("too many bytes in fragments")
        return None

    def finish(self) -> None:
        """Count what still waits."""
        while self._waiting:
            self._drop_oldest("fragments of no whole datagram")

    def _expire(self, time_ns: int) -> None:
        while self._waiting and next(iter(self._waiting.values())).since_ns < time_ns - MAX_AGE_NS:
            self._drop_oldest("fragments of no whole datagram")

    def _collides(self, datagram: _Datagram, offset: int, end: int, more: bool) -> bool:
        """Whether the range overlaps one held, or the end contradicts what is known."""
        starts = datagram.starts
        index = bisect_left(starts, offset)
        if index < len(starts) and starts[index] < end:
            return True
        if index and starts[index - 1] + len(datagram.payloads[starts[index - 1]]) > offset:
            return True
        if not more:
            return datagram.total is not None or index < len(starts)
        return datagram.total is not None and end >= datagram.total

    def _drop_oldest(self, reason: str) -> None:
        _, datagram = self._waiting.popitem(last=False)
        self._count(reason, len(datagram.starts))
        self._release(datagram)

    def _release(self, datagram: _Datagram) -> None:
        self._held -= datagram.held + PIECE_OVERHEAD * len(datagram.starts)
        datagram.starts = []
        datagram.payloads = {}
        datagram.held = 0

    def _count(self, reason: str, number: int = 1) -> None:
        if number:
            self._losses.count("decode", reason, number)
