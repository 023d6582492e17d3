import gzip
import os
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer.errors import CaptureError
from observer.losses import Losses
from observer.sources import input as source_input
from observer.sources.frames import Frames
from observer.sources.pcap import MAX_FRAME, open_capture
from tests.captures import SECOND, enhanced, interface, pcap, section

PACKETS = [b"first", b"", b"the third one" * 9]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def read(path: Path, batch: int = 4096) -> tuple[list[Frames], dict[tuple[str, str], int]]:
    losses = Losses()
    with open_capture(path, losses) as capture:
        found = list(capture.frames(batch))
    for frames in found:
        check(frames)
    return found, losses.snapshot()


def check(frames: Frames) -> None:
    """What a batch promises, whatever the file held."""
    assert len(frames) > 0
    assert (frames.offsets >= 0).all()
    assert (frames.lengths >= 0).all()
    assert (frames.offsets + frames.lengths <= len(frames.data)).all()
    assert (frames.lengths <= MAX_FRAME).all()
    assert (frames.wire_lengths >= frames.lengths).all()
    assert (frames.times_ns >= 0).all()
    assert (np.diff(frames.numbers) > 0).all()
    columns = (frames.lengths, frames.wire_lengths, frames.times_ns, frames.link_types, frames.interfaces)
    assert {len(column) for column in columns} == {len(frames)}


def contents(found: list[Frames]) -> list[bytes]:
    return [
        bytes(frames.data[start : start + length])
        for frames in found
        for start, length in zip(frames.offsets.tolist(), frames.lengths.tolist(), strict=True)
    ]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("magic", "fraction_ns"), [(0xA1B2C3D4, 5000), (0xA1B23C4D, 5), (0xA1B2CD34, 5000)], ids=["us", "ns", "patched"]
)
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_variants(tmp_path: Path, order: str, magic: int, fraction_ns: int, compress: bool) -> None:
    data = pcap(PACKETS, order=order, magic=magic, link_type=113)
    found, losses = read(write(tmp_path / "x", gzip.compress(data) if compress else data))
    assert contents(found) == PACKETS
    assert losses == {}
    (frames,) = found
    assert frames.times_ns.tolist() == [(SECOND + i) * 10**9 + fraction_ns for i in range(3)]
    assert frames.link_types.tolist() == [113] * 3
    assert frames.numbers.tolist() == [1, 2, 3]


def test_snap_length(tmp_path: Path) -> None:
    (frames,), _ = read(write(tmp_path / "x", pcap(PACKETS, snap_length=8)))
    assert frames.lengths.tolist() == [5, 0, 8]
    assert frames.wire_lengths.tolist() == [5, 0, 117]


def test_link_type_without_the_bits_of_the_check_sequence(tmp_path: Path) -> None:
    (frames,), _ = read(write(tmp_path / "x", pcap([b"x"], link_type=0x5400_0001)))
    assert frames.link_types.tolist() == [1]


def test_batches_and_progress(tmp_path: Path) -> None:
    path = write(tmp_path / "x", pcap([bytes([i]) for i in range(10)]))
    with open_capture(path, Losses()) as capture:
        found = list(capture.frames(batch=4))
        assert capture.position == capture.size == path.stat().st_size
    assert [len(frames) for frames in found] == [4, 4, 2]
    assert [frames.numbers.tolist() for frames in found] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert contents(found) == [bytes([i]) for i in range(10)]


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_records_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, compress: bool) -> None:
    for name in ("CHUNK", "COMPRESSED_CHUNK", "INFLATED_PIECE"):
        monkeypatch.setattr(source_input, name, chunk)
    packets = [bytes([i]) * (i * 37 % 300) for i in range(40)]
    for data in (pcap(packets), section() + interface() + b"".join(map(enhanced, packets))):
        found, losses = read(write(tmp_path / "x", gzip.compress(data) if compress else data))
        assert contents(found) == packets
        assert losses == {}
        assert [number for frames in found for number in frames.numbers.tolist()] == list(range(1, 41))


def test_gzip_of_several_members_and_padding(tmp_path: Path) -> None:
    data = pcap(PACKETS)
    members = gzip.compress(data[:50]) + gzip.compress(b"") + gzip.compress(data[50:]) + bytes(600)
    found, losses = read(write(tmp_path / "x", members))
    assert contents(found) == PACKETS
    assert losses == {}


def test_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    packets = [bytes([i % 256]) * 700 for i in range(500)]
    writer = threading.Thread(target=path.write_bytes, args=(pcap(packets),))
    writer.start()
    with open_capture(path, Losses()) as capture:
        assert capture.size == 0
        found = list(capture.frames())
    writer.join()
    assert contents(found) == packets


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"\n", "is no pcap or pcapng capture; convert it with `editcap"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "is no pcap or pcapng capture; convert it with `editcap"),
        (b"\n\r\r\n" + bytes(40), "is no pcap or pcapng capture"),
        (pcap([])[:20], "ends within its file header"),
        (section()[:20], "ends within its file header"),
        (gzip.compress(b"hello", mtime=0), "is no pcap or pcapng capture"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (b"\x1f\x8b\x08", "gzip cut short"),
        (b"\x1f\x8b no gzip at all", "damaged gzip"),
    ],
)
def test_no_capture(tmp_path: Path, data: bytes, said: str) -> None:
    path = write(tmp_path / "thing", data)
    with pytest.raises(CaptureError) as caught:
        open_capture(path, Losses())
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    for path, said in (
        (tmp_path / "missing", "no such file; name a pcap or pcapng capture"),
        (tmp_path, "is a directory; name a pcap or pcapng file in it"),
        (Path("/proc/self/mem"), "cannot be read"),
        (Path("nul\0byte"), "cannot be opened"),
        (write(tmp_path / "file", b"x") / "below", "cannot be opened"),
    ):
        with pytest.raises(CaptureError, match=said):
            open_capture(path, Losses())


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(source_input.io, "FileIO", refuse)  # root, who may run this, may read every file
    with pytest.raises(CaptureError, match="x: permission denied; make the file readable"):
        open_capture(tmp_path / "x", Losses())


@pytest.mark.parametrize("missing", [1, 5, 13, 20])
def test_cut_in_mid_packet(tmp_path: Path, missing: int) -> None:
    found, losses = read(
        write(tmp_path / "x", pcap([b"whole", b"cut"])[:-missing] if missing < 19 else pcap([b"whole", b"x"])[:-1])
    )
    assert contents(found) == [b"whole"]
    assert losses == {("pcap", "cut in mid-packet"): 1}


def test_header_without_packets(tmp_path: Path) -> None:
    assert read(write(tmp_path / "x", pcap([]))) == ([], {})
    assert read(write(tmp_path / "y", section())) == ([], {})


def test_absurd_record_ends_the_file(tmp_path: Path) -> None:
    absurd = struct.pack("<IIII", SECOND, 0, MAX_FRAME + 1, MAX_FRAME + 1) + bytes(100)
    found, losses = read(write(tmp_path / "x", pcap([b"good"]) + absurd + pcap([b"never reached"])))
    assert contents(found) == [b"good"]
    assert losses == {("pcap", "impossible record length"): 1}


def test_longest_frame(tmp_path: Path) -> None:
    packets = [b"x" * MAX_FRAME, b"y"]
    found, losses = read(write(tmp_path / "x", pcap(packets)))
    assert contents(found) == packets
    assert losses == {}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(lambda data: data[: len(data) // 2], "gzip cut short"), (lambda data: data[:-8] + bytes(8), "damaged gzip")],
)
def test_damaged_gzip_gives_what_stands_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage, reason: str
) -> None:
    monkeypatch.setattr(source_input, "INFLATED_PIECE", 1000)
    packets = [os.urandom(300) for _ in range(100)]
    found, losses = read(write(tmp_path / "x", damage(gzip.compress(pcap(packets)))))
    assert losses == {("pcap", reason): 1}
    kept = contents(found)
    assert kept == packets[: len(kept)]
    assert len(kept) > 40


def test_damage_inside_gzip_loses_nothing_that_stands_before_it(tmp_path: Path) -> None:
    packets = [os.urandom(100) for _ in range(60)]
    squeeze = zlib.compressobj(wbits=31)
    good = squeeze.compress(pcap(packets)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    found, losses = read(write(tmp_path / "x", good + b"\x07"))  # RFC 1951, 3.2.3: a block of the reserved type
    assert contents(found) == packets
    assert losses == {("pcap", "damaged gzip"): 1}


def test_gzip_bomb_is_read_in_pieces(tmp_path: Path) -> None:
    squeeze = zlib.compressobj(9, wbits=31)
    parts = [squeeze.compress(pcap([]))]
    record = struct.pack("<IIII", SECOND, 0, MAX_FRAME, MAX_FRAME) + bytes(MAX_FRAME)
    parts += [squeeze.compress(record) for _ in range(64)]
    path = write(tmp_path / "x", b"".join(parts) + squeeze.flush())
    assert path.stat().st_size < 100_000
    seen = 0
    with open_capture(path, Losses()) as capture:
        for frames in capture.frames():
            assert len(frames.data) <= source_input.CHUNK + MAX_FRAME + 16
            seen += len(frames)
    assert seen == 64


WHOLE = [
    pcap([bytes([i]) * (i * 5) for i in range(12)]),
    pcap([bytes([i]) * (i * 5) for i in range(12)], order=">", magic=0xA1B23C4D),
    section() + interface(resolution=9, offset=3) + b"".join(enhanced(bytes([i]) * i) for i in range(12)),
    section(">") + interface(order=">") + b"".join(enhanced(bytes([i]) * i, order=">") for i in range(12)),
]
WHOLE += [gzip.compress(data, mtime=0) for data in WHOLE[::2]]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=8), st.booleans()), max_size=6),
    st.integers(0, 2000),
)
def test_mutated_files(tmp_path_factory: pytest.TempPathFactory, data: bytes, edits: list, end: int) -> None:
    changed = bytearray(data)
    for at, piece, insert in edits:
        at %= len(changed) + 1
        changed[at : at if insert else at + len(piece)] = piece
    survive(tmp_path_factory, bytes(changed[: end or None]))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([b"", *(data[:size] for data in WHOLE for size in (4, 12, 24, 28, 64))]), st.binary(max_size=400)
)
def test_random_files(tmp_path_factory: pytest.TempPathFactory, head: bytes, tail: bytes) -> None:
    survive(tmp_path_factory, head + tail)


def survive(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = write(tmp_path_factory.getbasetemp() / "survive", data)
    try:
        found, _ = read(path, batch=3)
    except CaptureError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017
    else:
        # A record takes at least its header, so a file cannot hold more than this, deflated to a thousandth or not.
        assert sum(map(len, found)) <= len(data) * 1032 // 16
