"""DNS over UDP and TCP: pairing, latency, framing, gaps, limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.extra import DnsAnswer
from observer.l7 import dns
from observer.l7.detect import Detected
from observer.l7.dns import DnsDatagrams, DnsPair, DnsStream
from observer.l7.message import Side
from observer.losses import Losses
from observer.record import L7Kind, L7Type
from tests.l7.test_dns_message import CNAME, WHOLE, A, message, question, record
from tests.l7.transcripts import CLIENT, SERVER, Transcript, brief, pieces, play, play_counted


def query(identifier=1, qtype=1, name=b"\1q\0"):
    return message(0x0100, [question(qtype, name)], identifier=identifier)


def answer(identifier=1, qtype=1, name=b"\1q\0", flags=0x8180, answers=(A,)):
    return message(flags, [question(qtype, name)], answers, identifier=identifier)


def latencies(transcript):
    return [message.latency_ns for message in play(DnsDatagrams(Losses()), transcript)]


def test_fields_of_messages():
    parser = DnsDatagrams(Losses())
    (asked,) = parser.feed(CLIENT, query(7, 28), 1_000)
    (answered,) = parser.feed(SERVER, answer(7, 28, answers=(CNAME, A)), 4_000)
    assert (asked.kind, asked.type, asked.side, asked.texts) == (L7Kind.DNS, L7Type.REQUEST, CLIENT, (b"q.",))
    assert (asked.method, asked.id, asked.code, asked.latency_ns) == (28, 7, None, None)
    assert asked.dns == DnsAnswer(qtypes=("AAAA",))
    assert (answered.type, answered.side, answered.texts, answered.method) == (L7Type.RESPONSE, SERVER, (b"q.",), 28)
    assert (answered.id, answered.code, answered.latency_ns, answered.request) == (7, 0, 3_000, asked)
    assert answered.dns == DnsAnswer(("10.0.0.1",), ("alias.q.",), 300, ("AAAA",), ("CNAME", "A"))


@pytest.mark.parametrize(
    ("transcript", "expected"),
    [
        ([(CLIENT, query(1)), (CLIENT, query(2)), (SERVER, answer(2)), (SERVER, answer(1))], [None, None, 1, 3]),
        # a query sent again counts from the first; each may be answered
        (
            [(CLIENT, query()), (CLIENT, query()), (SERVER, answer()), (SERVER, answer()), (SERVER, answer())],
            [None, None, 2, 3, None],
        ),
        ([(CLIENT, query()), (SERVER, answer()), (CLIENT, query()), (SERVER, answer())], [None, 1, None, 1]),
        ([(CLIENT, query(1)), (SERVER, answer(2))], [None, None]),  # another id
        ([(CLIENT, query(qtype=1)), (SERVER, answer(qtype=28))], [None, None]),  # another type
        ([(CLIENT, query()), (SERVER, answer(name=b"\1r\0"))], [None, None]),  # another name
        ([(CLIENT, query(name=b"\1Q\0")), (SERVER, answer(name=b"\1q\0"))], [None, 1]),  # RFC 4343
        ([(CLIENT, query()), (CLIENT, answer())], [None, None]),  # nobody answers himself
        ([(SERVER, answer())], [None]),  # joined in the middle
        ([(CLIENT, query()), (SERVER, message(0x8181, identifier=1))], [None, 1]),  # an error without its question
    ],
)
def test_pairing(transcript, expected):
    assert latencies(transcript) == expected


def test_an_error_without_question_is_told_with_that_of_its_query():
    _, failed = play(DnsDatagrams(Losses()), [(CLIENT, query()), (SERVER, message(0x8181, identifier=1))])
    assert (failed.texts, failed.method, failed.code) == ((b"q.",), 1, 1)


def test_a_query_asked_anew_after_the_timeout_counts_from_then():
    parser = DnsDatagrams(Losses())
    parser.feed(CLIENT, query(), 0)
    parser.feed(CLIENT, query(), dns.QUERY_TIMEOUT_NS + 1)
    (answered,) = parser.feed(SERVER, answer(), dns.QUERY_TIMEOUT_NS + 5)
    assert answered.latency_ns == 4


def test_multicast_dns_asks_several_questions_and_answers_none():
    asked, told = play(
        DnsDatagrams(Losses()),
        [
            (CLIENT, message(0, [question(12), question(33, b"\1r\0")], identifier=0)),
            (CLIENT, message(0x8400, answers=[record(1, bytes([10, 0, 0, 9]), 120, b"\1h\5local\0")], identifier=0)),
        ],
    )
    assert (asked.texts, asked.dns.qtypes) == ((b"q.",), ("PTR", "SRV"))
    assert (told.texts, told.method, told.latency_ns, told.dns.ips) == ((b"",), None, None, ("10.0.0.9",))


def test_damage_is_told_and_counted():
    losses = Losses()
    (told,) = DnsDatagrams(losses).feed(SERVER, answer()[:-1], 1)
    assert (brief(told), told.incomplete) == ("A! q. 0", True)
    assert losses.snapshot() == {("dns", "record cut short"): 1}


def test_limits_are_counted():
    losses = Losses()
    parser = DnsDatagrams(losses)
    for number in range(dns.PENDING_LIMIT + 2):
        parser.feed(CLIENT, query(number), 1)
    assert len(parser._pending) == dns.PENDING_LIMIT
    assert losses.snapshot() == {("dns", "too many pending queries"): 2}
    assert [parser.feed(SERVER, answer(number), 2)[0].latency_ns for number in (0, 1, 2)] == [None, None, 1]
    (told,) = parser.feed(SERVER, answer(answers=[A] * 300), 3)
    assert told.incomplete
    assert losses.get("dns", "too many answers") == 300 - 256


def test_a_pair_that_speaks_no_dns_becomes_opaque():
    losses = Losses()
    parser = DnsDatagrams(losses)
    for _ in range(dns.MALFORMED_LIMIT - 1):
        parser.feed(CLIENT, b"garbage", 1)
    parser.feed(CLIENT, query(), 1)
    assert not parser.opaque
    for _ in range(dns.MALFORMED_LIMIT):
        assert not parser.opaque
        parser.feed(CLIENT, b"garbage", 1)
    assert parser.opaque
    assert parser.feed(CLIENT, query(), 1) == []
    assert losses.snapshot() == {("dns", "header cut short"): 2 * dns.MALFORMED_LIMIT - 1}


def framed(*messages: bytes) -> bytes:
    return b"".join(len(each).to_bytes(2, "big") + each for each in messages)


STREAMS: dict[str, tuple[Transcript, list[str], dict[str, int]]] = {
    "several in one segment": (
        [(CLIENT, framed(query(1), query(2, 28))), (SERVER, framed(answer(2, 28, answers=()), answer(1)))],
        ["A? q.", "AAAA? q.", "AAAA! q. 0", "A! q. 0"],
        {},
    ),
    "a malformed one between": (
        [(CLIENT, framed(query(1), b"short", query(2)))],
        ["A? q.", "A? q."],
        {"header cut short": 1},
    ),
    "an empty one": ([(CLIENT, b"\0\0" + framed(query()))], ["A? q."], {"empty message": 1}),
    "a gap inside a message": (
        [(CLIENT, framed(query())[:9]), (CLIENT, 5), (CLIENT, framed(query())[14:] + framed(query(2, 2)))],
        ["NS? q."],
        {"message lost bytes": 1},
    ),
    "two gaps inside a message": (
        [
            (CLIENT, framed(query())[:9]),
            (CLIENT, 2),
            (CLIENT, b"x"),
            (CLIENT, 2),
            (CLIENT, framed(query())[14:] + framed(query(2, 2))),
        ],
        ["NS? q."],
        {"message lost bytes": 1},
    ),
    "a gap beyond a message: the next frame shows": (
        [(CLIENT, framed(query())[:9]), (CLIENT, 100), (CLIENT, framed(query(3)))],
        ["A? q."],
        {"message lost bytes": 1},
    ),
    "a gap between messages": (
        [(CLIENT, framed(query())), (CLIENT, 100), (CLIENT, framed(query(3)))],
        ["A? q."] * 2,
        {},
    ),
    "framing lost": (
        [(CLIENT, framed(query())), (CLIENT, 100), (CLIENT, framed(b"\xff" * 30, query()))],
        ["A? q."],
        {"framing lost with bytes": 1},
    ),
    "cut": ([(CLIENT, framed(query(), query())[:-1])], ["A? q."], {"message cut short": 1}),
    "cut in the length": ([(CLIENT, framed(query()) + b"\0")], ["A? q."], {"message cut short": 1}),
    "opaque after many": (
        [(CLIENT, framed(*[b"x"] * dns.MALFORMED_LIMIT, query()))],
        [],
        {"header cut short": dns.MALFORMED_LIMIT},
    ),
    "opaque after many empty ones": (
        [(CLIENT, b"\0\0" * dns.MALFORMED_LIMIT + framed(query()))],
        [],
        {"empty message": dns.MALFORMED_LIMIT},
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_stream(name):
    transcript, messages, counters = STREAMS[name]
    told, losses = play_counted(DnsStream, transcript)
    assert [brief(message) for message in told] == messages
    assert losses == {("dns", reason): number for reason, number in counters.items()}


@given(st.sampled_from([entry[0] for entry in STREAMS.values()]), st.lists(st.integers(0, 1 << 12), max_size=8))
def test_cut_anywhere_is_the_same(transcript, cuts):
    whole = play_counted(DnsStream, transcript)
    assert play_counted(DnsStream, transcript, lambda data: pieces(data, cuts)) == whole
    assert play_counted(DnsStream, transcript, lambda data: pieces(data, range(len(data)))) == whole


FRAGMENTS = st.one_of(
    st.sampled_from([framed(query()), framed(answer()), framed(WHOLE), b"\0", WHOLE]), st.binary(max_size=20)
)
GARBAGE = st.lists(
    st.tuples(st.sampled_from(Side), st.one_of(FRAGMENTS, st.integers(1, 60))).filter(lambda entry: entry[1]),
    max_size=10,
)


@given(GARBAGE, st.lists(st.integers(0, 400), max_size=8))
def test_random_bytes_never_raise_and_mean_the_same_however_cut(transcript, cuts):
    assert play_counted(DnsStream, transcript, lambda data: pieces(data, cuts)) == play_counted(DnsStream, transcript)
    play(DnsDatagrams(Losses()), transcript)


def test_a_stream_keeps_one_message_at_most():
    parser = DnsStream(Losses())
    parser.feed(CLIENT, b"\xff\xff", 1)
    for _ in range(100):
        parser.feed(CLIENT, b"\x01" * 1448, 1)
        assert len(parser._framings[CLIENT].buffer) < 65_535


def test_more_queries_than_are_kept_stay_right():
    dns._queries.clear()
    parser = DnsDatagrams(Losses())
    for _ in range(2):
        for number in range(dns.MEMO_LIMIT + 2):
            name = b"q%d" % number
            (asked,) = parser.feed(CLIENT, query(number & 0xFFFF, name=bytes([len(name)]) + name + b"\0"), 0)
            (answered,) = parser.feed(SERVER, answer(number & 0xFFFF, name=bytes([len(name)]) + name + b"\0"), 0)
            assert (asked.id, asked.texts, asked.method) == (number & 0xFFFF, (name + b".",), 1)
            assert answered.request is asked
            assert len(dns._queries) <= dns.MEMO_LIMIT
    assert dns._queries
    dns._queries.clear()
    long = b"\x3f" + b"x" * 63
    for name in (long + long + b"\0", b"\1q\0"):
        parser.feed(CLIENT, query(name=name), 0)
    assert [read[0] for read in dns._queries.values()] == [(b"q.",)]  # not one beyond MEMO_SIZE


@pytest.mark.parametrize(
    ("data", "known", "swapped"), [(query(), False, False), (answer(), False, True), (answer(), True, False)]
)
def test_the_first_datagram_of_a_pair_says_who_asks(data, known, swapped):
    pair = DnsPair(Losses(), roles_known=known)
    (told,) = pair.feed(CLIENT, data, 1)
    assert (pair.kind, pair.roles_swapped, told.side) == (Detected.DNS_DATAGRAM, swapped, SERVER if swapped else CLIENT)
    (told,) = pair.feed(SERVER, data, 2)  # what comes later does not turn them again
    assert (pair.roles_swapped, told.side) == (swapped, CLIENT if swapped else SERVER)


def test_a_pair_is_idle_between_exchanges():
    pair = DnsPair(Losses(), roles_known=True)
    assert pair.idle
    pair.feed(CLIENT, query(1), 1)
    pair.feed(CLIENT, query(2), 1)
    pair.feed(SERVER, answer(1), 2)
    assert not pair.idle
    pair.feed(SERVER, answer(2), 3)
    assert pair.idle
    pair.feed(CLIENT, b"short", 4)  # it counts towards MALFORMED_LIMIT
    assert not pair.idle


def test_an_error_without_its_question_answers_what_was_asked_last_with_its_id():
    parser = DnsDatagrams(Losses())
    for time_ns, name in enumerate((b"\1a\0", b"\1b\0", b"\1a\0")):
        parser.feed(CLIENT, query(7, name=name), time_ns)
    parser.feed(CLIENT, query(8), 4)
    answers = [parser.feed(SERVER, message(0x8181, identifier=7), 5)[0] for _ in range(4)]
    assert [each.texts for each in answers] == [(b"a.",), (b"a.",), (b"b.",), (b"",)]
