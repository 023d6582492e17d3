"""HTTP/2 of hostile peers in the kernel: every bound is reached, nothing is told wrong, and no map grows."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer.datapath.pending import PendingRequests
from observer.l7.hpack import FIELDS_LIMIT
from observer.l7.http2 import MALFORMED_LIMIT
from observer.l7.http2_streams import GOAWAY_LIMIT
from observer.record import Flags, L7Type
from tests.datapath.http2_kernel import Connection, Kernel, by_python_unclosed
from tests.l7.http2_bytes import GET, HELLO, PING, SETTINGS, Sender, data, frame, go_away
from tests.l7.transcripts import CLIENT, SERVER, Transcript

LITERAL_GET = b"\x82\x86\x04\x02/a\x01\x01h"
GOAWAY_STREAMS = 64  # bpf/http2_streams.h
CONNECTIONS = 300


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return Kernel()


def incomplete(told) -> list[bool]:
    return [bool(each.flags & Flags.L7_INCOMPLETE) for each in told]


@pytest.mark.ebpf
@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xbe",  # an entry that was never inserted
        b"\xff" + b"\xff" * 9 + b"\x01",  # an integer of ten octets
        b"\xff\x80\x80\x80\x80\x80\x00",  # the same, and small
        b"\x00\x7f\xff\xff\xff\xff\x0fname",  # a name of four gigabytes
        b"\x04\x7f\xff\xff\xff\xff\x07/",  # a path of two
        b"\x04\x05/a",  # a string beyond the block
        b"\x82\x20",  # a size update behind a field
        b"\x04\x82\xff\xff",  # EOS in a Huffman string
        b"\x04\x81\x00",  # Huffman padding of zeros
        b"\x04\x81\xff",  # and of eight bits
        b"\x44",  # a literal without value
        b"\x40\x85\xb9\x49\x53\x39",  # a name cut off
        b"\x5f\xff\xff\xff\xff\xff\xff",
    ],
)
def test_a_malformed_block_tells_nothing_and_the_connection_goes_on(kernel, block):
    transcript = [(CLIENT, HELLO + frame(1, 5, 1, block) + frame(1, 5, 3, LITERAL_GET))]
    told = kernel.play(transcript)
    assert told == by_python_unclosed(transcript)
    assert [each.id for each in told] == [3]


@pytest.mark.ebpf
@pytest.mark.parametrize("size", [0, 31, 4_096, 1 << 16, 1 << 31, 1 << 32, (1 << 35) - 1])
def test_a_size_update_of_any_size(kernel, size):
    """Beyond what an integer of this parser may be, the block is malformed."""
    update = bytearray(b"\x3f")
    rest = size - 31 if size >= 31 else 0
    while True:
        update.append(rest & 0x7F | (0x80 if rest > 0x7F else 0))
        rest >>= 7
        if not rest:
            break
    client = Sender()
    first = client.headers(1, GET)
    transcript = [(CLIENT, HELLO + first + frame(1, 5, 3, bytes(update) + LITERAL_GET) + frame(1, 5, 5, LITERAL_GET))]
    told = kernel.play(transcript)
    assert [each.id for each in told] in ([1, 3, 5], [1, 5])
    assert set(told) <= set(by_python_unclosed(transcript))


@pytest.mark.ebpf
def test_a_header_bomb_is_bounded_and_the_connection_goes_on(kernel):
    client = Sender()
    bomb = client.headers(1, [*GET, ("x", "a" * 4_000)])
    big = frame(1, 4, 3, b"\x82\x86\x84\xbf" + b"\xbe" * 60_000)
    told = kernel.play([(CLIENT, HELLO + bomb + big + client.headers(5, GET))])
    assert [(each.id, each.texts[0]) for each in told] == [(1, b"/a"), (3, b"/"), (5, b"/a")]
    assert incomplete(told) == [False, True, False]


@pytest.mark.ebpf
@pytest.mark.parametrize(("count", "cut"), [(FIELDS_LIMIT - 4, False), (FIELDS_LIMIT - 3, True)])
def test_fields_of_a_block_are_bounded(kernel, count, cut):
    transcript = [(CLIENT, HELLO + frame(1, 4, 1, LITERAL_GET + b"\x90" * count))]
    told = kernel.play(transcript)
    assert told == by_python_unclosed(transcript)
    assert incomplete(told) == [cut]


@pytest.mark.ebpf
def test_endless_continuation_keeps_no_more_than_one_block(kernel):
    client = Sender()
    connection = Connection(kernel)
    before = len(kernel.object.map("http2_blocks"))
    connection.send(CLIENT, HELLO + frame(1, 0, 1, client.encoder.encode(GET)), 1)
    for _ in range(2_000):
        connection.send(CLIENT, frame(9, 0, 1, b"\x00\x01x\x7f\x00" + b"v" * 127), 2)
    assert kernel.take() == []
    assert len(kernel.object.map("http2_blocks")) == before + 1
    connection.send(CLIENT, frame(9, 4, 1) + client.headers(3, GET), 3)
    told = kernel.take()
    assert [(each.id, each.texts[0]) for each in told] == [(1, b"/a"), (3, b"/a")]
    assert incomplete(told) == [True, False]  # so many fields nobody sends


@pytest.mark.ebpf
def test_a_hundred_thousand_streams(kernel):
    connection = Connection(kernel)
    connection.send(CLIENT, HELLO, 1)
    told = 0
    for first in range(1, 200_000, 200):
        said = b"".join(frame(1, 4, stream, LITERAL_GET) for stream in range(first, first + 200, 2))
        connection.send(CLIENT, said, 2)
        told += len(kernel.take())
    assert told == 100_000
    pending = PendingRequests(kernel.object.map("pending_requests"), kernel.object.map("counters"))
    assert len(pending) <= pending.max_entries


@pytest.mark.ebpf
def test_many_frames_in_one_segment(kernel):
    pings = PING * 150
    said = HELLO + pings + b"".join(frame(1, 4, stream, LITERAL_GET) for stream in range(1, 301, 2)) + pings
    assert len(kernel.play([(CLIENT, said)])) == 150


@pytest.mark.ebpf
@pytest.mark.parametrize(
    "said", [frame(1, 5, 1, b"\x80"), frame(1, 0xC, 1, b"\x09\x82"), frame(1, 0, 1, b"\x82") + PING]
)
def test_malformed_blocks_are_bounded(kernel, said):
    connection = Connection(kernel)
    connection.send(CLIENT, HELLO, 1)
    for _ in range(MALFORMED_LIMIT - 1):
        connection.send(CLIENT, said, 2)
    connection.send(CLIENT, frame(1, 5, 101, LITERAL_GET), 3)
    assert [each.id for each in kernel.take()][-1] == 101
    connection.send(CLIENT, said + frame(1, 5, 103, LITERAL_GET), 4)
    connection.send(CLIENT, frame(1, 5, 105, LITERAL_GET), 5)
    assert not {103, 105} & {each.id for each in kernel.take()}


@pytest.mark.ebpf
def test_goaways_that_are_acted_upon_are_bounded(kernel):
    client = Sender()
    asked = b"".join(client.headers(stream, GET) for stream in range(1, 80, 2))
    said = b"".join(go_away(last) for last in range(77, 1, -2))
    told = kernel.play([(CLIENT, HELLO + asked), (SERVER, SETTINGS + said)])
    assert sum(each.type == L7Type.RESPONSE for each in told) == GOAWAY_LIMIT


@pytest.mark.ebpf
def test_streams_that_one_goaway_ends_are_bounded(kernel):
    client = Sender()
    asked = b"".join(client.headers(stream, GET) for stream in range(1, 401, 2))
    told = kernel.play([(CLIENT, HELLO + asked), (SERVER, SETTINGS + go_away(0))])
    ended = [each.id for each in told if each.type == L7Type.RESPONSE]
    assert ended == list(range(401 - 2 * GOAWAY_STREAMS, 401, 2))


@pytest.mark.ebpf
def test_what_the_maps_cannot_hold_is_unknown_and_never_wrong():
    """Tables, texts and unfinished blocks of far more connections than there is room for, in turns."""
    kernel = Kernel(hpack_tables=128, hpack_texts=256, http2_blocks=32)
    senders = [Sender() for _ in range(CONNECTIONS)]
    connections = [Connection(kernel) for _ in range(CONNECTIONS)]
    for connection in connections:
        connection.send(CLIENT, HELLO, 1)
    known = unknown = 0
    for stream in (1, 3, 5, 7):
        rests = []
        for number, (connection, sender) in enumerate(zip(connections, senders, strict=True)):
            said = sender.headers(stream, [*GET[:2], (":path", f"/{number}"), (":authority", f"h{number}")])
            cut = len(said) // 2
            connection.send(CLIENT, said[:cut], 2)
            rests.append(said[cut:])
        told = kernel.take()
        for connection, rest in zip(connections, rests, strict=True):
            connection.send(CLIENT, rest, 3)
        told += kernel.take()
        for each in told:
            number = int(each.texts[0][1:] or b"-1")
            assert each.texts[1] in (b"", b"h%d" % number) or number < 0
            assert incomplete([each]) == [number < 0 or not each.texts[1]]
            known += number >= 0
            unknown += number < 0
    assert known > 10
    assert unknown > 10
    for connection in connections[:10]:  # by turns no longer: what comes whole and by itself is known again
        connection.send(CLIENT, frame(1, 5, 99, LITERAL_GET), 4)
    assert [(each.texts[0], each.flags) for each in kernel.take()] == [(b"/a", 0)] * 10


@pytest.mark.ebpf
@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.sampled_from((CLIENT, SERVER)), st.binary(max_size=90)), max_size=8))
def test_random_octets_tell_nothing_that_python_does_not(kernel, transcript):
    said: Transcript = [(CLIENT, HELLO), (SERVER, SETTINGS), *transcript]
    assert len(kernel.play(said)) <= len(by_python_unclosed(said))


@pytest.mark.ebpf
@settings(deadline=None, max_examples=150)
@given(st.integers(0, 1 << 32), st.lists(st.tuples(st.integers(0, 1 << 12), st.integers(0, 255)), max_size=4))
def test_mutated_frames_never_hang(kernel, seed, changes):
    chance = random.Random(seed)
    client = Sender()
    said = bytearray(
        b"".join(
            client.headers(2 * n + 1, GET, pieces=chance.randrange(1, 4)) + data(2 * n + 1, b"x") for n in range(9)
        )
    )
    for place, octet in changes:
        said[place % len(said)] = octet
    told = kernel.play([(CLIENT, HELLO), (CLIENT, bytes(said))])
    assert len(told) <= len(said) // 9
