import struct
from ipaddress import ip_address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.decode import Decoder, Packets
from observer.losses import Losses
from observer.tunnel import MAX_GTP_EXTENSIONS, MAX_TUNNELS
from observer.tuples import KEY, keys, quoted_key, reverse
from tests.captures import (
    erspan,
    ethernet,
    frames,
    geneve,
    gre,
    gtp_u,
    icmp,
    ipv4,
    ipv6,
    tcp,
    udp,
    vxlan,
    vxlan_gpe,
)
from tests.test_decode import check

ONE, TWO = "192.168.1.1", "192.168.1.2"
SEGMENT = tcp(b"GET /", 40000, 80)
INNER, INNER6 = ipv4(SEGMENT, 6), ipv6(SEGMENT, 6)
FRAME = ethernet(INNER)
PORTS = {"source_port": 50000}


def outer(payload: bytes, protocol: int = 17, source: str = ONE, destination: str = TWO) -> bytes:
    return ethernet(ipv4(payload, protocol, source, destination))


def decode(
    *packets: bytes, link_type: int = 1, snap_length: int = 1 << 20
) -> tuple[Packets, dict[tuple[str, str], int]]:
    losses = Losses()
    decoder = Decoder(losses)
    decoded = decoder.decode(frames(packets, link_type, snap_length=snap_length))
    decoder.finish()
    check(decoded)
    return decoded, losses.snapshot()


def ends(packets: Packets, row: int = 0) -> tuple[str, int, str, int, int]:
    addresses = []
    for column in (packets.source_ip, packets.destination_ip):
        octets = column[row].tobytes()
        addresses.append(str(ip_address(octets[12:] if packets.family[row] == 4 else octets)))
    ports = int(packets.source_port[row]), int(packets.destination_port[row])
    return addresses[0], ports[0], addresses[1], ports[1], int(packets.protocol[row])


FOUR, SIX = ("10.0.0.1", 40000, "10.0.0.2", 80, 6), ("fd00::1", 40000, "fd00::2", 80, 6)


@pytest.mark.parametrize(
    ("packet", "inner", "told"),
    [
        (outer(vxlan(FRAME)), FOUR, (1, 50000, 4789, 7)),
        (outer(vxlan(ethernet(INNER6, 0x86DD), 0xFFFFFE, port=8472)), SIX, (1, 50000, 8472, 0xFFFFFE)),
        (outer(vxlan(FRAME, flags=0x88)), FOUR, (1, 50000, 4789, 7)),  # group policy
        (outer(vxlan(ethernet(INNER, tags=[(0x8100, 5)]))), FOUR, (1, 50000, 4789, 7)),
        (outer(geneve(FRAME)), FOUR, (2, 50000, 6081, 7)),
        (outer(geneve(INNER, 0x0800, options=b"\1\2\x80\1" + bytes(4))), FOUR, (2, 50000, 6081, 7)),
        (outer(geneve(INNER6, 0x86DD, 0)), SIX, (2, 50000, 6081, 0)),
        (outer(vxlan_gpe(INNER, 1)), FOUR, {"protocol": "vxlan-gpe", "vni": 7, "destination_port": 4790} | PORTS),
        (outer(vxlan_gpe(INNER6, 2)), SIX, {"protocol": "vxlan-gpe", "vni": 7, "destination_port": 4790} | PORTS),
        (outer(vxlan_gpe(FRAME, 3)), FOUR, {"protocol": "vxlan-gpe", "vni": 7, "destination_port": 4790} | PORTS),
        (outer(gre(INNER), 47), FOUR, {"protocol": "gre"}),
        (outer(gre(INNER6, 0x86DD, checksum=True, key=77, sequence=3), 47), SIX, {"protocol": "gre", "key": 77}),
        (outer(gre(FRAME, 0x6558, key=0), 47), FOUR, {"protocol": "gre", "key": 0}),
        (outer(gre(FRAME, 0x6558, key=0x123456FE), 47), FOUR, {"protocol": "nvgre", "vsid": 0x123456}),
        (outer(gre(FRAME, 0x6558, key=0x123456FE, sequence=1), 47), FOUR, {"protocol": "gre", "key": 0x123456FE}),
        (outer(gre(struct.pack(">I", 0x9100) + INNER, 0x8847), 47), FOUR, {"protocol": "gre"}),
        (outer(udp(gre(INNER), 50000, 4754)), FOUR, {"protocol": "gre", "destination_port": 4754} | PORTS),
        (outer(gre(FRAME, 0x88BE), 47), FOUR, {"protocol": "erspan"}),
        (outer(erspan(FRAME), 47), FOUR, {"protocol": "erspan", "session": 5}),
        (outer(erspan(FRAME, 1023, version=2), 47), FOUR, {"protocol": "erspan", "session": 1023}),
        (outer(erspan(INNER, version=2, kind=2, subheader=bytes(8)), 47), FOUR, {"protocol": "erspan", "session": 5}),
        (outer(INNER, 4), FOUR, {"protocol": "ipip"}),
        (outer(INNER6, 41), SIX, {"protocol": "6in4"}),
        (outer(struct.pack(">I", 0x9100) + INNER6, 137), SIX, {"protocol": "mpls"}),
        (
            outer(udp(struct.pack(">I", 0x9100) + INNER, 50000, 6635)),
            FOUR,
            {"protocol": "mpls", "destination_port": 6635} | PORTS,
        ),
        (outer(gtp_u(INNER)), FOUR, {"protocol": "gtp-u", "teid": 9, "source_port": 2152, "destination_port": 2152}),
        (
            outer(gtp_u(INNER6, flags=0x36, extensions=b"\x85\1\x10\1\x20\2\1\2\3\4\5\6\0")),
            SIX,
            {"protocol": "gtp-u", "teid": 9, "source_port": 2152, "destination_port": 2152},
        ),
        (
            outer(gtp_u(INNER, flags=0x32, extensions=b"\x85")),  # a sequence number; the type does not count
            FOUR,
            {"protocol": "gtp-u", "teid": 9, "source_port": 2152, "destination_port": 2152},
        ),
    ],
)  # fmt: skip
def test_the_inner_packet_is_the_row(packet: bytes, inner: tuple, told: tuple | dict) -> None:
    packets, lost = decode(outer(udp(b"before")), packet, outer(udp(b"behind")))
    assert lost == {}
    assert packets.tunnel is not None
    assert [layer is None for layer in packets.tunnel] == [True, False, True]
    assert ends(packets, 1) == inner
    assert packets.payload(1) == b"GET /"
    assert [packets.payload(0), packets.payload(2)] == [b"before", b"behind"]
    assert int(packets.ip_length[1]) == len(INNER if inner is FOUR else INNER6)
    tunnel, words = packets.tunnel[1].told()
    if isinstance(told, tuple):
        assert (tunnel.protocol, tunnel.source_port, tunnel.destination_port, tunnel.vni) == told
        assert (tunnel.source_ip, tunnel.destination_ip, words) == (ONE, TWO, None)
    else:
        assert (tunnel, words) == (None, told | {"source": ONE, "destination": TWO})


def test_over_ipv6() -> None:
    for payload, protocol, name in ((INNER, 4, "4in6"), (INNER6, 41, "6in6"), (gre(INNER), 47, "gre")):
        packets, lost = decode(ethernet(ipv6(payload, protocol, "fd00::a", "fd00::b"), 0x86DD))
        assert (ends(packets), lost) == (SIX if payload is INNER6 else FOUR, {})
        assert packets.tunnel[0].told()[1] == {"protocol": name, "source": "fd00::a", "destination": "fd00::b"}


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (outer(vxlan(FRAME, flags=0)), "port of VXLAN, but not its header"),
        (outer(udp(bytes(8) + FRAME, 53, 4789)), "port of VXLAN, but not its header"),
        (outer(vxlan(b"")[:15]), "truncated VXLAN header"),
        (outer(vxlan(FRAME[:10])), "truncated Ethernet header"),
        (outer(vxlan(FRAME[:30])), "truncated IPv4 header"),
        (outer(vxlan(FRAME[:50])), "truncated TCP header"),
        (outer(vxlan(ethernet(bytes(28), 0x0806))), "not IP: ARP"),
        (outer(vxlan(ethernet(ipv4(SEGMENT, 6, length=19)))), "IPv4 length below that of its header"),
        (outer(vxlan_gpe(FRAME, 4)), "VXLAN-GPE of another protocol"),
        (outer(udp(b"\x08\0\0\0\0\0\7\1" + FRAME, 1, 4790)), "port of VXLAN-GPE, but not its header"),
        (outer(geneve(FRAME, 0x6559)), "Geneve of another protocol"),
        (outer(geneve(b"", options=bytes(8))[:-4]), "truncated Geneve header"),
        (outer(udp(b"\x40" + bytes(7) + FRAME, 1, 6081)), "port of Geneve, but not its header"),
        (outer(gre(INNER, flags=1), 47), "GRE of another version or with routing"),
        (outer(gre(INNER, flags=0x4000), 47), "GRE of another version or with routing"),
        (outer(gre(b"", key=1, sequence=1)[:8], 47), "truncated GRE header"),
        (outer(gre(INNER, 0x880B), 47), "GRE of another protocol"),
        (outer(b"\0\0\x08", 47), "truncated GRE header"),
        (outer(erspan(b"")[:12], 47), "truncated ERSPAN header"),
        (outer(gre(bytes(8) + FRAME, 0x88BE, sequence=1), 47), "ERSPAN of another version"),
        (outer(erspan(FRAME, version=2, kind=5), 47), "ERSPAN of another frame type"),
        (outer(INNER6, 4), "IPv4 header of another version"),
        (outer(b"", 41), "truncated IPv6 header"),
        (outer(struct.pack(">I", 0x9100), 137), "truncated IP header"),
        (outer(udp(b"\x50" + bytes(20), 1, 2152)), "port of GTP-U, but not its header"),
        (outer(gtp_u(b"\xff" + bytes(20))), "not IP: no version 4 or 6"),
        (outer(gtp_u(b"", flags=0x34)), "truncated GTP-U header"),
        (outer(gtp_u(INNER, flags=0x34, extensions=b"\x85\0\x10\1\0")), "truncated GTP-U header"),
        (outer(gtp_u(b"", flags=0x34, extensions=b"\x85\xff")), "truncated GTP-U header"),
        (
            outer(gtp_u(INNER, flags=0x34, extensions=b"\x85" + b"\1\0\0\x85" * MAX_GTP_EXTENSIONS + b"\1\0\0\0")),
            "too many GTP-U extension headers",
        ),
    ],
)
def test_what_cannot_be_entered_stays_the_outer_packet_and_is_counted(packet: bytes, reason: str) -> None:
    packets, lost = decode(packet, outer(vxlan(FRAME)))
    assert lost == {("tunnel", reason): 1}
    assert ends(packets)[:3:2] == (ONE, TWO)
    assert packets.tunnel[0] is None
    assert ends(packets, 1) == FOUR


def test_signalling_and_other_protocols_are_the_outer_packet() -> None:
    packets, lost = decode(
        outer(gtp_u(b"", kind=1)), outer(tcp(FRAME, 1, 4789), 6), outer(INNER, 94), outer(vxlan(FRAME)[:8])
    )
    assert packets.tunnel is None
    assert lost == {("tunnel", "truncated VXLAN header"): 1}


def nested(depth: int) -> bytes:
    packet = INNER
    for _ in range(depth):
        packet = ipv4(packet, 4, ONE, TWO)
    return ethernet(packet)


def test_tunnels_in_tunnels() -> None:
    packets, lost = decode(outer(gre(ipv4(vxlan(FRAME), 17, "172.16.0.1", "172.16.0.2"), key=3), 47))
    assert (ends(packets), lost) == (FOUR, {})
    tunnel, around = packets.tunnel[0].told()
    assert (tunnel.source_ip, tunnel.vni) == ("172.16.0.1", 7)
    assert around == {"protocol": "gre", "source": ONE, "destination": TWO, "key": 3}
    packets, lost = decode(outer(vxlan(ethernet(ipv4(gre(INNER), 47, "172.16.0.1", "172.16.0.2")))))
    assert packets.tunnel[0].told() == (
        None,
        {
            "protocol": "gre", "source": "172.16.0.1", "destination": "172.16.0.2",
            "outer": {
                "protocol": "vxlan", "source": ONE, "destination": TWO, "vni": 7,
                "source_port": 50000, "destination_port": 4789,
            },
        },
    )  # fmt: skip


def test_the_depth_is_bounded() -> None:
    packets, lost = decode(nested(MAX_TUNNELS), nested(MAX_TUNNELS + 1))
    assert ends(packets) == FOUR
    assert ends(packets, 1) == (ONE, 0, TWO, 0, 4)
    assert lost == {("tunnel", "too many tunnels in tunnels"): 1}


def test_a_cut_capture_says_what_is_missing() -> None:
    whole = outer(vxlan(FRAME))
    packets, lost = decode(whole, snap_length=len(whole) - 2)
    assert (packets.payload(0), int(packets.payload_missing[0]), lost) == (b"GET", 2, {})


def fragments(payload: bytes, identification: int, protocol: int = 6) -> list[bytes]:
    return [
        ipv4(payload[:16], protocol, fragment=0x2000, identification=identification),
        ipv4(payload[16:], protocol, fragment=2, identification=identification),
    ]


def test_inner_fragments_become_whole_within_their_network() -> None:
    one, two = fragments(tcp(b"in seven", 1, 80), 5), fragments(tcp(b"in eight", 2, 80), 5)
    sent = [outer(vxlan(ethernet(part), vni)) for at in (0, 1) for vni, part in ((7, one[at]), (8, two[at]))]
    packets, lost = decode(outer(udp(b"before")), *sent, outer(vxlan(FRAME)))
    assert lost == {}
    assert [packets.payload(row) for row in range(len(packets))] == [b"before", b"in seven", b"in eight", b"GET /"]
    assert [None if layer is None else layer.number for layer in packets.tunnel] == [None, 7, 8, 7]
    assert packets.frame.tolist() == [1, 4, 5, 6]


def test_fragments_within_tunnels_in_tunnels() -> None:
    parts = fragments(tcp(b"far in", 1, 80), 5)
    sent = [outer(gre(ipv4(ipv4(part, 4, ONE, TWO), 4, ONE, TWO)), 47) for part in parts]
    packets, lost = decode(*sent, outer(vxlan(FRAME)))
    assert [packets.payload(row) for row in range(len(packets))] == [b"far in", b"GET /"]
    assert lost == {}
    assert packets.frame.tolist() == [2, 3]


def test_outer_fragments_become_whole_before_the_tunnel_is_entered() -> None:
    packets, lost = decode(*map(ethernet, fragments(vxlan(FRAME), 5, 17)))
    assert (ends(packets), packets.payload(0), lost) == (FOUR, b"GET /", {})


BACK = ethernet(ipv4(tcp(b"", 80, 40000), 6, "10.0.0.2", "10.0.0.1"))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (outer(vxlan(FRAME)), outer(vxlan(BACK, source=60000), source=TWO, destination=ONE), True),
        (outer(vxlan(FRAME)), outer(vxlan(BACK, 8), source=TWO, destination=ONE), False),
        (outer(vxlan(FRAME)), BACK, False),
        (outer(vxlan(FRAME)), outer(geneve(BACK), source=TWO, destination=ONE), False),
        (outer(gre(INNER), 47), outer(gre(BACK[14:]), 47, TWO, ONE), True),
        (outer(gre(INNER), 47), outer(gre(BACK[14:]), 47, "192.168.1.3", ONE), False),
        (outer(gre(INNER, key=1), 47), outer(gre(BACK[14:], key=2), 47, TWO, ONE), False),
        (outer(gtp_u(INNER, 1)), outer(gtp_u(BACK[14:], 2), source=TWO, destination=ONE), True),
        (nested(2), ethernet(ipv4(ipv4(BACK[14:], 4, TWO, ONE), 4, TWO, ONE)), True),
        (nested(2), ethernet(ipv4(BACK[14:], 4, TWO, ONE)), False),
    ],
)
def test_equal_addresses_elsewhere_do_not_mix(one: bytes, other: bytes, same: bool) -> None:
    packets, lost = decode(one, other)
    there, back = keys(packets)
    assert lost == {}
    assert (reverse(there) == back) is same
    assert reverse(there)[: KEY.size] == back[: KEY.size]


def test_an_error_in_a_tunnel_quotes_what_passed_in_it() -> None:
    error = ipv4(icmp(3, 3, 0, INNER), 1, "10.0.0.2", "10.0.0.1")
    packets, _ = decode(outer(vxlan(FRAME)), outer(vxlan(ethernet(error)), source=TWO, destination=ONE))
    there, about = keys(packets)
    assert quoted_key(packets.payload(1), about) == there


WHOLE = [
    outer(vxlan(FRAME)),
    outer(geneve(FRAME, options=bytes(8))),
    outer(erspan(FRAME, version=2, subheader=bytes(8)), 47),
    outer(gre(INNER, checksum=True, key=4, sequence=1), 47),
    outer(gtp_u(INNER, flags=0x34, extensions=b"\x85\1\x10\1\0")),
    outer(vxlan_gpe(INNER6, 2)),
    nested(3),
]


@given(st.lists(st.tuples(st.sampled_from(WHOLE), st.integers(0, 120), st.binary(max_size=6), st.integers(0, 150))))
def test_any_mutation_is_a_row_or_counted(drawn: list[tuple[bytes, int, bytes, int]]) -> None:
    sent = [(whole[:at] + patch + whole[at + len(patch) :])[: max(size, 34)] for whole, at, patch, size in drawn]
    packets, lost = decode(*sent)
    unread = sum(number for (stage, _), number in lost.items() if stage == "decode")
    assert len(packets) + unread == len(sent)
    for layer, key in zip(packets.tunnel or [], keys(packets), strict=False):
        assert (len(key) > KEY.size) is (layer is not None and layer.network.strip(b"\0") != b"")
        if layer is not None:
            layer.told()


@given(st.sampled_from(WHOLE), st.data())
def test_what_is_read_does_not_depend_on_its_neighbours(whole: bytes, data: st.DataObject) -> None:
    neighbours = data.draw(st.lists(st.sampled_from([*WHOLE, outer(udp(b"x"))]), max_size=6))
    alone, _ = decode(whole)
    packets, _ = decode(*neighbours, whole)
    row = len(neighbours)
    assert ends(packets, row) == ends(alone)
    assert packets.payload(row) == alone.payload(0)
    assert np.array_equal(packets.source_mac[row], alone.source_mac[0])
    assert keys(packets)[row] == keys(alone)[0]
