import socket
import struct
from pathlib import Path
from typing import Any

import dpkt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer.decode import Decoder, Packets
from observer.errors import CaptureError
from observer.losses import Losses
from observer.sources.frames import Frames
from observer.sources.pcap import open_capture
from tests.captures import ACK, FIN, PSH, SYN, ethernet, frames, icmp, ipv4, ipv6, pcap, tcp, udp

COLUMNS = [name for name in Packets.__dataclass_fields__ if name not in ("data", "tunnel")]


def decode(batch: Frames) -> tuple[Packets, dict[str, int]]:
    losses = Losses()
    decoder = Decoder(losses)
    packets = decoder.decode(batch)
    decoder.finish()
    check(packets)
    assert {stage for stage, _, _ in losses} <= {"decode", "tunnel"}
    return packets, {reason: number for stage, reason, number in losses if stage == "decode"}


def check(packets: Packets) -> None:
    """What every batch promises, whatever the frames held."""
    columns = {name: getattr(packets, name) for name in COLUMNS}
    assert packets.tunnel is None or len(packets.tunnel) == len(packets)
    assert {len(column) for column in columns.values()} == {len(packets)}
    dtypes = {
        "i8": "time_ns frame payload_start payload_length payload_missing ip_length",
        "u4": "sequence acknowledgment",
    }
    dtypes["u1"] = "family protocol source_ip destination_ip source_mac destination_mac icmp_type icmp_code"
    dtypes["u2"] = "source_port destination_port vlan tcp_flags icmp_id"
    dtypes["?"] = "has_mac has_vlan"
    assert {name for names in dtypes.values() for name in names.split()} == set(columns)
    for dtype, names in dtypes.items():
        for name in names.split():
            assert columns[name].dtype == np.dtype(dtype), name
    assert packets.source_ip.shape == packets.destination_ip.shape == (len(packets), 16)
    assert packets.source_mac.shape == packets.destination_mac.shape == (len(packets), 6)
    assert (packets.payload_start >= 0).all()
    assert (packets.payload_length >= 0).all()
    assert (packets.payload_missing >= 0).all()
    assert (packets.payload_start + packets.payload_length <= len(packets.data)).all()
    assert (packets.payload_length + packets.payload_missing <= packets.ip_length).all()
    assert np.isin(packets.family, (4, 6)).all()
    assert (packets.tcp_flags < 512).all()
    assert (np.diff(packets.frame) > 0).all()


def one(frame: bytes, link_type: int = 1, **options: Any) -> dict[str, Any]:
    """The columns of the only packet, and its payload."""
    packets, lost = decode(frames([frame], link_type, **options))
    assert lost == {}
    assert len(packets) == 1
    row = {name: getattr(packets, name)[0].tolist() for name in COLUMNS}
    return row | {"payload": packets.payload(0)}


def subset(row: dict[str, Any], **expected: Any) -> None:
    assert {name: row[name] for name in expected} == expected


def mapped(address: str) -> list[int]:
    return list(bytes(10) + b"\xff\xff" + socket.inet_aton(address))


def test_tcp_over_ipv4() -> None:
    row = one(ethernet(ipv4(tcp(b"GET /", 40000, 80, PSH | ACK, 7, 9), 6), tags=[(0x8100, 100)], trailer=bytes(6)))
    subset(row, family=4, protocol=6, source_ip=mapped("10.0.0.1"), destination_ip=mapped("10.0.0.2"), frame=1)
    subset(row, source_port=40000, destination_port=80, tcp_flags=PSH | ACK, sequence=7, acknowledgment=9)
    subset(row, payload=b"GET /", payload_missing=0, ip_length=45, vlan=100, has_vlan=True, has_mac=True)
    subset(row, source_mac=[2, 0, 0, 0, 0, 10], destination_mac=[2, 0, 0, 0, 0, 11], time_ns=1_700_000_000 * 10**9)
    subset(row, icmp_type=0, icmp_code=0, icmp_id=0)


def test_tcp_over_ipv6() -> None:
    row = one(ethernet(ipv6(tcp(b"x", flags=0x1FF, sequence=0xFFFFFFFF, options=bytes(40)), 6), 0x86DD))
    subset(row, family=6, protocol=6, tcp_flags=0x1FF, sequence=0xFFFFFFFF, payload=b"x", ip_length=101, has_vlan=False)
    assert bytes(row["source_ip"]) == socket.inet_pton(socket.AF_INET6, "fd00::1")
    assert bytes(row["destination_ip"]) == socket.inet_pton(socket.AF_INET6, "fd00::2")


@pytest.mark.parametrize(
    ("ip", "expected"),
    [
        (ipv4(udp(b"query"), 17), {"source_port": 40000, "destination_port": 53, "payload": b"query"}),
        (ipv4(udp(b"query", length=0), 17), {"payload": b"query"}),
        (ipv4(udp(b"query", length=10), 17), {"payload": b"qu", "payload_missing": 0}),
        (ipv4(udp(b"query", length=9999), 17), {"payload": b"query", "payload_missing": 0}),
        (ipv4(icmp(8, 0, 77, b"ping"), 1), {"icmp_type": 8, "icmp_id": 77, "payload": b"ping", "source_port": 0}),
        (ipv4(icmp(0, 0, 77), 1), {"icmp_type": 0, "icmp_id": 77}),
        (ipv4(icmp(3, 1, 77, b"quoted"), 1), {"icmp_type": 3, "icmp_code": 1, "icmp_id": 0, "payload": b"quoted"}),
        (ipv4(icmp(128, 0, 77), 1), {"icmp_id": 0}),
        (ipv4(b"\x08\0\0\0", 1), {"icmp_type": 8, "icmp_id": 0, "payload": b""}),
        (ipv6(icmp(128, 0, 78, b"ping"), 58), {"icmp_type": 128, "icmp_id": 78, "payload": b"ping"}),
        (ipv6(icmp(129, 0, 78), 58), {"icmp_type": 129, "icmp_id": 78}),
        (ipv6(icmp(8, 0, 78), 58), {"icmp_id": 0}),
        (ipv4(struct.pack(">HHII", 5, 6, 1, 0) + b"chunk", 132), {"source_port": 5, "destination_port": 6}),
        (ipv4(b"igmp", 2), {"protocol": 2, "source_port": 0, "payload": b"igmp"}),
        (ipv4(b"", 112), {"protocol": 112, "payload": b""}),
        (ipv4(udp(), 17, options=bytes(40)), {"source_port": 40000, "ip_length": 68}),
        (ipv4(tcp(b"tso"), 6, length=0), {"payload": b"tso", "ip_length": 43}),
        (ipv4(udp(b"more than the frame"), 17, length=99), {"payload": b"more than the frame", "payload_missing": 0}),
        (ipv4(tcp(b"more"), 6, length=99), {"payload": b"more", "payload_missing": 55, "ip_length": 99}),
        (ipv6(tcp(b"tso"), 6, length=0), {"payload": b"tso", "ip_length": 63}),
        (ipv6(b"", 59), {"protocol": 59, "ip_length": 40, "payload": b""}),
        (ipv4(ipv4(udp(), 17), 94), {"protocol": 94, "source_port": 0, "payload": ipv4(udp(), 17)}),
    ],
)
def test_packets(ip: bytes, expected: dict[str, Any]) -> None:
    subset(one(ip, 101), **expected)


@pytest.mark.parametrize(
    ("snap_length", "payload", "missing"),
    [(1000, b"0123456789", 0), (79, b"01234", 5), (74, b"", 10), (60, b"", 10), (54, b"", 10)],
)
def test_snap_length(snap_length: int, payload: bytes, missing: int) -> None:
    """Of the 20 bytes of options some may be missing too: the header proper is there, so the packet is."""
    frame = ethernet(ipv4(tcp(b"0123456789", options=bytes(20)), 6))
    subset(one(frame, snap_length=snap_length), payload=payload, payload_missing=missing)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (ethernet(ipv4(tcp(), 6)[:19]), "truncated IPv4 header"),
        (ethernet(ipv4(tcp(), 6, options=bytes(8))[:24]), "truncated IPv4 header"),
        (ethernet(ipv4(tcp(), 6, version=5)), "IPv4 header of another version"),
        (ethernet(b"\x44" + ipv4(tcp(), 6)[1:]), "IPv4 header length below 20"),
        (ethernet(ipv4(tcp(), 6, length=19)), "IPv4 length below that of its header"),
        (ethernet(ipv6(tcp(), 6)[:39], 0x86DD), "truncated IPv6 header"),
        (ethernet(ipv4(tcp(), 6) + bytes(20), 0x86DD), "IPv6 header of another version"),
        (ethernet(ipv4(tcp(), 6)[:39]), "truncated TCP header"),
        (ethernet(ipv4(tcp()[:19], 6, length=40)), "truncated TCP header"),
        (ethernet(ipv4(tcp(), 6, length=39)), "truncated TCP header"),
        (ethernet(ipv4(udp()[:7], 17)), "truncated UDP header"),
        (ethernet(ipv4(bytes(11), 132)), "truncated SCTP header"),
        (ethernet(ipv4(bytes(3), 1)), "truncated ICMP header"),
        (ethernet(ipv6(bytes(3), 58), 0x86DD), "truncated ICMPv6 header"),
        (ethernet(ipv4(tcp(flags=0xB000), 6)), "TCP header longer than the packet"),
        (ethernet(ipv4(udp(length=7), 17)), "UDP length below 8"),
        (ethernet(bytes(28), 0x0806), "not IP: ARP"),
    ],
)
def test_malformed_is_counted_once(frame: bytes, reason: str) -> None:
    packets, lost = decode(frames([frame, ethernet(ipv4(udp(), 17))]))
    assert lost == {reason: 1}
    assert packets.frame.tolist() == [2]


def test_tcp_header_length_below_20() -> None:
    segment = bytearray(tcp())
    segment[12] = 0x40
    assert decode(frames([ipv4(bytes(segment), 6)], 101))[1] == {"TCP header length below 20": 1}


def test_mixed_batch_keeps_its_order() -> None:
    batch = frames(
        [
            ethernet(ipv6(udp(b"1"), 17), 0x86DD),
            ethernet(b"", 0x0806),
            ethernet(ipv4(tcp(b"3", flags=SYN), 6)),
            b"",
            ethernet(ipv4(icmp(8), 1)),
            ethernet(ipv4(tcp(b"6", flags=FIN), 6, length=3)),
            ethernet(ipv6(tcp(b"7"), 6), 0x86DD, tags=[(0x8100, 5)]),
        ]
    )
    packets, lost = decode(batch)
    assert packets.frame.tolist() == [1, 3, 5, 7]
    assert packets.family.tolist() == [6, 4, 4, 6]
    assert packets.protocol.tolist() == [17, 6, 1, 6]
    assert [packets.payload(row) for row in range(4)] == [b"1", b"3", b"", b"7"]
    assert packets.has_vlan.tolist() == [False, False, False, True]
    assert lost == {"not IP: ARP": 1, "truncated Ethernet header": 1, "IPv4 length below that of its header": 1}


def test_nothing() -> None:
    packets, lost = decode(frames([]))
    assert (len(packets), lost) == (0, {})


ports = st.integers(0, 65535)
words = st.integers(0, 0xFFFFFFFF)
payloads = st.binary(max_size=60)
segments = st.one_of(
    st.builds(
        lambda payload, options, *rest: (6, tcp(payload, *rest, options=options * 4)),
        payloads,
        st.sampled_from([b"", b"\1", b"\1" * 10]),
        ports,
        ports,
        st.integers(0, 0x1FF),
        words,
        words,
    ),
    st.builds(lambda *fields: (17, udp(*fields)), payloads, ports, ports),
    st.builds(lambda *fields: (1, icmp(*fields)), st.integers(0, 255), st.integers(0, 255), ports, payloads),
)
tags = st.lists(st.tuples(st.just(0x8100), st.integers(1, 0xFFF)), max_size=1)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(segments, st.booleans(), tags, st.sampled_from([b"", bytes(20)])), min_size=1, max_size=12))
def test_reads_what_dpkt_reads(drawn: list) -> None:
    built = []
    for (protocol, segment), six, outer, options in drawn:
        ip = ipv6(segment, protocol) if six else ipv4(segment, protocol, options=options)
        built.append(ethernet(ip, 0x86DD if six else 0x0800, outer, trailer=bytes(max(0, 46 - len(ip)))))
    packets, lost = decode(frames(built))
    assert lost == {}
    for row, frame in enumerate(built):
        eth = dpkt.ethernet.Ethernet(frame)
        six = isinstance(eth.data, dpkt.ip6.IP6)
        assert packets.source_ip[row].tobytes()[0 if six else 12 :] == eth.data.src
        assert packets.destination_ip[row].tobytes()[0 if six else 12 :] == eth.data.dst
        assert packets.protocol[row] == eth.data.p
        assert packets.ip_length[row] == (eth.data.plen + 40 if six else eth.data.len)
        assert packets.vlan[row] == (eth.vlan_tags[0].id if getattr(eth, "vlan_tags", None) else 0)
        layer = eth.data.data
        if isinstance(layer, dpkt.tcp.TCP):
            assert (packets.source_port[row], packets.destination_port[row]) == (layer.sport, layer.dport)
            assert (packets.sequence[row], packets.acknowledgment[row]) == (layer.seq, layer.ack)
            assert packets.tcp_flags[row] == struct.unpack_from(">H", bytes(layer), 12)[0] & 0x1FF
            assert packets.payload(row) == layer.data
        elif isinstance(layer, dpkt.udp.UDP):
            assert (packets.source_port[row], packets.destination_port[row]) == (layer.sport, layer.dport)
            assert packets.payload(row) == bytes(layer.data)
        elif isinstance(layer, dpkt.icmp.ICMP):
            assert (packets.icmp_type[row], packets.icmp_code[row]) == (layer.type, layer.code)


LINK_TYPES = [0, 1, 9, 12, 14, 50, 51, 101, 104, 108, 113, 147, 228, 229, 239, 276]
GOOD = [
    ethernet(ipv4(tcp(b"GET / HTTP/1.1\r\n\r\n", options=bytes(12)), 6), tags=[(0x88A8, 1), (0x8100, 2)]),
    ethernet(ipv4(udp(b"x" * 16)[:16], 17, identification=7, fragment=0x2000)),
    ethernet(ipv4((b"x" * 16)[8:], 17, identification=7, fragment=2)),
    ethernet(ipv6(b"\x2c\0\1\4\0\0\0\0" + b"\x06\0\0\0\0\0\0\7" + tcp(b"v6"), 0), 0x86DD),
    ethernet(ipv6(b"\x11\0\0\1\0\0\0\7" + udp(b"12345678"), 44), 0x86DD),
    ethernet(ipv6(b"\x11\0\0\x10\0\0\0\7" + b"the end", 44), 0x86DD),
    ethernet(ipv4(b"\x06\4" + bytes(22) + tcp(b"ah"), 51)),
    ethernet(b"\0\0\1\x40" + ipv4(icmp(8), 1), 0x8847),
]


@settings(max_examples=600, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.binary(max_size=120), st.sampled_from(GOOD)),
            st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=4),
            st.integers(0, 200),
            st.sampled_from(LINK_TYPES),
        ),
        max_size=12,
    ),
    st.booleans(),
)
def test_every_frame_is_a_row_or_counted(drawn: list, as_ethernet: bool) -> None:
    built = []
    for frame, edits, end, _ in drawn:
        changed = bytearray(frame)
        for at, value in edits:
            if at < len(changed):
                changed[at] = value
        built.append(bytes(changed[: end or None]))
    batch = frames(built)
    if not as_ethernet:
        batch.link_types[:] = [link_type for *_, link_type in drawn]
    packets, lost = decode(batch)
    known = len(packets) + sum(lost.values())
    if packets.data is batch.data:  # nothing put together from fragments
        assert known == len(built)
    else:
        assert known < len(built)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.binary(max_size=80), max_size=5),
    st.sampled_from(LINK_TYPES),
    st.binary(max_size=40),
    st.integers(0, 300),
)
def test_any_file_from_reading_to_packets(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[bytes], link_type: int, noise: bytes, at: int
) -> None:
    data = bytearray(pcap(GOOD + bodies, link_type=link_type))
    data[24 + at : 24 + at + len(noise)] = noise
    path: Path = tmp_path_factory.getbasetemp() / "any.pcap"
    path.write_bytes(data)
    losses = Losses()
    decoder = Decoder(losses)
    try:
        with open_capture(path, losses) as capture:
            for batch in capture.frames(batch=3):
                check(decoder.decode(batch))
    except CaptureError as error:
        assert str(error).startswith(str(path))  # noqa: PT017
    decoder.finish()
