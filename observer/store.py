"""The ring of flows: records, their hot columns and their extras, by absolute sequence number.

Batches of records enter from one writer thread; any number of readers copy rows out and then learn whether the writer
has passed them. Nothing is locked for that: the writer moves `first` before it overwrites a row and `next` after it has
written one, so whoever copies first and reads `first` afterwards knows which of its rows are whole. It knows no
filters, no protobuf and no gRPC.
"""

from __future__ import annotations

import secrets
import threading
from bisect import bisect_left
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from observer.extra import Extra
from observer.identity.endpoints import EndpointTable
from observer.losses import Losses
from observer.policy.model import PolicyTable
from observer.record import RECORD, Flags, Records

Sequences: TypeAlias = npt.NDArray[np.int64]
"""Absolute sequence numbers: 0 is the first flow that the store ever took."""

DEFAULT_CAPACITY: Final = 131_072
MAX_CAPACITY: Final = 1 << 22

HOT: Final[dict[str, str]] = {
    "time_ns": "u8",
    "verdict": "u1",
    "type": "u1",
    "event_type": "u1",
    "sub_type": "u1",
    "direction": "u1",
    "is_reply": "u1",
    "family": "u1",
    "protocol": "u1",
    "l7_kind": "u1",
    "l7_type": "u1",
    "l7_method": "u2",
    "l7_code": "u2",
    "drop_reason_desc": "u2",
    "tcp_flags": "u2",
    "source_port": "u2",
    "destination_port": "u2",
    "present": "u4",
    "flags": "u4",
    "source_identity": "u4",
    "destination_identity": "u4",
    # Endpoint numbers index a table, and numpy gathers fastest with its own index type.
    "source_endpoint": "i8",
    "destination_endpoint": "i8",
}
"""The columns kept as contiguous arrays beside the records: masks over them cost a tenth of strided ones."""


RAW: Final = np.dtype(f"V{RECORD.itemsize}")
"""A record without its fields: numpy copies structures field by field, and this in one go."""


class Columns:
    """The rows `start` to `start + length` of a store, one array a column, without copying.

    The arrays are windows on the live ring: whoever uses them asks the store afterwards whether `first` has passed
    `start`.
    """

    __slots__ = ("_position", "_store", "length", "start")

    def __init__(self, store: Store, start: int, length: int) -> None:
        self._store = store
        self._position = (start - store._origin) % store.capacity
        self.start = start
        self.length = length

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """The column `name` of the record: contiguous if it is hot, strided otherwise."""
        window = slice(self._position, self._position + self.length)
        hot = self._store._hot.get(name)
        return self._store._records[name][window] if hot is None else hot[window]

    @property
    def nodes(self) -> npt.NDArray[np.uint16]:
        """The number of the node that each row came from."""
        return self._store._nodes[self._position : self._position + self.length]

    @property
    def extras(self) -> npt.NDArray[np.object_]:
        """The extra of each row, or None."""
        return self._store._extras[self._position : self._position + self.length]

    @property
    def imported(self) -> npt.NDArray[np.bool_] | None:
        """Which rows came as a flow.Flow from elsewhere; None if none did."""
        if self._store._last_imported < self.start:
            return None
        mask: npt.NDArray[np.bool_] = (self["flags"] & Flags.IMPORTED) != 0
        return mask

    @property
    def store(self) -> Store:
        """The store that the rows are in."""
        return self._store


class Store:
    """A ring of `capacity` flows, written by one thread and read by many."""

    def __init__(
        self,
        capacity: int = DEFAULT_CAPACITY,
        *,
        endpoints: EndpointTable | None = None,
        policies: PolicyTable | None = None,
        losses: Losses | None = None,
    ) -> None:
        if not 1 <= capacity <= MAX_CAPACITY:
            raise ValueError(f"a store holds 1 to {MAX_CAPACITY} flows, not {capacity}")
        self.capacity = capacity
        self.endpoints = EndpointTable() if endpoints is None else endpoints
        self.policies = PolicyTable() if policies is None else policies
        self.losses = Losses() if losses is None else losses
        self.nodes: list[str] = [""]
        self.first = 0
        self.next = 0
        self.closed = False
        self._origin = 0  # a sequence number whose row stands, or would stand, in the first slot
        self._records: Records = np.zeros(capacity, RECORD)
        self._hot: dict[str, npt.NDArray[Any]] = {name: np.zeros(capacity, kind) for name, kind in HOT.items()}
        self._nodes: npt.NDArray[np.uint16] = np.zeros(capacity, np.uint16)
        # One slot a row, so an extra leaves with its row and nothing has to be searched.
        self._extras: npt.NDArray[np.object_] = np.full(capacity, None, object)
        self._last_imported = -1
        # Small steps: one stays in the processor's cache while its columns are picked out, and while rows are
        # overwritten no reader may have them, so at most an eighth is out of reach.
        self._step = max(1, min(2_048, capacity // 8))
        self._changed = threading.Condition()
        self._lost_lock = threading.Lock()
        bits = f"{secrets.randbits(60):015x}"
        self._uuid = f"{bits[:8]}-{bits[8:12]}-8{bits[12:]}-"

    def __len__(self) -> int:
        """How many flows it holds."""
        return self.next - self.first

    def append(
        self,
        records: Records,
        extras: Sequence[tuple[int, Extra]] = (),
        node: int | npt.NDArray[np.integer[Any]] = 0,
    ) -> None:
        """Take a batch: `extras` are (row of the batch, Extra), rows ascending; `node` is one number or one a row."""
        count = len(records)
        if not count:
            return
        taken = 0
        for start in range(0, count, self._step):
            stop = min(start + self._step, count)
            own, taken = taken, bisect_left(extras, stop, taken, key=itemgetter(0))
            part = node if isinstance(node, int) else node[start:stop]
            self._write(records[start:stop], extras[own:taken], start, part)
        with self._changed:
            self._changed.notify_all()

    def _write(
        self,
        records: Records,
        extras: Sequence[tuple[int, Extra]],
        behind: int,
        node: int | npt.NDArray[np.integer[Any]],
    ) -> None:
        """Write at most `_step` rows, `behind` so many of their batch: give up the oldest, copy, then show the new."""
        count = len(records)
        start = self.next
        if start + count - self.capacity > self.first:
            self.first = start + count - self.capacity
        position = (start - self._origin) % self.capacity
        room = min(count, self.capacity - position)
        raw = self._records.view(RAW)
        for window, part in (
            (slice(position, position + room), slice(0, room)),
            (slice(0, count - room), slice(room, count)),
        ):
            if part.start == part.stop:
                continue
            rows = records[part]
            raw[window] = rows.view(RAW)
            for name, column in self._hot.items():
                column[window] = rows[name]
            self._nodes[window] = node if isinstance(node, int) else node[part]
            self._extras[window] = None
        slots, capacity = self._extras, self.capacity
        first = position - behind
        for row, extra in extras:
            slots[(first + row) % capacity] = extra
        imported = np.flatnonzero(records["flags"] & Flags.IMPORTED)
        if len(imported):
            self._last_imported = start + int(imported[-1])
        self.next = start + count

    def forget(self) -> None:
        """Give up all rows, and their extras now; for the writer whose only reader has taken them."""
        for window in self.columns(self.first, self.next):
            window.extras[:] = None
        # What comes next stands where these stood: memory that the processor has at hand, and no more of it.
        self.first = self._origin = self.next

    def columns(self, start: int, stop: int) -> list[Columns]:
        """The rows `start` to `stop` in one or two windows (the ring wraps); check `first` after using them."""
        windows = []
        while start < stop:
            length = min(stop - start, self.capacity - (start - self._origin) % self.capacity)
            windows.append(Columns(self, start, length))
            start += length
        return windows

    def hot(self, name: str) -> npt.NDArray[Any]:
        """A copy of one column of all rows held now, oldest first."""
        while True:
            first, stop = self.first, self.next
            parts = [window[name] for window in self.columns(first, stop)]
            column: npt.NDArray[Any] = np.concatenate(parts) if parts else self._records[name][:0].copy()
            passed = self.first - first
            if passed < len(column) or not len(column):
                return column[passed:]

    def take(self, sequences: Sequences) -> tuple[Records, list[Extra | None], npt.NDArray[np.uint16], Sequences]:
        """Copy the rows of `sequences` (ascending): records, extras, nodes, and the sequences that were still whole.

        Rows that the writer has overwritten, before or meanwhile, are left out of all four.
        """
        positions: Any = (sequences - self._origin) % self.capacity
        if len(positions) and positions[-1] - positions[0] == len(positions) - 1:
            # In one piece: a plain copy, three times as fast as a gather.
            positions = slice(int(positions[0]), int(positions[-1]) + 1)
        records = np.array(self._records[positions])
        extras = np.array(self._extras[positions])
        nodes = np.array(self._nodes[positions])
        # Only now: a row that was below `first` at any moment of the copying is below it still.
        whole = int(np.searchsorted(sequences, self.first))
        return records[whole:], extras[whole:].tolist(), nodes[whole:], sequences[whole:]

    def wait(self, next_sequence: int, timeout: float | None = None) -> bool:
        """Block until a flow with that sequence number is there, or the store is closed; say whether it is there."""
        with self._changed:
            self._changed.wait_for(lambda: self.next > next_sequence or self.closed, timeout)
        return self.next > next_sequence

    def close(self) -> None:
        """Tell the followers that nothing more will come."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def count_overtaken(self, number: int) -> None:
        """Count rows that a reader did not see because the writer was faster; any thread may call."""
        with self._lost_lock:  # the only place that counts this reason, so this lock is enough
            self.losses.count("store", "reader overtaken", number)

    def uuid(self, sequence: int) -> str:
        """The identifier of the flow `sequence`: random bits of this store, then the number (RFC 9562, version 8)."""
        tail = f"{0x8000_0000_0000_0000 | sequence:016x}"
        return f"{self._uuid}{tail[:4]}-{tail[4:]}"

    def sequence(self, uuid: str) -> int | None:
        """The sequence number that `uuid` names, if it is of this store (the flow may be gone by now)."""
        try:
            sequence = int(uuid[19:23] + uuid[24:], 16) & 0x3FFF_FFFF_FFFF_FFFF
        except ValueError:
            return None
        return sequence if self.uuid(sequence) == uuid else None
