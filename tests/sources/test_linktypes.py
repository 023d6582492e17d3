import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.losses import Losses
from observer.sources.linktypes import network
from observer.sources.network import COUNTED, IPV4, IPV6
from tests.captures import MAC_A, MAC_B, ethernet, frames, ipv4, ipv6, radiotap, udp, wireless

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
        (1, ethernet(label(9, False) + label(10, True) + bytes(4) + ethernet(FOUR), 0x8847), FOUR),
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
        (219, label(9, False) + label(10, True) + SIX, SIX),
        (6, b"\x10\x40" + MAC_B + MAC_A + SNAP + b"\x08\0" + FOUR, FOUR),
        (6, b"\x10\x40" + MAC_B + b"\x82" + MAC_A[1:] + b"\x06\0\1\2\3\4" + SNAP + b"\x08\0" + FOUR, FOUR),
        (8, b"\1" + bytes(15) + FOUR, FOUR),
        (10, b"\x50" + MAC_B + MAC_A + SNAP + b"\x86\xdd" + SIX, SIX),
        (107, b"\x18\x41\x03\xcc" + FOUR, FOUR),
        (107, b"\x18\x41\x03\x8e" + SIX, SIX),
        (107, b"\x18\x41\x08\0" + FOUR, FOUR),
        (117, b"\x3d\x02" + bytes(62) + FOUR, FOUR),
        (117, b"\x40\x18" + bytes(62) + SIX, SIX),
        (105, wireless(FOUR), FOUR),
        (105, wireless(SIX, 0x86DD, flags=0), SIX),
        (105, wireless(FOUR, flags=2), FOUR),
        (105, wireless(FOUR, flags=3), FOUR),
        (105, wireless(FOUR, flags=2, subtype=8, between=b"\6\0"), FOUR),
        (105, wireless(FOUR, flags=0x83, subtype=8, between=b"\0\0\1\2\3\4"), FOUR),
        (119, b"\x44\0\0\0" + struct.pack("<I", 144) + bytes(136) + wireless(FOUR), FOUR),
        (119, b"\0\0\0\x44" + struct.pack(">I", 144) + bytes(136) + wireless(FOUR), FOUR),
        (119, b"\x80\x21\x10\0" + struct.pack(">I", 64) + bytes(56) + wireless(FOUR), FOUR),
        (127, radiotap(wireless(FOUR)), FOUR),
        (127, radiotap(wireless(SIX, 0x86DD, flags=2), b"\x02\x6c\x9e\x09\xc0\0", 0x0E), SIX),
        (163, b"\x80\x21\x10\1" + struct.pack(">I", 64) + bytes(56) + wireless(FOUR), FOUR),
        (192, b"\0\0" + struct.pack("<HI", 12, 105) + b"\2\0\0\0" + wireless(FOUR), FOUR),
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
        (1, ethernet(label(1, True) + b"\x50" + bytes(40), 0x8847), "not IP: no version 4 or 6"),
        (1, ethernet(label(1, True) + bytes(4) + ethernet(bytes(28), 0x0806), 0x8847), "not IP: ARP"),
        (1, ethernet(label(1, True) + bytes(4) + ethernet(b"")[:13], 0x8847), "truncated Ethernet header"),
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
        (189, b"anything", "unsupported link type 189 (USB_LINUX)"),
        (6, bytes(14), "truncated Token Ring header"),
        (8, bytes(15), "truncated SLIP header"),
        (10, bytes(12), "truncated FDDI header"),
        (107, b"\x18\x41\3", "truncated Frame Relay header"),
        (107, b"\x18\x41\3\x81" + bytes(40), "not IP: Frame Relay"),
        (107, b"\x18\x40\3\xcc" + FOUR, "not IP: Frame Relay"),
        (117, b"\x3d\x07" + bytes(62) + FOUR, "not IP: other address family"),
        (105, b"", "truncated 802.11 header"),
        (105, wireless(FOUR)[:23], "truncated 802.11 header"),
        (105, b"\x80\0" + bytes(40), "not IP: 802.11 without data"),  # a beacon
        (105, b"\xd4\0" + bytes(8), "not IP: 802.11 without data"),  # an acknowledgment
        (105, wireless(b"", subtype=12), "not IP: 802.11 without data"),
        (105, wireless(FOUR, flags=0x41), "not IP: 802.11, encrypted"),
        (105, wireless(FOUR, flags=0x05), "not IP: 802.11, a fragment"),
        (105, wireless(FOUR, sequence=17), "not IP: 802.11, a fragment"),
        (105, wireless(FOUR, subtype=8, between=b"\x80\0"), "not IP: 802.11, several frames in one"),
        (105, wireless(FOUR, 0x0806), "not IP: ARP"),
        (119, bytes(7), "truncated 802.11 header"),
        (127, b"anything", "truncated 802.11 header"),
        (127, radiotap(b""), "truncated 802.11 header"),
        (192, b"\0\0\x08\0\1\0\0\0" + ethernet(FOUR), "truncated 802.11 header"),
        (65535, b"", "unsupported link type above 511"),
    ],
)
def test_what_holds_no_ip_is_counted_once(link_type: int, frame: bytes, reason: str) -> None:
    losses = Losses()
    found = network(frames([frame], link_type), losses)
    assert losses.snapshot() == {("decode", reason): 1}
    assert found.kind.tolist() == [COUNTED]


@pytest.mark.parametrize("flags", [0, 1, 2, 3])
def test_macs_of_80211(flags: int) -> None:
    found = network(frames([wireless(FOUR, flags=flags)], 105), Losses())
    assert (found.source_mac.tobytes(), found.destination_mac.tobytes()) == (MAC_A, MAC_B)
    assert found.has_mac.tolist() == [True]


@given(st.sampled_from([105, 119, 127, 163, 192]), st.binary(max_size=80), st.binary(max_size=8))
def test_80211_of_any_bytes_is_counted_or_found(link_type: int, noise: bytes, patch: bytes) -> None:
    whole = {127: radiotap(b""), 163: b"\x80\x21\x10\1\0\0\0\x08"}.get(link_type, b"") + wireless(FOUR)
    place = len(noise) % len(whole)
    mutated = whole[:place] + patch + whole[place + len(patch) :]
    losses = Losses()
    found = network(frames([noise, mutated, whole[:place]], link_type), losses)
    assert (found.kind == COUNTED).sum() == losses.total()
    assert (found.position[found.kind != COUNTED] < len(found.data)).all()


def test_link_types_mixed_in_a_batch() -> None:
    batch = frames([ethernet(FOUR), SIX, sll(FOUR, 0x0800), b"?", ethernet(b"", 0x0806)])
    batch.link_types[:] = [1, 101, 113, 147, 1]
    losses = Losses()
    found = network(batch, losses)
    assert found.kind.tolist() == [IPV4, IPV6, IPV4, 0, 0]
    assert np.array_equal(found.position[:3] - batch.offsets[:3], [14, 0, 16])
    assert losses.snapshot() == {("decode", "unsupported link type 147"): 1, ("decode", "not IP: ARP"): 1}
