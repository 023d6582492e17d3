"""The frame and header of a Kafka request, and whether bytes are one at all.

In: bytes with a position. Out: the header, or that more octets are needed, or that this is none. Strict reading, for
bytes of which nobody knows yet whether they are Kafka's, asks for a known API key and version, a printable client id
and a body that fits its layout; where the client id proves nothing, for a topic too. It keeps no state.
"""

from __future__ import annotations

import enum
import re
import struct
from dataclasses import dataclass
from typing import Final

from observer.l7.kafka_program import request_program
from observer.l7.kafka_schema import APIS, CONTROLLED_SHUTDOWN
from observer.l7.kafka_walk import Walk

PORTS: Final = frozenset((9092, 9093, 9094))
"""Where brokers listen by default and by example; a hint only."""

SIZE_LIMIT: Final = 1 << 28
"""Octets of a frame; brokers take 100 MiB unless told otherwise (socket.request.max.bytes)."""

CLIENT_ID_LIMIT: Final = 1_024
"""Octets of a client id."""

HEAD_LIMIT: Final = 14 + CLIENT_ID_LIMIT
"""Octets of a request up to its body."""

PROOF_LIMIT: Final = 1_024
"""Octets of a body that are read to tell whether it is one."""

_HEAD: Final = struct.Struct("!ihhih")  # size, key, version, correlation id, length of the client id
_HEAD_SIZE: Final = _HEAD.size
_VERSION_LIMIT: Final = 255
_PRINTABLE: Final = re.compile(rb"[^\x00-\x1f\x7f]+")
_TOPIC: Final = re.compile(rb"[a-zA-Z0-9._-]{1,249}")


class Sign(enum.Enum):
    """What bytes are that are no whole header."""

    MORE = enum.auto()
    NO = enum.auto()


@dataclass(slots=True)  # no NamedTuple: that looks its fields up in the class at every reading
class Head:
    """The header of a request."""

    size: int  # of the frame, its four octets of length included
    key: int
    version: int
    correlation: int
    client_id: bytes | None
    length: int  # octets up to the body, tagged fields of the header not included


def read_head(data: bytes | bytearray, at: int, *, strict: bool) -> Head | Sign:
    """Read the header of a request at a position; what is there already may say that it is none."""
    have = len(data) - at
    if have >= _HEAD_SIZE and not strict:  # nearly always it is whole and sound; else the rest says why not
        size, key, version, correlation, length = _HEAD.unpack_from(data, at)
        end = _HEAD_SIZE + length
        if (
            0 <= length <= CLIENT_ID_LIMIT
            and end <= have
            and end - 4 <= size <= SIZE_LIMIT
            and key >= 0
            and key != CONTROLLED_SHUTDOWN
            and 0 <= version <= _VERSION_LIMIT
        ):
            return Head(size + 4, key, version, correlation, bytes(data[at + _HEAD_SIZE : at + end]), end)
    if have < 4:
        return Sign.NO if strict and have and data[at] > SIZE_LIMIT >> 24 else Sign.MORE
    size = int.from_bytes(data[at : at + 4], "big")
    if not 8 <= size <= SIZE_LIMIT:
        return Sign.NO
    key = int.from_bytes(data[at + 4 : at + 6], "big") if have >= 6 else 0
    version = int.from_bytes(data[at + 6 : at + 8], "big") if have >= 8 else 0
    api = APIS.get(key)
    if strict and (api is None or (have >= 8 and not api.first <= version <= api.last)):
        return Sign.NO
    if key > 0x7FFF or version > _VERSION_LIMIT:
        return Sign.NO
    if have < 12:
        return Sign.MORE
    correlation = int.from_bytes(data[at + 8 : at + 12], "big", signed=True)
    if key == CONTROLLED_SHUTDOWN and version == 0:  # a header of its own
        return Head(size + 4, key, version, correlation, None, 12)
    if size < 10:
        return Sign.NO
    if have < 14:
        return Sign.MORE
    length = int.from_bytes(data[at + 12 : at + 14], "big", signed=True)
    if not -1 <= length <= min(CLIENT_ID_LIMIT, size - 10):
        return Sign.NO
    client_id = bytes(data[at + 14 : at + 14 + length]) if length >= 0 else None
    if strict and client_id and not _PRINTABLE.fullmatch(client_id):
        return Sign.NO
    if client_id is not None and len(client_id) < length:
        return Sign.MORE
    return Head(size + 4, key, version, correlation, client_id, 14 + max(length, 0))


def is_request(data: bytes | bytearray, at: int = 0, *, expected: bool = False) -> bool | None:
    """Whether these bytes are a request; None for more octets. `expected`: the port says Kafka."""
    head = read_head(data, at, strict=True)
    if isinstance(head, Sign):
        return None if head is Sign.MORE else False
    body = at + head.length
    proof = bytes(data[body : min(at + head.size, body + PROOF_LIMIT)])
    walk = Walk(request_program(APIS[head.key], head.version))
    walk.run(proof, 0, head.size - head.length)
    if walk.malformed:
        return False
    if head.client_id:
        return True
    if any(isinstance(topic, bytes) and _TOPIC.fullmatch(topic) for topic in walk.topics):
        return True
    # A client id that is null or empty is many a protocol's zeros (ZooKeeper's, HTTP/2's).
    have = len(data) - at
    if have == head.size and (head.client_id is None or expected):
        return True
    return None if have < min(head.size, PROOF_LIMIT) else False
