"""Where the IP headers of a batch of frames are: what link layers write, and the kinds of header on the way there.

Readers of link layers advance rows of a `Network` header by header until each is at IP or counted by name. It knows
ethertypes (IEEE 802 numbers) and no layout.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from observer.losses import Losses
from observer.sources.frames import Frames
from observer.sources.gather import gather

Rows = npt.NDArray[np.intp]

# Kinds of header that an ethertype announces; from TAG on, one that another header follows.
COUNTED, IPV4, IPV6, OTHER, VLAN, MPLS, PPPOE, PPP, LLC, VERSION, ETHERNET = range(11)

# What link layers name without an ethertype: numbers behind the ethertypes.
AS_PPP, AS_VERSION, AS_COUNTED, AS_ETHERNET = 0x10000, 0x10001, 0x10002, 0x10003

KINDS: Final = np.full(0x10004, OTHER, np.uint8)
KINDS[:1536] = LLC  # a length, IEEE 802.3
KINDS[0x0800] = IPV4
KINDS[0x86DD] = IPV6
KINDS[[0x8100, 0x88A8, 0x9100, 0x9200]] = VLAN
KINDS[[0x8847, 0x8848]] = MPLS
KINDS[0x8864] = PPPOE
KINDS[AS_PPP] = PPP
KINDS[AS_VERSION] = VERSION
KINDS[AS_COUNTED] = COUNTED
KINDS[AS_ETHERNET] = ETHERNET

_NOT_IP: Final = {
    0x0806: "ARP",
    0x8035: "RARP",
    0x8809: "LACP",
    0x8863: "PPPoE discovery",
    0x888E: "EAPOL",
    0x88CC: "LLDP",
    0x88E5: "MACsec",
    0x88F7: "PTP",
    0x9000: "loopback test",
}
"""Others are counted together: peers choose ethertypes, and a counter each would let them grow the table."""


class Network:
    """Where the IP headers of a batch of frames are; one row per frame, `kind` IPV4 or IPV6 where there is one."""

    __slots__ = (
        "data",
        "destination_mac",
        "end",
        "has_mac",
        "has_vlan",
        "kind",
        "losses",
        "position",
        "source_mac",
        "vlan",
    )

    def __init__(self, frames: Frames, losses: Losses) -> None:
        count = len(frames)
        self.losses = losses
        self.data = frames.data
        self.position = frames.offsets.copy()
        self.end = frames.offsets + frames.lengths
        """Of the captured bytes."""
        self.kind = np.zeros(count, np.uint8)
        self.vlan = np.zeros(count, np.uint16)
        self.has_vlan = np.zeros(count, np.bool_)
        self.source_mac = np.zeros((count, 6), np.uint8)
        self.destination_mac = np.zeros((count, 6), np.uint8)
        self.has_mac = np.zeros(count, np.bool_)

    def header(self, rows: Rows, width: int, name: str) -> tuple[Rows, npt.NDArray[np.void]]:
        """The `width` bytes at hand of each row that has as many; the others are counted and drop out."""
        whole = self.position[rows] + width <= self.end[rows]
        if not whole.all():
            self.count(f"truncated {name}", rows[~whole])
            rows = rows[whole]
        return rows, gather(self.data, self.position[rows], width)

    def advance(self, rows: Rows, size: int | npt.NDArray[np.int64], ethertype: npt.NDArray[np.integer] | int) -> None:
        """Pass over `size` bytes; what follows is of `ethertype`."""
        self.position[rows] += size
        self.kind[rows] = KINDS[ethertype]

    def count(self, reason: str, rows: Rows) -> None:
        """Count these rows and leave them."""
        if len(rows):
            self.losses.count("decode", reason, len(rows))
            self.kind[rows] = COUNTED

    def not_ip(self, rows: Rows, ethertypes: npt.NDArray[np.integer]) -> None:
        """Count the rows whose ethertype is no IP and announces nothing that could hold it."""
        other = KINDS[ethertypes] == OTHER
        if other.any():
            for ethertype in np.unique(ethertypes[other]).tolist():
                name = _NOT_IP.get(ethertype, "other ethertype")
                self.count(f"not IP: {name}", rows[other & (ethertypes == ethertype)])
