"""The record: the fixed part of a flow, one layout for two writers.

`struct flow_record` in bpf/record.h and `RECORD` here are the same 504 bytes (512 with the kernel ring's header);
a test compares every offset. A record stands for itself: whoever reads it needs only the endpoint and policy tables.
What does not fit is an extra (extra.py). Enum values are Hubble's (flow.proto) where Hubble has them.
"""

from __future__ import annotations

import enum
import struct
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

LAYOUT: Final = 1
"""Version of the layout; batch.proto carries it."""

TEXT_SIZE: Final = 304
TEXT_SLOTS: Final = 4
TEXT_SLOT_MAX: Final = 255

Records: TypeAlias = npt.NDArray[np.void]
"""A one-dimensional array of dtype RECORD."""

RECORD: Final = np.dtype(
    [
        ("time_ns", "<u8"),  # wall clock, or the capture's
        ("latency_ns", "<u8"),  # response: since its request
        ("bytes", "<u8"),  # of the connection so far, IP length, this direction
        ("cookie", "<u8"),  # socket cookie
        ("cgroup_id", "<u8"),
        ("connection", "<u8"),  # ties the events of one connection together; 0: unknown
        ("packets", "<u4"),  # of the connection so far, this direction
        ("pid", "<u4"),
        ("ifindex", "<u4"),
        ("source_endpoint", "<u4"),  # number in the endpoint table; 0: not looked up
        ("destination_endpoint", "<u4"),
        ("source_identity", "<u4"),
        ("destination_identity", "<u4"),
        ("egress_rule", "<u4"),  # number in the policy table: allowed, or refused where direction says EGRESS; 0: none
        ("ingress_rule", "<u4"),
        ("l7_id", "<u4"),  # HTTP/2 stream, Kafka correlation id, DNS id
        ("present", "<u4"),  # Present: which optional fields hold a value
        ("flags", "<u4"),  # Flags
        ("drop_reason", "<u4"),  # the kernel's own reason (enum skb_drop_reason)
        ("tunnel_id", "<u4"),  # VNI
        ("source_ip", "u1", (16,)),  # IPv4 as ::ffff:a.b.c.d, `family` tells
        ("destination_ip", "u1", (16,)),
        ("source_mac", "u1", (6,)),
        ("destination_mac", "u1", (6,)),
        ("source_port", "<u2"),
        ("destination_port", "<u2"),
        ("vlan", "<u2"),
        ("tcp_flags", "<u2"),  # TCP header bits 0-8: FIN SYN RST PSH ACK URG ECE CWR NS
        ("drop_reason_desc", "<u2"),  # flow.DropReason
        ("l7_code", "<u2"),  # HTTP status, Kafka error, DNS rcode
        ("l7_version", "<u2"),  # HTTP 10, 11, 20; Kafka API version
        ("l7_method", "<u2"),  # HttpMethod, Kafka API key, DNS type
        ("family", "u1"),  # 4, 6; 0: no IP
        ("protocol", "u1"),  # IP protocol number
        ("type", "u1"),  # FlowType
        ("event_type", "u1"),  # EventType
        ("sub_type", "u1"),  # trace: ObservationPoint's sub type; drop: reason
        ("verdict", "u1"),  # Verdict
        ("direction", "u1"),  # Direction
        ("is_reply", "u1"),
        ("l7_kind", "u1"),  # L7Kind
        ("l7_type", "u1"),  # L7Type
        ("policy_match", "u1"),  # PolicyMatch
        ("grpc_status", "u1"),
        ("trace_reason", "u1"),  # TraceReason
        ("icmp_type", "u1"),
        ("icmp_code", "u1"),
        ("tunnel", "u1"),  # flow.Tunnel.Protocol
        ("text_length", "u1", (TEXT_SLOTS,)),
        ("comm", "S16"),
        ("text", "u1", (TEXT_SIZE,)),  # up to four strings one after the other, by kind (TEXT)
    ]
)
RECORD_SIZE: Final = RECORD.itemsize

PACK: Final = struct.Struct("<6Q14I16s16s6s6s8H16B4B16s304s")
"""Packs one record from its fields in order; `text_length` is four values, addresses and text are bytes."""

assert PACK.size == RECORD_SIZE == 504


class Present(enum.IntFlag):
    """Which optional fields of a record hold a value: absent is not zero."""

    IS_REPLY = 1 << 0
    LATENCY = 1 << 1
    CODE = 1 << 2  # l7_code
    ICMP = 1 << 3
    MAC = 1 << 4
    VLAN = 1 << 5
    L7_ID = 1 << 6
    GRPC_STATUS = 1 << 7
    TCP_FLAGS = 1 << 8
    COUNTERS = 1 << 9  # bytes and packets
    PROCESS = 1 << 10  # pid and comm
    METHOD = 1 << 11  # l7_method


class Flags(enum.IntFlag):
    """What else is true of a record."""

    EXTRA = 1 << 0  # an extra belongs to it
    TEXT_CUT = 1 << 1  # `text` did not hold all; the extra does
    IMPORTED = 1 << 2  # came as a flow.Flow from elsewhere; the extra holds it
    L7_INCOMPLETE = 1 << 3  # some L7 fields could not be known (joined in the middle, bytes lost)


class FlowType(enum.IntEnum):
    """flow.FlowType."""

    UNKNOWN_TYPE = 0
    L3_L4 = 1
    L7 = 2
    SOCK = 3


class Verdict(enum.IntEnum):
    """flow.Verdict."""

    VERDICT_UNKNOWN = 0
    FORWARDED = 1
    DROPPED = 2
    ERROR = 3
    AUDIT = 4
    REDIRECTED = 5
    TRACED = 6
    TRANSLATED = 7


class Direction(enum.IntEnum):
    """flow.TrafficDirection."""

    UNKNOWN = 0
    INGRESS = 1
    EGRESS = 2


class EventType(enum.IntEnum):
    """Cilium's monitor message types, as in flow.CiliumEventType.type."""

    UNKNOWN = 0
    DROP = 1
    DEBUG = 2
    CAPTURE = 3
    TRACE = 4
    POLICY_VERDICT = 5
    TRACE_SOCK = 7
    L7 = 129
    AGENT = 130


class ObservationPoint(enum.IntEnum):
    """Trace sub types, as in flow.CiliumEventType.sub_type; flow.TraceObservationPoint says 101 for TO_ENDPOINT."""

    TO_ENDPOINT = 0
    TO_PROXY = 1
    TO_HOST = 2
    TO_STACK = 3
    TO_OVERLAY = 4
    FROM_ENDPOINT = 5
    FROM_PROXY = 6
    FROM_HOST = 7
    FROM_STACK = 8
    FROM_OVERLAY = 9
    FROM_NETWORK = 10
    TO_NETWORK = 11
    FROM_CRYPTO = 12
    TO_CRYPTO = 13


class TraceReason(enum.IntEnum):
    """flow.TraceReason."""

    UNKNOWN = 0
    NEW = 1
    ESTABLISHED = 2
    REPLY = 3
    RELATED = 4


class PolicyMatch(enum.IntEnum):
    """Cilium's policy match types."""

    NONE = 0
    L3_ONLY = 1
    L3_L4 = 2
    L4_ONLY = 3
    ALL = 4
    L3_PROTO = 5
    PROTO_ONLY = 6


class L7Kind(enum.IntEnum):
    """Which L7 protocol a record tells of; the strings in `text` go by it (see TEXT)."""

    NONE = 0
    HTTP = 1
    DNS = 2
    KAFKA = 3
    GRPC = 4
    TLS = 5


class L7Type(enum.IntEnum):
    """flow.L7FlowType."""

    UNKNOWN = 0
    REQUEST = 1
    RESPONSE = 2
    SAMPLE = 3


class HttpMethod(enum.IntEnum):
    """The methods with a number of their own; any other is OTHER and spelled in the third text."""

    UNKNOWN = 0
    GET = 1
    HEAD = 2
    POST = 3
    PUT = 4
    DELETE = 5
    CONNECT = 6
    OPTIONS = 7
    TRACE = 8
    PATCH = 9
    OTHER = 255


class Protocol(enum.IntEnum):
    """IP protocol numbers that make flows of their own."""

    ICMP = 1
    IGMP = 2
    TCP = 6
    UDP = 17
    ICMPV6 = 58
    VRRP = 112
    SCTP = 132


class TcpFlag(enum.IntFlag):
    """Bits of `tcp_flags`."""

    FIN = 1
    SYN = 2
    RST = 4
    PSH = 8
    ACK = 16
    URG = 32
    ECE = 64
    CWR = 128
    NS = 256


POLICY_DENIED: Final = 133
"""flow.DropReason and drop sub type of a refusal by policy."""

TEXT: Final[dict[L7Kind, tuple[str, ...]]] = {
    # The request target as sent; method only where l7_method is OTHER; scheme only where HTTP/2 sent another than http.
    L7Kind.HTTP: ("target", "host", "method", "scheme"),
    L7Kind.DNS: ("query",),
    L7Kind.KAFKA: ("topic", "client_id"),
    L7Kind.GRPC: ("target", "host", "method", "scheme"),
    L7Kind.TLS: ("server_name", "alpn"),
}


def pack_text(texts: tuple[bytes, ...]) -> tuple[tuple[int, int, int, int], bytes, bool]:
    """Lay up to four strings one after the other; return their lengths, the bytes, and whether any was cut."""
    joined = b"".join(texts)
    if len(joined) <= TEXT_SLOT_MAX:
        one, two, three, four = (*map(len, texts), 0, 0, 0, 0)[:TEXT_SLOTS]
        return (one, two, three, four), joined, False
    lengths = [0] * TEXT_SLOTS
    parts: list[bytes] = []
    room = TEXT_SIZE
    cut = False
    for slot, text in enumerate(texts):
        size = min(len(text), TEXT_SLOT_MAX, room)
        if size < len(text):
            cut = True
            text = text[:size]
        parts.append(text)
        lengths[slot] = size
        room -= size
    return (lengths[0], lengths[1], lengths[2], lengths[3]), b"".join(parts), cut


def unpack_text(record: Any) -> tuple[bytes, ...]:
    """The strings of one record (a numpy void of dtype RECORD), empty ones included."""
    lengths = record["text_length"].tolist()
    text = record["text"].tobytes()
    out = []
    start = 0
    for length in lengths:
        out.append(text[start : start + length])
        start += length
    return tuple(out)


def empty(count: int) -> Records:
    """An array of `count` zeroed records."""
    return np.zeros(count, RECORD)
