"""What is shown: flows of a store as rows of text and as the lines of a detail; knows no screen and no textual.

Sequence numbers go in, escaped text comes out; a row that the ring has given up meanwhile is None.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from observer.printer import escape, flow_type, host_names, identity_names, summary
from observer.store import Store
from observer.wire import FlowEncoder

CACHED_ROWS: Final = 4096

SIGNS: Final = {
    "FORWARDED": "✓",
    "REDIRECTED": "✓",
    "DROPPED": "✗",
    "ERROR": "!",
    "AUDIT": "~",
    "TRACED": "·",
    "TRANSLATED": "·",
    "VERDICT_UNKNOWN": "?",
}
"""A sign beside each verdict's word: colour is never alone."""


class Row(NamedTuple):
    """The cells of one flow; `verdict_name` is the bare word, for the style."""

    time: str
    node: str
    source: str
    arrow: str
    destination: str
    type: str
    verdict: str
    latency: str
    summary: str
    verdict_name: str


def duration(latency_ns: int) -> str:
    """A latency as people say it: 840us, 1.2ms, 3.4s."""
    if latency_ns < 1_000_000:
        return f"{latency_ns / 1e3:.0f}us"
    if latency_ns < 1_000_000_000:
        return f"{latency_ns / 1e6:.1f}ms"
    return f"{latency_ns / 1e9:.1f}s"


def policy_name(policy: Any) -> str:
    """A policy as `kubectl get` would take it: Kind namespace/name."""
    return f"{policy.kind} {policy.namespace}/{policy.name}".strip()


class FlowView:
    """Rows and details of one store."""

    def __init__(self, store: Store) -> None:
        self.store: Final = store
        self._encoder = FlowEncoder(store)
        self._rows: OrderedDict[int, Row] = OrderedDict()

    def flow(self, sequence: int) -> Any:
        """The flow.Flow with that sequence number, or None when the ring has given it up."""
        records, extras, nodes, sequences = self.store.take(np.array([sequence], np.int64))
        if sequence >= self.store.next or not len(sequences):
            return None
        return self._encoder.flow(records, extras[0], sequence, int(nodes[0]))

    def row(self, sequence: int) -> Row | None:
        """The cells of one flow, or None when the ring has given it up."""
        row = self._rows.get(sequence)
        if row is None:
            flow = self.flow(sequence)
            if flow is None:
                return None
            row = self._rows[sequence] = cells(flow)
            if len(self._rows) > CACHED_ROWS:
                self._rows.popitem(last=False)
        return row

    def detail(self, sequence: int) -> list[tuple[str, str]]:
        """Every field worth reading as (name, value) lines; empty when the ring has given the flow up."""
        flow = self.flow(sequence)
        return [] if flow is None else [(escape(name), escape(value)) for name, value in detail_lines(flow)]


def cells(flow: Any) -> Row:
    """The cells of a flow.Flow; the ends of a reply are swapped, so that the client stays left."""
    source, destination = host_names(flow)
    arrow = "->"
    if not flow.HasField("is_reply"):
        arrow = "<>"
    elif flow.is_reply.value:
        source, destination, arrow = destination, source, "<-"
    name = verdict_name(flow)
    return Row(
        time=clock(flow),
        node=escape(flow.node_name),
        source=escape(source),
        arrow=arrow,
        destination=escape(destination),
        type=escape(flow_type(flow)),
        verdict=f"{SIGNS[name]} {name}",
        latency=duration(flow.l7.latency_ns) if flow.l7.latency_ns else "",
        summary=escape(gist(flow)),
        verdict_name=name,
    )


def gist(flow: Any) -> str:
    """The summary, most telling first: of an HTTP flow status, method and path, then the host that it was asked of."""
    if flow.l7.WhichOneof("record") != "http":
        return summary(flow)
    http = flow.l7.http
    _, scheme, rest = http.url.partition("://")
    host, slash, path = rest.partition("/")
    where = (slash + path, host) if scheme else (http.url,)
    words = (str(http.code or ""), http.method, *where)
    return " ".join(word for word in words if word)


def clock(flow: Any) -> str:
    """The time of day in UTC, to the millisecond."""
    seconds = flow.time.seconds % 86_400
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{flow.time.nanos // 1_000_000:03}"


def verdict_name(flow: Any) -> str:
    """The verdict's enum name; a number that Hubble does not know yet is unknown."""
    value = flow.DESCRIPTOR.fields_by_name["verdict"].enum_type.values_by_number.get(flow.verdict)
    return value.name if value is not None and value.name in SIGNS else "VERDICT_UNKNOWN"


def detail_lines(flow: Any) -> Iterator[tuple[str, str]]:
    """The lines of the detail of a flow.Flow, most asked-for first: verdict and the rule that gave it."""
    enum_name = flow.DESCRIPTOR.fields_by_name["drop_reason_desc"].enum_type.values_by_number
    reason = enum_name.get(flow.drop_reason_desc)
    name = verdict_name(flow)
    yield "verdict", f"{SIGNS[name]} {name}" + (f"  {reason.name}" if reason and flow.drop_reason_desc else "")
    for word, policies in (
        ("denied by", [*flow.egress_denied_by, *flow.ingress_denied_by]),
        ("allowed by", [*flow.egress_allowed_by, *flow.ingress_allowed_by]),
    ):
        for policy in policies:
            yield word, policy_name(policy)
    if flow.drop_reason_desc and not (flow.egress_denied_by or flow.ingress_denied_by):
        yield "denied by", "default deny: a policy selects this side and none of them allows it"
    source, destination = host_names(flow)
    for side, host, identity, endpoint, names in zip(
        ("source", "destination"),
        (source, destination),
        identity_names(flow),
        (flow.source, flow.destination),
        (flow.source_names, flow.destination_names),
        strict=True,
    ):
        yield side, f"{host} {identity}".strip()
        if endpoint.workloads:
            yield "  workload", ", ".join(f"{workload.kind}/{workload.name}" for workload in endpoint.workloads)
        if endpoint.labels:
            yield "  labels", " ".join(endpoint.labels)
        if names:
            yield "  names", " ".join(names)
    if flow.HasField("IP"):
        yield "addresses", f"{flow.IP.source} to {flow.IP.destination}"
    yield "event", f"{flow_type(flow)}  {summary(flow)}".strip()
    if flow.HasField("l7"):
        yield from _l7_lines(flow.l7)
    ours = Struct()
    if flow.extensions.Is(Struct.DESCRIPTOR) and flow.extensions.Unpack(ours):
        yield from _extension_lines("", MessageToDict(ours))
    direction = flow.DESCRIPTOR.fields_by_name["traffic_direction"].enum_type.values_by_number.get(
        flow.traffic_direction
    )
    if direction is not None and flow.traffic_direction:
        yield "direction", direction.name.lower()
    yield "time", f"{flow.time.ToJsonString()}"
    if flow.node_name:
        yield "node", flow.node_name
    if flow.uuid:
        yield "uuid", flow.uuid


def _extension_lines(prefix: str, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What Hubble has no place for, as dotted names."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _extension_lines(f"{prefix}{name}.", value)
        elif isinstance(value, list):
            yield prefix + name, " ".join(map(str, value))
        elif value is not None:
            whole = isinstance(value, float) and value.is_integer()
            yield prefix + name, str(int(value) if whole else value)


def _l7_lines(l7: Any) -> Iterator[tuple[str, str]]:
    if l7.latency_ns:
        yield "latency", duration(l7.latency_ns)
    record = l7.WhichOneof("record")
    if record == "http":
        yield (
            "http",
            f"{l7.http.protocol} {l7.http.method} {l7.http.url}" + (f"  status {l7.http.code}" if l7.http.code else ""),
        )
        for header in l7.http.headers:
            yield f"  {header.key}", header.value
    elif record == "dns":
        yield "dns", f"{' '.join(l7.dns.qtypes)} {l7.dns.query}"
        if l7.dns.ips or l7.dns.cnames:
            yield "  answer", " ".join([*l7.dns.cnames, *l7.dns.ips])
    elif record == "kafka":
        yield "kafka", f"{l7.kafka.api_key} v{l7.kafka.api_version} topic {l7.kafka.topic}"
