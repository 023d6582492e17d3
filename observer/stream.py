"""TCP reassembly of one direction: segments in any order enter, the bytes leave in order, each once.

What comes twice is dropped, of an overlap the first copy wins, what is missing leaves as a gap (an int: how many
bytes) once it is certain, or too much waits behind it. Sequence numbers wrap (RFC 9293, 3.4). Knows no connections,
clocks or packets.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, TypeAlias

from observer.losses import Losses

MAX_HELD: Final = 1 << 20
"""Bytes of one direction held behind a hole, SEGMENT_COST included."""
MAX_HELD_IN_ALL: Final = 1 << 26
"""The same of all directions together."""
SEGMENT_COST: Final = 128
"""What a held segment costs beside its bytes; so a flood of tiny ones is bounded too."""
MAX_AHEAD: Final = 1 << 30
"""The largest window there is (RFC 7323, 2.3); what lies beyond it no receiver takes."""

Piece: TypeAlias = bytes | int
"""Bytes of the stream, or the size of a gap in it."""

HALF: Final = 1 << 31
MASK: Final = (1 << 32) - 1


class Assembly:
    """What all streams of one packet source share: the bytes held, and where losses are counted."""

    __slots__ = ("held", "losses")

    def __init__(self, losses: Losses) -> None:
        self.held = 0
        self.losses = losses


class Stream:
    """One direction of one TCP connection."""

    __slots__ = ("_assembly", "_end", "_held", "_next", "_pieces", "_starts", "hole_ns")

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        # Positions are sequence numbers that do not wrap: their low 32 bits are the wire's.
        self._next = -1  # position of the next byte; -1 before the first segment
        self._end = -1  # position of the FIN
        self._starts: list[int] = []  # positions of the pieces held, ascending, without overlap
        self._pieces: list[Piece] = []
        self._held = 0
        self.hole_ns = 0
        """The caller's: when the hole that it waits for was first seen."""

    @property
    def waits(self) -> bool:
        """Bytes are held behind a hole."""
        return bool(self._starts)

    @property
    def ended(self) -> bool:
        """Every byte up to the FIN was given."""
        return 0 <= self._end <= self._next

    def start(self, sequence: int) -> None:
        """The SYN's sequence number: the stream starts behind it."""
        if self._next < 0:
            # One turn up, so that what lies before the start has a position too.
            self._next = sequence + 1 + (1 << 32)

    def takes(self, sequence: int, size: int) -> bool:
        """Whether these `size` bytes are the next, nothing waits and no end is known; then they count as given."""
        position = self._next
        if position & MASK != sequence or position < 0 or self._starts or self._end >= 0:
            return False
        self._next = position + size
        return True

    def segment(self, sequence: int, data: bytes, missing: int = 0) -> Sequence[Piece]:
        """Take a segment, `missing` bytes behind `data` not captured; give what can be read now, in order.

        The first segment of a stream without `start` is its start.
        """
        if self._next < 0:
            self._next = sequence + (1 << 32)
        ahead = ((sequence - self._next + HALF) & MASK) - HALF
        if ahead == 0 and not self._starts and not missing:
            self._next += len(data)
            return (data,) if data else ()
        if ahead > MAX_AHEAD:
            self._assembly.losses.count("stream", "segment beyond every window")
            return ()
        start = self._next + ahead
        if data:
            self._hold(start, data)
        if missing:
            self._hold(start + len(data), missing)
        given = self._drain()
        if self._held > MAX_HELD:
            while self._held > MAX_HELD:
                self._skip(given, "gap: too much waits behind it in one direction")
        elif self._assembly.held > MAX_HELD_IN_ALL:
            while self._starts:
                self._skip(given, "gap: too much waits behind gaps in all")
        return given

    def finish(self, sequence: int) -> None:
        """The FIN's own sequence number, behind the last byte."""
        ahead = ((sequence - self._next + HALF) & MASK) - HALF
        if self._next >= 0 and ahead >= 0:  # else forged: no byte given can be behind the last
            self._end = self._next + ahead

    def acknowledged(self, acknowledgment: int) -> Sequence[Piece]:
        """Give up a hole that the receiver has acknowledged: its bytes passed and were not seen."""
        given: list[Piece] = []
        while self._starts:
            behind = ((acknowledgment - self._next + HALF) & MASK) - HALF
            if behind < self._starts[0] - self._next:
                break
            self._skip(given, "gap: segment not captured")
        return given

    def flush(self) -> Sequence[Piece]:
        """Give up every hole: the connection has ended."""
        given: list[Piece] = []
        while self._starts:
            self._skip(given, "gap: segment not captured")
        return given

    def drop(self) -> None:
        """Let go of what is held, ungiven: nobody wants the bytes any more."""
        self._assembly.held -= self._held
        self._held = 0
        self._starts.clear()
        self._pieces.clear()

    def _hold(self, start: int, piece: Piece) -> None:
        """Insert what of the piece was neither given nor is held already."""
        begin = start
        end = start + _size(piece)
        start = max(start, self._next)
        starts, pieces = self._starts, self._pieces
        at = bisect_right(starts, start)
        if at:
            start = max(start, starts[at - 1] + _size(pieces[at - 1]))
        while start < end:
            stop = end if at == len(starts) else min(end, starts[at])
            if stop > start:
                part = stop - start if isinstance(piece, int) else piece[start - begin : stop - begin]
                starts.insert(at, start)
                pieces.insert(at, part)
                self._charge(_cost(part))
                at += 1
            if at == len(starts):
                break
            start = starts[at] + _size(pieces[at])
            at += 1

    def _drain(self) -> list[Piece]:
        """Take out the pieces that no hole keeps any more."""
        given: list[Piece] = []
        for start, piece in zip(self._starts, self._pieces, strict=True):
            if start != self._next:
                break
            if isinstance(piece, int):
                self._assembly.losses.count("stream", "gap: cut by the snap length")
            given.append(piece)
            self._next += _size(piece)
            self._charge(-_cost(piece))
        del self._starts[: len(given)], self._pieces[: len(given)]
        return given

    def _skip(self, given: list[Piece], reason: str) -> None:
        """Add the first hole as a gap, and what waits behind it."""
        self._assembly.losses.count("stream", reason)
        given.append(self._starts[0] - self._next)
        self._next = self._starts[0]
        given += self._drain()

    def _charge(self, cost: int) -> None:
        self._held += cost
        self._assembly.held += cost


def _size(piece: Piece) -> int:
    return piece if isinstance(piece, int) else len(piece)


def _cost(piece: Piece) -> int:
    return SEGMENT_COST if isinstance(piece, int) else SEGMENT_COST + len(piece)
