"""Filters on the headers of a flow: addresses, ports, protocol, TCP flags, IP version, interface, encryption.

Fields of one FlowFilter enter, terms leave. Addresses are compared as Hubble does: a single one as a string, never
normalised; a prefix by number, with host bits allowed and IPv4-mapped addresses never in an IPv4 prefix.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from observer.api import flow_pb2
from observer.errors import FilterError
from observer.filters.endpoint import SIDES
from observer.filters.index import Bounds, Mask, Term, certain, constant, equal, flagged, one_of
from observer.filters.patterns import quoted
from observer.record import L7Kind, Present, Protocol, TcpFlag
from observer.store import Columns
from observer.wire.parts import address_text

Prefix: TypeAlias = tuple[int, int, int]
"""(family, network as an integer, bits)."""

PORT_PROTOCOLS: Final = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)
_BITS: Final = {4: 32, 6: 128}
_MAPPED: Final = 0xFFFF << 32
_WORD: Final = (1 << 64) - 1


def terms(wanted: flow_pb2.FlowFilter) -> Iterator[Term]:
    """The terms of this family that the filter asks for; the cheap columns first."""
    if wanted.protocol:
        yield _protocol(wanted.protocol)
    if wanted.tcp_flags:
        yield _tcp_flags(list(wanted.tcp_flags))
    if wanted.ip_version:
        yield _ip_version(list(wanted.ip_version))
    if wanted.encrypted:
        values = list(wanted.encrypted)
        # Nothing of ours is known to be encrypted; only imported flows say so.
        yield Term(lambda flow: flow.IP.encrypted in values, constant(False in values))
    for side in SIDES:
        if ports := getattr(wanted, f"{side}_port"):
            yield _port(side, ports)
    if wanted.interface:
        yield _interface([(interface.index, interface.name) for interface in wanted.interface])
    for side in SIDES:
        if addresses := getattr(wanted, f"{side}_ip"):
            yield _ip(side, addresses)
    if wanted.source_ip_xlated:
        matches, _ = _addresses(wanted.source_ip_xlated)
        yield Term(lambda flow: matches(flow.IP.source_xlated), constant(False))


_L4: Final = {
    "icmp": ("ICMPv4", "ICMPv6"),
    "icmpv4": ("ICMPv4",),
    "icmpv6": ("ICMPv6",),
    "tcp": ("TCP",),
    "udp": ("UDP",),
    "sctp": ("SCTP",),
    "vrrp": ("VRRP",),
    "igmp": ("IGMP",),
}
_NUMBERS: Final = {
    "ICMPv4": Protocol.ICMP,
    "ICMPv6": Protocol.ICMPV6,
    "TCP": Protocol.TCP,
    "UDP": Protocol.UDP,
    "SCTP": Protocol.SCTP,
    "VRRP": Protocol.VRRP,
    "IGMP": Protocol.IGMP,
}
_L7: Final = {"dns": (L7Kind.DNS,), "http": (L7Kind.HTTP, L7Kind.GRPC), "kafka": (L7Kind.KAFKA,)}


def _protocol(names: Iterable[str]) -> Term:
    layer4: set[str] = set()
    layer7: set[str] = set()
    for name in names:
        lower = name.lower()
        if lower in _L4:
            layer4 |= set(_L4[lower])
        elif lower in _L7:
            layer7.add(lower)
        else:
            raise FilterError(f"invalid protocol filter: unknown protocol: {quoted(name)}")
    numbers = [_NUMBERS[name] for name in layer4]
    kinds = [kind for name in layer7 for kind in _L7[name]]

    def exact(flow: flow_pb2.Flow) -> bool:
        return flow.l4.WhichOneof("protocol") in layer4 or flow.l7.WhichOneof("record") in layer7

    def index(columns: Columns) -> Bounds:
        mask = one_of(columns["protocol"], numbers) & (columns["family"] != 0)
        return certain(mask | one_of(columns["l7_kind"], kinds))

    return Term(exact, index, lambda columns: one_of(columns["protocol"], numbers) | one_of(columns["l7_kind"], kinds))


def _port(side: str, texts: Iterable[str]) -> Term:
    ports: list[int] = []
    for text in texts:
        digits = bool(text) and text.isascii() and text.isdigit()
        if not digits or len(text.lstrip("0")) > 5 or int(text) > 0xFFFF:
            reason = "value out of range" if digits else "invalid syntax"
            told = quoted(text)
            raise FilterError(
                f"invalid {side} port filter: invalid port {told}: strconv.ParseUint: parsing {told}: {reason}"
            )
        ports.append(int(text))

    def exact(flow: flow_pb2.Flow) -> bool:
        name = flow.l4.WhichOneof("protocol")
        if name not in ("TCP", "UDP", "SCTP"):
            return False
        return getattr(getattr(flow.l4, name), f"{side}_port") & 0xFFFF in ports

    def index(columns: Columns) -> Bounds:
        mask = one_of(columns[f"{side}_port"], ports)
        mask &= one_of(columns["protocol"], PORT_PROTOCOLS)
        mask &= columns["family"] != 0
        return certain(mask)

    return Term(exact, index, lambda columns: one_of(columns[f"{side}_port"], ports))


def _tcp_flags(wanted: Sequence[flow_pb2.TCPFlags]) -> Term:
    """The flow has every flag of one of the values; a value without flags asks only for a TCP flow that tells flags."""
    sets = [reduce(int.__or__, (flag for flag in TcpFlag if getattr(want, str(flag.name))), 0) for want in wanted]

    def exact(flow: flow_pb2.Flow) -> bool:
        if not flow.l4.TCP.HasField("flags"):
            return False
        flags = flow.l4.TCP.flags
        has = reduce(int.__or__, (flag for flag in TcpFlag if getattr(flags, str(flag.name))), 0)
        return any(has & want == want for want in sets)

    def index(columns: Columns) -> Bounds:
        flags = columns["tcp_flags"]
        mask = np.zeros(columns.length, np.bool_)
        for want in sets:
            mask |= (flags & want) == want
        mask &= equal(columns["protocol"], Protocol.TCP) & (columns["family"] != 0)
        mask &= flagged(columns["present"], Present.TCP_FLAGS)
        return certain(mask)

    return Term(exact, index)


def _ip_version(versions: Sequence[int]) -> Term:
    """IP_NOT_USED matches flows without IP."""
    families = [family for family, version in ((0, 0), (4, 1), (6, 2)) if version in versions]
    return Term(
        lambda flow: flow.IP.ipVersion in versions, lambda columns: certain(one_of(columns["family"], families))
    )


def _interface(wanted: Sequence[tuple[int, str]]) -> Term:
    """By index, by name, or both; 0 and the empty name are any."""

    def exact(flow: flow_pb2.Flow) -> bool:
        if not flow.HasField("interface"):
            return False
        interface = flow.interface
        return any(index in (0, interface.index) and name in ("", interface.name) for index, name in wanted)

    def index(columns: Columns) -> Bounds:
        numbers = columns["ifindex"]  # whose name only an imported flow tells
        unnamed = [number for number, name in wanted if not name]
        return certain(numbers != 0 if 0 in unnamed else one_of(numbers, unnamed))

    return Term(exact, index)


def _ip(side: str, texts: Iterable[str]) -> Term:
    matches, prefixes = _addresses(texts)

    def index(columns: Columns) -> Bounds:
        halves = columns[f"{side}_ip"].view(np.dtype(">u8"))
        mask = np.zeros(columns.length, np.bool_)
        for prefix in prefixes:
            mask |= _within(columns["family"], halves, prefix)
        return certain(mask)

    return Term(lambda flow: matches(getattr(flow.IP, side)), index)


def _within(family: npt.NDArray[np.uint8], halves: npt.NDArray[np.uint64], prefix: Prefix) -> Mask:
    """Which rows have an address of that family inside the prefix; `halves` are big-endian, upper and lower."""
    version, network, bits = prefix
    mask: Mask = family == version
    wanted = [(network & _WORD, max(bits - 64, 0), 1), (network >> 64, min(bits, 64), 0)]
    if version == 4:  # ::ffff:a.b.c.d: the upper halves are all alike
        wanted = [(_MAPPED | network, 32 + bits, 1)]
    for half, length, place in wanted:
        if length:
            cut = _WORD << (64 - length) & _WORD
            mask &= (halves[:, place] & np.uint64(cut)) == np.uint64(half & cut)
    return mask


def _addresses(texts: Iterable[str]) -> tuple[Callable[[str], bool], list[Prefix]]:
    """Compile addresses and prefixes: the predicate on a flow's address, and as prefixes what a record can match.

    A single address that is spelled otherwise than flows of ours spell it matches none of them.
    """
    spelled: set[str] = set()
    singles: list[Prefix] = []
    prefixes: list[Prefix] = []
    for text in texts:
        if "/" in text:
            prefixes.append(_prefix(text))
        else:
            try:
                address = ipaddress.ip_address(text)
            except ValueError:
                raise FilterError(f"invalid IP address in filter: {quoted(text)}") from None
            spelled.add(text)
            if address_text(address.version, address.packed.rjust(16, b"\0")) == text:
                singles.append((address.version, int(address), _BITS[address.version]))

    def matches(address: str) -> bool:
        if not address:
            return False
        if address in spelled:
            return True
        if not prefixes or "%" in address:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        number, version = int(parsed), parsed.version
        return any(
            version == family and number >> (_BITS[family] - bits) == network >> (_BITS[family] - bits)
            for family, network, bits in prefixes
        )

    return matches, singles + prefixes


def _prefix(text: str) -> Prefix:
    """Parse "address/bits": decimal bits without leading zero, no zone, host bits allowed."""
    address, _, length = text.rpartition("/")
    try:
        parsed = ipaddress.ip_address(address)
        valid = length.isascii() and length.isdigit() and (length == "0" or length[0] != "0") and "%" not in address
        if not valid or len(length) > 3 or int(length) > _BITS[parsed.version]:
            raise ValueError
    except ValueError:
        raise FilterError(f"invalid CIDR in filter: {quoted(text)}") from None
    return parsed.version, int(parsed), int(length)
