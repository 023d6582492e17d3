"""One side's place in its bytes: which state it is in, and what it keeps of an unfinished line or header section.

In: bytes with a position. Out: lines, however the bytes were cut. What is kept of a line is bounded by its limit. It
refuses to know what a line means (RFC 9112, 2).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

from observer.l7.http1_head import StartLine
from observer.l7.message import Side


class State(enum.IntEnum):
    """What the next byte of a side belongs to; http1.STEPS says who reads it."""

    __hash__ = int.__hash__  # Enum's own is Python, and slow

    START = enum.auto()  # empty lines or a start line
    FIELDS = enum.auto()  # the header section
    BODY = enum.auto()  # `remaining` octets of a length-delimited body
    CHUNK_SIZE = enum.auto()
    CHUNK_DATA = enum.auto()  # `remaining` octets of a chunk
    CHUNK_END = enum.auto()  # the line end after a chunk's data
    TRAILER = enum.auto()
    UNTIL_CLOSE = enum.auto()  # a body that ends with the connection
    WAITING = enum.auto()  # after CONNECT or Upgrade: what this is depends on the answer
    RESYNC = enum.auto()  # position lost: any line may be a start line
    TRIAL = enum.auto()  # the header section of a start line found that way


_NO_START: Final = StartLine(0)


@dataclass(slots=True)
class Stream:
    """One side's place in its bytes."""

    side: Side
    state: State = State.START
    buffer: bytearray = field(default_factory=bytearray)  # an unfinished line or header section
    overlong: bool = False  # `buffer` went over its limit, its beginning was dropped
    start: StartLine = field(default_factory=lambda: _NO_START)
    section: bytearray = field(default_factory=bytearray)  # TRIAL: the lines so far
    time_ns: int = 0  # of the start line
    remaining: int = 0  # of a body or chunk; TRAILER: octets still allowed

    def lose_position(self) -> None:
        """Forget what was kept: the next bytes are looked through for a start line."""
        self.state = State.RESYNC
        self.overlong = False
        self.buffer.clear()
        self.section.clear()

    def take_line(self, data: bytes, position: int, limit: int) -> tuple[bytes | None, int, bool]:
        """The line that ends in `data`, without its LF, else None; the next position; whether it kept to the limit.

        Of a line beyond the limit the last `limit` octets are given, wherever the bytes were cut.
        """
        buffer = self.buffer
        end = data.find(b"\n", position)
        if end < 0:
            buffer += data[position:]
            if len(buffer) > 2 * limit:
                del buffer[:-limit]
                self.overlong = True
            return None, len(data), True
        line = data[position:end]
        if buffer:
            buffer += line
            line = bytes(buffer)
            buffer.clear()
        whole = not self.overlong and len(line) <= limit
        self.overlong = False
        return line[-limit:], end + 1, whole
