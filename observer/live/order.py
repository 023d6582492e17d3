"""Rows of several producers, put into one order of time: held until nothing older can come, then passed on.

Batches of records with extras enter, each nearly in order; batches in order leave, into whatever takes them. Knows no
clock and no rings: the caller says up to which time all is there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from observer.extra import Extra
from observer.record import RECORD, Records

RAW: Final = np.dtype(f"V{RECORD.itemsize}")
"""A record without its fields: numpy copies structures field by field, and this in one go."""

Extras = Sequence[tuple[int, Extra]]


@dataclass(slots=True)
class _Run:
    """One batch in order, of which the rows from `start` on are still held."""

    records: npt.NDArray[np.void]
    """Of dtype RAW."""
    times_ns: npt.NDArray[np.uint64]
    extras: Extras
    start: int = 0


class Order:
    """Holds rows until they are given on."""

    def __init__(self, append: Callable[[Records, Extras], None]) -> None:
        self._append = append
        self._runs: list[_Run] = []

    def __bool__(self) -> bool:
        """Whether any row is held."""
        return bool(self._runs)

    def put(self, records: Records, extras: Extras) -> None:
        """Hold a batch, which is the caller's no longer; `extras` by row, ascending."""
        if not len(records):
            return
        raw = records.view(RAW)
        times_ns = records["time_ns"].copy()
        if (times_ns[1:] < times_ns[:-1]).any():
            raw, times_ns, extras = _sorted(raw, times_ns, extras)
        self._runs.append(_Run(raw, times_ns, extras))

    def give(self, until_ns: int | None = None) -> None:
        """Pass on what is not younger than that; everything if None. Of equal times what was put first goes first."""
        parts: list[_Run] = []
        for run in self._runs:
            stop = len(run.times_ns) if until_ns is None else int(np.searchsorted(run.times_ns, until_ns, "right"))
            if stop > run.start:
                first, last = (bisect_left(run.extras, row, key=lambda each: each[0]) for row in (run.start, stop))
                shifted = [(row - run.start, extra) for row, extra in run.extras[first:last]]
                parts.append(_Run(run.records[run.start : stop], run.times_ns[run.start : stop], shifted))
                run.start = stop
        self._runs = [run for run in self._runs if run.start < len(run.times_ns)]
        if not parts:
            return
        raw, extras = parts[0].records, parts[0].extras
        if len(parts) > 1:
            starts = np.cumsum([0] + [len(part.times_ns) for part in parts]).tolist()
            joined = [
                (start + row, extra) for start, part in zip(starts, parts, strict=False) for row, extra in part.extras
            ]
            raw, _, extras = _sorted(
                np.concatenate([part.records for part in parts]),
                np.concatenate([part.times_ns for part in parts]),
                joined,
            )
        self._append(raw.view(RECORD), extras)


def _sorted(
    raw: npt.NDArray[np.void], times_ns: npt.NDArray[np.uint64], extras: Extras
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.uint64], Extras]:
    order = np.argsort(times_ns, kind="stable")
    if extras:
        place = np.empty(len(order), np.intp)
        place[order] = np.arange(len(order))
        extras = sorted(((int(place[row]), extra) for row, extra in extras), key=lambda each: each[0])
    return raw[order], times_ns[order], extras
