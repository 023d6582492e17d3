"""One DNS message: names, types, addresses, codes; hostile compression; what breaks off."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.l7 import dns_message
from observer.l7.dns_message import MalformedError, is_sane, read_message, read_name
from observer.l7.dns_types import type_name

# RFC 1035, 4.1.4: F.ISI.ARPA, FOO.F.ISI.ARPA, ARPA and the root in one packet, at 20, 40, 64 and 92.
RFC_1035 = (
    bytes(20) + b"\x01F\x03ISI\x04ARPA\0" + bytes(8) + b"\x03FOO\xc0\x14" + bytes(18) + b"\xc0\x1a" + bytes(26) + b"\0"
)


@pytest.mark.parametrize(
    ("position", "name", "after"),
    [(20, b"F.ISI.ARPA.", 32), (40, b"FOO.F.ISI.ARPA.", 46), (64, b"ARPA.", 66), (92, b".", 93)],
)
def test_names_of_rfc_1035(position, name, after):
    assert read_name(RFC_1035, position) == (name, after)


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (b"\x07a.b\\c d\0", b"a\\.b\\\\c\\032d."),  # RFC 4343, 2.1
        (b"\x05\x00\x1b[1m\0", b"\\000\\027[1m."),
        (b"\x03\xc3\xa9~\0", b"\\195\\169~."),
        (b"\x04_sip\x04_tcp\0", b"_sip._tcp."),
        (b"\x02Aa\0", b"Aa."),
    ],
)
def test_names_are_escaped(wire, text):
    assert read_name(wire, 0) == (text, len(wire))


CHAIN = b"\0" + b"".join(b"\xc0" + bytes([2 * n - 1 if n else 0]) for n in range(40))
"""Pointers each to the one before; the first to the root at 0."""


@pytest.mark.parametrize(
    ("data", "position", "reason"),
    [
        (b"\xc0\0", 0, "compression pointer not backwards"),  # to itself
        (b"\x01a\xc0\0", 0, "compression pointer not backwards"),  # a loop
        (b"\xc0\2\xc0\0", 0, "compression pointer not backwards"),
        (b"\xc0\2\xc0\0", 2, "compression pointer not backwards"),
        (b"\xc0\x20\0", 0, "compression pointer not backwards"),  # out of the message
        (CHAIN, len(CHAIN) - 2, "too many compression pointers"),
        (b"\x40a\0", 0, "unknown label type"),
        (b"\x80a\0", 0, "unknown label type"),
        (b"\x01a" * 127 + b"\1a\0", 0, "name too long"),
        (b"\x05abc", 0, "name cut short"),
        (b"\x03abc", 0, "name cut short"),
        (b"\xc0", 0, "name cut short"),
        (b"", 0, "name cut short"),
    ],
)
def test_hostile_names(data, position, reason):
    with pytest.raises(MalformedError, match=f"^{reason}$"):
        read_name(data, position)


def test_names_at_their_limits():
    assert read_name(b"\x01a" * 127 + b"\0", 0)[0] == b"a." * 127  # 255 octets
    pointers = dns_message.POINTER_LIMIT
    assert read_name(CHAIN, 1 + 2 * (pointers - 1)) == (b".", 1 + 2 * pointers)


def message(flags=0x8180, questions=(), answers=(), authorities=(), additionals=(), identifier=0x1234):
    counts = [len(section) for section in (questions, answers, authorities, additionals)]
    header = b"".join(number.to_bytes(2, "big") for number in (identifier, flags, *counts))
    return header + b"".join((*questions, *answers, *authorities, *additionals))


def question(qtype, name=b"\1q\0"):
    return name + qtype.to_bytes(2, "big") + b"\0\1"


def record(rrtype, data, ttl=60, name=b"\xc0\x0c"):
    return name + rrtype.to_bytes(2, "big") + b"\0\1" + ttl.to_bytes(4, "big") + len(data).to_bytes(2, "big") + data


A = record(1, bytes([10, 0, 0, 1]), 300)
AAAA = record(28, bytes.fromhex("20010db8000000000000000000000001"), 20)
CNAME = record(5, b"\5alias\xc0\x0c", 3600)


def test_answers():
    read = read_message(message(questions=[question(28)], answers=[CNAME, A, AAAA], authorities=[record(2, b"\0", 1)]))
    assert (read.id, read.is_response, read.rcode, read.damage) == (0x1234, True, 0, "")
    assert (read.query, read.qtype, read.qtypes) == (b"q.", 28, (28,))
    assert (read.ips, read.cnames, read.rrtypes, read.ttl) == (
        ["10.0.0.1", "2001:db8::1"],
        ["alias.q."],
        [5, 1, 28],
        20,
    )


def test_a_ttl_with_the_top_bit_counts_as_zero():
    assert read_message(message(questions=[question(1)], answers=[record(1, bytes(4), 1 << 31)])).ttl == 0


def opt(extended_rcode):
    return b"\0" + (41).to_bytes(2, "big") + b"\x04\xd0" + bytes([extended_rcode, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("flags", "additionals", "rcode"),
    [(0x8183, [], 3), (0x8180, [opt(1)], 16), (0x8187, [record(1, bytes(4)), opt(1)], 23), (0x8185, [opt(0)], 5)],
)
def test_rcode_is_extended_by_opt(flags, additionals, rcode):
    assert read_message(message(flags, [question(1)], additionals=additionals)).rcode == rcode


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "header cut short"),
        (bytes(11), "header cut short"),
        (message(questions=[b"\1q\0"]), "question cut short"),
        (message(questions=[b"\1q"]), "name cut short"),
        (message(questions=[question(1)] * (dns_message.QUESTION_LIMIT + 1)), "too many questions"),
    ],
)
def test_unreadable(data, reason):
    with pytest.raises(MalformedError, match=f"^{reason}$"):
        read_message(data)


@pytest.mark.parametrize(
    ("answers", "damage", "ips"),
    [
        ([A, A[:-1]], "record cut short", ["10.0.0.1"]),
        ([A, A[:7]], "record cut short", ["10.0.0.1"]),
        ([A, b"\5x"], "name cut short", ["10.0.0.1"]),
        ([A, b"\x41x\0"], "unknown label type", ["10.0.0.1"]),
        ([record(1, b"12345")], "address of wrong length", []),
        ([record(28, b"1234")], "address of wrong length", []),
        ([A, record(5, b"\1a\0\0")], "alias of wrong length", ["10.0.0.1"]),
        ([A, record(5, b"\xc0\xff")], "compression pointer not backwards", ["10.0.0.1"]),
    ],
)
def test_what_breaks_off_is_read_as_far_as_it_goes(answers, damage, ips):
    read = read_message(message(questions=[question(1)], answers=answers))
    assert (read.query, read.damage, read.ips) == (b"q.", damage, ips)


def test_answers_beyond_the_limit_are_not_told():
    read = read_message(message(questions=[question(1)], answers=[A] * (dns_message.ANSWER_LIMIT + 3)))
    assert (len(read.ips), len(read.rrtypes), read.untold) == (dns_message.ANSWER_LIMIT, dns_message.ANSWER_LIMIT, 3)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (1, "A"),
        (28, "AAAA"),
        (33, "SRV"),
        (41, "OPT"),
        (64, "SVCB"),
        (65, "HTTPS"),
        (255, "ANY"),
        (257, "CAA"),
        (123, "TYPE123"),
    ],
)
def test_type_names(number, name):
    assert type_name(number) == name


SANE_QUERY = message(0x0100, [question(1)])


@pytest.mark.parametrize(
    ("data", "sane"),
    [
        (SANE_QUERY, True),
        (message(questions=[question(28)], answers=[AAAA]), True),
        (SANE_QUERY + b"\0", False),  # an octet left over
        (message(0x0140, [question(1)]), False),  # Z
        (message(0x7900, [question(1)]), False),  # opcode 15
        (message(0x2900, [question(6)]), False),  # UPDATE is DNS, but not beyond doubt
        (message(0x0100, [question(1), question(1)]), False),
        (message(0x0100, [question(1)], answers=[A]), False),  # a query that answers
        (message(0x0100, [question(999)]), False),
        (message(0x0100, [question(1, b"\2q \0")]), False),
        (message(0x0100), False),
        (message(questions=[question(1)], answers=[A[:-1]]), False),
        (bytes(40), False),
        (b"", False),
    ],
)
def test_sane_is_beyond_doubt(data, sane):
    assert is_sane(data) is sane


WHOLE = message(questions=[question(28)], answers=[CNAME, A, AAAA], authorities=[record(6, b"x")], additionals=[opt(1)])


def try_reading(data):
    try:
        read = read_message(data)
    except MalformedError:
        return
    assert len(read.rrtypes) <= dns_message.ANSWER_LIMIT
    assert read.end <= len(data)
    assert all(0x21 <= octet <= 0x7E for octet in read.query)


@given(st.binary(max_size=120))
def test_random_bytes_raise_nothing_else(data):
    try_reading(data)
    try_reading(WHOLE[:12] + data)
    is_sane(data)


@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=3), st.integers(0, len(WHOLE)))
def test_mutated_bytes_raise_nothing_else(place, replaced, cut):
    try_reading((WHOLE[:place] + replaced + WHOLE[place + len(replaced) :])[:cut])


def test_more_questions_than_are_kept_stay_right():
    dns_message._questions.clear()
    for _ in range(2):
        for number in range(dns_message.MEMO_LIMIT + 2):
            name = b"n%d" % number
            read = read_message(message(0x0100, [question(1, bytes([len(name)]) + name + b"\0")]))
            assert (read.query, read.qtype) == (name + b".", 1)
            assert len(dns_message._questions) <= dns_message.MEMO_LIMIT
    assert dns_message._questions
