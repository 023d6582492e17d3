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

_PACKET_HEADER: Final = {ENHANCED_PACKET: 28, OBSOLETE_PACKET: 28, SIMPLE_PACKET: 12}


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
            kind, starts = self._run()
            if starts:
                found = self._frames(kind, np.array(starts, np.int64))
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

    def _run(self) -> tuple[int, list[int]]:
        """Where the next packet blocks start, all of one type and whole in the buffer; passes over other blocks."""
        source = self._source
        buffer, at = source.buffer, source.at
        end, last = len(buffer), len(buffer) - 12
        head = struct.Struct(self._order + "II").unpack_from
        starts: list[int] = []
        append = starts.append
        run, run_header = -1, 0  # no block has that type
        while at <= last:
            kind, length = head(buffer, at)
            if length < 12 or length & 3 or at + length > end:
                break
            if kind == run:
                if length < run_header or length > self._max_packet or len(starts) == self._batch:
                    break
                append(at)
            elif kind in _PACKET_HEADER:
                if starts:
                    break
                run, run_header = kind, _PACKET_HEADER[kind] + 4
                continue
            elif kind in (SECTION, INTERFACE):
                break
            at += length
        source.at = at
        return run, starts

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
        packet = _PACKET_HEADER.get(kind)
        known = packet is not None or kind in (SECTION, INTERFACE)
        least = packet + 4 if packet is not None else 20 if kind == INTERFACE else 28 if kind == SECTION else 12
        if length < least or length & 3 or (known and length > (self._max_packet if packet else MAX_OPTIONS)):
            return "impossible record length"
        if packet is not None:
            return None if source.need(length) else "cut in mid-packet"
        if not known:
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

    def _frames(self, kind: int, starts: npt.NDArray[np.int64]) -> Frames:
        buffer, order = self._source.buffer, self._order
        numbers = np.arange(self._number, self._number + len(starts), dtype=np.int64)
        header = _PACKET_HEADER[kind]
        word = order + "u4"
        if kind == SIMPLE_PACKET:
            rows = gather(buffer, starts, 12).view([("type", word), ("length", word), ("wire", word)])
            interfaces = np.zeros(len(starts), np.uint32)
            wire = rows["wire"].astype(np.int64)
            captured = np.minimum(wire, rows["length"].astype(np.int64) - header - 4)
            if self._interfaces and self._interfaces[0].snap_length:
                captured = np.minimum(captured, self._interfaces[0].snap_length)
            room = captured
        else:
            names = ("type", "length", "interface", "high", "low", "captured", "wire")
            rows = gather(buffer, starts, 28).view([(name, word) for name in names])
            interfaces = rows["interface"].astype(np.uint32)
            if kind == OBSOLETE_PACKET:  # 16 bits of interface, 16 bits of drops
                interfaces = interfaces >> np.uint32(16) if order == ">" else interfaces & np.uint32(0xFFFF)
            wire = rows["wire"].astype(np.int64)
            captured = rows["captured"].astype(np.int64)
            room = rows["length"].astype(np.int64) - header - 4
        impossible = (captured > room) | (captured > self._max_frame)
        undeclared = interfaces >= len(self._interfaces)
        for reason, bad in (
            ("impossible record length", impossible),
            ("undeclared interface", undeclared & ~impossible),
        ):
            if number := int(np.count_nonzero(bad)):
                self._losses.count("pcap", reason, number)
        kept = ~(impossible | undeclared)
        times_ns = np.full(len(starts), self._last_ns, np.int64)  # a simple packet has no time: the one before it
        link_types = np.zeros(len(starts), np.uint16)
        for index in np.unique(interfaces[kept]).tolist():
            interface = self._interfaces[index]
            of = kept & (interfaces == index)
            link_types[of] = interface.link_type
            if kind != SIMPLE_PACKET:
                high, low = rows["high"][of].astype(np.uint64), rows["low"][of].astype(np.uint64)
                times_ns[of] = interface.times_ns(high << np.uint64(32) | low)
        if not kept.all():
            starts, captured, wire, times_ns = starts[kept], captured[kept], wire[kept], times_ns[kept]
            link_types, interfaces, numbers = link_types[kept], interfaces[kept], numbers[kept]
        if len(starts):
            self._last_ns = int(times_ns[-1])
        return Frames(
            data=buffer,
            offsets=starts + (header if kind != SIMPLE_PACKET else 12),
            lengths=captured,
            wire_lengths=np.maximum(wire, captured),
            times_ns=times_ns,
            link_types=link_types,
            interfaces=interfaces,
            numbers=numbers,
        )
