"""Conversations: held until detected, roles set right, joined in the middle, bounded while undecided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.l7 import conversation
from observer.l7.conversation import PARSERS, PROBE_LIMIT, TUNNELS, Conversation
from observer.l7.detect import Detected
from observer.l7.message import Side
from observer.losses import Losses
from tests.l7.test_dns import answer, framed, query
from tests.l7.test_http1 import GARBAGE, GET, NOT_FOUND, OK, SEEN, TRANSCRIPTS
from tests.l7.transcripts import CLIENT, SERVER, Transcript, brief, pieces, play_counted

PORTS = (40000, 8080)


def talk(losses: Losses) -> Conversation:
    return Conversation(losses, PORTS)


MALFORMED = {("http1", "malformed request line"): 1}
TABLE: dict[str, tuple[Transcript, list[str], dict[tuple[str, str], int]]] = {
    "from the start": ([(CLIENT, GET), (SERVER, OK)], SEEN, {}),
    "DNS over TCP": ([(CLIENT, framed(query())), (SERVER, framed(answer()))], ["A? q.", "A! q. 0"], {}),
    "joined in a response's body": ([(SERVER, b"...rest"), (CLIENT, GET), (SERVER, OK)], SEEN, {}),
    "joined in a request's body": (
        [(CLIENT, b"...rest"), (SERVER, OK), (CLIENT, GET), (SERVER, OK)],
        ["200", *SEEN],
        {},
    ),
    "TLS to a plain port": ([(CLIENT, b"\x16\x03\x01\x00"), (SERVER, NOT_FOUND)], ["404"], {}),
    "a request without version": ([(CLIENT, b"GET /\r\n\r\n"), (SERVER, NOT_FOUND)], ["404"], MALFORMED),
    "the same, and more of it": (
        [(CLIENT, b"GET /\r\n\r\n"), (CLIENT, b"more"), (SERVER, NOT_FOUND), (CLIENT, GET)],
        ["404", "GET h /a"],
        MALFORMED,
    ),
    "a gap in the first line": ([(CLIENT, GET[:5]), (CLIENT, 9), (CLIENT, GET), (SERVER, OK)], SEEN, {}),
    "a gap, then silence": ([(SERVER, b"\xff"), (SERVER, 9), (CLIENT, GET), (SERVER, b"x" + OK)], SEEN, {}),
    "an unfinished word, then the other side's start": ([(SERVER, b"HTT"), (CLIENT, GET), (SERVER, OK)], SEEN, {}),
    "SSH": ([(SERVER, b"SSH-2.0-x\r\n"), (CLIENT, b"SSH-2.0-y\r\n"), (CLIENT, GET)], [], {}),
    "a line that is never finished": (
        [(CLIENT, b"GET /" + b"a" * PROBE_LIMIT), (SERVER, b"\xff"), (CLIENT, GET)],
        [],
        {},
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_transcript(name):
    transcript, messages, counters = TABLE[name]
    told, losses = play_counted(talk, transcript)
    assert [brief(message) for message in told] == messages
    assert losses == counters


@given(
    st.sampled_from([*TRANSCRIPTS, *(entry[0] for entry in TABLE.values())]),
    st.lists(st.integers(0, 1 << 12), max_size=8),
)
def test_cut_anywhere_is_the_same(transcript, cuts):
    assert play_counted(talk, transcript, lambda data: pieces(data, cuts)) == play_counted(talk, transcript)


@pytest.mark.parametrize("transcript", [entry[0] for name, entry in TABLE.items() if "never" not in name])
def test_byte_by_byte_is_the_same(transcript):
    whole = play_counted(talk, transcript)
    assert play_counted(talk, transcript, lambda data: pieces(data, range(len(data)))) == whole


@given(GARBAGE, st.lists(st.integers(0, 400), max_size=8))
def test_random_bytes_never_raise_and_mean_the_same_however_cut(transcript, cuts):
    assert play_counted(talk, transcript, lambda data: pieces(data, cuts)) == play_counted(talk, transcript)


def test_roles_are_swapped_where_the_caller_guessed_wrong():
    talked = talk(Losses())
    (answered,) = talked.feed(Side.CLIENT, OK, 1)
    assert talked.roles_swapped
    assert answered.side is Side.SERVER
    (asked,) = talked.feed(Side.SERVER, GET, 2)  # the caller's sides stay the caller's
    assert asked.side is Side.CLIENT
    talked.gap(Side.CLIENT, 100)
    assert [brief(message) for message in talked.feed(Side.CLIENT, OK, 3)] == ["200 to GET /a"]


@pytest.mark.parametrize(("data", "swapped"), [(query(), False), (answer(), True)])
def test_roles_of_datagrams(data, swapped):
    talked = Conversation(Losses(), (40000, 53), is_datagram=True)
    (message,) = talked.feed(Side.CLIENT, data, 1)
    assert talked.kind is Detected.DNS_DATAGRAM
    assert (talked.roles_swapped, message.side) == (swapped, Side.SERVER if swapped else Side.CLIENT)


def test_multicast_dns_has_no_roles():
    talked = Conversation(Losses(), (5353, 5353), is_datagram=True)
    assert [message.side for message in talked.feed(Side.CLIENT, answer(), 1)] == [Side.CLIENT]
    assert not talked.roles_swapped


def test_times_are_those_of_the_segments_held():
    talked = talk(Losses())
    assert talked.feed(CLIENT, GET[:3], 10) == []
    assert [message.time_ns for message in talked.feed(CLIENT, GET[3:] + GET, 20)] == [20, 20]
    talked = talk(Losses())
    assert talked.feed(SERVER, b"\xff", 10) == []
    assert [each.time_ns for each in talked.feed(CLIENT, GET, 20)] == [20]
    talked = talk(Losses())
    assert talked.feed(CLIENT, b"GET /\r\n\r\n" + GET, 10) == []  # broken, or of another protocol
    told = talked.feed(SERVER, OK, 20)
    assert [(brief(each), each.time_ns) for each in told] == [("200", 20)]


def test_opaque_when_both_sides_speak_nothing_that_is_read():
    talked = talk(Losses())
    talked.feed(CLIENT, b"\x17\x03\x01", 1)
    assert not talked.opaque
    talked.feed(SERVER, b"\x17\x03\x03", 1)
    assert talked.opaque
    assert talked.feed(CLIENT, GET, 2) == talked.close(CLIENT) == []
    talked.gap(CLIENT, 5)
    assert talked.opaque


@pytest.mark.parametrize(
    ("joined", "limit"), [(False, conversation.SILENCE_LIMIT), (True, conversation.JOINED_SILENCE_LIMIT)]
)
def test_opaque_when_one_side_speaks_and_speaks_and_is_not_answered(joined, limit):
    talked = Conversation(Losses(), (40000, 80), joined=joined)
    piece = bytes(1 << 16)
    for _ in range(limit // len(piece)):
        talked.feed(CLIENT, piece, 1)
    assert not talked.opaque
    talked.feed(CLIENT, b"x", 1)
    assert talked.opaque


def test_opaque_also_where_only_pieces_of_it_were_seen():
    talked = talk(Losses())
    for _ in range(conversation.SILENCE_LIMIT >> 16):
        talked.feed(CLIENT, b"\xff" * 100, 1)
        talked.gap(CLIENT, 1 << 16)
    talked.feed(CLIENT, b"\xff", 1)
    assert talked.opaque


def test_an_answer_to_much_that_is_not_read_is_read():
    talked = talk(Losses())
    talked.feed(SERVER, b"HTTP/1.1 200", 1)
    for _ in range(2 * conversation.SILENCE_LIMIT >> 16):
        talked.feed(CLIENT, bytes(1 << 16), 1)
    assert len(talked.feed(SERVER, b" OK\r\nContent-Length: 0\r\n\r\n", 2)) == 1


def test_opaque_as_the_parser_says():
    talked = talk(Losses())
    talked.feed(CLIENT, GET, 1)
    assert not talked.opaque
    talked.feed(SERVER, b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 2)
    assert talked.opaque


CONNECT = b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def test_what_a_tunnel_carries_is_looked_at_anew():
    conversation = talk(Losses())
    told = conversation.feed(CLIENT, CONNECT + GET, 1)
    told += conversation.feed(SERVER, ESTABLISHED + OK, 2)
    assert [(message.side, message.texts[0], message.code) for message in told] == [
        (CLIENT, b"a:1", None),
        (SERVER, b"a:1", 200),
        (CLIENT, b"/a", None),
        (SERVER, b"/a", 200),
    ]


def test_tunnels_in_tunnels_are_entered_to_a_limit():
    conversation = talk(Losses())
    told = []
    for _ in range(TUNNELS + 1):
        told += conversation.feed(CLIENT, CONNECT, 1)
        told += conversation.feed(SERVER, ESTABLISHED, 2)
    assert len(told) == 2 * (TUNNELS + 1)
    assert conversation.opaque
    assert conversation.feed(CLIENT, GET, 3) == []


def test_datagrams_of_another_protocol_become_opaque():
    talked = Conversation(Losses(), (40000, 443), is_datagram=True)
    for _ in range(conversation.DATAGRAM_PROBES):
        assert not talked.opaque
        assert talked.feed(CLIENT, b"\xc0\0\0\1quic", 1) == []
    assert talked.opaque


def test_what_is_held_while_undecided_is_bounded():
    talked = talk(Losses())
    for data in (b"GET /", b"x" * 1000):
        for _ in range(200):
            talked.feed(CLIENT, data, 1)
            assert len(talked._probes[CLIENT].data) <= PROBE_LIMIT + 1000
    for _ in range(200):
        talked.feed(SERVER, b"\xff" * 1000, 1)
    assert talked.opaque
    assert not talked._probes


def test_every_kind_has_a_parser():
    assert set(PARSERS) == set(Detected) - {Detected.MORE, Detected.NONE}
