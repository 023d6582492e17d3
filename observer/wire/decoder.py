"""flow.Flow of a real Hubble server, of a file or of our own GetFlows to record and extra.

The flow itself is kept whole in the extra (Flags.IMPORTED), and the encoder gives exactly those bytes back; the record
holds what the columns, masks and the TUI need. Endpoints and policies get numbers of the store's own tables, so a flow
of a stranger may grow those tables by what it names, and nothing else. Nothing here trusts a value to be in range.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from observer.api import flow_pb2
from observer.extra import DnsAnswer, Extra, Tunnel
from observer.identity.endpoints import Endpoint, EndpointTable
from observer.policy.model import PolicyRef, PolicyTable
from observer.record import (
    PACK,
    RECORD,
    EventType,
    Flags,
    HttpMethod,
    L7Kind,
    ObservationPoint,
    Present,
    Protocol,
    Records,
    TcpFlag,
    pack_text,
)
from observer.wire.layer7 import kafka_api_number
from observer.wire.protobuf import keep

_NO_ADDRESS: Final = bytes(16)
_NO_MAC: Final = bytes(6)
_MAPPED: Final = bytes(10) + b"\xff\xff"
_PORTED: Final = {"TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP}
_PORTLESS: Final = {
    "ICMPv4": Protocol.ICMP,
    "ICMPv6": Protocol.ICMPV6,
    "VRRP": Protocol.VRRP,
    "IGMP": Protocol.IGMP,
}
_VERSIONS: Final = {"HTTP/1.0": 10, "HTTP/1.1": 11, "HTTP/2": 20, "HTTP/2.0": 20, "HTTP/3": 30}
_TO_ENDPOINT: Final = flow_pb2.TraceObservationPoint.TO_ENDPOINT


class FlowDecoder:
    """Reads flows into records of one store, whose tables it fills."""

    def __init__(self, endpoints: EndpointTable, policies: PolicyTable) -> None:
        self._endpoints = endpoints
        self._policies = policies
        self._known: dict[tuple[bytes, tuple[str, str] | None], int] = {}

    def add(self, flow: flow_pb2.Flow) -> tuple[Records, Extra]:
        """One flow as an array of one record and its extra, which keeps the flow whole (Extra.imported)."""
        packed, extra = self._decode(flow)
        return np.frombuffer(packed, RECORD).copy(), extra

    def add_many(self, flows: Iterable[flow_pb2.Flow]) -> tuple[Records, list[tuple[int, Extra]]]:
        """Flows as what Store.append takes."""
        rows = [self._decode(flow) for flow in flows]
        records = np.frombuffer(b"".join([packed for packed, _ in rows]), RECORD).copy()
        return records, [(index, extra) for index, (_, extra) in enumerate(rows)]

    def _decode(self, flow: flow_pb2.Flow) -> tuple[bytes, Extra]:
        present = Present(0)
        reply = 0
        if flow.HasField("is_reply"):
            present |= Present.IS_REPLY
            reply = int(flow.is_reply.value)
        macs = _NO_MAC, _NO_MAC
        if flow.HasField("ethernet"):
            macs = _mac(flow.ethernet.source), _mac(flow.ethernet.destination)
            present |= Present.MAC
        family, source_ip = _address(flow.IP.source)
        other_family, destination_ip = _address(flow.IP.destination)
        protocol, ports, tcp_flags, icmp, more = _layer4(flow)
        present |= more
        l7 = _Layer7(flow)
        extension = _extension(flow)
        n_bytes, packets = _count(extension, "bytes", 64), _count(extension, "packets", 32)
        if "bytes" in extension or "packets" in extension:
            present |= Present.COUNTERS
        vlan = _count(extension, "vlan", 16)
        if "vlan" in extension:
            present |= Present.VLAN
        process = extension.get("process")
        process = process if isinstance(process, dict) else {}
        if process:
            present |= Present.PROCESS
        texts, text, cut = pack_text(l7.texts)
        flags = Flags.EXTRA | Flags.IMPORTED | (Flags.TEXT_CUT if cut else 0)
        tunnel = read_tunnel(flow.tunnel) if flow.HasField("tunnel") else None
        packed = PACK.pack(
            _time_ns(flow),
            flow.l7.latency_ns,
            n_bytes,
            flow.socket_cookie,
            flow.cgroup_id,
            0,  # connection
            packets,
            _count(process, "pid", 32),
            flow.interface.index,
            self._endpoint(flow, "source"),
            self._endpoint(flow, "destination"),
            flow.source.identity,
            flow.destination.identity,
            self._rule(flow.egress_denied_by or flow.egress_allowed_by),
            self._rule(flow.ingress_denied_by or flow.ingress_allowed_by),
            l7.id,
            int(present | l7.present),
            int(flags),
            _count(extension, "kernel_drop_reason", 32),
            flow.tunnel.vni,
            source_ip,
            destination_ip,
            *macs,
            *ports,
            vlan,
            tcp_flags,
            _within(flow.drop_reason_desc or flow.drop_reason, 16),
            l7.code,
            l7.version,
            l7.method,
            family or other_family,
            protocol,
            _within(flow.Type, 8),
            _within(flow.event_type.type, 8),
            _sub_type(flow),
            _within(flow.verdict, 8),
            _within(flow.traffic_direction, 8),
            reply,
            int(l7.kind),
            _within(flow.l7.type, 8),
            _within(flow.policy_match_type, 8),
            0,  # grpc_status
            _within(flow.trace_reason, 8),
            *icmp,
            _within(flow.tunnel.protocol, 8),
            *texts,
            str(process.get("comm", "")).encode("utf-8", "backslashreplace"),
            text,
        )
        extra = Extra(
            texts=l7.texts if cut else (),
            dns=l7.dns,
            source_names=tuple(flow.source_names),
            destination_names=tuple(flow.destination_names),
            tunnel=tunnel,
            trace_id=flow.trace_context.parent.trace_id,
            extension=extension or None,
            imported=flow.SerializeToString(),
        )
        return packed, extra

    def _endpoint(self, flow: flow_pb2.Flow, side: str) -> int:
        """The number of one end in the table; 0 where the flow has none."""
        if not flow.HasField(side):
            return 0
        end = getattr(flow, side)
        service = getattr(flow, f"{side}_service")
        named = (service.namespace, service.name) if service.name or service.namespace else None
        # Names belong to the address of this flow, not to the endpoint: the extra has them.
        key = (end.SerializeToString(deterministic=True), named)
        number = self._known.get(key)
        if number is None:
            number = self._endpoints.intern(read_endpoint(end, (), named))
            keep(self._known, key, number)
        return number

    def _rule(self, policies: Any) -> int:
        """The number of the first policy named; records hold one a half."""
        if not policies:
            return 0
        return self._policies.intern(read_policy(policies[0]))


def read_endpoint(end: flow_pb2.Endpoint, names: tuple[str, ...], service: tuple[str, str] | None) -> Endpoint:
    """A flow.Endpoint, its names and its service (namespace, name) as an entry of the endpoint table."""
    return Endpoint(
        identity=end.identity,
        cluster=end.cluster_name,
        namespace=end.namespace,
        pod=end.pod_name,
        labels=tuple(end.labels),
        workloads=tuple((each.name, each.kind) for each in end.workloads),
        names=names,
        service=service,
    )


def read_policy(policy: flow_pb2.Policy) -> PolicyRef:
    """A flow.Policy as an entry of the policy table."""
    return PolicyRef(policy.name, policy.namespace, policy.kind, tuple(policy.labels), policy.revision)


def read_dns(dns: flow_pb2.DNS) -> DnsAnswer:
    """What a flow.DNS says beyond query and response code."""
    return DnsAnswer(tuple(dns.ips), tuple(dns.cnames), dns.ttl, tuple(dns.qtypes), tuple(dns.rrtypes))


class _Layer7:
    """The L7 columns of a flow."""

    def __init__(self, flow: flow_pb2.Flow) -> None:
        self.kind = L7Kind.NONE
        self.present = Present(0)
        self.texts: tuple[bytes, ...] = ()
        self.code = self.version = self.method = self.id = 0
        self.dns: DnsAnswer | None = None
        if not flow.HasField("l7"):
            return
        response = flow.l7.type == flow_pb2.L7FlowType.RESPONSE
        if flow.l7.latency_ns:
            self.present |= Present.LATENCY
        match flow.l7.WhichOneof("record"):
            case "http":
                self._http(flow.l7.http)
            case "dns":
                dns = flow.l7.dns
                self.kind = L7Kind.DNS
                self.texts = (dns.query.encode(),)
                self.code = _within(dns.rcode, 16)
                if response:
                    self.present |= Present.CODE
                self.dns = DnsAnswer(tuple(dns.ips), tuple(dns.cnames), dns.ttl, tuple(dns.qtypes), tuple(dns.rrtypes))
            case "kafka":
                kafka = flow.l7.kafka
                self.kind = L7Kind.KAFKA
                self.texts = (kafka.topic.encode(),)
                self.version = _within(kafka.api_version, 16)
                self.id = kafka.correlation_id & 0xFFFF_FFFF
                self.present |= Present.L7_ID
                if response:
                    self.code = kafka.error_code & 0xFFFF
                    self.present |= Present.CODE
                number = kafka_api_number(kafka.api_key)
                if number is not None:
                    self.method = number
                    self.present |= Present.METHOD

    def _http(self, http: flow_pb2.HTTP) -> None:
        self.kind = L7Kind.HTTP
        self.code = _within(http.code, 16)
        self.version = _VERSIONS.get(http.protocol, 0)
        if http.code:
            self.present |= Present.CODE
        host, target = b"", http.url.encode()
        scheme, separator, rest = target.partition(b"://")
        if separator and scheme in (b"http", b"https"):
            host, slash, path = rest.partition(b"/")
            target = slash + path or b"*"
        spelled = b""
        if http.method:
            self.present |= Present.METHOD
            known = HttpMethod.__members__.get(http.method, HttpMethod.OTHER)
            self.method = int(known)
            if known is HttpMethod.OTHER:
                spelled = http.method.encode()
        self.texts = (target, host, spelled)


def _within(value: int, bits: int) -> int:
    """A number of the wire in a column of so many bits; what does not fit is unknown."""
    return value if 0 <= value < 1 << bits else 0


def _time_ns(flow: flow_pb2.Flow) -> int:
    return _within(flow.time.seconds * 1_000_000_000 + flow.time.nanos, 64)


def _sub_type(flow: flow_pb2.Flow) -> int:
    """The event's sub type; some servers give only the observation point."""
    if flow.event_type.type == EventType.TRACE and not flow.event_type.sub_type:
        point = flow.trace_observation_point
        return ObservationPoint.TO_ENDPOINT if point == _TO_ENDPOINT else _within(point, 8)
    return _within(flow.event_type.sub_type, 8)


def _address(text: str) -> tuple[int, bytes]:
    """Family and 16 bytes of an address; 0 and zeros for none."""
    if not text:
        return 0, _NO_ADDRESS
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return 0, _NO_ADDRESS
    return (4, _MAPPED + address.packed) if address.version == 4 else (6, address.packed)


def _mac(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        return _NO_MAC
    return raw if len(raw) == 6 else _NO_MAC


def _layer4(flow: flow_pb2.Flow) -> tuple[int, tuple[int, int], int, tuple[int, int], Present]:
    """IP protocol, ports, TCP flags, ICMP type and code, and which of them are there."""
    name = flow.l4.WhichOneof("protocol")
    if name is None:
        return 0, (0, 0), 0, (0, 0), Present(0)
    header = getattr(flow.l4, name)
    if name not in _PORTED:
        code = header.code if name.startswith("ICMP") else 0
        return _PORTLESS[name], (0, 0), 0, (_within(header.type, 8), _within(code, 8)), Present.ICMP
    ports = header.source_port & 0xFFFF, header.destination_port & 0xFFFF
    if name != "TCP" or not header.HasField("flags"):
        return _PORTED[name], ports, 0, (0, 0), Present(0)
    flags = sum(flag for flag in TcpFlag if getattr(header.flags, str(flag.name)))
    return _PORTED[name], ports, flags, (0, 0), Present.TCP_FLAGS


def read_tunnel(tunnel: flow_pb2.Tunnel) -> Tunnel:
    """The outer headers in a flow.Tunnel."""
    ports = tunnel.l4.UDP
    return Tunnel(
        tunnel.protocol, tunnel.IP.source, tunnel.IP.destination, ports.source_port, ports.destination_port, tunnel.vni
    )


def _extension(flow: flow_pb2.Flow) -> dict[str, Any]:
    """The Struct in Flow.extensions; nothing for what is no Struct."""
    if not flow.extensions.Is(Struct.DESCRIPTOR):
        return {}
    struct = Struct()
    try:
        flow.extensions.Unpack(struct)
    except DecodeError:  # the bytes inside an Any were not checked with the flow
        return {}
    return {key: _value(value) for key, value in struct.fields.items()}


def _value(value: Any) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            return {key: _value(each) for key, each in value.struct_value.fields.items()}
        case "list_value":
            return [_value(each) for each in value.list_value.values]
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "string_value" | "bool_value" as kind:
            return getattr(value, kind)
        case _:
            return None


def _count(extension: dict[str, Any], name: str, bits: int) -> int:
    """A counter of the extension, if it is one and fits."""
    value = extension.get(name)
    return _within(value, bits) if isinstance(value, int) else 0
