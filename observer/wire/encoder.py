"""Records and extras to serialized flow.Flow, in batches (signatures; the body follows)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from observer.api import flow_pb2
from observer.extra import Extra
from observer.identity.endpoints import EndpointTable
from observer.policy.model import PolicyTable
from observer.record import Records


class FlowSource(Protocol):
    """What the encoder reads besides records: the store's tables, its node names and its UUIDs."""

    endpoints: EndpointTable
    policies: PolicyTable
    nodes: list[str]

    def uuid(self, sequence: int) -> str:
        """The UUID of the flow with that sequence number; always the same."""
        ...


class FlowEncoder:
    """Encodes the flows of one store; one thread each."""

    def __init__(self, source: FlowSource) -> None:
        raise NotImplementedError

    def encode_many(
        self, records: Records, extras: Sequence[Extra | None], sequences: Sequence[int], nodes: Sequence[int]
    ) -> list[bytes]:
        """Serialized flow.Flow of each record; the four sequences run in parallel (arrays of integers welcome)."""
        raise NotImplementedError

    def responses(
        self, records: Records, extras: Sequence[Extra | None], sequences: Sequence[int], nodes: Sequence[int]
    ) -> list[bytes]:
        """Serialized observer.GetFlowsResponse of each record: what GetFlows sends."""
        raise NotImplementedError

    def encode(self, records: Records, extra: Extra | None, sequence: int, node: int = 0) -> bytes:
        """Serialized flow.Flow of one record (an array of one, or a row of an array)."""
        raise NotImplementedError

    def flow(self, records: Records, extra: Extra | None, sequence: int, node: int = 0) -> flow_pb2.Flow:
        """The one and only materialiser: flow.Flow of one record."""
        raise NotImplementedError

    def response(self, flow: bytes, node: str, time_ns: int) -> bytes:
        """Serialized observer.GetFlowsResponse around a serialized flow.Flow."""
        raise NotImplementedError
