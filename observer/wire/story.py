"""What flows of the same ends and the same event share, as encoded fields of flow.Flow: their story.

A key of a record's raw values enters with the tables that its numbers stand for; a Story leaves, which the encoder
keeps. It knows nothing of time, ports and content.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

from observer.api import flow_pb2
from observer.identity.endpoints import EndpointTable
from observer.policy.model import PolicyTable
from observer.record import POLICY_DENIED, Direction, EventType, ObservationPoint, Present, Verdict
from observer.record import Protocol as IpProtocol
from observer.wire import parts, summary
from observer.wire.parts import FLOW
from observer.wire.protobuf import delimited, number, string, strings, tag

_ENDS: Final = struct.Struct("<6I")
_EVENT_TYPE: Final = tag(flow_pb2.CiliumEventType, "type")
_EVENT_SUB_TYPE: Final = tag(flow_pb2.CiliumEventType, "sub_type")
_TO_ENDPOINT: Final = flow_pb2.TraceObservationPoint.TO_ENDPOINT
_POLICY_DENIALS: Final = (POLICY_DENIED, flow_pb2.DropReason.POLICY_DENY)

Key = tuple[bytes, bytes, int, int, int]
"""What decides a story: numbers of ends and rules, its columns of one octet, drop reason, `present`, node."""


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


def tell(tables: FlowSource, key: Key) -> Story:
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
        number(FLOW["verdict"], verdict),
        number(FLOW["drop_reason"], drop_reason_desc),
        number(FLOW["drop_reason_desc"], drop_reason_desc),
        _endpoint("source", tables, source, source_identity),
        _endpoint("destination", tables, destination, destination_identity),
        number(FLOW["Type"], flow_type),
        string(FLOW["node_name"], tables.nodes[node]),
        delimited(FLOW["event_type"], number(_EVENT_TYPE, event_type) + number(_EVENT_SUB_TYPE, sub_type)),
        number(FLOW["traffic_direction"], direction),
        number(FLOW["policy_match_type"], policy_match),
        number(FLOW["trace_reason"], trace_reason),
        *_policies(tables, verdict, direction, drop_reason_desc, (egress_rule, ingress_rule)),
    ]
    if event_type == EventType.TRACE:
        point = _TO_ENDPOINT if sub_type == ObservationPoint.TO_ENDPOINT else sub_type
        fields.append(number(FLOW["trace_observation_point"], point))
    if present & Present.IS_REPLY:
        fields.append(delimited(FLOW["is_reply"], b"\x08\x01" if is_reply else b""))
        fields.append(number(FLOW["reply"], bool(is_reply)))
    endpoints = tables.endpoints
    for side, end in (("source_service", endpoints[source]), ("destination_service", endpoints[destination])):
        if end.service is not None:
            fields.append(delimited(FLOW[side], parts.service(end.service)))
    heads = parts.LAYER4_HEADS.get(protocol, ()) if family else ()
    l4 = None
    text = ""
    if family and not heads:
        l4 = parts.layer4_without_ports(protocol, icmp_type, icmp_code, bool(present & Present.ICMP))
    if family and not l7_kind and protocol != IpProtocol.TCP:
        text = summary.transport(protocol, icmp_type, icmp_code)
    return Story(
        b"".join(fields),
        strings(FLOW["source_names"], endpoints[source].names),
        strings(FLOW["destination_names"], endpoints[destination].names),
        heads,
        b"" if l4 is None else delimited(FLOW["l4"], l4),
        string(FLOW["Summary"], text),
        protocol == IpProtocol.TCP,
        family,
    )


def _endpoint(side: str, tables: FlowSource, number_in_table: int, identity: int) -> bytes:
    """The field of one end; an end that was not looked up and has no identity is not there at all."""
    if not number_in_table and not identity:
        return b""
    end = tables.endpoints[number_in_table]
    return delimited(FLOW[side], parts.endpoint(end, number_in_table, identity))


def _policies(
    tables: FlowSource, verdict: int, direction: int, drop_reason_desc: int, rules: tuple[int, int]
) -> Iterator[bytes]:
    """The policies that allowed each half, and the one that refused where policy did (or would: AUDIT)."""
    refused = verdict == Verdict.AUDIT or (verdict == Verdict.DROPPED and drop_reason_desc in _POLICY_DENIALS)
    for rule, side, name in zip(rules, (Direction.EGRESS, Direction.INGRESS), ("egress", "ingress"), strict=True):
        if rule:
            what = "denied" if refused and direction == side else "allowed"
            yield delimited(FLOW[f"{name}_{what}_by"], parts.policy(tables.policies[rule]))
