"""HTTP/2 as a passive observer reads it: bytes of both sides in, requests and responses out (RFC 9113).

Frames are walked by their lengths; header blocks go through the HPACK decoder of their direction, DATA is passed over
unless gRPC messages are counted in it. It may join in the middle and lose bytes: exactly where a frame's length tells
how to go on, else it looks for the next frame and gives up what the tables held. It refuses to know flow control,
priorities, bodies, and settings: an encoder says itself how large its table is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from observer.l7.hpack import HpackDecoder, HpackError
from observer.l7.http2_direction import NOT_KEPT, Direction, Place, State
from observer.l7.http2_frames import (
    END_HEADERS,
    END_STREAM,
    HEADER_SIZE,
    PADDED,
    PREFACE,
    PRIORITY,
    FrameSearch,
    FrameType,
    fragment,
)
from observer.l7.http2_head import Section, read_section
from observer.l7.http2_streams import Streams
from observer.l7.message import Message, Side
from observer.losses import Losses

# Looking members up in their class is slow, and done for every message.
CLIENT, SERVER = Side.CLIENT, Side.SERVER

HEADER_BLOCK_LIMIT: Final = 65_536
"""Octets of a header block over all its frames; of a larger one the beginning is read, and its table given up."""
SECTIONS_LIMIT: Final = 16
"""Sections of one direction that are kept, in case that their blocks come again."""
SECTION_SIZE: Final = 256
"""Octets of a block whose section is kept."""
MALFORMED_LIMIT: Final = 32
"""Malformed frames and header blocks after which a connection counts as opaque."""

_HEADER: Final = struct.Struct("!LBL")  # length and type together, flags, stream
_DATA: Final = FrameType.DATA.value
_HEADERS: Final = FrameType.HEADERS.value
_RST_STREAM: Final = FrameType.RST_STREAM.value
_PUSH_PROMISE: Final = FrameType.PUSH_PROMISE.value
_GOAWAY: Final = FrameType.GOAWAY.value
_CONTINUATION: Final = FrameType.CONTINUATION.value
_KEPT: Final = frozenset((_HEADERS, _RST_STREAM, _PUSH_PROMISE, _GOAWAY, _CONTINUATION))
_FRAMED: Final = END_HEADERS | PADDED | PRIORITY
_SIZES: Final = {FrameType.PRIORITY: 5, FrameType.RST_STREAM: 4, FrameType.PING: 8, FrameType.WINDOW_UPDATE: 4}
_OF_CONNECTION: Final = frozenset((FrameType.SETTINGS, FrameType.PING, FrameType.GOAWAY))
_OF_STREAM: Final = frozenset(
    (_DATA, _HEADERS, FrameType.PRIORITY, _RST_STREAM, _PUSH_PROMISE, _CONTINUATION)
)  # WINDOW_UPDATE is of either

# Looking members up in their class is slow.
DATA: Final = State.DATA
FRAME: Final = State.FRAME
KEEP: Final = State.KEEP
PADDING: Final = State.PADDING
SEARCH: Final = State.SEARCH
SKIP: Final = State.SKIP
START: Final = State.START


class Http2:
    """Parser of one connection; `upgraded_by` is the HTTP/1.1 request that asked for h2c, answered with 101."""

    def __init__(self, losses: Losses, upgraded_by: Message | None = None) -> None:
        self.opaque = False
        self._losses = losses
        self._streams = Streams(losses)
        self._directions = (Direction(CLIENT), Direction(SERVER))
        self._malformed = 0
        self._late: list[Message] = []  # told by a gap, given with the next bytes
        if upgraded_by is not None:
            self._streams.upgraded(upgraded_by)
            self._begin(self._directions[SERVER])

    @property
    def streams(self) -> Streams:
        """What is remembered of the streams: whoever goes on for another reader tells them what that one knew."""
        return self._streams

    def resume(self, side: Side, place: Place) -> None:
        """Go on in a side where another reader has stopped."""
        direction = self._directions[side]
        if place.state is START:
            direction.buffer += place.buffer
            return
        direction.state, direction.left = place.state, place.left
        direction.kind, direction.flags, direction.stream = _DATA, END_STREAM if place.ends else 0, place.ends
        direction.buffer += place.buffer
        direction.hpack.resume(place.entries)
        direction.resumed = True

    def feed(self, side: Side, data: bytes, time_ns: int) -> list[Message]:
        """Take the next bytes of a side and give the messages that they complete."""
        out, self._late = self._late, []
        direction = self._directions[side]
        direction.time_ns = time_ns
        pieces: list[tuple[bytes, int]] = []  # that a search gives back
        while True:
            position, end = 0, len(data)
            while position < end and not self.opaque:
                if direction.state is SEARCH:
                    found = direction.search.feed(data[position:], time_ns)
                    if found is not None:
                        direction.state = FRAME
                        pieces += reversed(found)
                    break
                position = STEPS[direction.state](self, direction, data, position, time_ns, out)
            if not pieces or self.opaque:
                return out
            data, time_ns = pieces.pop()

    def gap(self, side: Side, size: int) -> None:
        """Pass over lost bytes exactly where the frame's length tells how many follow; else look for the next frame."""
        direction = self._directions[side]
        if self.opaque:
            return
        if direction.state not in (KEEP, PADDING, DATA, SKIP) or size > direction.left:
            self._lose_position(direction, self._late)
            return
        if direction.kind == _DATA:
            self._streams.data_lost(side, direction.stream)
            direction.state = SKIP
        direction.missing = True
        direction.left -= size
        if not direction.left:
            self._end_frame(direction, direction.time_ns, self._late)

    def close(self, side: Side) -> list[Message]:
        """End a side: tell what there is of an unfinished header block, and of unfinished gRPC responses."""
        out, self._late = self._late, []
        direction = self._directions[side]
        if not self.opaque:
            self._lose_position(direction, out)
            if side is SERVER:
                self._streams.close(direction.time_ns, out)
        return out

    def _begin(self, direction: Direction) -> None:
        """The side's first frame comes next: its table is empty."""
        direction.state = FRAME
        direction.hpack = HpackDecoder()
        direction.sections = {}

    def _lose_position(self, direction: Direction, out: list[Message]) -> None:
        """Frames of this direction went by unseen."""
        in_block = direction.kind in (_HEADERS, _PUSH_PROMISE, _CONTINUATION)
        if direction.state is KEEP and in_block:
            direction.missing = True
            direction.flags |= END_HEADERS
            self._end_frame(direction, direction.time_ns, out)
        elif direction.block_stream:
            self._cut_block(direction, direction.time_ns, out)
        direction.hpack.lose()
        direction.buffer.clear()
        direction.search = FrameSearch()
        direction.state = SEARCH
        self._streams.lost(direction.side)

    def _faulty(self, reason: str) -> None:
        self._losses.count("http2", reason)
        self._malformed += 1
        if self._malformed >= MALFORMED_LIMIT:
            self.opaque = True
            self._streams = Streams(self._losses)
            self._directions = (Direction(CLIENT), Direction(SERVER))

    # Frames

    def _start(self, direction: Direction, data: bytes, position: int, time_ns: int, out: list[Message]) -> int:
        """3.4: the client begins with the preface; who does not was joined in the middle."""
        if direction.side is SERVER:
            direction.state = SEARCH
            return position
        buffer = direction.buffer
        before = len(buffer)
        buffer += data[position : position + len(PREFACE) - before]
        if buffer == PREFACE:
            position += len(PREFACE) - before
            buffer.clear()
            self._begin(direction)
            server = self._directions[SERVER]
            if server.state is START:
                self._begin(server)
            return position
        if PREFACE.startswith(buffer):
            return len(data)
        direction.state = SEARCH  # what came before is no part of a frame: none begins like the preface
        buffer.clear()
        return position

    def _frame(self, direction: Direction, data: bytes, position: int, time_ns: int, out: list[Message]) -> int:
        buffer = direction.buffer
        if buffer or len(data) - position < HEADER_SIZE:
            piece = data[position : position + HEADER_SIZE - len(buffer)]
            buffer += piece
            position += len(piece)
            if len(buffer) < HEADER_SIZE:
                return position
            word, flags, stream = _HEADER.unpack(buffer)
            buffer.clear()
        else:
            word, flags, stream = _HEADER.unpack_from(data, position)
            position += HEADER_SIZE
        size, kind = word >> 8, word & 0xFF
        stream &= 0x7FFF_FFFF
        after: int = position + size
        whole = after <= len(data)
        if whole and stream and not direction.block_stream:  # nearly all are: most of these are read here
            if kind == _HEADERS and flags & _FRAMED == END_HEADERS and size <= HEADER_BLOCK_LIMIT:
                section = self._section(direction, data[position:after])
                if section is not None:
                    self._streams.section(direction.side, stream, section, flags & END_STREAM != 0, time_ns, out)
                return after
            if kind == _DATA and not flags & PADDED:
                if size:
                    self._streams.data(direction.side, stream, data, position, after)
                if flags & END_STREAM:
                    self._streams.end(direction.side, stream, time_ns, out)
                return after
        if (
            _SIZES.get(kind, size) != size
            or (not stream and kind in _OF_STREAM)
            or (stream and kind in _OF_CONNECTION)
            or (kind == _GOAWAY and size < 8)
        ):
            self._faulty("malformed frame")
            self._lose_position(direction, out)
            return position
        if direction.block_stream and (kind != _CONTINUATION or stream != direction.block_stream):
            self._faulty("header block interrupted")  # 6.2
            self._cut_block(direction, time_ns, out)
        direction.kind, direction.flags, direction.stream, direction.left = kind, flags, stream, size
        direction.missing = False
        if kind in _KEPT:
            if whole and size <= HEADER_BLOCK_LIMIT:
                direction.left = 0
                self._payload(direction, data[position:after], time_ns, out)
                return after
            direction.state = KEEP
        elif kind == _DATA and self._streams.wants_data(stream):
            direction.padding = 0
            direction.state = PADDING if flags & PADDED and size else DATA
        else:
            direction.state = SKIP
        if not size:
            self._end_frame(direction, time_ns, out)
        return position

    def _end_frame(self, direction: Direction, time_ns: int, out: list[Message]) -> None:
        """The payload is over."""
        kept = direction.state is KEEP
        direction.state = FRAME
        if kept:
            payload = bytes(direction.buffer)
            direction.buffer.clear()
            self._payload(direction, payload, time_ns, out)
        elif direction.kind == _DATA and direction.flags & END_STREAM:
            self._streams.end(direction.side, direction.stream, time_ns, out)

    def _keep(self, direction: Direction, data: bytes, position: int, time_ns: int, out: list[Message]) -> int:
        size = min(direction.left, len(data) - position)
        if not direction.missing:
            direction.buffer += data[position : position + size]
            if len(direction.buffer) > HEADER_BLOCK_LIMIT:
                del direction.buffer[HEADER_BLOCK_LIMIT:]
                direction.missing = True
                self._losses.count("http2", "header block too large")
        direction.left -= size
        if not direction.left:
            self._end_frame(direction, time_ns, out)
        return position + size

    def _padding(self, direction: Direction, data: bytes, position: int, time_ns: int, out: list[Message]) -> int:
        direction.padding = data[position]
        direction.left -= 1
        direction.state = DATA
        if not direction.left:
            self._end_frame(direction, time_ns, out)
        return position + 1

    def _data(self, direction: Direction, data: bytes, position: int, time_ns: int, out: list[Message]) -> int:
        size = min(direction.left, len(data) - position)
        visible = min(size, direction.left - direction.padding)
        if visible > 0:
            self._streams.data(direction.side, direction.stream, data, position, position + visible)
        direction.left -= size
        if not direction.left:
            self._end_frame(direction, time_ns, out)
        return position + size

    def _skip(self, direction: Direction, data: bytes, position: int, time_ns: int, out: list[Message]) -> int:
        size = min(direction.left, len(data) - position)
        direction.left -= size
        if not direction.left:
            self._end_frame(direction, time_ns, out)
        return position + size

    # Payloads

    def _payload(self, direction: Direction, payload: bytes, time_ns: int, out: list[Message]) -> None:
        kind = direction.kind
        if kind == _CONTINUATION:
            self._continuation(direction, payload, time_ns, out)
        elif kind in (_HEADERS, _PUSH_PROMISE):
            self._block(direction, payload, time_ns, out)
        elif not direction.missing:
            if kind == _RST_STREAM:
                code = int.from_bytes(payload, "big")
                self._streams.reset(direction.side, direction.stream, code, time_ns, out)
            else:
                last, code = int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF, int.from_bytes(payload[4:8], "big")
                self._streams.go_away(direction.side, last, code, time_ns, out)

    def _block(self, direction: Direction, payload: bytes, time_ns: int, out: list[Message]) -> None:
        """A header block begins (6.2, 6.6)."""
        flags = direction.flags
        promises = direction.kind == _PUSH_PROMISE
        if direction.missing and flags & PADDED:
            payload, flags = payload[1:], flags & ~PADDED  # the padding is at the end, which is not here
        block = fragment(payload, flags, 4 if promises else 0)
        if block is None:
            if not direction.missing:
                self._faulty("malformed frame")
            block, direction.missing = b"", True
        start = 1 if promises and flags & PADDED else 0
        direction.block_promised = int.from_bytes(payload[start : start + 4], "big") & 0x7FFF_FFFF if promises else 0
        direction.block_stream = direction.stream
        direction.block_end_stream = bool(flags & END_STREAM) and not promises
        direction.block_missing = direction.missing
        if flags & END_HEADERS:
            self._end_block(direction, block, time_ns, out)
        else:
            direction.block += block

    def _continuation(self, direction: Direction, payload: bytes, time_ns: int, out: list[Message]) -> None:
        if not direction.block_stream:
            if not direction.hpack.late:
                self._faulty("CONTINUATION of nothing")  # 6.10; else of a block that began out of sight
            direction.hpack.lose()
            return
        if not direction.block_missing:
            room = HEADER_BLOCK_LIMIT - len(direction.block)
            direction.block += payload[:room]
            if len(payload) > room:
                self._losses.count("http2", "header block too large")
            direction.block_missing = direction.missing or len(payload) > room
        if direction.flags & END_HEADERS:
            self._end_block(direction, bytes(direction.block), time_ns, out)

    def _cut_block(self, direction: Direction, time_ns: int, out: list[Message]) -> None:
        direction.block_missing = True
        self._end_block(direction, bytes(direction.block), time_ns, out)

    def _end_block(self, direction: Direction, block: bytes, time_ns: int, out: list[Message]) -> None:
        """Read a header block, or the beginning of one."""
        number = direction.block_stream
        direction.block_stream = 0
        direction.block.clear()
        section = self._section(direction, block, whole=not direction.block_missing)
        if section is None:
            return
        if not direction.block_promised:
            end_stream = direction.block_end_stream
            self._streams.section(direction.side, number, section, end_stream, time_ns, out)
        elif direction.side is SERVER and direction.block_promised % 2 == 0:
            self._streams.promise(direction.block_promised, section, time_ns)

    def _section(self, direction: Direction, block: bytes, *, whole: bool = True) -> Section | None:
        """The section of a block, kept if it is sound and has changed no table; None where it is malformed."""
        hpack = direction.hpack
        changes = hpack.changes
        if direction.sections_of == changes and whole and (known := direction.sections.get(block)) is not None:
            return known
        try:
            fields = hpack.decode(block, whole=whole)
        except HpackError:
            self._faulty("malformed header block")
            return None
        if direction.resumed:
            fields = [field for field in fields if field[0] != NOT_KEPT[0]]
        section = read_section(fields, hpack.cut, self._losses)
        if hpack.changes == changes and section.sound and len(block) <= SECTION_SIZE:
            if direction.sections_of != changes or len(direction.sections) >= SECTIONS_LIMIT:
                direction.sections = {}
            direction.sections_of = changes
            direction.sections[block] = section
        return section


STEPS: Final[dict[State, Callable[[Http2, Direction, bytes, int, int, list[Message]], int]]] = {
    START: Http2._start,
    FRAME: Http2._frame,
    KEEP: Http2._keep,
    PADDING: Http2._padding,
    DATA: Http2._data,
    SKIP: Http2._skip,
}
"""Who reads on in which state, from a position in the data to the next; SEARCH gives pieces back and is feed's own."""
