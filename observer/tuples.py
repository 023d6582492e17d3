"""Tuples: the bytes by which conntrack knows that packets belong together.

A batch of `Packets` enters, one key per packet leaves: addresses, ports, VLAN and protocol as bytes, so that one look
into a dict finds the direction of a connection. Also the key of the packet that an ICMP error quotes (RFC 792, 4443).
"""

from __future__ import annotations

import enum
import struct
from typing import Final

import numpy as np

from observer.decode import Packets
from observer.record import Protocol
from observer.tunnel import NETWORK_SIZE

TCP: Final = int(Protocol.TCP)
ICMP: Final = int(Protocol.ICMP)
ICMPV6: Final = int(Protocol.ICMPV6)
PORTED: Final = {TCP, int(Protocol.UDP), int(Protocol.SCTP)}

NO_NETWORK: Final = bytes(NETWORK_SIZE)

KEY: Final = struct.Struct(">16s16s3H3B")
"""source_ip, destination_ip, source_port, destination_port, vlan, protocol, family, shape.

Behind them, of a packet that came through a tunnel, its network (Layer.network); zeros at its end are not there.
"""


class Shape(enum.IntEnum):
    """Last byte of a key: what its ports mean. Never 0, because numpy strips zeros from the end of bytes."""

    PORTS = 1
    ECHO = 2  # both ports are the echo's identifier
    ICMP = 3  # ports are type and code; such messages have no replies


def keys(packets: Packets) -> list[bytes]:
    """The key of each packet's direction; that of the other direction is its `reverse`."""
    table = np.empty((len(packets), KEY.size), np.uint8)
    protocol = packets.protocol
    source_port, destination_port, shape = packets.source_port, packets.destination_port, Shape.PORTS
    table[:, :16] = packets.source_ip
    table[:, 16:32] = packets.destination_ip
    table[:, 38] = protocol
    table[:, 39] = packets.family
    table[:, 40] = shape
    is_icmp = (protocol == ICMP) | (protocol == ICMPV6)
    if is_icmp.any():
        kind = packets.icmp_type
        echo = ((protocol == ICMP) & ((kind == 8) | (kind == 0))) | ((protocol == ICMPV6) & (kind >> 1 == 64))
        echo &= is_icmp
        both = kind.astype(np.uint16) << 8 | packets.icmp_code
        code = np.where(echo, packets.icmp_id, both)
        source_port = np.where(is_icmp, code, source_port)
        destination_port = np.where(is_icmp, code, destination_port)
        table[:, 40] = np.where(is_icmp, np.where(echo, Shape.ECHO, Shape.ICMP), Shape.PORTS)
    for start, column in ((32, source_port), (34, destination_port), (36, packets.vlan)):
        table[:, start] = column >> 8
        table[:, start + 1] = column & 0xFF
    if packets.tunnel is not None:
        networks = b"".join([NO_NETWORK if layer is None else layer.network for layer in packets.tunnel])
        table = np.hstack((table, np.frombuffer(networks, np.uint8).reshape(-1, NETWORK_SIZE)))
    listed: list[bytes] = table.view(f"S{table.shape[1]}").ravel().tolist()
    return listed


def reverse(key: bytes) -> bytes:
    """The key of the other direction."""
    return key[16:32] + key[:16] + key[34:36] + key[32:34] + key[36:]


def quoted_key(packet: bytes, key: bytes) -> bytes:
    """The key of the packet that an ICMP error with the key `key` quotes; b"" if it cannot be read."""
    if len(packet) >= 28 and packet[0] >> 4 == 4 and key[39] == 4:
        header = (packet[0] & 15) * 4
        protocol, source, destination = packet[9], packet[12:16], packet[16:20]
        prefix = b"\0" * 10 + b"\xff\xff"
        addresses = prefix + source + prefix + destination
    elif len(packet) >= 48 and packet[0] >> 4 == 6 and key[39] == 6:
        header, protocol, addresses = 40, packet[6], packet[8:40]
    else:
        return b""
    if addresses[:16] != key[16:32]:
        return b""  # it goes to somebody who did not send what it quotes
    inner = packet[header : header + 8]
    if len(inner) < 8:
        return b""
    if protocol in (ICMP, ICMPV6):
        ports, shape = inner[4:6] * 2, Shape.ECHO
    elif protocol in PORTED:
        ports, shape = inner[:4], Shape.PORTS
    else:
        ports, shape = bytes(4), Shape.PORTS
    return addresses + ports + key[36:38] + bytes((protocol, key[39], shape)) + key[KEY.size :]
