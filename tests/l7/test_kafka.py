"""Kafka frames by hand: what is told, what is skipped, where a place is lost and found again, and every bound."""

import struct
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.l7 import kafka, kafka_header, kafka_walk
from observer.l7.conversation import LATE_PIECES, Conversation
from observer.l7.detect import Detected
from observer.l7.kafka import PENDING_LIMIT, SEARCH_LIMIT, UNKNOWN_TOPIC, Kafka
from observer.l7.kafka_header import CLIENT_ID_LIMIT, HEAD_LIMIT, PROOF_LIMIT
from observer.l7.kafka_topics import TopicIds
from observer.l7.kafka_walk import NAME_LIMIT, STEPS_LIMIT, TOPICS_LIMIT
from observer.l7.message import Message
from observer.losses import Losses
from observer.record import L7Type
from tests.l7.transcripts import CLIENT, SERVER, Transcript, pieces, play, play_counted

PORTS = (40000, 9092)
OTHER_PORTS = (40000, 5555)


def text(value: bytes | None) -> bytes:
    return struct.pack(">h", -1) if value is None else struct.pack(">h", len(value)) + value


def framed(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def request(key: int, version: int, correlation: int, body: bytes = b"", client_id: bytes | None = b"cli") -> bytes:
    return framed(struct.pack(">hhi", key, version, correlation) + text(client_id) + body)


def response(correlation: int, body: bytes = b"") -> bytes:
    return framed(struct.pack(">i", correlation) + body)


def array(*elements: bytes) -> bytes:
    return struct.pack(">i", len(elements)) + b"".join(elements)


def produce(correlation: int, *topics: tuple[bytes, bytes], acks: int = 1, client_id: bytes | None = b"cli") -> bytes:
    """Version 2: one partition a topic."""
    written = [text(name) + array(struct.pack(">ii", 0, len(records)) + records) for name, records in topics]
    return request(0, 2, correlation, struct.pack(">hi", acks, 1000) + array(*written), client_id)


def produced(correlation: int, *errors: int) -> bytes:
    """Version 2: one topic, a partition for each error."""
    partitions = [struct.pack(">ihqq", index, error, 0, -1) for index, error in enumerate(errors)]
    return response(correlation, array(text(b"a") + array(*partitions)) + bytes(4))


def metadata(correlation: int, version: int, *topics: bytes, null: bool = False) -> bytes:
    return request(3, version, correlation, b"\xff" * 4 if null else array(*map(text, topics)))


def compact(value: bytes) -> bytes:
    return bytes([len(value) + 1]) + value


ID = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")
OTHER_ID = uuid.UUID(int=ID.int + 1)


def fetch_13(correlation: int, *ids: uuid.UUID) -> bytes:
    topics = b"".join(number.bytes + bytes([2]) + bytes(4 + 4 + 8 + 4 + 8 + 4) + b"\0" + b"\0" for number in ids)
    body = b"\0" + bytes(4 + 4 + 4 + 4 + 1 + 4 + 4) + bytes([len(ids) + 1]) + topics + b"\1\1\0"
    return request(1, 13, correlation, body)


def metadata_12(correlation: int) -> bytes:
    return request(3, 12, correlation, b"\0\0\1\0\0")


def told_metadata_12(correlation: int, name: bytes, number: uuid.UUID) -> bytes:
    topic = b"\0\0" + compact(name) + number.bytes + b"\0" + b"\1" + bytes(4) + b"\0"
    brokers = b"\1"
    return response(correlation, b"\0" + bytes(4) + brokers + compact(b"cluster") + bytes(4) + b"\2" + topic + b"\0")


HEARTBEAT = struct.pack(">i", 3)  # what follows the group does not matter


def heartbeat(correlation: int) -> bytes:
    return request(12, 0, correlation, text(b"group") + HEARTBEAT + text(b"member"))


def beaten(correlation: int, error: int = 0) -> bytes:
    return response(correlation, struct.pack(">h", error))


def brief(message: Message) -> str:
    """`0v2 #1 cli a,b`, `0v2! #1 0`; a `~` at the end: incomplete."""
    end = "~" if message.incomplete else ""
    method = "?" if message.method is None else f"{message.method}v{message.version}"
    if message.type is L7Type.RESPONSE:
        return f"{method}! #{message.id} {message.code}{end}"
    topics = "*" if message.topics is None else ",".join(message.topics)
    return f"{method} #{message.id} {message.texts[1].decode()} {topics}{end}".replace("  ", " ").strip()


def counted(reason: str, number: int = 1) -> dict[tuple[str, str], int]:
    return {("kafka", reason): number}


BIG = b"\0" * 100_000
TWO_GIGABYTES = struct.pack(">ihhi", 0x7FFFFFFF, 0, 2, 9) + text(b"cli")
NEGATIVE = struct.pack(">ihhi", -5, 0, 2, 9) + text(b"cli")
ONE = produce(1, (b"a", b"xyz"))
SASL = [
    (CLIENT, request(17, 0, 1, text(b"PLAIN"))),
    (SERVER, response(1, b"\0\0" + array(text(b"PLAIN")))),
    (CLIENT, framed(b"\0user\0password")),
    (SERVER, framed(b"")),
    (CLIENT, heartbeat(2)),
    (SERVER, beaten(2)),
]

WHOLE: dict[str, tuple[Transcript, list[str], dict[tuple[str, str], int]]] = {
    "a produce and its answer": ([(CLIENT, ONE), (SERVER, produced(1, 0))], ["0v2 #1 cli a", "0v2! #1 0"], {}),
    "topics behind big records": (
        [(CLIENT, produce(1, (b"a", BIG), (b"b", BIG), (b"c", b""))), (SERVER, produced(1, 0))],
        ["0v2 #1 cli a,b,c", "0v2! #1 0"],
        {},
    ),
    "the first error counts": (
        [(CLIENT, ONE), (SERVER, produced(1, 0, 3, 29))],
        ["0v2 #1 cli a", "0v2! #1 3"],
        {},
    ),
    "unknown server error": ([(CLIENT, ONE), (SERVER, produced(1, -1))], ["0v2 #1 cli a", "0v2! #1 -1"], {}),
    "no answer without acks": (
        [(CLIENT, produce(1, (b"a", b""), acks=0) + ONE), (SERVER, produced(1, 7)), (CLIENT, heartbeat(2))],
        ["0v2 #1 cli a", "0v2 #1 cli a", "0v2! #1 7", "12v0 #2 cli"],
        {},
    ),
    "an answer all the same": (
        [(CLIENT, produce(1, (b"a", b""), acks=0) + heartbeat(2)), (SERVER, produced(1, 7) + beaten(2))],
        ["0v2 #1 cli a", "12v0 #2 cli", "0v2! #1 7", "12v0! #2 0"],
        {},
    ),
    "pipelined": (
        [(CLIENT, ONE + heartbeat(2) + heartbeat(3)), (SERVER, produced(1, 0) + beaten(2) + beaten(3, 25))],
        ["0v2 #1 cli a", "12v0 #2 cli", "12v0 #3 cli", "0v2! #1 0", "12v0! #2 0", "12v0! #3 25"],
        {},
    ),
    "answers out of order": (
        [(CLIENT, ONE + heartbeat(2)), (SERVER, beaten(2) + produced(1, 0))],
        ["0v2 #1 cli a", "12v0 #2 cli", "12v0! #2 0", "0v2! #1 0"],
        {},
    ),
    "all topics": ([(CLIENT, metadata(1, 1, null=True))], ["3v1 #1 cli *"], {}),
    "all topics in version 0": ([(CLIENT, metadata(1, 0))], ["3v0 #1 cli *"], {}),
    "no topics": ([(CLIENT, metadata(1, 1))], ["3v1 #1 cli"], {}),
    "two topics": ([(CLIENT, metadata(1, 1, b"a", b"b"))], ["3v1 #1 cli a,b"], {}),
    "no client id": ([(CLIENT, produce(1, (b"a", b""), client_id=None))], ["0v2 #1 a"], {}),
    "a header of its own": ([(CLIENT, framed(struct.pack(">hhii", 7, 0, 1, 5)))], ["7v0 #1"], {}),
    "negative correlation": ([(CLIENT, heartbeat(-1)), (SERVER, beaten(-1))], ["12v0 #-1 cli", "12v0! #-1 0"], {}),
    "an id nobody has named": (
        [(CLIENT, fetch_13(1, ID))],
        [f"1v13 #1 cli {UNKNOWN_TOPIC}~"],
        {},
    ),
    "an id that a response has named": (
        [
            (CLIENT, metadata_12(1)),
            (SERVER, told_metadata_12(1, b"orders", ID)),
            (CLIENT, fetch_13(2, ID, OTHER_ID)),
        ],
        ["3v12 #1 cli *", "3v12! #1 0", f"1v13 #2 cli orders,{UNKNOWN_TOPIC}~"],
        {},
    ),
    "raw SASL tokens": (
        SASL,
        ["17v0 #1 cli", "17v0! #1 0", "12v0 #2 cli", "12v0! #2 0"],
        counted("raw SASL token"),
    ),
    "a key from the future": (
        [(CLIENT, request(300, 0, 1, b"?") + heartbeat(2)), (SERVER, response(1, b"??") + beaten(2))],
        [f"300v0 #1 cli {UNKNOWN_TOPIC}~", "12v0 #2 cli", "300v0! #1 None", "12v0! #2 0"],
        counted("unknown API key"),
    ),
    "a version from the future": (
        [(CLIENT, request(0, 99, 1, b"?") + heartbeat(2)), (SERVER, response(1, b"??") + beaten(2))],
        [f"0v99 #1 cli {UNKNOWN_TOPIC}~", "12v0 #2 cli", "0v99! #1 None", "12v0! #2 0"],
        counted("unknown API version"),
    ),
    "2 GB": (
        [(CLIENT, ONE + TWO_GIGABYTES + heartbeat(2)), (SERVER, produced(1, 0) + beaten(2))],
        ["0v2 #1 cli a", "12v0 #2 cli", "0v2! #1 0", "12v0! #2 0"],
        counted("request of impossible length"),
    ),
    "a negative length": (
        [(CLIENT, ONE + NEGATIVE + heartbeat(2)), (SERVER, produced(1, 0) + beaten(2))],
        ["0v2 #1 cli a", "12v0 #2 cli", "0v2! #1 0", "12v0! #2 0"],
        counted("request of impossible length"),
    ),
    "more topics than the frame can hold": (
        [(CLIENT, request(0, 2, 1, struct.pack(">hii", 1, 1, 0x7FFFFFFF) + text(b"a")) + heartbeat(2))],
        [f"0v2 #1 cli {UNKNOWN_TOPIC}~", "12v0 #2 cli"],
        counted("malformed request"),
    ),
    "a name longer than the frame": (
        [(CLIENT, request(0, 2, 1, struct.pack(">hii", 1, 1, 1) + b"\x7f\xff" + bytes(9)) + heartbeat(2))],
        [f"0v2 #1 cli {UNKNOWN_TOPIC}~", "12v0 #2 cli"],
        counted("malformed request"),
    ),
    "a body that is missing": (
        [(CLIENT, heartbeat(1) + request(0, 2, 2) + heartbeat(3)), (SERVER, beaten(1) + response(2) + beaten(3))],
        [
            "12v0 #1 cli", f"0v2 #2 cli {UNKNOWN_TOPIC}~", "12v0 #3 cli",
            "12v0! #1 0", "0v2! #2 None~", "12v0! #3 0",
        ],
        counted("malformed request") | counted("malformed response"),
    ),
    "an endless varint": (
        [(CLIENT, heartbeat(1) + request(0, 9, 2, b"\0" + b"\xff" * 40) + heartbeat(3))],
        ["12v0 #1 cli", f"0v9 #2 cli {UNKNOWN_TOPIC}~", "12v0 #3 cli"],
        counted("malformed request"),
    ),
    "a topic's name too long to keep": (
        [(CLIENT, produce(1, (b"x" * (NAME_LIMIT + 1), b""), (b"b", b"")))],
        [f"0v2 #1 cli b,{UNKNOWN_TOPIC}~"],
        counted("topics not kept"),
    ),
    "too many topics": (
        [(CLIENT, metadata(1, 1, *(b"%d" % number for number in range(TOPICS_LIMIT + 3))))],
        [f"3v1 #1 cli {','.join(map(str, range(TOPICS_LIMIT)))},{UNKNOWN_TOPIC}~"],
        counted("topics not kept"),
    ),
}  # fmt: skip

BROKEN: dict[str, tuple[Transcript, list[str], dict[tuple[str, str], int]]] = {
    "lost records": (
        [(CLIENT, ONE[:-2]), (CLIENT, 2), (CLIENT, heartbeat(2))],
        ["0v2 #1 cli a", "12v0 #2 cli"],
        {},
    ),
    "lost records before a topic": (
        [
            (CLIENT, produce(1, (b"a", BIG), (b"b", b""))[:-50_000]),
            (CLIENT, 40_000),
            (CLIENT, produce(1, (b"a", BIG), (b"b", b""))[-10_000:]),
            (CLIENT, heartbeat(2)),
        ],
        ["0v2 #1 cli a,b", "12v0 #2 cli"],
        {},
    ),
    "a lost topic": (
        [
            (CLIENT, produce(1, (b"a", b""), (b"bb", b""))[:-14]),
            (CLIENT, 5),
            (CLIENT, produce(1, (b"a", b""), (b"bb", b""))[-9:] + heartbeat(2)),
        ],
        [f"0v2 #1 cli a,{UNKNOWN_TOPIC}~", "12v0 #2 cli"],
        counted("lost bytes among the fields"),
    ),
    "a lost header": (
        [(CLIENT, ONE + heartbeat(2)[:9]), (CLIENT, 30), (CLIENT, b"..." + heartbeat(3) + heartbeat(4))],
        ["0v2 #1 cli a", "12v0 #3 cli", "12v0 #4 cli"],
        {},
    ),
    "another client's request is none of this connection's": (
        [(CLIENT, ONE), (CLIENT, 30), (CLIENT, produce(8, (b"z", b""), client_id=b"else") + heartbeat(3))],
        ["0v2 #1 cli a", "12v0 #3 cli"],
        {},
    ),
    "a lost answer": (
        [
            (CLIENT, ONE + heartbeat(2) + heartbeat(3)),
            (SERVER, produced(1, 0)[:6]),
            (SERVER, 60),
            (SERVER, b"rest of something"),
            (SERVER, beaten(3)),
        ],
        ["0v2 #1 cli a", "12v0 #2 cli", "12v0 #3 cli", "12v0! #3 0"],
        {},
    ),
    "lost bytes in an answer's fields": (
        [
            (CLIENT, ONE + heartbeat(2)),
            (SERVER, produced(1, 0)[:20]),
            (SERVER, 5),
            (SERVER, produced(1, 0)[25:] + beaten(2)),
        ],
        ["0v2 #1 cli a", "12v0 #2 cli", "0v2! #1 None~", "12v0! #2 0"],
        counted("lost bytes among the fields"),
    ),
    "an answer to a request that was lost": (
        [(CLIENT, ONE), (SERVER, produced(1, 0)), (CLIENT, 50), (SERVER, response(2, b"\0\0"))],
        ["0v2 #1 cli a", "0v2! #1 0", "?! #2 None~"],
        counted("response to a request not seen"),
    ),
    "the capture ends among the fields": (
        [(CLIENT, produce(1, (b"a", b""), (b"b", b""))[:-13])],
        [f"0v2 #1 cli a,{UNKNOWN_TOPIC}~"],
        counted("frame cut short"),
    ),
    "the capture ends in a header": ([(CLIENT, ONE[:9])], [], counted("header cut short")),
}


def plain(losses: Losses) -> Kafka:
    return Kafka(losses)


INTS = struct.pack(">i", 7)
REPLICAS = array(INTS, INTS)


@pytest.mark.parametrize(
    ("key", "version", "body"),
    [  # between brokers, until ZooKeeper went: no encoder in hand writes them
        (
            4,
            0,
            INTS * 2 + array(*(text(t) + INTS * 4 + REPLICAS + INTS + REPLICAS for t in (b"a", b"b"))) + array(),
        ),
        (4, 1, INTS * 2 + array(*(text(t) + INTS * 4 + REPLICAS + INTS + REPLICAS + b"\1" for t in (b"a", b"b")))),
        (
            4,
            2,
            INTS * 4 + array(*(text(t) + array(INTS * 4 + REPLICAS + INTS + REPLICAS + b"\1") for t in (b"a", b"b"))),
        ),
        (5, 0, INTS * 2 + b"\1" + array(*(text(t) + INTS for t in (b"a", b"b")))),
        (5, 1, INTS * 4 + b"\1" + array(*(text(t) + array(INTS) for t in (b"a", b"b")))),
        (6, 0, INTS * 2 + array(*(text(t) + INTS * 4 + REPLICAS + INTS + REPLICAS for t in (b"a", b"b")))),
        (6, 5, INTS * 4 + array(*(text(t) + array(INTS * 4 + REPLICAS + INTS + REPLICAS * 2) for t in (b"a", b"b")))),
    ],
)
def test_brokers_among_themselves(key, version, body):
    (asked,) = Kafka(Losses()).feed(CLIENT, request(key, version, 1, body), 1)
    assert (asked.topics, asked.incomplete) == (("a", "b"), False)


@pytest.mark.parametrize("name", [*WHOLE, *BROKEN])
def test_transcript(name):
    transcript, messages, counters = (WHOLE | BROKEN)[name]
    told, losses = play_counted(plain, transcript)
    assert [brief(message) for message in told] == messages
    assert losses == counters


@pytest.mark.parametrize("name", [name for name in WHOLE if "big" not in name and "too many" not in name])
def test_byte_by_byte_is_the_same(name):
    transcript = WHOLE[name][0]
    whole = play_counted(plain, transcript)
    assert play_counted(plain, transcript, lambda data: pieces(data, range(len(data)))) == whole


@given(st.sampled_from(sorted(WHOLE)), st.lists(st.integers(0, 1 << 18), max_size=8))
def test_cut_anywhere_is_the_same(name, cuts):
    transcript = WHOLE[name][0]
    assert play_counted(plain, transcript, lambda data: pieces(data, cuts)) == play_counted(plain, transcript)


MUTATED = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=6)


def held(parser: Kafka) -> int:
    return max(len(stream.held) for stream in parser._streams)


HELD_LIMIT = HEAD_LIMIT + PROOF_LIMIT


@given(st.sampled_from([*WHOLE, *BROKEN]), MUTATED, st.lists(st.integers(0, 1 << 12), max_size=6))
def test_mutated_bytes_never_raise_and_little_is_held(name, mutations, cuts):
    parser = Kafka(Losses())
    for side, data in (WHOLE | BROKEN)[name][0]:
        if isinstance(data, int):
            parser.gap(side, data)
            continue
        changed = bytearray(data)
        for place, value in mutations:
            changed[place % len(changed)] = value
        for piece in pieces(bytes(changed), cuts):
            parser.feed(side, piece, 1)
            assert held(parser) <= HELD_LIMIT + len(piece)
    for side in (CLIENT, SERVER):
        parser.close(side)
        assert held(parser) == 0


@given(
    st.lists(
        st.tuples(st.sampled_from((CLIENT, SERVER)), st.one_of(st.binary(max_size=80), st.integers(1, 500))),
        max_size=12,
    )
)
def test_random_bytes_and_gaps_never_raise(transcript):
    parser = Kafka(Losses())
    play(parser, [(CLIENT, ONE), (SERVER, produced(1, 0)), *transcript])
    assert held(parser) == 0


@given(st.integers(0, 400), st.integers(1, 400))
def test_after_a_gap_anywhere_nothing_wrong_is_told(start, size):
    """Topics, ids and answers are the true ones wherever bytes are missing, and the stream is found again."""
    sent = b"".join(produce(number, (b"t%d" % number, b"record"), (b"u", b"")) for number in range(10, 22))
    answers = b"".join(produced(number, number) for number in range(10, 22))
    start %= len(sent)
    told = play(
        Kafka(Losses()),
        [
            (CLIENT, heartbeat(9)),
            (CLIENT, sent[:start]),
            (CLIENT, size),
            (CLIENT, sent[start + size :]),
            (SERVER, answers),
        ],
    )
    first, *requests = [message for message in told if message.type is L7Type.REQUEST]
    assert brief(first) == "12v0 #9 cli"
    for message in requests:
        assert message.method == 0
        assert set(message.topics or ()) <= {f"t{message.id}", "u", UNKNOWN_TOPIC}
        assert message.incomplete or message.topics == (f"t{message.id}", "u")
    assert len(requests) >= 12 - 2 - size // len(produce(10, (b"t10", b"record"), (b"u", b"")))
    for message in told:
        if message.type is L7Type.RESPONSE:
            assert message.code == (message.id if message.request else None)
            assert message.request is None or message.request.id == message.id


def test_a_megabyte_of_records_is_not_kept():
    parser = Kafka(Losses())
    data = produce(1, (b"a", bytes(1 << 20)), (b"b", bytes(1 << 20)))
    told = []
    for start in range(0, len(data), 1448):
        told += parser.feed(CLIENT, data[start : start + 1448], 1)
        assert held(parser) < 64
    assert [brief(message) for message in told] == ["0v2 #1 cli a,b"]


def test_looking_for_a_request_ends():
    losses = Losses()
    parser = Kafka(losses)
    parser.feed(CLIENT, ONE, 1)
    parser.gap(CLIENT, 1)
    for _ in range(SEARCH_LIMIT):
        assert not parser.opaque
        assert parser.feed(CLIENT, bytes(12) + text(b"cli"), 1) == []
    assert parser.opaque
    assert losses.snapshot() == counted("no request found after lost bytes")
    assert parser.feed(CLIENT, ONE, 1) == []


def test_a_short_client_id_proves_nothing_among_other_bytes():
    one = produce(1, (b"a", b""), client_id=None)
    for piece, found in [(one, 1), (b"\xff" + one, 0), (one + b"\xff", 0)]:
        parser = Kafka(Losses())
        parser.feed(CLIENT, one, 1)
        parser.gap(CLIENT, 1)
        assert len(parser.feed(CLIENT, piece, 1)) == found


def test_a_long_answer_is_given_up():
    losses = Losses()
    parser = Kafka(losses)
    parser.feed(CLIENT, request(1, 4, 1, struct.pack(">iiiib", -1, 0, 0, 0, 0) + array()), 1)
    partition = struct.pack(">ihqq", 0, 0, 0, 0) + array() + struct.pack(">i", 0)
    topic = text(b"t") + struct.pack(">i", STEPS_LIMIT) + partition * STEPS_LIMIT
    (answered,) = parser.feed(SERVER, response(1, bytes(4) + array(topic)) + beaten(2), 1)[:1]
    assert (answered.code, answered.incomplete) == (None, True)
    assert losses.get("kafka", "response too long") == 1


def test_times_are_those_of_the_headers():
    parser = Kafka(Losses())
    data = produce(1, (b"a", bytes(1000)), (b"b", b""))
    assert parser.feed(CLIENT, data[:100], 10) == []
    (asked,) = parser.feed(CLIENT, data[100:], 25)
    assert parser.feed(SERVER, produced(1, 0)[:10], 30) == []
    (answered,) = parser.feed(SERVER, produced(1, 0)[10:], 99)
    assert (asked.time_ns, answered.time_ns, answered.latency_ns) == (10, 30, 20)
    assert answered.texts == asked.texts == (b"a", b"cli")
    assert answered.request is asked


def test_what_is_told_beside_the_record():
    (asked,) = Kafka(Losses()).feed(CLIENT, produce(1, (b"a", b""), (b"\xff", b""), (b"a", b"")), 1)
    assert asked.extension == {"kafka": {"client_id": "cli", "topics": ["a", "\\xff"]}}
    (asked,) = Kafka(Losses()).feed(CLIENT, fetch_13(1, ID), 1)
    assert asked.extension == {"kafka": {"client_id": "cli", "topics": [str(ID)], "unresolved_topic_ids": [str(ID)]}}
    assert asked.texts == (str(ID).encode(), b"cli")
    (asked,) = Kafka(Losses()).feed(CLIENT, metadata(1, 1, null=True), 1)
    assert asked.extension == {"kafka": {"client_id": "cli", "all_topics": True}}


def test_pending_requests_are_bounded():
    losses = Losses()
    parser = Kafka(losses)
    for number in range(PENDING_LIMIT + 5):
        parser.feed(CLIENT, heartbeat(number), 1)
    assert len(parser._pending) == PENDING_LIMIT
    assert losses.get("kafka", "too many pending requests") == 5


def test_a_client_id_is_bounded():
    losses = Losses()
    parser = Kafka(losses)
    assert parser.feed(CLIENT, ONE + produce(2, (b"a", b""), client_id=b"c" * (CLIENT_ID_LIMIT + 1)), 1)[1:] == []
    assert losses.snapshot() == counted("malformed request header")
    (told,) = Kafka(Losses()).feed(CLIENT, produce(2, (b"a", b""), client_id=b"c" * CLIENT_ID_LIMIT), 1)
    assert told.texts == (b"a", b"c" * CLIENT_ID_LIMIT)


# Topic ids


def test_topic_ids_are_shared_by_the_ends_of_connections():
    shared = TopicIds()

    def connection(client: bytes, server: bytes) -> Kafka:
        return Kafka(Losses(), shared, (client, server))

    play(connection(b"c1", b"b1"), [(CLIENT, metadata_12(1)), (SERVER, told_metadata_12(1, b"orders", ID))])
    for client, server, topics in [
        (b"c1", b"b2", ("orders",)),  # who was told
        (b"c2", b"b1", ("orders",)),  # who told
        (b"c2", b"b2", (UNKNOWN_TOPIC,)),  # nobody to do with it
    ]:
        (asked,) = connection(client, server).feed(CLIENT, fetch_13(2, ID), 1)
        assert asked.topics == topics


# Through detection


def conversation(losses: Losses) -> Conversation:
    return Conversation(losses, PORTS)


JOINED: dict[str, tuple[Transcript, list[str]]] = {
    "from the start": ([(CLIENT, ONE), (SERVER, produced(1, 0))], ["0v2 #1 cli a", "0v2! #1 0"]),
    "in the middle of an answer": (
        [(SERVER, b"rest of an answer"), (CLIENT, heartbeat(1)), (SERVER, beaten(1))],
        ["12v0 #1 cli", "12v0! #1 0"],
    ),
    "in the middle of a request": (
        [(CLIENT, b"\0\xffrest of records"), (SERVER, beaten(1)), (CLIENT, heartbeat(2)), (SERVER, beaten(2))],
        ["12v0 #2 cli", "12v0! #2 0"],
    ),
    "before an answer": (
        [(SERVER, beaten(1)), (CLIENT, heartbeat(2)), (SERVER, beaten(2))],
        ["12v0 #2 cli", "12v0! #2 0"],
    ),
}


@pytest.mark.parametrize("name", JOINED)
def test_joined(name):
    transcript, messages = JOINED[name]
    told, losses = play_counted(conversation, transcript)
    assert [brief(message) for message in told] == messages
    assert losses == {}


def test_roles_are_swapped_where_the_caller_guessed_wrong():
    talked = Conversation(Losses(), OTHER_PORTS)
    (asked,) = talked.feed(SERVER, ONE, 1)
    assert (talked.kind, talked.roles_swapped, asked.side) == (Detected.KAFKA, True, CLIENT)


def test_looking_for_a_late_request_ends():
    talked = conversation(Losses())
    for _ in range(LATE_PIECES + 2):
        assert not talked.opaque
        assert talked.feed(CLIENT, b"\xff" * 9, 1) == []
        talked.feed(SERVER, b"\xff" * 9, 1)
        if talked.opaque:
            break
    assert talked.opaque
    other = Conversation(Losses(), OTHER_PORTS)
    other.feed(CLIENT, b"\xff", 1)
    other.feed(SERVER, b"\xff", 1)
    assert other.opaque


def test_bounds_are_what_they_say():
    assert kafka_header.SIZE_LIMIT == 1 << 28
    assert kafka_walk.NAME_LIMIT >= 249
    assert kafka.UNKNOWN_TOPIC not in ("", "a")


@pytest.mark.parametrize(
    ("size", "key", "version", "length", "kept", "whole"),
    [
        (13, 0, 9, 3, 3, True),
        (13, 0, 9, 3, 9, True),  # the body behind it
        (10, 0, 9, 0, 0, True),
        (10, 0, 9, -1, 0, True),
        (13, 900, 255, 3, 3, True),  # nobody knows it
        (10 + CLIENT_ID_LIMIT, 0, 9, CLIENT_ID_LIMIT, CLIENT_ID_LIMIT, True),
        (11 + CLIENT_ID_LIMIT, 0, 9, CLIENT_ID_LIMIT + 1, CLIENT_ID_LIMIT + 1, False),
        (12, 0, 9, 3, 3, False),  # the client id is longer than the frame
        (kafka_header.SIZE_LIMIT, 0, 9, 3, 3, True),
        (kafka_header.SIZE_LIMIT + 1, 0, 9, 3, 3, False),
        (-1, 0, 9, 3, 3, False),
        (13, -1, 9, 3, 3, False),
        (13, 0, -1, 3, 3, False),
        (13, 0, 256, 3, 3, False),
        (13, 0, 9, -2, 3, False),
    ],
)
def test_a_header_that_is_all_there_says_the_same_as_one_that_comes_in_pieces(size, key, version, length, kept, whole):
    data = struct.pack(">ihhih", size, key, version, 7, length) + bytes(kept)
    head = kafka_header.read_head(b"before" + data, 6, strict=False)
    assert isinstance(head, kafka_header.Head) == whole
    if whole:
        client_id = bytes(length) if length >= 0 else None
        assert head == kafka_header.Head(size + 4, key, version, 7, client_id, 14 + max(length, 0))
    needed = 14 + max(length, 0) if whole else 14
    for cut in range(min(needed, 20)):
        sign = kafka_header.read_head(data[:cut], 0, strict=False)
        assert sign is kafka_header.Sign.MORE or (not whole and sign is kafka_header.Sign.NO)
