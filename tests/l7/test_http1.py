"""HTTP/1: transcripts in, messages and counters out; the same however the bytes were cut."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from observer.l7 import http1, pairing
from observer.l7.http1 import Http1
from observer.l7.http1_head import HEAD_LIMIT
from observer.l7.message import Side
from observer.losses import Losses
from observer.record import HttpMethod, L7Kind, L7Type
from tests.l7.transcripts import CLIENT, SERVER, Transcript, brief, pieces, play, play_counted

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
FAKE = b"GET /fake HTTP/1.1\r\nHost: f\r\n\r\n"
FAKE_OK = b"HTTP/1.1 299 Fake\r\nServer: f\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SEEN = ["GET h /a", "200 to GET /a"]


def request(head: bytes, body: bytes = b"") -> bytes:
    return b"POST /p HTTP/1.1\r\nHost: h\r\n" + head + b"\r\n\r\n" + body


def response(head: bytes, body: bytes = b"", start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return start + b"\r\n" + head + b"\r\n\r\n" + body


TABLE: dict[str, tuple[Transcript, list[str], dict[str, int]]] = {
    # name: (transcript, messages in brief, counters of stage http1)
    "one exchange": ([(CLIENT, GET), (SERVER, OK)], SEEN, {}),
    "keep-alive": (
        [(CLIENT, GET), (SERVER, OK), (CLIENT, GET), (SERVER, NOT_FOUND)],
        [*SEEN, "GET h /a", "404 to GET /a"],
        {},
    ),
    "pipelining": (
        [(CLIENT, GET + GET.replace(b"/a", b"/b") + GET.replace(b"/a", b"/c")), (SERVER, OK + NOT_FOUND + OK)],
        ["GET h /a", "GET h /b", "GET h /c", "200 to GET /a", "404 to GET /b", "200 to GET /c"],
        {},
    ),
    "a body that looks like a request": (
        [(CLIENT, request(b"Content-Length: %d" % len(FAKE), FAKE) + GET)],
        ["POST h /p", "GET h /a"],
        {},
    ),
    "a body that looks like a response": (
        [(CLIENT, GET), (SERVER, response(b"Content-Length: %d" % len(FAKE_OK), FAKE_OK) + NOT_FOUND)],
        [*SEEN, "404"],
        {},
    ),
    "a chunk that looks like a request": (
        [(CLIENT, request(b"Transfer-Encoding: chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (len(FAKE), FAKE)) + GET)],
        ["POST h /p", "GET h /a"],
        {},
    ),
    "a body until close that looks like a response": (
        [(CLIENT, GET), (SERVER, response(b"Server: s", FAKE_OK + OK))],
        SEEN,
        {},
    ),
    "chunks with extensions and trailers": (
        [
            (CLIENT, GET),
            (SERVER, CHUNKED + b'3;a="b;c"\r\nabc\r\nA \t;x\r\n0123456789\r\n00\r\nDigest: x\r\nX: y\r\n\r\n' + OK),
        ],
        [*SEEN, "200"],
        {},
    ),
    "chunks with bare LF": ([(CLIENT, GET), (SERVER, CHUNKED + b"3\nabc\n0\n\n" + OK)], [*SEEN, "200"], {}),
    "coding before chunked": (
        [(CLIENT, request(b"Transfer-Encoding: gzip, Chunked", b"0\r\n\r\n") + GET)],
        ["POST h /p", "GET h /a"],
        {},
    ),
    "response coding without chunked: until close": (
        [(CLIENT, GET), (SERVER, response(b"Transfer-Encoding: gzip", OK))],
        SEEN,
        {},
    ),
    "HEAD has no body": (
        [(CLIENT, GET.replace(b"GET", b"HEAD") + GET), (SERVER, response(b"Content-Length: 10") + OK)],
        ["HEAD h /a", "GET h /a", "200 to HEAD /a", "200 to GET /a"],
        {},
    ),
    "204 and 304 have no body": (
        [
            (CLIENT, GET * 3),
            (SERVER, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\nHTTP/1.1 204 No\r\n\r\n" + OK),
        ],
        ["GET h /a"] * 3 + ["304 to GET /a", "204 to GET /a", "200 to GET /a"],
        {},
    ),
    "100 and 103 are passed over": (
        [
            (CLIENT, request(b"Expect: 100-continue\r\nContent-Length: 4")),
            (SERVER, b"HTTP/1.1 100 Continue\r\n\r\n"),
            (CLIENT, b"body"),
            (SERVER, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK),
            (CLIENT, GET),
        ],
        ["POST h /p", "200 to POST /p", "GET h /a"],
        {},
    ),
    "upgrade: the rest is opaque": (
        [
            (CLIENT, GET[:-2] + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
            (SERVER, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n" + FAKE_OK),
            (CLIENT, FAKE),
        ],
        ["GET h /a", "101 to GET /a"],
        {},
    ),
    "upgrade refused: what followed is HTTP": (
        [(CLIENT, GET[:-2] + b"Upgrade: h2c\r\n\r\n" + GET), (SERVER, OK + OK)],
        ["GET h /a", "200 to GET /a", "GET h /a", "200 to GET /a"],
        {},
    ),
    "bytes sent ahead of the 101": (
        [
            (CLIENT, GET[:-2] + b"Upgrade: x\r\n\r\n" + FAKE),
            (SERVER, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
            (CLIENT, FAKE),
        ],
        ["GET h /a", "101 to GET /a"],
        {},
    ),
    "CONNECT: the tunnel is opaque": (
        [
            (CLIENT, b"CONNECT o.example:443 HTTP/1.1\r\nHost: other\r\n\r\n" + FAKE),
            (SERVER, response(b"A: b") + FAKE_OK),
        ],
        ["CONNECT o.example:443 o.example:443", "200 to CONNECT o.example:443"],
        {},
    ),
    "CONNECT refused": (
        [(CLIENT, b"CONNECT o:443 HTTP/1.1\r\nHost: o\r\n\r\n"), (SERVER, NOT_FOUND), (CLIENT, GET), (SERVER, OK)],
        ["CONNECT o:443 o:443", "404 to CONNECT o:443", *SEEN],
        {},
    ),
    "the answer to CONNECT goes by unseen": (
        [(CLIENT, b"CONNECT o:443 HTTP/1.1\r\nHost: o\r\n\r\n" + GET)],
        ["CONNECT o:443 o:443", "GET h /a"],
        {},
    ),
    "absolute-form: its authority, not Host": (
        [(CLIENT, b"GET http://u:p@o.example:8/x?y HTTP/1.1\r\nHost: other\r\n\r\n")],
        ["GET o.example:8 http://u:p@o.example:8/x?y"],
        {},
    ),
    "asterisk-form": ([(CLIENT, b"OPTIONS * HTTP/1.1\r\nhOsT:\th \r\n\r\n")], ["OPTIONS h *"], {}),
    "an unknown method, lower case included": (
        [(CLIENT, b"get / HTTP/1.1\r\nHost: h\r\n\r\n" + b"PROPFIND /d HTTP/1.1\r\nHost: h\r\n\r\n"), (SERVER, OK)],
        ["get h /", "PROPFIND h /d", "200 to get /"],
        {},
    ),
    "HTTP/1.0 without any field": (
        [(CLIENT, b"GET / HTTP/1.0\r\n\r\n"), (SERVER, b"HTTP/1.0 200\r\n\r\nbody")],
        ["GET  /", "200 to GET /"],
        {},
    ),
    "empty lines before start lines": ([(CLIENT, b"\r\n\n\r\n" + GET + b"\r\n" + GET)], ["GET h /a"] * 2, {}),
    "bare LF": (
        [(CLIENT, b"GET /a HTTP/1.1\nHost: h\n\n"), (SERVER, b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok" + OK)],
        [*SEEN, "200"],
        {},
    ),
    "white space in a target": (
        [(CLIENT, b"GET  /a?q=1 or 1=1 \tHTTP/1.1\r\nHost: h\r\n\r\n")],
        ["GET h /a?q=1 or 1=1"],
        {},
    ),
    "obs-fold": (
        [(CLIENT, request(b"X: a\r\n b\r\nContent-Length:\r\n\t5", b"GET /") + GET)],
        ["POST h /p", "GET h /a"],
        {},
    ),
    "equal Content-Lengths": (
        [(CLIENT, request(b"Content-Length: 2, 2\r\nContent-Length: 2", b"xx") + GET)],
        ["POST h /p", "GET h /a"],
        {},
    ),
    "zeros before Content-Length": (
        [(CLIENT, request(b"Content-Length: " + b"0" * 40 + b"2", b"xx") + GET)],
        ["POST h /p", "GET h /a"],
        {},
    ),
    "smuggling, CL.TE: Transfer-Encoding wins": (
        [(CLIENT, request(b"Content-Length: 40\r\nTransfer-Encoding: chunked", b"0\r\n\r\n") + GET)],
        ["POST h /p", "GET h /a"],
        {"both Transfer-Encoding and Content-Length": 1},
    ),
    "smuggling, obfuscated TE": (
        [(CLIENT, request(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x", b"0\r\n\r\n") + GET)],
        ["POST h /p", "GET h /a"],
        {"request of unknown length": 1},
    ),
    "smuggling, white space before colon": (
        [(CLIENT, request(b"Content-Length : 5", b"GET /") + GET)],
        ["POST h /p", "GET h /a"],
        {"white space before colon": 1, "malformed field line": 1},
    ),
    "Transfer-Encoding in HTTP/1.0": (
        [(CLIENT, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET)],
        ["POST  /", "GET h /a"],
        {"Transfer-Encoding in HTTP/1.0": 1},
    ),
    "conflicting Content-Lengths": (
        [(CLIENT, request(b"Content-Length: 2\r\nContent-Length: 3", b"xxx") + GET)],
        ["POST h /p", "GET h /a"],
        {"conflicting Content-Length": 1},
    ),
    "invalid Content-Length": (
        [(CLIENT, request(b"Content-Length: -1", b"") + GET)],
        ["POST h /p", "GET h /a"],
        {"invalid Content-Length": 1},
    ),
    "Content-Length beyond 63 bits": (
        [(CLIENT, request(b"Content-Length: " + b"9" * 5000, b"") + GET)],
        ["POST h /p", "GET h /a"],
        {"invalid Content-Length": 1},
    ),
    "two Hosts": ([(CLIENT, GET[:-2] + b"Host: i\r\n\r\n")], ["GET h /a"], {"several Host fields": 1}),
    "a line without colon": (
        [(CLIENT, GET[:-2] + b"nonsense\r\n\r\n" + GET)],
        ["GET h /a"] * 2,
        {"malformed field line": 1},
    ),
    "cruft between requests": (
        [(CLIENT, GET + b"T / HTTP\r\n\x00\xff\r\n" + GET)],
        ["GET h /a"] * 2,
        {"malformed request line": 1},
    ),
    "cruft before a response": (
        [(CLIENT, GET), (SERVER, b"http/1.1 200 ok\r\n\r\n" + OK)],
        SEEN,
        {"malformed status line": 1},
    ),
    "no version, no request": (
        [(CLIENT, b"GET /\r\nHost: h\r\n\r\n" + GET)],
        ["GET h /a"],
        {"malformed request line": 1},
    ),
    "HTTP/2 is another protocol": ([(CLIENT, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")], [], {"malformed request line": 1}),
    "malformed chunk size": (
        [(CLIENT, GET), (SERVER, CHUNKED + b"zz\r\nabc\r\n" + OK)],
        [*SEEN, "200"],
        {"malformed chunk size": 1},
    ),
    "chunk size beyond 60 bits": (
        [(CLIENT, GET), (SERVER, CHUNKED + b"f" * 16 + b"\r\n" + OK)],
        [*SEEN, "200"],
        {"malformed chunk size": 1},
    ),
    "malformed chunk end": (
        [(CLIENT, GET), (SERVER, CHUNKED + b"1\r\nabc\r\n" + OK)],
        [*SEEN, "200"],
        {"malformed chunk end": 1},
    ),
    "a response whose request went by unseen": ([(SERVER, OK + NOT_FOUND)], ["200", "404"], {}),
    "408 before any request": ([(SERVER, NOT_FOUND.replace(b"404", b"408")), (CLIENT, GET)], ["408", "GET h /a"], {}),
    "cut in the head": ([(CLIENT, b"GET /a HTTP/1.1\r\nHost: h\r\nUser-Ag")], ["GET h /a"], {"head cut short": 1}),
    "cut in the start line": ([(CLIENT, b"GET /a HT")], [], {"start line cut short": 1}),
    # gaps
    "a gap inside a body is passed over exactly": (
        [(CLIENT, request(b"Content-Length: 100", b"x" * 10)), (CLIENT, 80), (CLIENT, FAKE[:10] + GET)],
        ["POST h /p", "GET h /a"],
        {},
    ),
    "a gap to the end of a body": (
        [(CLIENT, request(b"Content-Length: 9")), (CLIENT, 9), (CLIENT, GET)],
        ["POST h /p", "GET h /a"],
        {},
    ),
    "a gap inside a chunk": (
        [(CLIENT, GET), (SERVER, CHUNKED + b"20\r\n01"), (SERVER, 28), (SERVER, b"ab\r\n0\r\n\r\n" + OK)],
        [*SEEN, "200"],
        {},
    ),
    "a gap beyond a body": (
        [(CLIENT, request(b"Content-Length: 9")), (CLIENT, 20), (CLIENT, b"est\r\nX: y\r\n\r\n" + GET)],
        ["POST h /p", "GET h /a"],
        {},
    ),
    "a gap in a body until close": (
        [(CLIENT, GET), (SERVER, response(b"A: b", b"x")), (SERVER, 5), (SERVER, OK)],
        SEEN,
        {},
    ),
    "a gap in a head: told as far as seen": (
        [
            (CLIENT, b"GET /a HTTP/1.1\r\nHost: h\r\nCoo"),
            (CLIENT, 50),
            (CLIENT, b"kie: x\r\n\r\n" + GET.replace(b"/a", b"/b")),
        ],
        ["GET h /a", "GET h /b"],
        {"head cut short": 1},
    ),
    "gaps in every head, as a snap length makes them": (
        [(SERVER, OK[:34]), (SERVER, 5), (SERVER, NOT_FOUND[:43]), (SERVER, 5), (SERVER, OK)],
        ["200", "404", "200"],
        {"head cut short": 2},
    ),
    "after a gap a start line right behind a body": (
        [(SERVER, OK), (SERVER, 500), (SERVER, b'{"json": 1}' + NOT_FOUND)],
        ["200", "404"],
        {},
    ),
    "after a gap a start line in text is not enough": (
        [(CLIENT, GET), (CLIENT, 10), (CLIENT, b"see\r\nGET /fake HTTP/1.1\r\nfor details\r\n" + GET)],
        ["GET h /a", "GET h /a"],
        {},
    ),
    "after a gap a request of 1.1 without Host is none": (
        [(CLIENT, GET), (CLIENT, 10), (CLIENT, b"GET /fake HTTP/1.1\r\nX: y\r\n\r\n" + GET)],
        ["GET h /a", "GET h /a"],
        {},
    ),
    "a request answered out of sight": (
        [(CLIENT, GET), (SERVER, 100), (CLIENT, GET.replace(b"/a", b"/b")), (SERVER, NOT_FOUND)],
        ["GET h /a", "GET h /b", "404 to GET /b"],
        {"request answered out of sight": 1},
    ),
    "a request lost": (
        [(CLIENT, GET), (SERVER, OK), (CLIENT, 50), (SERVER, NOT_FOUND), (CLIENT, GET), (SERVER, OK)],
        [*SEEN, "404", *SEEN],
        {},
    ),
    "a pipelining client and lost responses: nobody can tell": (
        [(CLIENT, GET * 4), (SERVER, OK), (SERVER, 90), (SERVER, NOT_FOUND + OK)],
        ["GET h /a"] * 4 + ["200 to GET /a", "404", "200"],
        {"pairing given up after lost bytes": 1},
    ),
}

TRANSCRIPTS = [entry[0] for entry in TABLE.values()]


@pytest.mark.parametrize("name", TABLE)
def test_transcript(name):
    transcript, messages, counters = TABLE[name]
    told, losses = play_counted(Http1, transcript)
    assert [brief(message) for message in told] == messages
    assert losses == {("http1", reason): number for reason, number in counters.items()}


@pytest.mark.parametrize("name", TABLE)
def test_byte_by_byte_is_the_same(name):
    transcript = TABLE[name][0]
    assert play_counted(Http1, transcript, lambda data: pieces(data, range(len(data)))) == play_counted(
        Http1, transcript
    )


@given(st.sampled_from(TRANSCRIPTS), st.lists(st.integers(0, 1 << 16), max_size=12))
def test_cut_anywhere_is_the_same(transcript, cuts):
    assert play_counted(Http1, transcript, lambda data: pieces(data, cuts)) == play_counted(Http1, transcript)


def test_fields_of_messages():
    losses = Losses()
    parser = Http1(losses)
    (asked,) = parser.feed(CLIENT, b"PUT /x HTTP/1.0\r\nHost: h\r\nA: b\r\n\r\n", 1_000)
    (answered,) = parser.feed(SERVER, b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", 5_500)
    assert (asked.kind, asked.type, asked.side, asked.time_ns) == (L7Kind.HTTP, L7Type.REQUEST, CLIENT, 1_000)
    assert (asked.texts, asked.method, asked.version, asked.code) == ((b"/x", b"h"), HttpMethod.PUT, 10, None)
    assert (asked.head, asked.latency_ns, asked.incomplete) == (b"Host: h\r\nA: b\r\n", None, False)
    assert (answered.type, answered.side, answered.code, answered.version) == (L7Type.RESPONSE, SERVER, 201, 11)
    assert (answered.texts, answered.method) == (asked.texts, asked.method)
    assert answered.request is asked
    assert (answered.latency_ns, answered.head) == (4_500, b"Content-Length: 0\r\n")


def test_a_message_has_the_time_of_the_segment_that_completes_its_head():
    parser = Http1(Losses())
    assert parser.feed(CLIENT, GET[:10], 1) == parser.feed(CLIENT, GET[10:-1], 2) == []
    assert [message.time_ns for message in parser.feed(CLIENT, GET[-1:] + GET[:5], 3)] == [3]
    assert [message.time_ns for message in parser.feed(CLIENT, GET[5:], 4)] == [4]


def test_without_its_request_a_response_says_so():
    (message,) = Http1(Losses()).feed(SERVER, OK, 1)
    assert (message.method, message.request, message.latency_ns, message.texts) == (None, None, None, ())
    assert message.incomplete


def test_what_a_gap_cut_is_given_with_the_next_bytes():
    parser = Http1(Losses())
    assert parser.feed(CLIENT, GET[:-4], 7) == []
    parser.gap(CLIENT, 1)
    (message,) = parser.feed(SERVER, b"H", 9)
    assert (brief(message), message.time_ns, message.incomplete) == ("GET  /a", 7, True)


def test_a_big_body_is_passed_over_without_being_kept():
    parser = Http1(Losses())
    parser.feed(CLIENT, request(b"Content-Length: %d" % (1 << 40)), 1)
    for _ in range(64):
        assert parser.feed(CLIENT, b"\n" * 65_536, 2) == []
    parser.gap(CLIENT, (1 << 40) - 64 * 65_536)
    assert [brief(message) for message in parser.feed(CLIENT, GET, 3)] == ["GET h /a"]


LIMITS: dict[str, tuple[Transcript, list[str], dict[str, int]]] = {
    "start line of the limit": (
        [(CLIENT, b"GET /" + b"a" * (HEAD_LIMIT - 15) + b" HTTP/1.1\nHost: h\n\n")],
        ["GET h /" + "a" * (HEAD_LIMIT - 15)],
        {},
    ),
    "start line beyond the limit": (
        [(CLIENT, b"GET /" + b"a" * HEAD_LIMIT + b" HTTP/1.1\r\nHost: h\r\n\r\n" + GET)],
        ["GET h /a"],
        {"start line too long": 1},
    ),
    "header section of the limit": (
        [(CLIENT, GET[:-2] + b"X: " + b"a" * (HEAD_LIMIT - 14) + b"\r\n\r\n" + GET)],
        ["GET h /a"] * 2,
        {},
    ),
    "header section beyond the limit": (
        [(CLIENT, GET[:-2] + b"X: " + b"a" * (HEAD_LIMIT - 12) + b"\r\n\r\n" + GET)],
        ["GET  /a", "GET h /a"],
        {"header section too large": 1},
    ),
    "chunk-size line": (
        [(CLIENT, request(b"Transfer-Encoding: chunked", b"1;" + b"x" * http1.CHUNK_LINE_LIMIT + b"\r\n") + GET)],
        ["POST h /p", "GET h /a"],
        {"chunk-size line too long": 1},
    ),
    "trailer section": (
        [
            (
                CLIENT,
                request(b"Transfer-Encoding: chunked", b"0\r\n" + b"A: b\r\n" * (http1.TRAILER_LIMIT // 5 + 1)) + GET,
            )
        ],
        ["POST h /p", "GET h /a"],
        {"trailer section too large": 1},
    ),
    "pending requests": (
        [
            (CLIENT, GET * (pairing.PENDING_LIMIT + 2)),
            (SERVER, NOT_FOUND * (pairing.PENDING_LIMIT + 2)),
            (CLIENT, GET),
            (SERVER, OK),
        ],
        ["GET h /a"] * (pairing.PENDING_LIMIT + 2) + ["404 to GET /a"] * pairing.PENDING_LIMIT + ["404"] * 2 + SEEN,
        {"too many pending requests": 2},
    ),
    "bytes that wait for the answer to CONNECT": (
        [
            (
                CLIENT,
                b"CONNECT o:1 HTTP/1.1\r\n\r\n"
                + request(b"Content-Length: %d" % http1.WAITING_LIMIT, b"x" * http1.WAITING_LIMIT),
            ),
            (CLIENT, GET),
        ],
        ["CONNECT o:1 o:1", "POST h /p", "GET h /a"],
        {"no answer to CONNECT or Upgrade": 1},
    ),
    "CONNECT after CONNECT waits no more": (
        [
            (CLIENT, b"CONNECT o:1 HTTP/1.1\r\n\r\n" * (http1.WAITS_LIMIT + 3)),
            (SERVER, NOT_FOUND * (http1.WAITS_LIMIT)),
        ],
        [*["CONNECT o:1 o:1", "404 to CONNECT o:1"] * http1.WAITS_LIMIT, *["CONNECT o:1 o:1"] * 3],
        {},
    ),
    "method": ([(CLIENT, b"M" * 33 + b" / HTTP/1.1\r\n" + GET)], ["GET h /a"], {"malformed request line": 1}),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limit(name):
    transcript, messages, counters = LIMITS[name]
    told, losses = play_counted(Http1, transcript)
    assert [brief(message) for message in told] == messages
    assert losses == {("http1", reason): number for reason, number in counters.items()}


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("size", [1448, 61])
def test_limit_is_the_same_in_segments(name, size):
    transcript = LIMITS[name][0]
    assert play_counted(Http1, transcript, lambda data: pieces(data, range(0, len(data), size))) == play_counted(
        Http1, transcript
    )


def held(parser: Http1) -> int:
    """Octets that a parser keeps."""
    return parser._held_size + sum(len(stream.buffer) + len(stream.section) for stream in parser._streams)


TE = b"Transfer-Encoding: chunked"
ENDLESS = [
    b"",
    GET[:-2] + b"X: ",
    b"\xff\r\n",
    request(TE, b"1;"),
    request(TE, b"0\r\nX"),
    request(TE, b"1\r\nx"),
    b"CONNECT o:1 HTTP/1.1\r\n\r\n",
    b"\xff\r\n" + GET[:-2],
]


@pytest.mark.parametrize("start", ENDLESS)
def test_a_line_without_end_does_not_grow_the_parser(start):
    parser = Http1(Losses())
    parser.feed(CLIENT, start, 1)
    for _ in range(400):
        parser.feed(CLIENT, b"x" * 1448, 2)
        assert held(parser) <= 2 * HEAD_LIMIT + 2 * 1448


def test_small_pieces_that_wait_are_bounded_by_their_cost():
    losses = Losses()
    parser = Http1(losses)
    parser.feed(CLIENT, b"CONNECT o:1 HTTP/1.1\r\n\r\n", 1)
    for time_ns in range(http1.WAITING_LIMIT // (http1.HELD_COST + 1) + 1):
        assert losses.total() == 0
        parser.feed(CLIENT, b"x", time_ns)
    assert losses.snapshot() == {("http1", "no answer to CONNECT or Upgrade"): 1}
    assert parser._held == []


FRAGMENTS = [GET, OK, NOT_FOUND, FAKE_OK, CHUNKED, b"\r\n", b"\n", b"\r", b" ", b":", b"0\r\n\r\n", b"5\r\nhello\r\n"]
FRAGMENTS += [
    b"GET ",
    b"/ HTTP/1.1",
    b"HTTP/1.1 ",
    b"200 ",
    b"Host: h\r\n",
    b"Content-Length: 3\r\n",
    TE,
    b"Upgrade: x\r\n",
]
FRAGMENTS += [b"CONNECT o:1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 101 X\r\n\r\n", b"HTTP/1.1 100 C\r\n\r\n", b"\0", b"\xff\xfe"]
BYTES = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=8)), max_size=12).map(b"".join)
GARBAGE = st.lists(
    st.tuples(st.sampled_from(Side), st.one_of(BYTES, BYTES, BYTES, st.integers(1, 40))).filter(lambda entry: entry[1]),
    max_size=10,
)


@given(GARBAGE, st.lists(st.integers(0, 400), max_size=10))
@example([(CLIENT, b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\n\r\nGET"), (SERVER, OK)], [3])
def test_random_bytes_never_raise_and_mean_the_same_however_cut(transcript, cuts):
    whole = play_counted(Http1, transcript)
    assert play_counted(Http1, transcript, lambda data: pieces(data, cuts)) == whole
    assert play_counted(Http1, transcript, lambda data: pieces(data, range(len(data)))) == whole


@given(st.sampled_from(TRANSCRIPTS), st.integers(0, 1 << 16), st.integers(0, 255), st.booleans())
def test_mutated_bytes_never_raise(transcript, place, octet, is_dropped):
    mutated: Transcript = []
    for side, data in transcript:
        if isinstance(data, bytes) and data:
            at = place % len(data)
            data = data[:at] + (b"" if is_dropped else bytes([octet])) + data[at + 1 :]
        mutated.append((side, data))
    parser = Http1(Losses())
    for message in play(parser, mutated):
        assert message.kind is L7Kind.HTTP
        assert (message.code is None) == (message.type is L7Type.REQUEST)
    assert held(parser) == 0
