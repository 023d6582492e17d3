"""FlowFilter messages in, one FilterTree out: the exact predicate on a flow and the mask over a store's columns.

Hubble's semantics to the letter: filters of a list are OR, fields of a filter AND, values of a field OR; the result is
whitelist without blacklist. It knows no store's rows beyond their columns and builds no flow.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from observer.api import flow_pb2
from observer.store import Columns


class FilterTree:
    """What compile_filters makes of a whitelist and a blacklist."""

    matches_all: bool
    """No filter at all: every flow passes."""

    def exact(self, flow: flow_pb2.Flow) -> bool:
        """Whether the flow passes."""
        raise NotImplementedError

    def bounds(self, columns: Columns) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """(maybe, sure), one bool a row: what is not `maybe` cannot pass, what is `sure` does, the rest needs exact."""
        raise NotImplementedError

    def mask(self, columns: Columns) -> tuple[npt.NDArray[np.bool_], bool]:
        """The rows that may pass, and whether all of them do."""
        maybe, sure = self.bounds(columns)
        return maybe, maybe is sure or bool(np.array_equal(maybe, sure))


def compile_filters(
    whitelist: Iterable[flow_pb2.FlowFilter] = (), blacklist: Iterable[flow_pb2.FlowFilter] = ()
) -> FilterTree:
    """Compile two lists of filters; FilterError names the value that is refused, in Hubble's words."""
    raise NotImplementedError
