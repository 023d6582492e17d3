"""HTTP/2 and gRPC messages as the kernel tells them: the same as the Python parser's, however the octets are cut."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer.record import Flags, L7Type, Present
from tests.datapath.http2_kernel import Connection, Kernel, Told, by_python_unclosed
from tests.l7.http2_bytes import CALL, GET, GRPC_OK, HELLO, PING, SETTINGS, Sender, data, frame, message
from tests.l7.test_http2 import TABLE, h2_transcript
from tests.l7.transcripts import CLIENT, SERVER, Transcript, holed, pieces

JOINED = {
    "joined in the middle: the client's frames",
    "joined in a body",
    "a response to what was asked before",
}
"""Connections whose beginning was not seen."""

GIVEN = {
    "joined in the middle: the client's frames": 0,  # its first segment does not show whose it is
    "joined in a body": 0,
    "a gap beyond a frame": 1,
    "a gap in a header block: what came before it": 0,
    "a PING of another length": 0,
}
"""What user space goes on with, and how many messages the kernel has told before."""

UNKNOWN = {
    "push": (2, {"texts", "method", "present", "flags"}),  # what the server promises is not remembered
    "gRPC-Web: trailers in the body": (1, {"grpc_status", "present", "flags"}),  # bodies are not read
}
"""A message, and which of its columns the kernel does not know where Python does."""

UNTOLD = {"padding longer than the frame": 0}
"""A message of Python's that the kernel does not tell."""


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return Kernel()


def expected(name: str, transcript: Transcript) -> list[Told]:
    told = by_python_unclosed(transcript)
    if name in GIVEN:
        return told[: GIVEN[name]]
    if name in UNTOLD:
        del told[UNTOLD[name]]
    return told


def heard(kernel: Kernel, name: str, transcript: Transcript, cut=None) -> list[Told]:
    told = kernel.play(transcript, cut, joined=name in JOINED)
    assert bool(kernel.handed_over()) == (name in GIVEN)
    return told


@pytest.mark.ebpf
@pytest.mark.parametrize("name", TABLE)
def test_transcript(kernel, name):
    transcript = TABLE[name][0]
    told = heard(kernel, name, transcript)
    true = expected(name, transcript)
    if name in UNKNOWN:
        place, columns = UNKNOWN[name]
        ours, theirs = told[place]._asdict(), true[place]._asdict()
        assert {column for column in ours if ours[column] != theirs[column]} == columns
        assert told[place].flags == theirs["flags"] | Flags.L7_INCOMPLETE
        told[place] = true[place]
    assert told == true


def after_the_first(cut):
    """The preface and SETTINGS come whole: what a connection begins with, and shorter than any segment."""

    def cut_later(said: bytes) -> list[bytes]:
        return [said] if said.startswith((b"PRI", SETTINGS)) else cut(said)

    return cut_later


@pytest.mark.ebpf
@pytest.mark.parametrize("name", sorted(set(TABLE) - set(GIVEN) - JOINED))
def test_octet_by_octet_is_the_same(kernel, name):
    transcript = TABLE[name][0]
    cut = after_the_first(lambda said: [said[at : at + 1] for at in range(len(said))])
    assert heard(kernel, name, transcript, cut) == heard(kernel, name, transcript)


@pytest.mark.ebpf
@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([TABLE[name][0] for name in sorted(set(TABLE) - set(GIVEN) - JOINED)]),
    st.lists(st.integers(0, 1 << 12), max_size=8),
)
def test_cut_anywhere_is_the_same(kernel, transcript, cuts):
    cut = after_the_first(lambda said: pieces(said, cuts))
    assert kernel.play(transcript, cut) == kernel.play(transcript)


@pytest.mark.ebpf
def test_python_h2_is_heard_as_python_hears_it(kernel):
    told = 0
    for seed in range(60):
        transcript, lines = h2_transcript(seed)
        chance = random.Random(seed)
        cut = after_the_first(lambda said: pieces(said, [chance.randrange(1 << 12) for _ in range(3)]))  # noqa: B023
        heard = kernel.play(transcript, cut)
        assert heard == by_python_unclosed(transcript)
        assert len(heard) == len(lines)
        told += len(heard)
    assert told > 1_000
    assert kernel.handed_over() == 0


@pytest.mark.ebpf
def test_python_h2_joined_in_the_middle_is_not_misheard(kernel):
    """Every message is what the whole connection's is, or says that it is incomplete."""
    known = 0
    for seed in range(60):
        transcript, _ = h2_transcript(seed)
        start = random.Random(seed).randrange(3, len(transcript) - 2)
        whole = {(each.type, each.id): each for each in by_python_unclosed(transcript)}
        for each in kernel.play(transcript[start:], joined=True):
            true = whole[each.type, each.id]
            if not each.flags & Flags.L7_INCOMPLETE:
                assert each._replace(time_ns=0, latency_ns=0) == true._replace(time_ns=0, latency_ns=0)
                known += 1
            assert each.code in (0, true.code)
    assert known > 100


@pytest.mark.ebpf
def test_python_h2_with_gaps_is_not_misheard(kernel):
    known = 0
    for seed in range(40):
        transcript, _ = h2_transcript(seed)
        whole = {(each.type, each.id): each for each in by_python_unclosed(transcript)}
        for each in kernel.play(holed(transcript, random.Random(seed))):
            if not each.flags & Flags.L7_INCOMPLETE:
                true = whole[each.type, each.id]
                assert each._replace(time_ns=0, latency_ns=0) == true._replace(time_ns=0, latency_ns=0)
                known += 1
    assert known > 80


@pytest.mark.ebpf
@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x0a", bytes(300)])
def test_a_server_that_speaks_something_else_is_not_misheard(kernel, said):
    assert kernel.play([(CLIENT, HELLO), (SERVER, said)]) == []


@pytest.mark.ebpf
def test_a_server_that_speaks_first_is_heard(kernel):
    client, server = Sender(), Sender()
    transcript = [
        (SERVER, SETTINGS),
        (CLIENT, HELLO + client.headers(1, CALL)),
        (SERVER, server.headers(1, GRPC_OK) + data(1, message()) + server.headers(1, [("grpc-status", "7")], end=True)),
    ]
    asked, answered = kernel.play(transcript)
    assert (asked.texts[0], answered.grpc_status) == (b"/p.Svc/Do", 7)
    assert answered.present & Present.GRPC_STATUS
    assert kernel.handed_over() == 0


@pytest.mark.ebpf
def test_a_client_without_preface_is_left_to_user_space(kernel):
    assert kernel.play([(SERVER, SETTINGS), (CLIENT, b"GET / HTTP/1.1\r\n\r\n" * 3)]) == []
    assert kernel.handed_over()


@pytest.mark.ebpf
@pytest.mark.parametrize(
    ("value", "status"),
    [("0", 0), ("16", 16), ("255", 255), ("007", 7), ("256", None), ("1000", None), ("-1", None), ("x", None)],
)
@pytest.mark.parametrize("huffman", [True, False])
def test_grpc_status(kernel, value, status, huffman):
    client, server = Sender(), Sender()
    trailers = server.encoder.encode([("grpc-status", value)], huffman=huffman)
    answer = SETTINGS + frame(1, 4, 1, b"\x88") + frame(1, 5, 1, trailers)
    told = kernel.play([(CLIENT, HELLO + client.headers(1, CALL)), (SERVER, answer)])
    assert [each.type for each in told] == [L7Type.REQUEST, L7Type.RESPONSE]
    assert (told[1].grpc_status if told[1].present & Present.GRPC_STATUS else None) == status


@pytest.mark.ebpf
@pytest.mark.parametrize("content_type", [
    "application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8", "Application/GRPC-web+json",
    "application/grpc-web-text", "application/grpc-web-textx", "application/grpcx", "application/grpc-foo",
    "application\x0fgrpc", "application/grpc\r", "application/json", "", "application/grp",
])  # fmt: skip
def test_kind_by_content_type(kernel, content_type):
    transcript = [(CLIENT, HELLO + Sender().headers(1, [*CALL[:5], ("content-type", content_type)]))]
    assert kernel.play(transcript) == by_python_unclosed(transcript)


@pytest.mark.ebpf
@pytest.mark.parametrize("size", [0, 1, 200, 254, 255, 256, 300, 2_047, 2_048, 2_049, 4_095, 4_096, 4_097, 9_000])
@pytest.mark.parametrize("huffman", [True, False])
def test_texts_of_any_length(kernel, size, huffman):
    fields = [*GET[:2], (":path", "/" + "p" * size), (":authority", "h" * (size // 9))]
    encoder = Sender().encoder
    blocks = [frame(1, 5, stream, encoder.encode(fields, huffman=huffman)) for stream in (1, 3)]
    transcript = [(CLIENT, HELLO + b"".join(blocks))]
    told = kernel.play(transcript)
    assert told == by_python_unclosed(transcript)
    assert len(told) == 2
    assert bool(told[0].flags & Flags.TEXT_CUT) == (size > 254)


@pytest.mark.ebpf
def test_a_connection_that_is_used_again_begins_anew(kernel):
    """Ports are used again: what the last connection's tables held is not this one's."""
    connection = Connection(kernel)
    for path in ("/one", "/two"):
        sender = Sender()
        fields = [*GET[:2], (":path", path), GET[3]]
        connection.send(CLIENT, HELLO + sender.headers(1, fields) + sender.headers(3, fields), 1)
        assert [each.texts[0].decode() for each in kernel.take()] == [path] * 2
        connection.sequence = [each + 1_000_000 for each in connection.sequence]
        connection.open()


@pytest.mark.ebpf
def test_octets_that_come_twice_are_read_once(kernel):
    connection = Connection(kernel)
    client = Sender()
    connection.send(CLIENT, HELLO + client.headers(1, GET), 1)
    said = client.headers(3, GET)
    for _ in range(3):
        connection.segment(CLIENT, said, 16, 2)
    connection.sequence[CLIENT] += len(said)
    connection.send(CLIENT, PING + client.headers(5, [*GET[:2], (":path", "/b"), GET[3]]), 3)
    assert [(each.id, each.texts[0]) for each in kernel.take()] == [(1, b"/a"), (3, b"/a"), (5, b"/b")]
