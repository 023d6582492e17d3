"""HTTP/2: transcripts in, messages and counters out; the same however the bytes were cut; joined late; bounded."""

import random
from collections.abc import Callable

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer.l7 import http2, http2_streams
from observer.l7.conversation import Conversation
from observer.l7.detect import Detected
from observer.l7.hpack import FIELDS_LIMIT, OUTPUT_LIMIT
from observer.l7.http2 import HEADER_BLOCK_LIMIT, MALFORMED_LIMIT, SECTION_SIZE, SECTIONS_LIMIT, Http2
from observer.l7.http2_direction import State
from observer.l7.http2_frames import PREFACE, SEARCH_LIMIT, SEARCH_PIECE_COST, FrameSearch, FrameType, looks_like
from observer.l7.http2_streams import GOAWAY_LIMIT, REMEMBERED_LIMIT, RESET_LIMIT, STREAM_LIMIT
from observer.l7.message import Message, Side
from observer.losses import Losses
from observer.record import HttpMethod, L7Kind, L7Type
from tests.l7.http2_bytes import (
    ACK,
    CALL,
    GET,
    GRPC_END,
    GRPC_OK,
    HELLO,
    OK,
    PING,
    SETTINGS,
    WINDOW,
    Sender,
    data,
    frame,
    go_away,
    message,
    reset,
)
from tests.l7.transcripts import CLIENT, SERVER, Transcript, holed, pieces, play_counted

JUNK = bytes(range(256)) * 40


def say(told: Message) -> str:
    """`1 GET h /a`, `1 200 to /a`, and `?` where something is unknown."""
    texts = (*told.texts, b"", b"", b"")
    kind = "grpc " if told.kind is L7Kind.GRPC else ""
    doubt = "?" if told.incomplete else ""
    if told.type is L7Type.REQUEST:
        method = texts[2].decode() if told.method == HttpMethod.OTHER else HttpMethod(told.method or 0).name
        return f"{kind}{told.id} {method} {texts[1].decode()} {texts[0].decode()}{doubt}"
    assert (told.latency_ns is not None) == (told.request is not None)
    extension = told.extension or {}
    status = extension.get("grpc", {}).get("status_name", "")
    ended = extension.get("http2", {})
    more = f" {status}" if status else ""
    more += "".join(f" {name}={ended[name]}" for name in ("reset", "reset_by", "goaway", "pushed") if name in ended)
    return f"{kind}{told.id} {told.code} to {texts[0].decode()}{more}{doubt}"


def made(build: Callable[[Sender, Sender], Transcript]) -> Transcript:
    return build(Sender(), Sender())


def whole(build: Callable[[Sender, Sender], Transcript]) -> Transcript:
    return [(CLIENT, HELLO), (SERVER, SETTINGS + ACK), (CLIENT, ACK), *made(build)]


SEEN = ["1 GET h /a", "1 200 to /a"]
CALLED = ["grpc 1 POST h /p.Svc/Do", "grpc 1 200 to /p.Svc/Do OK"]
POST = [(":method", "POST"), *GET[1:]]
TABLE: dict[str, tuple[Transcript, list[str], dict[str, int]]] = {
    "one exchange": (
        whole(
            lambda c, s: [(CLIENT, c.headers(1, GET, end=True)), (SERVER, s.headers(1, OK) + data(1, b"x", end=True))]
        ),
        SEEN,
        {},
    ),
    "streams at once": (
        whole(
            lambda c, s: [
                (CLIENT, c.headers(1, GET) + c.headers(3, POST) + data(3, JUNK[:900], end=True)),
                (SERVER, s.headers(3, OK, end=True) + s.headers(1, [(":status", "404")], end=True)),
            ]
        ),
        ["1 GET h /a", "3 POST h /a", "3 200 to /a", "1 404 to /a"],
        {},
    ),
    "CONTINUATION, padding and priority": (
        whole(
            lambda c, s: [
                (CLIENT, c.headers(1, GET, pieces=5, prefix=b"\x07" + bytes(5), flags=0x28, end=True)),
                (CLIENT, c.headers(3, GET, prefix=bytes(5), flags=0x20, end=True) + data(1, b"xx", padding=200)),
                (SERVER, s.headers(1, OK, pieces=9, prefix=b"\xff", flags=0x8) + s.headers(3, OK)),
            ]
        ),
        ["1 GET h /a", "3 GET h /a", "1 200 to /a", "3 200 to /a"],
        {},
    ),
    "interim responses are passed over": (
        whole(
            lambda c, s: [
                (CLIENT, c.headers(1, GET, end=True)),
                (SERVER, s.headers(1, [(":status", "100")]) + s.headers(1, [(":status", "103")]) + s.headers(1, OK)),
            ]
        ),
        SEEN,
        {},
    ),
    "trailers on both sides": (
        whole(
            lambda c, s: [
                (CLIENT, c.headers(1, GET) + data(1, b"b") + c.headers(1, [("digest", "x")], end=True)),
                (SERVER, s.headers(1, OK) + data(1, b"b") + s.headers(1, [("x-t", "1")], end=True)),
            ]
        ),
        SEEN,
        {},
    ),
    "push": (
        whole(
            lambda c, s: [
                (CLIENT, c.headers(1, GET, end=True)),
                (SERVER, s.promise(1, 2, [*GET[:2], (":path", "/p"), GET[3]]) + s.headers(1, OK) + s.headers(2, OK)),
            ]
        ),
        [*SEEN, "2 200 to /p pushed=True"],
        {},
    ),
    "reset before the answer": (
        whole(
            lambda c, s: [(CLIENT, c.headers(1, GET) + c.headers(3, GET) + reset(1)), (SERVER, reset(3, 7) + reset(9))]
        ),
        [
            "1 GET h /a",
            "3 GET h /a",
            "1 None to /a reset=CANCEL reset_by=client",
            "3 None to /a reset=REFUSED_STREAM reset_by=server",
        ],
        {},
    ),
    "reset after the answer": (
        whole(lambda c, s: [(CLIENT, c.headers(1, GET)), (SERVER, s.headers(1, OK)), (CLIENT, reset(1))]),
        SEEN,
        {},
    ),
    "GOAWAY": (
        whole(
            lambda c, s: [
                (CLIENT, c.headers(1, GET) + c.headers(3, GET)),
                (SERVER, go_away(2**31 - 1) + go_away(1, 2) + s.headers(1, OK)),
                (CLIENT, go_away(0)),
            ]
        ),
        ["1 GET h /a", "3 GET h /a", "3 None to /a goaway=INTERNAL_ERROR", "1 200 to /a"],
        {},
    ),
    "CONNECT": (
        whole(
            lambda c, s: [
                (CLIENT, c.headers(1, [(":method", "CONNECT"), (":authority", "o:443")]) + data(1, JUNK)),
                (SERVER, s.headers(1, OK) + data(1, JUNK)),
                (CLIENT, c.headers(3, GET)),
            ]
        ),
        ["1 CONNECT o:443 o:443", "1 200 to o:443", "3 GET h /a"],
        {},
    ),
    "frames of unknown types, also empty": (
        whole(
            lambda c, s: [(CLIENT, frame(0x10, 0, 0, b"u=1") + frame(0xFA, 7, 5) + PING + WINDOW + c.headers(1, GET))]
        ),
        SEEN[:1],
        {},
    ),
    "a method without number, an upper-case name, a line end, host for :authority": (
        whole(
            lambda c, s: [
                (
                    CLIENT,
                    c.headers(
                        1,
                        [
                            (":method", "PURGE"),
                            (":scheme", "http"),
                            (":path", "/a"),
                            ("host", "h"),
                            ("X", "1"),
                            ("x", "a\r\nGET: /"),
                            ("a: b", "c"),
                            (":path", "/late"),
                        ],
                    ),
                )
            ]
        ),
        ["1 PURGE h /a"],
        {"malformed field": 4},
    ),
    "a request without path": (
        whole(lambda c, s: [(CLIENT, c.headers(1, GET[:2]))]),
        ["1 GET  ?"],
        {"malformed request": 1},
    ),
    "gRPC": (
        whole(
            lambda c, s: [
                (CLIENT, c.headers(1, CALL) + data(1, message(), end=True)),
                (SERVER, s.headers(1, GRPC_OK) + data(1, message(9) + message()) + s.headers(1, GRPC_END, end=True)),
            ]
        ),
        CALLED,
        {},
    ),
    "gRPC: trailers only": (
        whole(
            lambda c, s: [
                (CLIENT, c.headers(1, CALL)),
                (SERVER, s.headers(1, [*GRPC_OK, ("grpc-status", "5"), ("grpc-message", "no%20such")], end=True)),
            ]
        ),
        [CALLED[0], "grpc 1 200 to /p.Svc/Do NOT_FOUND"],
        {},
    ),
    "gRPC: a proxy answers with HTML": (
        whole(
            lambda c, s: [
                (CLIENT, c.headers(1, CALL)),
                (SERVER, s.headers(1, [(":status", "502"), ("content-type", "text/html")]) + data(1, JUNK, end=True)),
            ]
        ),
        [CALLED[0], "grpc 1 502 to /p.Svc/Do"],
        {},
    ),
    "gRPC: an answer that crosses the reset": (
        whole(
            lambda c, s: [(CLIENT, c.headers(1, CALL) + reset(1)), (SERVER, s.headers(1, GRPC_OK + GRPC_END, end=True))]
        ),
        [CALLED[0], "grpc 1 None to /p.Svc/Do reset=CANCEL reset_by=client"],
        {},
    ),
    "gRPC: reset in the middle of the answer": (
        whole(lambda c, s: [(CLIENT, c.headers(1, CALL)), (SERVER, s.headers(1, GRPC_OK)), (CLIENT, reset(1))]),
        [CALLED[0], "grpc 1 200 to /p.Svc/Do reset=CANCEL reset_by=client"],
        {},
    ),
    "gRPC: the capture ends in the answer": (
        whole(lambda c, s: [(CLIENT, c.headers(1, CALL)), (SERVER, s.headers(1, GRPC_OK) + data(1, message()))]),
        [CALLED[0], "grpc 1 200 to /p.Svc/Do?"],
        {},
    ),
    "gRPC-Web: trailers in the body": (
        whole(
            lambda c, s: [
                (CLIENT, c.headers(1, [*CALL[:5], ("content-type", "application/grpc-web+proto")])),
                (
                    SERVER,
                    s.headers(1, [OK[0], ("content-type", "application/grpc-web+proto")])
                    + data(1, message() + b"\x80\0\0\0\x1fgrpc-status:7\r\ngrpc-message:a\r\n", padding=3, end=True),
                ),
            ]
        ),
        [CALLED[0], "grpc 1 200 to /p.Svc/Do PERMISSION_DENIED"],
        {},
    ),
    # Joined in the middle, and bytes lost
    "joined in the middle: the client's frames": (
        [(CLIENT, WINDOW + PING), *made(lambda c, s: [(CLIENT, c.headers(7, GET)), (SERVER, s.headers(7, OK) + PING)])],
        ["7 GET h /a", "7 200 to /a"],
        {},
    ),
    "joined in a body": (
        [
            (SERVER, JUNK),
            *made(
                lambda c, s: [
                    (CLIENT, c.headers(7, GET)),
                    (SERVER, PING + s.headers(7, OK)),
                    (CLIENT, c.headers(9, GET)),
                ]
            ),
        ],
        ["7 GET h /a", "7 200 to /a", "9 GET h /a"],
        {},
    ),
    "a response to what was asked before": (
        [
            *made(
                lambda c, s: [
                    (SERVER, s.headers(7, OK)),
                    (CLIENT, PING + c.headers(9, GET)),
                    (SERVER, s.headers(9, OK)),
                ]
            )
        ],
        ["7 200 to ?", "9 GET h /a", "9 200 to /a"],
        {},
    ),
    "a gap in DATA is passed over": (
        whole(
            lambda c, s: [
                (CLIENT, c.headers(1, CALL) + data(1, JUNK)[:50]),
                (CLIENT, 1_000),
                (CLIENT, data(1, JUNK)[1_050:] + c.headers(3, GET)),
                (SERVER, s.headers(1, GRPC_OK) + s.headers(1, GRPC_END, end=True)),
            ]
        ),
        [CALLED[0], "3 GET h /a", CALLED[1]],
        {},
    ),
    "a gap beyond a frame": (
        whole(
            lambda c, s: [
                (CLIENT, c.headers(1, GET)),
                (SERVER, 20),
                (SERVER, JUNK),
                (CLIENT, 9),
                (CLIENT, JUNK[:77] + PING + c.headers(3, POST)),
                (SERVER, PING + s.headers(3, OK)),
            ]
        ),
        ["1 GET h /a", "3 POST  ?", "3 200 to ?"],
        {},
    ),
    "a gap in a header block: what came before it": (
        whole(
            lambda c, s: [
                (CLIENT, (one := c.headers(1, [*GET, ("x-long", "a" * 500)]))[:60]),
                (CLIENT, len(one) - 60),
                (CLIENT, c.headers(3, POST)),
            ]
        ),
        ["1 GET h /a?", "3 POST  ?"],
        {"header section cut short": 1},
    ),
    "an unfinished header block": (
        whole(lambda c, s: [(CLIENT, c.headers(1, GET, pieces=2)[:-1])]),
        ["1 GET  /a?"],
        {"header section cut short": 1},
    ),
    # Malformed
    "a header block interrupted": (
        whole(lambda c, s: [(CLIENT, frame(1, 0, 1, b"\x82\x86") + PING + c.headers(3, GET))]),
        ["1 GET  ?", "3 GET h /a"],
        {"header block interrupted": 1, "header section cut short": 1},
    ),
    "CONTINUATION of nothing": (
        whole(lambda c, s: [(CLIENT, frame(9, 4, 1, b"\x82")), (CLIENT, c.headers(1, GET))]),
        ["1 GET h /a"],
        {"CONTINUATION of nothing": 1},
    ),
    "a malformed block": (
        whole(lambda c, s: [(CLIENT, frame(1, 5, 1, b"\x82\xc8")), (CLIENT, Sender().headers(3, GET))]),
        ["3 GET h /a"],
        {"malformed header block": 1},
    ),
    "a PING of another length": (
        whole(lambda c, s: [(CLIENT, frame(6, 0, 0, b"123") + PING + c.headers(1, GET))]),
        ["1 GET h /a"],
        {"malformed frame": 1},
    ),
    "padding longer than the frame": (
        whole(lambda c, s: [(CLIENT, frame(1, 0xC, 1, b"\x09\x82")), (CLIENT, c.headers(3, GET))]),
        ["1 UNKNOWN  ?", "3 GET h /a"],
        {"malformed frame": 1, "header section cut short": 1},
    ),
    "a request on a server's stream": (
        whole(lambda c, s: [(CLIENT, c.headers(2, GET))]),
        [],
        {"request on a server's stream": 1},
    ),
    "a second response": (
        whole(lambda c, s: [(CLIENT, c.headers(1, GET)), (SERVER, s.headers(1, OK) + s.headers(1, OK))]),
        SEEN,
        {"second response of a stream": 1},
    ),
}


def counted(transcript: Transcript, cut=None) -> tuple[list[Message], dict[tuple[str, str], int]]:
    return play_counted(Http2, transcript, cut)


@pytest.mark.parametrize("name", TABLE)
def test_transcript(name):
    transcript, messages, counters = TABLE[name]
    told, losses = counted(transcript)
    assert [say(each) for each in told] == messages
    assert losses == {("http2", reason): number for reason, number in counters.items()}


@pytest.mark.parametrize("name", TABLE)
def test_byte_by_byte_is_the_same(name):
    transcript = TABLE[name][0]
    assert counted(transcript, lambda data: pieces(data, range(len(data)))) == counted(transcript)


@settings(deadline=None)
@given(st.sampled_from([entry[0] for entry in TABLE.values()]), st.lists(st.integers(0, 1 << 12), max_size=8))
def test_cut_anywhere_is_the_same(transcript, cuts):
    assert counted(transcript, lambda data: pieces(data, cuts)) == counted(transcript)


@settings(deadline=None)
@given(
    st.sampled_from([entry[0] for entry in TABLE.values()]),
    st.lists(st.tuples(st.integers(0, 1 << 14), st.integers(0, 255)), min_size=1, max_size=6),
    st.lists(st.integers(0, 1 << 12), max_size=4),
)
def test_mutated_bytes_never_raise_and_mean_the_same_however_cut(transcript, changes, cuts):
    mutated: Transcript = []
    for number, (side, said) in enumerate(transcript):
        if isinstance(said, bytes):
            changed = bytearray(said)
            for place, octet in changes:
                if place % len(transcript) == number:
                    changed[place % len(changed)] = octet
            said = bytes(changed)
        mutated.append((side, said))
    assert counted(mutated, lambda data: pieces(data, cuts)) == counted(mutated)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(Side), st.binary(max_size=60) | st.integers(1, 60)), max_size=8))
def test_random_bytes_never_raise_and_tell_nothing(transcript):
    transcript = [(SERVER, SETTINGS), (CLIENT, PREFACE), *transcript]
    told, _ = counted(transcript)
    assert all(each.incomplete or each.method is not None for each in told)


# Messages in full


def test_what_a_request_and_its_response_carry():
    told, _ = counted(
        whole(
            lambda c, s: [
                (CLIENT, c.headers(1, [*GET, ("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2")])),
                (SERVER, PING),
                (SERVER, s.headers(1, OK)),
            ]
        )
    )
    asked, answered = told
    assert (asked.kind, asked.side, asked.version, asked.id, asked.time_ns) == (L7Kind.HTTP, CLIENT, 20, 1, 4)
    assert asked.head == b"cookie: a=1; b=2\r\naccept: */*\r\n"  # 8.2.3: crumbs of one field
    assert (asked.method, asked.texts) == (HttpMethod.GET, (b"/a", b"h"))
    assert answered.head == b"server: s\r\n"
    assert (answered.request, answered.texts, answered.method) == (asked, asked.texts, asked.method)
    assert (answered.latency_ns, answered.time_ns, answered.code) == (2, 6, 200)


def test_what_a_call_and_its_end_carry():
    told, _ = counted(
        whole(
            lambda c, s: [
                (CLIENT, c.headers(1, CALL) + data(1, message() + message(0) + message(70_000))),
                (SERVER, s.headers(1, GRPC_OK)),
                (SERVER, s.headers(1, [("grpc-status", "8"), ("grpc-message", "a%0Ab")], end=True)),
            ]
        )
    )
    asked, answered = told
    called = {"service": "p.Svc", "method": "Do", "timeout_ns": 2_000_000_000}
    assert asked.extension == {"grpc": called}
    assert answered.extension == {
        "grpc": called
        | {"status": 8, "status_name": "RESOURCE_EXHAUSTED", "message": "a\nb", "streaming": "client"}
        | {"request_messages": 3, "response_messages": 0}
    }
    assert (answered.latency_ns, answered.kind, answered.code) == (2, L7Kind.GRPC, 200)  # to the trailers
    assert answered.head == b"content-type: application/grpc\r\ngrpc-status: 8\r\ngrpc-message: a%0Ab\r\n"


def test_counts_that_lost_bytes_are_not_told():
    told, _ = counted(TABLE["a gap in DATA is passed over"][0])
    assert told[-1].extension["grpc"].keys() >= {"status", "response_messages"}
    assert "request_messages" not in told[-1].extension["grpc"]


def test_binary_metadata_is_shown_in_base64_and_no_octet_makes_a_line():
    told, losses = counted(
        whole(lambda c, s: [(CLIENT, c.headers(1, [*CALL, (b"x-bin", b"\0\r\n\0"), (b"y", b"\0")]))])
    )
    assert told[0].head.endswith(b"grpc-timeout: 2S\r\nx-bin: DQoA\r\n")
    assert losses == {("http2", "malformed field"): 1}


def test_the_scheme_and_the_protocol_of_an_extended_connect():
    fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/chat"), GET[3]]
    told, _ = counted(
        whole(
            lambda c, s: [
                (CLIENT, c.headers(1, fields) + c.headers(3, [GET[0], (":scheme", "https"), *GET[2:]])),
            ]
        )
    )
    assert told[0].texts == (b"/chat", b"h", b"", b"http")
    assert told[0].extension == {"http2": {"stream_id": 1, "protocol": "websocket"}}
    assert told[1].texts == (b"/a", b"h", b"", b"https")


# h2c, prior knowledge, joined in the middle: through a conversation

UPGRADE = b"GET /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


def talk(losses: Losses) -> Conversation:
    return Conversation(losses, (40_000, 8_080))


def upgrade() -> Transcript:
    client, server = Sender(), Sender()
    return [
        (CLIENT, UPGRADE),
        (SERVER, SWITCHED + SETTINGS + server.headers(1, OK, end=True)),
        (CLIENT, HELLO + client.headers(3, GET)),
        (SERVER, server.headers(3, OK)),
    ]


@settings(deadline=None)
@given(st.lists(st.integers(0, 1 << 9), max_size=8))
def test_h2c_goes_on_as_http2_and_stream_1_answers_the_http1_request(cuts):
    told, losses = play_counted(talk, upgrade(), lambda data: pieces(data, cuts))
    assert [(each.version, each.code, each.id, each.texts[0]) for each in told] == [
        (11, None, None, b"/up"),
        (11, 101, None, b"/up"),
        (20, 200, 1, b"/up"),
        (20, None, 3, b"/a"),
        (20, 200, 3, b"/a"),
    ]
    assert told[2].request is told[1].request is told[0]
    assert losses == {}


def test_what_the_client_said_before_the_101_is_http2_too():
    transcript = upgrade()
    transcript[1], transcript[2] = transcript[2], transcript[1]
    told, losses = play_counted(talk, transcript)
    assert [(each.version, each.id) for each in told] == [(11, None), (11, None), (20, 3), (20, 1), (20, 3)]
    assert losses == {}


@pytest.mark.parametrize("name", [name for name in TABLE if "joined" not in name and "before" not in name])
def test_a_conversation_finds_prior_knowledge_and_says_the_same(name):
    transcript = TABLE[name][0]
    assert play_counted(talk, transcript) == counted(transcript)


@pytest.mark.parametrize("first", [SERVER, CLIENT])
def test_roles_by_what_is_said_in_the_middle(first):
    talked = talk(Losses())
    client, server = Sender(), Sender()
    assert talked.feed(first, PING, 1) == []
    told = talked.feed(first, server.headers(5, OK), 2)
    assert [say(each) for each in told] == ["5 200 to ?"]
    assert talked.kind is Detected.HTTP2
    assert talked.roles_swapped == (first is CLIENT)
    assert [say(each) for each in talked.feed(first.other, PING + client.headers(7, GET), 3)] == ["7 GET h /a"]


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (PREFACE[:3], (None, None)),
        (PREFACE, (True, CLIENT)),
        (b"PRI * HTTP/2.0\r\n\r\nXX", (False, None)),
        (SETTINGS, (None, None)),  # whose it is does not show
        (SETTINGS * 120, (True, None)),
        (PING + b"\xff" * 9, (True, None)),
        (WINDOW + b"\xff" * 9, (False, None)),  # not certain enough: a Kafka request may look like it
        (WINDOW + Sender().headers(1, GET), (True, CLIENT)),
        (Sender().headers(1, OK), (True, SERVER)),
        (Sender().headers(1, GRPC_END), (True, SERVER)),
        (data(1, b"x" * 99), (None, None)),
        (data(1, b"x") + b"\xff" * 9, (False, None)),
        (PING + Sender().promise(1, 2, GET), (True, SERVER)),
        (bytes(20), (False, None)),
        (b"\0\0\x06\4\0\0\0\0\0\0\x77\0\0\0\0", (False, None)),  # no such setting
    ],
)
def test_frames_by_their_looks(said, found):
    assert looks_like(said) == found


# python-h2 on both ends: what it says is what is heard


def h2_transcript(seed: int) -> tuple[Transcript, list[str]]:
    """A conversation of two h2 endpoints with many streams, and what they have heard of each other."""
    chance = random.Random(seed)
    make = h2.connection.H2Connection
    client = make(h2.config.H2Configuration(client_side=True, header_encoding=None))
    server = make(h2.config.H2Configuration(client_side=False, header_encoding=None))
    client.initiate_connection()
    server.initiate_connection()
    transcript: Transcript = []
    heard: list[str] = []
    paths: dict[int, str] = {}
    open_streams: list[int] = []

    def listen(side: Side, said: bytes) -> None:
        if not said:
            return
        transcript.append((side, said))
        for event in (server if side is CLIENT else client).receive_data(said):
            if isinstance(event, h2.events.RequestReceived):
                fields = dict(event.headers)
                paths[event.stream_id] = fields[b":path"].decode()
                heard.append(f"{event.stream_id} {fields[b':method'].decode()} h {paths[event.stream_id]}")
            elif isinstance(event, h2.events.ResponseReceived):
                status = dict(event.headers)[b":status"].decode()
                heard.append(f"{event.stream_id} {status} to {paths[event.stream_id]}")

    def flush() -> None:
        for _ in range(3):
            listen(CLIENT, client.data_to_send())
            listen(SERVER, server.data_to_send())

    flush()
    if chance.random() < 0.5:
        size = {h2.settings.SettingCodes.HEADER_TABLE_SIZE: chance.choice((0, 200, 16_384))}
        chance.choice((client, server)).update_settings(size)
        flush()
    for _ in range(25):
        if chance.random() < 0.6 or not open_streams:
            stream = client.get_next_available_stream_id()
            extra = [(f"x-{chance.randrange(9)}", "v" * chance.randrange(60)) for _ in range(chance.randrange(6))]
            path = [(":path", f"/{chance.randrange(40)}")]
            client.send_headers(stream, [*GET[:2], *path, GET[3], *extra], end_stream=chance.random() < 0.5)
            open_streams.append(stream)
            if chance.random() < 0.3:
                client.ping(b"12345678")
        else:
            flush()  # an answer before the request has come would be refused
            stream = open_streams.pop(chance.randrange(len(open_streams)))
            status = chance.choice(("200", "204", "404", "500", "418"))
            server.send_headers(stream, [(":status", status), ("x-s", "v" * chance.randrange(90))])
            padding = chance.choice((None, 7))
            server.send_data(stream, chance.randbytes(chance.randrange(600)), pad_length=padding, end_stream=True)
        if chance.random() < 0.5:
            flush()
    flush()
    return transcript, heard


@pytest.mark.parametrize("seed", range(60))
def test_python_h2_is_heard_as_it_speaks(seed):
    transcript, heard = h2_transcript(seed)
    chance = random.Random(seed)
    cuts = [chance.randrange(1 << 14) for _ in range(chance.choice((0, 3, 40, 400)))]
    told, losses = counted(transcript, lambda data: pieces(data, cuts))
    assert [say(each) for each in told] == heard
    assert losses == {}


@pytest.mark.parametrize("seed", range(60))
def test_python_h2_joined_in_the_middle_is_not_misheard(seed):
    transcript, heard = h2_transcript(seed)
    chance = random.Random(seed)
    start = chance.randrange(3, len(transcript) - 2)
    told, _ = counted([(side, said) for side, said in transcript[start:]])
    known = [say(each) for each in told if not each.incomplete]
    assert len(told) >= (len(heard) * (len(transcript) - start) // len(transcript)) // 2  # it hears again at once
    rest = iter(heard)
    assert all(line in rest for line in known)  # in order, and each was said


@pytest.mark.parametrize("seed", range(40))
def test_python_h2_with_gaps_is_not_misheard(seed):
    transcript, heard = h2_transcript(seed)
    told, _ = counted(holed(transcript, random.Random(seed)))
    assert len(told) > len(heard) // 3  # it goes on behind a gap
    assert {say(each) for each in told if not each.incomplete} <= set(heard)


# Bounds: each is reached, and counted


def started(losses: Losses) -> Http2:
    parser = Http2(losses)
    parser.feed(CLIENT, HELLO, 1)
    parser.feed(SERVER, SETTINGS, 1)
    return parser


def test_a_header_block_over_many_frames_is_bounded():
    losses = Losses()
    parser = started(losses)
    client = Sender()
    parser.feed(CLIENT, frame(1, 0, 1, client.encoder.encode(GET)), 2)
    for _ in range(2_000):
        parser.feed(CLIENT, frame(9, 0, 1, b"\x00\x01x\x7f\x00" + b"v" * 127), 3)
        assert len(parser._directions[CLIENT].block) <= HEADER_BLOCK_LIMIT
    assert losses.snapshot() == {("http2", "header block too large"): 1}
    (told,) = parser.feed(CLIENT, frame(9, 4, 1), 4)
    assert say(told) == "1 GET h /a?"
    assert len(told.head) <= OUTPUT_LIMIT * 2
    assert [say(each) for each in parser.feed(CLIENT, Sender().headers(3, GET), 5)] == ["3 GET h /a"]


def test_a_header_block_in_one_frame_is_bounded():
    block = hpack.Encoder().encode([*GET, ("x", "v" * 65_000), ("y", "w" * 65_000)], huffman=False)
    transcript = whole(lambda c, s: [(CLIENT, frame(1, 4, 1, block))])
    told, losses = counted(transcript)
    assert [say(each) for each in told] == ["1 GET h /a?"]
    assert losses == {("http2", "header block too large"): 1, ("http2", "header section cut short"): 1}
    assert counted(transcript, lambda data: pieces(data, range(0, len(data), 997))) == (told, losses)


def test_a_header_bomb_is_bounded_and_the_connection_goes_on():
    client = Sender()
    bomb = client.headers(1, [*GET, ("x", "a" * 4_000)])
    big = frame(1, 4, 3, b"\x82\x86\x84\xbf" + b"\xbe" * 60_000)
    told, losses = counted(whole(lambda c, s: [(CLIENT, bomb + big + client.headers(5, GET))]))
    assert [say(each) for each in told] == ["1 GET h /a", "3 GET h /?", "5 GET h /a"]
    assert len(told[1].head) < OUTPUT_LIMIT + 4 * FIELDS_LIMIT
    assert losses == {("http2", "header section cut short"): 1}


def test_a_hundred_thousand_streams():
    losses = Losses()
    parser = started(losses)
    told = 0
    for stream in range(1, 200_000, 2):
        told += len(parser.feed(CLIENT, frame(1, 4, stream, b"\x82\x86\x04\x02/a\x01\x01h"), stream))
        assert len(parser._streams._streams) <= STREAM_LIMIT
    assert told == 100_000
    assert losses.snapshot() == {("http2", "too many streams"): 100_000 - STREAM_LIMIT}
    server = Sender()
    last = parser.feed(SERVER, server.headers(199_999, OK) + server.headers(1, OK), 200_000)
    assert [say(each) for each in last] == ["199999 200 to /a", "1 200 to ?"]


def test_streams_given_up_are_remembered_up_to_a_bound():
    parser = started(Losses())
    server = Sender()
    for stream in range(1, 2 * RESET_LIMIT + 3, 2):  # one more than are remembered
        parser.feed(CLIENT, frame(1, 4, stream, b"\x82\x86\x04\x02/a\x01\x01h") + reset(stream), stream)
    late = [parser.feed(SERVER, server.headers(stream, OK, end=True), 9_999) for stream in (2 * RESET_LIMIT + 1, 3, 1)]
    assert [[say(each) for each in told] for told in late] == [[], [], ["1 200 to ?"]]


def test_octets_remembered_of_streams_are_bounded():
    losses = Losses()
    parser = started(losses)
    block = hpack.Encoder().encode([*GET, ("x", "a" * 60_000)], huffman=False)
    for stream in range(1, 400, 2):
        parser.feed(CLIENT, frame(1, 4, stream, block), stream)
        assert parser._streams._cost <= REMEMBERED_LIMIT
    assert losses.get("http2", "too many streams") > 100
    for stream in range(1, 400, 2):
        parser.feed(SERVER, reset(stream), 500)
    assert parser._streams._cost == 0


def test_what_a_search_holds_is_bounded():
    losses = Losses()
    parser = started(losses)
    parser.gap(CLIENT, 100)
    search = parser._directions[CLIENT].search
    for time_ns in range(40_000):
        parser.feed(CLIENT, b"\xff", time_ns)
        assert len(search._buffer) <= SEARCH_LIMIT
        assert len(search._pieces) * SEARCH_PIECE_COST <= SEARCH_LIMIT + SEARCH_PIECE_COST
    weak = frame(FrameType.HEADERS, 4, 1, b"\xff")[:9]
    for time_ns in range(3_000):
        parser.feed(CLIENT, weak[:3] + weak[3:] + b"\xff" * 5, time_ns)
    assert parser._directions[CLIENT].state in (State.SEARCH, State.FRAME, State.KEEP)


def test_a_search_finds_the_same_however_cut():
    junk = random.Random(5).randbytes(50_000)
    said = junk + WINDOW[:2] + data(1, junk[:16_000]) + data(3, b"xx") + PING
    for step in (1, 7, 100, 16_393, 70_000):
        search = FrameSearch()
        found = None
        for at in range(0, len(said), step):
            found = search.feed(said[at : at + step], at)
            if found is not None:
                break
        assert found is not None
        assert b"".join(piece for piece, _ in found)[:9] == data(1, junk[:16_000])[:9]


def test_malformed_frames_are_bounded():
    losses = Losses()
    parser = started(losses)
    for number in range(MALFORMED_LIMIT):
        assert not parser.opaque
        parser.feed(CLIENT, frame(6, 0, 0, b"") + PING, number)
    assert parser.opaque
    assert losses.snapshot() == {("http2", "malformed frame"): MALFORMED_LIMIT}
    assert parser.feed(CLIENT, Sender().headers(1, GET), 99) == parser.close(CLIENT) == []
    parser.gap(CLIENT, 5)


def test_goaways_that_are_acted_upon_are_bounded():
    client = Sender()
    asked = b"".join(client.headers(stream, GET) for stream in range(1, 80, 2))
    said = b"".join(go_away(last) for last in range(77, 1, -2))
    told, _ = counted([(CLIENT, HELLO + asked), (SERVER, SETTINGS + said)])
    assert sum(each.type is L7Type.RESPONSE for each in told) == GOAWAY_LIMIT


def test_error_codes_have_names():
    assert [http2_streams.error_name(code) for code in (0, 13, 14)] == ["NO_ERROR", "HTTP_1_1_REQUIRED", "14"]
    assert set(http2.STEPS) == set(State) - {State.SEARCH}


def literal(path: bytes) -> bytes:
    """A request whose block changes no table: :method and :scheme of the static one, :path and :authority literal."""
    return b"\x82\x86" + b"\x04" + bytes([len(path)]) + path + b"\x01\x01h"


def test_more_sections_than_are_kept_stay_right():
    parser = Http2(Losses())
    parser.feed(CLIENT, HELLO, 0)
    kept = parser._directions[CLIENT]
    told = []
    blocks = [literal(b"/%d" % number) for number in range(SECTIONS_LIMIT + 2)]
    for number, block in enumerate([*blocks, *blocks]):
        told += parser.feed(CLIENT, frame(FrameType.HEADERS, 0x5, 2 * number + 1, block), 0)
        assert block in kept.sections
        assert len(kept.sections) <= SECTIONS_LIMIT
    paths = [f"/{number}" for number in range(SECTIONS_LIMIT + 2)] * 2
    assert [say(each) for each in told] == [f"{2 * n + 1} GET h {path}" for n, path in enumerate(paths)]
    long = literal(b"/" + b"x" * 120) + b"\x00\x01y" + b"\x7f\x09" + b"z" * 136
    assert len(long) > SECTION_SIZE
    (asked,) = parser.feed(CLIENT, frame(FrameType.HEADERS, 0x5, 999, long), 0)
    assert asked.head == b"y: " + b"z" * 136 + b"\r\n"
    assert long not in kept.sections


def test_a_block_means_something_else_after_the_table_has_changed():
    parser = Http2(Losses())
    parser.feed(CLIENT, HELLO, 0)
    indexed = b"\x82\x86\x01\x01h" + b"\xbe"  # :path is the newest entry of the dynamic table

    def asks(stream: int, block: bytes) -> str:
        (asked,) = parser.feed(CLIENT, frame(FrameType.HEADERS, 0x5, stream, block), 0)
        return asked.texts[0].decode()

    assert asks(1, b"\x82\x86\x01\x01h" + b"\x44\x02/a") == "/a"
    assert [asks(3, indexed), asks(5, indexed)] == ["/a", "/a"]
    assert asks(7, b"\x82\x86\x01\x01h" + b"\x44\x02/b") == "/b"
    assert [asks(9, indexed), asks(11, indexed)] == ["/b", "/b"]
