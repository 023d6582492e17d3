"""gRPC: content types, deadlines, statuses, message prefixes; the same however the bytes are cut; bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.l7 import grpc
from observer.l7.grpc import MESSAGE_TEXT_LIMIT, STATUS_NAMES, WEB_TRAILER_LIMIT, GrpcCall
from observer.l7.http1 import Http1
from observer.l7.message import Side
from observer.record import L7Kind
from tests.l7.http2_bytes import message
from tests.l7.transcripts import CLIENT, SERVER, pieces, play_counted


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;charset=utf-8", True),
        (b"Application/GRPC-web+json", True),
        (b"application/grpc-web-text", True),
        (b"application/grpcx", False),
        (b"application/grpc-foo", False),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_content_type(content_type, expected):
    assert grpc.is_grpc(content_type) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"1H", 3_600_000_000_000),
        (b"2M", 120_000_000_000),
        (b"99999999S", 99_999_999_000_000_000),
        (b"5m", 5_000_000),
        (b"5u", 5_000),
        (b"5n", 5),
        (b"100000000n", None),
        (b"5", None),
        (b"5s", None),
        (b"-5n", None),
        (b"5n\n", None),
        (b"", None),
    ],
)
def test_timeout(value, expected):
    assert grpc.timeout_ns(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"0", 0), (b"16", 16), (b"255", 255), (b"256", None), (b"1000", None), (b"-1", None), (b"x", None), (b"", None)],
)
def test_status(value, expected):
    assert grpc.status_of(value) == expected
    assert len(STATUS_NAMES) == 17


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/p.Svc/Do", ("p.Svc", "Do")),
        (b"/a/b/Do", ("a/b", "Do")),  # a prefix that a gateway put before it
        (b"/Do", ("", "")),
        (b"/p.Svc/", ("", "")),
        (b"p.Svc/Do", ("", "")),
        (b"*", ("", "")),
        (b"", ("", "")),
        (b"/p.\xff/Do", ("p.\\xff", "Do")),
    ],
)
def test_path(path, expected):
    assert grpc.split_path(path) == expected


def call(content_type: bytes = b"application/grpc") -> GrpcCall:
    return GrpcCall(b"/p.Svc/Do", content_type)


def said(called: GrpcCall) -> dict:
    return called.response_extension()["grpc"]


BODY = message() + message(0) + message(500, flag=1) + message(1)


@given(st.lists(st.integers(0, len(BODY)), max_size=20))
def test_messages_are_counted_however_cut(cuts):
    called = call()
    for piece in pieces(BODY, cuts):
        called.data(Side.SERVER, piece)
    assert (said(called)["request_messages"], said(called)["response_messages"]) == (0, 4)
    assert said(called)["streaming"] == "server"


@pytest.mark.parametrize(
    ("asked", "answered", "streaming"),
    [(1, 1, None), (2, 1, "client"), (1, 2, "server"), (2, 2, "bidirectional"), (0, 0, None)],
)
def test_streaming_shows_where_messages_are_several(asked, answered, streaming):
    called = call()
    called.data(Side.CLIENT, message() * asked)
    called.data(Side.SERVER, message() * answered)
    assert said(called).get("streaming") == streaming


def test_counts_are_told_only_where_they_are_known():
    called = call()
    called.data(Side.CLIENT, message())
    called.lose(Side.CLIENT)
    called.data(Side.SERVER, b"\x07\0\0\0\1x")  # no such flag
    assert said(called) == {"service": "p.Svc", "method": "Do"}
    assert "request_messages" not in said(call(b"application/grpc-web-text+proto"))
    assert "request_messages" in said(call(b"application/grpc-web+proto"))


def web_trailer(lines: bytes) -> bytes:
    return b"\x80" + len(lines).to_bytes(4, "big") + lines


@given(st.lists(st.integers(0, 60), max_size=9))
def test_trailers_in_the_body(cuts):
    called = call(b"application/grpc-web")
    for piece in pieces(message() + web_trailer(b"Grpc-Status: 13\r\ngrpc-message:a%20b\r\nx"), cuts):
        called.data(Side.SERVER, piece)
    called.end()
    assert (said(called)["status_name"], said(called)["message"], said(called)["response_messages"]) == (
        "INTERNAL",
        "a b",
        1,
    )


def test_trailers_in_the_body_are_bounded_and_their_cut_line_is_not_read():
    called = call(b"application/grpc-web")
    called.data(Side.SERVER, web_trailer(b"grpc-message:x\r\n" + b"a" * WEB_TRAILER_LIMIT + b"\r\ngrpc-status:3\r\n"))
    assert len(called._sides[Side.SERVER].trailer) == WEB_TRAILER_LIMIT
    called.end()
    assert "status" not in said(called)
    called = call(b"application/grpc-web")
    called.data(Side.SERVER, web_trailer(b"grpc-status:13\r\n")[:-3])  # 1 or 13?
    called.end()
    assert "status" not in said(called)


def test_the_text_of_a_status_is_bounded_and_escaped():
    called = call()
    called.trailers([(b"grpc-status", b"99"), (b"grpc-message", b"%ff" + b"a" * 5_000)])
    assert said(called)["status"] == 99
    assert "status_name" not in said(called)
    assert said(called)["message"].startswith("\\xffaaa")
    assert len(said(called)["message"]) <= MESSAGE_TEXT_LIMIT + 4


HEAD = b"POST /p.Svc/Do HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc-web+proto\r\ngrpc-timeout: 1S\r\n"
ASKED = HEAD + b"Content-Length: 0\r\n\r\n"


def test_grpc_web_over_http1_by_its_heads():
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web+proto\r\nGrpc-Status: 5\r\nContent-Length: 0\r\n\r\n"
    told, losses = play_counted(Http1, [(CLIENT, ASKED), (SERVER, head)])
    assert [(each.kind, each.version) for each in told] == [(L7Kind.GRPC, 11)] * 2
    called = {"service": "p.Svc", "method": "Do"}
    assert told[0].extension == {"grpc": called | {"timeout_ns": 1_000_000_000}}
    assert told[1].extension == {"grpc": called | {"status": 5, "status_name": "NOT_FOUND"}}
    assert losses == {}


def test_over_http1_what_has_another_content_type_is_http():
    asked = ASKED.replace(b"application/grpc-web+proto", b"text/x; y=application/grpc")
    told, _ = play_counted(
        Http1, [(CLIENT, asked), (SERVER, b"HTTP/1.1 200 OK\r\nX: grpc\r\nContent-Length: 0\r\n\r\n")]
    )
    assert [(each.kind, each.extension) for each in told] == [(L7Kind.HTTP, None)] * 2


def test_more_extensions_than_are_kept_stay_right():
    for _ in range(2):
        for number in range(grpc.EXTENSIONS_LIMIT + 2):
            called = GrpcCall(b"/p.Svc/Do%d" % number, b"application/grpc", b"%dm" % number)
            expected = {"service": "p.Svc", "method": f"Do{number}", "timeout_ns": number * 10**6}
            assert called.request_extension() == {"grpc": expected}
            called.trailers([(b"grpc-status", b"5")])
            counts = {"request_messages": 0, "response_messages": 0}
            assert said(called) == {**expected, "status": 5, "status_name": "NOT_FOUND", **counts}
    for kept in (grpc._kept_extension, grpc._kept_path):
        assert kept.cache_info().currsize == grpc.EXTENSIONS_LIMIT


def test_a_long_path_or_message_is_not_kept():
    grpc._kept_extension.cache_clear()
    long = GrpcCall(b"/p.Svc/" + b"x" * grpc.EXTENSION_SIZE, b"application/grpc")
    assert long.request_extension()["grpc"]["method"] == "x" * grpc.EXTENSION_SIZE
    called = call()
    called.trailers([(b"grpc-message", b"y" * grpc.EXTENSION_SIZE)])
    assert said(called)["message"] == "y" * grpc.EXTENSION_SIZE
    assert grpc._kept_extension.cache_info().currsize == 0
