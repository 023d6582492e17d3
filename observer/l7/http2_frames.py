"""HTTP/2 frames as bytes show them: their layout, and whether bytes look like frames (RFC 9113, 3.4, 4.1 and 6).

Bytes in, offsets and a guess at the side out: for detection in the middle of a connection, and for finding the next
frame after lost bytes. Nothing here is needed while the lengths of frames lead from one to the next.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from observer.l7.hpack import HpackDecoder, HpackError
from observer.l7.message import Side

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # 3.4
HEADER_SIZE: Final = 9  # 4.1

SEARCH_FRAME_LIMIT: Final = 16_384
"""A larger frame (4.2: peers have to agree on it first) is followed, but not found by search."""
SEARCH_LIMIT: Final = 32_768
"""Octets held while the next frame is looked for."""
SEARCH_PIECE_COST: Final = 64
"""What the time of a held piece costs beside its octets."""
SEARCH_BLOCKS_LIMIT: Final = 4
"""Header blocks that are waited for at once in a search, because reading each costs time."""
UNSIDED_LIMIT: Final = 1_024
"""Octets of frames after which the caller's idea of the sides is taken, where the frames do not tell."""


class FrameType(enum.IntEnum):
    """Section 6."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY: Final = 0x20

# Plain numbers: they are compared for every frame.
_DATA: Final = FrameType.DATA.value
_HEADERS: Final = FrameType.HEADERS.value
_SETTINGS: Final = FrameType.SETTINGS.value
_PUSH_PROMISE: Final = FrameType.PUSH_PROMISE.value

_STREAM: Final = rb"(?!\0\0\0\0)[\0-\x7f].{3}"
_HEADERS_FLAGS: Final = rb"[\x00\x01\x04\x05\x08\x09\x0c\x0d\x20\x21\x24\x25\x28\x29\x2c\x2d]"
_WEAK: Final = (
    rb"[\0-\x40].(?:\x00[\x00\x01\x08\x09]|\x01" + _HEADERS_FLAGS + rb"|\x05[\x00\x04\x08\x0c]|\x09[\x00\x04])"
)
_PLAUSIBLE: Final = re.compile(
    rb"\0(?:(?P<weak>" + _WEAK + _STREAM + rb")"
    rb"|(?:\0\x05\x02\0|\0\x04\x03\0)" + _STREAM + rb"|\0\x04\x08\0[\0-\x7f].{3}"  # PRIORITY, RST_STREAM, WINDOW_UPDATE
    rb"|(?P<sure>(?:\0.\x04\0|\0\0\x04\x01|\0\x08\x06[\x00\x01]|[\x00\x01].\x07\0)\0\0\0\0))",  # SETTINGS, PING, GOAWAY
    re.DOTALL,
)


def frame_size(data: bytes | bytearray, position: int) -> int:
    """Octets of the payload of the frame whose header is there."""
    return int.from_bytes(data[position : position + 3], "big")


def looks_like(data: bytes | bytearray) -> tuple[bool | None, Side | None]:
    """Whether the first bytes of a side are frames (None: too few bytes to tell), and whose where that shows.

    A client's preface is certain. Else frames have to follow each other, or one has to be unmistakable.
    """
    if data[:1] == b"P":
        if data.startswith(PREFACE):
            return True, Side.CLIENT
        return (None if PREFACE.startswith(data) else False), None
    if not data.startswith(b"\0") or data.startswith(bytes(4)):
        return False, None  # empty DATA would be the least likely first frame
    if len(data) > 4 and data[3] == _HEADERS and not data[4] & END_HEADERS:
        return False, None  # so many are no frames, so few frames need a CONTINUATION
    position = count = 0
    sure = False
    while position < len(data):
        if position + HEADER_SIZE > len(data):
            break
        match = _PLAUSIBLE.match(data, position)
        size = frame_size(data, position)
        if match is None or (match["weak"] and _is_odd(match[0])) or not _may_be_settings(data, position, size):
            # What follows a frame in sight may be of a type that is not searched for.
            return sure, None
        count += 1
        end = position + HEADER_SIZE + size
        sure |= (match["sure"] is not None and end <= len(data)) or count > 1
        block = _block(data, position)
        if block is not None and (side := block_side(block)) is not None:
            return True, side
        if data[position + 3] == _PUSH_PROMISE and sure:
            return True, Side.SERVER
        position = end
    if sure and len(data) >= UNSIDED_LIMIT:
        return True, None
    return None, None


def _may_be_settings(data: bytes | bytearray, position: int, size: int) -> bool:
    """Not SETTINGS at all, or with identifiers that somebody gave out (6.5.1, RFC 8701 for those of chance)."""
    if data[position + 3] != _SETTINGS:
        return True
    payload = data[position + HEADER_SIZE : position + HEADER_SIZE + size]
    return not size % 6 and all(
        0 < identifier < 0x20 or identifier & 0x0F0F == 0x0A0A or identifier & 0xF000 == 0xF000
        for identifier in (int.from_bytes(payload[at : at + 2], "big") for at in range(0, len(payload) - 1, 6))
    )


def _is_odd(header: bytes) -> bool:
    """A frame that nobody sends: too large, or empty DATA that ends nothing."""
    size = frame_size(header, 0)
    return size > SEARCH_FRAME_LIMIT or (not size and header[3] == _DATA and not header[4] & END_STREAM)


def _block(data: bytes | bytearray, position: int) -> bytes | None:
    """The header block of a HEADERS frame that holds it whole, else None."""
    if data[position + 3] != _HEADERS or not data[position + 4] & END_HEADERS:
        return None
    end = position + HEADER_SIZE + frame_size(data, position)
    return fragment(data[position + HEADER_SIZE : end], data[position + 4]) if end <= len(data) else None


def fragment(payload: bytes | bytearray, flags: int, skip: int = 0) -> bytes | None:
    """The header block fragment of a HEADERS or PUSH_PROMISE payload (6.2, 6.6); None where its lengths are wrong."""
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            return None
        start, end = 1, end - payload[0]
    start += 5 if skip == 0 and flags & PRIORITY else skip
    return bytes(payload[start:end]) if start <= end else None


def block_side(block: bytes) -> Side | None:
    """Whose header block this is, by a first field that only one side sends."""
    try:
        fields = HpackDecoder(late=True).decode(block)
    except HpackError:
        return None
    for name, _ in fields:
        if name in (b":method", b":path", b":scheme", b":authority"):
            return Side.CLIENT
        if name in (b":status", b"grpc-status"):
            return Side.SERVER
        if name is not None:
            return None
    return None


class FrameSearch:
    """Looks for the next frame of a side whose position was lost, the same however the bytes are cut.

    Found is a frame that another follows, one of a length and stream that leave no doubt, or a header block that reads
    as one; of several what is certain first.
    """

    __slots__ = ("_base", "_blocks", "_buffer", "_next", "_pieces", "_scan")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._base = 0  # position of the buffer's first octet
        self._scan = 0  # from where headers are looked for
        self._next: dict[int, int] = {}  # where the next header has to be, of a frame at
        self._blocks: list[tuple[int, int]] = []  # where a header block ends, of a frame at
        self._pieces: list[tuple[int, int]] = []  # where a piece ends, and its time

    def feed(self, data: bytes, time_ns: int) -> list[tuple[bytes, int]] | None:
        """Take the next bytes; once a frame is found, the bytes from there on with their times."""
        buffer = self._buffer
        buffer += data
        self._pieces.append((self._base + len(buffer), time_ns))
        found = self._find()
        if found is None:
            self._trim()
            return None
        out = []
        for end, piece_time in self._pieces:
            if end > found:
                out.append((bytes(buffer[found - self._base : end - self._base]), piece_time))
                found = end
        return out

    def _find(self) -> int | None:
        buffer, base = self._buffer, self._base
        while True:
            match = _PLAUSIBLE.search(buffer, self._scan - base)
            certain = base + (match.end() if match else len(buffer))
            for block in sorted(self._blocks):
                if block[0] > certain:
                    break
                self._blocks.remove(block)
                payload = _block(buffer, block[1] - base)
                if payload is not None and block_side(payload) is not None:
                    return block[1]
            if match is None:
                self._scan = max(self._scan, base + len(buffer) - HEADER_SIZE + 1)
                return None
            position = base + match.start()
            self._scan = position + 1
            header = match[0]
            if match["weak"] is not None and _is_odd(header):
                continue
            origin = self._next.pop(position, None)
            if origin is not None:
                return origin
            if match["weak"] is None and not (header[3] == _SETTINGS and frame_size(header, 0) % 6):
                return position
            end = position + HEADER_SIZE + frame_size(header, 0)
            self._next.setdefault(end, position)
            if header[3] == _HEADERS and header[4] & END_HEADERS and len(self._blocks) < SEARCH_BLOCKS_LIMIT:
                self._blocks.append((end, position))

    def _trim(self) -> None:
        """Keep to the limit: forget the oldest octets, and the frames that might begin there."""
        surplus = len(self._buffer) + SEARCH_PIECE_COST * len(self._pieces) - SEARCH_LIMIT
        if surplus <= 0:
            return
        # A frame that was not certain within its own length and a header never will be.
        keep = SEARCH_FRAME_LIMIT + 2 * HEADER_SIZE
        drop = max(0, len(self._buffer) - keep)
        del self._buffer[:drop]
        self._base += drop
        self._pieces = [piece for piece in self._pieces if piece[0] > self._base]
        if len(self._pieces) * SEARCH_PIECE_COST > SEARCH_LIMIT:  # single octets: times are kept of every other
            self._pieces = self._pieces[1::2] if len(self._pieces) % 2 == 0 else self._pieces[::2]
        self._next = {end: start for end, start in self._next.items() if start >= self._base and end >= self._scan}
        self._blocks = [block for block in self._blocks if block[1] >= self._base]
