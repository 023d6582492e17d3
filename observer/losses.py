"""Counters of what was lost or could not be read: one per (stage, reason), counted once, where it happens.

A stage is a module of the one-way street ("pcap", "decode", "conntrack", "stream", "http1", "store", ...).
`status`, metrics, the TUI and the line on stderr after a capture all read the same counters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator


class Losses:
    """Counts by (stage, reason). Not locked: the single producer thread counts, others read a copy."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def count(self, stage: str, reason: str, number: int = 1) -> None:
        """Add `number` losses of `stage` for `reason`."""
        self._counts[stage, reason] += number

    def get(self, stage: str, reason: str) -> int:
        """How many losses of that stage and reason were counted."""
        return self._counts[stage, reason]

    def total(self) -> int:
        """All losses together."""
        return sum(self._counts.values())

    def merge(self, other: Losses) -> None:
        """Add every count of `other` (a worker process's, a server's)."""
        self._counts.update(other._counts)

    def snapshot(self) -> dict[tuple[str, str], int]:
        """A copy of the counts, without zeros."""
        return {key: number for key, number in list(self._counts.items()) if number}

    def __iter__(self) -> Iterator[tuple[str, str, int]]:
        """Yield (stage, reason, number), most numerous first."""
        for (stage, reason), number in sorted(self.snapshot().items(), key=lambda item: (-item[1], item[0])):
            yield stage, reason, number
