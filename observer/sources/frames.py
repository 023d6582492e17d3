"""Captured frames as they come from a file or a socket: bytes, offsets and times, nothing decoded.

Every source yields `Frames`, a batch that indexes one buffer; decode.py reads the headers. Nothing here knows what
the bytes mean. Link types are those of the registry at https://www.tcpdump.org/linktypes.html.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Frames:
    """A batch of captured frames in the order of the capture; every array has one row per frame.

    The buffer outlives the batch: who keeps a slice of it alive copies the slice, not the buffer.
    """

    data: bytes | memoryview
    """What the offsets index."""
    offsets: npt.NDArray[np.int64]
    """Where each frame starts in `data`."""
    lengths: npt.NDArray[np.int64]
    """Bytes captured, all of them inside `data`."""
    wire_lengths: npt.NDArray[np.int64]
    """Bytes on the wire; not less than captured."""
    times_ns: npt.NDArray[np.int64]
    """Wall clock of the capture, not negative, as the file says and so not always ascending."""
    link_types: npt.NDArray[np.uint16]
    """LINKTYPE_ number of each frame: the interfaces of a pcapng file may differ."""
    interfaces: npt.NDArray[np.uint32]
    """Index of the pcapng interface within its section; 0 elsewhere."""
    numbers: npt.NDArray[np.int64]
    """Frame number in the capture, from 1, as tshark counts."""

    def __len__(self) -> int:
        return len(self.offsets)
