"""Start lines and control fields of HTTP/1 heads."""

import pytest

from observer.l7.http1_head import Fields, StartLine, may_start, read_section, request_line, status_line
from observer.losses import Losses


@pytest.mark.parametrize(
    ("line", "start"),
    [
        (b"GET / HTTP/1.1\r", StartLine(11, b"GET", b"/")),
        (b"M-SEARCH * HTTP/1.0", StartLine(10, b"M-SEARCH", b"*")),
        (b"GET\t/\x0bHTTP/1.1 ", StartLine(11, b"GET", b"/")),
        (b"GET /a b  c HTTP/1.1", StartLine(11, b"GET", b"/a b  c")),
        (b"GET /\xff\x1b[m HTTP/1.1", StartLine(11, b"GET", b"/\xff\x1b[m")),
        (b"GET / HTTP/1.9", StartLine(19, b"GET", b"/")),
        (b"GET / HTTP/2.0", None),
        (b"GET / http/1.1", None),
        (b"GET / HTTP/1.", None),
        (b"GET HTTP/1.1", None),
        (b"GET /", None),
        (b" GET / HTTP/1.1", None),
        (b"G(T / HTTP/1.1", None),
        (b"", None),
    ],
)
def test_request_line(line, start):
    assert request_line(line) == start


@pytest.mark.parametrize(
    ("line", "start"),
    [
        (b"HTTP/1.1 200 OK\r", StartLine(11, code=200)),
        (b"HTTP/1.0 404", StartLine(10, code=404)),
        (b"HTTP/1.1  503 \xff reason", StartLine(11, code=503)),
        (b"HTTP/1.1 2000 OK", None),
        (b"HTTP/1.1 20", None),
        (b"HTTP/1.1200 OK", None),
        (b"HTTP/2 200", None),
        (b"ICY 200 OK", None),
    ],
)
def test_status_line(line, start):
    assert status_line(line) == start


@pytest.mark.parametrize(
    ("data", "may"),
    [
        *[(data, True) for data in (b"", b"\r\n", b"GE", b"HTTP", b"HTTP/1", b"GET ", b"a\tb")],
        *[(data, False) for data in (b"HTTP/2", b"GET/", b"\x00", b"x" * 33, b"{", b"\n" * 17)],
    ],
)
def test_may_start(data, may):
    assert may_start(data) is may


@pytest.mark.parametrize(
    ("head", "fields"),
    [
        (b"\n", Fields()),
        (b"\nHOST:\t h:80 \r\n", Fields(host=b"h:80")),
        (b"\nX-Host: x\r\nHosts: y\r\n", Fields()),
        (b"\nHost:\r\n h\r\n", Fields(host=b"h")),
        (b"\nContent-Length: 07\r\n", Fields(length=7)),
        (b"\nContent-Length: 7,7 , 7\r\n", Fields(length=7)),
        (b"\nContent-Length: +7\r\n", Fields(faulty=True)),
        (b"\nContent-Length: 7 7\r\n", Fields(faulty=True)),
        (b"\nContent-Length: \r\n", Fields(faulty=True)),
        (b"\nContent-Length: \xb2\r\n", Fields(faulty=True)),
        (b"\nContent-Length: 7\r\nContent-Length: 8\r\n", Fields(faulty=True)),
        (b"\nTransfer-Encoding: gzip ,\tCHUNKED \r\n", Fields(coding=b"chunked")),
        (b"\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", Fields(coding=b"gzip")),
        (b"\nTransfer-Encoding: chunked\r\nContent-Length: x\r\n", Fields(coding=b"chunked")),
        (b"\nUpgrade: h2c\r\nUpgrade-Insecure-Requests: 1\r\n", Fields(upgrade=True)),
        (b"\nUpgrade-Insecure-Requests: 1\r\n", Fields()),
    ],
)
def test_control_fields(head, fields):
    assert read_section(head, 11, Losses()) == (fields, head[1:])
