"""Rows: packets and messages, with what identity and policy say of them, to the records and extras of a batch.

A connection's half, its tag and what is to be told enter; records in the store's layout leave, with their extras. What
all rows of a half have in common is laid out once, and kept with the half where many may follow. Knows no order,
payload or policy.
"""

from __future__ import annotations

import struct
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from observer.conntrack import Half, Roles
from observer.decode import Packets
from observer.extra import Extra
from observer.l7.message import Message
from observer.l7.traceparent import trace_id_of
from observer.notes import annotate
from observer.record import (
    RECORD,
    RECORD_SIZE,
    TEXT_SIZE,
    TEXT_SLOT_MAX,
    EventType,
    Flags,
    FlowType,
    L7Kind,
    L7Type,
    Present,
    Protocol,
    Records,
    pack_text,
)
from observer.tag import Judgement, Tag
from observer.tuples import Shape

# record.PACK in pieces, with "x" for what is zero in such a row.
_TOLD: Final = struct.Struct("<Q 8x Q 16x QI 8x 24s 4x II 4x I 32s 12s 6s 2H 6x 7s B 2x B x 4B 324x")
_MESSAGE: Final = struct.Struct(f"<QQ 24x Q 12x 24s III 4x I 54s 3H 7s 5B 3x B I 16x {TEXT_SIZE}s")
_SAID: Final = struct.Struct("<6I")
_PORTS: Final = struct.Struct("<3H")
_PLACE: Final = struct.Struct("<32s 12x 6s 2x H")
_JUDGED: Final = struct.Struct("7B")
_ENDS: Final = struct.Struct(">3H3B")  # a key behind its addresses
RAW: Final = np.dtype(f"V{RECORD_SIZE}")
"""A record without its fields: numpy copies structures field by field, and this in one go."""

ROWS: Final = 4_096
"""Rows that there is room for at first."""

SHAPE: Final = 40
"""Where a key says what its ports mean."""

ADDRESSES: Final = 32
"""Bytes of a key that are both addresses."""

BOTH_MACS: Final = 12
"""Bytes of a source and a destination MAC address."""

assert _TOLD.size == _MESSAGE.size == RECORD_SIZE

Common: TypeAlias = tuple[Tag, Judgement, bytes, bytes, bytes, bytes, bytes, int, int]
"""What the rows of a half share: what they are made of, pieces of _TOLD and _MESSAGE, match, what is present."""

# Members of enums as plain numbers: looking them up in their class is slow, and done for every row.
TCP: Final = int(Protocol.TCP)
PORTS: Final = int(Shape.PORTS)
UNKNOWN: Final = Roles.UNKNOWN
L3_L4: Final = int(FlowType.L3_L4)
L7: Final = int(FlowType.L7)
L7_EVENT: Final = int(EventType.L7)
RESPONSE: Final = L7Type.RESPONSE
GRPC: Final = L7Kind.GRPC
IS_REPLY: Final = int(Present.IS_REPLY)
COUNTERS: Final = int(Present.COUNTERS)
IS_ICMP: Final = int(Present.ICMP)
HAS_FLAGS: Final = int(Present.TCP_FLAGS)
HAS_VLAN: Final = int(Present.VLAN)
HAS_MAC: Final = int(Present.MAC)
HAS_CODE: Final = int(Present.CODE)
HAS_METHOD: Final = int(Present.METHOD)
HAS_L7_ID: Final = int(Present.L7_ID)
HAS_LATENCY: Final = int(Present.LATENCY)
HAS_GRPC_STATUS: Final = int(Present.GRPC_STATUS)
L7_INCOMPLETE: Final = int(Flags.L7_INCOMPLETE)
EXTRA: Final = int(Flags.EXTRA)
TEXT_CUT: Final = int(Flags.TEXT_CUT)


class Batch:
    """The columns of a batch of packets as they are read one by one, in any order.

    Views, not lists: a batch of numbers as objects would fill the processor's cache that the connections need.
    """

    __slots__ = (
        "acknowledgment", "data", "has_mac", "icmp_code", "icmp_type", "length", "macs", "missing", "sequence",
        "start", "tcp_flags", "time_ns", "tunnel",
    )  # fmt: skip

    def __init__(self, packets: Packets) -> None:
        self.data = bytes(packets.data)  # no copy of what is bytes already
        self.time_ns = _view(packets.time_ns)
        self.tcp_flags = _view(packets.tcp_flags)
        self.sequence = _view(packets.sequence)
        self.acknowledgment = _view(packets.acknowledgment)
        self.start = _view(packets.payload_start)
        self.length = _view(packets.payload_length)
        self.missing = _view(packets.payload_missing)
        self.has_mac = _view(packets.has_mac)
        self.macs = np.hstack((packets.source_mac, packets.destination_mac)).tobytes()
        self.icmp_type = _view(packets.icmp_type)
        self.icmp_code = _view(packets.icmp_code)
        self.tunnel = packets.tunnel


class Rows:
    """The rows of one batch, until they are taken."""

    def __init__(self) -> None:
        self.place = 0
        """The caller's place of the rows that are made next: they are taken in the order of their places."""
        self._places: list[int] = []
        self._buffer = bytearray(ROWS * RECORD_SIZE)  # the rows; an object for each would take longer
        self._end = 0
        self._extras: list[Extra | None] = []  # one a row
        # Whose pieces were made last, and these: a datagram's own row and its message's share them.
        self._half: Half | None = None
        self._common: Common | None = None

    def __len__(self) -> int:
        """Rows made since the last were taken."""
        return len(self._places)

    def take(self) -> tuple[Records, list[tuple[int, Extra]]]:
        """The records and extras made so far; the next row begins a batch."""
        extras, places = self._extras, np.array(self._places)
        self._extras, self._places, self._end = [], [], 0
        records = np.frombuffer(self._buffer, RAW, len(places))
        if (places[1:] >= places[:-1]).all():
            records = records.copy()
        else:
            order = np.argsort(places, kind="stable")
            records, extras = records[order], [extras[row] for row in order.tolist()]
        return records.view(RECORD), [(row, extra) for row, extra in enumerate(extras) if extra is not None]

    def packet(self, batch: Batch, row: int, half: Half, tag: Tag, time_ns: int) -> None:
        """Add the L3_L4 flow of one packet."""
        connection = half.connection
        key = half.key
        judgement = tag.judgement
        common: Common | None = half.common
        if common is None or common[0] is not tag or common[1] is not judgement:
            common = self._shared(half, tag, judgement)
        _, _, said, _, ports, judged, _, match, present = common
        present |= COUNTERS
        icmp_type = icmp_code = 0
        if key[SHAPE] != PORTS:
            present |= IS_ICMP
            icmp_type, icmp_code = batch.icmp_type[row], batch.icmp_code[row]
        elif connection.protocol == TCP:
            present |= HAS_FLAGS
        is_reply = half.is_reply
        if connection.roles is UNKNOWN:
            is_reply = False  # whoever was seen first counts as client; that is no knowledge to tell
            present &= ~IS_REPLY
        macs = b""
        if batch.has_mac[row]:
            present |= HAS_MAC
            macs = batch.macs[BOTH_MACS * row : BOTH_MACS * row + BOTH_MACS]
        flags = tunnel = vni = 0
        if batch.tunnel is not None:
            half.outer = batch.tunnel[row]
        if half.outer is not None or connection.notes is not None:
            flags = EXTRA
            extra = annotate(Extra(), half)
            tunnel, vni = _tunnel(extra)
            self._extras.append(extra)
        else:
            self._extras.append(None)
        start = self._end
        if start == len(self._buffer):
            self._buffer += bytes(start)
        self._end = start + RECORD_SIZE
        self._places.append(self.place)
        _TOLD.pack_into(
            self._buffer, start,
            time_ns, half.bytes, connection.number, half.packets & 0xFFFFFFFF,
            said, present, flags, vni, key[:ADDRESSES], macs, ports, batch.tcp_flags[row], judgement.drop_reason,
            judged, is_reply, match, half.reason, icmp_type, icmp_code, tunnel,
        )  # fmt: skip

    def message(
        self, half: Half, message: Message, asked: Message | None, tag: Tag, judgement: Judgement, time_ns: int
    ) -> None:
        """Add the L7 flow of one request or response; `asked` is the request of either, where it was seen."""
        connection = half.connection
        common: Common | None = half.common
        if common is None or common[0] is not tag or common[1] is not judgement:
            common = self._shared(half, tag, judgement)
            if connection.protocol == TCP:  # others have few messages each, and are many
                half.common = common
        _, _, said, place, _, _, judged, match, present = common
        texts, cut = message.texts, False
        if len(texts) == 2:  # as nearly all
            first, second = texts
            text, text_lengths = first + second, len(first) | len(second) << 8
        else:
            text, text_lengths = b"".join(texts), len(texts[0]) if texts else 0
        if len(text) > TEXT_SLOT_MAX or len(texts) > 2:
            slots, text, cut = pack_text(texts)
            text_lengths = int.from_bytes(slots, "little")
        code, method, number, latency_ns = message.code, message.method, message.id, message.latency_ns
        if code is None:
            code = 0
        else:
            code &= 0xFFFF
            present |= HAS_CODE
        if method is None:
            method = 0
        else:
            method &= 0xFFFF
            present |= HAS_METHOD
        if number is None:
            number = 0
        else:
            number &= 0xFFFFFFFF
            present |= HAS_L7_ID
        if latency_ns is None:
            latency_ns = 0
        else:
            latency_ns = latency_ns if latency_ns > 0 else 0
            present |= HAS_LATENCY
        flags, extra = 0, None
        kind, head, dns, extension = message.kind, message.head, message.dns, message.extension
        if head or extension or dns is not None or cut:
            flags = EXTRA | TEXT_CUT if cut else EXTRA
            extra = Extra(texts if cut else (), head, dns)
            extra.extension = extension
            if asked is not None and asked.head:
                if asked.trace_id is None:
                    asked.trace_id = trace_id_of(asked.head)
                extra.trace_id = asked.trace_id
        if message.incomplete:
            flags |= L7_INCOMPLETE
        grpc_status = 0
        if kind is GRPC and extension:
            status = extension["grpc"].get("status")
            if status is not None:
                present |= HAS_GRPC_STATUS
                grpc_status = status
        tunnel = vni = 0
        if half.outer is not None or connection.notes is not None:
            flags |= EXTRA
            extra = annotate(extra or Extra(), half)
            tunnel, vni = _tunnel(extra)
        self._extras.append(extra)
        start = self._end
        if start == len(self._buffer):
            self._buffer += bytes(start)
        self._end = start + RECORD_SIZE
        self._places.append(self.place)
        _MESSAGE.pack_into(
            self._buffer, start,
            time_ns, latency_ns, connection.number, said, number, present, flags, vni, place,
            code, message.version & 0xFFFF, method,
            judged, message.type is RESPONSE, kind, message.type, match, grpc_status, tunnel,
            text_lengths, text,
        )  # fmt: skip

    def _shared(self, half: Half, tag: Tag, judgement: Judgement) -> Common:
        """What rows of the half share from now on."""
        common = self._common
        if common is None or half is not self._half or common[0] is not tag or common[1] is not judgement:
            self._half, self._common = half, (common := _common(half, tag, judgement))
        return common


def _view(column: npt.NDArray[Any]) -> memoryview:
    """The numbers of a column: to take one out of it is a third of what taking it out of the array costs."""
    return np.ascontiguousarray(column, np.int64).data


def _tunnel(extra: Extra) -> tuple[int, int]:
    """The record's tunnel protocol and VNI."""
    return (0, 0) if extra.tunnel is None else (extra.tunnel.protocol, extra.tunnel.vni)


def _common(half: Half, tag: Tag, judgement: Judgement) -> Common:
    source, destination, source_identity, destination_identity, sub_type = tag.server if half.is_reply else tag.client
    verdict, event_type, drop_reason, direction, egress_rule, ingress_rule, match = judgement
    source_port, destination_port, vlan, protocol, family, shape = _ENDS.unpack_from(half.key, ADDRESSES)
    if shape != PORTS:
        source_port = destination_port = 0
    ports = _PORTS.pack(source_port, destination_port, vlan)
    return (
        tag,
        judgement,
        _SAID.pack(source, destination, source_identity, destination_identity, egress_rule, ingress_rule),
        _PLACE.pack(half.key[:ADDRESSES], ports, drop_reason),
        ports,
        _JUDGED.pack(family, protocol, L3_L4, event_type, sub_type, verdict, direction),
        _JUDGED.pack(family, protocol, L7, L7_EVENT, 0, verdict, direction),
        match,
        HAS_VLAN | IS_REPLY if vlan else IS_REPLY,
    )
