"""One DNS message: bytes to names, types, addresses and codes.

RFC 1035 (format and compression), 3596 (AAAA), 6891 (extended rcode), 4343 (names as text); 6762 and 4795 (multicast
DNS and LLMNR share the format). A message that breaks off behind its question is read as far as it goes. It refuses to
know connections, zones, signatures and what records other than addresses and aliases say.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from observer.l7.dns_types import type_name

HEADER_SIZE: Final = 12
SANE_SIZE: Final = 1232
"""Octets a message may have that is recognised without its port (what EDNS senders keep to)."""

NAME_LIMIT: Final = 255
"""Octets of a name on the wire (RFC 1035, 2.3.4)."""

POINTER_LIMIT: Final = 32
"""Compression pointers followed within one name."""

QUESTION_LIMIT: Final = 64
"""Questions of one message; multicast DNS asks several at once."""

ANSWER_LIMIT: Final = 256
"""Answer records of one message that are told."""

MEMO_LIMIT: Final = 8_192
"""First questions remembered as they stood on the wire: an answer repeats its query's, and clients repeat."""

_questions: Final[dict[bytes, tuple[bytes, int]]] = {}

_HEADER: Final = struct.Struct("!6H")
_RECORD: Final = struct.Struct("!HHIH")  # type, class, TTL, length
_POINTED: Final = struct.Struct("!HHHIH")  # the same behind a name that is nothing but a pointer
_QUESTION: Final = struct.Struct("!HH")
_SIX: Final = struct.Struct("!8H")
_A, _CNAME, _AAAA, _OPT = 1, 5, 28, 41
_RESPONSE: Final = 0x8000
_SMALLEST_QUESTION, _SMALLEST_RECORD = 5, 11

_ESCAPED: Final = tuple(  # RFC 4343, 2.1: octets other than graphic ASCII as backslash and three decimal digits
    b"\\" + bytes([octet]) if octet in b".\\" else bytes([octet]) if 0x21 <= octet <= 0x7E else b"\\%03d" % octet
    for octet in range(256)
)
_DECIMAL: Final = tuple(map(str, range(256)))
_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_PLAIN_OCTETS: Final = bytes(sorted(_PLAIN))


class MalformedError(Exception):
    """Bytes that are no DNS; never leaves l7/. Its text is the reason that is counted."""


@dataclass(slots=True)
class DnsMessage:
    """What one message says."""

    id: int
    is_response: bool
    rcode: int
    query: bytes  # the first question's name, as text
    qtype: int | None
    qtypes: tuple[int, ...]
    end: int  # where reading ended
    ips: Sequence[str] = ()
    cnames: Sequence[str] = ()
    rrtypes: Sequence[int] = ()
    ttl: int | None = None
    damage: str = ""  # why reading ended behind the question
    untold: int = 0  # answers beyond ANSWER_LIMIT


def is_response(data: bytes | bytearray) -> bool:
    """The QR bit."""
    return len(data) > 2 and data[2] >= 0x80


def is_plausible_header(header: bytes | bytearray, size: int) -> bool:
    """Whether 12 octets can head a message of `size` octets: known opcode, Z unset, counts that fit."""
    _, flags, questions, answers, authorities, additionals = _HEADER.unpack(header)
    records = answers + authorities + additionals
    return (
        (flags >> 11 & 15) in (0, 1, 2, 4, 5)
        and not flags & 0x40
        and questions + records > 0
        and HEADER_SIZE + questions * _SMALLEST_QUESTION + records * _SMALLEST_RECORD <= size
    )


def is_sane(data: bytes) -> bool:
    """Whether `data` is DNS beyond reasonable doubt: one plain question of known type, and no octet left over."""
    if not HEADER_SIZE < len(data) <= SANE_SIZE or not is_plausible_header(data[:HEADER_SIZE], len(data)):
        return False
    if data[2] & 0x78 or data[4:6] != b"\0\1" or (not is_response(data) and data[6:10] != b"\0\0\0\0"):
        return False  # a standard query asks one question and answers nothing
    try:
        message = read_message(data)
    except MalformedError:
        return False
    return (
        not message.damage
        and message.end == len(data)
        and not message.query.strip(_PLAIN_OCTETS + b".")
        and message.qtype is not None
        and not type_name(message.qtype).startswith("TYPE")
    )


def read_name(data: bytes, position: int) -> tuple[bytes, int]:
    """Read a name as text ending in a dot, and the position behind it (RFC 1035, 3.1 and 4.1.4)."""
    parts: list[bytes] = []
    after = -1
    octets = 1
    pointers = 0
    start = position  # of the run of labels being read: a pointer has to go before it
    size = len(data)
    while True:
        if position >= size:
            raise MalformedError("name cut short")
        length = data[position]
        if length >= 0xC0:
            if position + 1 >= size:
                raise MalformedError("name cut short")
            target = (length & 0x3F) << 8 | data[position + 1]
            pointers += 1
            if target >= start:  # RFC 1035, 4.1.4: to a *prior* occurrence; this alone rules out loops
                raise MalformedError("compression pointer not backwards")
            if pointers > POINTER_LIMIT:
                raise MalformedError("too many compression pointers")
            if after < 0:
                after = position + 2
            position = start = target
            continue
        if length >= 0x40:
            raise MalformedError("unknown label type")  # RFC 6891, 5
        position += 1
        if not length:
            break
        octets += length + 1
        if octets > NAME_LIMIT:
            raise MalformedError("name too long")
        label = data[position : position + length]
        if len(label) < length:
            raise MalformedError("name cut short")
        parts.append(label if _PLAIN.issuperset(label) else b"".join([_ESCAPED[octet] for octet in label]))
        position += length
    return b".".join(parts) + b".", position if after < 0 else after


def _skip_name(data: bytes, position: int) -> int:
    size = len(data)
    while position < size:
        length = data[position]
        if length >= 0xC0:
            return position + 2
        if length >= 0x40:
            raise MalformedError("unknown label type")
        position += length + 1
        if not length:
            return position
    raise MalformedError("name cut short")


def read_message(data: bytes) -> DnsMessage:
    """Read one message; raises MalformedError where not even the question can be read."""
    if len(data) < HEADER_SIZE:
        raise MalformedError("header cut short")
    identifier, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(data)
    if questions > QUESTION_LIMIT:
        raise MalformedError("too many questions")
    query, qtype, position = _first_question(data) if questions else (b"", None, HEADER_SIZE)
    qtypes: tuple[int, ...] = () if qtype is None else (qtype,)
    for _ in range(questions - 1):
        _, another, position = _question(data, position)
        qtypes += (another,)
    message = DnsMessage(identifier, flags >= _RESPONSE, flags & 15, query, qtype, qtypes, position)
    try:
        if answers:
            _read_answers(data, answers, message)
        for _ in range(authorities + additionals):
            message.end = _read_other(data, message.end, message)
    except MalformedError as malformed:
        message.damage = str(malformed)
    return message


def _question(data: bytes, position: int) -> tuple[bytes, int, int]:
    """Name and type of a question, and the position behind it (RFC 1035, 4.1.2)."""
    name, position = read_name(data, position)
    if position + _QUESTION.size > len(data):
        raise MalformedError("question cut short")
    qtype, _ = _QUESTION.unpack_from(data, position)
    return name, qtype, position + _QUESTION.size


def _first_question(data: bytes) -> tuple[bytes, int, int]:
    """The question behind the header."""
    raw = data[HEADER_SIZE : data.find(b"\0", HEADER_SIZE) + 1 + _QUESTION.size]
    known = _questions.get(raw)
    if known is not None:
        return *known, HEADER_SIZE + len(raw)
    try:
        name, qtype, size = _question(raw, 0)
    except MalformedError:  # or a label holds a zero, or a pointer leads elsewhere: read what is not for remembering
        return _question(data, HEADER_SIZE)
    if len(_questions) >= MEMO_LIMIT:
        _questions.clear()
    _questions[raw] = name, qtype
    return name, qtype, HEADER_SIZE + size


def _record(data: bytes, position: int) -> tuple[int, int, int, int]:
    """Type, TTL, and the bounds of a record's data (RFC 1035, 4.1.3)."""
    # Most names are nothing but a pointer.
    position = position + 2 if data[position : position + 1] >= b"\xc0" else _skip_name(data, position)
    if position + _RECORD.size > len(data):
        raise MalformedError("record cut short")
    rrtype, _, ttl, length = _RECORD.unpack_from(data, position)
    position += _RECORD.size
    if position + length > len(data):
        raise MalformedError("record cut short")
    return rrtype, ttl, position, position + length


def _read_answers(data: bytes, number: int, message: DnsMessage) -> None:
    """Read the answer section from `message.end` on; what stands before damage is kept."""
    ips: list[str] = []
    cnames: list[str] = []
    rrtypes: list[int] = []
    message.ips, message.cnames, message.rrtypes = ips, cnames, rrtypes
    told = min(number, ANSWER_LIMIT)
    position, last = message.end, len(data) - _POINTED.size
    for _ in range(told):
        if position <= last and data[position] >= 0xC0:  # as nearly all
            _, rrtype, _, ttl, length = _POINTED.unpack_from(data, position)
            start = position + _POINTED.size
            end = start + length
            if end > len(data):
                raise MalformedError("record cut short")
        else:
            rrtype, ttl, start, end = _record(data, position)
        if rrtype == _A:
            if end - start != 4:
                raise MalformedError("address of wrong length")
            a, b, c, d = data[start:end]
            ips.append(f"{_DECIMAL[a]}.{_DECIMAL[b]}.{_DECIMAL[c]}.{_DECIMAL[d]}")
        elif rrtype == _AAAA:  # RFC 3596, 2.2
            if end - start != 16:
                raise MalformedError("address of wrong length")
            ips.append(_ipv6_text(data[start:end]))
        elif rrtype == _CNAME:
            name, after = read_name(data, start)
            if after != end:
                raise MalformedError("alias of wrong length")
            cnames.append(name.decode("ascii"))
        rrtypes.append(rrtype)
        if ttl >> 31:
            ttl = 0  # RFC 2181, 8: a value with the top bit set counts as zero
        if message.ttl is None or ttl < message.ttl:
            message.ttl = ttl
        message.end = position = end
    for _ in range(number - told):
        _, _, _, message.end = _record(data, message.end)
        message.untold += 1


def _ipv6_text(address: bytes) -> str:
    """The address as RFC 5952 writes it."""
    text = "%x:%x:%x:%x:%x:%x:%x:%x" % _SIX.unpack(address)  # noqa: UP031 - half the time of format
    # Without two zeros in a row nothing is shortened; ipaddress takes ten times as long to see that.
    return str(IPv6Address(address)) if "0:0" in text else text


def _read_other(data: bytes, position: int, message: DnsMessage) -> int:
    rrtype, ttl, _, end = _record(data, position)
    if rrtype == _OPT:
        message.rcode |= ttl >> 24 << 4  # RFC 6891, 6.1.3
    return end
