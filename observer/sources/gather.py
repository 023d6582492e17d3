"""Take a run of bytes from many places of one buffer at once: what a loop over struct.unpack_from does, as one copy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def gather(data: bytes | memoryview, starts: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.void]:
    """`width` bytes from each of `starts` (not negative), zeros behind the end: voids to view as a dtype.

    What stands behind a header that was cut short is some other bytes: compare with the captured length.
    """
    void = np.dtype(f"V{width}")
    last = len(data) - width
    if last < 0:
        return gather(bytes(data) + bytes(width), starts, width)
    # An array whose stride is one byte: row i is data[i : i + width], and indexing it copies whole rows.
    window = np.ndarray((last + 1,), void, data, strides=(1,))
    if not len(starts) or int(starts.max()) <= last:
        return window[starts]
    rows = window[np.minimum(starts, last)]
    behind = np.flatnonzero(starts > last)
    rows[behind] = gather(bytes(data[last:]) + bytes(width), np.minimum(starts[behind] - last, width), width)
    return rows
