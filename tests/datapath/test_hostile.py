"""Peers that mean harm to the kernel's datapath: it tells nothing else than the pipeline, and keeps its bounds."""

import itertools
import random
from dataclasses import replace
from ipaddress import IPv4Address

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from observer.datapath.ring import Counters
from observer.losses import Losses
from observer.record import L7Kind
from observer.sources.frames import Frames
from observer.sources.pcap import open_capture
from tests.captures import ethernet, frames, ipv4, tcp
from tests.datapath.both import COLUMNS, Kernel, differences, in_python, named, stored
from tests.datapath.test_differential import PCAPS
from tests.datapath.traffic import CLIENT, SERVER, Segment, frames_of, plainly
from tests.packets import udp

pytestmark = pytest.mark.ebpf

CONNECTIONS = 100_000
REPLY = 3
DEFINED = ("type", "l7_kind", "l7_type", "l7_id", "time_ns", "source_port", "destination_port")
TOPIC_ID = 36


@pytest.fixture
def fresh():
    """A datapath of its own, whose tables hold nothing of other tests."""
    loaded = Kernel()
    yield loaded
    loaded.replay.close()


ADDRESSES = itertools.count(1 << 24)
"""From 1.0.0.0 up, where no other test is."""


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_frames_of_any_octets(kernel, data):
    rng = random.Random(data.draw(st.integers(0, 1 << 30)))
    kinds = [ethernet(ipv4(tcp(b"GET / HTTP/1.1\r\n\r\n"), 6)), ethernet(ipv4(tcp(b"x" * 40), 6), tags=[(0x8100, 3)])]
    batch = []
    for _ in range(20):
        frame = bytearray(rng.choice(kinds) if rng.random() < 0.8 else rng.randbytes(rng.randrange(200)))
        for _ in range(rng.randrange(4)):
            if frame:
                frame[rng.randrange(len(frame))] = rng.randrange(256)
        # Addresses of this frame alone, also where hypothesis draws a number again: the kernel remembers connections.
        if len(frame) >= 34:
            frame[26:34] = next(ADDRESSES).to_bytes(4) + rng.randbytes(4)
        batch.append(bytes(frame[: rng.randrange(len(frame) + 1)] if rng.random() < 0.2 else frame))
    kernel.assert_same(frames(batch))


BROKEN = [
    b"GET / HTTP/1.1\r\n\0\0\0\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: 999999999999999999\r\n\r\nx",
    b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFF\r\nx",
    b"GET / HTTP/1.1\r\n" + b":" * 900 + b"\r\n\r\n",
    b"GET / HTTP/1.1" + b"\n" * 900,
    b"\r\n" * 600,
    b"GET /" + b"\xff" * 600 + b" HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
    b"HTTP/1.1 200\r\nContent-Length: -1\r\n\r\n",
    b"A" * 33 + b" / HTTP/1.1\r\n\r\n",
    b" GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: " + b" " * 40 + b"h\r\n\r\n",
    b"GET / HTTP/1.1 \r\n\r\n",
    b"GET HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
    b"\0\0\0\x10\0\3\0\1" + b"\xff" * 100,
    b"\x16\3\1\2\0\1" + b"\0" * 100,
    bytes(600),
]


@pytest.mark.parametrize("number", range(len(BROKEN)))
@pytest.mark.parametrize("cut", [1, 7, 3000])
def test_malformed_messages(kernel, number, cut):
    data = BROKEN[number]
    pieces = [Segment(CLIENT, at, data[at : at + cut]) for at in range(0, min(len(data), 60 * cut), cut)]
    pieces.append(Segment(SERVER, 0, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"))
    kernel.assert_same(frames_of(plainly(pieces, f"10.97.{number}.{cut % 250}:40000", "10.96.0.1:80")))


def disturbed_capture(frames_in: Frames, rng: random.Random) -> Frames:
    """Frames lost, doubled, late; or the capture begins later."""
    rows = list(range(len(frames_in)))
    for _ in range(rng.randint(1, 4)):
        what, at = rng.choice(["lost", "twice", "swap", "late", "joined"]), rng.randrange(len(rows) - 1)
        if what == "lost":
            del rows[at]
        elif what == "twice":
            rows.insert(at + rng.randint(1, 5), rows[at])
        elif what == "swap":
            rows[at], rows[at + 1] = rows[at + 1], rows[at]
        elif what == "late":
            rows.insert(min(len(rows), at + rng.randint(2, 6)), rows.pop(at))
        else:
            rows = rows[rng.randrange(len(rows) // 2) :]
    columns = {name: getattr(frames_in, name)[rows] for name in ("offsets", "lengths", "wire_lengths", "link_types")}
    columns |= {name: getattr(frames_in, name)[rows] for name in ("interfaces", "numbers")}
    return replace(frames_in, times_ns=np.sort(frames_in.times_ns[rows]), **columns)


def is_unknown(one: dict, other: dict) -> bool:
    """Whether the kernel's flow (`other`) says less than the pipeline's, and nothing else."""
    for name, value in other.items():
        if name in ("present", "flags", "latency_ns", "grpc_status", "l7_kind", "l7_method", "l7_code", "l7_version"):
            continue  # absent where `present` says so, which is compared below
        if name == "texts":
            # A topic id stands for a topic whose name is not known.
            if any(
                text and text != known and len(text) != TOPIC_ID for text, known in zip(value, one[name], strict=True)
            ):
                return False
        elif value != one[name]:
            return False
    return other["present"] & ~one["present"] == 0


@pytest.mark.parametrize("name", ["http1-keepalive", "http1-pipelining", "grpc-errors", "http2-other", "kafka-python"])
def test_disturbed_captures(fresh, name):
    with open_capture(PCAPS / f"{name}.pcap", Losses()) as capture:
        (whole,) = capture.frames()
    for seed in range(12):
        batch = fresh.later(disturbed_capture(whole, random.Random(seed)))
        missing, added = differences(stored(in_python([batch])), fresh.run(batch))
        assert not [row for row in missing if named(row)["type"] != 2], seed  # of L3 and L4 nothing is unknown
        wanted: dict[tuple, list[dict]] = {}
        for row in map(named, missing):
            wanted.setdefault(tuple(row[column] for column in DEFINED), []).append(row)
        for row in map(named, added):
            known = wanted.get(tuple(row[column] for column in DEFINED), [])
            assert any(is_unknown(one, row) for one in known), (seed, row)


def test_a_hundred_thousand_connections(fresh):
    clients = [str(IPv4Address(0x0A400000 + number)) for number in range(CONNECTIONS)]
    batch = [ethernet(ipv4(tcp(b"", 40000, 80, 2, 7), 6, client, "10.95.0.1")) for client in clients]
    whole = frames(batch)
    counters = Counters(fresh.replay._object.map("counters"))
    told = fresh.run(whole)
    added = counters.added()
    assert len(told) == CONNECTIONS
    assert int(added[5]) == CONNECTIONS  # seen
    assert not any(int(count) for count in added[:5])  # lost
    # The youngest are still known: their answers are replies.
    answers = frames([ethernet(ipv4(tcp(b"", 80, 40000, 18, 9, 8), 6, "10.95.0.1", each)) for each in clients[-1000:]])
    replies = fresh.run(replace(answers, times_ns=answers.times_ns - answers.times_ns[0] + whole.times_ns[-1] + 1))
    assert {row[COLUMNS.index("trace_reason")] for row in replies} == {REPLY}


def test_a_flood_of_datagrams_is_not_all_given_to_user_space(fresh):
    rows = [udp("10.94.0.1:40000", "10.94.0.2:9999", b"x" * 100, at=number / 1000) for number in range(1000)]
    fresh.assert_same(frames_of(rows))
    assert int(Counters(fresh.replay._object.map("counters")).read()[1]) == 0


def test_nothing_that_is_no_message_is_told(kernel):
    rng = random.Random(5)
    segments = [Segment(rng.randrange(2), 0, rng.randbytes(1400)) for _ in range(2)]
    told = kernel.assert_same(frames_of(plainly(segments, "10.93.0.1:40000", "10.93.0.2:80")))
    assert {row[COLUMNS.index("l7_kind")] for row in told} == {L7Kind.NONE}
