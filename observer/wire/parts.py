"""The parts of a flow.Flow that many flows share, as encoded fields: ends, addresses, transport, tunnel, policies.

Records' raw values in, bytes out; the encoder caches them. It knows no store: tables are handed in.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from observer.api import flow_pb2
from observer.extra import Tunnel
from observer.identity.endpoints import Endpoint
from observer.policy.model import PolicyRef
from observer.record import Protocol, TcpFlag
from observer.wire.protobuf import Cache, delimited, encode_varint, number, string, strings, tag

FLOW: Final = {field.name: tag(flow_pb2.Flow, field.name) for field in flow_pb2.Flow.DESCRIPTOR.fields}
"""The tag of each field of a flow.Flow."""

_ID: Final = tag(flow_pb2.Endpoint, "ID")
_IDENTITY: Final = tag(flow_pb2.Endpoint, "identity")
_CLUSTER: Final = tag(flow_pb2.Endpoint, "cluster_name")
_NAMESPACE: Final = tag(flow_pb2.Endpoint, "namespace")
_LABELS: Final = tag(flow_pb2.Endpoint, "labels")
_POD: Final = tag(flow_pb2.Endpoint, "pod_name")
_WORKLOADS: Final = tag(flow_pb2.Endpoint, "workloads")
_WORKLOAD_NAME: Final = tag(flow_pb2.Workload, "name")
_WORKLOAD_KIND: Final = tag(flow_pb2.Workload, "kind")


def endpoint(end: Endpoint, number_in_table: int, identity: int) -> bytes:
    """A flow.Endpoint. Its ID is the number of a managed endpoint, 0 for what a reserved identity stands for."""
    return b"".join(
        [
            number(_ID, number_in_table if end.managed else 0),
            number(_IDENTITY, identity or end.identity),
            string(_NAMESPACE, end.namespace),
            strings(_LABELS, end.labels),
            string(_POD, end.pod),
            *[
                delimited(_WORKLOADS, string(_WORKLOAD_NAME, name) + string(_WORKLOAD_KIND, kind))
                for name, kind in end.workloads
            ],
            string(_CLUSTER, end.cluster),
        ]
    )


_SERVICE_NAME: Final = tag(flow_pb2.Service, "name")
_SERVICE_NAMESPACE: Final = tag(flow_pb2.Service, "namespace")


def service(named: tuple[str, str]) -> bytes:
    """A flow.Service from (namespace, name)."""
    return string(_SERVICE_NAME, named[1]) + string(_SERVICE_NAMESPACE, named[0])


_POLICY_NAME: Final = tag(flow_pb2.Policy, "name")
_POLICY_NAMESPACE: Final = tag(flow_pb2.Policy, "namespace")
_POLICY_LABELS: Final = tag(flow_pb2.Policy, "labels")
_POLICY_REVISION: Final = tag(flow_pb2.Policy, "revision")
_POLICY_KIND: Final = tag(flow_pb2.Policy, "kind")


def policy(ref: PolicyRef) -> bytes:
    """A flow.Policy."""
    return (
        string(_POLICY_NAME, ref.name)
        + string(_POLICY_NAMESPACE, ref.namespace)
        + strings(_POLICY_LABELS, ref.labels)
        + number(_POLICY_REVISION, ref.revision)
        + string(_POLICY_KIND, ref.kind)
    )


def address_text(family: int, address: bytes) -> str:
    """An address of 16 bytes as Go writes it (RFC 5952)."""
    if family == 4:
        return f"{address[12]}.{address[13]}.{address[14]}.{address[15]}"
    parsed = ipaddress.IPv6Address(address)
    if parsed.ipv4_mapped is not None:
        return f"::ffff:{parsed.ipv4_mapped}"
    return str(parsed)


_IP_SOURCE: Final = tag(flow_pb2.IP, "source")
_IP_DESTINATION: Final = tag(flow_pb2.IP, "destination")
_IP_VERSION: Final = tag(flow_pb2.IP, "ipVersion")


def ip(family: int, source: bytes, destination: bytes) -> bytes:
    """A flow.IP from two addresses of 16 bytes."""
    version = flow_pb2.IPVersion.IPv4 if family == 4 else flow_pb2.IPVersion.IPv6
    return (
        string(_IP_SOURCE, address_text(family, source))
        + string(_IP_DESTINATION, address_text(family, destination))
        + number(_IP_VERSION, version)
    )


_MAC_SOURCE: Final = tag(flow_pb2.Ethernet, "source")
_MAC_DESTINATION: Final = tag(flow_pb2.Ethernet, "destination")


def ethernet(source: bytes, destination: bytes) -> bytes:
    """A flow.Ethernet from two addresses of 6 bytes."""
    return string(_MAC_SOURCE, source.hex(":")) + string(_MAC_DESTINATION, destination.hex(":"))


_TCP_FLAGS: Final = tag(flow_pb2.TCP, "flags")
_TCP_FLAG_TAGS: Final = {flag: tag(flow_pb2.TCPFlags, str(flag.name)) for flag in TcpFlag}


def _tcp_flags(flags: int) -> bytes:
    return delimited(_TCP_FLAGS, b"".join([each + b"\x01" for flag, each in _TCP_FLAG_TAGS.items() if flags & flag]))


tcp_flags: Final = Cache(_tcp_flags)
"""The `flags` field of a flow.TCP, by the bits of record.tcp_flags."""

_PORTED: Final = {
    Protocol.TCP: (tag(flow_pb2.Layer4, "TCP"), flow_pb2.TCP),
    Protocol.UDP: (tag(flow_pb2.Layer4, "UDP"), flow_pb2.UDP),
    Protocol.SCTP: (tag(flow_pb2.Layer4, "SCTP"), flow_pb2.SCTP),
}
_ICMP: Final = {
    Protocol.ICMP: (tag(flow_pb2.Layer4, "ICMPv4"), flow_pb2.ICMPv4),
    Protocol.ICMPV6: (tag(flow_pb2.Layer4, "ICMPv6"), flow_pb2.ICMPv6),
}
_VRRP: Final = tag(flow_pb2.Layer4, "VRRP")
_IGMP: Final = tag(flow_pb2.Layer4, "IGMP")
_IGMP_TYPE: Final = tag(flow_pb2.IGMP, "type")
_VRRP_TYPE: Final = tag(flow_pb2.VRRP, "type")

# TCP, UDP and SCTP number their ports alike, which lets the encoder write them without asking which it is.
SOURCE_PORT: Final = tag(flow_pb2.TCP, "source_port")
DESTINATION_PORT: Final = tag(flow_pb2.TCP, "destination_port")
for _, _message in _PORTED.values():
    assert tag(_message, "source_port") == SOURCE_PORT
    assert tag(_message, "destination_port") == DESTINATION_PORT

PORTED_TAGS: Final[dict[int, bytes]] = {protocol: field for protocol, (field, _) in _PORTED.items()}
"""The fields of flow.Layer4 that have ports, by IP protocol."""


LAYER4_HEADS: Final[dict[int, tuple[bytes, ...]]] = {
    protocol: tuple(
        tag(flow_pb2.Flow, "l4") + encode_varint(1 + len(encode_varint(size)) + size) + field + encode_varint(size)
        for size in range(64)
    )
    for protocol, field in PORTED_TAGS.items()
}
"""The field Flow.l4 up to its ports and flags, by IP protocol and their length (at most 4 + 4 + 20)."""

source_ports: Final[Cache[int]] = Cache(lambda port: number(SOURCE_PORT, port), 1 << 16)
destination_ports: Final[Cache[int]] = Cache(lambda port: number(DESTINATION_PORT, port), 1 << 16)


def layer4_without_ports(protocol: int, icmp_type: int, icmp_code: int, icmp_present: bool) -> bytes | None:
    """A flow.Layer4 of a protocol that has no ports; None for one that Hubble does not know."""
    if protocol in _ICMP:
        field, message = _ICMP[Protocol(protocol)]
        if not icmp_present:
            return delimited(field, b"")
        return delimited(field, number(tag(message, "type"), icmp_type) + number(tag(message, "code"), icmp_code))
    if protocol == Protocol.IGMP:
        return delimited(_IGMP, number(_IGMP_TYPE, icmp_type if icmp_present else 0))
    if protocol == Protocol.VRRP:
        return delimited(_VRRP, number(_VRRP_TYPE, icmp_type if icmp_present else 0))
    return None


_TUNNEL_PROTOCOL: Final = tag(flow_pb2.Tunnel, "protocol")
_TUNNEL_IP: Final = tag(flow_pb2.Tunnel, "IP")
_TUNNEL_L4: Final = tag(flow_pb2.Tunnel, "l4")
_TUNNEL_VNI: Final = tag(flow_pb2.Tunnel, "vni")


def tunnel(outer: Tunnel) -> bytes:
    """A flow.Tunnel with its outer headers; VXLAN and Geneve run over UDP."""
    version = flow_pb2.IPVersion.IPv6 if ":" in outer.source_ip else flow_pb2.IPVersion.IPv4
    addresses = (
        string(_IP_SOURCE, outer.source_ip)
        + string(_IP_DESTINATION, outer.destination_ip)
        + number(_IP_VERSION, version if outer.source_ip else 0)
    )
    ports = number(SOURCE_PORT, outer.source_port) + number(DESTINATION_PORT, outer.destination_port)
    return (
        number(_TUNNEL_PROTOCOL, outer.protocol)
        + delimited(_TUNNEL_IP, addresses)
        + delimited(_TUNNEL_L4, delimited(PORTED_TAGS[Protocol.UDP], ports))
        + number(_TUNNEL_VNI, outer.vni)
    )


def tunnel_without_headers(protocol: int, vni: int) -> bytes:
    """A flow.Tunnel of which only protocol and VNI are known."""
    return number(_TUNNEL_PROTOCOL, protocol) + number(_TUNNEL_VNI, vni)


_PARENT: Final = tag(flow_pb2.TraceContext, "parent")
_TRACE_ID: Final = tag(flow_pb2.TraceParent, "trace_id")


def trace_context(trace_id: str) -> bytes:
    """A flow.TraceContext."""
    return delimited(_PARENT, string(_TRACE_ID, trace_id))
