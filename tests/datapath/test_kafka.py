"""The kernel's Kafka parser beside the Python one: the same octets give the same columns, or it says that it does not
know. Every (API key, version) that kafka-python and kio can write, whole and cut; hostile bytes; every bound."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bpf.build import build
from observer.datapath import pending
from observer.datapath.policy_maps import put_policy
from observer.l7.kafka import UNKNOWN_TOPIC
from observer.l7.kafka_header import CLIENT_ID_LIMIT, is_request
from observer.l7.kafka_topics import TopicIds
from observer.l7.message import Message
from observer.record import Flags, L7Type, Present, Verdict
from tests.datapath.kafka_kernel import (
    DETECTED,
    FRAME_LIMIT,
    HAND_OVER,
    ORDER_DETECT,
    ORDER_DETECT_EXPECTED,
    READ,
    REFUSED,
    KernelKafka,
    Told,
    python,
    told,
)
from tests.l7.kafka_encoders import Sample
from tests.l7.test_kafka import (
    BROKEN,
    ID,
    OTHER_ID,
    WHOLE,
    array,
    beaten,
    fetch_13,
    framed,
    heartbeat,
    metadata,
    metadata_12,
    produce,
    produced,
    request,
    response,
    text,
    told_metadata_12,
)
from tests.l7.test_kafka_encoders import ENCODERS
from tests.l7.transcripts import CLIENT, SERVER
from tests.policy.test_compile import compiled
from tests.policy.town import Kafka as Asked
from tests.policy.town import Town, cnp

pytestmark = pytest.mark.ebpf

Pieces = list[tuple[int, bytes]]


@pytest.fixture(scope="session")
def compile_kernel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bpf")

    def compiled(name: str) -> bytes:
        target = folder / f"{name}.bpf.o"
        if not target.exists():
            build(Path(__file__).parent / f"{name}.bpf.c", target)
        return target.read_bytes()

    return compiled


@pytest.fixture(scope="module")
def kernel(compile_kernel) -> Iterator[KernelKafka]:
    with KernelKafka(compile_kernel("kafka")) as one:
        yield one


def cut(transcript: Pieces, step: int) -> Pieces:
    return [(side, data[at : at + step]) for side, data in transcript for at in range(0, len(data), step)]


def both(kernel: KernelKafka, transcript: Pieces) -> tuple[list[Told], list[Told]]:
    """What the kernel and the Python parser tell of the same pieces, up to where the kernel hands over."""
    kernel.begin()
    parser = python(TopicIds())
    ours: list[Told] = []
    theirs: list[Told] = []
    for time_ns, (side, data) in enumerate(transcript, 10):
        if HAND_OVER not in kernel.results:
            ours += kernel.feed(side, data, time_ns)
        theirs += [told(message, time_ns) for message in parser.feed(side, data, time_ns)]
    if HAND_OVER in kernel.results:
        return ours, theirs[: len(ours)]
    for side in (CLIENT, SERVER):
        ours += kernel.close(side, 1 << 20)
        theirs += [told(message, 1 << 20) for message in parser.close(side)]
    return ours, theirs


def admits(ours: Told, theirs: Told) -> bool:
    """Whether the kernel says the same, or that it does not know."""
    if ours == theirs:
        return True
    if not ours.flags & Flags.L7_INCOMPLETE or (ours.type, ours.id) != (theirs.type, theirs.id):
        return False
    if ours.type == L7Type.RESPONSE:
        return not ours.present & Present.METHOD
    # The kernel learns ids while a response is read, the other when it is done.
    return ours._replace(texts=theirs.texts) == theirs and ours.texts == (b"orders", b"cli")


def without_gaps(transcript) -> Pieces:
    """A transcript of tests/l7/test_kafka.py without what the kernel is never given."""
    return [(side, data) for side, data in transcript if not isinstance(data, int)]


# Every message


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_version_of_every_message(kernel, encoder):
    write, least = ENCODERS[encoder]
    answers = {(sample.key, sample.version): sample for sample in write("response")}
    asked: list[Sample] = list(write("request"))
    assert len(asked) >= least
    faults = []
    for sample in asked:
        answer = answers.pop((sample.key, sample.version))
        transcript = [(CLIENT, sample.frame), (SERVER, answer.frame)]
        for step in (FRAME_LIMIT, 7, 1):
            ours, theirs = both(kernel, cut(transcript, step))
            if ours != theirs or len(ours) != 2 or any(kernel.results):
                faults.append((str(sample), step, ours, theirs))
        if kernel.order(ORDER_DETECT, CLIENT, sample.frame) != DETECTED + 1:
            faults.append((str(sample), 0, [], []))
    assert faults == []
    assert not answers


# By hand

TRANSCRIPTS = {name: without_gaps(each[0]) for name, each in (WHOLE | BROKEN).items()}
LONG = {name for name, transcript in TRANSCRIPTS.items() if sum(len(data) for _, data in transcript) > 4_000}
HANDED_OVER = {"2 GB", "a negative length"}
TWICE = "no answer without acks"  # two requests of one correlation id, of which one is answered


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("step", [FRAME_LIMIT, 13, 7, 14, 1])
def test_transcript(kernel, name, step):
    if name in LONG:
        step = max(step, 500)
    ours, theirs = both(kernel, cut(TRANSCRIPTS[name], step))
    assert (HAND_OVER in kernel.results) == (name in HANDED_OVER)
    assert len(ours) == len(theirs) > 0
    if name == TWICE:
        assert [message.present & Present.METHOD for message in ours if message.type == L7Type.RESPONSE] == [0]
        assert sorted(message for message in ours if message.type == L7Type.REQUEST) == sorted(
            message for message in theirs if message.type == L7Type.REQUEST
        )
    else:
        assert ours == theirs


MUTATED = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=4)
HEADS = st.lists(st.tuples(st.integers(0, 60), st.sampled_from((0, 1, 0x7F, 0x80, 0xFF))), max_size=3)


def mutated(data: bytes, *mutations: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for place, value in (each for some in mutations for each in some):
        changed[place % len(changed)] = value
    return bytes(changed)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(set(TRANSCRIPTS) - LONG)), MUTATED, HEADS, st.integers(1, 120), st.booleans())
@example(name="2 GB", mutations=[], heads=[], step=7, together=False)  # a packet that begins with the client id
def test_hostile_octets_are_never_told_otherwise(kernel, name, mutations, heads, step, together):
    transcript = [(side, mutated(data, mutations, heads)) for side, data in TRANSCRIPTS[name]]
    if not together:
        transcript = cut(transcript, step)
    ours, theirs = both(kernel, transcript)
    if name == TWICE:  # the kernel tells at once what the other tells in its time
        ours, theirs = sorted(ours), sorted(theirs)
    assert len(ours) == len(theirs)
    assert [pair for pair in zip(ours, theirs, strict=True) if not admits(*pair)] == []


REQUESTS = sorted({data for transcript in TRANSCRIPTS.values() for side, data in transcript if side == CLIENT})


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(REQUESTS), MUTATED, HEADS, st.integers(1, FRAME_LIMIT))
def test_detection_is_that_of_the_other(kernel, data, mutations, heads, size):
    data = mutated(data, mutations, heads)[:size]
    for order, expected in ((ORDER_DETECT, False), (ORDER_DETECT_EXPECTED, True)):
        found = kernel.order(order, CLIENT, data)
        assert found == DETECTED + (is_request(data, expected=expected) is True)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (produce(1, (b"a", b""), client_id=None), True),
        (produce(1, (b"a b", b""), client_id=b""), False),  # no client id, and no topic that could be one
        (produce(1, (b"a" * 250, b""), client_id=b""), False),
        (produce(1, (b"a" * 249, b""), client_id=b""), True),
        (produce(1, (b" ", b""), (b"a", b""), client_id=b""), True),
        (request(12, 0, 1, client_id=b"a\x7f"), False),
        (request(12, 0, 1, client_id=b"x" * CLIENT_ID_LIMIT), True),
        (request(0, 2, 1, struct.pack(">hii", 1, 1, 1000)), False),
        (fetch_13(1, ID), True),
    ],
)
def test_what_proves_a_request(kernel, data, expected):
    assert (is_request(data) is True) == expected
    assert kernel.order(ORDER_DETECT, CLIENT, data) == DETECTED + expected


# Messages and packets


def test_many_messages_in_one_packet(kernel):
    asked = [heartbeat(number) for number in range(90)]
    answers = [beaten(number, number) for number in range(90)]
    ours, theirs = both(kernel, [(CLIENT, b"".join(asked)), (SERVER, b"".join(answers))])
    assert ours == theirs
    assert len(ours) == 180


def test_a_message_that_ends_is_told_with_its_last_octets(kernel):
    """What is passed over behind an empty array is no reason to wait."""
    kernel.begin()
    (asked,) = kernel.feed(CLIENT, produce(7, (b"a", b"")), 1)
    (answered,) = kernel.feed(SERVER, response(7, array() + bytes(4))[:-3], 2)
    assert (answered.id, answered.texts, answered.present & Present.CODE) == (asked.id, asked.texts, 0)


def test_nothing_is_looked_at_in_a_body(kernel):
    """Of records that go on over many packets the connection knows how many octets are left: core passes over them."""
    kernel.begin()
    data = produce(1, (b"a", bytes(50_000)), (b"b", bytes(9)))
    assert kernel.feed(CLIENT, data[:1000], 1) == []
    assert kernel.left(CLIENT) == len(data) - 1000 - len(text(b"b") + array(struct.pack(">ii", 0, 9) + bytes(9)))
    (asked,) = kernel.feed(CLIENT, data[1000:], 2)
    assert asked.texts == (b"a", b"cli")
    assert asked.flags == 0
    assert asked.time_ns == 2


@pytest.mark.parametrize("end", [9, 20, 31])
def test_where_a_side_is_given_up_the_next_message_is_found(kernel, end):
    """Core calls this before a hand-over: what is left of the frame is passed over, and the next one read."""
    data = produce(1, (b"aaaaaaaaaa", bytes(20)), (b"b", bytes(20)))
    kernel.begin()
    assert kernel.feed(CLIENT, heartbeat(5) + data[:end], 1)[1:] == []
    given_up = kernel.close(CLIENT, 1)
    if end > 17:  # its header had come
        assert [(each.id, each.flags & Flags.L7_INCOMPLETE) for each in given_up] == [(1, Flags.L7_INCOMPLETE)]
        (told_next,) = kernel.feed(CLIENT, data[end:] + heartbeat(6), 2)
        assert told_next.id == 6
    else:
        assert given_up == []


def test_topic_ids_are_known_at_once_to_both_ends(kernel):
    kernel.begin()
    kernel.feed(CLIENT, metadata_12(1), 1)
    kernel.feed(SERVER, told_metadata_12(1, b"orders", ID), 2)
    (asked,) = kernel.feed(CLIENT, fetch_13(2, ID, OTHER_ID), 3)
    assert (asked.texts[0], asked.flags) == (b"orders", Flags.L7_INCOMPLETE)
    for client, server, name in [(1, 9, b"orders"), (9, 2, b"orders"), (8, 9, str(ID).encode())]:
        kernel.begin(forget=False)
        kernel.client, kernel.server = client, server
        (asked,) = kernel.feed(CLIENT, fetch_13(1, ID), 1)
        assert asked.texts[0] == name
        assert bool(asked.flags & Flags.L7_INCOMPLETE) == (name != b"orders")


# Policy

BROKER = "endpointSelector: {matchLabels: {role: vault}}"


def broker_policy(rules: str) -> str:
    ports = "ports: [{port: '9092', protocol: TCP}]"
    return cnp("broker", f"{{{BROKER}, ingress: [{{toPorts: [{{{ports}, rules: {{kafka: {rules}}}}}]}}]}}")


@pytest.fixture
def judged(kernel, tmp_path):
    def judge(rules: str) -> Town:
        town = Town(tmp_path, broker_policy(rules))
        put_policy(kernel.object, compiled(town))
        kernel.is_judged = True
        return town

    yield judge
    kernel.is_judged = kernel.is_enforced = False


RULES = [
    "[{role: produce, topic: a}, {apiKey: metadata, topic: b}]",
    "[{apiKey: produce, topic: a}, {apiKey: produce, topic: bb}]",
    "[{apiKey: produce, apiVersion: '2', clientID: cli, topic: a}, {apiKey: fetch}]",
    "[{apiKey: fetch, topic: orders}, {apiKey: metadata}, {clientID: other}]",
    "[{}]",
]
ASKED = {
    "one topic": [produce(1, (b"a", bytes(30)))],
    "another client's": [produce(1, (b"a", b""), client_id=b"other")],
    "two topics": [produce(1, (b"a", bytes(30)), (b"bb", bytes(30)))],
    "three topics": [produce(1, (b"a", bytes(30)), (b"c", bytes(30)), (b"a", b""))],
    "a topic too long to keep": [produce(1, (b"a", b""), (b"x" * 300, b""))],
    "malformed": [request(0, 2, 1, struct.pack(">hii", 1, 1, 1000) + text(b"a"))],
    "no body": [request(0, 2, 1)],
    "all topics": [metadata(1, 1, null=True)],
    "some topics": [metadata(1, 1, b"b", b"b")],
    "a key from the future": [request(300, 0, 1, b"?")],
    "a version from the future": [request(0, 99, 1, b"?")],
    "an id": [metadata_12(1), fetch_13(2, ID)],
    "no topic in a session": [fetch_13(1)],
    "no topics": [heartbeat(1)],
}


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("step", [FRAME_LIMIT, 5])
def test_requests_are_judged_as_by_the_engine(kernel, judged, rules, step):
    town = judged(rules)
    connection = town.connection(*town.packet("bank/teller", "bank/vault", "TCP/9092"))
    for name, frames in ASKED.items():
        parser = python(TopicIds())
        kernel.begin()
        for frame in frames:
            (message,) = parser.feed(CLIENT, frame, 1)
            decision = town.request(connection, asked_of(message))
            ours = [each for _, piece in cut([(CLIENT, frame)], step) for each in kernel.feed(CLIENT, piece, 1)]
            expected = Verdict.FORWARDED if decision.allowed else Verdict.AUDIT
            assert [(each.verdict, each.egress_rule, each.ingress_rule) for each in ours] == [
                (expected, decision.egress_rule, decision.ingress_rule)
            ], name


def asked_of(message: Message) -> Asked:
    assert message.method is not None
    return Asked(message.method, message.topics, message.version, message.texts[1].decode())


def test_what_is_refused_does_not_pass(kernel, judged):
    """The verdict falls with the packet that has the last topic; what follows is not read."""
    judged("[{apiKey: produce, topic: a}, {apiKey: heartbeat}]")
    kernel.begin()
    kernel.is_enforced = True
    data = produce(1, (b"a", bytes(2000)), (b"b", bytes(2000)))
    assert kernel.feed(CLIENT, heartbeat(9) + data[:100], 1)[0].verdict == Verdict.FORWARDED
    assert kernel.feed(CLIENT, data[100:2000], 1) == []
    assert kernel.results == [READ, READ]
    (asked,) = kernel.feed(CLIENT, data[2000:] + heartbeat(10), 2)
    assert (asked.id, asked.verdict) == (1, Verdict.DROPPED)
    assert kernel.results[-1] == REFUSED
    assert kernel.feed(SERVER, beaten(9) + produced(1, 0), 3)[1].present & Present.METHOD == 0


def test_a_topic_that_is_not_known_is_nobodys(kernel, judged):
    judged("[{apiKey: fetch, topic: orders}, {apiKey: metadata}]")
    kernel.begin()
    kernel.feed(CLIENT, metadata_12(1), 1)
    kernel.feed(SERVER, told_metadata_12(1, b"orders", ID), 2)
    verdicts = [kernel.feed(CLIENT, fetch_13(2, *ids), 3)[0].verdict for ids in ((ID,), (OTHER_ID,), (ID, OTHER_ID))]
    assert verdicts == [Verdict.FORWARDED, Verdict.AUDIT, Verdict.AUDIT]
    assert UNKNOWN_TOPIC == "?"  # bpf/kafka_walk.h asks policy of it


# Bounds


def test_the_bounds_of_a_client_id(kernel):
    for size, step in [(CLIENT_ID_LIMIT, FRAME_LIMIT), (CLIENT_ID_LIMIT, 7), (256, 13), (255, 13), (254, 1)]:
        data = produce(2, (b"a", b""), client_id=bytes(range(32, 122)) * 12)
        client_id = (bytes(range(32, 122)) * 12)[:size]
        ours, theirs = both(kernel, cut([(CLIENT, produce(2, (b"a", b""), client_id=client_id))], step))
        assert ours == theirs
        assert ours[0].flags == (Flags.TEXT_CUT if size > 255 else 0)
    data = produce(2, (b"a", b""), client_id=b"c" * (CLIENT_ID_LIMIT + 1))
    ours, _ = both(kernel, [(CLIENT, data)])
    assert (ours, kernel.results) == ([], [HAND_OVER])


@pytest.mark.parametrize("size", [1, 200, 249, 255])
def test_a_topic_of_any_length_cut_anywhere(kernel, size):
    data = produce(2, (b"t" * size, b"x"), (b"u" * size, b"")) + heartbeat(3)
    for at in range(0, len(data), 17):
        ours, theirs = both(kernel, [(CLIENT, data[:at]), (CLIENT, data[at:])] if at else [(CLIENT, data)])
        assert ours == theirs
        assert len(ours) == 2


def test_tokens_are_counted_while_a_handshake_lasts(kernel):
    asked = request(17, 0, 1, text(b"PLAIN"))
    token = framed(b"\0user\0password")
    for tokens in ([token], [framed(b"")], [framed(b"x" * 300)], [token, token]):
        transcript = [(CLIENT, asked), (SERVER, response(1, b"\0\0" + array(text(b"PLAIN"))))]
        for each in tokens:
            transcript += [(CLIENT, each), (SERVER, framed(b""))]
        transcript += [(CLIENT, heartbeat(2)), (SERVER, beaten(2))]
        for step in (FRAME_LIMIT, 40, 1):
            ours, theirs = both(kernel, cut(transcript, step))
            assert ours == theirs
            assert len(ours) == 4


def test_a_client_id_cut_during_a_handshake_is_handed_over_where_it_is_long(kernel):
    """Whether that is a token shows only with the whole of it, and so much is not kept."""
    asked = request(17, 0, 1, text(b"PLAIN"))
    data = request(12, 0, 2, client_id=b"c" * 600)
    ours, _ = both(kernel, [(CLIENT, asked), (CLIENT, data[:500])])
    assert len(ours) == 1
    assert kernel.results == [READ, HAND_OVER]


@pytest.fixture(scope="module")
def small(compile_kernel) -> Iterator[KernelKafka]:
    """A kernel with low bounds: 100 steps of a packet, 300 of a message, few walks and topic ids."""
    with KernelKafka(compile_kernel("kafka_small"), kafka_walks=32, kafka_topic_ids=32) as one:
        yield one


def test_the_steps_of_a_packet_are_bounded(small):
    small.begin()
    asked = metadata(1, 1, *(b"%d" % number for number in range(200)))
    first, second = small.feed(CLIENT, asked + heartbeat(2), 1)
    assert (first.id, first.texts[0], first.flags) == (1, b"0", Flags.L7_INCOMPLETE)
    assert (second.id, second.flags) == (2, 0)
    answer = response(1, array() + bytes(4) + array(*[struct.pack(">hh", 0, -1) + b"\1" + array()] * 60))
    (answered, beat) = small.feed(SERVER, answer + beaten(2, 9), 2)
    assert (answered.present & Present.CODE, answered.flags) == (0, Flags.L7_INCOMPLETE)
    assert (beat.code, beat.flags) == (0, Flags.L7_INCOMPLETE)  # the budget is the packet's


def test_the_steps_of_a_message_are_bounded(small):
    small.begin()
    asked = metadata(1, 1, *(b"%d" % number for number in range(200)))
    told_of = [each for _, piece in cut([(CLIENT, asked)], 50) for each in small.feed(CLIENT, piece, 1)]
    assert [(each.texts[0], each.flags) for each in told_of] == [(b"0", Flags.L7_INCOMPLETE)]
    (beat,) = small.feed(CLIENT, heartbeat(2), 2)
    assert beat.flags == 0


def test_a_response_whose_request_was_pushed_out_is_counted(small):
    small.begin()
    number = int.from_bytes(small.state[:8], "little")
    bucket, _ = pending.place(number, 0)
    sharing = [each for each in range(1 << 20) if pending.place(number, each)[0] == bucket][: pending.WAYS + 1]
    lost = small.count("PENDING_LOST")
    for correlation in sharing:
        small.feed(CLIENT, heartbeat(correlation), 1)
    last, first = (small.feed(SERVER, beaten(each, 9), 2)[0] for each in (sharing[-1], sharing[0]))
    assert (last.flags, first.flags, first.latency_ns) == (0, Flags.L7_INCOMPLETE, 0)
    assert small.count("PENDING_LOST") == lost + 1


def test_a_walk_that_was_pushed_out_is_told_as_far_as_it_is_known(small):
    data = produce(3, (b"a", bytes(40)), (b"b", bytes(40)))
    small.begin()
    lost = small.count("PENDING_LOST")
    small.feed(CLIENT, data[:40], 7)
    state = small.state
    for _ in range(400):
        small.begin()
        small.feed(CLIENT, data[:40], 8)
    small.state = state
    told_of = small.feed(CLIENT, data[40:] + heartbeat(4), 9)
    assert small.count("PENDING_LOST") == lost + 1
    first, second = told_of
    assert (first.id, first.method, first.version, first.texts) == (3, 0, 2, (b"", b""))
    assert first.flags == Flags.L7_INCOMPLETE
    assert (second.id, second.flags) == (4, 0)
    (answered,) = small.feed(SERVER, produced(3, 0), 20)
    assert answered.latency_ns == 20 - 7  # since its header came


def test_topic_ids_are_bounded(small):
    small.begin()
    for number in range(200):
        small.feed(CLIENT, metadata_12(number), 1)
        topic_id = type(ID)(int=ID.int + number)
        small.feed(SERVER, told_metadata_12(number, b"topic-%d" % number, topic_id), 2)
    names = {
        small.feed(CLIENT, fetch_13(1000 + number, type(ID)(int=ID.int + number)), 3)[0].texts[0]
        for number in range(200)
    }
    known = {name for name in names if name.startswith(b"topic-")}
    assert 0 < len(known) <= 64
    assert names - known <= {str(type(ID)(int=ID.int + number)).encode() for number in range(200)}
