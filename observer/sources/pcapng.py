"""pcapng to frames: sections of either byte order, several interfaces, enhanced, simple and obsolete packet blocks.

An `Input` at a section header enters, batches of `Frames` leave. Blocks of other types are passed over. A block that
cannot be is counted and ends the file: without its length nothing behind it can be found.
Format: draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from observer.losses import Losses
from observer.sources.frames import Frames
from observer.sources.gather import gather
from observer.sources.input import Input

SECTION: Final = 0x0A0D0D0A  # the same in either byte order
INTERFACE: Final = 1
OBSOLETE_PACKET: Final = 2
SIMPLE_PACKET: Final = 3
ENHANCED_PACKET: Final = 6

MAX_OPTIONS: Final = 256 << 10
"""Bytes of a packet block besides the frame, and of a section or interface block; one that claims more is damage."""
MAX_INTERFACES: Final = 65_536
"""Of a section; what comes after is not declared."""

OPTION_TSRESOL: Final = 9
OPTION_TSOFFSET: Final = 14
LAST_SECOND: Final = 9_000_000_000
"""Times are held between 1970 and this second, which is near the end of int64 nanoseconds."""

_LEAST: Final = {ENHANCED_PACKET: 32, OBSOLETE_PACKET: 32, SIMPLE_PACKET: 16, INTERFACE: 20, SECTION: 28}
"""Bytes of the shortest block of each type that is read."""


@dataclass(frozen=True, slots=True)
class _Interface:
    link_type: int
    snap_length: int
    resolution: int = 6
    """if_tsresol: a power of ten, or of two with the highest bit set."""
    offset: int = 0
    """if_tsoffset in seconds."""

    def times_ns(self, ticks: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        power = self.resolution & 0x7F
        if self.resolution & 0x80:
            seconds = ticks >> np.uint64(power) if power < 64 else np.zeros_like(ticks)
            fraction = ticks & np.uint64((1 << min(power, 64)) - 1)
            if power > 34:  # 34 bits times a thousand million is what 64 bits hold
                fraction >>= np.uint64(min(power - 34, 63))
                power = 34
            nanoseconds = fraction * np.uint64(1_000_000_000) >> np.uint64(power)
        else:
            unit = np.uint64(10 ** min(power, 19))
            seconds = ticks // unit if power <= 19 else np.zeros_like(ticks)
            fraction = ticks % unit if power <= 19 else ticks
            if power <= 9:
                nanoseconds = fraction * np.uint64(10 ** (9 - power))
            else:
                nanoseconds = fraction // np.uint64(10 ** min(power - 9, 19))
        # Both summands are clipped first, or their sum might wrap.
        whole = np.minimum(seconds, np.uint64(LAST_SECOND)).astype(np.int64)
        whole += max(-LAST_SECOND, min(self.offset, LAST_SECOND))
        return np.clip(whole, 0, LAST_SECOND) * 1_000_000_000 + nanoseconds.astype(np.int64)


def is_section(head: bytes) -> bool:
    """Whether these bytes, at least the first 12 of a file, are a section header."""
    return head[:4] == b"\n\r\r\n" and _order(head, 0) is not None


def frames(source: Input, losses: Losses, batch: int, max_frame: int) -> Iterator[Frames]:
    """Yield the frames of every section, at most `batch` at a time, none longer than `max_frame`."""
    yield from _Blocks(source, losses, batch, max_frame).frames()


def _order(buffer: bytes, at: int) -> str | None:
    magic = buffer[at + 8 : at + 12]
    return {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}.get(magic)


class _Blocks:
    def __init__(self, source: Input, losses: Losses, batch: int, max_frame: int) -> None:
        self._source = source
        self._losses = losses
        self._batch = batch
        self._max_frame = max_frame
        self._max_packet = max_frame + MAX_OPTIONS
        self._order = "<"
        self._interfaces: list[_Interface] = []
        self._number = 1
        self._last_ns = 0

    def frames(self) -> Iterator[Frames]:
        source = self._source
        while source.need(12):
            starts = self._run()
            if starts:
                found = self._frames(np.array(starts, np.int64))
                self._number += len(starts)
                if len(found):
                    yield found
                continue
            if not source.need(12):  # `_run` passed over what there was
                break
            reason = self._block()
            if reason is not None:
                self._losses.count("pcap", source.failure or reason)
                return
        if source.failure is not None or source.at < len(source.buffer):
            self._losses.count("pcap", source.failure or "cut in mid-packet")

    def _run(self) -> list[int]:
        """Where the next packet blocks start that are whole in the buffer; passes over blocks that tell nothing."""
        source = self._source
        buffer, at = source.buffer, source.at
        end, last = len(buffer), len(buffer) - 12
        head = struct.Struct(self._order + "II").unpack_from
        starts: list[int] = []
        append = starts.append
        enhanced = _LEAST[ENHANCED_PACKET]
        while at <= last:
            kind, length = head(buffer, at)
            if length < 12 or length & 3 or at + length > end:
                break
            if kind == ENHANCED_PACKET:
                least = enhanced
            elif kind in (SECTION, INTERFACE):
                break
            elif kind in _LEAST:
                least = _LEAST[kind]
            else:
                at += length
                continue
            if length < least or length > self._max_packet or len(starts) == self._batch:
                break
            append(at)
            at += length
        source.at = at
        return starts

    def _block(self) -> str | None:
        """Take the one block at hand that `_run` left; the reason if the file cannot be read beyond it."""
        source = self._source
        order = self._order
        (kind,) = struct.unpack_from(order + "I", source.buffer, source.at)
        if kind == SECTION:
            found = _order(source.buffer, source.at)
            if found is None:
                return "damaged section header"
            order = found
        (length,) = struct.unpack_from(order + "I", source.buffer, source.at + 4)
        packet = kind in (ENHANCED_PACKET, OBSOLETE_PACKET, SIMPLE_PACKET)
        most = self._max_packet if packet else MAX_OPTIONS
        if length < _LEAST.get(kind, 12) or length & 3 or (kind in _LEAST and length > most):
            return "impossible record length"
        if packet:
            return None if source.need(length) else "cut in mid-packet"
        if kind not in _LEAST:
            return None if source.skip(length) else "cut in mid-packet"
        if not source.need(length):
            return "cut in mid-packet"
        if kind == SECTION:
            self._order = order
            self._interfaces = []
        elif len(self._interfaces) < MAX_INTERFACES:
            self._interfaces.append(self._interface(source.buffer[source.at + 8 : source.at + length - 4]))
        source.at += length
        return None

    def _interface(self, body: bytes) -> _Interface:
        order = self._order
        link_type, _, snap_length = struct.unpack_from(order + "HHI", body)
        resolution, offset = 6, 0
        at = 8
        while at + 4 <= len(body):
            code, size = struct.unpack_from(order + "HH", body, at)
            value = body[at + 4 : at + 4 + size]
            if code == 0:
                break
            if code == OPTION_TSRESOL and len(value) == 1:
                resolution = value[0]
            elif code == OPTION_TSOFFSET and len(value) == 8:
                (offset,) = struct.unpack(order + "q", value)
            at += 4 + (size + 3 & ~3)
        return _Interface(link_type, snap_length, resolution, offset)

    def _frames(self, starts: npt.NDArray[np.int64]) -> Frames:
        buffer, order = self._source.buffer, self._order
        names = ("type", "length", "interface", "high", "low", "captured", "wire")
        rows = gather(buffer, starts, 28).view([(name, order + "u4") for name in names])
        interfaces = rows["interface"].astype(np.uint32)
        wire = rows["wire"].astype(np.int64)
        captured = rows["captured"].astype(np.int64)
        room = rows["length"].astype(np.int64) - _LEAST[ENHANCED_PACKET]
        header = np.full(len(starts), 28, np.int64)
        simple = rows["type"] == SIMPLE_PACKET
        if simple.any():  # where the others have the interface it has the length on the wire, then the frame
            wire[simple] = interfaces[simple]
            captured[simple] = np.minimum(wire, room + 16)[simple]
            room[simple] += 16
            header[simple] = 12
            interfaces[simple] = 0
            if self._interfaces and (limit := self._interfaces[0].snap_length):
                captured[simple] = np.minimum(captured[simple], limit)
        obsolete = rows["type"] == OBSOLETE_PACKET
        if obsolete.any():  # 16 bits of interface, 16 bits of drops
            both = interfaces[obsolete]
            interfaces[obsolete] = both >> np.uint32(16) if order == ">" else both & np.uint32(0xFFFF)
        impossible = (captured > room) | (captured > self._max_frame)
        undeclared = (interfaces >= len(self._interfaces)) & ~impossible
        for reason, bad in (("impossible record length", impossible), ("undeclared interface", undeclared)):
            if number := int(np.count_nonzero(bad)):
                self._losses.count("pcap", reason, number)
        kept = np.flatnonzero(~(impossible | undeclared))
        interfaces = interfaces[kept]
        ticks = rows["high"][kept].astype(np.uint64) << np.uint64(32) | rows["low"][kept].astype(np.uint64)
        times_ns = np.zeros(len(kept), np.int64)
        link_types = np.zeros(len(kept), np.uint16)
        for index in np.unique(interfaces).tolist():
            of = interfaces == index
            times_ns[of] = self._interfaces[index].times_ns(ticks[of])
            link_types[of] = self._interfaces[index].link_type
        if simple.any():  # it has no time: that of the packet before it
            times_ns = np.concatenate(([self._last_ns], times_ns))
            told = np.concatenate(([True], ~simple[kept]))
            times_ns = times_ns[np.maximum.accumulate(np.where(told, np.arange(len(told)), 0))][1:]
        if len(kept):
            self._last_ns = int(times_ns[-1])
        return Frames(
            data=buffer,
            offsets=(starts + header)[kept],
            lengths=captured[kept],
            wire_lengths=np.maximum(wire, captured)[kept],
            times_ns=times_ns,
            link_types=link_types,
            interfaces=interfaces,
            numbers=kept + self._number,
        )
