"""What bpf/http2.h knew of a connection when it handed it over, given to the Python parser, which goes on from there.

A snapshot's words and the entries of three maps enter (hpack_tables and hpack_texts of bpf/hpack_table.h,
pending_requests); the parser is told places, tables and waiting streams. A block that was being read is lost, and its
table with it. Without this every path that a gRPC client indexes would be unknown after the first reordered segment.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from observer.l7.hpack import Field
from observer.l7.http2 import Http2
from observer.l7.http2_direction import NOT_KEPT, Place, State
from observer.l7.http2_frames import PREFACE
from observer.l7.http2_streams import Answer
from observer.l7.message import Message, Side
from observer.record import HttpMethod, L7Kind

STREAMS: Final = 256
"""Streams, the newest, of which one that waits is looked for."""
SLOTS: Final = 128
TEXT_KEPT: Final = 256

SIDE: Final = np.dtype([("head", "S17"), ("have", "u1"), ("state", "u1"), ("bits", "u1"), ("rest", "<u4")])
"""`struct http2_side`."""
TABLE: Final = np.dtype(
    [
        ("inserted", "<u4"),
        ("late", "<u4"),
        ("slots", [("kind", "u1"), ("bits", "u1"), ("number", "<u2")], (SLOTS,)),
    ]
)
"""`struct hpack_table`."""
TEXT: Final = np.dtype([("number", "<u4"), ("length", "<u4"), ("text", f"V{TEXT_KEPT}")])
"""`struct hpack_text`."""
STREAM: Final = struct.Struct("=HH5B7x")
"""`struct http2_stream`: code, grpc_status, answered, told, incomplete, no_request, web."""
KEY: Final = struct.Struct("=QII")

START, PREFACE_STATE, FRAME, BLOCK, LAST = range(5)
IN_BLOCK: Final = 1 << 2
HAS_TEXT: Final = 1 << 0
IS_EMPTY: Final = 1 << 2
NO_STATUS: Final = 0xFFFF
UNKNOWN: Final = 0
NAMES: Final[dict[int, bytes]] = {
    3: b":method", 4: b":path", 5: b":authority", 6: b":scheme", 7: b":status", 8: b":protocol", 9: b"host",
    10: b"content-type", 11: b"grpc-status",
}  # fmt: skip
"""Those of enum field_kind whose values are known; the others are of no use."""
SCHEMES: Final = (b"http", b"https")


class Table(Protocol):
    """As much of a map of the kernel's as is used here."""

    def get(self, key: bytes) -> bytes | None:
        """The value behind a key, if it is there."""
        ...


class Maps(NamedTuple):
    """The maps hpack_tables and hpack_texts."""

    tables: Table
    texts: Table


def resume(
    parser: Http2,
    number: int,
    head: Any,
    maps: Maps | None,
    waiting: Callable[[int], tuple[Message, bytes] | None],
) -> None:
    """Tell the parser of connection `number` what the snapshot `head` says; `waiting` gives a stream's request."""
    parser.streams.resume(newest := int(head["shared"][0]))
    for side in (Side.CLIENT, Side.SERVER):
        words = np.frombuffer(head["parser"][side].tobytes(), SIDE)[0]
        parser.resume(side, place(words, int(head["left"][side]), lambda: entries(number, side, maps)))  # noqa: B023
    first = max(1, newest - 2 * (STREAMS - 1)) | 1
    for stream in range(first, newest + 1, 2):
        found = waiting(stream)
        if found is not None:
            request, state = found
            code, status, answered, told, incomplete, no_request, web = STREAM.unpack(state)
            content_type = b""
            if request.kind is L7Kind.GRPC:
                content_type = b"application/grpc-web" if web else b"application/grpc"
            answer = Answer(
                bool(answered),
                bool(told),
                code or None,
                bool(incomplete or web),
                None if status == NO_STATUS else status,
            )
            parser.streams.resume_stream(stream, None if no_request else request, content_type, answer)


def place(words: Any, left: int, known: Callable[[], Sequence[Field]]) -> Place:
    """Where a side stands; `known` gives the entries of its table."""
    state, bits, rest = int(words["state"]), int(words["bits"]), int(words["rest"])
    octets = words.tobytes()
    if state in (START, PREFACE_STATE):
        return Place(State.START, buffer=PREFACE[: int(words["have"])])
    if state == BLOCK:
        return Place(State.SKIP, left=rest + octets[0]) if rest + octets[0] else Place(State.FRAME)
    table = () if bits & IN_BLOCK else known()
    if state == LAST:
        return Place(State.SKIP, left=left + 1, ends=rest, entries=table)
    if left:
        return Place(State.SKIP, left=left, entries=table)
    return Place(State.FRAME, buffer=octets[: int(words["have"])], entries=table)


def entries(number: int, side: int, maps: Maps | None) -> list[Field]:
    """The dynamic table of one side, oldest first, as far as it is kept."""
    value = None if maps is None else maps.tables.get(KEY.pack(number, side, 0))
    if maps is None or value is None:
        return []
    table = np.frombuffer(value, TABLE)[0]
    inserted = int(table["inserted"])
    out = []
    for place in range(max(0, inserted - SLOTS), inserted):
        slot = table["slots"][place % SLOTS]
        text = None
        if slot["bits"] & HAS_TEXT and (value := maps.texts.get(KEY.pack(number, side, place % SLOTS))) is not None:
            text = text_of(np.frombuffer(value, TEXT)[0], place)
        out.append(entry(int(slot["kind"]), int(slot["bits"]), int(slot["number"]), text))
    return out


def text_of(value: Any, place: int) -> bytes | None:
    """A text that is that entry's, and whole."""
    if value["number"] != place or value["length"] > TEXT_KEPT:
        return None
    return bytes(value["text"].tobytes()[: int(value["length"])])


def entry(kind: int, bits: int, number: int, text: bytes | None) -> Field:
    """One entry of a table as the Python decoder has it."""
    if kind == UNKNOWN:
        return None, None
    name = NAMES.get(kind)
    if name is None:
        return NOT_KEPT
    if bits & IS_EMPTY:
        return name, b""
    if bits & HAS_TEXT:
        return name, text
    if name == b":method":
        return name, HttpMethod(number).name.encode()
    if name == b":scheme":
        return name, SCHEMES[number]
    if number == NO_STATUS or not (number or name == b"grpc-status"):
        return name, None
    return name, b"%d" % number
