"""Detection: by the bytes, ports only break ties."""

import pytest

from observer.l7 import detect
from observer.l7.detect import MORE, NONE, Detected, Detection
from observer.l7.dns_message import HEADER_SIZE
from observer.l7.http1_head import HEAD_LIMIT
from observer.l7.message import Side
from tests.l7.test_dns import answer, framed, query

HTTP_CLIENT = Detection(Detected.HTTP1, Side.CLIENT)
HTTP_SERVER = Detection(Detected.HTTP1, Side.SERVER)
DNS_CLIENT = Detection(Detected.DNS_STREAM, Side.CLIENT)
DNS_SERVER = Detection(Detected.DNS_STREAM, Side.SERVER)
UNKNOWN, DNS = (40000, 9999), (40000, 53)

# ApiVersions 3, with its software's name and version
KAFKA = bytes.fromhex("0000001c 0012 0003 00000001 0003") + b"cli" + b"\0\x05name\x041.0\0\0\0"
# Both begin with a length, and have zeros where Kafka has an API key and a client id
ZOOKEEPER = bytes.fromhex("0000002d 00000000 0000000000000000 00007530 0000000000000000 00000010") + bytes(17)
POSTGRES = bytes.fromhex("0000002a 00030000") + b"user\0postgres\0database\0template\0\0"


@pytest.mark.parametrize(
    ("data", "ports", "detection"),
    [
        (b"", UNKNOWN, MORE),
        (b"G", UNKNOWN, MORE),
        (b"GET / HTTP/1.1\r", UNKNOWN, MORE),
        (b"GET / HTTP/1.1\r\n", UNKNOWN, HTTP_CLIENT),
        (b"GET / HTTP/1.1\n", DNS, HTTP_CLIENT),  # the port does not make it DNS
        (b"\r\n\r\nPURGE /x HTTP/1.0\r\nHost", UNKNOWN, HTTP_CLIENT),
        (b"HTTP/1", UNKNOWN, MORE),
        (b"HTTP/1.1 200\r\n", UNKNOWN, HTTP_SERVER),
        (b"HTTP/1.0 404 Not Found\n", UNKNOWN, HTTP_SERVER),
        (b"\r\n", UNKNOWN, MORE),
        (b"\r\n" * 40, UNKNOWN, NONE),
        (b"GET /" + b"a" * HEAD_LIMIT, UNKNOWN, NONE),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", UNKNOWN, Detection(Detected.HTTP2, Side.CLIENT)),
        (b"HTTP/2 200\r\n", UNKNOWN, NONE),
        (b"OPTIONS rtsp://h/ RTSP/1.0\r\n", UNKNOWN, NONE),
        (b"INVITE sip:a@h SIP/2.0\r\n", UNKNOWN, NONE),
        (b"SSH-2.0-OpenSSH_9.2\r\n", UNKNOWN, NONE),
        (b"220 mail ESMTP\r\n", UNKNOWN, NONE),
        (b"GET key\r\n", UNKNOWN, NONE),
        (b"\x16\x03\x01\x02\x00\x01\x00", (40000, 443), Detection(Detected.TLS, Side.CLIENT)),
        (b"\x16\x03\x03\x00\x7a\x02\x00", UNKNOWN, Detection(Detected.TLS, Side.SERVER)),
        (b"\x16", UNKNOWN, MORE),
        (b"\x16\x03\x01\x02\x00", UNKNOWN, MORE),
        (b"\x16\x03\x05", UNKNOWN, NONE),
        (b"\x16\x03\x03\x00\x7a\x0b", UNKNOWN, NONE),  # in mid-handshake
        (b"\x16\x03\x03\x00\x00\x01", UNKNOWN, NONE),
        (b"\x16\x03\x03\x40\x01\x01", UNKNOWN, NONE),
        (b"\x80\x2e\x01\x03\x01\x00\x15", UNKNOWN, NONE),  # SSL 2's hello
        (b"\x17\x03\x03\x00\x20\x01", UNKNOWN, NONE),
        (KAFKA, UNKNOWN, Detection(Detected.KAFKA, Side.CLIENT)),
        (KAFKA[:3], UNKNOWN, MORE),
        (KAFKA[:13], UNKNOWN, MORE),
        (KAFKA[:-1], UNKNOWN, Detection(Detected.KAFKA, Side.CLIENT)),
        (KAFKA.replace(b"cli", b"c\0i"), UNKNOWN, NONE),
        (KAFKA.replace(b"\0\x12\0\x03", b"\0\x12\0\x7f"), UNKNOWN, NONE),  # no such version
        (KAFKA.replace(b"\0\x12\0\x03", b"\0\x7f\0\x03"), UNKNOWN, NONE),  # no such key
        (b"\x00\x00\x00\x20\x00\x12\x00\x03" + bytes(10), (40000, 9092), MORE),
        (b"\x00\x00\x00\x20\x00\x12\x00\x03" + bytes(28), UNKNOWN, NONE),  # zeros prove nothing
        (b"\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x07\xff\xff", UNKNOWN, Detection(Detected.KAFKA, Side.CLIENT)),
        (ZOOKEEPER, UNKNOWN, NONE),
        (POSTGRES, UNKNOWN, NONE),
        (b"x" * 33, UNKNOWN, NONE),
        (framed(query()), DNS, DNS_CLIENT),
        (framed(query())[:13], DNS, MORE),
        (framed(query())[: 2 + HEADER_SIZE], DNS, DNS_CLIENT),
        (framed(answer()), (53, 40000), DNS_SERVER),
        (b"\xff" * 40, DNS, NONE),
        (framed(query()), UNKNOWN, DNS_CLIENT),
        (framed(answer()), UNKNOWN, DNS_SERVER),
        (framed(query())[:-1], UNKNOWN, MORE),
        (framed(query())[:1], UNKNOWN, MORE),
        (framed(query() + b"\0"), UNKNOWN, NONE),
        (bytes(2), UNKNOWN, MORE),
        (bytes(4), UNKNOWN, NONE),
    ],
)
def test_stream(data, ports, detection):
    assert detect.stream(data, ports) == detection


DATAGRAM_CLIENT = Detection(Detected.DNS_DATAGRAM, Side.CLIENT)
DATAGRAM_SERVER = Detection(Detected.DNS_DATAGRAM, Side.SERVER)


@pytest.mark.parametrize(
    ("data", "ports", "detection"),
    [
        (query(), DNS, DATAGRAM_CLIENT),
        (answer(), (53, 40000), DATAGRAM_SERVER),
        (answer(), (40000, 5355), DATAGRAM_SERVER),
        (query(), (5353, 5353), Detection(Detected.DNS_DATAGRAM, None)),
        (answer(), (5353, 5353), Detection(Detected.DNS_DATAGRAM, None)),
        (b"garbage", DNS, DATAGRAM_CLIENT),  # the parser counts why it is none
        (query(), UNKNOWN, DATAGRAM_CLIENT),
        (answer(), UNKNOWN, DATAGRAM_SERVER),
        (query(), (137, 137), NONE),  # NetBIOS
        (query()[:-1], UNKNOWN, NONE),
        (b"garbage", UNKNOWN, NONE),
        (b"", UNKNOWN, NONE),
    ],
)
def test_datagram(data, ports, detection):
    assert detect.datagram(data, ports) == detection


@pytest.mark.parametrize(
    ("payload", "side"),
    [
        (b"GET / HTTP/1.1\r\n", Side.CLIENT),
        (b"HTTP/1.1 200 OK\r\n", Side.SERVER),
        (query(), Side.CLIENT),
        (answer(), Side.SERVER),
        (framed(query()), Side.CLIENT),
        (b"GET / HT", None),
        (b"\x17\x03\x03", None),
        (b"", None),
    ],
)
def test_orientation(payload, side):
    assert detect.orientation(payload) is side
