"""Captures and packets built byte by byte, for the tests of whatever reads them."""

import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address

import numpy as np

from observer.sources.frames import Frames

SECOND = 1_700_000_000
MAC_A, MAC_B = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
V4_A, V4_B = "10.0.0.1", "10.0.0.2"
V6_A, V6_B = "fd00::1", "fd00::2"
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def ethernet(
    payload: bytes, ethertype: int = 0x0800, tags: Sequence[tuple[int, int]] = (), trailer: bytes = b""
) -> bytes:
    """From A to B; a tag is its ethertype and its control word."""
    between = b"".join(struct.pack(">HH", kind, control) for kind, control in tags)
    return MAC_B + MAC_A + between + struct.pack(">H", ethertype) + payload + trailer


def ipv4(
    payload: bytes,
    protocol: int,
    source: str = V4_A,
    destination: str = V4_B,
    *,
    options: bytes = b"",
    length: int | None = None,
    identification: int = 0,
    fragment: int = 0,
    version: int = 4,
) -> bytes:
    """A header in front of `payload`; `fragment` is the word of flags and offset."""
    words = 5 + len(options) // 4
    total = words * 4 + len(payload) if length is None else length
    head = struct.pack(">BBHHHBBH", version << 4 | words, 0, total, identification, fragment, 64, protocol, 0)
    return head + IPv4Address(source).packed + IPv4Address(destination).packed + options + payload


def ipv6(
    payload: bytes, protocol: int, source: str = V6_A, destination: str = V6_B, *, length: int | None = None
) -> bytes:
    size = len(payload) if length is None else length
    head = struct.pack(">IHBB", 6 << 28, size, protocol, 64)
    return head + IPv6Address(source).packed + IPv6Address(destination).packed + payload


def wireless(
    payload: bytes,
    ethertype: int = 0x0800,
    *,
    flags: int = 1,
    subtype: int = 0,
    between: bytes = b"",
    sequence: int = 16,
) -> bytes:
    """An 802.11 data frame from A to B, `flags` 1 to the access point, 2 from it; `between` stands before LLC."""
    access_point = bytes.fromhex("020000000099")
    one, two, three = {
        0: (MAC_B, MAC_A, access_point),
        1: (access_point, MAC_A, MAC_B),
        2: (MAC_B, access_point, MAC_A),
        3: (access_point, access_point, MAC_B),
    }[flags & 3]
    head = bytes((subtype << 4 | 8, flags)) + bytes(2) + one + two + three + struct.pack("<H", sequence)
    four = MAC_A if flags & 3 == 3 else b""
    return head + four + between + b"\xaa\xaa\x03\0\0\0" + struct.pack(">H", ethertype) + payload


def radiotap(payload: bytes, fields: bytes = b"", present: int = 0) -> bytes:
    return struct.pack("<BBHI", 0, 0, 8 + len(fields), present) + fields + payload


def tcp(
    payload: bytes = b"",
    source: int = 40000,
    destination: int = 80,
    flags: int = ACK,
    sequence: int = 1000,
    acknowledgment: int = 2000,
    options: bytes = b"",
) -> bytes:
    words = 5 + len(options) // 4
    head = struct.pack(">HHIIHHHH", source, destination, sequence, acknowledgment, words << 12 | flags, 512, 0, 0)
    return head + options + payload


def udp(payload: bytes = b"", source: int = 40000, destination: int = 53, length: int | None = None) -> bytes:
    return struct.pack(">HHHH", source, destination, 8 + len(payload) if length is None else length, 0) + payload


def icmp(kind: int, code: int = 0, identifier: int = 0, payload: bytes = b"") -> bytes:
    """ICMP and ICMPv6 alike."""
    return struct.pack(">BBHHH", kind, code, 0, identifier, 1) + payload


def frames(
    packets: Iterable[bytes], link_type: int = 1, *, snap_length: int = 1 << 20, times_ns: Sequence[int] | None = None
) -> Frames:
    """A batch of them, a millisecond apart; what exceeds `snap_length` was not captured."""
    whole = list(packets)
    kept = [packet[:snap_length] for packet in whole]
    lengths = np.array([len(packet) for packet in kept], np.int64)
    count = len(whole)
    stamps = [SECOND * 10**9 + index * 10**6 for index in range(count)] if times_ns is None else list(times_ns)
    return Frames(
        data=b"".join(kept),
        offsets=np.cumsum(lengths) - lengths,
        lengths=lengths,
        wire_lengths=np.array([len(packet) for packet in whole], np.int64),
        times_ns=np.array(stamps, np.int64),
        link_types=np.full(count, link_type, np.uint16),
        interfaces=np.zeros(count, np.uint32),
        numbers=np.arange(1, count + 1, dtype=np.int64),
    )


def pcap(
    packets: Iterable[bytes],
    *,
    order: str = "<",
    magic: int = 0xA1B2C3D4,
    link_type: int = 1,
    fraction: int = 5,
    snap_length: int = 1 << 20,
) -> bytes:
    """A pcap file; the packets are a second apart."""
    out = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, link_type)]
    for index, packet in enumerate(packets):
        kept = packet[:snap_length]
        out.append(struct.pack(order + "IIII", SECOND + index, fraction, len(kept), len(packet)))
        if magic == 0xA1B2CD34:
            out.append(bytes(8))
        out.append(kept)
    return b"".join(out)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """A pcapng block."""
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(
    link_type: int = 1,
    order: str = "<",
    *,
    resolution: int | None = None,
    offset: int | None = None,
    snap_length: int = 0,
) -> bytes:
    options = struct.pack(order + "HH", 2, 4) + b"eth0"
    if resolution is not None:
        options += struct.pack(order + "HHB3x", 9, 1, resolution)
    if offset is not None:
        options += struct.pack(order + "HHq", 14, 8, offset)
    options += struct.pack(order + "HH", 0, 0)
    return block(1, struct.pack(order + "HHI", link_type, 0, snap_length) + options, order)


def enhanced(
    packet: bytes, ticks: int = SECOND * 10**6, index: int = 0, order: str = "<", wire: int | None = None
) -> bytes:
    size = len(packet) if wire is None else wire
    head = struct.pack(order + "IIIII", index, ticks >> 32, ticks & 0xFFFFFFFF, len(packet), size)
    return block(6, head + packet, order)


def obsolete(packet: bytes, ticks: int = SECOND * 10**6, index: int = 0, order: str = "<") -> bytes:
    head = struct.pack(order + "HHIIII", index, 7, ticks >> 32, ticks & 0xFFFFFFFF, len(packet), len(packet))
    return block(2, head + packet, order)


def simple(packet: bytes, order: str = "<", wire: int | None = None) -> bytes:
    return block(3, struct.pack(order + "I", len(packet) if wire is None else wire) + packet, order)


def vxlan(frame: bytes, vni: int = 7, *, flags: int = 8, port: int = 4789, source: int = 50000) -> bytes:
    """A UDP datagram."""
    return udp(struct.pack(">BxxxI", flags, vni << 8) + frame, source, port)


def vxlan_gpe(packet: bytes, protocol: int, vni: int = 7) -> bytes:
    return udp(struct.pack(">BxxBI", 0x0C, protocol, vni << 8) + packet, 50000, 4790)


def geneve(packet: bytes, ethertype: int = 0x6558, vni: int = 7, *, options: bytes = b"") -> bytes:
    return udp(struct.pack(">BBHI", len(options) // 4, 0, ethertype, vni << 8) + options + packet, 50000, 6081)


def gre(
    packet: bytes,
    ethertype: int = 0x0800,
    *,
    checksum: bool = False,
    key: int | None = None,
    sequence: int | None = None,
    flags: int = 0,
) -> bytes:
    """What follows the IP header."""
    flags |= checksum << 15 | (key is not None) << 13 | (sequence is not None) << 12
    words = [0] * checksum + [number for number in (key, sequence) if number is not None]
    return struct.pack(">HH", flags, ethertype) + b"".join(struct.pack(">I", word) for word in words) + packet


def erspan(frame: bytes, session: int = 5, *, version: int = 1, kind: int = 0, subheader: bytes = b"") -> bytes:
    """Type II (version 1) or III (version 2) in GRE."""
    head = struct.pack(">HHI", version << 12 | 9, session, 0)
    if version == 2:
        head += struct.pack(">HH", 0, kind << 10 | bool(subheader)) + subheader
    return gre(head + frame, 0x88BE if version == 1 else 0x22EB, sequence=1)


def gtp_u(
    packet: bytes, teid: int = 9, *, flags: int = 0x30, kind: int = 0xFF, extensions: bytes | None = None
) -> bytes:
    """`extensions` starts with the type of the first one."""
    more = b"" if extensions is None else b"\0\1\0" + extensions
    return udp(struct.pack(">BBHI", flags, kind, len(more) + len(packet), teid) + more + packet, 2152, 2152)
