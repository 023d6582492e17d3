"""A GetFlowsRequest over a store: the only way flows leave it.

A query is validated once; `select` walks the ring in blocks, masks the hot columns, copies what may pass, checks that
the writer has not passed it, builds a flow only where the mask is not certain, and yields batches in order. It knows no
gRPC and no output format.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
from google.protobuf.timestamp_pb2 import Timestamp

from observer.api import flow_pb2, observer_pb2
from observer.errors import FilterError
from observer.extra import Extra
from observer.filters.flowfilter import compile_filters
from observer.filters.index import Judged
from observer.record import Records, empty
from observer.store import Sequences, Store
from observer.wire import FlowEncoder

BLOCK: Final = 16_384
"""Rows looked at in one step, so that a mask stays in the processor's cache and a selection under 8 MiB."""
FIRST_BLOCK: Final = 512
"""Rows of the first step where a number of flows is asked for: `last 20` seldom needs more."""
EXACT_BLOCK: Final = 64
"""Flows built in one step where a number is asked for: a few more than that at most."""
LOST_INTERVAL_NS: Final = 1_000_000_000
"""A reader hears of losses once in so long (Hubble's hubble-lost-event-send-interval)."""
POLL_S: Final = 0.1
"""How long a follower may take to notice that it is cancelled."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Flows that passed, oldest first, one row each in all four."""

    sequences: Sequences
    records: Records
    extras: list[Extra | None]
    nodes: npt.NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.sequences)


CAUGHT_UP: Final = Selection(np.empty(0, np.int64), empty(0), [], np.empty(0, np.uint16))


@dataclass(frozen=True, slots=True)
class Lost:
    """`count` rows were overwritten before this reader came to them; noticed between two wall-clock times."""

    count: int
    first_ns: int
    last_ns: int


class InvalidQueryError(FilterError):
    """The selectors of a request contradict each other (gRPC INVALID_ARGUMENT; other FilterErrors are UNKNOWN)."""


@dataclass(frozen=True, slots=True)
class Query:
    """A validated request: the compiled filters and the selectors."""

    filters: Judged = field(default_factory=compile_filters)
    """A FilterTree or an Expression of the filter language."""
    number: int = 0
    first: bool = False
    follow: bool = False
    since_ns: int | None = None
    until_ns: int | None = None

    def __post_init__(self) -> None:
        if self.first and self.follow:
            raise InvalidQueryError("first cannot be specified with follow")

    @classmethod
    def from_request(cls, request: observer_pb2.GetFlowsRequest) -> Query:
        """Compile a request; FilterError, or InvalidQueryError where the selectors contradict each other."""
        if request.first and request.follow:  # before the filters, as Hubble does
            raise InvalidQueryError("first cannot be specified with follow")
        return cls(
            compile_filters(request.whitelist, request.blacklist),
            number=request.number,
            first=request.first,
            follow=request.follow,
            since_ns=_nanoseconds(request.since) if request.HasField("since") else None,
            until_ns=_nanoseconds(request.until) if request.HasField("until") else None,
        )


def _nanoseconds(stamp: Timestamp) -> int:
    """The time of a protobuf Timestamp; FilterError outside of years 1 to 9999."""
    if not (-62_135_596_800 <= stamp.seconds <= 253_402_300_799 and 0 <= stamp.nanos < 1_000_000_000):
        raise FilterError(f"invalid timestamp: {stamp.seconds} seconds and {stamp.nanos} nanoseconds")
    return stamp.seconds * 1_000_000_000 + stamp.nanos


def select(store: Store, query: Query, *, cancelled: Callable[[], bool] = lambda: False) -> Iterator[Selection | Lost]:
    """Yield what the query selects, in order; with follow until `cancelled`, `until` or the store's end.

    A Lost comes at most once a second, and once more at the end for what was not yet told. With follow, an empty
    Selection (CAUGHT_UP) stands between what was held when the query began and what is new.
    """
    return _Reader(store, query, cancelled).read()


class _Reader:
    """One reader's way through the ring."""

    def __init__(self, store: Store, query: Query, cancelled: Callable[[], bool]) -> None:
        self._store = store
        self._query = query
        self._cancelled = cancelled
        # From here on flows are new, however late the caller begins to read.
        self._first, self._stop = store.first, store.next
        self._encoder: FlowEncoder | None = None
        self._ended = False  # by `until`
        self._lost = 0
        self._lost_first_ns = 0
        self._lost_last_ns = 0
        self._lost_told_ns = 0

    def read(self) -> Iterator[Selection | Lost]:
        """Everything, in order."""
        query, store = self._query, self._store
        first, stop = self._first, self._stop
        all_held = query.first or query.since_ns is not None or query.number >= stop - first
        if query.number and not all_held:
            yield from self._last(query.number, stop)
        elif query.number or query.since_ns is not None or not query.follow:
            yield from self._forward(first, stop, 0 if query.follow else query.number)
        if query.follow:
            if not self._ended:
                yield CAUGHT_UP
            cursor = stop
            while not self._ended and not self._cancelled():
                if store.wait(cursor, POLL_S):
                    stop = store.next
                    yield from self._forward(cursor, stop, 0)
                    cursor = stop
                elif store.closed:
                    break
                else:
                    yield from self._tell_lost()
        yield from self._tell_lost(last=True)

    def _forward(self, cursor: int, stop: int, limit: int) -> Iterator[Selection | Lost]:
        """The rows from `cursor` up to `stop`, at most `limit` matches (0: all)."""
        found = 0
        size = FIRST_BLOCK if limit else BLOCK
        while cursor < stop and not self._ended and not self._cancelled():
            first = self._store.first
            if cursor < first:  # the writer went past: go on at what is left of the range
                self._overtaken(min(first, stop) - cursor)
                cursor = min(first, stop)
                continue
            selection, cursor = self._block(cursor, min(cursor + size, stop), limit and limit - found)
            size = min(size * 2, BLOCK)
            found += len(selection)
            if len(selection):
                yield selection
            yield from self._tell_lost()
            if limit and found >= limit:
                return

    def _block(self, start: int, stop: int, limit: int) -> tuple[Selection, int]:
        """What passes of a range of rows, time range included, and where to go on; the first `limit` (0: all).

        Rows that were overwritten while they were read are counted as lost, and nothing that they said is believed.
        """
        query = self._query
        parts = []
        for columns in self._store.columns(start, stop):
            times = columns["time_ns"]
            length = columns.length
            if query.until_ns is not None:
                # The ring is taken to be in order of time: the first flow that is later ends the query.
                late = _after(times, query.until_ns)
                length = int(np.argmax(late)) if late.any() else length
            inside = None if query.since_ns is None else _not_before(times, query.since_ns)
            maybe, sure = query.filters.bounds(columns, inside)
            if inside is not None:
                maybe, sure = (maybe & inside,) * 2 if maybe is sure else (maybe & inside, sure & inside)
            parts.append((columns.start, length, np.flatnonzero(maybe[:length]), sure))
            if length < columns.length:
                break
        sequences = np.concatenate([part_start + rows for part_start, _, rows, _ in parts])
        certain = np.concatenate([sure[rows] for _, _, rows, sure in parts])
        records, extras, nodes, whole = self._store.take(sequences)
        passed = self._store.first  # from here on, one answer for all rows: lost or seen
        if passed > start:
            self._overtaken(min(passed, stop) - start)
        part_start, length, _, sure = parts[-1]
        if length < len(sure):
            if part_start + length < passed:
                return _rows(Selection(whole, records, extras, nodes), slice(0, 0)), min(passed, stop)
            self._ended = True
        kept = slice(int(np.searchsorted(whole, passed)), len(whole))
        selection = _rows(Selection(whole, records, extras, nodes), kept)
        return self._certain(selection, certain[len(sequences) - len(selection) :], limit), stop

    def _certain(self, selection: Selection, certain: npt.NDArray[np.bool_], limit: int) -> Selection:
        """Ask exactly where the mask was not certain, no further than to the `limit`th match (0: all)."""
        if certain.all():
            return _rows(selection, slice(0, min(limit or len(selection), len(selection))))
        step = EXACT_BLOCK if limit else len(selection)
        matches: list[int] = []
        for start in range(0, len(selection), step):
            part = slice(start, min(start + step, len(selection)))
            rows = np.flatnonzero(self._exactly(_rows(selection, part), certain[part]))
            matches += (start + rows).tolist()
            if limit and len(matches) >= limit:
                del matches[limit:]
                break
        return _rows(selection, np.array(matches, np.intp))

    def _exactly(self, selection: Selection, certain: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which rows match, where `certain` tells for some of them that they do; builds the flows of the others."""
        if self._encoder is None:
            self._encoder = FlowEncoder(self._store)
        unsure = np.flatnonzero(~certain)
        asked = _rows(selection, unsure)
        flows = self._encoder.encode_many(asked.records, asked.extras, asked.sequences.tolist(), asked.nodes.tolist())
        exact, parse = self._query.filters.exact, flow_pb2.Flow.FromString
        matches = certain.copy()
        matches[unsure] = [exact(parse(flow)) for flow in flows]
        return matches

    def _last(self, number: int, stop: int) -> Iterator[Selection | Lost]:
        """The last `number` matches before `stop`, oldest first.

        With `until`, those of them that stand before the first later flow: Hubble goes back without regard to time.
        """
        found: list[Sequences] = []
        count = 0
        end = stop
        size = FIRST_BLOCK
        while count < number and end > self._store.first and not self._cancelled():
            start = max(end - size, self._store.first)
            sequences = self._newest(start, end, number - count)
            found.append(sequences)
            count += len(sequences)
            end = start
            size = min(size * 2, BLOCK)
        if not count:
            return
        matches = np.concatenate(found[::-1])
        oldest = int(matches[0]) if count >= number else end
        if self._query.until_ns is not None:
            matches = matches[: int(np.searchsorted(matches, self._first_after(oldest, stop)))]
        for position in range(0, len(matches), BLOCK):
            part = matches[position : position + BLOCK]
            records, extras, nodes, whole = self._store.take(part)
            if len(whole) < len(part):
                self._overtaken(len(part) - len(whole))
            if len(whole):
                yield Selection(whole, records, extras, nodes)
            yield from self._tell_lost()

    def _newest(self, start: int, stop: int, number: int) -> Sequences:
        """The sequence numbers of the last `number` matches of a range, ascending; overwritten rows are no matches."""
        filters = self._query.filters
        wanted: list[int] = []
        for columns in reversed(self._store.columns(start, stop)):
            maybe, sure = filters.bounds(columns)
            rows = np.flatnonzero(maybe)
            if maybe is sure or sure[rows].all():
                rows = rows[max(0, len(rows) - (number - len(wanted))) :]
                wanted.extend((columns.start + rows)[::-1].tolist())
            else:
                certain = sure[rows]
                records, extras, nodes, whole = self._store.take(columns.start + rows)
                selection = Selection(whole, records, extras, nodes)
                certain = certain[len(rows) - len(whole) :]
                for end in range(len(selection), 0, -EXACT_BLOCK):
                    part = slice(max(0, end - EXACT_BLOCK), end)
                    matches = whole[part][self._exactly(_rows(selection, part), certain[part])]
                    wanted.extend(matches[::-1][: number - len(wanted)].tolist())
                    if len(wanted) == number:
                        break
            if len(wanted) >= number:
                break
        sequences = np.array(wanted[::-1], np.int64)
        return sequences[int(np.searchsorted(sequences, self._store.first)) :]

    def _first_after(self, start: int, stop: int) -> int:
        """The first row of a range that is later than `until`, else `stop`."""
        assert self._query.until_ns is not None
        for columns in self._store.columns(start, stop):
            late = _after(columns["time_ns"], self._query.until_ns)
            late[: max(0, self._store.first - columns.start)] = False  # overwritten meanwhile
            if late.any():
                self._ended = True
                return columns.start + int(np.argmax(late))
        return stop

    def _overtaken(self, count: int) -> None:
        """Note rows that this reader will never see."""
        now = time.time_ns()
        if not self._lost:
            self._lost_first_ns = now
        self._lost_last_ns = now
        self._lost += count
        self._store.count_overtaken(count)

    def _tell_lost(self, *, last: bool = False) -> Iterator[Lost]:
        """The losses not yet told, if it is time to tell them."""
        if not self._lost:
            return
        now = time.monotonic_ns()
        if not last and self._lost_told_ns and now - self._lost_told_ns < LOST_INTERVAL_NS:
            return
        self._lost_told_ns = now
        count, self._lost = self._lost, 0
        yield Lost(count, self._lost_first_ns, self._lost_last_ns)


def _rows(selection: Selection, rows: slice | npt.NDArray[np.intp]) -> Selection:
    """Some rows of a selection."""
    if isinstance(rows, slice) and rows.stop - rows.start == len(selection):
        return selection
    numbers = range(rows.start, rows.stop) if isinstance(rows, slice) else rows.tolist()
    return Selection(
        selection.sequences[rows],
        selection.records[rows],
        [selection.extras[row] for row in numbers],
        selection.nodes[rows],
    )


def _after(times: npt.NDArray[np.uint64], time_ns: int) -> npt.NDArray[np.bool_]:
    return times > np.uint64(min(time_ns, (1 << 64) - 1)) if time_ns >= 0 else np.ones(len(times), np.bool_)


def _not_before(times: npt.NDArray[np.uint64], time_ns: int) -> npt.NDArray[np.bool_]:
    return times >= np.uint64(min(time_ns, (1 << 64) - 1)) if time_ns >= 0 else np.ones(len(times), np.bool_)
