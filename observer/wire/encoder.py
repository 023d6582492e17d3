"""Records and extras to serialized flow.Flow, in batches: written by hand, because objects cost ten times as much.

What flows share is encoded once and kept: the story (both endpoints, verdict, event, policies, node), the addresses,
the request. Per flow remain time, UUID, ports, latency and counters. Field order on the wire is free in protobuf and
not that of the .proto here. The same bytes make the materialised flow, so that filters judge what clients will see.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
from google.protobuf.any_pb2 import Any
from google.protobuf.timestamp_pb2 import Timestamp

from observer.api import flow_pb2, observer_pb2
from observer.extra import Extra
from observer.identity.endpoints import EndpointTable
from observer.policy.model import PolicyTable
from observer.record import (
    POLICY_DENIED,
    RECORD_SIZE,
    Direction,
    EventType,
    Flags,
    ObservationPoint,
    Present,
    Records,
    Verdict,
)
from observer.record import Protocol as IpProtocol
from observer.wire import parts, summary
from observer.wire.layer7 import Layer7Encoder
from observer.wire.protobuf import (
    Cache,
    delimited,
    encode_varint,
    keep,
    low_14,
    number,
    string,
    strings,
    struct_entry,
    tag,
    varints,
)

# One record cut into what the encoder treats alike; the fields of record.RECORD in order.
_ROW: Final = struct.Struct("<5Q8x3I24s5I44s8H16s4s16s304s")
_ENDS: Final = struct.Struct("<6I")
assert _ROW.size == RECORD_SIZE

_F: Final = {field.name: tag(flow_pb2.Flow, field.name) for field in flow_pb2.Flow.DESCRIPTOR.fields}
_TIME: Final = _F["time"]
_UUID: Final = _F["uuid"]
_L4: Final = _F["l4"]
_L7: Final = _F["l7"]
_SUMMARY: Final = _F["Summary"]
_EXTENSIONS: Final = _F["extensions"]
_EVENT_TYPE: Final = tag(flow_pb2.CiliumEventType, "type")
_EVENT_SUB_TYPE: Final = tag(flow_pb2.CiliumEventType, "sub_type")
_INTERFACE_INDEX: Final = tag(flow_pb2.NetworkInterface, "index")
_SECONDS: Final = tag(Timestamp, "seconds")
_NANOS: Final = tag(Timestamp, "nanos")
_TO_ENDPOINT: Final = flow_pb2.TraceObservationPoint.TO_ENDPOINT
_POLICY_DENIALS: Final = (POLICY_DENIED, flow_pb2.DropReason.POLICY_DENY)

_RESPONSE_FLOW: Final = tag(observer_pb2.GetFlowsResponse, "flow")
_RESPONSE_NODE: Final = tag(observer_pb2.GetFlowsResponse, "node_name")
_RESPONSE_TIME: Final = tag(observer_pb2.GetFlowsResponse, "time")

_STRUCT_URL: Final = string(tag(Any, "type_url"), "type.googleapis.com/google.protobuf.Struct") + tag(Any, "value")
_BYTES_ENTRY: Final = struct_entry("bytes", 0)[:-8]
_PACKETS_ENTRY: Final = struct_entry("packets", 0)[:-8]
_COUNTERS: Final = struct.Struct(f"<{len(_BYTES_ENTRY)}sd{len(_PACKETS_ENTRY)}sd")
_COUNTERS_ONLY: Final = _STRUCT_URL + encode_varint(_COUNTERS.size)
_COUNTERS_HEAD: Final = _EXTENSIONS + encode_varint(len(_COUNTERS_ONLY) + _COUNTERS.size) + _COUNTERS_ONLY

# Members of IntFlag and IntEnum cost a microsecond in every `&` and `==`; hot paths take plain integers.
_IS_REPLY: Final = Present.IS_REPLY.value
_ICMP: Final = Present.ICMP.value
_MAC: Final = Present.MAC.value
_TCP_FLAGS: Final = Present.TCP_FLAGS.value
_PRESENT_COUNTERS: Final = Present.COUNTERS.value
_VLAN: Final = Present.VLAN.value
_PROCESS: Final = Present.PROCESS.value
_L7_INCOMPLETE: Final = Flags.L7_INCOMPLETE.value
_IMPORTED: Final = Flags.IMPORTED.value
_REPLY_OR_ICMP: Final = _IS_REPLY | _ICMP
_VLAN_OR_PROCESS: Final = _VLAN | _PROCESS


class FlowSource(Protocol):
    """What the encoder reads besides records: the store's tables, its node names and its UUIDs."""

    endpoints: EndpointTable
    policies: PolicyTable
    nodes: list[str]

    def uuid(self, sequence: int) -> str:
        """The UUID of the flow with that sequence number; always the same."""
        ...


class Story(NamedTuple):
    """What flows of the same ends and the same event share, encoded."""

    fields: bytes
    source_names: bytes
    destination_names: bytes
    heads: tuple[bytes, ...]  # what comes before the ports of a protocol that has them, by their length
    l4: bytes  # the field Flow.l4 whole for one without
    summary: bytes  # the field Flow.Summary of a packet that is not TCP
    is_tcp: bool
    family: int


def _plain(values: Iterable[int]) -> Iterable[int]:
    """Numpy's integers cost ten times a Python one."""
    return values.tolist() if isinstance(values, np.ndarray) else values


def _tcp_summary(flags: int) -> bytes:
    return delimited(_SUMMARY, summary.tcp(flags).encode())


_seconds: Final[Cache[int]] = Cache(lambda second: number(_SECONDS, second))


def timestamp(time_ns: int) -> bytes:
    """A google.protobuf.Timestamp."""
    second, nanos = divmod(time_ns, 1_000_000_000)
    if nanos >> 14:
        return _seconds[second] + _NANOS + low_14[nanos & 0x3FFF] + varints[nanos >> 14]
    return _seconds[second] + (_NANOS + varints[nanos] if nanos else b"")


class FlowEncoder:
    """Encodes the flows of one store. Threads may share one: what it keeps is only ever put in and looked up whole."""

    def __init__(self, source: FlowSource) -> None:
        self._source = source
        self._stories: dict[tuple[bytes, bytes, int, int, int], Story] = {}
        self._addresses: dict[tuple[bytes, int, int], bytes] = {}
        self._layer7 = Layer7Encoder()
        self._tcp_summaries = Cache(_tcp_summary)
        self._processes: Cache[tuple[int, bytes]] = Cache(
            lambda key: struct_entry("process", {"pid": key[0], "comm": key[1]})
        )
        self._vlans: Cache[int] = Cache(lambda vlan: struct_entry("vlan", vlan))

    def encode_many(
        self, records: Records, extras: Sequence[Extra | None], sequences: Sequence[int], nodes: Sequence[int]
    ) -> list[bytes]:
        """Serialized flow.Flow of each record; the four sequences run in parallel (arrays of integers welcome)."""
        return list(self._flows(records.tobytes(), extras, sequences, nodes))

    def responses(
        self, records: Records, extras: Sequence[Extra | None], sequences: Sequence[int], nodes: Sequence[int]
    ) -> list[bytes]:
        """Serialized observer.GetFlowsResponse of each record: what GetFlows sends."""
        names = [delimited(_RESPONSE_NODE, name.encode()) if name else b"" for name in self._source.nodes]
        out = []
        flows = self._flows(records.tobytes(), extras, sequences, nodes)
        for flow, node, time_ns in zip(flows, _plain(nodes), records["time_ns"].tolist(), strict=True):
            time = timestamp(time_ns)
            out.append(
                b"".join(
                    (_RESPONSE_FLOW, varints[len(flow)], flow, names[node], _RESPONSE_TIME, varints[len(time)], time)
                )
            )
        return out

    def encode(self, record: Records | np.void, extra: Extra | None, sequence: int, node: int = 0) -> bytes:
        """Serialized flow.Flow of one record (an array of one, or a row of an array)."""
        return next(self._flows(record.tobytes(), (extra,), (sequence,), (node,)))

    def flow(self, record: Records | np.void, extra: Extra | None, sequence: int, node: int = 0) -> flow_pb2.Flow:
        """The one and only materialiser: flow.Flow of one record."""
        return flow_pb2.Flow.FromString(self.encode(record, extra, sequence, node))

    def response(self, flow: bytes, node: str, time_ns: int) -> bytes:
        """Serialized observer.GetFlowsResponse around a serialized flow.Flow."""
        return (
            delimited(_RESPONSE_FLOW, flow)
            + string(_RESPONSE_NODE, node)
            + delimited(_RESPONSE_TIME, timestamp(time_ns))
        )

    def _flows(
        self, raw: bytes, extras: Sequence[Extra | None], sequences: Sequence[int], nodes: Sequence[int]
    ) -> Iterator[bytes]:
        """Encode record by record; everything that is looked up more than once is a local."""
        stories, addresses_of, uuid = self._stories, self._addresses, self._source.uuid
        source_ports, destination_ports, flag_fields = parts.source_ports, parts.destination_ports, parts.tcp_flags
        tcp_summaries, layer7 = self._tcp_summaries, self._layer7.encode
        for row, extra, sequence, node in zip(
            _ROW.iter_unpack(raw), extras, _plain(sequences), _plain(nodes), strict=True
        ):
            (
                time_ns,
                latency_ns,
                n_bytes,
                cookie,
                cgroup_id,
                packets,
                pid,
                ifindex,
                ends,
                l7_id,
                present,
                flags,
                drop_reason,
                tunnel_id,
                addresses,
                source_port,
                destination_port,
                vlan,
                tcp_flags,
                drop_reason_desc,
                l7_code,
                l7_version,
                l7_method,
                tail,
                lengths,
                comm,
                text,
            ) = row
            if flags & _IMPORTED and extra is not None:
                yield extra.imported
                continue

            key = (ends, tail, drop_reason_desc, present & _REPLY_OR_ICMP, node)
            story = stories.get(key)
            if story is None:
                story = self._make_story(key)
            fields, source_names, destination_names, heads, l4, summary_field, is_tcp, family = story

            address_key = (addresses, family, present & _MAC)
            address_fields = addresses_of.get(address_key)
            if address_fields is None:
                address_fields = self._make_addresses(address_key)

            if heads:
                ports = source_ports[source_port] + destination_ports[destination_port]
                if is_tcp and present & _TCP_FLAGS:
                    ports += flag_fields[tcp_flags]
                    summary_field = tcp_summaries[tcp_flags]
                l4 = heads[len(ports)] + ports

            time = timestamp(time_ns)
            name = uuid(sequence).encode()
            rare = entries = extension = l7_field = b""
            if tail[8]:  # l7_kind
                l7, line, entries = layer7(
                    tail, present, l7_code, l7_version, l7_method, l7_id, latency_ns, lengths, text, extra
                )
                l7_field = _L7 + varints[len(l7)] + l7
                summary_field = _SUMMARY + varints[len(line)] + line if line else b""
            if extra is not None:
                if extra.source_names:
                    source_names = strings(_F["source_names"], extra.source_names)
                if extra.destination_names:
                    destination_names = strings(_F["destination_names"], extra.destination_names)
                if extra.trace_id:
                    rare += delimited(_F["trace_context"], parts.trace_context(extra.trace_id))
                if extra.tunnel is not None:
                    rare += delimited(_F["tunnel"], parts.tunnel(extra.tunnel))
                if extra.extension:
                    entries += b"".join([struct_entry(*entry) for entry in extra.extension.items()])
            if cookie or cgroup_id or ifindex or drop_reason or tail[15]:
                rare += number(_F["socket_cookie"], cookie) + number(_F["cgroup_id"], cgroup_id)
                if ifindex:
                    rare += delimited(_F["interface"], number(_INTERFACE_INDEX, ifindex))
                if tail[15] and (extra is None or extra.tunnel is None):
                    rare += delimited(_F["tunnel"], parts.tunnel_without_headers(tail[15], tunnel_id))
                if drop_reason:
                    entries += struct_entry("kernel_drop_reason", drop_reason)
            if present & _VLAN_OR_PROCESS:
                if present & _VLAN:
                    entries += self._vlans[vlan]
                if present & _PROCESS:
                    entries += self._processes[pid, comm.rstrip(b"\0")]
            if flags & _L7_INCOMPLETE:
                entries += struct_entry("l7_incomplete", True)
            if present & _PRESENT_COUNTERS:
                counters = _COUNTERS.pack(_BYTES_ENTRY, n_bytes, _PACKETS_ENTRY, packets)
                if entries:
                    entries += counters
                else:
                    extension = _COUNTERS_HEAD + counters
            if entries:
                any_struct = _STRUCT_URL + varints[len(entries)] + entries
                extension = _EXTENSIONS + varints[len(any_struct)] + any_struct
            yield b"".join(
                (
                    _TIME,
                    varints[len(time)],
                    time,
                    _UUID,
                    varints[len(name)],
                    name,
                    fields,
                    address_fields,
                    l4,
                    l7_field,
                    summary_field,
                    source_names,
                    destination_names,
                    rare,
                    extension,
                )
            )

    def _make_addresses(self, key: tuple[bytes, int, int]) -> bytes:
        """The fields Flow.ethernet and Flow.IP."""
        addresses, family, has_mac = key
        fields = b""
        if has_mac:
            fields = delimited(_F["ethernet"], parts.ethernet(addresses[32:38], addresses[38:44]))
        if family:
            fields += delimited(_F["IP"], parts.ip(family, addresses[:16], addresses[16:32]))
        keep(self._addresses, key, fields)
        return fields

    def _make_story(self, key: tuple[bytes, bytes, int, int, int]) -> Story:
        """Encode what flows of the same ends and the same event share."""
        ends, tail, drop_reason_desc, present, node = key
        source, destination, source_identity, destination_identity, egress_rule, ingress_rule = _ENDS.unpack(ends)
        (
            family,
            protocol,
            flow_type,
            event_type,
            sub_type,
            verdict,
            direction,
            is_reply,
            l7_kind,
            _,
            policy_match,
            _,
            trace_reason,
            icmp_type,
            icmp_code,
            _,
        ) = tail
        fields = [
            number(_F["verdict"], verdict),
            number(_F["drop_reason"], drop_reason_desc),
            number(_F["drop_reason_desc"], drop_reason_desc),
            self._endpoint("source", source, source_identity),
            self._endpoint("destination", destination, destination_identity),
            number(_F["Type"], flow_type),
            string(_F["node_name"], self._source.nodes[node]),
            delimited(_F["event_type"], number(_EVENT_TYPE, event_type) + number(_EVENT_SUB_TYPE, sub_type)),
            number(_F["traffic_direction"], direction),
            number(_F["policy_match_type"], policy_match),
            number(_F["trace_reason"], trace_reason),
            *self._policies(verdict, direction, drop_reason_desc, egress_rule, ingress_rule),
        ]
        if event_type == EventType.TRACE:
            point = _TO_ENDPOINT if sub_type == ObservationPoint.TO_ENDPOINT else sub_type
            fields.append(number(_F["trace_observation_point"], point))
        if present & _IS_REPLY:
            fields.append(delimited(_F["is_reply"], b"\x08\x01" if is_reply else b""))
            fields.append(number(_F["reply"], bool(is_reply)))
        endpoints = self._source.endpoints
        for side, end in (("source_service", endpoints[source]), ("destination_service", endpoints[destination])):
            if end.service is not None:
                fields.append(delimited(_F[side], parts.service(end.service)))
        heads = parts.LAYER4_HEADS.get(protocol, ()) if family else ()
        l4 = None
        text = ""
        if family and not heads:
            l4 = parts.layer4_without_ports(protocol, icmp_type, icmp_code, bool(present & _ICMP))
        if family and not l7_kind and protocol != IpProtocol.TCP:
            text = summary.transport(protocol, icmp_type, icmp_code)
        story = Story(
            b"".join(fields),
            strings(_F["source_names"], endpoints[source].names),
            strings(_F["destination_names"], endpoints[destination].names),
            heads,
            b"" if l4 is None else delimited(_L4, l4),
            string(_SUMMARY, text),
            protocol == IpProtocol.TCP,
            family,
        )
        keep(self._stories, key, story)
        return story

    def _endpoint(self, side: str, number_in_table: int, identity: int) -> bytes:
        """The field of one end; an end that was not looked up and has no identity is not there at all."""
        if not number_in_table and not identity:
            return b""
        end = self._source.endpoints[number_in_table]
        return delimited(_F[side], parts.endpoint(end, number_in_table, identity))

    def _policies(
        self, verdict: int, direction: int, drop_reason_desc: int, egress_rule: int, ingress_rule: int
    ) -> Iterator[bytes]:
        """The policies that allowed each half, and the one that refused where policy did (or would: AUDIT)."""
        refused = verdict == Verdict.AUDIT or (verdict == Verdict.DROPPED and drop_reason_desc in _POLICY_DENIALS)
        for rule, side, name in (
            (egress_rule, Direction.EGRESS, "egress"),
            (ingress_rule, Direction.INGRESS, "ingress"),
        ):
            if rule:
                what = "denied" if refused and direction == side else "allowed"
                yield delimited(_F[f"{name}_{what}_by"], parts.policy(self._source.policies[rule]))
