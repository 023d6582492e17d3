"""Packets of a capture again, as pcapng, each with a comment that says what was known of it.

Frames of open captures and records enter, blocks leave; nothing is decoded beyond addresses and ports. Link types of
several interfaces are kept. Format: draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from observer.decode import Decoder, Packets
from observer.losses import Losses
from observer.record import Records
from observer.sources.pcap import MAX_FRAME, open_capture
from observer.sources.pcapng import ENHANCED_PACKET, INTERFACE, OPTION_TSRESOL, SECTION

NANOSECONDS: Final = 9
OPTION_END: Final = 0
OPTION_COMMENT: Final = 1
COMMENT_MAX: Final = 16_384
"""Bytes of one comment."""
COMMENTS_MAX: Final = 8
"""Comments of one packet: flows that it made."""


def write_annotated(
    path: Path, out: BinaryIO, records: Records, comments: Sequence[str], *, stop: Callable[[], bool] = lambda: False
) -> int:
    """Write the packets of the records' connections; return how many. One that made a record carries its comment."""
    wanted: dict[bytes, dict[int, list[str]]] = {}
    for record, comment in zip(records, comments, strict=True):
        one = record["source_ip"].tobytes(), int(record["source_port"])
        other = record["destination_ip"].tobytes(), int(record["destination_port"])
        protocol = int(record["protocol"])
        forward, back = _key(one, other, protocol), _key(other, one, protocol)
        wanted.setdefault(back, {})
        told = wanted.setdefault(forward, {}).setdefault(int(record["time_ns"]), [])
        if len(told) < COMMENTS_MAX:
            told.append(comment)
    written = 0
    interfaces: dict[int, int] = {}
    decoder = Decoder(Losses())
    out.write(_block(SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
    with open_capture(path, Losses()) as capture:
        for frames in capture.frames():
            if stop():
                break
            packets = decoder.decode(frames)
            for row, key in enumerate(_keys(packets)):
                told_at = wanted.get(key)
                if told_at is None:
                    continue
                frame = int(packets.frame[row]) - int(frames.numbers[0])
                link_type = int(frames.link_types[frame])
                if link_type not in interfaces:
                    interfaces[link_type] = len(interfaces)
                    resolution = struct.pack("<HHB3xHH", OPTION_TSRESOL, 1, NANOSECONDS, OPTION_END, 0)
                    out.write(_block(INTERFACE, struct.pack("<HHI", link_type, 0, MAX_FRAME) + resolution))
                start, time_ns = int(frames.offsets[frame]), int(frames.times_ns[frame])
                data = bytes(frames.data[start : start + int(frames.lengths[frame])])
                head = struct.pack(
                    "<5I", interfaces[link_type], time_ns >> 32, time_ns & 0xFFFFFFFF, len(data),
                    int(frames.wire_lengths[frame]),
                )  # fmt: skip
                options = b"".join(map(_comment, told_at.get(int(packets.time_ns[row]), ())))
                out.write(_block(ENHANCED_PACKET, head + _padded(data) + (options and options + bytes(4))))
                written += 1
    return written


def _key(source: tuple[bytes, int], destination: tuple[bytes, int], protocol: int) -> bytes:
    return source[0] + destination[0] + struct.pack("<HHB", source[1], destination[1], protocol)


def _keys(packets: Packets) -> list[bytes]:
    """The key of each packet."""
    parts: list[np.ndarray[Any, Any]] = [
        packets.source_ip,
        packets.destination_ip,
        packets.source_port.astype("<u2").view(np.uint8).reshape(-1, 2),
        packets.destination_port.astype("<u2").view(np.uint8).reshape(-1, 2),
        packets.protocol.reshape(-1, 1),
    ]
    raw = np.ascontiguousarray(np.concatenate(parts, axis=1)).tobytes()
    size = len(raw) // len(packets) if len(packets) else 1
    return [raw[start : start + size] for start in range(0, len(raw), size)]


def _comment(text: str) -> bytes:
    data = text.encode("utf-8", "backslashreplace")[:COMMENT_MAX]
    return struct.pack("<HH", OPTION_COMMENT, len(data)) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + length + body + length
