"""batch.proto both ways: blocks of raw records with the table entries and names that the other side lacks.

The writer is one stream's sending end and knows what went over it; the reader puts the server's numbers into tables of
its own, a column at a time. A server is a peer like any other: a block that contradicts itself is a DecodeError.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from observer.api import batch_pb2, flow_pb2
from observer.errors import DecodeError
from observer.extra import Extra
from observer.identity.endpoints import EndpointTable
from observer.policy.model import PolicyTable
from observer.record import LAYOUT, RECORD, RECORD_SIZE, Records
from observer.wire import FlowSource
from observer.wire.decoder import read_dns, read_endpoint, read_policy, read_tunnel
from observer.wire.parts import endpoint, policy, tunnel

_MAX_NODES: Final = 1 << 16  # two bytes a record
_ENDPOINT_COLUMNS: Final = ("source_endpoint", "destination_endpoint")
_POLICY_COLUMNS: Final = ("egress_rule", "ingress_rule")


@dataclass(slots=True)
class Batch:
    """What one BatchResponse says, in the numbers of the reader's own tables."""

    records: Records
    extras: list[tuple[int, Extra]]  # as Store.append takes them
    sequences: npt.NDArray[np.uint64]  # the server's
    nodes: npt.NDArray[np.uint16]  # indices into the reader's `node_names`
    lost_events: list[flow_pb2.LostEvent]
    caught_up: bool


class BatchWriter:
    """The sending end of one stream: knows what was sent on it."""

    def __init__(self, source: FlowSource) -> None:
        self._source = source
        self._endpoints: set[int] = {0}
        self._policies: set[int] = {0}
        self._nodes = 0

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
        out = batch_pb2.BatchResponse(
            layout=LAYOUT,
            records=records.tobytes(),
            count=len(records),
            sequences=np.asarray(sequences, np.uint64).tolist(),
            lost_events=lost_events,
            caught_up=caught_up,
        )
        for number in self._unsent(records, _ENDPOINT_COLUMNS, self._endpoints):
            end = self._source.endpoints[number]
            entry = out.endpoints.add(number=number, names=end.names)
            entry.endpoint.ParseFromString(endpoint(end, number, end.identity))
            if end.service is not None:
                entry.service.namespace, entry.service.name = end.service
        for number in self._unsent(records, _POLICY_COLUMNS, self._policies):
            out.policies.add(number=number).policy.ParseFromString(policy(self._source.policies[number]))
        names = self._source.nodes
        if len(names) > self._nodes:
            out.node_names.extend(names[self._nodes :])
            self._nodes = len(names)
        node_numbers = np.asarray(nodes, "<u2")
        if node_numbers.any():
            out.nodes = node_numbers.tobytes()
        for index, extra in enumerate(extras):
            if extra is not None:
                _write_extra(out.extras.add(index=index), extra)
        return out

    @staticmethod
    def _unsent(records: Records, columns: tuple[str, str], sent: set[int]) -> list[int]:
        """The table numbers in two columns that were not sent on this stream; they count as sent from now on."""
        found = np.unique(np.concatenate([records[column] for column in columns])).tolist()
        unsent = [number for number in found if number not in sent]
        sent.update(unsent)
        return unsent


class BatchReader:
    """The receiving end of one stream: puts the server's numbers into the reader's own tables."""

    def __init__(self, endpoints: EndpointTable, policies: PolicyTable) -> None:
        self.node_names: list[str] = []
        """Names by Batch.nodes, in order of their arrival."""
        self._endpoints = endpoints
        self._policies = policies
        self._endpoint_numbers: dict[int, int] = {0: 0}
        self._policy_numbers: dict[int, int] = {0: 0}

    def from_batch(self, response: batch_pb2.BatchResponse) -> Batch:
        """Read one block; DecodeError when it is of another layout or contradicts itself."""
        if response.layout != LAYOUT:
            raise DecodeError(
                f"the server's records have layout {response.layout}, this client reads layout {LAYOUT}: "
                "use a server and a client of the same version"
            )
        count = response.count
        if len(response.records) != count * RECORD_SIZE or len(response.sequences) != count:
            raise DecodeError(f"the server sent a block of {count} flows that holds another number of them")
        if response.nodes and len(response.nodes) != 2 * count:
            raise DecodeError(
                f"the server sent a block of {count} flows with {len(response.nodes)} bytes of node numbers"
            )
        for end in response.endpoints:
            named = (end.service.namespace, end.service.name) if end.HasField("service") else None
            entry = read_endpoint(end.endpoint, tuple(end.names), named)
            self._endpoint_numbers[end.number] = self._endpoints.intern(entry)
        for rule in response.policies:
            self._policy_numbers[rule.number] = self._policies.intern(read_policy(rule.policy))
        self.node_names.extend(response.node_names)
        if len(self.node_names) > _MAX_NODES:
            raise DecodeError(f"the server names {len(self.node_names)} nodes on one stream, {_MAX_NODES} at most")
        records = np.frombuffer(response.records, RECORD).copy()
        for column in _ENDPOINT_COLUMNS:
            _renumber(records, column, self._endpoint_numbers)
        for column in _POLICY_COLUMNS:
            _renumber(records, column, self._policy_numbers)
        nodes = np.frombuffer(response.nodes, "<u2") if response.nodes else np.zeros(count, np.uint16)
        if count and int(nodes.max()) >= max(len(self.node_names), 1):
            raise DecodeError(f"the server sent flows of node {int(nodes.max())} before it said its name")
        return Batch(
            records=records,
            extras=[(index, _read_extra(extra)) for index, extra in _in_order(response.extras, count)],
            sequences=np.fromiter(response.sequences, np.uint64, count),
            nodes=nodes,
            lost_events=list(response.lost_events),
            caught_up=response.caught_up,
        )


def _renumber(records: Records, column: str, numbers: dict[int, int]) -> None:
    """Put the server's numbers in a column into ours."""
    theirs, where = np.unique(records[column], return_inverse=True)
    try:
        ours = [numbers[number] for number in theirs.tolist()]
    except KeyError as unknown:
        raise DecodeError(f"the server sent flows with {column} {unknown} before it said what that is") from None
    records[column] = np.array(ours, np.uint32)[where]


def _in_order(extras: Iterable[batch_pb2.RecordExtra], count: int) -> Iterable[tuple[int, batch_pb2.RecordExtra]]:
    last = -1
    for extra in extras:
        if not last < extra.index < count:
            raise DecodeError(f"the server sent extras out of order: {extra.index} after {last} of {count}")
        last = extra.index
        yield extra.index, extra


def _write_extra(out: batch_pb2.RecordExtra, extra: Extra) -> None:
    if extra.imported:
        out.imported = extra.imported  # holds everything else
        return
    out.texts.extend(extra.texts)
    out.head = extra.head
    if extra.dns is not None:
        said = extra.dns
        out.dns.SetInParent()
        out.dns.ips.extend(said.ips)
        out.dns.cnames.extend(said.cnames)
        out.dns.ttl = said.ttl
        out.dns.qtypes.extend(said.qtypes)
        out.dns.rrtypes.extend(said.rrtypes)
    out.source_names.extend(extra.source_names)
    out.destination_names.extend(extra.destination_names)
    if extra.tunnel is not None:
        out.tunnel.ParseFromString(tunnel(extra.tunnel))
    out.trace_id = extra.trace_id
    if extra.extension:
        out.extension = json.dumps(extra.extension, separators=(",", ":")).encode()


def _read_extra(extra: batch_pb2.RecordExtra) -> Extra:
    return Extra(
        texts=tuple(extra.texts),
        head=extra.head,
        dns=read_dns(extra.dns) if extra.HasField("dns") else None,
        source_names=tuple(extra.source_names),
        destination_names=tuple(extra.destination_names),
        tunnel=read_tunnel(extra.tunnel) if extra.HasField("tunnel") else None,
        trace_id=extra.trace_id,
        extension=_read_extension(extra.extension) if extra.extension else None,
        imported=extra.imported,
    )


def _read_extension(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"the server sent an extension that is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise DecodeError("the server sent an extension that is no JSON object")
    return value
