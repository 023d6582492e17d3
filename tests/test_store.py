"""The ring: rows, columns and extras by absolute number; readers that the writer passes; a closing store."""

import threading
import uuid

import numpy as np
import pytest

from observer.extra import Extra
from observer.record import RECORD, Flags, Records, empty
from observer.store import HOT, MAX_CAPACITY, Store


def numbered(start: int, count: int) -> Records:
    """Records that say their sequence number in several columns."""
    records = empty(count)
    records["time_ns"] = np.arange(start, start + count)
    records["connection"] = records["time_ns"]
    records["source_port"] = records["time_ns"] & 0xFFFF
    records["bytes"] = records["time_ns"]
    return records


@pytest.mark.parametrize("capacity", [0, -1, MAX_CAPACITY + 1])
def test_a_capacity_that_is_none_is_refused(capacity):
    with pytest.raises(ValueError, match=f"not {capacity}"):
        Store(capacity)


@pytest.mark.parametrize("capacity", [1, 2, 3, 7, 8, 100])
@pytest.mark.parametrize("batches", [[1], [3, 3, 3], [8], [5, 0, 9], [100], [1] * 20, [99, 101, 1]])
def test_it_holds_the_newest_rows(capacity, batches):
    store = Store(capacity)
    total = 0
    for batch in batches:
        records = numbered(total, batch)
        store.append(records, [(row, Extra(trace_id=str(total + row))) for row in range(0, batch, 2)], node=total % 5)
        total += batch
        held = np.arange(max(0, total - capacity), total)
        assert (store.first, store.next, len(store)) == (max(0, total - capacity), total, len(held))
        rows, extras, nodes, sequences = store.take(held)
        assert sequences.tolist() == rows["connection"].tolist() == rows["time_ns"].tolist() == held.tolist()
        for sequence, extra, node in zip(held.tolist(), extras, nodes.tolist(), strict=True):
            start = [start for start in np.cumsum([0, *batches]).tolist() if start <= sequence][-1]
            assert extra == (Extra(trace_id=str(sequence)) if (sequence - start) % 2 == 0 else None)
            assert node == start % 5
        for name in HOT:
            assert store.hot(name).tolist() == rows[name].tolist()


def test_a_node_a_row():
    store = Store(5)
    store.append(numbered(0, 7), node=np.arange(7))
    assert store.take(np.arange(2, 7))[2].tolist() == [2, 3, 4, 5, 6]


def test_extras_leave_with_their_rows():
    store = Store(4)
    store.append(numbered(0, 4), [(1, Extra(trace_id="old"))])
    store.append(numbered(4, 4))
    assert store.take(np.arange(4, 8))[1] == [None] * 4


def test_windows_follow_the_ring_around():
    store = Store(10)
    store.append(numbered(0, 13))
    windows = store.columns(store.first, store.next)
    assert [(window.start, window.length) for window in windows] == [(3, 7), (10, 3)]
    for window in windows:
        rows = list(range(window.start, window.start + window.length))
        assert window["time_ns"].tolist() == window["bytes"].tolist() == rows
        assert window["time_ns"].flags.c_contiguous
        assert not window["bytes"].flags.c_contiguous
    assert store.columns(5, 5) == []


def test_imported_rows_are_known_as_long_as_they_are_held():
    store = Store(10)
    records = numbered(0, 6)
    records["flags"][2] = Flags.IMPORTED | Flags.EXTRA
    store.append(records)
    (window,) = store.columns(0, 6)
    assert window.imported.tolist() == [False, False, True, False, False, False]
    (window,) = store.columns(3, 6)
    assert window.imported is None


@pytest.mark.parametrize("asked", [[0, 1, 2, 3], [1, 3], [2, 5], [5], []])
def test_rows_that_are_gone_are_left_out(asked):
    store = Store(4)
    store.append(numbered(0, 6), [(5, Extra(trace_id="five"))])
    records, extras, nodes, sequences = store.take(np.array(asked, np.int64))
    whole = [sequence for sequence in asked if sequence >= 2]
    assert sequences.tolist() == records["connection"].tolist() == whole
    assert [extra.trace_id if extra else None for extra in extras] == ["five" if row == 5 else None for row in whole]
    assert len(nodes) == len(whole)


def test_what_is_taken_is_a_copy():
    store = Store(4)
    store.append(numbered(0, 4))
    taken = [store.take(np.array(rows))[0] for rows in ([0, 1, 2, 3], [0, 2])]
    store.append(numbered(4, 4))
    assert [records["connection"].tolist() for records in taken] == [[0, 1, 2, 3], [0, 2]]


def test_uuids_are_valid_stable_and_of_one_store():
    store, other = Store(4), Store(4)
    for sequence in (0, 1, 2**40, 2**62 - 1):
        text = store.uuid(sequence)
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 8, uuid.RFC_4122)
        assert store.uuid(sequence) == text
        assert store.sequence(text) == sequence
        assert other.sequence(text) is None
    assert store.sequence("no uuid") is None
    assert store.sequence("") is None
    assert store.sequence(str(uuid.uuid4())) is None


def test_waiting_ends_with_a_flow_a_timeout_or_the_end():
    store = Store(4)
    assert store.wait(0, 0.001) is False
    store.append(numbered(0, 1))
    assert store.wait(0, None) is True
    assert store.wait(1, 0) is False
    timer = threading.Timer(0.02, store.append, (numbered(1, 1),))
    timer.start()
    assert store.wait(1, 10) is True
    timer.join()
    timer = threading.Timer(0.02, store.close)
    timer.start()
    assert store.wait(2, 10) is False
    timer.join()
    assert store.closed


def test_a_reader_never_gets_a_row_that_was_half_overwritten():
    store = Store(1_000)
    stop = threading.Event()
    torn: list[int] = []

    def read() -> None:
        while not stop.is_set():
            first, last = store.first, store.next
            for asked in (np.arange(first, last), np.arange(first, last, 3)):
                records, extras, _, sequences = store.take(asked)
                same = (records["connection"] == sequences) & (records["bytes"] == sequences)
                torn.extend(sequences[~same].tolist())
                torn.extend(
                    int(sequence) for extra, sequence in zip(extras, sequences, strict=True) if extra.pid != sequence
                )

    class Numbered(Extra):
        __slots__ = ("pid",)

        def __init__(self, pid: int) -> None:
            super().__init__()
            self.pid = pid

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for start in range(0, 60_000, 600):
        store.append(numbered(start, 600), [(row, Numbered(start + row)) for row in range(600)])
    stop.set()
    for reader in readers:
        reader.join()
    assert torn == []
    assert store.next == 60_000


def test_memory_is_what_the_capacity_says():
    store = Store(1_000)
    for start in range(0, 20_000, 500):
        store.append(numbered(start, 500), [(row, Extra()) for row in range(500)])
    sizes = [value.nbytes for value in vars(store).values() if isinstance(value, np.ndarray)]
    sizes += [column.nbytes for column in store._hot.values()]
    assert sum(sizes) < 1_000 * (RECORD.itemsize + 110)


def test_what_comes_after_forgetting_stands_in_the_same_memory():
    store = Store(8)
    given = []
    for start in range(0, 40, 5):
        records = empty(5)
        records["time_ns"] = range(start, start + 5)
        store.append(records, [(4, Extra(trace_id=str(start)))])
        taken, extras, _, sequences = store.take(np.arange(store.first, store.next))
        given += taken["time_ns"].tolist()
        assert [None if extra is None else extra.trace_id for extra in extras] == [None] * 4 + [str(start)]
        assert sequences.tolist() == list(range(start, start + 5))
        assert [column.start for column in store.columns(store.first, store.next)] == [start]  # in one piece
        store.forget()
        assert len(store) == 0
    assert given == list(range(40))
    store.append(empty(20))  # and around the ring, as ever
    assert (store.first, store.next) == (52, 60)
    assert store.hot("time_ns").tolist() == [0] * 8
