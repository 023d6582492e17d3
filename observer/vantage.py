"""One vantage point for each connection: of packets seen at several interfaces, those of the first that saw theirs.

A packet that the node forwards between two workloads passes two interfaces, and is one packet. Batches of `Packets`
enter and leave, with the interface of each row; what another interface showed is left out. Knows no connections, only
keys of packets.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from observer.decode import Packets
from observer.tuples import keys, reverse

MAX_KEYS: Final = 1 << 18
"""Directions remembered in one generation; two are held."""
GENERATION_NS: Final = 60_000_000_000
"""After one to two of these without a packet there, a connection may be seen at another interface."""
COLUMNS: Final = tuple(column.name for column in fields(Packets) if column.name not in ("data", "tunnel"))


class Vantage:
    """Remembers at which interface each connection was seen first."""

    def __init__(self) -> None:
        self._young: dict[bytes, int] = {}
        self._old: dict[bytes, int] = {}
        self._turned_ns = 0

    def keep(self, packets: Packets, interfaces: npt.NDArray[np.uint32]) -> Packets:
        """The packets that were seen where their connection was seen first; `interfaces` has one row a packet."""
        if not len(packets):
            return packets
        time_ns = int(packets.time_ns[-1])
        if time_ns >= self._turned_ns + GENERATION_NS or len(self._young) > MAX_KEYS:
            self._young, self._old, self._turned_ns = {}, self._young, time_ns
        young, old = self._young, self._old
        others = []
        for row, (key, interface) in enumerate(zip(keys(packets), interfaces.tolist(), strict=True)):
            first = young.get(key)
            if first is None:
                first = old.get(key, interface)
                if first == interface:  # else it is not kept alive: that interface may be gone
                    young[key] = young[reverse(key)] = interface
            if first != interface:
                others.append(row)
        if not others:
            return packets
        rows = np.delete(np.arange(len(packets)), others)
        kept = {name: getattr(packets, name)[rows] for name in COLUMNS}
        tunnel = packets.tunnel
        return replace(packets, **kept, tunnel=None if tunnel is None else [tunnel[row] for row in rows.tolist()])
