"""GetFlowsRequest selectors over a store: which flows, in which order, when it ends and what is told as lost."""

import threading
import time

import numpy as np
import pytest

from observer import query as query_module
from observer.api import flow_pb2, observer_pb2
from observer.errors import FilterError
from observer.extra import Extra
from observer.filters.expression import Expression
from observer.filters.index import PerText
from observer.query import BLOCK, CAUGHT_UP, InvalidQueryError, Lost, Query, Selection, select
from observer.record import L7Kind, Records, empty, pack_text
from observer.store import Store
from observer.wire import FlowDecoder, FlowEncoder
from tests.waiting import wait_until

Filter = flow_pb2.FlowFilter
Request = observer_pb2.GetFlowsRequest
DROPPED = Filter(verdict=[2])
SECOND = 1_000_000_000


def flows(start: int, count: int) -> Records:
    """Flow n happens at second n + 1; every third is dropped."""
    records = empty(count)
    numbers = np.arange(start, start + count)
    records["time_ns"] = (numbers + 1) * SECOND
    records["connection"] = numbers
    records["verdict"] = np.where(numbers % 3 == 0, 2, 1)
    records["family"], records["protocol"], records["event_type"] = 4, 6, 4
    return records


def store_of(count: int, capacity: int = 1_000) -> Store:
    store = Store(capacity)
    store.append(flows(0, count))
    return store


def at(second: float) -> dict[str, int]:
    return {"seconds": int(second), "nanos": round((second - int(second)) * SECOND)}


def sequences(parts: list[Selection | Lost]) -> list[int]:
    out: list[int] = []
    for part in parts:
        assert isinstance(part, Selection)
        assert part.records["connection"].tolist() == part.sequences.tolist()
        assert len(part.extras) == len(part.nodes) == len(part)
        out += part.sequences.tolist()
    return out


ALL = list(range(10))


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Request(), ALL),
        (Request(number=3), [7, 8, 9]),
        (Request(number=30), ALL),
        (Request(number=2**64 - 1), ALL),
        (Request(number=3, first=True), [0, 1, 2]),
        (Request(first=True), ALL),
        (Request(number=30, first=True), ALL),
        (Request(whitelist=[DROPPED]), [0, 3, 6, 9]),
        (Request(whitelist=[DROPPED], number=2), [6, 9]),
        (Request(whitelist=[DROPPED], number=2, first=True), [0, 3]),
        (Request(blacklist=[DROPPED], number=3), [5, 7, 8]),
        (Request(whitelist=[DROPPED], blacklist=[DROPPED]), []),
        (Request(whitelist=[Filter(verdict=[1]), DROPPED], number=4), [6, 7, 8, 9]),
        (Request(whitelist=[Filter(verdict=[4])], number=4), []),
        (Request(whitelist=[Filter()], number=2), [8, 9]),
        (Request(blacklist=[Filter()]), []),
        # since and until are inclusive
        (Request(since=at(4)), [3, 4, 5, 6, 7, 8, 9]),
        (Request(since=at(4.000000001)), [4, 5, 6, 7, 8, 9]),
        (Request(until=at(4)), [0, 1, 2, 3]),
        (Request(until=at(3.999999999)), [0, 1, 2]),
        (Request(since=at(4), until=at(6)), [3, 4, 5]),
        (Request(since=at(6), until=at(4)), []),
        (Request(since=at(100)), []),
        (Request(until=at(0)), []),
        (Request(since={"seconds": -5}), ALL),
        (Request(until={"seconds": -5}), []),
        (Request(since=at(0), until=at(100)), ALL),
        # since wins over number: the oldest N after it
        (Request(since=at(4), number=2), [3, 4]),
        (Request(since=at(4), number=2, first=True), [3, 4]),
        (Request(since=at(4), number=2, whitelist=[DROPPED]), [3, 6]),
        # until with number: back N matches from the newest first, so mostly nothing
        (Request(until=at(4), number=3), []),
        (Request(until=at(9), number=3), [7, 8]),
        (Request(until=at(9), number=3, first=True), [0, 1, 2]),
        (Request(until=at(2), number=3, first=True), [0, 1]),
        (Request(until=at(8), number=3, whitelist=[DROPPED]), [3, 6]),
        (Request(until=at(6), number=3, whitelist=[DROPPED]), [3]),
        (Request(until=at(6), number=30), [0, 1, 2, 3, 4, 5]),
    ],
)
@pytest.mark.parametrize("offset", [0, 4])
def test_selectors(request_, expected, offset):
    if offset:  # the same ten flows in a ring that has wrapped
        store = Store(10)
        store.append(flows(-offset, offset))
        store.append(flows(0, 10))
        parts = [part.records["connection"].tolist() for part in select(store, Query.from_request(request_))]
        assert [number for part in parts for number in part] == expected
    else:
        assert sequences(list(select(store_of(10), Query.from_request(request_)))) == expected


@pytest.mark.parametrize(
    "request_", [Request(), Request(number=5), Request(first=True, number=1), Request(since=at(1))]
)
def test_an_empty_store_ends_with_nothing(request_):
    assert list(select(Store(4), Query.from_request(request_))) == []


def test_the_first_later_flow_ends_even_if_it_does_not_match_and_order_is_not():
    store = Store(10)
    records = flows(0, 6)
    records["time_ns"] = [SECOND * second for second in (1, 2, 9, 3, 4, 5)]
    store.append(records)
    assert sequences(list(select(store, Query.from_request(Request(until=at(5)))))) == [0, 1]
    assert sequences(
        list(select(store, Query.from_request(Request(until=at(5), whitelist=[Filter(verdict=[1])]))))
    ) == [1]
    assert sequences(list(select(store, Query.from_request(Request(since=at(3)))))) == [2, 3, 4, 5]


@pytest.mark.parametrize("number", [1, 19, 511, 512, 513, 1000, 5000, BLOCK + 7, 40_000])
@pytest.mark.parametrize("whitelist", [[], [DROPPED], [Filter(dns_query=["^7"])]])
def test_the_last_n_are_found_block_by_block(number, whitelist):
    store = Store(50_000)
    records = flows(0, 45_000)
    records["l7_kind"][::900] = L7Kind.DNS  # asked exactly
    lengths, text, _ = pack_text((b"7.example",))
    records["text_length"][::1800] = lengths
    records["text"][::1800, : len(text)] = list(text)
    store.append(records)
    matches = np.arange(45_000)
    if whitelist:
        matches = matches[:: 3 if whitelist == [DROPPED] else 1800]
    got = sequences(list(select(store, Query.from_request(Request(number=number, whitelist=whitelist)))))
    assert got == matches[-number:].tolist()


def test_the_last_few_do_not_cost_the_whole_ring(monkeypatch):
    store = store_of(50_000, 50_000)
    looked: list[int] = []
    columns = Store.columns
    monkeypatch.setattr(
        Store, "columns", lambda self, start, stop: looked.append(stop - start) or columns(self, start, stop)
    )
    assert sequences(list(select(store, Query.from_request(Request(number=20))))) == list(range(49_980, 50_000))
    assert sum(looked) == 512


@pytest.mark.parametrize("whitelist", [[], [DROPPED], [Filter(dns_query=["^7"])], [Filter(uuid=["theirs"]), DROPPED]])
@pytest.mark.parametrize("number", [0, 1, 500, 15_001])
def test_the_first_n_and_all_are_found_block_by_block(whitelist, number):
    store = Store(50_000)
    records = flows(0, 45_000)
    records["l7_kind"][::3] = L7Kind.DNS
    lengths, text, _ = pack_text((b"7.example",))
    records["text_length"][::3] = lengths
    records["text"][::3, : len(text)] = list(text)
    store.append(records)
    matches = range(0, 45_000, 3 if whitelist else 1)
    request = Request(whitelist=whitelist, number=number, first=True)
    assert sequences(list(select(store, Query.from_request(request)))) == list(matches)[: number or None]


@pytest.mark.parametrize(("number", "built"), [(1, 64), (20, 64), (22, 64), (23, 128), (100, 320)])
def test_the_first_few_build_few_flows(monkeypatch, number, built):
    store = Store(50_000)
    records = flows(0, 40_000)
    imported, _ = FlowDecoder(store.endpoints, store.policies).add(flow_pb2.Flow(verdict=300))
    records["flags"], records["verdict"] = imported["flags"], 0  # every row has to be asked exactly
    theirs = [
        Extra(imported=flow_pb2.Flow(verdict=300 if row % 3 == 0 else 1).SerializeToString()) for row in range(40_000)
    ]
    store.append(records, list(enumerate(theirs)))
    asked: list[int] = []
    encode_many = FlowEncoder.encode_many

    def counted(self, records, *rest):
        asked.append(len(records))
        return encode_many(self, records, *rest)

    monkeypatch.setattr(FlowEncoder, "encode_many", counted)
    request = Request(whitelist=[Filter(verdict=[300])], number=number, first=True)
    assert sequences(list(select(store, Query.from_request(request)))) == list(range(0, number * 3, 3))
    assert sum(asked) == built


def test_texts_are_judged_only_where_the_time_and_the_other_terms_let_pass(monkeypatch):
    store = Store(1_000)
    records = flows(0, 900)
    records["l7_kind"] = L7Kind.DNS
    store.append(records)
    judged: list[int] = []
    call = PerText.__call__

    def counted(self, columns, rows):
        judged.append(len(rows))
        return call(self, columns, rows)

    monkeypatch.setattr(PerText, "__call__", counted)
    for request, expected in (
        (Request(since=at(601), whitelist=[Filter(verdict=[2], dns_query=["^$"])]), range(600, 900, 3)),
        (Request(since=at(601), whitelist=[DROPPED], blacklist=[Filter(dns_query=["x"])]), range(600, 900, 3)),
    ):
        judged.clear()
        assert sequences(list(select(store, Query.from_request(request)))) == list(expected)
        assert sum(judged) == 100


def test_imported_flows_are_asked_exactly():
    store = Store(10)
    records = flows(0, 4)
    theirs = flow_pb2.Flow(verdict=2, uuid="theirs", node_name="elsewhere", time={"seconds": 2})
    records[1:2], extra = FlowDecoder(store.endpoints, store.policies).add(theirs)
    records["connection"][1] = 1
    store.append(records, [(1, extra)])
    for number in (0, 3):
        parts = list(select(store, Query.from_request(Request(whitelist=[DROPPED], number=number))))
        assert sequences(parts) == [0, 1, 3]
    assert parts[0].extras == [None, extra, None]
    for wanted in (Filter(uuid=["theirs"]), Filter(node_name=["elsewhere"])):
        assert sequences(list(select(store, Query.from_request(Request(whitelist=[wanted]))))) == [1]


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (Request(first=True, follow=True), InvalidQueryError, "first cannot be specified with follow"),
        (
            Request(first=True, follow=True, whitelist=[Filter(source_ip=["x"])]),
            InvalidQueryError,
            "first cannot be specified with follow",
        ),
        (Request(whitelist=[Filter(source_ip=["x"])]), FilterError, 'invalid IP address in filter: "x"'),
        (Request(blacklist=[Filter(source_pod=[""])]), FilterError, "invalid filter, must be [namespace/][<name>]"),
        (Request(since={"seconds": 1 << 60}), FilterError, "invalid timestamp"),
        (Request(until={"nanos": -1}), FilterError, "invalid timestamp"),
    ],
)
def test_requests_that_are_refused(request_, error, message):
    with pytest.raises(error) as refused:
        Query.from_request(request_)
    assert str(refused.value).startswith(message)
    assert type(refused.value) is error


class Follower:
    """A thread that reads a query until it ends."""

    def __init__(self, store: Store, request: Request) -> None:
        self.parts: list[Selection | Lost] = []
        self.cancelled = False
        self.reader = select(store, Query.from_request(request), cancelled=lambda: self.cancelled)
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        self.parts.extend(self.reader)

    def has_caught_up(self) -> bool:
        """Whether it waits for what comes; also when it ended before."""
        return any(part is CAUGHT_UP for part in self.parts) or not self.thread.is_alive()


@pytest.mark.parametrize(
    ("request_", "old", "new"),
    [
        (Request(follow=True), [], [10, 11, 12, 13]),
        (Request(follow=True, number=2), [8, 9], [10, 11, 12, 13]),
        (Request(follow=True, number=50), ALL, [10, 11, 12, 13]),
        (Request(follow=True, number=2, whitelist=[DROPPED]), [6, 9], [12]),
        (Request(follow=True, since=at(8)), [7, 8, 9], [10, 11, 12, 13]),
        (Request(follow=True, since=at(8), number=1), [7, 8, 9], [10, 11, 12, 13]),  # number is no end in follow
        (Request(follow=True, since=at(13)), [], [12, 13]),
        (Request(follow=True, until=at(13)), [], [10, 11, 12]),  # ends by itself
        (Request(follow=True, number=2, until=at(9)), [8], []),
    ],
)
def test_following(request_, old, new):
    store = store_of(10)
    follower = Follower(store, request_)
    wait_until(follower.has_caught_up)
    assert sequences(list(follower.parts)) == old
    store.append(flows(10, 2))
    store.append(flows(12, 2))
    store.close()  # what was there before is still told
    follower.thread.join(10)
    assert not follower.thread.is_alive()
    assert sequences(follower.parts) == old + new
    caught_up = [part is CAUGHT_UP for part in follower.parts]
    assert caught_up.count(True) == (0 if request_.number == 2 and request_.HasField("until") else 1)
    assert sequences(follower.parts[: caught_up.index(True)] if True in caught_up else follower.parts) == old


def test_a_follower_has_begun_when_it_is_asked_for():
    store = store_of(3)
    reader = select(store, Query.from_request(Request(follow=True)))
    store.append(flows(3, 2))
    store.close()
    assert sequences(list(reader)) == [3, 4]


def test_a_cancelled_follower_ends():
    store = store_of(3)
    follower = Follower(store, Request(follow=True, number=1))
    wait_until(follower.has_caught_up)
    follower.cancelled = True
    follower.thread.join(10)
    assert not follower.thread.is_alive()
    assert sequences(follower.parts) == [2]


def test_a_follower_that_is_overtaken_is_told_how_many_it_lost():
    store = Store(100)
    store.append(flows(0, 90))
    reader = select(store, Query.from_request(Request(follow=True, since=at(0), whitelist=[DROPPED])))
    assert next(reader).sequences.tolist() == list(range(0, 90, 3))
    assert next(reader) is CAUGHT_UP
    before = time.time_ns()
    store.append(flows(90, 250))  # 90 to 239 are gone before it comes back
    parts = [next(reader), next(reader)]
    store.close()
    parts += list(reader)
    lost = [part for part in parts if isinstance(part, Lost)]
    assert [part.count for part in lost] == [150]
    assert before <= lost[0].first_ns <= lost[0].last_ns <= time.time_ns()
    assert sequences([part for part in parts if isinstance(part, Selection)]) == list(range(240, 340, 3))
    assert store.losses.get("store", "reader overtaken") == 150


def test_losses_are_told_once_a_second_and_at_the_end(monkeypatch):
    clock = [5 * SECOND]
    monkeypatch.setattr(query_module.time, "monotonic_ns", lambda: clock[0])
    store = Store(10)
    store.append(flows(0, 1))
    reader = select(store, Query.from_request(Request(follow=True, since=at(0))))
    told = []
    next(reader)
    total = 1
    for _ in range(6):
        store.append(flows(total, 15))  # five lost each time
        total += 15
        clock[0] += 400_000_000
        while True:
            part = next(reader)
            if isinstance(part, Lost):
                told.append(part.count)
            elif part is not CAUGHT_UP and part.sequences[-1] == total - 1:
                break
    store.close()
    told += [part.count for part in reader if isinstance(part, Lost)]
    assert told == [5, 15, 10]


def test_rows_overwritten_while_they_are_read_are_lost_and_not_shown(monkeypatch):
    store = store_of(100, 100)
    take = Store.take

    def slow_take(self, asked):
        taken = take(self, asked)
        if self.next == 100:
            self.append(flows(100, 40))  # after the copy, before the reader looks again
        return taken

    monkeypatch.setattr(Store, "take", slow_take)
    parts = list(select(store, Query.from_request(Request())))
    assert sequences([part for part in parts if isinstance(part, Selection)]) == list(range(40, 100))
    assert [part.count for part in parts if isinstance(part, Lost)] == [40]


@pytest.mark.parametrize(
    ("whitelist", "total"),
    [
        ([], 120_000),
        ([Filter(verdict=[1, 2])], 120_000),
        ([Filter(dns_query=["^$"])], 24_000),
    ],  # the last is asked exactly
)
def test_whatever_is_sent_is_seen_or_lost(whitelist, total):
    store = Store(512)
    started = threading.Barrier(5)
    results: list[tuple[int, int, bool]] = []

    def read(pause: float) -> None:
        seen = lost = 0
        ordered = True
        last = -1
        reader = select(store, Query.from_request(Request(follow=True, since=at(0), whitelist=whitelist)))
        started.wait()
        for part in reader:
            if isinstance(part, Lost):
                lost += part.count
                continue
            if part is CAUGHT_UP:
                continue
            seen += len(part)
            ordered &= part.sequences[0] > last and bool((np.diff(part.sequences) > 0).all())
            ordered &= part.records["connection"].tolist() == part.sequences.tolist()
            last = int(part.sequences[-1])
            if pause:
                time.sleep(pause)
        results.append((seen, lost, ordered))

    readers = [threading.Thread(target=read, args=(pause,)) for pause in (0, 0, 0.001, 0.01)]
    for reader in readers:
        reader.start()
    started.wait()
    for start in range(0, total, 120):
        records = flows(start, 120)
        records["l7_kind"] = L7Kind.DNS
        store.append(records)
    store.close()
    for reader in readers:
        reader.join(60)
        assert not reader.is_alive()
    assert all(ordered for _, _, ordered in results)
    assert sum(lost for _, lost, _ in results) == store.losses.get("store", "reader overtaken") > 0
    assert [seen + lost for seen, lost, _ in results] == [total] * 4


@pytest.mark.parametrize(
    ("text", "number", "expected"),
    [
        ("", 0, ALL),
        ("verdict=DROPPED", 0, [0, 3, 6, 9]),
        ("verdict=DROPPED", 2, [6, 9]),
        ("not verdict=DROPPED and not syn", 3, [5, 7, 8]),
        ("verdict=DROPPED or nothing", 0, [0, 3, 6, 9]),
    ],
)
def test_an_expression_of_the_language_selects(text, number, expected):
    parts = list(select(store_of(10), Query(Expression.parse(text), number=number)))
    assert sequences(parts) == expected
