import struct
from pathlib import Path

import numpy as np
import pytest

from observer.sources import pcapng
from observer.sources.pcap import MAX_FRAME
from tests.captures import SECOND, block, enhanced, interface, obsolete, section, simple
from tests.sources.test_pcap import contents, read, write

NANO = 10**9


def times(path: Path) -> list[int]:
    return [time for frames in read(path)[0] for time in frames.times_ns.tolist()]


@pytest.mark.parametrize("order", ["<", ">"])
def test_packet_blocks(tmp_path: Path, order: str) -> None:
    data = (
        section(order)
        + interface(order=order)
        + enhanced(b"enhanced", order=order, wire=100)
        + simple(b"simple", order)
        + obsolete(b"obsolete", (SECOND + 1) * 10**6, order=order)
        + enhanced(b"", order=order)
    )
    found, losses = read(write(tmp_path / "x", data))
    assert contents(found) == [b"enhanced", b"simple", b"obsolete", b""]
    assert [n for frames in found for n in frames.wire_lengths.tolist()] == [100, 6, 8, 0]
    assert [n for frames in found for n in frames.numbers.tolist()] == [1, 2, 3, 4]
    # A simple packet block carries no time: that of the packet before it.
    assert [n // NANO for frames in found for n in frames.times_ns.tolist()] == [SECOND, SECOND, SECOND + 1, SECOND]
    assert losses == {}


@pytest.mark.parametrize(
    ("resolution", "offset", "ticks", "time_ns"),
    [
        (None, None, 1_500_000, 1_500_000_000),
        (None, 100, 1_500_000, 101_500_000_000),
        (None, -1, 1_500_000, 500_000_000),
        (None, -9, 1_500_000, 500_000_000),  # before 1970: held there
        (9, None, SECOND * NANO + 7, SECOND * NANO + 7),
        (0, None, 3, 3 * NANO),
        (3, None, 3_021, 3_021_000_000),
        (12, None, 2_000_000_001_999, 2_000_000_001),
        (19, None, 15 * 10**18, 1_500_000_000),
        (20, None, 1 << 63, 92_233_720),
        (127, None, (1 << 64) - 1, 1),
        (0x80, None, 3, 3 * NANO),
        (0x80 | 1, None, 3, 1_500_000_000),
        (0x80 | 10, None, 1024 + 512, 1_500_000_000),
        (0x80 | 34, None, 3 << 33, 1_500_000_000),
        (0x80 | 40, None, 3 << 39, 1_500_000_000),
        (0x80 | 63, None, 3 << 62, 1_500_000_000),
        (0x80 | 64, None, 1 << 63, 500_000_000),
        (0, None, (1 << 64) - 1, pcapng.LAST_SECOND * NANO),
        (0, (1 << 63) - 1, (1 << 64) - 1, pcapng.LAST_SECOND * NANO),
        (0, -(1 << 63), (1 << 64) - 1, 0),
    ],
)
def test_time(tmp_path: Path, resolution: int | None, offset: int | None, ticks: int, time_ns: int) -> None:
    data = section() + interface(resolution=resolution, offset=offset) + enhanced(b"x", ticks)
    assert times(write(tmp_path / "x", data)) == [time_ns]


@pytest.mark.parametrize("resolution", [*range(128), *(0x80 | power for power in range(128))])
def test_every_resolution_is_exact_to_a_nanosecond(tmp_path: Path, resolution: int) -> None:
    power = resolution & 0x7F
    unit = 2**power if resolution & 0x80 else 10**power
    ticks = [0, 1, 12_345_678_901_234_567, (1 << 64) - 1]
    data = section() + interface(resolution=resolution) + b"".join(enhanced(b"x", n) for n in ticks)
    for time, n in zip(times(write(tmp_path / "x", data)), ticks, strict=True):
        whole, rest = divmod(n, unit)
        exact = min(whole, pcapng.LAST_SECOND) * NANO + rest * NANO // unit
        assert abs(time - exact) <= 1


def test_interfaces(tmp_path: Path) -> None:
    data = section() + interface(1) + interface(113, resolution=9)
    data += enhanced(b"a", SECOND * 10**6, 0) + enhanced(b"b", SECOND * NANO, 1) + enhanced(b"c", SECOND * 10**6, 0)
    (frames,), _ = read(write(tmp_path / "x", data))
    assert frames.link_types.tolist() == [1, 113, 1]
    assert frames.interfaces.tolist() == [0, 1, 0]
    assert frames.times_ns.tolist() == [SECOND * NANO] * 3


def test_sections_of_either_order(tmp_path: Path) -> None:
    data = section() + interface(1) + enhanced(b"a") + section(">") + interface(101, ">") + enhanced(b"b", order=">")
    found, losses = read(write(tmp_path / "x", data))
    assert contents(found) == [b"a", b"b"]
    assert [n for frames in found for n in frames.link_types.tolist()] == [1, 101]
    assert [n for frames in found for n in frames.numbers.tolist()] == [1, 2]
    assert losses == {}


def test_a_section_forgets_the_interfaces_before(tmp_path: Path) -> None:
    data = section() + interface() + enhanced(b"a") + section() + enhanced(b"b")
    found, losses = read(write(tmp_path / "x", data))
    assert contents(found) == [b"a"]
    assert losses == {("pcap", "undeclared interface"): 1}


def test_other_blocks_are_passed_over(tmp_path: Path) -> None:
    custom = block(0x0BAD, b"?" * 5_000_000)  # more than is ever read at a time
    data = section() + interface() + enhanced(b"a") + block(5, b"statistics") + enhanced(b"b") + custom + enhanced(b"c")
    found, losses = read(write(tmp_path / "x", data))
    assert contents(found) == [b"a", b"b", b"c"]
    assert losses == {}


def test_simple_packet_ends_at_the_snap_length(tmp_path: Path) -> None:
    data = section() + interface(snap_length=6) + simple(b"123456\0\0", wire=50)
    found, _ = read(write(tmp_path / "x", data))
    assert contents(found) == [b"123456"]
    assert found[0].wire_lengths.tolist() == [50]


def raw_block(kind: int, length: int, body: bytes = b"") -> bytes:
    return struct.pack("<II", kind, length) + body


GOOD = section() + interface() + enhanced(b"good")


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (b"\6", "cut in mid-packet"),
        (enhanced(b"cut")[:-1], "cut in mid-packet"),
        (simple(b"cut")[:-5], "cut in mid-packet"),
        (block(0x0BAD, bytes(9))[:-1], "cut in mid-packet"),
        (interface()[:-1], "cut in mid-packet"),
        (raw_block(6, 0, bytes(40)), "impossible record length"),
        (raw_block(6, 28, bytes(40)), "impossible record length"),
        (raw_block(6, 33, bytes(40)), "impossible record length"),
        (raw_block(3, 12, bytes(40)), "impossible record length"),
        (raw_block(1, 16, bytes(40)), "impossible record length"),
        (raw_block(0x0BAD, 8, bytes(40)), "impossible record length"),
        (raw_block(6, MAX_FRAME + pcapng.MAX_OPTIONS + 4, bytes(40)), "impossible record length"),
        (raw_block(6, 0xFFFFFFFC, bytes(40)), "impossible record length"),
        (raw_block(1, pcapng.MAX_OPTIONS + 4, bytes(40)), "impossible record length"),
        (raw_block(0x0A0D0D0A, 28, bytes(40)), "damaged section header"),
        (raw_block(0x0A0D0D0A, 24, b"\x4d\x3c\x2b\x1a" + bytes(40)), "impossible record length"),
    ],
)
def test_the_end_of_the_file(tmp_path: Path, tail: bytes, reason: str) -> None:
    found, losses = read(write(tmp_path / "x", GOOD + tail))
    assert contents(found) == [b"good"]
    assert losses == {("pcap", reason): 1}


def test_frames_that_do_not_fit_their_block_are_counted_and_passed_over(tmp_path: Path) -> None:
    liar = bytearray(enhanced(b"liar"))
    liar[20:24] = struct.pack("<I", 5)
    short = block(6, struct.pack("<5I", 0, 0, 0, 0xFFFFFFFF, 0))
    found, losses = read(write(tmp_path / "x", GOOD + bytes(liar) + short + enhanced(b"after")))
    assert contents(found) == [b"good", b"after"]
    assert found[0].numbers.tolist() == [1, 4]
    assert losses == {("pcap", "impossible record length"): 2}


def test_too_many_interfaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcapng, "MAX_INTERFACES", 2)
    data = section() + interface() * 3 + b"".join(enhanced(b"x", index=index) for index in range(3))
    found, losses = read(write(tmp_path / "x", data))
    assert [n for frames in found for n in frames.interfaces.tolist()] == [0, 1]
    assert losses == {("pcap", "undeclared interface"): 1}


@pytest.mark.parametrize(
    "option", [b"", b"\x09\x00\xff\xff", b"\x09\x00\x01\x00", b"\x0e\x00\x08\x00\1\2", b"\x09\x00\x04\x00\3\3\3\3"]
)
def test_damaged_interface_options_leave_the_defaults(tmp_path: Path, option: bytes) -> None:
    data = section() + block(1, struct.pack("<HHI", 1, 0, 0) + option) + enhanced(b"x", 2_000_001)
    assert times(write(tmp_path / "x", data)) == [2_000_001_000]


def test_times_are_int64(tmp_path: Path) -> None:
    (frames,), _ = read(write(tmp_path / "x", GOOD))
    assert frames.times_ns.dtype == np.int64
