"""HTTP/1 as bpf/http.h reads it: heads of any spelling, bodies of any framing, however the bytes are cut."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from observer.record import Flags, L7Kind, Present
from tests.datapath.both import COLUMNS, by_kernel, named, stored
from tests.datapath.traffic import CLIENT, SERVER, Segment, cuts, disturbed, frames_of, http_exchange, packets
from tests.packets import tcp

pytestmark = pytest.mark.ebpf

ADDRESSES = (f"10.99.{number >> 8}.{number & 255}" for number in itertools.count(1))
KIND = COLUMNS.index("l7_kind")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def said(kernel, *pieces: tuple[int, bytes]) -> int:
    """Each piece in a segment of its own, after a handshake; how many messages the kernel has told by itself."""
    one, two = f"{next(ADDRESSES)}:40000", "10.98.0.1:80"
    ends, numbers, rows = (one, two), [1001, 5001], []
    rows = [tcp(one, two, "S", sequence=1000), tcp(two, one, "SA", sequence=5000, acknowledgment=1001, at=0.001)]
    for at, (side, data) in enumerate(pieces, 2):
        numbers_now = {"sequence": numbers[side], "acknowledgment": numbers[1 - side]}
        rows.append(tcp(ends[side], ends[1 - side], "PA", data, at=at / 1000, **numbers_now))
        numbers[side] += len(data)
    kernel.assert_same(frames_of(rows))
    return by_kernel(kernel.store, L7Kind.HTTP)


REQUESTS = {
    "plain": (b"GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n", True),
    "line feeds only": (b"GET / HTTP/1.1\nHost: h\n\n", True),
    "no fields": (b"GET / HTTP/1.0\r\n\r\n", True),
    "host in capitals": (b"GET / HTTP/1.1\r\nHOST:h\r\n\r\n", True),
    "host with space around": (b"GET / HTTP/1.1\r\nHost: \t h \t \r\n\r\n", True),
    "host empty": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", True),
    "a method of its own": (b"PURGE-ALL /x HTTP/1.1\r\nHost: h\r\n\r\n", True),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", True),
    "space in the target": (b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", True),
    "empty lines before": (b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", False),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", False),
    "tab": (b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", False),
    "absolute target": (b"GET http://other/x HTTP/1.1\r\nHost: h\r\n\r\n", False),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", False),
    "space before the colon": (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", False),
    "folded host": (b"GET / HTTP/1.1\r\nHost:\r\n h\r\n\r\n", False),
    "folded other field": (b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", True),
    "upgrade": (b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n", False),
    "connect": (b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", False),
    "grpc-web": (b"POST /s/m HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc-web\r\n\r\n", False),
    "names that begin like others": (b"GET / HTTP/1.1\r\nHosts: x\r\nContent-Lengths: 9\r\nHost: h\r\n\r\n", True),
    "a head of 3000 octets": (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 3000 + b"\r\n\r\n", True),
    "a head of 5000 octets": (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 5000 + b"\r\n\r\n", False),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_requests(kernel, name):
    request, is_read = REQUESTS[name]
    assert said(kernel, (CLIENT, request), (SERVER, OK), (CLIENT, GET), (SERVER, OK)) == (4 if is_read else 0)


FRAMINGS = {
    "length": (b"Content-Length: 5\r\n\r\nhello", True),
    "length, spelled at length": (b"CONTENT-LENGTH:   000005  \r\n\r\nhello", True),
    "chunks": (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", True),
    "chunks with extensions and trailers": (
        b"transfer-encoding: Chunked\r\n\r\n05 ;a=b\r\nhello\r\nA\r\n0123456789\r\n00\r\nX: y\r\n\r\n",
        True,
    ),
    "chunks and line feeds": (b"Transfer-Encoding: chunked\n\n5\nhello\n0\n\n", True),
    "two lengths": (b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", False),
    "a list of lengths": (b"Content-Length: 5, 5\r\n\r\nhello", False),
    "conflicting lengths": (b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", False),
    "signed length": (b"Content-Length: +5\r\n\r\nhello", False),
    "length of 19 digits": (b"Content-Length: 1000000000000000000\r\n\r\nhello", False),
    "chunks and a length": (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False),
    "another coding": (b"Transfer-Encoding: gzip\r\n\r\nhello", False),
    "two codings": (b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", False),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMINGS)
@pytest.mark.parametrize("of", [CLIENT, SERVER])
def test_framings(kernel, name, of):
    framing, is_read = FRAMINGS[name]
    request = b"POST / HTTP/1.1\r\nHost: h\r\n" + framing if of == CLIENT else GET
    response = b"HTTP/1.1 200 OK\r\n" + framing if of == SERVER else OK
    told = said(kernel, (CLIENT, request), (SERVER, response), (CLIENT, GET), (SERVER, OK))
    assert told == (4 if is_read else 1 if of == SERVER else 0)


@pytest.mark.parametrize("name", ["length", "chunks with extensions and trailers", "chunks and line feeds"])
def test_bodies_cut_anywhere(kernel, name):
    framing, _ = FRAMINGS[name]
    head, _, body = (b"HTTP/1.1 200 OK\r\n" + framing).partition(b"\r\n\r\n" if b"\r\n\r\n" in framing else b"\n\n")
    head += b"\r\n\r\n"
    octets = [(SERVER, bytes((octet,))) for octet in body]
    assert said(kernel, (CLIENT, GET), (SERVER, head), *octets, (CLIENT, GET), (SERVER, OK)) == 4


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "body",
    [b"g\r\n", b"5 5\r\n", b"\r\n", b"5\rx\r\n", b"1000000000000000\r\n", b"2\r\nokx\r\n", b"5;" + b"x" * 2600],
)
def test_malformed_chunks_are_handed_over(kernel, body):
    assert said(kernel, (CLIENT, GET), (SERVER, CHUNKED + body), (SERVER, b"\r\n"), (CLIENT, GET), (SERVER, OK)) < 4


STATUSES = {
    "continue": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 4),
    "early hints": (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, 4),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 4),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", 4),
    "no reason": (b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", 4),
    "two spaces": (b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n", 1),
    "switching": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", 1),
    "until close": (b"HTTP/1.0 200 OK\r\n\r\nhello", 3),
    "four digits": (b"HTTP/1.1 2000 OK\r\n\r\n", 1),
}


@pytest.mark.parametrize("name", STATUSES)
def test_statuses(kernel, name):
    response, told = STATUSES[name]
    assert said(kernel, (CLIENT, GET), (SERVER, response), (CLIENT, GET), (SERVER, OK)) == told


def test_a_response_to_head_has_no_body(kernel):
    head = b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"
    assert said(kernel, (CLIENT, head), (SERVER, response), (CLIENT, GET), (SERVER, OK)) == 4


def test_pipelined_requests_are_paired_in_order(kernel):
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(50))
    assert said(kernel, (CLIENT, requests), (SERVER, OK * 20), (SERVER, OK * 30)) == 100


def test_too_many_waiting_requests_go_to_user_space(kernel):
    requests = [(CLIENT, GET * 64)] * 5
    assert said(kernel, *requests, *[(SERVER, OK * 40)] * 8) == 256


def test_a_response_without_its_request_is_told_as_incomplete(kernel):
    assert said(kernel, (SERVER, OK), (CLIENT, GET), (SERVER, OK)) == 3
    first = next(named(row) for row in stored(kernel.store) if row[KIND] == L7Kind.HTTP)
    assert (first["l7_method"], first["present"] & Present.METHOD, first["flags"]) == (0, 0, Flags.L7_INCOMPLETE)


def test_segments_that_come_twice_overlap_or_lie_in_a_body_stay_in_the_kernel(kernel):
    body = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3000\r\n\r\n"
    pieces = [Segment(CLIENT, 0, body), Segment(CLIENT, len(body) + 1000, b"b" * 1000)]
    pieces += [Segment(CLIENT, len(body), b"a" * 1000), Segment(CLIENT, 10, body[10:] + b"a" * 500)]
    pieces += [
        Segment(CLIENT, len(body) + 2000, b"c" * 1000 + GET),
        Segment(SERVER, 0, OK),
        Segment(SERVER, 0, OK + OK),
    ]
    one, two = f"{next(ADDRESSES)}:40000", "10.98.0.1:80"
    rows = []
    for at, piece in enumerate(pieces):
        ends = (one, two) if piece.side == CLIENT else (two, one)
        rows.append(tcp(*ends, "PA", piece.data, sequence=1001 + piece.offset, acknowledgment=1, at=at / 1000))
    kernel.assert_same(frames_of(rows))
    assert by_kernel(kernel.store, L7Kind.HTTP) == 4


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_exchange_cut_and_disturbed_in_any_way(kernel, data):
    exchanges = data.draw(st.lists(http_exchange(), min_size=1, max_size=4))
    if data.draw(st.booleans()):
        pieces = [(CLIENT, request) for request, _ in exchanges] + [(SERVER, response) for _, response in exchanges]
    else:
        pieces = [piece for request, response in exchanges for piece in ((CLIENT, request), (SERVER, response))]
    segments = data.draw(disturbed(data.draw(cuts(pieces))))
    client = f"{next(ADDRESSES)}:{data.draw(st.sampled_from([40000, 50000, 900]))}"
    server = f"10.98.0.1:{data.draw(st.sampled_from([80, 8080, 45000]))}"
    kernel.assert_same(frames_of(data.draw(packets(segments, client, server))))
