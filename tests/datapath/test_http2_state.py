"""HTTP/2 connections that the kernel hands over: user space goes on with their tables, streams and places."""

import random

import pytest

from observer.record import Flags, FlowType
from tests.datapath.both import differences, in_kernel, in_python, named, stored
from tests.datapath.traffic import Segment, frames_of
from tests.l7.http2_bytes import CALL, GRPC_END, GRPC_OK, HELLO, SETTINGS, Sender, data, message
from tests.l7.test_http2 import h2_transcript
from tests.l7.transcripts import CLIENT, SERVER, Transcript
from tests.packets import Packet, tcp

SERVER_END = "10.0.0.2:50051"
STARTS = (1_000, 5_000)


def calls(count: int) -> Transcript:
    """A gRPC connection: after the first call nearly all of a block is indexed."""
    client, server = Sender(), Sender()
    out: Transcript = [(CLIENT, HELLO), (SERVER, SETTINGS)]
    for number in range(count):
        stream = 2 * number + 1
        out.append((CLIENT, client.headers(stream, CALL) + data(stream, message(), end=True)))
        out.append((SERVER, server.headers(stream, GRPC_OK) + data(stream, message(500))))
        out.append((SERVER, server.headers(stream, GRPC_END, end=True)))
    return out


def segments(transcript: Transcript) -> list[Segment]:
    offsets = [0, 0]
    out = []
    for side, said in transcript:
        assert isinstance(said, bytes)
        out.append(Segment(side, offsets[side], said))
        offsets[side] += len(said)
    return out


def packets(number: int, said: list[Segment]) -> list[Packet]:
    """Connection so and so: with the handshake, a millisecond apart, and each acknowledged."""
    ends, heard, begin = (f"10.0.0.1:{40_000 + number}", SERVER_END), [0, 0], float(number)
    rows = [
        tcp(ends[0], ends[1], "S", sequence=STARTS[0], at=begin),
        tcp(ends[1], ends[0], "SA", sequence=STARTS[1], acknowledgment=STARTS[0] + 1, at=begin + 0.001),
    ]
    for place, segment in enumerate(said, 2):
        side, sequence = segment.side, STARTS[segment.side] + 1 + segment.offset
        acknowledged = STARTS[1 - side] + 1 + heard[1 - side]
        rows.append(
            tcp(ends[side], ends[1 - side], "PA", segment.data, sequence=sequence, acknowledgment=acknowledged,
                at=begin + place / 1_000)
        )  # fmt: skip
        heard[side] = max(heard[side], segment.offset + len(segment.data))
    return rows


def swapped(said: list[Segment], first: int) -> list[Segment]:
    """The next two segments of one side come in the other order."""
    second = next(place for place in range(first + 1, len(said)) if said[place].side == said[first].side)
    out = list(said)
    out[first], out[second] = out[second], out[first]
    return out


def told(rows: list[tuple]) -> list[dict]:
    return [flow for flow in map(named, rows) if flow["type"] == FlowType.L7]


def key(flow: dict) -> tuple:
    return flow["source_port"] + flow["destination_port"], flow["l7_type"], flow["l7_id"]


@pytest.mark.ebpf
def test_after_segments_in_another_order_calls_are_known_as_before():
    """Whichever two change places; where Python does not know an answer's request, neither does the kernel."""
    rows = [packets(first, swapped(segments(calls(12)), first)) for first in range(2, 26)]
    batches = [frames_of([row for each in rows for row in each])]
    python, kernel = stored(in_python(batches)), stored(in_kernel(batches))
    missing, added = differences(python, kernel)
    assert (told(missing), told(added)) == ([], [])
    for number, each in enumerate(rows, 2):
        last = [flow for flow in told(kernel) if 40_000 + number in (flow["source_port"], flow["destination_port"])][
            -4:
        ]
        assert [flow["l7_id"] for flow in last] == [21, 21, 23, 23], each
        assert not any(flow["flags"] & Flags.L7_INCOMPLETE for flow in last)


@pytest.mark.ebpf
def test_cut_and_disordered_nothing_is_misheard_and_most_is_known():
    """A block that is being read at the hand-over is lost with its table: unknown, and said to be."""
    rows: list[Packet] = []
    for seed in range(40):
        transcript, _ = h2_transcript(seed)
        chance = random.Random(seed)
        pieces: Transcript = []
        for number, (side, said) in enumerate(transcript):
            assert isinstance(said, bytes)
            cut = chance.randrange(len(said)) if number > 3 and chance.random() < 0.3 else 0
            pieces += [(side, piece) for piece in (said[:cut], said[cut:]) if piece]
        rows += packets(seed, swapped(segments(pieces), chance.randrange(6, len(pieces) - 8)))
    batches = [frames_of(rows)]
    true = {key(each): each for each in told(stored(in_python(batches)))}
    known = unknown = 0
    for flow in told(stored(in_kernel(batches))):
        python = true[key(flow)]
        if flow["flags"] & Flags.L7_INCOMPLETE:
            unknown += 1
            assert flow["l7_code"] in (0, python["l7_code"])
            assert all(ours in (b"", theirs) for ours, theirs in zip(flow["texts"], python["texts"], strict=True))
        else:
            assert flow == python
            known += 1
    assert known > 10 * unknown > 0
