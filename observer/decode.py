"""From captured frames to IP packets: link layer, IPv4, IPv6 and L4 headers, a batch at a time (RFC 791, 8200, 9293).

`Frames` enter, `Packets` leave: one array per field, payloads as ranges of one buffer. Header bytes are gathered with
numpy; only fragments and rare link types go packet by packet. Of a packet in a tunnel the inner one is the row, the
outer one where that cannot be read. What holds no readable IP packet is counted by reason, never raised. Knows nothing
of connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from observer.fragments import Fragments
from observer.ip import IpHeaders
from observer.losses import Losses
from observer.record import Protocol
from observer.sources.frames import Frames
from observer.sources.gather import gather
from observer.tunnel import MAX_TUNNELS, Headers, Layer, announced, make_layer

_TCP: Final = np.dtype(
    [
        ("source", ">u2"),
        ("destination", ">u2"),
        ("sequence", ">u4"),
        ("acknowledgment", ">u4"),
        ("flags", ">u2"),  # the upper four bits are the header's length in words
        ("window", ">u2"),
        ("checksum", ">u2"),
        ("urgent", ">u2"),
    ]
)
_UDP_LENGTH: Final = slice(4, 6)
_ICMP_ID: Final = slice(4, 6)

_HEADERS: Final = {
    Protocol.TCP: (20, "TCP header"),
    Protocol.UDP: (8, "UDP header"),
    Protocol.SCTP: (12, "SCTP header"),
    Protocol.ICMP: (4, "ICMP header"),
    Protocol.ICMPV6: (4, "ICMPv6 header"),
}
"""Least bytes of the L4 headers that are read."""

_LEAST: Final = np.zeros(256, np.int64)
for _protocol, (_size, _) in _HEADERS.items():
    _LEAST[_protocol] = _size
_HAS_PORTS: Final = np.zeros(256, np.bool_)
_HAS_PORTS[[Protocol.TCP, Protocol.UDP, Protocol.SCTP]] = True
_IS_ICMP: Final = np.zeros(256, np.bool_)
_IS_ICMP[[Protocol.ICMP, Protocol.ICMPV6]] = True
_ICMP_HEADER: Final = 8


@dataclass(slots=True)
class Packets:
    """IP packets in the order of the capture, one row each; fragments are one row, where the last one arrived.

    Ranges of payload index `data`, which may differ from batch to batch. Whoever keeps payload copies it.
    """

    data: bytes | memoryview
    time_ns: npt.NDArray[np.int64]
    frame: npt.NDArray[np.int64]
    """Frame number in the capture, from 1."""
    family: npt.NDArray[np.uint8]
    """4 or 6."""
    protocol: npt.NDArray[np.uint8]
    """IP protocol number, of IPv6 the one after the extension headers."""
    source_ip: npt.NDArray[np.uint8]
    """(n, 16); IPv4 as ::ffff:a.b.c.d."""
    destination_ip: npt.NDArray[np.uint8]
    source_mac: npt.NDArray[np.uint8]
    """(n, 6)."""
    destination_mac: npt.NDArray[np.uint8]
    has_mac: npt.NDArray[np.bool_]
    """Both MAC addresses are known."""
    source_port: npt.NDArray[np.uint16]
    """TCP, UDP, SCTP; else 0."""
    destination_port: npt.NDArray[np.uint16]
    vlan: npt.NDArray[np.uint16]
    """Outermost VLAN id."""
    has_vlan: npt.NDArray[np.bool_]
    tcp_flags: npt.NDArray[np.uint16]
    """Nine bits as record.TcpFlag; 0 unless TCP."""
    sequence: npt.NDArray[np.uint32]
    acknowledgment: npt.NDArray[np.uint32]
    payload_start: npt.NDArray[np.int64]
    """Where the L4 payload starts in `data`; of a protocol without ports, what follows the IP header.

    Of ICMP and ICMPv6 it starts after the first 8 bytes, so an error's payload is the packet it quotes."""
    payload_length: npt.NDArray[np.int64]
    """Bytes of it captured, without Ethernet padding."""
    payload_missing: npt.NDArray[np.int64]
    """Bytes that the IP header announces behind those captured: cut by the snap length."""
    ip_length: npt.NDArray[np.int64]
    """Bytes of the IP packet on the wire, header included; of TSO and BIG TCP the real length."""
    icmp_type: npt.NDArray[np.uint8]
    icmp_code: npt.NDArray[np.uint8]
    icmp_id: npt.NDArray[np.uint16]
    """Identifier of an ICMP or ICMPv6 echo; else 0."""
    tunnel: list[Layer | None] | None = None
    """The outer headers of each packet, innermost first; None where no packet of the batch came through a tunnel."""

    def __len__(self) -> int:
        return len(self.time_ns)

    def payload(self, row: int) -> bytes:
        """A copy of the captured payload of one row."""
        start = int(self.payload_start[row])
        return bytes(self.data[start : start + int(self.payload_length[row])])


_OWN: Final = tuple(name.name for name in fields(Packets) if name.name not in ("data", "time_ns", "frame", "tunnel"))
"""The columns that differ between a packet and the one inside it."""


class _Inside(Losses):
    """Where readers of what tunnels carry count: in the stage of the tunnel, under the same reasons."""

    __slots__ = ("_losses",)

    def __init__(self, losses: Losses) -> None:
        super().__init__()
        self._losses = losses

    def count(self, stage: str, reason: str, number: int = 1) -> None:
        self._losses.count("tunnel", reason, number)


class Decoder:
    """Decodes the frames of one capture; holds the fragments that wait for the rest of their datagram."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._inside = _Inside(losses)
        self._fragments = Fragments(losses)

    def decode(self, frames: Frames) -> Packets:
        """The IP packets of a batch."""
        return self._enter(_packets(IpHeaders(frames, self._losses, self._fragments)), 0)

    def finish(self) -> None:
        """Count the fragments whose datagram never became whole: at the end of the capture."""
        self._fragments.finish()

    def _enter(self, packets: Packets, depth: int) -> Packets:
        """Put inner packets where outer ones stand; `depth` tunnels were entered before."""
        kinds = announced(packets.protocol, packets.destination_port)
        if not kinds.any():
            return packets
        rows = np.flatnonzero(kinds)
        if depth == MAX_TUNNELS:
            self._losses.count("tunnel", "too many tunnels in tunnels", len(rows))
            return packets
        start = packets.payload_start[rows]
        found = Headers(packets.data, kinds[rows], start, start + packets.payload_length[rows], self._losses)
        inside = np.flatnonzero(found.link_type)
        if not len(inside):
            return packets
        rows = rows[inside]
        layers = _layers(packets, rows, found.kind[inside], found.number[inside])
        lengths = found.end[inside] - found.start[inside]
        frames = Frames(
            data=packets.data,
            offsets=found.start[inside],
            lengths=lengths,
            wire_lengths=lengths + packets.payload_missing[rows],
            times_ns=packets.time_ns[rows],
            link_types=found.link_type[inside],
            interfaces=np.zeros(len(rows), np.uint32),
            numbers=np.arange(len(rows)),
        )
        ip = IpHeaders(frames, self._inside, self._fragments, [layer.network for layer in layers])
        inner = _packets(ip)
        inner.tunnel = [layers[number] for number in inner.frame.tolist()]
        held = ip.held
        held[inner.frame] = True
        inner = self._enter(inner, depth + 1)
        held[inner.frame] = False  # what is gone from there waits as a fragment within the next tunnel
        return _merged(packets, rows, inner, rows[held])


def _layers(
    packets: Packets, rows: npt.NDArray[np.intp], kinds: npt.NDArray[np.uint8], numbers: npt.NDArray[np.int64]
) -> list[Layer]:
    """The outer headers of each of `rows`; rows with equal ones share an object."""
    known: dict[tuple[object, ...], Layer] = {}
    around = packets.tunnel
    layers = []
    for row, *rest in zip(
        rows.tolist(),
        kinds.tolist(),
        numbers.tolist(),
        packets.family[rows].tolist(),
        packets.source_port[rows].tolist(),
        packets.destination_port[rows].tolist(),
        packets.vlan[rows].tolist(),
        packets.source_ip[rows].view("V16").ravel().tolist(),
        packets.destination_ip[rows].view("V16").ravel().tolist(),
        strict=True,
    ):
        outer = None if around is None else around[row]
        key = (*rest, outer)  # an outer layer is equal to itself only
        layer = known.get(key)
        if layer is None:
            kind, number, family, source_port, destination_port, vlan, source, destination = rest
            ports = source_port, destination_port
            layer = known[key] = make_layer(kind, family, (source, destination), ports, number, vlan, outer)
        layers.append(layer)
    return layers


def _merged(packets: Packets, rows: npt.NDArray[np.intp], inner: Packets, held: npt.NDArray[np.intp]) -> Packets:
    """`packets` with the `inner` ones in place of `rows` (by their frame number), without those `held`."""
    at = rows[inner.frame]
    if inner.data is not packets.data:  # datagrams were put together
        inner.payload_start = inner.payload_start + len(packets.data)
        packets.data = b"".join((packets.data, inner.data))
    for name in _OWN:
        getattr(packets, name)[at] = getattr(inner, name)
    layers: Sequence[Layer | None] = inner.tunnel or ()
    of: list[Layer | None] = [None] * len(packets) if packets.tunnel is None else packets.tunnel
    for row, layer in zip(at.tolist(), layers, strict=True):
        of[row] = layer
    packets.tunnel = of
    if len(held):
        kept = np.ones(len(packets), np.bool_)
        kept[held] = False
        packets.tunnel = [layer for layer, keep in zip(of, kept.tolist(), strict=True) if keep]
        for name in ("time_ns", "frame", *_OWN):
            setattr(packets, name, getattr(packets, name)[kept])
    return packets


def _packets(ip: IpHeaders) -> Packets:
    """Read the L4 headers and keep the rows that are packets."""
    rows = np.flatnonzero(ip.alive)
    protocol = ip.protocol[rows]
    start = ip.position[rows]
    ip_end = ip.ip_start[rows] + ip.ip_length[rows]
    end = np.minimum(ip.captured_end[rows], ip_end)
    captured = end - start
    ip.refuse(rows, ip_end < start, "extension headers longer than the packet")
    least = _LEAST[protocol]
    short = captured < least
    if short.any():
        for number, (_, name) in _HEADERS.items():
            ip.refuse(rows, short & (protocol == number), f"truncated {name}")
    raw = gather(ip.data, start, 20)
    head: Any = raw.view(_TCP)
    octets = raw.view("u1").reshape(-1, 20)
    header = least.copy()
    tcp = protocol == Protocol.TCP
    if tcp.any():
        header[tcp] = (head["flags"][tcp] >> 12).astype(np.int64) * 4
        ip.refuse(rows, tcp & (header < 20), "TCP header length below 20")
        ip.refuse(rows, tcp & (start + header > ip_end), "TCP header longer than the packet")
    udp = protocol == Protocol.UDP
    if udp.any():
        length = octets[:, _UDP_LENGTH].copy().view(">u2")[:, 0].astype(np.int64)
        ip.refuse(rows, udp & (length > 0) & (length < 8), "UDP length below 8")
        announced = udp & (length >= 8)  # 0: a jumbogram, or segmentation left to the card
        ip_end = np.where(announced, np.minimum(ip_end, start + length), ip_end)
        end = np.minimum(end, ip_end)
    icmp = _IS_ICMP[protocol]
    icmp_type = np.zeros(len(rows), np.uint8)
    icmp_code = np.zeros(len(rows), np.uint8)
    icmp_id = np.zeros(len(rows), np.uint16)
    if icmp.any():
        header[icmp] = np.clip(captured[icmp], 0, _ICMP_HEADER)
        icmp_type[icmp] = octets[icmp, 0]
        icmp_code[icmp] = octets[icmp, 1]
        v4 = protocol == Protocol.ICMP
        echo = np.where(v4, np.isin(icmp_type, (0, 8)), np.isin(icmp_type, (128, 129)))
        echo &= icmp & (captured >= _ICMP_HEADER)
        icmp_id[echo] = octets[echo, _ICMP_ID].copy().view(">u2")[:, 0]
    payload_start = start + header
    missing = np.maximum(ip_end - np.maximum(end, payload_start), 0)
    payload_start = np.minimum(payload_start, end)
    ported = _HAS_PORTS[protocol]
    frames, found = ip.frames, ip.network
    kept = ip.alive[rows]
    of = rows if len(rows) == len(ip.alive) and kept.all() else rows[kept]

    def pick(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return column if len(of) == len(rows) else column[kept]

    def take(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return column if len(of) == len(ip.alive) else column[of]

    return Packets(
        data=ip.data,
        time_ns=take(frames.times_ns),
        frame=take(frames.numbers),
        family=np.where(take(ip.is_ipv6), 6, 4).astype(np.uint8),
        protocol=pick(protocol),
        source_ip=take(ip.source_ip),
        destination_ip=take(ip.destination_ip),
        source_mac=take(found.source_mac),
        destination_mac=take(found.destination_mac),
        has_mac=take(found.has_mac),
        source_port=pick(np.where(ported, head["source"], 0).astype(np.uint16)),
        destination_port=pick(np.where(ported, head["destination"], 0).astype(np.uint16)),
        vlan=take(found.vlan),
        has_vlan=take(found.has_vlan),
        tcp_flags=pick(np.where(tcp, head["flags"] & 0x1FF, 0).astype(np.uint16)),
        sequence=pick(np.where(tcp, head["sequence"], 0).astype(np.uint32)),
        acknowledgment=pick(np.where(tcp, head["acknowledgment"], 0).astype(np.uint32)),
        payload_start=pick(payload_start),
        payload_length=pick(end - payload_start),
        payload_missing=pick(missing),
        ip_length=take(ip.ip_length),
        icmp_type=pick(icmp_type),
        icmp_code=pick(icmp_code),
        icmp_id=pick(icmp_id),
    )
