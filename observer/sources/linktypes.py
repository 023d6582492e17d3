"""From captured frames to where their IP header starts: link layers, VLAN tags, MPLS labels, PPPoE, LLC/SNAP.

`Frames` enter, a `Network` leaves: per frame the position of the IP header, which IP it is, MACs and VLAN. Refuses to
read the IP header itself; what holds no IP is counted by name. Layouts: https://www.tcpdump.org/linktypes.html,
IEEE 802.1Q, RFC 3032 and 4448 (MPLS), RFC 1661 and 2516 (PPP, PPPoE), RFC 1042 (SNAP), RFC 2427 (Frame Relay). 802.11
goes frame by frame through dpkt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from observer.losses import Losses
from observer.sources import ieee80211
from observer.sources.frames import Frames
from observer.sources.gather import gather
from observer.sources.network import (
    AS_COUNTED,
    AS_ETHERNET,
    AS_PPP,
    AS_VERSION,
    COUNTED,
    ETHERNET,
    IPV4,
    IPV6,
    KINDS,
    LLC,
    MPLS,
    PPP,
    PPPOE,
    VERSION,
    VLAN,
    Network,
    Rows,
)

MAX_TAGS: Final = 16
"""VLAN tags, MPLS labels and the like before the IP header; no network stacks as many."""

LAST_LINK_TYPE: Final = 511
"""Well above those assigned so far."""

_UNSUPPORTED: Final = {
    18: "PFSYNC",
    189: "USB_LINUX",
    195: "IEEE802_15_4_WITHFCS",
    220: "USB_LINUX_MMAPPED",
    227: "CAN_SOCKETCAN",
    249: "USBPCAP",
    251: "BLUETOOTH_LE_LL",
    252: "WIRESHARK_UPPER_PDU",
    253: "NETLINK",
}

_ETHERNET: Final = np.dtype([("destination", "V6"), ("source", "V6"), ("ethertype", ">u2")])
_TAG: Final = np.dtype([("control", ">u2"), ("ethertype", ">u2")])

_AF_INET: Final = 2
_AF_INET6: Final = (10, 24, 28, 30)  # Linux, NetBSD and OpenBSD, FreeBSD, macOS
_NFULA_PAYLOAD: Final = 9


def network(frames: Frames, losses: Losses) -> Network:
    """Find the IP header of every frame."""
    found = Network(frames, losses)
    for link_type in np.unique(frames.link_types).tolist():
        rows = np.flatnonzero(frames.link_types == link_type)
        reader = _LINK_TYPES.get(link_type)
        if reader is None:
            found.count(f"unsupported link type {_unsupported(link_type)}", rows)
        else:
            reader(found, rows)
    for _ in range(MAX_TAGS):
        more = np.flatnonzero(found.kind >= VLAN)
        if not len(more):
            return found
        kinds = found.kind[more]
        for kind in np.unique(kinds).tolist():
            _TAGS[kind](found, more[kinds == kind])
    found.count("too many VLAN tags and labels", np.flatnonzero(found.kind >= VLAN))
    return found


def _unsupported(link_type: int) -> str:
    if link_type > LAST_LINK_TYPE:  # damage; a file of damage may not fill the table of losses
        return f"above {LAST_LINK_TYPE}"
    name = _UNSUPPORTED.get(link_type)
    return f"{link_type} ({name})" if name else f"{link_type}"


def _follow(found: Network, rows: Rows, size: int, ethertypes: npt.NDArray[np.integer]) -> None:
    found.advance(rows, size, ethertypes)
    found.not_ip(rows, ethertypes)


def _ethernet(found: Network, rows: Rows) -> None:
    rows, raw = found.header(rows, 14, "Ethernet header")
    head = raw.view(_ETHERNET)
    found.destination_mac.view("V6")[rows, 0] = head["destination"]
    found.source_mac.view("V6")[rows, 0] = head["source"]
    found.has_mac[rows] = True
    _follow(found, rows, 14, head["ethertype"].astype(np.int64))


def _sll(found: Network, rows: Rows) -> None:
    rows, raw = found.header(rows, 16, "Linux cooked header")
    _cooked(found, rows, 16, raw.view(">u2").reshape(-1, 8)[:, 7], raw.view(">u2").reshape(-1, 8)[:, 1])


def _sll2(found: Network, rows: Rows) -> None:
    rows, raw = found.header(rows, 20, "Linux cooked header")
    _cooked(found, rows, 20, raw.view(">u2").reshape(-1, 10)[:, 0], raw.view(">u2").reshape(-1, 10)[:, 4])


def _cooked(
    found: Network, rows: Rows, size: int, protocol: npt.NDArray[np.void], hardware: npt.NDArray[np.void]
) -> None:
    ethertypes = protocol.astype(np.int64)
    netlink = hardware == 824  # ARPHRD_NETLINK: the field holds a netlink family
    if netlink.any():
        found.count("not IP: netlink", rows[netlink])
        rows, ethertypes = rows[~netlink], ethertypes[~netlink]
    _follow(found, rows, size, ethertypes)


def _raw(found: Network, rows: Rows) -> None:
    found.kind[rows] = VERSION


def _ipv4(found: Network, rows: Rows) -> None:
    found.kind[rows] = IPV4


def _ipv6(found: Network, rows: Rows) -> None:
    found.kind[rows] = IPV6


def _loopback(found: Network, rows: Rows) -> None:
    """An address family in the byte order of whoever captured: families are small, so the order shows."""
    rows, raw = found.header(rows, 4, "loopback header")
    big, little = raw.view(">u4").astype(np.int64), raw.view("<u4").astype(np.int64)
    family = np.minimum(big, little)
    ethertypes = np.full(len(rows), AS_COUNTED, np.int64)
    ethertypes[family == _AF_INET] = 0x0800
    ethertypes[np.isin(family, _AF_INET6)] = 0x86DD
    found.count("not IP: other address family", rows[ethertypes == AS_COUNTED])
    found.advance(rows, 4, ethertypes)


def _ppp_frame(found: Network, rows: Rows) -> None:
    """PPP, with or without the address and control bytes of its HDLC framing."""
    rows, raw = found.header(rows, 2, "PPP header")
    framed = raw.view(">u2") == 0xFF03
    found.advance(rows, np.where(framed, 2, 0), AS_PPP)


def _serial(found: Network, rows: Rows) -> None:
    rows, raw = found.header(rows, 1, "PPP header")
    cisco = np.isin(raw.view("u1"), (0x0F, 0x8F))
    _hdlc(found, rows[cisco])
    _ppp_frame(found, rows[~cisco])


def _hdlc(found: Network, rows: Rows) -> None:
    rows, raw = found.header(rows, 4, "HDLC header")
    ethertypes = raw.view(_TAG)["ethertype"].astype(np.int64)
    slarp = ethertypes == 0x8035  # Cisco's keepalive goes by RARP's number
    found.count("not IP: SLARP", rows[slarp])
    _follow(found, rows[~slarp], 4, ethertypes[~slarp])


def _pppoe_frame(found: Network, rows: Rows) -> None:
    found.kind[rows] = PPPOE


def _frame_relay(found: Network, rows: Rows) -> None:
    """Two octets of address; then Cisco's ethertype, or RFC 2427's control and NLPID."""
    rows, raw = found.header(rows, 4, "Frame Relay header")
    octets = raw.view("u1").reshape(-1, 4)
    ethertypes = raw.view(_TAG)["ethertype"].astype(np.int64)
    standard = octets[:, 2] == 3
    for nlpid, ethertype in ((0xCC, 0x0800), (0x8E, 0x86DD)):
        ethertypes[standard & (octets[:, 3] == nlpid)] = ethertype
    good = (octets[:, 1] & 1 == 1) & (KINDS[ethertypes] != LLC)
    found.count("not IP: Frame Relay", rows[~good])
    _follow(found, rows[good], 4, ethertypes[good])


def _pflog(found: Network, rows: Rows) -> None:
    """The header's length without its padding, and the address family."""
    rows, raw = found.header(rows, 4, "PFLOG header")
    octets = raw.view("u1").reshape(-1, 4)
    size = octets[:, 0].astype(np.int64) + 3 & ~3
    whole = found.position[rows] + size <= found.end[rows]
    found.count("truncated PFLOG header", rows[~whole])
    rows, octets, size = rows[whole], octets[whole], size[whole]
    ethertypes = np.full(len(rows), AS_COUNTED, np.int64)
    ethertypes[octets[:, 1] == _AF_INET] = 0x0800
    ethertypes[np.isin(octets[:, 1], _AF_INET6)] = 0x86DD
    found.count("not IP: other address family", rows[ethertypes == AS_COUNTED])
    found.advance(rows, size, ethertypes)


def _slip(found: Network, rows: Rows) -> None:
    """A direction and what was left of a compressed header."""
    rows, _ = found.header(rows, 16, "SLIP header")
    found.advance(rows, 16, AS_VERSION)


def _token_ring(found: Network, rows: Rows) -> None:
    """Two octets of control, addresses, and a source route where the source says so."""
    rows, raw = found.header(rows, 15, "Token Ring header")
    octets = raw.view("u1").reshape(-1, 15)
    route = np.where(octets[:, 8] & 0x80 != 0, octets[:, 14] & 0x1F, 0).astype(np.int64)
    _bridged(found, rows, octets, 2, 14 + route)


def _fddi(found: Network, rows: Rows) -> None:
    rows, raw = found.header(rows, 13, "FDDI header")
    _bridged(found, rows, raw.view("u1").reshape(-1, 13), 1, np.full(len(rows), 13, np.int64))


def _bridged(
    found: Network, rows: Rows, octets: npt.NDArray[np.uint8], addresses: int, size: npt.NDArray[np.int64]
) -> None:
    found.destination_mac[rows] = octets[:, addresses : addresses + 6]
    found.source_mac[rows] = octets[:, addresses + 6 : addresses + 12]
    found.source_mac[rows, 0] &= 0x7F  # a source route, no part of the address
    found.has_mac[rows] = True
    found.advance(rows, size, 0)


def _wireless(link_type: int) -> Callable[[Network, Rows], None]:
    def reader(found: Network, rows: Rows) -> None:
        for row in rows.tolist():
            start, end = int(found.position[row]), int(found.end[row])
            data = ieee80211.read(bytes(found.data[start:end]), link_type)
            if isinstance(data, str):
                found.count(data, np.array([row]))
                continue
            found.position[row] += data.position
            found.kind[row] = LLC
            found.source_mac[row] = np.frombuffer(data.source, np.uint8)
            found.destination_mac[row] = np.frombuffer(data.destination, np.uint8)
            found.has_mac[row] = True

    return reader


def _mpls_frame(found: Network, rows: Rows) -> None:
    found.kind[rows] = MPLS


def _nflog(found: Network, rows: Rows) -> None:
    """A family and attributes; those have the byte order of whoever captured, which the frame does not tell."""
    data = found.data
    rows, raw = found.header(rows, 4, "NFLOG header")
    families = raw.view("u1").reshape(-1, 4)[:, 0]
    for row, family in zip(rows, families.tolist(), strict=True):
        kind = IPV4 if family == _AF_INET else IPV6 if family == _AF_INET6[0] else COUNTED
        at, end = int(found.position[row]) + 4, int(found.end[row])
        order = _attribute_order(data, at, end)
        while at + 4 <= end:
            size = int.from_bytes(data[at : at + 2], order)
            if size < 4:
                break
            if int.from_bytes(data[at + 2 : at + 4], order) & 0x7FFF == _NFULA_PAYLOAD:
                found.position[row] = at + 4
                found.end[row] = min(end, at + size)
                found.kind[row] = kind
                break
            at += size + 3 & ~3
    missed = found.kind[rows] == COUNTED
    found.count("not IP: NFLOG", rows[missed])


def _attribute_order(data: bytes | memoryview, at: int, end: int) -> Literal["little", "big"]:
    """Which order makes the first attribute a type that NFLOG knows."""
    kind = int.from_bytes(data[at + 2 : at + 4], "little") & 0x7FFF
    return "little" if at + 4 > end or 0 < kind < 32 else "big"


def _vlan(found: Network, rows: Rows) -> None:
    rows, raw = found.header(rows, 4, "VLAN tag")
    tag = raw.view(_TAG)
    identifier = tag["control"].astype(np.uint16) & np.uint16(0x0FFF)
    first = (identifier != 0) & ~found.has_vlan[rows]  # 0 is a priority only
    found.vlan[rows[first]] = identifier[first]
    found.has_vlan[rows[first]] = True
    _follow(found, rows, 4, tag["ethertype"].astype(np.int64))


def _mpls(found: Network, rows: Rows) -> None:
    rows, raw = found.header(rows, 4, "MPLS label")
    bottom = raw.view(">u4") & 0x100 != 0
    found.advance(rows, 4, np.where(bottom, AS_VERSION, 0x8847))
    rows = rows[bottom]
    rows = rows[found.position[rows] + 4 <= found.end[rows]]
    wired = rows[gather(found.data, found.position[rows], 1).view("u1") >> 4 == 0]
    found.advance(wired, 4, AS_ETHERNET)  # the control word of a pseudowire (RFC 4385, 3), of Ethernet most likely


def _pppoe(found: Network, rows: Rows) -> None:
    rows, _ = found.header(rows, 6, "PPPoE header")
    found.advance(rows, 6, AS_PPP)


def _ppp(found: Network, rows: Rows) -> None:
    """A protocol number of one byte, if that is odd, or of two."""
    rows, raw = found.header(rows, 1, "PPP header")
    short = raw.view("u1") & 1 == 1
    protocol = raw.view("u1").astype(np.int64)
    long, raw = found.header(rows[~short], 2, "PPP header")
    for of, numbers, size in ((rows[short], protocol[short], 1), (long, raw.view(">u2").astype(np.int64), 2)):
        ethertypes = np.full(len(of), AS_COUNTED, np.int64)
        for number, ethertype in ((0x21, 0x0800), (0x57, 0x86DD), (0x281, 0x8847)):
            ethertypes[numbers == number] = ethertype
        found.count("not IP: PPP", of[ethertypes == AS_COUNTED])
        found.advance(of, size, ethertypes)


def _llc(found: Network, rows: Rows) -> None:
    rows, raw = found.header(rows, 3, "LLC header")
    sap = raw.view("u1").reshape(-1, 3)
    ip = (sap == (6, 6, 3)).all(axis=1)
    found.advance(rows[ip], 3, 0x0800)
    snap = (sap == (0xAA, 0xAA, 3)).all(axis=1)
    found.count("not IP: LLC", rows[~(ip | snap)])
    rows, raw = found.header(rows[snap], 8, "SNAP header")
    words = raw.view(">u2").reshape(-1, 4)
    # RFC 1042: organisation 0, or the bridged one that means an ethertype all the same
    named = (words[:, 1] & 0xFF == 0) & np.isin(words[:, 2], (0, 0xF8)) & (words[:, 3] >= 1536)
    found.count("not IP: SNAP", rows[~named])
    _follow(found, rows[named], 8, words[named, 3].astype(np.int64))


def _version(found: Network, rows: Rows) -> None:
    rows, raw = found.header(rows, 1, "IP header")
    version = raw.view("u1") >> 4
    found.kind[rows] = np.select([version == 4, version == 6], [IPV4, IPV6], COUNTED)
    found.count("not IP: no version 4 or 6", rows[(version != 4) & (version != 6)])


_TAGS: Final[dict[int, Callable[[Network, Rows], None]]] = {
    VLAN: _vlan,
    MPLS: _mpls,
    PPPOE: _pppoe,
    PPP: _ppp,
    LLC: _llc,
    VERSION: _version,
    ETHERNET: _ethernet,
}

_LINK_TYPES: Final[dict[int, Callable[[Network, Rows], None]]] = {
    0: _loopback,
    1: _ethernet,
    6: _token_ring,
    8: _slip,
    9: _ppp_frame,
    10: _fddi,
    12: _raw,  # DLT_RAW, as some systems write it
    14: _raw,
    50: _serial,
    51: _pppoe_frame,
    101: _raw,
    104: _hdlc,
    107: _frame_relay,
    108: _loopback,
    113: _sll,
    117: _pflog,
    219: _mpls_frame,
    228: _ipv4,
    229: _ipv6,
    239: _nflog,
    276: _sll2,
    **{link_type: _wireless(link_type) for link_type in ieee80211.LINK_TYPES},
}
