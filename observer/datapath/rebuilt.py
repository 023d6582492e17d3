"""Frames made for the program in the kernel, of what it cannot take as it was captured.

A long TCP segment enters and leaves as several short frames; a packet that only decode.py could read (fragments put
together, link types other than Ethernet) leaves as a plain Ethernet frame. Lengths say what the wire's said; checksums,
which nobody reads, are left out. Knows no kernel.
"""

from __future__ import annotations

import struct
from typing import Final

from observer.decode import Packets
from observer.record import Protocol, TcpFlag

FRAME_LIMIT: Final = 3_400
"""The longest frame that BPF_PROG_TEST_RUN takes; longer ones are made by the card's offloads."""
PART_SIZE: Final = 2_800
"""Octets of payload of each part of one."""

ETHERNET_SIZE: Final = 14
TAGS: Final = (0x8100, 0x88A8, 0x9100, 0x9200)
IPV4: Final = 0x0800
IPV6: Final = 0x86DD
TCP: Final = int(Protocol.TCP)
LENGTH_MAX: Final = 0xFFFF

_IPV4: Final = struct.Struct(">BxHHxxBBxx4s4s")
_IPV6: Final = struct.Struct(">IHBB16s16s")
_TCP: Final = struct.Struct(">HHIIH6x")
_PORTS: Final = struct.Struct(">HH4x")
_ICMP: Final = struct.Struct(">BBxxHxx")


class Segment:
    """Where the headers of a TCP segment in an Ethernet frame are; `whole` if it is one that can be split."""

    def __init__(self, frame: bytes, wire: int) -> None:
        self.whole = False
        self.ip_length = 0
        at, kind = ETHERNET_SIZE, int.from_bytes(frame[12:14], "big")
        while kind in TAGS and at + 4 <= len(frame):
            kind = int.from_bytes(frame[at + 2 : at + 4], "big")
            at += 4
        self.ip = at
        self.is_ipv6 = kind == IPV6
        if kind == IPV4 and len(frame) >= at + 20:
            self.tcp, protocol = at + (frame[at] & 15) * 4, frame[at + 9]
            self.ip_length = int.from_bytes(frame[at + 2 : at + 4], "big") or wire - at
            if int.from_bytes(frame[at + 6 : at + 8], "big") & 0x3FFF:
                return
        elif kind == IPV6 and len(frame) >= at + 40:
            self.tcp, protocol = at + 40, frame[at + 6]
            self.ip_length = int.from_bytes(frame[at + 4 : at + 6], "big") + 40
            if self.ip_length == 40:
                self.ip_length = wire - at
        else:
            return
        if protocol != TCP or len(frame) < self.tcp + 20:
            return
        self.payload = self.tcp + (frame[self.tcp + 12] >> 4) * 4
        self.end = min(len(frame), at + self.ip_length)
        self.missing = at + self.ip_length - self.end
        self.whole = self.payload < self.end and not frame[self.tcp + 13] & TcpFlag.SYN


def split(frame: bytes, segment: Segment) -> list[bytes]:
    """A TCP segment as several, each short enough.

    FIN, and what the snap length has cut off, stand behind the last octet, and so in the last frame.
    """
    sequence = int.from_bytes(frame[segment.tcp + 4 : segment.tcp + 8], "big")
    parts = []
    for start in range(segment.payload, segment.end, PART_SIZE):
        stop = min(start + PART_SIZE, segment.end)
        is_last = stop == segment.end
        part = bytearray(frame[: segment.payload] + frame[start:stop])
        moved = sequence + start - segment.payload & 0xFFFFFFFF
        part[segment.tcp + 4 : segment.tcp + 8] = moved.to_bytes(4, "big")
        if not is_last:
            part[segment.tcp + 13] &= ~TcpFlag.FIN & 0xFF
        length = segment.payload - segment.ip + stop - start + (segment.missing if is_last else 0)
        at = segment.ip + (4 if segment.is_ipv6 else 2)
        part[at : at + 2] = min(length - 40 * segment.is_ipv6, LENGTH_MAX).to_bytes(2, "big")
        parts.append(bytes(part))
    return parts


def ethernet(packets: Packets, row: int) -> bytes:
    """One packet as an Ethernet frame without options or extension headers."""
    protocol = int(packets.protocol[row])
    body = _header(packets, row, protocol) + packets.payload(row)
    length = len(body) + int(packets.payload_missing[row])
    source, destination = packets.source_ip[row].tobytes(), packets.destination_ip[row].tobytes()
    if packets.family[row] == 4:
        kind = IPV4
        # Fields that nobody reads are 0, but for the time to live.
        ip = _IPV4.pack(0x45, min(length + 20, LENGTH_MAX), 0, 64, protocol, source[12:], destination[12:])
    else:
        kind = IPV6
        ip = _IPV6.pack(6 << 28, min(length, LENGTH_MAX), protocol, 64, source, destination)
    vlan = int(packets.vlan[row])
    tag = struct.pack(">HH", TAGS[0], vlan) if vlan else b""
    macs: bytes = packets.destination_mac[row].tobytes() + packets.source_mac[row].tobytes()
    return macs + tag + kind.to_bytes(2, "big") + ip + body


def _header(packets: Packets, row: int, protocol: int) -> bytes:
    ports = int(packets.source_port[row]), int(packets.destination_port[row])
    if protocol == Protocol.TCP:
        numbers = int(packets.sequence[row]), int(packets.acknowledgment[row])
        return _TCP.pack(*ports, *numbers, 5 << 12 | int(packets.tcp_flags[row]))
    if protocol == Protocol.UDP:
        return _PORTS.pack(*ports)  # of a datagram without a length the IP header's counts
    if protocol == Protocol.SCTP:
        return _PORTS.pack(*ports) + bytes(4)
    if protocol in (Protocol.ICMP, Protocol.ICMPV6):
        kind = int(packets.icmp_type[row]), int(packets.icmp_code[row])
        return _ICMP.pack(*kind, int(packets.icmp_id[row]))
    return b""
