"""HPACK in the kernel against python-hpack: header blocks of whole connections and of joined ones, cut anywhere."""

import itertools
import random
import shutil
from pathlib import Path

import hpack
import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

import bpf.huffman
from bpf.build import build
from observer.l7.http2_frames import PREFACE
from observer.record import Flags, HttpMethod, L7Kind, L7Type, Present, pack_text
from tests.datapath.http2_kernel import Connection, Kernel, Told, by_python_unclosed
from tests.l7.http2_bytes import SETTINGS, data, frame
from tests.l7.transcripts import CLIENT

CONNECTIONS, BLOCKS = 250, 24
CUTS = (1, 3, 9, 17, 100, 600, 1448, 3_000)
TABLE_SIZES = (0, 64, 256, 1_000, 4_096, 9_000, 65_536, 100_000)
METHODS = (*(method.name for method in HttpMethod if method not in (HttpMethod.UNKNOWN, HttpMethod.OTHER)), "PURGE")
CONTENT_TYPES = ("application/grpc", "application/grpc+proto", "Application/GRPC-Web", "application/grpcx", "text/html")
METHOD_NUMBERS = {method.name: int(method) for method in HttpMethod}


class Speaker:
    """One side that chooses at random how it encodes and frames what it says; the dice are the connection's."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.encoder = hpack.Encoder()
        self.paths = [
            f"/pkg.Svc{chance.randrange(5)}/M{chance.randrange(9)}{'é%x' * size}" for size in (0, 1, 3, 9, 80)
        ]

    def block(self, fields: list[tuple[str, str]]) -> bytes:
        chance = self.chance
        if chance.random() < 0.06:
            self.encoder.header_table_size = chance.choice(TABLE_SIZES)
        marked = [hpack.HeaderTuple(*field) if chance.random() > 0.1 else hpack.NeverIndexedHeaderTuple(*field)
                  for field in fields]  # fmt: skip
        return self.encoder.encode(marked, huffman=chance.random() < 0.6)

    def headers(self, stream: int, fields: list[tuple[str, str]], *, end: bool = False) -> bytes:
        """HEADERS, padded or with priority or neither, and CONTINUATION frames."""
        chance = self.chance
        block = self.block(fields)
        flags, prefix, padding = 0x1 if end else 0, b"", b""
        if chance.random() < 0.2:
            flags, prefix = flags | 0x20, chance.randbytes(5)
        if chance.random() < 0.2:
            padding = bytes(chance.randrange(256))
            flags, prefix = flags | 0x8, bytes([len(padding)]) + prefix
        bounds = sorted(
            {0, len(block), *(chance.randrange(len(block) + 1) for _ in range(chance.choice((0, 0, 0, 1, 4))))}
        )
        parts = [block[start:end] for start, end in zip(bounds, bounds[1:] or [len(block)], strict=False)] or [b""]
        out = frame(1, flags | (0x4 if len(parts) == 1 else 0), stream, prefix + parts[0] + padding)
        for number, part in enumerate(parts[1:], 2):
            out += frame(9, 0x4 if number == len(parts) else 0, stream, part)
        return out

    def request(self) -> list[tuple[str, str]]:
        chance = self.chance
        fields = [
            (":method", chance.choice(METHODS)),
            (":scheme", chance.choice(("http", "https", "ftp"))),
            (":path", chance.choice(self.paths)),
            (":authority", f"svc{chance.randrange(3)}.local:50051"),
        ]
        chance.shuffle(fields)
        if chance.random() < 0.7:
            fields.append(("content-type", chance.choice(CONTENT_TYPES)))
        fields += self.others()
        return fields

    def others(self) -> list[tuple[str, str]]:
        chance = self.chance
        names = ("te", "user-agent", "x-id", "grpc-timeout", "cookie", "x" * 40, ":unknown")
        return [
            (chance.choice(names), f"{chance.getrandbits(chance.choice((4, 60, 900))):x}")
            for _ in range(chance.randrange(5))
        ]


def request_told(stream: int, fields: list[tuple[str, str]], time_ns: int) -> Told:
    first = dict(reversed(fields))
    number = METHOD_NUMBERS.get(first[":method"], int(HttpMethod.OTHER))
    texts = [first[":path"], first[":authority"], first[":method"] if number == HttpMethod.OTHER else ""]
    texts += [first[":scheme"] if first[":scheme"] != "http" else ""]
    lengths, text, cut = pack_text(tuple(each.encode() for each in texts))
    places = [sum(lengths[:place]) for place in range(5)]
    grpc = first.get("content-type", "").lower() in (
        "application/grpc",
        "application/grpc+proto",
        "application/grpc-web",
    )
    return Told(
        int(L7Type.REQUEST), int(L7Kind.GRPC if grpc else L7Kind.HTTP), 0, stream, number, 0, 0, 20,
        tuple(text[start:end] for start, end in itertools.pairwise(places)),
        time_ns, 0, int(Present.METHOD | Present.L7_ID), int(Flags.TEXT_CUT if cut else 0),
    )  # fmt: skip


def agrees(told: Told, true: Told) -> bool:
    """It says nothing else than the truth, and says so where it does not know all of it."""
    if told == true:
        return True
    known = (told.method, told.kind) == (true.method, true.kind) or told.flags & Flags.L7_INCOMPLETE
    texts = all(ours in (b"", theirs) for ours, theirs in zip(told.texts, true.texts, strict=True))
    return (
        bool(known and texts and told.flags & Flags.L7_INCOMPLETE)
        and told.method in (0, true.method)
        and (told.type, told.id, told.time_ns) == (true.type, true.id, true.time_ns)
    )


def segments(said: bytes, chance: random.Random) -> list[bytes]:
    """Cut all alike, or each at random."""
    same = chance.choice((*CUTS, 0, 0, 0, 0))
    out, at = [], 0
    while at < len(said):
        out.append(said[at : at + (same or chance.choice(CUTS))])
        at += len(out[-1])
    return out


def body(stream: int, chance: random.Random) -> bytes:
    return data(stream, chance.randbytes(chance.choice((5, 50, 900))))


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return Kernel()


def test_the_huffman_table_is_what_its_generator_makes():
    assert (Path(bpf.huffman.__file__).parent / "huffman.h").read_text() == bpf.huffman.header()


@pytest.mark.parametrize("name", bpf.huffman.NAMES)
def test_names_are_coded_as_python_hpack_codes_them(name):
    assert bpf.huffman.encode(name) == HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(name)


def read_whole_connections(kernel: Kernel, seeds: range) -> None:
    read = 0
    for seed in seeds:
        chance = random.Random(seed)
        speaker = Speaker(chance)
        requests = {2 * number + 1: speaker.request() for number in range(BLOCKS)}
        connection = Connection(kernel)
        connection.send(CLIENT, PREFACE + SETTINGS, 1)
        said = b"".join(speaker.headers(stream, fields) + body(stream, chance) for stream, fields in requests.items())
        for segment in segments(said, chance):
            connection.send(CLIENT, segment, 2)
        told = kernel.take()
        assert told == [request_told(stream, fields, 2_000) for stream, fields in requests.items()]
        read += len(told)
    assert read == len(seeds) * BLOCKS
    assert kernel.handed_over() == 0


@pytest.mark.ebpf
def test_blocks_of_whole_connections_read_as_python_hpack_wrote_them(kernel):
    read_whole_connections(kernel, range(CONNECTIONS))


@pytest.mark.ebpf
def test_segments_longer_than_what_is_loaded_at_once_are_read_alike(tmp_path):
    """Test runs take no segment longer than PAYLOAD_SIZE, so that is made smaller."""
    sources = Path(bpf.huffman.__file__).parent
    copied = Path(shutil.copytree(sources, tmp_path / "bpf"))
    maps = (copied / "maps.h").read_text()
    smaller = maps.replace("#define PAYLOAD_SIZE 4096", "#define PAYLOAD_SIZE 512")
    smaller = smaller.replace("#define PAYLOAD_SLACK 512", "#define PAYLOAD_SLACK 4096")
    assert smaller.count("4096") == maps.count("4096")
    (copied / "maps.h").write_text(smaller)
    build(copied / "datapath.bpf.c", tmp_path / "small.bpf.o")
    read_whole_connections(Kernel((tmp_path / "small.bpf.o").read_bytes()), range(1_000, 1_060))


@pytest.mark.ebpf
def test_entries_of_large_tables_that_are_not_kept_are_unknown_and_never_wrong(kernel):
    unknown = 0
    for seed in range(20):
        chance = random.Random(seed)
        speaker = Speaker(chance)
        speaker.encoder.header_table_size = 65_536
        connection = Connection(kernel)
        connection.send(CLIENT, PREFACE + SETTINGS, 1)
        for stream in range(1, 121, 2):
            fields = speaker.request() + [(f"x-{stream}-{number}", "v") for number in range(9)]
            connection.send(CLIENT, frame(1, 0x5, stream, speaker.encoder.encode(fields)), 2)
            (told,) = kernel.take()
            assert agrees(told, request_told(stream, fields, 2_000))
            unknown += bool(told.flags & Flags.L7_INCOMPLETE)
    assert 100 < unknown < 1_000


@pytest.mark.ebpf
@pytest.mark.parametrize("late_by", [1, 3, 9])
def test_joined_in_the_middle_nothing_is_wrong_and_known_is_what_python_knows(kernel, late_by):
    known = unknown = given = 0
    for seed in range(1_000, 1_080):
        chance = random.Random(seed)
        speaker = Speaker(chance)
        requests = {2 * number + 1: speaker.request() for number in range(BLOCKS)}
        said = [speaker.headers(stream, fields) + body(stream, chance) for stream, fields in requests.items()]
        late = [(CLIENT, each) for each in said[late_by:]]
        told = kernel.play(late, joined=True)
        if kernel.handed_over():
            assert told == []  # the first frame does not show what it is: user space decides
            given += 1
            continue
        assert told == by_python_unclosed(late)
        true = [request_told(stream, fields, 0) for stream, fields in requests.items()][late_by:]
        for ours, theirs in zip(told, true, strict=True):
            assert agrees(ours._replace(time_ns=0), theirs)
            known += ours.flags & Flags.L7_INCOMPLETE == 0
            unknown += ours.flags & Flags.L7_INCOMPLETE != 0
    assert known > 200
    assert unknown > 100
    assert given < 50
