import struct

import pytest

from observer.decode import Decoder
from observer.ip import MAX_EXTENSIONS
from observer.losses import Losses
from tests.captures import ethernet, frames, icmp, ipv4, ipv6, tcp, udp
from tests.test_decode import check, decode, one, subset

NANO = 10**9


def options(following: int, size: int = 8, content: bytes = b"") -> bytes:
    """A hop-by-hop, routing, destination, mobility, HIP or shim6 header."""
    return (bytes((following, size // 8 - 1)) + content).ljust(size, b"\0")


def authentication(following: int, words: int = 6) -> bytes:
    return bytes((following, words - 2)).ljust(words * 4, b"\0")


def fragment(following: int, offset: int, more: bool, identification: int = 7) -> bytes:
    return struct.pack(">BBHI", following, 0, offset | more, identification)


def jumbo(following: int, length: int) -> bytes:
    return struct.pack(">BBBBI", following, 0, 0xC2, 4, length)


SEGMENT = tcp(b"payload")


@pytest.mark.parametrize(
    "ip",
    [
        ipv6(options(6) + SEGMENT, 0),
        ipv6(options(6, 24) + SEGMENT, 43),
        ipv6(options(6, 2048) + SEGMENT, 60),
        ipv6(options(6) + SEGMENT, 135),
        ipv6(authentication(6) + SEGMENT, 51),
        ipv6(fragment(6, 0, False) + SEGMENT, 44),
        ipv6(options(43) + options(60, 16) + options(51) + authentication(44, 4) + fragment(6, 0, False) + SEGMENT, 0),
        ipv6(options(60) * (MAX_EXTENSIONS - 1) + options(6) + SEGMENT, 60),
        ipv4(authentication(6) + SEGMENT, 51),
    ],
)
def test_extension_headers(ip: bytes) -> None:
    subset(one(ip, 101), protocol=6, source_port=40000, destination_port=80, payload=b"payload", ip_length=len(ip))


@pytest.mark.parametrize(
    ("ip", "reason"),
    [
        (ipv6(options(60) * MAX_EXTENSIONS + options(6) + SEGMENT, 60), "too many IP extension headers"),
        (ipv6(options(6)[:7], 0), "truncated IP extension header"),
        (ipv6(options(0) + options(6)[:3], 0), "truncated IP extension header"),
        (ipv6(options(17, 2048)[:8], 60), "extension headers longer than the packet"),
        (ipv6(options(59, 2048)[:8], 60), "extension headers longer than the packet"),
        (ipv4(b"\x06\xff" + bytes(20), 51), "extension headers longer than the packet"),
    ],
)
def test_extension_headers_that_cannot_be(ip: bytes, reason: str) -> None:
    packets, lost = decode(frames([ip], 101))
    assert (len(packets), lost) == (0, {reason: 1})


def test_extension_headers_behind_the_snap_length() -> None:
    whole = ipv6(options(6, 64) + SEGMENT, 60)
    assert decode(frames([whole], 101, snap_length=60))[1] == {"truncated TCP header": 1}


def test_big_tcp() -> None:
    payload = bytes(100_000)
    ip = ipv6(jumbo(6, 8 + 20 + len(payload)) + tcp(payload), 0, length=0)
    subset(one(ip, 101), payload=payload, payload_missing=0, ip_length=40 + 8 + 20 + 100_000)
    subset(one(ip, 101, snap_length=100), payload=bytes(32), payload_missing=99_968, ip_length=100_068)


def test_a_jumbo_length_is_not_believed_beyond_the_frame() -> None:
    ip = ipv6(jumbo(6, 0xFFFFFFFF) + tcp(b"x"), 0, length=0)
    subset(one(ip, 101), payload=b"x", payload_missing=0, ip_length=len(ip))


def test_a_jumbo_length_ends_before_ethernet_padding() -> None:
    ip = ipv6(jumbo(6, 8 + 20 + 1) + tcp(b"x"), 0, length=0)
    subset(one(ethernet(ip, 0x86DD, trailer=b"pad"), 1), payload=b"x", ip_length=69)


DATAGRAM = udp(bytes(range(256)) * 8)


def four(start: int, end: int, identification: int = 7, **more: str) -> bytes:
    word = start // 8 | (0x2000 if end < len(DATAGRAM) else 0)
    return ethernet(ipv4(DATAGRAM[start:end], 17, identification=identification, fragment=word, **more))


def six(start: int, end: int) -> bytes:
    head = options(44) + fragment(17, start, end < len(DATAGRAM))
    return ethernet(ipv6(head + DATAGRAM[start:end], 0), 0x86DD)


@pytest.mark.parametrize(("make", "header"), [(four, 20), (six, 48)])
def test_fragments_become_one_row_where_the_last_one_was(make, header: int) -> None:
    other = ethernet(ipv4(tcp(b"between"), 6))
    batch = frames([other, make(1480, len(DATAGRAM)), other, make(0, 800), make(800, 1480), other])
    packets, lost = decode(batch)
    assert lost == {}
    assert packets.frame.tolist() == [1, 3, 5, 6]
    assert [packets.payload(row) for row in (0, 1, 3)] == [b"between"] * 3
    assert packets.payload(2) == DATAGRAM[8:]
    assert packets.protocol.tolist() == [6, 6, 17, 6]
    assert packets.ip_length.tolist() == [47, 47, header + len(DATAGRAM), 47]
    assert (packets.source_port[2], packets.destination_port[2]) == (40000, 53)
    assert packets.time_ns[2] == batch.times_ns[4]
    assert packets.has_mac.all()


def test_fragments_across_batches() -> None:
    losses = Losses()
    decoder = Decoder(losses)
    assert len(decoder.decode(frames([four(0, 800)]))) == 0
    packets = decoder.decode(frames([four(800, len(DATAGRAM)), ethernet(ipv4(udp(b"next"), 17))]))
    check(packets)
    assert [packets.payload(row) for row in range(2)] == [DATAGRAM[8:], b"next"]
    assert losses.snapshot() == {}


def test_two_datagrams_at_once() -> None:
    size = len(DATAGRAM)
    packets, _ = decode(frames([four(0, 800, 1), four(0, 1600, 2), four(1600, size, 2), four(800, size, 1)]))
    assert packets.frame.tolist() == [3, 4]
    assert [packets.payload(row) for row in range(2)] == [DATAGRAM[8:]] * 2


@pytest.mark.parametrize(
    "second",
    [
        four(800, len(DATAGRAM), 8),
        four(800, len(DATAGRAM), source="10.0.0.9"),
        four(800, len(DATAGRAM), destination="10.0.0.9"),
        ethernet(ipv4(DATAGRAM[800:], 6, identification=7, fragment=100)),
        ethernet(ipv4(DATAGRAM[800:], 17, identification=7, fragment=100), tags=[(0x8100, 5)]),
    ],
)
def test_fragments_of_different_datagrams_stay_apart(second: bytes) -> None:
    packets, lost = decode(frames([four(0, 800), second]))
    assert (len(packets), lost) == (0, {"fragments of no whole datagram": 2})


def test_fragments_age_with_the_capture() -> None:
    batch = frames([four(0, 800), four(800, len(DATAGRAM))], times_ns=[0, 31 * NANO])
    packets, lost = decode(batch)
    assert (len(packets), lost) == (0, {"fragments of no whole datagram": 2})


def test_overlapping_fragments() -> None:
    packets, lost = decode(frames([four(0, 800), four(792, 1600), four(1600, len(DATAGRAM))]))
    assert (len(packets), lost) == (0, {"overlapping fragments": 3})


def test_a_fragment_not_captured_whole() -> None:
    packets, lost = decode(frames([four(0, 800), four(800, len(DATAGRAM))], snap_length=400))
    assert (len(packets), lost) == (0, {"fragment not captured whole": 2})


def test_an_empty_fragment() -> None:
    assert decode(frames([four(8, 8)]))[1] == {"impossible fragment": 1}


def test_headers_behind_the_fragment_header() -> None:
    whole = options(6, 16) + tcp(b"deep")
    parts = [fragment(60, 0, True) + whole[:24], fragment(60, 24, False) + whole[24:]]
    packets, lost = decode(frames([ipv6(part, 44) for part in parts], 101))
    assert lost == {}
    assert (packets.protocol[0], packets.payload(0), packets.ip_length[0]) == (6, b"deep", 40 + len(whole))


def test_fragments_in_a_fragment() -> None:
    inner = fragment(17, 8, True) + bytes(8)
    parts = [fragment(44, 0, True) + inner[:8], fragment(44, 8, False) + inner[8:]]
    packets, lost = decode(frames([ipv6(part, 44) for part in parts], 101))
    assert (len(packets), lost) == (0, {"fragments in a fragment": 1})


def test_a_datagram_whole_but_malformed() -> None:
    parts = [ipv4(tcp()[:8], 6, fragment=0x2000), ipv4(tcp()[8:16], 6, fragment=1)]
    packets, lost = decode(frames(parts, 101))
    assert (len(packets), lost) == (0, {"truncated TCP header": 1})


def test_icmp_echo_in_fragments() -> None:
    whole = icmp(8, 0, 99, bytes(2000))
    parts = [ipv4(whole[:1480], 1, fragment=0x2000), ipv4(whole[1480:], 1, fragment=185)]
    packets, lost = decode(frames(parts, 101))
    assert lost == {}
    assert (packets.icmp_id.tolist(), packets.payload_length.tolist()) == ([99], [2000])
