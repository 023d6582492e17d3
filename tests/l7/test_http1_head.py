"""Start lines and control fields of HTTP/1 heads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.l7 import http1_head
from observer.l7.http1_head import (
    FIELDS_MEMO_LIMIT,
    MEMO_LIMIT,
    MEMO_SIZE,
    Fields,
    StartLine,
    may_start,
    read_section,
    request_line,
    start_line,
    status_line,
)
from observer.l7.message import Side
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


def test_more_start_lines_than_are_kept_stay_right():
    kept = http1_head._lines[Side.CLIENT]
    kept.clear()
    for _ in range(2):
        for number in range(MEMO_LIMIT + 2):
            line = b"GET /%d HTTP/1.1" % number
            assert start_line(Side.CLIENT, line) == StartLine(11, b"GET", b"/%d" % number)
            assert line in kept
            assert len(kept) <= MEMO_LIMIT
    long = b"GET /" + b"x" * MEMO_SIZE + b" HTTP/1.1"
    assert start_line(Side.CLIENT, long) == request_line(long)
    assert start_line(Side.CLIENT, b"GET / nothing") is None
    assert not {long, b"GET / nothing"} & kept.keys()
    assert start_line(Side.SERVER, b"GET /1 HTTP/1.1") is None  # what one side may say is not the other's


def test_more_header_sections_than_are_kept_stay_right():
    kept = http1_head._sections
    kept.clear()
    for _ in range(2):
        for number in range(MEMO_LIMIT + 2):
            head = b"\nHost: h%d\r\n" % number
            assert read_section(head, 11, Losses()) == (Fields(host=b"h%d" % number), head[1:])
            assert head in kept
            assert len(kept) <= MEMO_LIMIT


@pytest.mark.parametrize(
    ("head", "faults"),
    [
        (b"\nHost: " + b"h" * MEMO_SIZE + b"\r\n", {}),
        (b"\nTransfer-Encoding: chunked\r\n", {("http1", "Transfer-Encoding in HTTP/1.0"): 1}),
        (b"\nHost: a\r\nHost: b\r\n", {("http1", "several Host fields"): 1}),
    ],
)
def test_what_is_long_or_faulty_is_read_anew_and_counted_again(head, faults):
    http1_head._sections.clear()
    for _ in range(2):
        losses = Losses()
        read_section(head, 10, losses)
        assert losses.snapshot() == faults
        assert head not in http1_head._sections


def test_a_section_that_was_right_in_one_version_is_counted_in_the_other():
    head = b"\nTransfer-Encoding: chunked\r\n"
    for version, faults in ((11, 0), (10, 1), (11, 0), (10, 1)):
        losses = Losses()
        assert read_section(head, version, losses) == (Fields(coding=b"chunked"), head[1:])
        assert losses.get("http1", "Transfer-Encoding in HTTP/1.0") == faults


def test_more_field_lines_than_are_kept_stay_right():
    kept = http1_head._fields
    kept.clear()
    for _ in range(2):
        for number in range(FIELDS_MEMO_LIMIT + 2):
            head = b"\nHost: h%d\r\nX-Request-Id: %d\r\n" % (number, number)
            assert read_section(head, 11, Losses()) == (Fields(host=b"h%d" % number), head[1:])
            assert len(kept) <= FIELDS_MEMO_LIMIT
    assert kept[b"Host: h%d\r" % number] == (b"host", b"h%d" % number)
    long = b"X: " + b"x" * MEMO_SIZE
    read_section(b"\n" + long + b"\n", 11, Losses())
    assert long not in kept


LINES = (
    b"Host: a\r\n", b"host:b\n", b"Content-Length: 3\r\n", b"content-length: 4, 4\n", b"Upgrade: h2c\r\n", b" fold\r\n",
    b"X: y\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Host : c\r\n", b"no field\r\n", b"X: \0\r\n", b"\r\n",
)  # fmt: skip


@given(st.lists(st.sampled_from(LINES)))
def test_lines_of_their_own_say_what_the_whole_section_does(lines):
    head = b"\n" + b"".join(lines)
    faults, expected_faults = [], []
    expected = [(name.lower(), value.strip()) for name, _, value in http1_head._CONTROL.findall(head)]
    if not http1_head.FIELDS.fullmatch(head):
        expected_faults.append("malformed field line")
    expected_faults += ["white space before colon" for _, space, _ in http1_head._CONTROL.findall(head) if space]
    assert http1_head._control_fields(head, faults) == expected
    assert faults == expected_faults
