"""Kafka over disturbed connections: the kernel, and user space where it goes on, beside the Python pipeline."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from observer.record import Flags, L7Kind, L7Type
from tests.datapath.both import by_kernel, differences, in_kernel, in_python, named, stored
from tests.datapath.traffic import CLIENT, SERVER, Segment, disturbed, frames_of, packets
from tests.l7.test_kafka import (
    ID,
    beaten,
    fetch_13,
    heartbeat,
    metadata_12,
    produce,
    produced,
    response,
    told_metadata_12,
)
from tests.packets import tcp

pytestmark = pytest.mark.ebpf


@st.composite
def exchanges(draw) -> list[tuple[int, bytes]]:
    """What a client and a broker say, some of it at once."""
    said: list[tuple[int, bytes]] = []
    number, waiting = 2, b""
    for _ in range(draw(st.integers(2, 8))):
        kind = draw(st.sampled_from(["produce", "large", "heartbeat", "fetch"]))
        asked, answer = {
            "produce": (produce(number, (b"a", b"x" * 50), (b"b", b"y")), produced(number, 0, 3)),
            "large": (produce(number, (b"a", b"x" * 4_000), (b"b", b"y" * 900)), produced(number, 0)),
            "heartbeat": (heartbeat(number), beaten(number, 25)),
            "fetch": (fetch_13(number, ID), response(number, b"\0" + bytes(10) + b"\1\0" + bytes(3_000))),
        }[kind]
        number += 1
        said.append((CLIENT, asked))
        waiting += answer
        if draw(st.booleans()):
            said.append((SERVER, waiting))
            waiting = b""
    return [*said, (SERVER, waiting)] if waiting else said


@st.composite
def segments(draw) -> tuple[list[Segment], dict[int, bytes]]:
    """The same in segments, behind a beginning that the kernel knows at once; some come astray. And the requests."""
    beginning = [(CLIENT, metadata_12(1)), (SERVER, told_metadata_12(1, b"orders", ID))]
    offsets = [0, 0]
    out = []
    said = beginning + draw(exchanges())
    for side, data in said:
        at = 0
        while at < len(data):
            size = draw(st.sampled_from([13, 60, 500, 1448, 3000])) if len(out) > 1 else len(data)
            out.append(Segment(side, offsets[side], data[at : at + size]))
            offsets[side] += len(out[-1].data)
            at += size
    asked = {int.from_bytes(data[8:12]): data for side, data in said if side == CLIENT}
    return out[:2] + draw(disturbed(out[2:])), asked


def true(row: dict, asked: dict[int, bytes], cut: set[int]) -> bool:
    """Whether a flow says of a message what was sent, or that it does not know."""
    if row["flags"] & Flags.L7_INCOMPLETE:
        return True
    frame = asked[row["l7_id"]]
    key = int.from_bytes(frame[4:6])
    if row["l7_type"] == L7Type.RESPONSE and row["l7_code"] != {0: 3 if len(frame) < 1_000 else 0, 12: 25}.get(key, 0):
        return False
    # A response has the topic of its request, as far as that was told.
    topic = {0: b"a", 1: b"orders"}.get(key, b"")
    return row["l7_method"] == key and (row["texts"][:2] == (topic, b"cli") or row["l7_id"] in cut)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])  # slow
@given(st.data())
def test_disturbed_connections_are_never_told_otherwise(data):
    """Nor by the Python pipeline, which waits for lost records where the kernel passes over them, and may know less."""
    said, asked = data.draw(segments())
    batches = [frames_of(data.draw(packets(said, "10.0.0.1:40000", "10.0.0.2:9092")))]
    stores = in_kernel(batches), in_python(batches)
    rows = [[named(row) for row in stored(store)] for store in stores]
    for told in rows:
        kafka = [row for row in told if row["l7_kind"] == L7Kind.KAFKA]
        cut = {row["l7_id"] for row in kafka if row["flags"] & Flags.L7_INCOMPLETE}
        assert [row for row in kafka if not true(row, asked, cut)] == []
    packets_told = [[row for row in told if row["l7_kind"] != L7Kind.KAFKA] for told in rows]
    assert packets_told[0] == packets_told[1]


def batch(*said: tuple[int, int, bytes]):
    """A connection from its handshake on: side, offset, octets."""
    ends, starts = ("10.0.0.1:40000", "10.0.0.2:9092"), (1000, 5000)
    rows, heard = [], [0, 0]
    for number, (side, offset, flags, data) in enumerate(
        [(CLIENT, -1, "S", b""), (SERVER, -1, "SA", b""), (CLIENT, 0, "A", b"")]
        + [(side, offset, "PA", data) for side, offset, data in said]
    ):
        acknowledged = 0 if flags == "S" else starts[1 - side] + 1 + heard[1 - side]
        heard[side] = max(heard[side], offset + len(data))
        rows.append(
            tcp(
                ends[side],
                ends[1 - side],
                flags,
                data,
                sequence=starts[side] + 1 + offset,
                acknowledgment=acknowledged,
                at=number / 1e3,
            )
        )
    return [frames_of(rows)]


LARGE = produce(4, (b"a", bytes(4_000)), (b"b", b""))
BEATS = b"".join(heartbeat(number) for number in range(8))
BEAT = len(heartbeat(0))
ANSWERS = b"".join(beaten(number, number) for number in range(8))
SWAPPED = {
    "requests": [(0, BEATS[:BEAT]), (2 * BEAT, BEATS[2 * BEAT :]), (BEAT, BEATS[BEAT : 2 * BEAT])],
    "pieces of a request": [(0, BEATS[:BEAT]), (BEAT + 9, BEATS[BEAT + 9 :]), (BEAT, BEATS[BEAT : BEAT + 9])],
    "records": [(0, LARGE[:500]), (1000, LARGE[1000:2000]), (500, LARGE[500:1000]), (2000, LARGE[2000:])],
}


@pytest.mark.parametrize("name", SWAPPED)
def test_swapped_segments_lose_nothing(name):
    """What the kernel has read so far is not read again, and requests that wait there find their responses."""
    answers = produced(4, 7) if name == "records" else ANSWERS
    batches = batch(*[(CLIENT, *piece) for piece in SWAPPED[name]], (SERVER, 0, answers))
    python, kernel = in_python(batches), in_kernel(batches)
    assert differences(stored(python), stored(kernel)) == ([], [])
    assert by_kernel(kernel, L7Kind.KAFKA) == 2  # records in any order are the kernel's; here a first request at least
