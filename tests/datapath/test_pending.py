"""Requests that wait in the kernel: what is kept, found, pushed out, given up, and read by user space."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from observer.datapath import pending
from observer.datapath.losses import Counter
from observer.datapath.pending import BUCKET, PENDING, PendingRequests, place
from observer.datapath.ring import Counters
from observer.record import Flags, HttpMethod
from tests.datapath.http2_kernel import Connection, Kernel
from tests.l7.http2_bytes import GET, HELLO, SETTINGS, Sender
from tests.l7.transcripts import CLIENT, SERVER

HEADER = (Path(__file__).parents[2] / "bpf/pending.h").read_text()
OK = [(":status", "200")]


@pytest.fixture(scope="module")
def kernel():
    return Kernel()


class Exchange:
    """A connection of HTTP/2 on which streams are asked and answered, in any order."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.connection = Connection(kernel)
        self.sender = Sender(), Sender()
        self.connection.send(CLIENT, HELLO, 1)
        self.connection.send(SERVER, SETTINGS, 1)
        self.number = int(self.ask(1)["connection"])

    def say(self, side, stream, fields, time):
        said = self.sender[side].headers(stream, fields, end=True)
        self.connection.send(side, said, time)
        rows = self.kernel.rows()
        assert len(rows) == 1
        return rows[0]

    def ask(self, stream, fields=GET, time=2):
        return self.say(CLIENT, stream, fields, time)

    def answer(self, stream, time=5):
        return self.say(SERVER, stream, OK, time)


@pytest.fixture
def exchange(kernel):
    return Exchange(kernel)


@pytest.fixture
def requests(kernel):
    return PendingRequests(kernel.object.map("pending_requests"), kernel.object.map("counters"))


def texts(row) -> bytes:
    return row["text"].tobytes()[: int(row["text_length"].sum())]


def in_one_bucket(connection: int, count: int) -> list[int]:
    """Streams whose requests share a bucket, ascending."""
    found = defaultdict(list)
    for stream in range(3, 1 << 20, 2):
        bucket = found[place(connection, stream)[0]]
        bucket.append(stream)
        if len(bucket) == count:
            return bucket
    raise AssertionError


def test_the_numbers_are_the_headers():
    numbers = dict(re.findall(r"#define PENDING_(\w+) (\d+)", HEADER))
    assert {name: int(numbers[name]) for name in ("WAYS", "NEAR", "BITS")} == {
        name: getattr(pending, name) for name in ("WAYS", "NEAR", "BITS")
    }


@pytest.mark.ebpf
def test_the_layout_is_the_kernels(kernel, requests):
    table = kernel.object.map("pending_requests")
    assert table.value_size == BUCKET.size + pending.WAYS * PENDING.itemsize
    assert table.max_entries == 1 << pending.BITS
    assert requests.max_entries == 65_536


@pytest.mark.ebpf
def test_a_request_waits_until_it_is_answered(exchange, requests):
    before = len(requests)
    exchange.ask(3, time=7)
    found = requests.get(exchange.number, 3)
    assert found is not None
    assert (int(found["time_ns"]), int(found["l7_method"])) == (7_000, HttpMethod.GET)
    assert texts(found).startswith(b"/")
    assert len(requests) == before + 1
    exchange.answer(3)
    assert requests.get(exchange.number, 3) is None
    assert len(requests) == before


@pytest.mark.ebpf
def test_a_full_bucket_lets_its_oldest_request_go(exchange, requests):
    *kept, last = in_one_bucket(exchange.number, pending.WAYS + 1)
    for turn, stream in enumerate(kept):
        exchange.ask(stream, time=50 - turn)  # the order counts, not the packets' times
    held = len(requests)
    exchange.ask(last, time=9)
    assert len(requests) == held  # it took the other's slot
    oldest, *kept = *kept, last
    counters = Counters(exchange.kernel.object.map("counters"))
    before = counters.read()[Counter.PENDING_LOST]
    lost = exchange.answer(oldest, time=60)
    assert counters.read()[Counter.PENDING_LOST] == before + 1
    assert (texts(lost), lost["flags"] & Flags.L7_INCOMPLETE) == (b"", Flags.L7_INCOMPLETE)
    for stream in kept:
        answered = exchange.answer(stream, time=60)
        assert texts(answered).startswith(b"/")
        assert answered["flags"] & Flags.L7_INCOMPLETE == 0
    assert counters.read()[Counter.PENDING_LOST] == before + 1
    assert len(requests) == held - pending.WAYS


@pytest.mark.ebpf
def test_slots_that_were_given_up_are_taken_first(exchange, requests):
    *kept, last = in_one_bucket(exchange.number, pending.WAYS + 1)
    for time, stream in enumerate(kept, 10):
        exchange.ask(stream, time=time)
    exchange.answer(kept.pop(7))
    exchange.ask(last)
    assert all(requests.get(exchange.number, stream) is not None for stream in (*kept, last))


@pytest.mark.ebpf
def test_a_bucket_that_stays_locked_makes_requests_unknown_and_nothing_else(exchange, requests, kernel):
    table = kernel.object.map("pending_requests")
    bucket, _ = place(exchange.number, 9)
    table.set(bucket, BUCKET.pack(1, 0, *[0] * pending.WAYS) + bytes(pending.WAYS * PENDING.itemsize))
    assert texts(exchange.ask(9)).startswith(b"/")
    assert requests.get(exchange.number, 9) is None
    answered = exchange.answer(9)
    assert (answered["l7_code"], texts(answered), answered["latency_ns"]) == (200, b"", 0)
    assert answered["flags"] & Flags.L7_INCOMPLETE
    table.set(bucket, bytes(table.value_size))
    exchange.ask(11)
    assert texts(exchange.answer(11)).startswith(b"/")


@pytest.mark.ebpf
@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 17, 62, 63, 64, 65, 127, 128, 200, 255])
def test_texts_of_any_length_are_found_again_and_leave_nothing_behind(exchange, length):
    long = [(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", "/" + "x" * 254)]
    exchange.answer(1)
    exchange.ask(3, long)
    exchange.answer(3)
    path = "/" + "p" * (length - 1)
    exchange.ask(5, [*long[:3], (":path", path)])
    answered = exchange.answer(5)
    assert texts(answered) == path.encode() + b"h"
    assert not answered["text"].tobytes()[length + 1 :].strip(b"\0")


class Written:
    """A table that is written to while it is read."""

    max_entries = 1

    def __init__(self, *values: bytes) -> None:
        self.values = list(values)

    def get(self, key: bytes) -> bytes:
        return self.values.pop(0) if len(self.values) > 1 else self.values[0]


def bucket_with(connection: int, id: int, *, time_ns: int = 0, lock: int = 0) -> bytes:
    slot = bytearray(PENDING.itemsize)
    slot[:8], slot[8:16], slot[16:20] = (
        number.to_bytes(size, "little") for number, size in ((connection, 8), (time_ns, 8), (id, 4))
    )
    tags = [place(connection, id)[1], *[0] * (pending.WAYS - 1)]
    return BUCKET.pack(lock, 0, *tags) + slot + bytes((pending.WAYS - 1) * PENDING.itemsize)


@pytest.mark.parametrize(
    ("values", "time_ns"),
    [
        ([bucket_with(5, 7, time_ns=1)], 1),
        ([bucket_with(5, 7, time_ns=1), bucket_with(5, 7, time_ns=2)], 2),
        ([bucket_with(5, 7, time_ns=1, lock=1)] * 3 + [bucket_with(5, 7, time_ns=1)], 1),
        ([bucket_with(5, 7, lock=1)], None),
        ([bucket_with(5, 7), bytes(BUCKET.size)], None),
        ([bucket_with(6, 7)], None),
    ],
)
def test_what_is_being_written_is_read_again(values, time_ns, monkeypatch):
    monkeypatch.setattr(pending, "Counters", lambda table: None)
    found = PendingRequests(Written(*values), None).get(5, 7)
    assert (None if found is None else int(found["time_ns"])) == time_ns
