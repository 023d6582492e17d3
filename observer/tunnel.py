"""Tunnel headers: from where an outer packet's payload starts to where the inner frame or packet starts.

VXLAN (RFC 7348), VXLAN-GPE, Geneve (RFC 8926), GRE (RFC 2784, 2890, 8086), NVGRE (RFC 7637), ERSPAN, IP in IP
(RFC 2003, 2473, 4213), MPLS in IP and UDP (RFC 4023, 7510), GTP-U (3GPP TS 29.281). Ports and protocol numbers
announce, bytes decide. Positions of a batch enter as arrays; link types, positions and numbers leave. It never reads
what is inside.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from observer.extra import Tunnel
from observer.losses import Losses
from observer.record import Protocol
from observer.sources.gather import gather

MAX_TUNNELS: Final = 4
"""Tunnels in tunnels that are entered; the packet within the last of them is told."""

MAX_GTP_EXTENSIONS: Final = 8
"""GTP-U extension headers of one packet; 5G sends one or two."""

NETWORK_SIZE: Final = 8
"""Bytes of `Layer.network`."""

MEMO_LIMIT: Final = 4096
"""Networks whose digest is remembered."""

_NETWORK: Final = struct.Struct(">BHq")


class Kind(enum.IntEnum):
    """What carries the inner packet."""

    NONE = 0
    VXLAN = 1  # these two as in flow.Tunnel.Protocol
    GENEVE = 2
    VXLAN_GPE = 3
    GRE = 4
    NVGRE = 5
    ERSPAN = 6
    IPV4 = 7  # in IPv4 or IPv6
    IPV6 = 8
    MPLS = 9
    GTP_U = 10


_KINDS: Final = tuple(Kind)

HUBBLE: Final = (Kind.VXLAN, Kind.GENEVE)
"""What flow.Tunnel has a name for."""

_NUMBERS: Final = {
    Kind.VXLAN: "vni", Kind.GENEVE: "vni", Kind.VXLAN_GPE: "vni", Kind.GRE: "key", Kind.NVGRE: "vsid",
    Kind.ERSPAN: "session", Kind.GTP_U: "teid",
}  # fmt: skip
"""What each kind calls its number."""

_OVERLAYS: Final = (Kind.VXLAN, Kind.GENEVE, Kind.VXLAN_GPE, Kind.NVGRE)
"""Their number alone says which network the inner addresses are of; of the others the outer addresses do too."""

# Link types of what is inside.
_ETHERNET, _RAW, _MPLS, _IPV4, _IPV6 = 1, 101, 219, 228, 229

_BY_PROTOCOL: Final = np.zeros(256, np.uint8)
_BY_PROTOCOL[[4, 41, 47, 137]] = Kind.IPV4, Kind.IPV6, Kind.GRE, Kind.MPLS
_BY_PORT: Final = np.zeros(1 << 16, np.uint8)
_BY_PORT[[4789, 8472]] = Kind.VXLAN  # IANA's, Linux's
_BY_PORT[4790] = Kind.VXLAN_GPE
_BY_PORT[6081] = Kind.GENEVE
_BY_PORT[2152] = Kind.GTP_U
_BY_PORT[4754] = Kind.GRE
_BY_PORT[6635] = Kind.MPLS

_OF_ETHERTYPE: Final = {0x0800: _IPV4, 0x86DD: _IPV6, 0x8847: _MPLS, 0x8848: _MPLS, 0x6558: _ETHERNET}
_OF_NEXT_PROTOCOL: Final = {1: _IPV4, 2: _IPV6, 3: _ETHERNET, 5: _MPLS}  # of VXLAN-GPE
_ERSPAN_2, _ERSPAN_3 = 0x88BE, 0x22EB

Rows = npt.NDArray[np.intp]
Octets = npt.NDArray[np.uint8]


@dataclass(slots=True, eq=False)
class Layer:
    """One set of outer headers, and the one around it."""

    kind: Kind
    family: int
    source_ip: bytes  # 16 bytes
    destination_ip: bytes
    source_port: int  # 0 unless it runs over UDP
    destination_port: int
    number: int | None  # VNI, key, session, TEID
    outer: Layer | None
    network: bytes
    """Tells the addresses inside from equal ones elsewhere; the same for both directions."""

    def told(self) -> tuple[Tunnel | None, dict[str, Any] | None]:
        """What goes to flow.Tunnel, and what Hubble has no place for: other kinds, and tunnels around this one."""
        if self.kind not in HUBBLE:
            return None, self._words()
        outer = None if self.outer is None else self.outer._words()
        source, destination = _text(self.family, self.source_ip), _text(self.family, self.destination_ip)
        ports = self.source_port, self.destination_port
        return Tunnel(int(self.kind), source, destination, *ports, self.number or 0), outer

    def _words(self) -> dict[str, Any]:
        words: dict[str, Any] = {
            "protocol": self.name,
            "source": _text(self.family, self.source_ip),
            "destination": _text(self.family, self.destination_ip),
        }
        if self.destination_port:
            words |= {"source_port": self.source_port, "destination_port": self.destination_port}
        if self.number is not None:
            words[_NUMBERS[self.kind]] = self.number
        if self.outer is not None:
            words["outer"] = self.outer._words()
        return words

    @property
    def name(self) -> str:
        """What it is called, "vxlan", "gre", "6in4"."""
        if self.kind in (Kind.IPV4, Kind.IPV6):
            inner = 4 if self.kind is Kind.IPV4 else 6
            return "ipip" if inner == self.family == 4 else f"{inner}in{self.family}"
        return self.kind.name.lower().replace("_", "-")


def make_layer(
    kind: int,
    family: int,
    ends: tuple[bytes, bytes],
    ports: tuple[int, int],
    number: int,
    vlan: int,
    outer: Layer | None,
) -> Layer:
    """A layer of these outer headers; `number` -1 means none."""
    known = _KINDS[kind]
    between = b"" if known in _OVERLAYS else min(ends) + max(ends)
    # Both directions of a GTP-U tunnel have a TEID of their own.
    named = -1 if known is Kind.GTP_U else number
    network = _network(kind, named, vlan, between, b"" if outer is None else outer.network)
    return Layer(known, family, *ends, *ports, None if number < 0 else number, outer, network)


@lru_cache(MEMO_LIMIT)
def _network(kind: int, number: int, vlan: int, between: bytes, within: bytes) -> bytes:
    named = _NETWORK.pack(kind, vlan, number)
    return blake2b(b"".join((named, between, within)), digest_size=NETWORK_SIZE).digest()


def announced(protocol: Octets, destination_port: npt.NDArray[np.uint16]) -> Octets:
    """The kind of tunnel that each packet's IP protocol or UDP port announces; Kind.NONE for most."""
    kinds = _BY_PROTOCOL[protocol]
    by_port = _BY_PORT[destination_port]
    if by_port.any():
        by_port[protocol != Protocol.UDP] = 0
        kinds |= by_port
    return kinds


class Headers:
    """The tunnel headers of some packets; one row each, `link_type` 0 where there is nothing to enter."""

    def __init__(
        self,
        data: bytes | memoryview,
        kind: Octets,
        start: npt.NDArray[np.int64],
        end: npt.NDArray[np.int64],
        losses: Losses,
    ) -> None:
        """Read the headers that stand at `start`, captured up to `end`; what cannot be entered is counted."""
        self.data = data
        self.kind = kind.copy()
        self.start = start.copy()
        """Of what is inside."""
        self.end = end
        self.losses = losses
        self.link_type = np.zeros(len(kind), np.uint16)
        self.number = np.full(len(kind), -1, np.int64)
        for each in np.unique(kind).tolist():
            _READERS[each](self, np.flatnonzero(kind == each))

    def header(self, rows: Rows, width: int, name: str) -> tuple[Rows, Octets]:
        """The `width` bytes at hand, (n, width), of each row that has as many; the others are counted."""
        rows = self.keep(rows, self.start[rows] + width <= self.end[rows], f"truncated {name} header")
        return rows, gather(self.data, self.start[rows], width).view(np.uint8).reshape(-1, width)

    def keep(self, rows: Rows, good: npt.NDArray[np.bool_], reason: str) -> Rows:
        """The rows that are `good`; the others are counted."""
        if good.all():
            return rows
        self.losses.count("tunnel", reason, int((~good).sum()))
        return rows[good]

    def enter(self, rows: Rows, size: int | npt.NDArray[np.int64], link_type: int | npt.NDArray[np.integer]) -> None:
        """Behind `size` bytes stands something of `link_type`."""
        self.start[rows] += size
        self.link_type[rows] = link_type


def _number(octets: Octets) -> npt.NDArray[np.int64]:
    """The columns of octets as one big-endian number."""
    value = np.zeros(len(octets), np.int64)
    for column in octets.T:
        value = value << 8 | column
    return value


def _choose(values: npt.NDArray[np.integer], table: dict[int, int]) -> npt.NDArray[np.int64]:
    """The table's entry of each value; 0 without one."""
    out = np.zeros(len(values), np.int64)
    for value, chosen in table.items():
        out[values == value] = chosen
    return out


def _vxlan(found: Headers, rows: Rows) -> None:
    rows, octets = found.header(rows, 8, "VXLAN")
    # The I flag and the last reserved octet (RFC 7348, 5); other flags are those of extensions (group policy).
    real = (octets[:, 0] & 0x08 != 0) & (octets[:, 7] == 0)
    rows = found.keep(rows, real, "port of VXLAN, but not its header")
    found.number[rows] = _number(octets[real, 4:7])
    found.enter(rows, 8, _ETHERNET)


def _vxlan_gpe(found: Headers, rows: Rows) -> None:
    rows, octets = found.header(rows, 8, "VXLAN-GPE")
    real = (octets[:, 0] & 0xF8 == 0x08) & (octets[:, 7] == 0)
    rows, octets = found.keep(rows, real, "port of VXLAN-GPE, but not its header"), octets[real]
    # Without the P flag it is VXLAN.
    inside = np.where(octets[:, 0] & 0x04 != 0, _choose(octets[:, 3], _OF_NEXT_PROTOCOL), _ETHERNET)
    rows, octets = found.keep(rows, inside != 0, "VXLAN-GPE of another protocol"), octets[inside != 0]
    found.number[rows] = _number(octets[:, 4:7])
    found.enter(rows, 8, inside[inside != 0])


def _geneve(found: Headers, rows: Rows) -> None:
    rows, octets = found.header(rows, 8, "Geneve")
    real = (octets[:, 0] >> 6 == 0) & (octets[:, 7] == 0)
    rows, octets = found.keep(rows, real, "port of Geneve, but not its header"), octets[real]
    size = 8 + (octets[:, 0] & 0x3F).astype(np.int64) * 4
    inside = _choose(_number(octets[:, 2:4]), _OF_ETHERTYPE)
    good = inside != 0
    rows, octets, size, inside = (
        found.keep(rows, good, "Geneve of another protocol"),
        octets[good],
        size[good],
        inside[good],
    )
    whole = found.start[rows] + size <= found.end[rows]
    rows = found.keep(rows, whole, "truncated Geneve header")
    found.number[rows] = _number(octets[whole, 4:7])
    found.enter(rows, size[whole], inside[whole])


def _gre(found: Headers, rows: Rows) -> None:
    """Version 0 with checksum, key and sequence number; no routing (RFC 2784, 2.3), no PPTP (version 1)."""
    rows, octets = found.header(rows, 4, "GRE")
    flags = _number(octets[:, :2])
    good = flags & 0x4007 == 0
    rows = found.keep(rows, good, "GRE of another version or with routing")
    flags, ethertype = flags[good], _number(octets[good, 2:4])
    has_key = flags & 0x2000 != 0
    before_key = 4 + (flags >> 13 & 4)
    size = before_key + np.where(has_key, 4, 0) + (flags >> 10 & 4)
    whole = found.start[rows] + size <= found.end[rows]
    rows = found.keep(rows, whole, "truncated GRE header")
    flags, ethertype, has_key, size = flags[whole], ethertype[whole], has_key[whole], size[whole]
    if has_key.any():
        keyed = rows[has_key]
        key = _number(gather(found.data, found.start[keyed] + before_key[whole][has_key], 4).view("u1").reshape(-1, 4))
        # RFC 7637, 3.2: a key only, Ethernet inside, a subnet id of at least 0x1000 in the key's upper 24 bits.
        nvgre = (flags[has_key] & 0xB000 == 0x2000) & (ethertype[has_key] == 0x6558) & (key >> 8 >= 0x1000)
        found.number[keyed] = np.where(nvgre, key >> 8, key)
        found.kind[keyed[nvgre]] = Kind.NVGRE
    inside = _choose(ethertype, _OF_ETHERTYPE)
    spans = (ethertype == _ERSPAN_2) | (ethertype == _ERSPAN_3)
    entered = inside != 0
    found.keep(rows, entered | spans, "GRE of another protocol")
    found.enter(rows[entered], size[entered], inside[entered])
    if spans.any():
        found.start[rows[spans]] += size[spans]
        sequenced = flags & 0x1000 != 0
        _erspan(found, rows[spans], ethertype[spans] == _ERSPAN_3, sequenced[spans])


def _erspan(found: Headers, rows: Rows, third: npt.NDArray[np.bool_], sequenced: npt.NDArray[np.bool_]) -> None:
    """Type I has no header and no sequence number in GRE, types II and III have both."""
    found.kind[rows] = Kind.ERSPAN
    found.enter(rows[~third & ~sequenced], 0, _ETHERNET)
    for chosen, width, version in ((~third & sequenced, 8, 1), (third, 12, 2)):
        of, octets = found.header(rows[chosen], width, "ERSPAN")
        good = octets[:, 0] >> 4 == version
        of, octets = found.keep(of, good, "ERSPAN of another version"), octets[good]
        size = np.full(len(of), width, np.int64)
        inside = np.full(len(of), _ETHERNET, np.int64)
        if version == 2:
            size += (octets[:, 11] & 1).astype(np.int64) * 8  # the platform's subheader
            inside = _choose(octets[:, 10] >> 2 & 0x1F, {0: _ETHERNET, 2: _RAW})
        good = inside != 0
        of, octets, size, inside = (
            found.keep(of, good, "ERSPAN of another frame type"),
            octets[good],
            size[good],
            inside[good],
        )
        found.number[of] = _number(octets[:, 2:4]) & 0x3FF
        found.enter(of, size, inside)


def _gtp_u(found: Headers, rows: Rows) -> None:
    """Version 1, user data only: echoes and the like are the tunnel's own traffic."""
    rows, octets = found.header(rows, 8, "GTP-U")
    real = octets[:, 0] & 0xF0 == 0x30
    rows, octets = found.keep(rows, real, "port of GTP-U, but not its header"), octets[real]
    data = octets[:, 1] == 0xFF
    rows, octets = rows[data], octets[data]
    found.number[rows] = _number(octets[:, 4:8])
    longer = octets[:, 0] & 0x07 != 0
    found.enter(rows[~longer], 8, _RAW)
    rows, flags = rows[longer], octets[longer, 0]
    start = found.start[rows]
    size = np.full(len(rows), 12, np.int64)
    whole = start + size <= found.end[rows]
    rows, flags, start, size = (
        found.keep(rows, whole, "truncated GTP-U header"),
        flags[whole],
        start[whole],
        size[whole],
    )
    more = (flags & 0x04 != 0) & (_number(gather(found.data, start + 11, 1).view("u1").reshape(-1, 1)) != 0)
    for _ in range(MAX_GTP_EXTENSIONS):
        found.enter(rows[~more], size[~more], _RAW)
        rows, start, size = rows[more], start[more], size[more]
        if not len(rows):
            return
        length = _number(gather(found.data, start + size, 1).view("u1").reshape(-1, 1)) * 4
        end = start + size + length
        whole = (length > 0) & (end <= found.end[rows])
        rows = found.keep(rows, whole, "truncated GTP-U header")
        start, size, end = start[whole], (size + length)[whole], end[whole]
        more = _number(gather(found.data, end - 1, 1).view("u1").reshape(-1, 1)) != 0
    found.keep(rows, ~more, "too many GTP-U extension headers")
    found.enter(rows[~more], size[~more], _RAW)


def _inside(link_type: int) -> Callable[[Headers, Rows], None]:
    """No header of its own."""
    return lambda found, rows: found.enter(rows, 0, link_type)


_READERS: Final[dict[int, Callable[[Headers, Rows], None]]] = {
    Kind.VXLAN: _vxlan,
    Kind.VXLAN_GPE: _vxlan_gpe,
    Kind.GENEVE: _geneve,
    Kind.GRE: _gre,
    Kind.IPV4: _inside(_IPV4),
    Kind.IPV6: _inside(_IPV6),
    Kind.MPLS: _inside(_MPLS),
    Kind.GTP_U: _gtp_u,
}


def _text(family: int, address: bytes) -> str:
    return str(IPv4Address(address[12:]) if family == 4 else IPv6Address(address))
