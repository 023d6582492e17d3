"""One side's place in the bytes of an HTTP/2 connection: in which frame and header block it is, and its table.

State that http2.py moves on; nothing here reads bytes (RFC 9113, 4 and 6).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final, NamedTuple

from observer.l7.hpack import Field, HpackDecoder
from observer.l7.http2_frames import FrameSearch
from observer.l7.http2_head import Section
from observer.l7.message import Side


class State(enum.IntEnum):
    """What the next byte of a side belongs to; http2.STEPS says who reads it."""

    __hash__ = int.__hash__  # Enum's own is Python, and slow

    START = enum.auto()  # the first byte that was seen
    FRAME = enum.auto()  # a frame header
    KEEP = enum.auto()  # `left` octets of a payload that is read
    PADDING = enum.auto()  # the octet that tells how much of DATA is padding
    DATA = enum.auto()  # `left` octets of DATA that somebody counts messages in, the last `padding` of them no data
    SKIP = enum.auto()  # `left` octets of a payload that nobody reads
    SEARCH = enum.auto()  # position lost: look for the next frame


NOT_KEPT: Final[Field] = (b"", b"")
"""An entry that another reader knew, and that no message is made of."""


class Place(NamedTuple):
    """Where another reader of a side has stopped."""

    state: State  # START, FRAME or SKIP
    left: int = 0  # octets of a payload that nobody reads
    ends: int = 0  # the stream that ends with them
    buffer: bytes = b""  # the beginning of a frame header, or of the preface
    entries: Sequence[Field] = ()  # of the dynamic table, oldest first, NOT_KEPT among them


class Direction:
    """One side's place in its bytes."""

    __slots__ = (
        "block", "block_end_stream", "block_missing", "block_promised", "block_stream", "buffer", "flags", "hpack",
        "kind", "left", "missing", "padding", "resumed", "search", "sections", "sections_of", "side", "state", "stream",
        "time_ns",
    )  # fmt: skip

    def __init__(self, side: Side) -> None:
        self.side = side
        self.state = State.START
        self.time_ns = 0  # of its last bytes
        self.buffer = bytearray()  # an unfinished frame header or payload
        self.search = FrameSearch()
        self.hpack = HpackDecoder(late=True)
        self.resumed = False  # its table may have entries that were not kept
        # Of the frame whose payload is being read:
        self.kind = self.flags = self.stream = self.left = self.padding = 0
        self.missing = False  # octets of the payload are not in `buffer`
        # Of the header block that is being assembled:
        self.block = bytearray()
        self.block_stream = 0  # not 0 while CONTINUATION has to follow (6.10)
        self.block_promised = 0  # the stream that it promises (6.6)
        self.block_end_stream = False
        self.block_missing = False
        # What blocks said while the table is as it was after so many changes: calls of one kind have equal ones.
        self.sections: dict[bytes, Section] = {}
        self.sections_of = 0
