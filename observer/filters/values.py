"""Values of filters as users write them: identities, workloads, event types, TCP flags, durations and sizes.

One text enters, what FlowFilter or a column holds leaves; FilterError says what was expected. The stock CLI's flags and
the filter language read them alike.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Final

from observer.api import flow_pb2
from observer.errors import FilterError
from observer.identity.endpoints import RESERVED_NAMES
from observer.monitor import EVENT_TYPES, OBSERVATION_POINTS

# The stock CLI takes `0`, but not the name `unknown`.
IDENTITIES: Final = {name: int(identity) for identity, name in RESERVED_NAMES.items() if identity}
TYPES: Final = {name: number for number, name in EVENT_TYPES.items()}
AGENT_EVENTS: Final = {
    "unspecified": 0,
    "message": 1,
    "agent-started": 2,
    "policy-updated": 3,
    "policy-deleted": 4,
    "endpoint-regenerate-success": 5,
    "endpoint-regenerate-failure": 6,
    "endpoint-created": 7,
    "endpoint-deleted": 8,
    "ipcache-upserted": 9,
    "ipcache-deleted": 10,
}
SUB_TYPES: Final = {
    "trace": {name: number for number, name in OBSERVATION_POINTS.items()},
    "agent": AGENT_EVENTS,
}
LONGEST_NS: Final = (1 << 63) - 1
LARGEST: Final = 1 << 53
"""A larger size is this one: flows tell theirs as doubles, which count exactly so far."""
_DURATIONS: Final = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000}
_SIZES: Final = {"": 1, "b": 1, "k": 1_000, "kb": 1_000, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9}
_SIZES_OF_TWO: Final = {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_MEASURE: Final = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,9})?)([a-zµ]{0,3})")


def unsigned(text: str, bits: int) -> int | None:
    """A decimal number of at most so many bits; None for anything else."""
    return int(text) if re.fullmatch("[0-9]{1,20}", text, re.ASCII) and int(text) < 1 << bits else None


def identity(text: str) -> int:
    """A security identity by number or reserved name."""
    if text in IDENTITIES:
        return IDENTITIES[text]
    number = unsigned(text, 32)
    if number is None:
        raise FilterError(f"invalid security identity, expected one of {', '.join(IDENTITIES)} or a numeric value")
    return number


def workload(text: str) -> flow_pb2.Workload:
    """NAME, KIND/NAME or KIND/."""
    kind, slash, name = text.partition("/")
    return flow_pb2.Workload(kind=kind, name=name) if slash else flow_pb2.Workload(name=text)


def header(text: str) -> flow_pb2.HTTPHeader:
    """NAME:VALUE."""
    key, colon, value = text.partition(":")
    if not colon:
        raise FilterError(f"invalid http-header value {json.dumps(text)}, expected name:value")
    return flow_pb2.HTTPHeader(key=key, value=value)


def tcp_flags(text: str) -> flow_pb2.TCPFlags:
    """Names of flags, all of which are asked for: syn,ack."""
    flags = flow_pb2.TCPFlags()
    for name in text.split(","):
        if name.upper() not in flow_pb2.TCPFlags.DESCRIPTOR.fields_by_name:
            raise FilterError(f"unknown tcp flag: {name}")
        setattr(flags, name.upper(), True)
    return flags


def ip_version(text: str) -> int:
    """v4, v6; anything else is no IP."""
    versions = {4: flow_pb2.IPv4, 6: flow_pb2.IPv6}
    found = re.fullmatch("(?:v|ipv|ip)?([46])", text.lower())
    return versions[int(found[1])] if found else flow_pb2.IP_NOT_USED


def direction(text: str) -> int:
    """Ingress or egress."""
    directions = {"ingress": flow_pb2.INGRESS, "egress": flow_pb2.EGRESS}
    if text.lower() not in directions:
        raise FilterError(f"{text.lower()}: invalid traffic direction, expected ingress or egress")
    return directions[text.lower()]


def event_type(text: str) -> flow_pb2.EventTypeFilter:
    """TYPE or TYPE:SUBTYPE, by name or number."""
    name, colon, sub_name = text.partition(":")
    number = TYPES.get(name)
    if number is None:
        number = unsigned(name, 31)
    if number is None:
        raise FilterError(f"unable to parse type '{name}': a number, or one of {', '.join(TYPES)}")
    if not colon:
        return flow_pb2.EventTypeFilter(type=number)
    known = SUB_TYPES.get(name, {})
    sub_number = known.get(sub_name)
    if sub_number is None:
        sub_number = unsigned(sub_name, 31)
    if sub_number is None:
        names = f", or one of {', '.join(known)}" if known else ""
        raise FilterError(f"unable to parse event sub-type '{sub_name}': a number{names}")
    return flow_pb2.EventTypeFilter(type=number, match_sub_type=True, sub_type=sub_number)


def duration_ns(text: str) -> int:
    """A duration in nanoseconds: 20ms, 1.5s, 300us."""
    return min(_measure(text, _DURATIONS, "a duration such as 20ms or 1.5s"), LONGEST_NS)


def size(text: str) -> int:
    """A size in bytes: 900, 1k, 1.5M, 64KiB."""
    return min(_measure(text, _SIZES | _SIZES_OF_TWO, "a size such as 900, 1k or 2.5M"), LARGEST)


def _measure(text: str, units: dict[str, int], expected: str) -> int:
    found = _MEASURE.fullmatch(text.lower())
    if found is None or found[2] not in units:
        raise FilterError(f"expected {expected}, not `{text}`")
    return int(Decimal(found[1]) * units[found[2]])
