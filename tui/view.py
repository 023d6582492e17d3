"""What is shown of single flows: rows of text, the tree of a detail, bytes as hex; knows no screen and no textual.

Sequence numbers go in, escaped text comes out; a row that the ring has given up meanwhile is None.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from observer.api import flow_pb2
from observer.filters.fields import RCODES
from observer.printer import escape, flow_type, host_names, identity_names, kernel_drop_reason, summary
from observer.store import Store
from observer.wire import FlowEncoder
from tui.columns import cut
from tui.look import Look

CACHED_ROWS: Final = 4096
CELL_MAX: Final = 512
"""Characters of a cell that are kept: no terminal is wider, and the network's texts may be long."""
HEX_WIDTH: Final = 16
"""Bytes in a line of hex."""

DROP: Final = 1
"""flow.CiliumEventType of a drop."""
UNNAMED_RULE: Final = "default deny: a policy selects this side and none of them allows it"


class Row(NamedTuple):
    """The cells of one flow; the time is written by who knows how."""

    time_ns: int
    node: str
    source: str
    arrow: str
    destination: str
    protocol: str
    type: str
    verdict: str  # the bare word: sign and colour are the look's
    latency: str
    policy: str
    direction: str
    identity: str
    summary: str


class Line(NamedTuple):
    """A line of a detail: how deep it stands, its name and its value."""

    depth: int
    name: str
    value: str


def duration(latency_ns: float) -> str:
    """A latency as people say it: 840us, 1.2ms, 3.4s."""
    if latency_ns < 1_000_000:
        return f"{latency_ns / 1e3:.0f}us"
    if latency_ns < 1_000_000_000:
        return f"{latency_ns / 1e6:.1f}ms"
    return f"{latency_ns / 1e9:.1f}s"


def span(span_ns: int) -> str:
    """A span as people say it, in its two largest units: 9s, 6m 36s, 22h 3m, 2d 1h."""
    seconds = span_ns // 1_000_000_000
    days, seconds = divmod(seconds, 86_400)
    hours, seconds = divmod(seconds, 3_600)
    parts = [(days, "d"), (hours, "h"), (seconds // 60, "m"), (seconds % 60, "s")]
    told = [f"{number}{unit}" for number, unit in parts if number]
    return " ".join(told[:2]) or "0s"


def clock(time_ns: int, *, local: bool = False) -> str:
    """The time of day to the millisecond, in UTC or as the machine's clock says."""
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    if local:
        now = time.localtime(seconds)
        text = f"{now.tm_hour:02}:{now.tm_min:02}:{now.tm_sec:02}"
    else:
        day = seconds % 86_400
        text = f"{day // 3600:02}:{day // 60 % 60:02}:{day % 60:02}"
    return f"{text}.{nanos // 1_000_000:03}"


def delta(time_ns: int) -> str:
    """A time since another one, as it stands in the time column: +0.000123, +12.345678."""
    sign = "-" if time_ns < 0 else "+"
    return f"{sign}{abs(time_ns) / 1e9:.6f}"


def policy_name(policy: Any) -> str:
    """A policy as `kubectl get` would take it: Kind namespace/name."""
    name = f"{policy.namespace}/{policy.name}" if policy.namespace else policy.name
    return f"{policy.kind} {name}".strip()


class FlowView:
    """Rows and details of one store."""

    def __init__(self, store: Store) -> None:
        self.store: Final = store
        self._encoder = FlowEncoder(store)
        self._rows: OrderedDict[int, Row] = OrderedDict()

    def flow(self, sequence: int) -> Any:
        """The flow.Flow with that sequence number, or None when the ring has given it up."""
        if not self.store.first <= sequence < self.store.next:
            return None
        records, extras, nodes, sequences = self.store.take(np.array([sequence], np.int64))
        if not len(sequences):
            return None
        return self._encoder.flow(records, extras[0], sequence, int(nodes[0]))

    def fetch(self, sequences: Sequence[int]) -> None:
        """Make the rows of a page together: half the cost of one by one."""
        wanted = np.array([one for one in sequences if one not in self._rows], np.int64)
        if not len(wanted):
            return
        records, extras, nodes, whole = self.store.take(wanted)
        numbers = whole.tolist()
        for sequence, flow in zip(
            numbers, self._encoder.encode_many(records, extras, numbers, nodes.tolist()), strict=True
        ):
            self._keep(sequence, cells(flow_pb2.Flow.FromString(flow)))

    def _keep(self, sequence: int, row: Row) -> None:
        self._rows[sequence] = row
        if len(self._rows) > CACHED_ROWS:
            self._rows.popitem(last=False)

    def row(self, sequence: int) -> Row | None:
        """The cells of one flow, or None when the ring has given it up."""
        row = self._rows.get(sequence)
        if row is None:
            flow = self.flow(sequence)
            if flow is None:
                return None
            row = cells(flow)
            self._keep(sequence, row)
        return row

    def detail(self, sequence: int, look: Look) -> list[Line]:
        """Every field as lines of a tree, most asked-for first; empty when the ring has given the flow up."""
        flow = self.flow(sequence)
        if flow is None:
            return []
        return [Line(line.depth, escape(line.name), escape(line.value)) for line in detail_lines(flow, look)]


def cells(flow: Any) -> Row:
    """The cells of a flow.Flow; the ends of a reply are swapped, so that the client stays left."""
    source, destination = host_names(flow)
    one, other = identity_names(flow)
    arrow = "->"
    if not flow.HasField("is_reply"):
        arrow = "<>"
    elif flow.is_reply.value:
        source, destination, one, other, arrow = destination, source, other, one, "<-"
    return Row(
        time_ns=flow.time.seconds * 1_000_000_000 + flow.time.nanos,
        node=_cell(flow.node_name),
        source=_cell(source),
        arrow=arrow,
        destination=_cell(destination),
        protocol=_cell(protocol(flow)),
        type=_cell(flow_type(flow)),
        verdict=verdict_name(flow),
        latency=duration(flow.l7.latency_ns) if flow.l7.latency_ns else "",
        policy=_cell(", ".join(policy_name(policy) for _, policy in deciding(flow))),
        direction=direction(flow),
        identity=_cell(f"{one} {other}"),
        summary=_cell(gist(flow)),
    )


def _cell(text: str) -> str:
    return escape(cut(text, CELL_MAX))


def protocol(flow: Any) -> str:
    """What was spoken: the L7 protocol with its version where it says one, else the L4 one."""
    if flow.HasField("l7"):
        record = flow.l7.WhichOneof("record") or "L7"
        if record == "http":
            ours = Struct()
            if flow.extensions.Is(Struct.DESCRIPTOR) and flow.extensions.Unpack(ours) and "grpc" in ours.fields:
                return "gRPC"
            return str(flow.l7.http.protocol or "HTTP")
        return {"dns": "DNS", "kafka": "Kafka"}.get(record, record)
    return flow.l4.WhichOneof("protocol") or (flow.IP.ipVersion and "IP") or ""


def gist(flow: Any) -> str:
    """The summary, most telling first: a row has little room, and says elsewhere which protocol is spoken.

    Of HTTP status, method and path, then the host that it was asked of; of DNS what went wrong, the name, the answer.
    """
    record = flow.l7.WhichOneof("record")
    if record == "dns":
        return _dns_gist(flow.l7)
    if record != "http":
        refused = kernel_drop_reason(flow) if flow.event_type.type == DROP else ""
        text = summary(flow).removeprefix("TCP Flags: ")
        return f"{refused}  {text}" if refused else text
    http = flow.l7.http
    _, scheme, rest = http.url.partition("://")
    host, slash, path = rest.partition("/")
    where = (slash + path, host) if scheme else (http.url,)
    words = (str(http.code or ""), http.method, *where)
    return " ".join(word for word in words if word)


def _dns_gist(l7: Any) -> str:
    dns = l7.dns
    asked = " ".join((*dns.qtypes, dns.query))
    if l7.type != flow_pb2.RESPONSE:
        return asked
    if dns.rcode:
        return f"{RCODES[dns.rcode] if dns.rcode < len(RCODES) else f'RCODE {dns.rcode}'} {asked}"
    return f"{asked} -> {' '.join((*dns.ips, *dns.cnames)) or 'nothing'}"


def verdict_name(flow: Any) -> str:
    """The verdict's enum name; a number that Hubble does not know yet is unknown."""
    value = flow.DESCRIPTOR.fields_by_name["verdict"].enum_type.values_by_number.get(flow.verdict)
    return str(value.name) if value is not None else "VERDICT_UNKNOWN"


def direction(flow: Any) -> str:
    """ingress, egress or nothing."""
    known = flow.DESCRIPTOR.fields_by_name["traffic_direction"].enum_type.values_by_number.get(flow.traffic_direction)
    return str(known.name.lower()) if known is not None and flow.traffic_direction else ""


def deciding(flow: Any) -> list[tuple[str, Any]]:
    """The policies that decided, each with how: those that refused, else those that allowed."""
    denied = [("denied by", policy) for policy in (*flow.egress_denied_by, *flow.ingress_denied_by)]
    return denied or [("allowed by", policy) for policy in (*flow.egress_allowed_by, *flow.ingress_allowed_by)]


def detail_lines(flow: Any, look: Look) -> Iterator[Line]:
    """The lines of the detail of a flow.Flow: verdict and the rule that gave it, the ends, what was said, the rest."""
    reasons = flow.DESCRIPTOR.fields_by_name["drop_reason_desc"].enum_type.values_by_number
    reason = reasons.get(flow.drop_reason_desc)
    name = verdict_name(flow)
    sign = look.signs.get(name, "?")
    why = reason.name if reason is not None and flow.drop_reason_desc else kernel_drop_reason(flow)
    yield Line(0, "verdict", f"{sign} {name}  {why}".rstrip())
    for word, policy in deciding(flow):
        yield Line(0, word, policy_name(policy))
        if policy.labels:
            yield Line(1, "labels", " ".join(policy.labels))
        if policy.revision:
            yield Line(1, "revision", str(policy.revision))
    if flow.drop_reason_desc == flow_pb2.POLICY_DENIED and not (flow.egress_denied_by or flow.ingress_denied_by):
        yield Line(0, "denied by", UNNAMED_RULE)
    if side := direction(flow):
        yield Line(0, "direction", side)
    yield from _ends(flow)
    yield Line(0, "event", flow_type(flow))
    if text := summary(flow):
        yield Line(1, "summary", text)
    if flow.HasField("l7"):
        yield from _l7_lines(flow.l7)
    ours = Struct()
    if flow.extensions.Is(Struct.DESCRIPTOR) and flow.extensions.Unpack(ours):
        yield from tree(MessageToDict(ours), 0)
    yield Line(0, "time", flow.time.ToJsonString())
    if flow.node_name:
        yield Line(0, "node", flow.node_name)
    if flow.uuid:
        yield Line(0, "uuid", flow.uuid)
    told = MessageToDict(flow, preserving_proto_field_name=True)
    rest = {field: value for field, value in told.items() if field not in TOLD}
    if rest:
        yield Line(0, "more", "the other fields, as Hubble names them")
        yield from tree(rest, 1)


TOLD: Final = frozenset(
    {
        *("time", "verdict", "drop_reason", "drop_reason_desc", "source", "destination", "IP", "l4", "l7", "uuid"),
        *("Type", "node_name", "source_names", "destination_names", "source_service", "destination_service"),
        *("egress_allowed_by", "ingress_allowed_by", "egress_denied_by", "ingress_denied_by", "traffic_direction"),
        *("Summary", "extensions", "is_reply", "reply"),
    }
)
"""Fields of flow.Flow that a detail tells in words of its own."""


def _ends(flow: Any) -> Iterator[Line]:
    """Both ends, with all that is known of them."""
    hosts = host_names(flow)
    addresses = (flow.IP.source, flow.IP.destination)
    macs = (flow.ethernet.source, flow.ethernet.destination)
    for place, side in enumerate(("source", "destination")):
        endpoint = getattr(flow, side)
        yield Line(0, side, f"{hosts[place]} {identity_names(flow)[place]}")
        if endpoint.workloads:
            yield Line(1, "workload", ", ".join(f"{one.kind}/{one.name}" for one in endpoint.workloads))
        if endpoint.labels:
            yield Line(1, "labels", " ".join(endpoint.labels))
        service = getattr(flow, f"{side}_service")
        if service.name:
            yield Line(1, "service", f"{service.namespace}/{service.name}".strip("/"))
        names = getattr(flow, f"{side}_names")
        if names:
            yield Line(1, "names", " ".join(names))
        if endpoint.cluster_name:
            yield Line(1, "cluster", endpoint.cluster_name)
        if addresses[place]:
            yield Line(1, "address", addresses[place])
        if macs[place]:
            yield Line(1, "mac", macs[place])
    layer4 = flow.l4.WhichOneof("protocol")
    if layer4:
        fields = MessageToDict(getattr(flow.l4, layer4), preserving_proto_field_name=True)
        flags = fields.pop("flags", None)
        parts = [f"{name.removesuffix('_port')} {value}" for name, value in fields.items()]
        if flags:
            parts.append("flags " + " ".join(flags))
        yield Line(0, "transport", f"{layer4}  {', '.join(parts)}")
    if flow.HasField("is_reply"):
        yield Line(0, "reply", "yes" if flow.is_reply.value else "no")


def tree(values: dict[str, Any], depth: int) -> Iterator[Line]:
    """JSON values as lines."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield Line(depth, name, "")
            yield from tree(value, depth + 1)
        elif isinstance(value, list):
            if any(isinstance(one, dict) for one in value):
                for place, one in enumerate(value):
                    yield Line(depth, f"{name} {place + 1}", "" if isinstance(one, dict) else str(one))
                    if isinstance(one, dict):
                        yield from tree(one, depth + 1)
            else:
                yield Line(depth, name, " ".join(map(str, value)))
        elif value is not None:
            whole = isinstance(value, float) and value.is_integer()
            yield Line(depth, name, str(int(value) if whole else value))


def _l7_lines(l7: Any) -> Iterator[Line]:
    record = l7.WhichOneof("record")
    if record == "http":
        status = f"  status {l7.http.code}" if l7.http.code else ""
        yield Line(0, "http", f"{l7.http.protocol} {l7.http.method} {l7.http.url}{status}")
        for header in l7.http.headers:
            yield Line(1, header.key, header.value)
    elif record == "dns":
        yield Line(0, "dns", f"{' '.join(l7.dns.qtypes)} {l7.dns.query}")
        rcode = l7.dns.rcode
        if l7.dns.ips or l7.dns.cnames:
            yield Line(1, "answer", " ".join([*l7.dns.cnames, *l7.dns.ips]))
        if rcode:
            yield Line(1, "rcode", str(rcode))
        if l7.dns.ttl:
            yield Line(1, "ttl", f"{l7.dns.ttl}s")
    elif record == "kafka":
        yield Line(0, "kafka", f"{l7.kafka.api_key} v{l7.kafka.api_version} topic {l7.kafka.topic}")
        if l7.kafka.error_code:
            yield Line(1, "error", str(l7.kafka.error_code))
        yield Line(1, "correlation", str(l7.kafka.correlation_id))
    if l7.latency_ns:
        yield Line(0, "latency", duration(l7.latency_ns))


def byte_lines(data: bytes) -> list[str]:
    """Bytes as the lines of a text where they are one, else as hex."""
    printable = sum(32 <= byte < 127 or byte in b"\r\n\t" for byte in data[:1024])
    if not data or printable < 0.95 * min(len(data), 1024):
        return hex_lines(data)
    return [escape(line.rstrip("\r")) for line in data.decode("utf-8", "backslashreplace").split("\n")]


def hex_lines(data: bytes, *, width: int = HEX_WIDTH) -> list[str]:
    """Bytes as offset, hex and what of them is printable ASCII."""
    lines = []
    for start in range(0, len(data), width):
        part = data[start : start + width]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:04x}  {part.hex(' '):<{3 * width - 1}}  {text}")
    return lines
