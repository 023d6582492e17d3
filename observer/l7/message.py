"""What every L7 parser takes and gives: sides, messages, and the small protocol class that all of them keep.

Sans-IO: bytes of a side in, messages out. A parser never raises because of bytes from a peer: it counts in `losses`,
sets `opaque`, and the flow stays an L4 flow.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from observer.extra import DnsAnswer
from observer.record import L7Kind, L7Type


class Side(enum.IntEnum):
    """Who sent the bytes, by the connection's roles."""

    __hash__ = int.__hash__  # Enum's own is Python, and slow

    CLIENT = 0
    SERVER = 1

    @property
    def other(self) -> Side:
        """The opposite side."""
        return _OTHER[self]


_OTHER: Final = (Side.SERVER, Side.CLIENT)  # building a member, or naming one, is slow


@dataclass(slots=True)
class Message:
    """One L7 request or response, as far as it goes into a record and its extra.

    Whoever makes many gives what stands first by place and sets the rest: keywords take twice as long as all else.
    """

    kind: L7Kind
    type: L7Type
    side: Side
    time_ns: int  # of the segment that completed its header
    texts: tuple[bytes, ...] = ()  # by record.TEXT[kind]; a response carries its request's
    method: int | None = None  # record.HttpMethod, Kafka API key, DNS type; a response carries its request's
    version: int = 0
    code: int | None = None
    id: int | None = None
    latency_ns: int | None = None
    head: bytes = b""
    dns: DnsAnswer | None = None
    extension: Mapping[str, Any] | None = None
    incomplete: bool = False  # some fields could not be known
    request: Message | None = None  # of a response: what it answers, if seen
    topics: tuple[str, ...] | None = ()  # Kafka requests: every topic, for policy; None: all there are
    judged: tuple[int, ...] | None = None  # policy's verdict as in tag.Judgement, where another has asked for it
    trace_id: str | None = field(default=None, compare=False)  # of a request's head, once somebody has looked


class Parser(Protocol):
    """The sans-IO interface of a stream protocol; one object a connection."""

    opaque: bool
    """Nothing more can be read in this connection (upgraded, tunnelled, malformed)."""

    def feed(self, side: Side, data: bytes, time_ns: int) -> list[Message]:
        """Take the next bytes of a side, in order, and give the messages they complete."""
        ...

    def gap(self, side: Side, size: int) -> None:
        """`size` bytes of a side were lost: resynchronise or go quiet."""
        ...

    def close(self, side: Side) -> list[Message]:
        """The side has sent its last byte."""
        ...
