import struct

import numpy as np
import pytest

from observer.losses import Losses
from observer.sources import linktypes
from observer.sources.linktypes import IPV4, IPV6, network
from tests.captures import ethernet, frames, ipv4, ipv6, udp

FOUR, SIX = ipv4(udp(), 17), ipv6(udp(), 17)


def label(number: int, bottom: bool) -> bytes:
    return struct.pack(">I", number << 12 | bottom << 8 | 64)


def sll(payload: bytes, protocol: int, hardware: int = 1) -> bytes:
    return struct.pack(">HHH8sH", 0, hardware, 6, b"\2\0\0\0\0\1", protocol) + payload


def sll2(payload: bytes, protocol: int, hardware: int = 1) -> bytes:
    return struct.pack(">HHIHBB8s", protocol, 0, 3, hardware, 0, 6, b"\2\0\0\0\0\1") + payload


def pppoe(payload: bytes) -> bytes:
    return struct.pack(">BBHH", 0x11, 0, 7, len(payload)) + payload


def nflog(family: int, payload: bytes, order: str = "<", prefix: bytes = b"drop\0") -> bytes:
    def attribute(kind: int, value: bytes) -> bytes:
        return struct.pack(order + "HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)

    return struct.pack(">BBH", family, 0, 5) + attribute(10, prefix) + attribute(9, payload)


SNAP = b"\xaa\xaa\x03\0\0\0"


@pytest.mark.parametrize(
    ("link_type", "frame", "ip"),
    [
        (1, ethernet(FOUR), FOUR),
        (1, ethernet(SIX, 0x86DD), SIX),
        (1, ethernet(FOUR, tags=[(0x8100, 7)]), FOUR),
        (1, ethernet(SIX, 0x86DD, tags=[(0x88A8, 7), (0x8100, 8)]), SIX),
        (1, ethernet(FOUR, tags=[(0x9100, 7), (0x9200, 8), (0x8100, 9)]), FOUR),
        (1, ethernet(label(9, False) + label(10, True) + FOUR, 0x8847), FOUR),
        (1, ethernet(label(9, True) + SIX, 0x8848, tags=[(0x8100, 7)]), SIX),
        (1, ethernet(pppoe(b"\0\x21" + FOUR), 0x8864), FOUR),
        (1, ethernet(pppoe(b"\x57" + SIX), 0x8864), SIX),
        (1, ethernet(SNAP + b"\x08\0" + FOUR, 8 + len(FOUR)), FOUR),
        (1, ethernet(b"\xaa\xaa\x03\0\0\xf8\x81\0\0\x05\x86\xdd" + SIX, 12 + len(SIX)), SIX),
        (1, ethernet(b"\6\6\3" + FOUR, 3 + len(FOUR)), FOUR),
        (9, b"\xff\3\0\x21" + FOUR, FOUR),
        (9, b"\0\x57" + SIX, SIX),
        (9, b"\x21" + FOUR, FOUR),
        (9, b"\x02\x81" + label(1, True) + FOUR, FOUR),
        (50, b"\xff\3\0\x57" + SIX, SIX),
        (50, b"\x0f\0\x08\0" + FOUR, FOUR),
        (51, pppoe(b"\0\x21" + FOUR), FOUR),
        (104, b"\x0f\0\x08\0" + FOUR, FOUR),
        (104, b"\x8f\0\x88\x47" + label(1, True) + SIX, SIX),
        (0, b"\2\0\0\0" + FOUR, FOUR),
        (0, b"\0\0\0\2" + FOUR, FOUR),
        (0, b"\x1e\0\0\0" + SIX, SIX),
        (0, b"\0\0\0\x0a" + SIX, SIX),
        (108, b"\0\0\0\x18" + SIX, SIX),
        (108, b"\0\0\0\2" + FOUR, FOUR),
        (12, FOUR, FOUR),
        (14, SIX, SIX),
        (101, FOUR, FOUR),
        (101, SIX, SIX),
        (228, FOUR, FOUR),
        (229, SIX, SIX),
        (113, sll(FOUR, 0x0800), FOUR),
        (113, sll(b"\0\x05\x86\xdd" + SIX, 0x8100), SIX),
        (113, sll(SNAP + b"\x08\0" + FOUR, 4), FOUR),
        (276, sll2(SIX, 0x86DD), SIX),
        (276, sll2(FOUR, 0x0800), FOUR),
        (239, nflog(2, FOUR), FOUR),
        (239, nflog(10, SIX, ">"), SIX),
        (239, nflog(2, FOUR, prefix=b""), FOUR),
    ],
)
def test_the_ip_header_is_found(link_type: int, frame: bytes, ip: bytes) -> None:
    losses = Losses()
    found = network(frames([b"before", frame, b"behind"], link_type), losses)
    at, end = int(found.position[1]), int(found.end[1])
    assert bytes(found.data[at:end]) == ip
    assert found.kind[1] == (IPV4 if ip is FOUR else IPV6)
    cut = Losses()
    for size in range(len(frame) - len(ip)):  # one byte less than the header at a time
        kinds = network(frames([frame[:size]], link_type), cut).kind
        assert kinds[0] not in (IPV4, IPV6), "an IP header in a frame that ends before it"


@pytest.mark.parametrize(
    ("tags", "vlan"),
    [
        ([], None),
        ([(0x8100, 0xE064)], 100),
        ([(0x88A8, 5), (0x8100, 6)], 5),
        ([(0x8100, 0xE000)], None),
        ([(0x8100, 0), (0x8100, 6)], 6),
        ([(0x8100, 0x1FFF)], 0xFFF),
    ],
)
def test_vlan(tags: list[tuple[int, int]], vlan: int | None) -> None:
    found = network(frames([ethernet(FOUR, tags=tags)]), Losses())
    assert found.has_vlan.tolist() == [vlan is not None]
    assert found.vlan.tolist() == [vlan or 0]


def test_macs() -> None:
    found = network(frames([ethernet(FOUR)]), Losses())
    assert found.source_mac.tobytes().hex() == "02000000000a"
    assert found.destination_mac.tobytes().hex() == "02000000000b"
    assert found.has_mac.tolist() == [True]
    assert network(frames([sll(FOUR, 0x0800)], 113), Losses()).has_mac.tolist() == [False]


@pytest.mark.parametrize(
    ("link_type", "frame", "reason"),
    [
        (1, b"", "truncated Ethernet header"),
        (1, ethernet(b"")[:13], "truncated Ethernet header"),
        (1, ethernet(b"\0\0\0", 0x8100), "truncated VLAN tag"),
        (1, ethernet(b"\0\0\0", 0x8847), "truncated MPLS label"),
        (1, ethernet(label(1, True), 0x8847), "truncated IP header"),
        (1, ethernet(label(1, True) + bytes(40), 0x8847), "not IP: no version 4 or 6"),
        (1, ethernet(b"\x11\0\0\7", 0x8864), "truncated PPPoE header"),
        (1, ethernet(pppoe(b"\xc0\x21\1"), 0x8864), "not IP: PPP"),
        (1, ethernet(bytes(28), 0x0806), "not IP: ARP"),
        (1, ethernet(bytes(28), 0x88CC, tags=[(0x8100, 9)]), "not IP: LLDP"),
        (1, ethernet(bytes(28), 0x1234), "not IP: other ethertype"),
        (1, ethernet(bytes(28), 0x4321), "not IP: other ethertype"),
        (1, ethernet(b"\x42\x42\3" + bytes(35), 38), "not IP: LLC"),
        (1, ethernet(b"\x42\x42", 2), "truncated LLC header"),
        (1, ethernet(SNAP, 6), "truncated SNAP header"),
        (1, ethernet(b"\xaa\xaa\3\0\0\x0c\x20\0", 8), "not IP: SNAP"),
        (1, ethernet(SNAP + b"\x08\x06" + bytes(28), 36), "not IP: ARP"),
        (1, ethernet(FOUR, tags=[(0x8100, 1)] * 17), "too many VLAN tags and labels"),
        (1, ethernet(label(1, False) * 400, 0x8847), "too many VLAN tags and labels"),
        (1, ethernet((SNAP + b"\0\0") * 400, 1000), "not IP: SNAP"),
        (0, b"\2\0\0", "truncated loopback header"),
        (0, b"\7\0\0\0" + FOUR, "not IP: other address family"),
        (9, b"\xff", "truncated PPP header"),
        (9, b"\0\x23", "not IP: PPP"),
        (101, b"", "truncated IP header"),
        (101, b"\x50" + FOUR, "not IP: no version 4 or 6"),
        (104, b"\x0f\0\x08", "truncated HDLC header"),
        (104, b"\x0f\0\x80\x35" + bytes(18), "not IP: SLARP"),
        (113, sll(b"", 0x0800)[:15], "truncated Linux cooked header"),
        (113, sll(bytes(40), 0x0800, hardware=824), "not IP: netlink"),
        (276, sll2(bytes(40), 0x0806), "not IP: ARP"),
        (239, b"\2\0\0", "truncated NFLOG header"),
        (239, nflog(7, FOUR), "not IP: NFLOG"),
        (239, nflog(2, FOUR)[:10], "not IP: NFLOG"),
        (239, b"\2\0\0\0" + bytes(40), "not IP: NFLOG"),
        (147, b"anything", "unsupported link type 147"),
        (127, b"anything", "unsupported link type 127 (IEEE802_11_RADIOTAP)"),
        (65535, b"", "unsupported link type above 511"),
    ],
)
def test_what_holds_no_ip_is_counted_once(link_type: int, frame: bytes, reason: str) -> None:
    losses = Losses()
    found = network(frames([frame], link_type), losses)
    assert losses.snapshot() == {("decode", reason): 1}
    assert found.kind.tolist() == [linktypes.COUNTED]


def test_link_types_mixed_in_a_batch() -> None:
    batch = frames([ethernet(FOUR), SIX, sll(FOUR, 0x0800), b"?", ethernet(b"", 0x0806)])
    batch.link_types[:] = [1, 101, 113, 147, 1]
    losses = Losses()
    found = network(batch, losses)
    assert found.kind.tolist() == [IPV4, IPV6, IPV4, 0, 0]
    assert np.array_equal(found.position[:3] - batch.offsets[:3], [14, 0, 16])
    assert losses.snapshot() == {("decode", "unsupported link type 147"): 1, ("decode", "not IP: ARP"): 1}
