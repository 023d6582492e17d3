"""The names of what the programs in the kernel count: `enum counter` of bpf/maps.h, by stage and reason.

A test holds the order to the header's.
"""

from __future__ import annotations

import enum
from typing import Final

import numpy as np
import numpy.typing as npt

from observer.losses import Losses


class Counter(enum.IntEnum):
    """Indexes of the map `counters`."""

    EVENTS_FULL = 0
    SNAPSHOTS_FULL = 1
    UNREADABLE = 2
    PENDING_LOST = 3
    CONNECTION_LOST = 4
    SEEN = 5
    TOLD = 6
    REFUSED = 7
    PENDING_PUT = 8
    PENDING_TAKEN = 9


LOST: Final = {
    Counter.EVENTS_FULL: ("datapath", "ring of events full"),
    Counter.SNAPSHOTS_FULL: ("datapath", "ring of snapshots full"),
    Counter.UNREADABLE: ("datapath", "unreadable headers"),
    Counter.PENDING_LOST: ("datapath", "response without its request: too many wait"),
    Counter.CONNECTION_LOST: ("datapath", "too many connections"),
}
"""Those that are losses, as `observer.losses` names them."""


def count_losses(added: npt.NDArray[np.uint64], losses: Losses) -> None:
    """Count what the kernel's counters have grown by."""
    for counter, (stage, reason) in LOST.items():
        if added[counter]:
            losses.count(stage, reason, int(added[counter]))
