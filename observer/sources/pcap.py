"""Capture files to frames: pcap of every byte order and time unit, pcapng (pcapng.py), gzip of either.

A path enters, batches of `Frames` leave. Records are indexed with one struct call each and no object per packet; the
fields of their headers are gathered with numpy. Refuses to know what a frame holds. A file that ends or breaks in
the middle gives what stands before, and the loss is counted. Format: draft-ietf-opsawg-pcap.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

import numpy as np

from observer.errors import CaptureError
from observer.losses import Losses
from observer.sources import pcapng
from observer.sources.frames import Frames
from observer.sources.gather import gather
from observer.sources.input import Input

MAX_FRAME: Final = 1 << 20
"""No frame is longer: BIG TCP reaches 512 KiB. A record that claims more is damage."""
FILE_HEADER: Final = 24
BATCH: Final = 6144
"""Frames at a time: more than input.CHUNK holds of usual size, so that no small rest is a batch of its own."""


class _Variant(NamedTuple):
    order: str
    unit_ns: int
    """Of the fraction of a second in a record header."""
    header: int
    """Bytes of a record header."""


_VARIANTS: Final = {
    b"\xd4\xc3\xb2\xa1": _Variant("<", 1000, 16),
    b"\xa1\xb2\xc3\xd4": _Variant(">", 1000, 16),
    b"\x4d\x3c\xb2\xa1": _Variant("<", 1, 16),
    b"\xa1\xb2\x3c\x4d": _Variant(">", 1, 16),
    b"\x34\xcd\xb2\xa1": _Variant("<", 1000, 24),  # Kuznetzov's patched libpcap
    b"\xa1\xb2\xcd\x34": _Variant(">", 1000, 24),
}


def open_capture(path: str | Path, losses: Losses) -> PcapReader:
    """Open a capture file, or a pipe that carries one.

    Raises CaptureError when there is no capture at `path`; what is wrong further on is counted in `losses`.
    """
    return PcapReader(Path(path), losses)


class PcapReader:
    """One capture file, read once from its start; a context manager."""

    def __init__(self, path: Path, losses: Losses) -> None:
        self._losses = losses
        self._input = Input(path)
        try:
            self._variant = self._recognise()
        except BaseException:
            self._input.close()
            raise

    @property
    def size(self) -> int:
        """Bytes of the file; 0 of a pipe."""
        return self._input.size

    @property
    def position(self) -> int:
        """Bytes of the file read so far."""
        return self._input.position

    def frames(self, batch: int = BATCH) -> Iterator[Frames]:
        """Yield the frames that are left, at most `batch` at a time and never an empty batch."""
        if self._variant is None:
            yield from pcapng.frames(self._input, self._losses, batch, MAX_FRAME)
        else:
            yield from self._records(self._variant, batch)

    def close(self) -> None:
        """Close the file; frames given out stay valid."""
        self._input.close()

    def __enter__(self) -> PcapReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _recognise(self) -> _Variant | None:
        """The variant of pcap, None for pcapng."""
        source = self._input
        whole = source.need(FILE_HEADER)
        head = source.buffer[:FILE_HEADER]
        variant = _VARIANTS.get(head[:4])
        if not head:
            raise CaptureError(f"{source.path}: {source.failure or 'is empty'}; record the capture again")
        if variant is None and not pcapng.is_section(head):
            raise CaptureError(
                f"{source.path}: is no pcap or pcapng capture; convert it with `editcap -F pcapng IN OUT` "
                "(gzip may stay, other compression must go first)"
            )
        if not whole:
            raise CaptureError(f"{source.path}: ends within its file header; record the capture again")
        return variant

    def _records(self, variant: _Variant, batch: int) -> Iterator[Frames]:
        source, losses = self._input, self._losses
        order, unit_ns, header = variant
        # The upper bits of the word tell of a frame check sequence; IP lengths cut that off anyway.
        link_type = struct.unpack_from(order + "I", source.buffer, 20)[0] & 0xFFFF
        source.at = FILE_HEADER
        fields = np.dtype([(name, order + "u4") for name in ("seconds", "fraction", "captured", "wire")])
        captured_length = struct.Struct(order + "I").unpack_from
        number = 1
        while source.need(header):
            starts: list[int] = []
            append = starts.append
            buffer, at = source.buffer, source.at
            end, last = len(buffer), len(buffer) - header
            needed = 0
            for _ in range(batch):
                if at > last:
                    break
                (captured,) = captured_length(buffer, at + 8)
                behind = at + header + captured
                if behind > end or captured > MAX_FRAME:
                    needed = captured
                    break
                append(at)
                at = behind
            source.at = at
            if starts:
                rows = gather(buffer, np.array(starts, np.int64), 16).view(fields)
                lengths = rows["captured"].astype(np.int64)
                times_ns = (
                    rows["seconds"].astype(np.int64) * 1_000_000_000 + rows["fraction"].astype(np.int64) * unit_ns
                )
                yield Frames(
                    data=buffer,
                    offsets=np.array(starts, np.int64) + header,
                    lengths=lengths,
                    wire_lengths=np.maximum(rows["wire"].astype(np.int64), lengths),
                    times_ns=times_ns,
                    link_types=np.full(len(starts), link_type, np.uint16),
                    interfaces=np.zeros(len(starts), np.uint32),
                    numbers=np.arange(number, number + len(starts), dtype=np.int64),
                )
                number += len(starts)
            elif needed > MAX_FRAME:
                losses.count("pcap", "impossible record length")
                return
            elif not source.need(header + needed):
                break
        if source.failure is not None:
            losses.count("pcap", source.failure)
        elif source.at < len(source.buffer):
            losses.count("pcap", "cut in mid-packet")
