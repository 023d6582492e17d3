"""What the server answers: requests in, serialized messages out, flow by flow or block by block, over one store.

Knows no gRPC: a stream is an iterator, a cancelled call is a function that says so. FilterError and InvalidQueryError
are raised before the first message.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from observer import __version__
from observer.api import batch_pb2, flow_pb2, observer_pb2
from observer.batch import BatchWriter
from observer.query import Lost, Query, Selection, select
from observer.record import LAYOUT, empty
from observer.service.mask import FieldMask
from observer.store import Store
from observer.wire import FlowEncoder

NAMESPACE_AGE_NS: Final = 3_600_000_000_000
"""How long a namespace is told after its last flow."""
RATE_NS: Final = 60_000_000_000
"""The time over which `flows_rate` is taken."""
BLOCK: Final = 2048
"""Records in one batch at most: about one megabyte."""

Cancelled = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Condition:
    """What a live capture is attached to, and how full its tables are: name, entries, most entries."""

    attached: Sequence[str] = ()
    pressures: Sequence[tuple[str, int, int]] = ()


@dataclass(frozen=True, slots=True)
class About:
    """What the server is: told by `status`. `condition` is asked each time, by any thread."""

    node_name: str = ""
    tier: str = ""
    tier_reason: str = ""
    policy_mode: str = ""
    condition: Callable[[], Condition] = Condition
    started_ns: int = field(default_factory=time.time_ns)


class Answers:
    """Every answer that needs the store."""

    def __init__(self, store: Store, about: About, *, ignore_field_mask: bool = False) -> None:
        self._store = store
        self._about = about
        self._ignore_field_mask = ignore_field_mask

    def flows(self, request: observer_pb2.GetFlowsRequest, cancelled: Cancelled) -> Iterator[bytes]:
        """GetFlowsResponse after GetFlowsResponse; FilterError and InvalidQueryError come at once, not later."""
        query = Query.from_request(request)
        paths = () if self._ignore_field_mask else request.field_mask.paths
        return self.selected(query, FieldMask(paths) if paths else None, FlowEncoder(self._store), cancelled)

    def selected(
        self, query: Query, mask: FieldMask | None, encoder: FlowEncoder, cancelled: Cancelled
    ) -> Iterator[bytes]:
        """The same for a query that was read already, with an encoder that may serve several."""
        # Not within the generator: what is new to a follower counts from the call.
        return self._responses(select(self._store, query, cancelled=cancelled), mask, encoder)

    def _responses(
        self, selections: Iterator[Selection | Lost], mask: FieldMask | None, encoder: FlowEncoder
    ) -> Iterator[bytes]:
        for found in selections:
            if isinstance(found, Lost):
                response = observer_pb2.GetFlowsResponse(lost_events=lost_event(found), node_name=self._about.node_name)
                response.time.CopyFrom(response.lost_events.last)
                yield response.SerializeToString()
            elif mask is None:
                yield from encoder.responses(
                    found.records, found.extras, found.sequences.tolist(), found.nodes.tolist()
                )
            else:
                yield from _masked(encoder, found, mask)

    def batches(self, request: observer_pb2.GetFlowsRequest, cancelled: Cancelled) -> Iterator[bytes]:
        """BatchResponse after BatchResponse; the same selectors and errors as `flows`."""
        return self.selected_batches(Query.from_request(request), cancelled)

    def selected_batches(self, query: Query, cancelled: Cancelled) -> Iterator[bytes]:
        """The same for a query that was read already."""
        return self._blocks(select(self._store, query, cancelled=cancelled))

    def _blocks(self, selections: Iterator[Selection | Lost]) -> Iterator[bytes]:
        writer = BatchWriter(self._store)
        for found in selections:
            if isinstance(found, Lost):
                yield writer.to_batch(empty(0), [], [], [], lost_events=[lost_event(found)]).SerializeToString()
            elif not len(found):
                yield writer.to_batch(empty(0), [], [], [], caught_up=True).SerializeToString()
            else:
                for start in range(0, len(found), BLOCK):
                    part = slice(start, start + BLOCK)
                    yield writer.to_batch(
                        found.records[part],
                        found.extras[part],
                        found.sequences[part].tolist(),
                        found.nodes[part].tolist(),
                    ).SerializeToString()

    def server_status(self) -> observer_pb2.ServerStatusResponse:
        """Counts of the store, as Hubble tells them; the counts of nodes are Relay's and stay unset."""
        store = self._store
        held, seen = len(store), store.next
        return observer_pb2.ServerStatusResponse(
            num_flows=held,
            max_flows=store.capacity,
            seen_flows=seen,
            uptime_ns=time.time_ns() - self._about.started_ns,
            version=f"flowscope v{__version__}",
            flows_rate=flows_rate(store, time.time_ns()),
        )

    def status(self) -> batch_pb2.StatusResponse:
        """The same and what Hubble has no place for: tier, policy mode, every loss by stage and reason."""
        about = self._about
        condition = about.condition()
        return batch_pb2.StatusResponse(
            server=self.server_status(),
            node_name=about.node_name,
            tier=about.tier,
            tier_reason=about.tier_reason,
            policy_mode=about.policy_mode,
            record_layout=LAYOUT,
            losses=[
                batch_pb2.LossCount(stage=stage, reason=reason, number=number)
                for stage, reason, number in self._store.losses
            ],
            attached=condition.attached,
            pressures=[
                batch_pb2.Pressure(table=table, entries=entries, most=most)
                for table, entries, most in condition.pressures
            ],
        )

    def namespaces(self) -> observer_pb2.GetNamespacesResponse:
        """The namespaces of the flows held that are at most an hour older than the newest."""
        store = self._store
        # A source may move on between two columns; rows of the longer one's head are then simply too old.
        columns = [store.hot(name) for name in ("time_ns", "source_endpoint", "destination_endpoint")]
        count = min(map(len, columns))
        times, sources, destinations = (column[len(column) - count :] for column in columns)
        if count:
            newest = times.max()
            recent = times >= newest - min(int(newest), NAMESPACE_AGE_NS)
            numbers = np.unique(np.concatenate([sources[recent], destinations[recent]]))
            endpoints = [store.endpoints[number] for number in numbers.tolist()]
        else:
            endpoints = []
        pairs = sorted({(endpoint.cluster, endpoint.namespace) for endpoint in endpoints if endpoint.namespace})
        return observer_pb2.GetNamespacesResponse(
            namespaces=[observer_pb2.Namespace(cluster=cluster, namespace=namespace) for cluster, namespace in pairs]
        )


def flows_rate(store: Store, now_ns: int) -> float:
    """Flows a second over the last minute, or over the time that the store spans if that is less."""
    times = store.hot("time_ns").astype(np.int64)
    recent = times[times >= now_ns - RATE_NS]
    if not len(recent):
        return 0.0
    span_ns = RATE_NS if len(recent) < len(times) else max(now_ns - int(recent.min()), 1)
    return len(recent) * 1e9 / span_ns


def lost_event(lost: Lost) -> flow_pb2.LostEvent:
    """The LostEvent of a reader that was overtaken."""
    event = flow_pb2.LostEvent(source=flow_pb2.HUBBLE_RING_BUFFER, num_events_lost=lost.count)
    event.first.seconds, event.first.nanos = divmod(lost.first_ns, 1_000_000_000)
    event.last.seconds, event.last.nanos = divmod(lost.last_ns, 1_000_000_000)
    return event


def _masked(encoder: FlowEncoder, found: Selection, mask: FieldMask) -> Iterator[bytes]:
    for serialized in encoder.encode_many(found.records, found.extras, found.sequences.tolist(), found.nodes.tolist()):
        flow = mask.apply(flow_pb2.Flow.FromString(serialized))
        response = observer_pb2.GetFlowsResponse(flow=flow, node_name=flow.node_name)
        if flow.HasField("time"):
            response.time.CopyFrom(flow.time)
        yield response.SerializeToString()
