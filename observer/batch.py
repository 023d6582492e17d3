"""batch.proto both ways: blocks of raw records with the table entries that the other side lacks (signatures)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from observer.api import batch_pb2, flow_pb2
from observer.extra import Extra
from observer.identity.endpoints import EndpointTable
from observer.policy.model import PolicyTable
from observer.record import Records
from observer.wire import FlowSource


@dataclass(slots=True)
class Batch:
    """What one BatchResponse says, in the numbers of the reader's own tables."""

    records: Records
    extras: list[tuple[int, Extra]]  # as Store.append takes them
    sequences: npt.NDArray[np.uint64]  # the server's
    nodes: npt.NDArray[np.uint32]  # numbers in the reader's `node_names`
    lost_events: list[flow_pb2.LostEvent]
    caught_up: bool


class BatchWriter:
    """The sending end of one stream: knows what was sent on it."""

    def __init__(self, source: FlowSource) -> None:
        raise NotImplementedError

    def to_batch(
        self,
        records: Records,
        extras: Sequence[Extra | None],
        sequences: Sequence[int],
        nodes: Sequence[int],
        *,
        lost_events: Iterable[flow_pb2.LostEvent] = (),
        caught_up: bool = False,
    ) -> batch_pb2.BatchResponse:
        """One block; the four sequences run in parallel, as for FlowEncoder.encode_many."""
        raise NotImplementedError


class BatchReader:
    """The receiving end of one stream: puts the server's numbers into the reader's own tables."""

    node_names: list[str]
    """Names by Batch.nodes, in order of their arrival."""

    def __init__(self, endpoints: EndpointTable, policies: PolicyTable) -> None:
        raise NotImplementedError

    def from_batch(self, response: batch_pb2.BatchResponse) -> Batch:
        """Read one block; DecodeError when it is of another layout or contradicts itself."""
        raise NotImplementedError
