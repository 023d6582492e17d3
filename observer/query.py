"""A GetFlowsRequest over a store: the only way flows leave it.

A query is validated once; `select` walks the ring in blocks, masks the hot columns, copies what may pass, checks that
the writer has not passed it, builds a flow only where the mask is not certain, and yields batches in order. It knows no
gRPC and no output format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from observer.api import observer_pb2
from observer.errors import FilterError
from observer.extra import Extra
from observer.filters.flowfilter import FilterTree
from observer.record import Records
from observer.store import Sequences, Store


@dataclass(frozen=True, slots=True)
class Selection:
    """Flows that passed, oldest first, one row each in all four."""

    sequences: Sequences
    records: Records
    extras: list[Extra | None]
    nodes: npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Lost:
    """`count` rows were overwritten before this reader came to them; noticed between two wall-clock times."""

    count: int
    first_ns: int
    last_ns: int


class InvalidArgument(FilterError):
    """The selectors of a request contradict each other (gRPC INVALID_ARGUMENT; other FilterErrors are UNKNOWN)."""


@dataclass(frozen=True, slots=True)
class Query:
    """A validated request: the compiled filters and the selectors."""

    filters: FilterTree
    number: int = 0
    first: bool = False
    follow: bool = False
    since_ns: int | None = None
    until_ns: int | None = None

    @classmethod
    def from_request(cls, request: observer_pb2.GetFlowsRequest) -> Query:
        """Compile a request; FilterError, or InvalidArgument where the selectors contradict each other."""
        raise NotImplementedError


def select(store: Store, query: Query, *, cancelled: Callable[[], bool] = lambda: False) -> Iterator[Selection | Lost]:
    """Yield what the query selects, in order; with follow until `cancelled`, `until` or the store's end.

    A Lost comes at most once a second, and once more at the end for what was not yet told.
    """
    raise NotImplementedError
