"""The heads of HTTP/1.x messages: start lines, and the fields that say where a message ends and whom it is for.

Pure functions from bytes to small objects (RFC 9110, 5; RFC 9112, 2-6). Regular expressions here take time linear in
their input whatever it holds. They refuse to know connections; what is wrong with a field is counted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from observer.l7.message import Side
from observer.losses import Losses

HEAD_LIMIT: Final = 65_536
"""Octets of start line and header section together, and of any other line (RFC 9112, 3 asks for 8000 at least)."""

METHOD_LIMIT: Final = 32
"""Octets of a method."""

EMPTY_LINES_LIMIT: Final = 16
"""Octets of empty lines that may come before a first start line for it to be detected."""

MEMO_LIMIT: Final = 1_024
"""Start lines, and header sections, that are remembered: most come again and again."""

FIELDS_MEMO_LIMIT: Final = 4_096
"""Field lines that are remembered: of a section that is new, most lines are not."""

MEMO_SIZE: Final = 1_024
"""Octets of one that is remembered."""

_DIGITS_LIMIT: Final = 18  # of a Content-Length: fits 63 bits

_TCHAR: Final = rb"!#$%&'*+\-.^_`|~0-9A-Za-z"  # RFC 9110, 5.6.2
EMPTY_LINES: Final = re.compile(rb"[\r\n]*")
_MAY_START: Final = re.compile(rb"HTTP/1|[%s]{1,%d}(?:[ \t]|\Z)|HTTP/\Z" % (_TCHAR, METHOD_LIMIT))
_METHOD: Final = re.compile(rb"[%s]{1,%d}" % (_TCHAR, METHOD_LIMIT))
_REQUEST_LINE: Final = re.compile(  # as RFC 9112, 3 asks for it
    rb"([%s]{1,%d}+) ([!-~\x80-\xff]++) HTTP/1\.([0-9])\r?" % (_TCHAR, METHOD_LIMIT)
)
_VERSION: Final = re.compile(rb"HTTP/1\.([0-9])")
_STATUS: Final = re.compile(rb"HTTP/1\.([0-9])[ \t]+([0-9]{3})(?![^ \t\r\n])")  # RFC 9112, 4: the reason may be absent
HEAD_END: Final = re.compile(rb"\n\r?\n")
FIELD_LINE: Final = re.compile(rb"(?:[%s]+:|[ \t])[^\0]*" % _TCHAR)
FIELDS: Final = re.compile(rb"(?:\n[%s]++:[^\n\0]*+(?:\n[ \t][^\n\0]*+)*+)*+\n" % _TCHAR)  # never steps back
_FIELD: Final = re.compile(  # one line, of no other
    rb"(?:(host|content-length|transfer-encoding|upgrade)|[%s]++):([^\0]*)" % _TCHAR, re.IGNORECASE
)
_CONTROL: Final = re.compile(  # the fields that decide on host and body, obs-fold included (RFC 9112, 5.2)
    rb"\n(host|content-length|transfer-encoding|upgrade)([ \t]*):([^\n]*(?:\n[ \t][^\n]*)*)", re.IGNORECASE
)
AUTHORITY: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://(?:[^/?#@]*@)?([^/?#]*)")  # RFC 3986, 3.2
_H2C: Final = re.compile(rb"\nupgrade[ \t]*:[ \t]*h2c[ \t\r\n]", re.IGNORECASE)
START_IN_LINE: Final = (  # by Side: a body without line end may stand right before the start line that is searched
    re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH) [^ \t\r]+ HTTP/1\.[01]\r?\Z"),
    re.compile(rb"HTTP/1\.[01] [1-5][0-9]{2}(?=[ \r]|\Z)"),
)


@dataclass(slots=True)  # no NamedTuple: that looks its fields up in the class at every reading
class StartLine:
    """A request line (RFC 9112, 3) or a status line (4)."""

    version: int  # 10, 11
    method: bytes = b""
    target: bytes = b""
    code: int = 0


def empty_lines(data: bytes | bytearray) -> int:
    """How many octets of empty lines come first (RFC 9112, 2.2: ignore them)."""
    match = EMPTY_LINES.match(data)
    return match.end() if match else 0


def may_start(data: bytes | bytearray) -> bool:
    """Whether `data`, perhaps unfinished, begins like a start line."""
    start = empty_lines(data)
    return start <= EMPTY_LINES_LIMIT and (start == len(data) or _MAY_START.match(data, start) is not None)


def request_line(line: bytes) -> StartLine | None:
    """Read a request line; white space is taken leniently, and a target may hold it (RFC 9112, 3 and 3.2)."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is not None:  # nearly always
        method, target, digit = match.groups()
        return StartLine(10 + int(digit), method, target)
    first = line.split(None, 1)
    if len(first) != 2 or line[:1].isspace() or not _METHOD.fullmatch(first[0]):
        return None
    last = first[1].rsplit(None, 1)
    if len(last) != 2:
        return None
    version = _VERSION.fullmatch(last[1])
    return StartLine(10 + int(version[1]), first[0], last[0]) if version else None


def status_line(line: bytes) -> StartLine | None:
    """Read a status line."""
    match = _STATUS.match(line)
    return StartLine(10 + int(match[1]), b"", b"", int(match[2])) if match else None


def is_h2c(head: bytes) -> bool:
    """Whether a 101 says that HTTP/2 follows (RFC 7540, 3.2)."""
    return _H2C.search(head) is not None


_READERS: Final = (request_line, status_line)  # by Side
_lines: Final[tuple[dict[bytes, StartLine], ...]] = ({}, {})  # by Side


def start_line(side: Side, line: bytes) -> StartLine | None:
    """Read the start line that this side may send."""
    memo = _lines[side]
    start = memo.get(line)
    if start is None:
        start = _READERS[side](line)
        if start is not None and len(line) <= MEMO_SIZE:
            if len(memo) >= MEMO_LIMIT:
                memo.clear()
            memo[line] = start
    return start


MALFORMED_START: Final = ("malformed request line", "malformed status line")  # by Side


@dataclass(slots=True)  # as StartLine
class Fields:
    """The header fields that decide where a message ends and whom it is for."""

    host: bytes = b""
    length: int | None = None
    coding: bytes | None = None  # last transfer coding, lower case
    faulty: bool = False  # Content-Length cannot be trusted
    upgrade: bool = False
    grpc: bool = False  # some field names gRPC


def is_plausible(start: StartLine, head: bytes) -> bool:
    """Whether a head found by search is one: a 1.1 request has a Host (RFC 9112, 3.2), a response a field."""
    if start.code or start.version == 10:
        return len(head) > 1
    return any(match[1].lower() == b"host" for match in _CONTROL.finditer(head))


_sections: Final[dict[bytes, tuple[Fields, bytes]]] = {}
"""Sections with nothing wrong in them, at least in HTTP/1.1."""

_fields: Final[dict[bytes, tuple[bytes, bytes]]] = {}
"""What sound field lines say of control: name in lower case and value, or two empty ones."""


def read_section(head: bytes, version: int, losses: Losses) -> tuple[Fields, bytes]:
    """The control fields of a header section that starts with a line end, and its lines without that."""
    known = _sections.get(head)
    # What is right with a coding depends on the version.
    if known is not None and (version != 10 or known[0].coding is None):
        return known
    faults: list[str] = []
    # `in` would raise an error inside each time, and be slow.
    section = _judge(_control_fields(head, faults), version, head.find(b"grpc") >= 0, faults), head[1:]
    for fault in faults:
        losses.count("http1", fault)
    if not faults and len(head) <= MEMO_SIZE:
        if len(_sections) >= MEMO_LIMIT:
            _sections.clear()
        _sections[head] = section
    return section


def _control_fields(head: bytes, faults: list[str]) -> list[tuple[bytes, bytes]]:
    """Names in lower case and values of the fields that decide, in their order."""
    out = []
    for line in head[1:-1].split(b"\n"):
        field = _fields.get(line) or _read_field(line)
        if field is None:  # something is unusual, if only in the next line
            break
        if field[0]:
            out.append(field)
    else:
        return out
    if not FIELDS.fullmatch(head):
        faults.append("malformed field line")
    out = []
    for name, space, value in _CONTROL.findall(head):
        if space:
            faults.append("white space before colon")  # RFC 9112, 5.1
        out.append((name.lower(), value.strip()))
    return out


def _read_field(line: bytes) -> tuple[bytes, bytes] | None:
    """Read a field that is all in one line, and remember it; None where it is none."""
    match = _FIELD.fullmatch(line)
    if match is None:
        return None
    name = match[1]
    field = (name.lower(), match[2].strip()) if name else (b"", b"")
    if len(line) <= MEMO_SIZE:
        if len(_fields) >= FIELDS_MEMO_LIMIT:
            _fields.clear()
        _fields[line] = field
    return field


def _judge(control: list[tuple[bytes, bytes]], version: int, grpc: bool, faults: list[str]) -> Fields:
    """What the fields that decide come to, taken together."""
    host, lengths, codings, upgrade = b"", b"", b"", False
    hosts = 0
    for name, value in control:
        match name:
            case b"host":
                hosts += 1
                host = host or value
            case b"content-length":
                lengths += b"," + value
            case b"transfer-encoding":
                codings += b"," + value
            case _:
                upgrade = True
    if hosts > 1:
        faults.append("several Host fields")  # RFC 9112, 3.2
    coding = None
    length: int | None = None
    faulty = False
    if codings:
        coding = codings.rpartition(b",")[2].strip().lower()
        if lengths:  # RFC 9112, 6.1 and 6.3 item 3: Transfer-Encoding overrides
            faults.append("both Transfer-Encoding and Content-Length")
        if version == 10:
            faults.append("Transfer-Encoding in HTTP/1.0")  # RFC 9112, 6.1
    elif lengths:
        digits = lengths[1:]
        if not digits.isdigit():  # else it is one number, as nearly always
            several = {value.strip() for value in digits.split(b",")}
            digits = several.pop()
            faulty = bool(several)
        if faulty:
            faults.append("conflicting Content-Length")  # RFC 9112, 6.3 item 5
        elif not digits.isdigit() or len(digits.lstrip(b"0")) > _DIGITS_LIMIT:
            faults.append("invalid Content-Length")
            faulty = True
        else:
            length = int(digits.lstrip(b"0") or b"0")
    return Fields(host, length, coding, faulty, upgrade, grpc)
