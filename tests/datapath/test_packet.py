"""Frames as bpf/packet.h reads them: the same packets, counted the same, as decode.py makes of them."""

import struct

import pytest

from observer.losses import Losses
from tests import captures
from tests.captures import ethernet, frames, gre, ipv4, ipv6, tcp, udp, vxlan

pytestmark = pytest.mark.ebpf

HOP_BY_HOP = b"\6\0" + bytes(6)
ROUTING = bytes((6, 1)) + bytes(14)
JUMBO = struct.pack(">BBBBI", 6, 0, 0xC2, 4, 20 + 8)


def six(payload: bytes, protocol: int, **rest) -> bytes:
    return ethernet(ipv6(payload, protocol, **rest), 0x86DD)


FRAMES = {
    "tcp": ethernet(ipv4(tcp(b"x"), 6)),
    "tcp with options": ethernet(ipv4(tcp(b"x", options=b"\1\1\x08\x0a" + bytes(8)), 6)),
    "ip options": ethernet(ipv4(tcp(b"x"), 6, options=b"\1\1\1\0")),
    "vlan": ethernet(ipv4(tcp(b"x"), 6), tags=[(0x8100, 0x2007)]),
    "vlan 0": ethernet(ipv4(tcp(b"x"), 6), tags=[(0x8100, 0)]),
    "qinq": ethernet(ipv4(tcp(b"x"), 6), tags=[(0x88A8, 5), (0x8100, 6)]),
    "five tags": ethernet(ipv4(tcp(b"x"), 6), tags=[(0x8100, number) for number in range(1, 6)]),
    "padding": ethernet(ipv4(tcp(), 6), trailer=bytes(20)),
    "udp": ethernet(ipv4(udp(b"x", destination=9), 17)),
    "udp shorter than ip says": ethernet(ipv4(udp(b"abcdef", destination=9, length=10), 17)),
    "udp without length": ethernet(ipv4(udp(b"abcdef", destination=9, length=0), 17)),
    "udp length 7": ethernet(ipv4(udp(b"abcdef", destination=9, length=7), 17)),
    "sctp": ethernet(ipv4(struct.pack(">HHII", 1000, 2000, 0, 0) + b"chunk", 132)),
    "icmp echo": ethernet(ipv4(captures.icmp(8, 0, 77, b"ping"), 1)),
    "icmp echo reply": ethernet(ipv4(captures.icmp(0, 0, 77, b"ping"), 1)),
    "icmp time exceeded": ethernet(ipv4(captures.icmp(11, 0, 0, ipv4(tcp(), 6)), 1)),
    "icmp of four octets": ethernet(ipv4(b"\3\1\0\0", 1)),
    "icmpv6 echo": six(captures.icmp(128, 0, 9), 58),
    "icmpv6 solicitation": six(captures.icmp(135, 0, 0, bytes(16)), 58),
    "another protocol": ethernet(ipv4(b"vrrp...", 112)),
    "ipv6": six(tcp(b"x"), 6),
    "hop by hop": six(HOP_BY_HOP + tcp(b"x"), 0),
    "routing": six(ROUTING + tcp(b"x"), 43),
    "two extension headers": six(b"\x2b\0" + bytes(6) + ROUTING + tcp(b"x"), 0),
    "thirteen extension headers": six((b"\x3c\0" + bytes(6)) * 12 + HOP_BY_HOP + tcp(b"x"), 60),
    "authentication header": ethernet(ipv4(b"\6\4" + bytes(22) + tcp(b"x"), 51)),
    "no next header": six(b"", 59),
    "whole in one fragment": six(b"\6\0\0\0" + bytes(4) + tcp(b"x"), 44),
    "jumbogram": six(JUMBO + tcp(b"x" * 8), 0, length=0),
    "length 0 of ipv6": six(tcp(b"x"), 6, length=0),
    "length 0 of ipv4": ethernet(ipv4(tcp(b"x"), 6, length=0)),
    "longer than the frame": ethernet(ipv4(tcp(b"x"), 6, length=900)),
    "shorter than its header": ethernet(ipv4(tcp(b"x"), 6, length=19)),
    "shorter than tcp's": ethernet(ipv4(tcp(b"x"), 6, length=39)),
    "version 5": ethernet(ipv4(tcp(b"x"), 6, version=5)),
    "ethertype says ipv6": ethernet(ipv4(tcp(b"x"), 6), 0x86DD),
    "arp": ethernet(bytes(28), 0x0806),
    "a length": ethernet(b"\xaa\xaa\3\0\0\0\x08\0" + ipv4(tcp(b"x"), 6), 100),
    "mpls": ethernet(struct.pack(">I", 17 << 12 | 0x100) + ipv4(tcp(b"x"), 6), 0x8847),
    "vxlan": ethernet(ipv4(vxlan(ethernet(ipv4(tcp(b"x"), 6))), 17)),
    "a port of vxlan's": ethernet(ipv4(udp(b"no vxlan", destination=4789), 17)),
    "gre": ethernet(ipv4(gre(ipv4(tcp(b"x"), 6)), 47)),
    "both ends the same": ethernet(ipv4(tcp(b"x", 7, 7), 6, "10.0.0.9", "10.0.0.9")),
    "jumbo frame": ethernet(ipv4(tcp(b"x" * 9000), 6)),
    "segment of 60 KB": ethernet(ipv4(tcp(b"x" * 60000), 6)),
    "segment of 60 KB, no length": ethernet(ipv4(tcp(b"x" * 60000), 6, length=0)),
    "segment of 60 KB, ipv6 with options": six(HOP_BY_HOP + tcp(b"x" * 60000), 0),
    "datagram of 60 KB": ethernet(ipv4(udp(b"x" * 60000, destination=9), 17)),
    "first fragment": ethernet(ipv4(udp(b"x" * 16), 17, fragment=0x2000)),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_makes_the_same_flow(kernel, name):
    kernel.assert_same(frames([FRAMES[name]]))


@pytest.mark.parametrize(
    "name", ["tcp with options", "ip options", "qinq", "two extension headers", "icmp time exceeded"]
)
def test_a_frame_cut_anywhere(kernel, name):
    frame = FRAMES[name]
    kernel.assert_same(frames([frame[:size] for size in range(len(frame) + 1)]))


@pytest.mark.parametrize("name", ["tcp", "segment of 60 KB", "udp"])
def test_a_frame_cut_by_the_snap_length(kernel, name):
    kernel.assert_same(frames([FRAMES[name]], snap_length=len(FRAMES[name]) - 1))
    kernel.assert_same(frames([FRAMES[name]], snap_length=54))


def test_fragments_are_put_together_before_the_kernel_sees_them(kernel):
    whole = udp(b"q" * 64, destination=9)
    parts = [
        ipv4(whole[:24], 17, fragment=0x2000, identification=7),
        ipv4(whole[24:], 17, fragment=3, identification=7),
    ]
    told = kernel.assert_same(frames([ethernet(part) for part in parts]))
    assert len(told) == 1


@pytest.mark.parametrize(
    ("link_type", "head"), [(101, b""), (113, bytes(14) + b"\x08\0"), (276, b"\x08\0" + bytes(18))]
)
def test_other_link_types_go_the_same_way(kernel, link_type, head):
    packet = ipv4(tcp(b"GET / HTTP/1.1\r\nHost: raw\r\n\r\n"), 6)
    told = kernel.assert_same(frames([head + packet], link_type))
    assert b"raw" in told[-1][-1]


def test_what_cannot_be_read_is_counted_the_same():
    from tests.datapath.both import in_kernel, in_python  # two fresh stores, whose losses are of this alone

    batch = frames([frame[:size] for frame in FRAMES.values() for size in (10, 20, 33, 50, 60)])
    python, kernel = in_python([batch]), in_kernel([batch])
    assert python.losses.snapshot() == kernel.losses.snapshot() != Losses().snapshot()
