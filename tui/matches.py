"""Which flows of a store are shown, as rows: all of them, those that a condition lets pass, or some that were picked.

A store and a condition enter, sequence numbers leave; a row's number changes as flows come and go, its sequence never.
`Matches` looks at the newest flows first and at the rest a little at a time, so that a page is right at once; what
comes later is judged once. Knows no screen and no filter's fields.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from observer.api import flow_pb2
from observer.filters.index import Bounds, Mask
from observer.record import L7Kind, Present, Verdict
from observer.store import Columns, Sequences, Store
from observer.wire import FlowEncoder

FIRST_PAGE: Final = 128
"""Rows that are found before anything else is done, if the ring has them: more than a screen shows."""
FIRST_PAGE_S: Final = 0.03
"""But no longer than this: what was found is shown within the 50 ms that a filter may take, the rest follows."""
SLICE_S: Final = 0.015
"""How long one call may go on: a key pressed meanwhile waits for it."""
BLOCK_MAX: Final = 16_384
BLOCK_MIN: Final = 128
"""Rows judged in one step: few where flows must be built for that, many where a mask is the answer."""
STEP_S: Final = 0.004
"""What a step should take."""

# Members of enums as plain numbers: numpy takes ten times as long to compare with a member.
_DROPPED, _ERROR = int(Verdict.DROPPED), int(Verdict.ERROR)
_HTTP, _DNS, _KAFKA, _GRPC = int(L7Kind.HTTP), int(L7Kind.DNS), int(L7Kind.KAFKA), int(L7Kind.GRPC)
_CODE, _STATUS = int(Present.CODE), int(Present.GRPC_STATUS)


class Condition(Protocol):
    """What a compiled filter can be asked (observer/filters/flowfilter.py)."""

    def bounds(self, columns: Columns, among: Mask | None = None) -> Bounds:
        """(maybe, sure) for each row."""
        ...

    def exact(self, flow: flow_pb2.Flow) -> bool:
        """Whether a flow passes."""
        ...


class Change(NamedTuple):
    """What an `advance` did: rows gone from the top, rows put there, rows put at the end."""

    gone: int = 0
    before: int = 0
    after: int = 0


class Rows(Protocol):
    """The flows of a table, oldest first."""

    store: Store

    def __len__(self) -> int: ...

    def advance(self) -> Change:
        """Take note of what came into the store and what left it."""
        ...

    def at(self, row: int) -> int:
        """The sequence number of a row."""
        ...

    def row(self, sequence: int) -> int:
        """The row of a sequence number, or of the next one shown."""
        ...

    def between(self, start: int, stop: int) -> Sequences:
        """The sequence numbers shown from `start` up to `stop`, ascending."""
        ...

    @property
    def complete(self) -> bool:
        """Whether every flow held has been judged."""
        ...


class AllRows:
    """Every flow that the ring held at the last `advance`."""

    complete = True

    def __init__(self, store: Store) -> None:
        self.store = store
        self._first = self._next = store.first

    def __len__(self) -> int:
        return self._next - self._first

    def advance(self) -> Change:
        """See Rows."""
        first, stop = self.store.first, self.store.next
        change = Change(gone=min(first, self._next) - self._first, after=stop - max(self._next, first))
        self._first, self._next = first, stop
        return change

    def at(self, row: int) -> int:
        """See Rows."""
        return self._first + row

    def row(self, sequence: int) -> int:
        """See Rows."""
        return min(max(sequence - self._first, 0), len(self))

    def between(self, start: int, stop: int) -> Sequences:
        """See Rows."""
        return np.arange(max(start, self._first), min(stop, self._next), dtype=np.int64)


def held(store: Store) -> AllRows:
    """Every flow that a ring holds now."""
    rows = AllRows(store)
    rows.advance()
    return rows


class PickedRows:
    """Some flows, for as long as the ring holds them: those marked."""

    complete = True

    def __init__(self, store: Store, picked: Callable[[], Iterable[int]]) -> None:
        self.store = store
        self._picked = picked
        self._sequences = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._sequences)

    def advance(self) -> Change:
        """See Rows; picking is seldom, so the rows are simply made again."""
        now = np.array(sorted(self._picked()), np.int64)
        now = now[np.searchsorted(now, self.store.first) :]
        change = Change()
        if not np.array_equal(now, self._sequences):
            change = Change(gone=len(self._sequences), after=len(now))
            self._sequences = now
        return change

    def at(self, row: int) -> int:
        """See Rows."""
        return int(self._sequences[row])

    def row(self, sequence: int) -> int:
        """See Rows."""
        return int(np.searchsorted(self._sequences, sequence))

    def between(self, start: int, stop: int) -> Sequences:
        """See Rows."""
        low, high = np.searchsorted(self._sequences, (start, stop))
        return self._sequences[low:high]


class Matches:
    """The flows that a condition lets pass, kept up to date."""

    def __init__(self, store: Store, condition: Condition, *, page: int = FIRST_PAGE) -> None:
        self.store = store
        self.skipped = 0
        """Flows that came and left again before they could be judged."""
        self._judge = Judge(store, condition)
        # Room at both ends, so that neither older nor newer rows have to be moved.
        self._found = np.empty(4 * FIRST_PAGE, np.int64)
        self._low = self._high = len(self._found) // 2
        self._oldest = self._newest = store.next  # judged so far: from the one up to the other
        self._back(page, FIRST_PAGE_S)

    def __len__(self) -> int:
        return self._high - self._low

    @property
    def complete(self) -> bool:
        """See Rows."""
        return self._oldest <= self.store.first

    def advance(self) -> Change:
        """See Rows: the new ones first, then more of the old ones, for as long as SLICE_S."""
        end = time.monotonic() + SLICE_S
        after = self._forward(end)
        before = 0 if self.complete else self._back(0, end - time.monotonic())
        keep = self._low + int(np.searchsorted(self._sequences, self.store.first))
        gone, self._low = keep - self._low, keep
        return Change(gone, before, after)

    def at(self, row: int) -> int:
        """See Rows."""
        return int(self._found[self._low + row])

    def row(self, sequence: int) -> int:
        """See Rows."""
        return int(np.searchsorted(self._sequences, sequence))

    def between(self, start: int, stop: int) -> Sequences:
        """See Rows."""
        low, high = np.searchsorted(self._sequences, (start, stop))
        return self._sequences[low:high]

    @property
    def _sequences(self) -> Sequences:
        return self._found[self._low : self._high]

    def _forward(self, end: float) -> int:
        """Judge what came; at least one step, or nothing new would ever show beside a slow condition."""
        found = 0
        while self._newest < self.store.next:
            first = self.store.first
            if self._newest < first:
                self.skipped += first - self._newest
                self._newest = first
            stop = min(self._newest + self._judge.step, self.store.next)
            rows = self._judge(self._newest, stop)
            self._newest = stop
            if self._high + len(rows) > len(self._found):
                self._make_room(0, len(rows))
            self._found[self._high : self._high + len(rows)] = rows
            self._high += len(rows)
            found += len(rows)
            if time.monotonic() > end:
                break
        return found

    def _back(self, page: int, seconds: float) -> int:
        """Judge older flows until there is a page of rows (0: no matter how many), or the time is over."""
        end = time.monotonic() + seconds
        found = 0
        while self._oldest > self.store.first and not (page and found >= page):
            start = max(self.store.first, self._oldest - self._judge.step)
            rows = self._judge(start, self._oldest)
            self._oldest = start
            if len(rows) > self._low:
                self._make_room(len(rows), 0)
            self._low -= len(rows)
            self._found[self._low : self._low + len(rows)] = rows
            found += len(rows)
            if time.monotonic() > end:
                break
        return found

    def _make_room(self, before: int, after: int) -> None:
        """Move the rows into the middle of an array with at least so much room at the ends; twice as large if need be.

        No larger than four times the ring: that many rows it cannot hold.
        """
        rows = self._sequences
        size = max(len(self._found), 2 * (len(rows) + 2 * max(before, after)))
        found = np.empty(size, np.int64)
        low = (size - len(rows) - after + before) // 2
        found[low : low + len(rows)] = rows
        self._found, self._low, self._high = found, low, low + len(rows)


class Judge:
    """Asks one condition about ranges of a store, flows built only where the columns are not enough."""

    def __init__(self, store: Store, condition: Condition) -> None:
        self.step = 2048
        """Rows of the next step, so that it takes about STEP_S."""
        self._store = store
        self._condition = condition
        self._encoder: FlowEncoder | None = None

    def __call__(self, start: int, stop: int) -> Sequences:
        """The sequence numbers within the range that pass; rows overwritten meanwhile do not."""
        began = time.monotonic()
        parts = []
        for columns in self._store.columns(start, stop):
            maybe, sure = self._condition.bounds(columns)
            rows = np.flatnonzero(maybe)
            if maybe is not sure:
                unsure = rows[~sure[rows]]
                if len(unsure):
                    maybe = sure.copy()
                    maybe[self._exactly(columns.start + unsure) - columns.start] = True
                    rows = np.flatnonzero(maybe)
            parts.append(columns.start + rows)
        found = np.concatenate(parts) if parts else np.empty(0, np.int64)
        self._adapt(stop - start, time.monotonic() - began)
        return found[np.searchsorted(found, self._store.first) :]

    def _exactly(self, sequences: Sequences) -> Sequences:
        """Those that pass by their whole flows."""
        if self._encoder is None:
            self._encoder = FlowEncoder(self._store)
        records, extras, nodes, whole = self._store.take(sequences)
        flows = self._encoder.encode_many(records, extras, whole.tolist(), nodes.tolist())
        exact, parse = self._condition.exact, flow_pb2.Flow.FromString
        passed = np.fromiter((exact(parse(flow)) for flow in flows), np.bool_, len(whole))
        return whole[passed]

    def _adapt(self, rows: int, seconds: float) -> None:
        """Half as many rows in a step that took too long, twice as many after one that took no time."""
        if seconds > 2 * STEP_S:
            self.step = max(BLOCK_MIN, self.step // 2)
        elif seconds < STEP_S / 2 and rows >= self.step:
            self.step = min(BLOCK_MAX, self.step * 2)


class Seek:
    """The next row above or below that a condition lets pass, looked for a little at a time."""

    def __init__(self, rows: Rows, condition: Condition, start: int, direction: int) -> None:
        self._rows = rows
        self._judge = Judge(rows.store, condition)
        self._direction = direction
        self._place = start + 1 if direction > 0 else start
        self._stop = rows.store.next

    def __call__(self) -> int | None:
        """Look for as long as SLICE_S: a sequence number, -1 when there is none, None when it is to be called again."""
        end = time.monotonic() + SLICE_S
        store = self._rows.store
        while time.monotonic() < end:
            if self._direction > 0:
                start, stop = max(self._place, store.first), min(self._place + self._judge.step, self._stop)
                self._place = stop
            else:
                start, stop = max(store.first, self._place - self._judge.step), self._place
                self._place = start
            if start >= stop:
                return -1
            shown = self._rows.between(start, stop)
            if not len(shown):
                continue
            found = np.intersect1d(self._judge(int(shown[0]), int(shown[-1]) + 1), shown, assume_unique=True)
            if len(found):
                return int(found[0] if self._direction > 0 else found[-1])
        return None


class SameConnection:
    """The condition that a flow belongs to the same connection as a record: by its number, else by its five-tuple."""

    def __init__(self, record: Any, node: int) -> None:
        self._number = record["connection"]
        self._node = node
        self._ends = ("source_ip", "source_port"), ("destination_ip", "destination_port")
        self._values = [(record[ip].copy(), record[port]) for ip, port in self._ends]
        self._protocol = record["protocol"]

    def bounds(self, columns: Columns, among: Mask | None = None) -> Bounds:
        """Certain: the columns tell."""
        mask: Mask = columns["protocol"] == self._protocol
        if self._number:
            mask &= (columns["connection"] == self._number) & (columns.nodes == self._node)
            return mask, mask
        ports = [(columns[port] == value) for (_, port), (_, value) in zip(self._ends, self._values, strict=True)]
        crossed = [
            (columns[port] == value) for (_, port), (_, value) in zip(self._ends, self._values[::-1], strict=True)
        ]
        rows = np.flatnonzero(mask & ((ports[0] & ports[1]) | (crossed[0] & crossed[1])))
        addresses = [columns[ip][rows] for ip, _ in self._ends]
        equal = [[(column == value).all(axis=1) for value, _ in self._values] for column in addresses]
        mask = np.zeros(columns.length, np.bool_)
        mask[rows[(equal[0][0] & equal[1][1]) | (equal[0][1] & equal[1][0])]] = True
        return mask, mask

    def exact(self, flow: flow_pb2.Flow) -> bool:
        """Never asked: the columns are certain."""
        raise NotImplementedError


class InTrouble:
    """The condition that something went wrong: refused, dropped, or answered with an error."""

    def bounds(self, columns: Columns, among: Mask | None = None) -> Bounds:
        """Certain: the columns tell."""
        mask = troubled(columns)
        return mask, mask

    def exact(self, flow: flow_pb2.Flow) -> bool:
        """Never asked: the columns are certain."""
        raise NotImplementedError


def troubled(columns: Columns) -> Mask:
    """Which flows were dropped or are errors: by verdict, HTTP 5xx, gRPC status, DNS rcode, Kafka error."""
    verdict, kind, code = columns["verdict"], columns["l7_kind"], columns["l7_code"]
    mask: Mask = (verdict == _DROPPED) | (verdict == _ERROR)
    present = columns["present"]
    coded = (present & _CODE) != 0
    mask |= coded & (
        (((kind == _HTTP) | (kind == _GRPC)) & (code >= 500)) | (((kind == _DNS) | (kind == _KAFKA)) & (code != 0))
    )
    if (kind == _GRPC).any():
        mask |= ((present & _STATUS) != 0) & (columns["grpc_status"] != 0)
    return mask
