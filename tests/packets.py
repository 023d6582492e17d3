"""Packets for tests, written as literals, `tcp("1.2.3.4:40000", "5.6.7.8:80", "S")`; and captures made of them."""

import ipaddress
import struct
from dataclasses import dataclass

import numpy as np

from observer.decode import Packets
from tests import captures

FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16}
SECOND = 1_000_000_000
START = 1_760_000_000 * SECOND


@dataclass(frozen=True)
class Packet:
    source: str  # address
    destination: str
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    flags: int = 0
    sequence: int = 0
    acknowledgment: int = 0
    payload: bytes = b""
    missing: int = 0
    at: float = 0.0  # seconds after START
    vlan: int = 0
    icmp: tuple[int, int, int] = (0, 0, 0)  # type, code, identifier

    @property
    def time_ns(self) -> int:
        return START + round(self.at * SECOND)


def tcp(source, destination, flags="A", payload=b"", **rest) -> Packet:
    return Packet(*_ends(source, destination, 6), flags=sum(FLAGS[flag] for flag in flags), payload=payload, **rest)


def udp(source, destination, payload=b"", **rest) -> Packet:
    return Packet(*_ends(source, destination, 17), payload=payload, **rest)


def icmp(source, destination, kind, *, code=0, identifier=0, payload=b"", **rest) -> Packet:
    protocol = 58 if ":" in source else 1
    return Packet(source, destination, protocol, icmp=(kind, code, identifier), payload=payload, **rest)


def other(source, destination, protocol, **rest) -> Packet:
    return Packet(source, destination, protocol, **rest)


def _ends(source: str, destination: str, protocol: int):
    (one, one_port), (two, two_port) = (end.rsplit(":", 1) for end in (source, destination))
    return one.strip("[]"), two.strip("[]"), protocol, int(one_port), int(two_port)


def address(text: str) -> bytes:
    packed = ipaddress.ip_address(text).packed
    return packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed


def batch(*rows: Packet) -> Packets:
    """What a decoder would make of them."""
    data = b"".join(row.payload for row in rows)
    starts = np.cumsum([0] + [len(row.payload) for row in rows])[:-1]

    def column(kind, values):
        return np.array(list(values), kind)

    def octets(width, values):
        return np.frombuffer(b"".join(values), np.uint8).reshape(len(rows), width)

    return Packets(
        data=data,
        time_ns=column("i8", (row.time_ns for row in rows)),
        frame=np.arange(1, len(rows) + 1),
        family=column("u1", (6 if ":" in row.source else 4 for row in rows)),
        protocol=column("u1", (row.protocol for row in rows)),
        source_ip=octets(16, (address(row.source) for row in rows)),
        destination_ip=octets(16, (address(row.destination) for row in rows)),
        source_mac=octets(6, (b"\x02\x42" + address(row.source)[12:] for row in rows)),
        destination_mac=octets(6, (b"\x02\x42" + address(row.destination)[12:] for row in rows)),
        has_mac=np.ones(len(rows), bool),
        source_port=column("u2", (row.source_port for row in rows)),
        destination_port=column("u2", (row.destination_port for row in rows)),
        vlan=column("u2", (row.vlan for row in rows)),
        has_vlan=column(bool, (row.vlan > 0 for row in rows)),
        tcp_flags=column("u2", (row.flags for row in rows)),
        sequence=column("u4", (row.sequence & 0xFFFFFFFF for row in rows)),
        acknowledgment=column("u4", (row.acknowledgment & 0xFFFFFFFF for row in rows)),
        payload_start=starts.astype("i8"),
        payload_length=column("i8", (len(row.payload) for row in rows)),
        payload_missing=column("i8", (row.missing for row in rows)),
        ip_length=column("i8", (40 + len(row.payload) + row.missing for row in rows)),
        icmp_type=column("u1", (row.icmp[0] for row in rows)),
        icmp_code=column("u1", (row.icmp[1] for row in rows)),
        icmp_id=column("u2", (row.icmp[2] for row in rows)),
    )


def ip_packet(row: Packet) -> bytes:
    """The packet's own bytes, checksums left out."""
    if row.protocol == 6:
        numbers = {"sequence": row.sequence & 0xFFFFFFFF, "acknowledgment": row.acknowledgment & 0xFFFFFFFF}
        segment = captures.tcp(row.payload, row.source_port, row.destination_port, row.flags, **numbers)
    elif row.protocol == 17:
        segment = captures.udp(row.payload, row.source_port, row.destination_port)
    else:
        segment = captures.icmp(*row.icmp, row.payload)
    header = captures.ipv6 if ":" in row.source else captures.ipv4
    return header(segment, row.protocol, row.source, row.destination)


def pcap(*rows: Packet) -> bytes:
    """A capture of them, as raw IP and in nanoseconds."""
    out = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 101)]
    for row in rows:
        packet = ip_packet(row)
        out.append(struct.pack("<IIII", *divmod(row.time_ns, SECOND), len(packet), len(packet)) + packet)
    return b"".join(out)


def connection(client, server, *, first=1000, second=5000, request=b"", response=b"", at=0.0, step=0.001):
    """A whole TCP connection: handshake, one request, one response, both FINs."""
    rows = []
    numbers = {client: first, server: second}

    def send(sender, receiver, flags, payload=b""):
        ack = numbers[receiver] if "A" in flags else 0
        moment = at + step * len(rows)
        rows.append(tcp(sender, receiver, flags, payload, sequence=numbers[sender], acknowledgment=ack, at=moment))
        numbers[sender] += len(payload) + ("S" in flags) + ("F" in flags)

    send(client, server, "S")
    send(server, client, "SA")
    send(client, server, "A")
    if request:
        send(client, server, "PA", request)
        send(server, client, "A")
    if response:
        send(server, client, "PA", response)
        send(client, server, "A")
    send(client, server, "FA")
    send(server, client, "FA")
    send(client, server, "A")
    return rows
