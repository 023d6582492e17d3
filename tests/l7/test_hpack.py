"""HPACK against python-hpack and the RFC: whole connections, joined in the middle, malformed, beyond the bounds."""

import random

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.l7.hpack import (
    FIELDS_LIMIT,
    INDEX_LIMIT,
    OUTPUT_LIMIT,
    STATIC_TABLE,
    TABLE_LIMIT,
    HpackDecoder,
    HpackError,
)
from observer.l7.huffman import CACHED_STRINGS, HuffmanError, _decoded, huffman_decode

NAMES = [b":path", b":method", b"content-type", b"cookie", b"etag", *(b"x-%d" % n for n in range(30))]
TABLE_SIZES = (0, 100, 500, 4_096, 9_000, 65_536, 100_000)


def blocks(seed: int, count: int) -> list[tuple[bytes, list[tuple[bytes, bytes]]]]:
    """Header blocks of one connection as python-hpack encodes them, and the fields that they hold."""
    chance = random.Random(seed)
    encoder = hpack.Encoder()
    out = []
    for _ in range(count):
        if chance.random() < 0.08:
            encoder.header_table_size = chance.choice(TABLE_SIZES)
        fields = []
        for _ in range(chance.randrange(1, 14)):
            size = chance.choice((0, 1, 5, 20, 60, 1_000 if chance.random() < 0.1 else 3))
            value = chance.randbytes(size) if chance.random() < 0.4 else b"v%d" % chance.randrange(20)
            fields.append((chance.choice(NAMES), value))
        sensitive = [(*field, chance.random() < 0.1) for field in fields]
        out.append((encoder.encode(sensitive, huffman=chance.random() < 0.7), fields))
    return out


def test_whole_connections_read_as_python_hpack_wrote_them():
    read = 0
    for seed in range(250):
        decoder = HpackDecoder()
        oracle = hpack.Decoder()
        oracle.max_allowed_table_size = max(TABLE_SIZES)
        for block, fields in blocks(seed, 20):
            ours = decoder.decode(block)
            assert [tuple(field) for field in oracle.decode(block, raw=True)] == fields
            if decoder.late:  # its table grew beyond what is kept
                assert agrees(ours, fields)
            else:
                assert ours == fields
            assert not decoder.cut
            read += 1
    assert read == 5_000


def agrees(ours, fields) -> bool:
    return len(ours) == len(fields) and all(
        name in (None, true_name) and value in (None, true_value)
        for (name, value), (true_name, true_value) in zip(ours, fields, strict=True)
    )


class Shadow(hpack.Decoder):
    """python-hpack's decoder, numbering insertions, to know which fields come from before one joined."""

    def __init__(self):
        super().__init__()
        self.max_allowed_table_size = max(TABLE_SIZES)
        self.births: list[int] = []
        self.now = self.recent = 0
        self.origins: list[int] = []
        table = self.header_table
        added = table.add

        def add(name, value):
            added(name, value)
            self.births.insert(0, min(self.now, self.recent))  # an entry is no older than the name it took

        def get_by_index(index, looked=table.get_by_index):
            born = self.births[index - len(STATIC_TABLE) - 1] if index > len(STATIC_TABLE) else self.now
            self.origins.append(born)
            self.recent = born
            return looked(index)

        table.add = add
        table.get_by_index = get_by_index

    def _decode_literal(self, data, should_index):
        self.recent = self.now
        return super()._decode_literal(data, should_index)


@pytest.mark.parametrize("late_by", [1, 3, 9])
def test_joined_in_the_middle_nothing_is_wrong_and_only_the_unknowable_unknown(late_by):
    known = unknown = 0
    for seed in range(1_000, 1_080):
        decoder = HpackDecoder(late=True)
        shadow = Shadow()
        for number, (block, fields) in enumerate(blocks(seed, 20)):
            shadow.now, shadow.origins = number, []
            shadow.decode(block, raw=True)
            if number < late_by:
                continue
            ours = decoder.decode(block)
            assert agrees(ours, fields)
            missing = sum(None in field for field in ours)
            # What was inserted before it joined, and no more; unless a larger table was announced than is kept.
            if shadow.header_table.maxsize <= TABLE_LIMIT:
                assert missing <= sum(born < late_by for born in shadow.origins)
            known += len(ours) - missing
            unknown += missing
    assert known > 3_000
    assert unknown > 100


def test_after_lost_bytes_nothing_is_wrong():
    chance = random.Random(7)
    known = 0
    for seed in range(2_000, 2_060):
        decoder = HpackDecoder()
        for block, fields in blocks(seed, 20):
            if chance.random() < 0.2:
                decoder.lose()
                continue
            ours = decoder.decode(block)
            assert agrees(ours, fields)
            known += sum(None not in field for field in ours)
    assert known > 4_000


@given(st.integers(0, 10_000), st.integers(0, 400))
def test_the_beginning_of_a_block(seed, cut):
    ((block, fields),) = blocks(seed, 1)
    decoder = HpackDecoder()
    ours = decoder.decode(block[: min(cut, len(block))], whole=False)
    assert ours == fields[: len(ours)]
    assert decoder.cut
    assert decoder.late


# RFC 7541, appendix C.4 and C.6: requests and responses with Huffman coding, one connection each
REQUESTS = [
    ("828684418cf1e3c2e5f23a6ba0ab90f4ff", [(":path", "/"), (":authority", "www.example.com")]),
    ("828684be5886a8eb10649cbf", [(":authority", "www.example.com"), ("cache-control", "no-cache")]),
    (
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        [(":scheme", "https"), (":path", "/index.html"), ("custom-key", "custom-value")],
    ),
]


def test_the_examples_of_the_rfc():
    decoder = HpackDecoder()
    for block, fields in REQUESTS:
        got = decoder.decode(bytes.fromhex(block))
        assert [(name.encode(), value.encode()) for name, value in fields] == [
            field for field in got if field in [(name.encode(), value.encode()) for name, value in fields]
        ]
    assert len(STATIC_TABLE) == 61
    assert tuple(hpack.table.HeaderTable.STATIC_TABLE) == STATIC_TABLE


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xbe",  # 62, and the table is empty
        b"\x7e\x01x",  # the name of an entry that is not there
        b"\x82\x20",  # size update after a field
        b"\xff",  # integer cut off
        b"\xff\xff\xff\xff\xff\xff\x01",  # integer too large
        b"\x40",  # a literal without its strings
        b"\x40\x01",
        b"\x40\x01a",
        b"\x40\x01a\x05b",
        b"\x40\x01a\x81\x00",  # wrong padding
        b"\x40\x01a\x82\xff\xff",  # eight bits of padding and more
        b"\x40\x01a\x84\xff\xff\xff\xff",  # EOS
    ],
)
def test_malformed_blocks(block):
    decoder = HpackDecoder()
    with pytest.raises(HpackError):
        decoder.decode(block)
    assert decoder.late  # nothing is known of the table any more
    assert decoder.decode(b"\xbe") == [(None, None)]


@given(st.binary(max_size=200), st.booleans(), st.booleans())
def test_random_blocks_raise_nothing_else(block, late, whole):
    decoder = HpackDecoder(late=late)
    for _ in range(2):
        try:
            decoder.decode(block, whole=whole)
        except HpackError:
            assert decoder.late


def test_huffman_agrees_with_python_hpack():
    chance = random.Random(3)
    encode = hpack.huffman.HuffmanEncoder(
        hpack.huffman_constants.REQUEST_CODES, hpack.huffman_constants.REQUEST_CODES_LENGTH
    )
    for size in range(300):
        text = chance.randbytes(size)
        assert huffman_decode(encode.encode(text)) == text
    assert all(huffman_decode(encode.encode(bytes([octet]))) == bytes([octet]) for octet in range(256))
    with pytest.raises(HuffmanError):
        huffman_decode(b"\xff\xff\xff\xff")


# Bounds


def test_strings_remembered_are_bounded():
    encode = hpack.huffman.HuffmanEncoder(
        hpack.huffman_constants.REQUEST_CODES, hpack.huffman_constants.REQUEST_CODES_LENGTH
    )
    for number in range(CACHED_STRINGS + 10):
        huffman_decode(encode.encode(b"%d" % number))
        assert len(_decoded) <= CACHED_STRINGS


def test_fields_of_a_block_are_bounded():
    decoder = HpackDecoder()
    assert len(decoder.decode(b"\x82" * FIELDS_LIMIT)) == FIELDS_LIMIT
    assert not decoder.cut
    assert len(decoder.decode(b"\x82" * 60_000)) == FIELDS_LIMIT
    assert decoder.cut


def test_a_header_bomb_gives_no_more_than_its_limit_and_the_table_goes_on():
    encoder = hpack.Encoder()
    bomb = encoder.encode([(b"x", b"a" * 4_000)], huffman=False)
    decoder = HpackDecoder()
    decoder.decode(bomb)
    fields = decoder.decode(b"\xbe" * 60_000 + b"\x40\x01y\x01z")
    assert sum(len(name) + len(value) for name, value in fields) <= OUTPUT_LIMIT
    assert decoder.cut
    assert decoder.decode(b"\xbe") == [(b"y", b"z")]
    assert not decoder.cut


@pytest.mark.parametrize("late", [False, True])
def test_the_table_is_bounded(late):
    decoder = HpackDecoder(late=late)
    decoder.decode(b"\x3f\xe1\xff\xff\x03")  # size update to 8,388,608
    assert decoder.late
    for number in range(3_000):
        decoder.decode(b"\x40\x04%04d\x40" % number + b"v" * 64)
        assert decoder._size <= TABLE_LIMIT
    assert len(decoder._entries) * 100 <= TABLE_LIMIT
    assert decoder.decode(b"\xff" + _integer(62 + 2_000 - 127)) == [(None, None)]


def _integer(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def test_an_index_that_nobody_has_is_malformed_even_to_a_latecomer():
    decoder = HpackDecoder(late=True)
    assert decoder.decode(b"\xff" + _integer(INDEX_LIMIT - 127)) == [(None, None)]
    with pytest.raises(HpackError):
        decoder.decode(b"\xff" + _integer(INDEX_LIMIT - 126))


def test_an_emptied_table_is_known_even_to_a_latecomer():
    decoder = HpackDecoder(late=True)
    decoder.decode(b"\x20\x3f\xe1\x1f\x40\x01a\x01b")  # to 0, to 4,096, an insertion
    assert not decoder.late
    assert decoder.decode(b"\xbe") == [(b"a", b"b")]
    with pytest.raises(HpackError):
        decoder.decode(b"\xbf")
