"""What user space makes of the kernel's snapshots and records: order, names, positions, and words to the kernel."""

import struct
from pathlib import Path

import numpy as np
import pytest

from observer.datapath.complete import LET_GO, Completion, Waiting, http_state, waiting_request
from observer.datapath.handed import HEAD_SIZE, SNAPSHOT, Reason, Speaks, lengthened, read_snapshots
from observer.datapath.libbpf import possible_cpus
from observer.datapath.pending import PENDING
from observer.extra import Extra
from observer.identity.endpoints import EndpointTable, IpCache
from observer.l7.http1_stream import State
from observer.losses import Losses
from observer.record import Flags, L7Kind, Present, Protocol, empty
from observer.tag import PolicyMode

HEADER = (Path(__file__).parents[2] / "bpf/http.h").read_text()
CLIENT_IP, SERVER_IP = (bytes(10) + b"\xff\xff" + bytes((10, 0, 0, last)) for last in (1, 2))
NUMBER = 1 << 40 | 5


class Words(dict):
    """A map of the kernel's."""

    def set(self, key: bytes, value: bytes) -> None:
        self[key] = value


class Requests(dict):
    """Requests that wait in the kernel."""

    def get(self, connection: int, id: int):
        return super().get((connection, id))


def completion(pending: Requests | None = None, losses: Losses | None = None) -> tuple[Completion, Words]:
    words = Words()
    cache = IpCache(EndpointTable())
    made = Completion(
        endpoints=cache,
        policy=None,
        mode=PolicyMode.ENFORCE,
        losses=Losses() if losses is None else losses,
        pending=Requests() if pending is None else pending,
        words=words,
    )
    return made, words


def snapshot(
    data: bytes, *, side=0, sequence=101, time_ns=1000, port=80, protocol=6, reason=Reason.UNDECIDED, **rest
) -> bytes:
    head = np.zeros(1, SNAPSHOT)
    record = head["record"]
    ends = (CLIENT_IP, SERVER_IP)
    record["source_ip"], record["destination_ip"] = (np.frombuffer(ends[way], "u1") for way in (side, 1 - side))
    ports = (40000, port)
    record["source_port"], record["destination_port"] = ports[side], ports[1 - side]
    record["time_ns"], record["connection"], record["family"], record["protocol"] = time_ns, NUMBER, 4, protocol
    head["side"], head["sequence"], head["length"], head["reason"] = side, sequence, len(data), Reason.UNDECIDED
    head["roles"], head["tcp_flags"], head["packets"] = 2, 16, 1
    for name, value in rest.items():
        head[name] = value
    return head.tobytes() + data


def told(made: Completion) -> list[tuple]:
    records, _ = made.take()
    return [
        (int(row["time_ns"]), L7Kind(int(row["l7_kind"])).name, int(row["l7_type"]), int(row["l7_code"]))
        for row in records
    ]


REQUEST = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.ebpf
def test_the_layout_of_snapshots_is_the_kernels(kernel):
    piece = kernel.replay._object.map("pieces").value_size // possible_cpus()
    assert piece == 16 + HEAD_SIZE + 16384


def test_what_was_handed_over_is_read():
    made, _ = completion()
    made.snapshots([snapshot(REQUEST), snapshot(RESPONSE, side=1, time_ns=2000, reason=Reason.MORE)])
    assert told(made) == [(1000, "HTTP", 1, 0), (2000, "HTTP", 2, 200)]


def test_a_hole_is_filled_by_a_later_snapshot():
    made, _ = completion()
    gap = {"reason": Reason.GAP, "synced": 1, "next_sequence": (101, 0)}
    made.snapshots([snapshot(REQUEST[10:], sequence=111, **gap)])
    assert told(made) == []
    made.snapshots([snapshot(REQUEST[:10], time_ns=3000, reason=Reason.MORE)])
    assert told(made) == [(3000, "HTTP", 1, 0)]


def test_a_packet_that_user_space_tells_has_the_kernels_counts():
    made, _ = completion()
    made.snapshots([snapshot(b"", is_told=1, tells=2, tcp_flags=17, packets=(7, 3), told=(3, 2))])
    records = made.take().records
    assert [int(records[name][0]) for name in ("type", "packets", "tcp_flags", "trace_reason")] == [1, 7, 17, 2]


def test_the_kernel_is_told_when_nothing_more_is_read():
    made, words = completion()
    noise = b"\xff" * 70_000
    made.snapshots([snapshot(noise[:40_000]), snapshot(noise[:40_000], sequence=40_101, reason=Reason.MORE)])
    made.snapshots([snapshot(noise, side=1, reason=Reason.MORE)])
    assert words == {struct.pack("=Q", NUMBER): LET_GO}


def test_an_end_lets_the_connection_go():
    made, _ = completion()
    made.snapshots([snapshot(REQUEST[:-2])])
    made.snapshots([snapshot(b"", reason=Reason.END, time_ns=9000)])
    made.finish()
    assert told(made) == [(9000, "HTTP", 1, 0)]  # as far as it is known, and once


@pytest.mark.parametrize("speaks", [Speaks.HTTP1, Speaks.UNDECIDED])
def test_positions_are_taken_over(speaks):
    made, _ = completion()
    body = {"l7": speaks, "reason": Reason.GAP, "synced": 1, "next_sequence": (101, 0), "left": (4, 0)}
    made.snapshots([snapshot(b"GET " + REQUEST, **body)])
    assert [each[1] for each in told(made)] == ["HTTP"]
    assert made.take().records.size == 0


def waiting() -> np.ndarray:
    """A request that waits, GET / of host h at 400: one row of PENDING."""
    value = np.zeros(1, PENDING)
    value["time_ns"], value["l7_kind"], value["l7_method"] = 400, L7Kind.HTTP, 1
    value["text_length"], value["text"][0, :2] = (1, 1, 0, 0), (ord("/"), ord("h"))
    return value


def handed_response(reason: Reason, shared: tuple[int, int, int, int]) -> bytes:
    """The snapshot of a response with which HTTP/1 is handed over."""
    return snapshot(RESPONSE, side=1, l7=Speaks.HTTP1, reason=reason, synced=3, next_sequence=(101, 101), shared=shared)


def test_requests_that_wait_are_taken_over_with_their_verdict():
    value = waiting()
    value["l7_version"], value["present"], value["verdict"], value["egress_rule"] = 11, Present.METHOD, 2, 9
    made, _ = completion(Requests({(NUMBER, 3): value[0]}))
    made.snapshots([handed_response(Reason.LONG, (4, 3, 0, 0))])
    records, _ = made.take()
    assert (records["latency_ns"][0], records["l7_method"][0], records["l7_code"][0]) == (600, 1, 200)
    assert waiting_request(value[0]).judged == (2, 129, 0, 0, 9, 0, 0)


def test_a_request_that_was_pushed_out_keeps_its_place():
    losses = Losses()
    made, _ = completion(Requests({(NUMBER, 4): waiting()[0]}), losses)
    made.snapshots([handed_response(Reason.GAP, (5, 3, 0, 0))])
    records, _ = made.take()
    assert (records["l7_code"][0], records["l7_method"][0], records["text_length"][0].any()) == (200, 0, False)
    assert losses.get("http1", "too many pending requests") == 2


def test_a_text_that_the_kernel_has_cut_is_cut_again():
    value = np.zeros(1, PENDING)
    value["text_length"], value["flags"], value["l7_kind"] = (255, 1, 0, 0), Flags.TEXT_CUT, L7Kind.HTTP
    value["text"][0, :255] = ord("x")
    assert len(waiting_request(value[0]).texts[0]) > 255


@pytest.mark.parametrize(
    ("number", "words", "left", "expected"),
    [
        (0, (0, 0, 0), 0, (State.START, 0, b"")),
        (0, (0, 0, 0), 9, (State.BODY, 9, b"")),
        (2, (0x1F, 1, 0), 0, (State.CHUNK_SIZE, 0, b"10000001f")),
        (5, (5, 0, 0), 0, (State.CHUNK_SIZE, 0, b"5\r")),
        (6, (0, 0, 0), 7, (State.CHUNK_DATA, 7, b"")),
        (8, (0, 0, 0), 0, (State.CHUNK_END, 0, b"\r")),
        (11, (0, 0, 20), 0, (State.TRAILER, 65516, b"-")),
        (12, (0, 0, 0), 0, (State.UNTIL_CLOSE, 0, b"")),
    ],
)
def test_states_of_the_http_parser(number, words, left, expected):
    assert http_state([number, *words, 0, 0], left) == expected


def test_states_are_in_the_headers_order():
    names = [
        line.split()[0].strip(",")
        for line in HEADER.partition("enum http_state {")[2].partition("};")[0].split("\n")
        if "HTTP_" in line
    ]
    assert len(names) == 13
    assert (names[0], names[6], names[12]) == ("HTTP_START", "HTTP_DATA", "HTTP_CLOSE")


def test_flows_leave_in_the_order_of_time_with_their_extras():
    waiting = Waiting(EndpointTable(), Losses())
    for times in ((5, 9), (1, 5)):
        records = empty(2)
        records["time_ns"] = times
        waiting.append(records, [(0, Extra((b"%d" % times[0],)))])
    records, extras = waiting.take()
    assert records["time_ns"].tolist() == [1, 5, 5, 9]
    assert [(row, extra.texts) for row, extra in extras] == [(0, (b"1",)), (1, (b"5",))]
    assert len(waiting.take().records) == 0


def test_names_from_dns_mark_the_kernels_records():
    made, _ = completion()
    question = b"\3web\4test\0" + struct.pack(">HH", 1, 1)
    query = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + question
    answer = (
        struct.pack(">6H", 7, 0x8180, 1, 1, 0, 0)
        + question
        + b"\xc0\x0c"
        + struct.pack(">HHIH", 1, 1, 60, 4)
        + b"\x0a\0\0\x63"
    )
    datagram = {"port": 53, "protocol": int(Protocol.UDP), "reason": Reason.DATAGRAM, "l7": Speaks.USER}
    made.snapshots([snapshot(query, **datagram), snapshot(answer, side=1, time_ns=2000, **datagram)])
    records = empty(1)
    records["connection"], records["time_ns"], records["family"] = NUMBER + 1, 3000, 4
    records["source_ip"] = np.frombuffer(CLIENT_IP, "u1")
    records["destination_ip"] = np.frombuffer(CLIENT_IP[:12] + b"\x0a\0\0\x63", "u1")
    made.take()
    made.records(records)
    taken, extras = made.take()
    assert extras[0][1].destination_names == ("web.test",)
    assert taken["flags"][0] & Flags.EXTRA


def test_a_datagram_is_lengthened_by_what_the_frame_has_beyond_the_limit():
    item = lengthened(snapshot(b"abc", missing=2), b"defgh")
    snapshots = read_snapshots([item])
    assert snapshots.packets.payload(0) == b"abcde"
    assert snapshots.packets.payload_missing.tolist() == [0]
