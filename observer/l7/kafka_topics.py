"""Names of Kafka topic ids, learned from Metadata and CreateTopics responses and shared by many connections (KIP-516).

In: an id with its name, and the two ends of the connection that told it. Out: the name of an id for a connection that
has one of these ends, so that a client's Metadata from one broker names what it fetches from another; ends that never
met are told nothing of each other. Bounded; it refuses to know which brokers make a cluster.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

ENDS_LIMIT: Final = 4_096
"""Addresses that ids are kept for; the one that learned least recently goes first."""

IDS_LIMIT: Final = 4_096
"""Ids of one address."""

IDS_IN_ALL: Final = 65_536
"""Ids of all addresses together."""


class TopicIds:
    """What is known of topic ids, by the address that was told or that told it."""

    __slots__ = ("_by_end", "_held")

    def __init__(self) -> None:
        self._by_end: dict[bytes, dict[int, bytes]] = {}
        self._held = 0

    def learn(self, ends: Iterable[bytes], pairs: Iterable[tuple[int, bytes]]) -> None:
        """Take ids with their names, as a response between these ends has them."""
        known = list(pairs)
        for end in dict.fromkeys(ends):
            names = self._by_end.pop(end, {})
            self._by_end[end] = names  # the last in line again
            self._held -= len(names)
            for number, name in known:
                names.pop(number, None)
                names[number] = name
            while len(names) > IDS_LIMIT:
                del names[next(iter(names))]
            self._held += len(names)
        while len(self._by_end) > ENDS_LIMIT or self._held > IDS_IN_ALL:
            self._held -= len(self._by_end.pop(next(iter(self._by_end))))

    def name(self, ends: Iterable[bytes], number: int) -> bytes | None:
        """The name of an id on a connection between these ends."""
        for end in ends:
            name = self._by_end.get(end, {}).get(number)
            if name is not None:
                return name
        return None

    def __len__(self) -> int:
        return self._held
