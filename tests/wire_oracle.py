"""flow.Flow assembled with protobuf's own objects, the slow and plain way: what the hand-written encoder must equal.

Also the tables and records that the wire's tests and benchmark share.
"""

import ipaddress

import numpy as np
from google.protobuf.struct_pb2 import Struct

from observer import record as rec
from observer.api import flow_pb2
from observer.extra import DnsAnswer, Extra, header_fields
from observer.identity.endpoints import Endpoint, EndpointTable
from observer.policy.model import PolicyRef, PolicyTable
from observer.record import L7Kind, L7Type, Present

FLAG_ORDER = ["SYN", "ACK", "RST", "FIN", "PSH", "URG", "ECE", "CWR", "NS"]


class Tables:
    """What the encoder reads of a store."""

    def __init__(self) -> None:
        self.endpoints = EndpointTable()
        self.policies = PolicyTable()
        self.nodes = ["node-1", "west/node-2"]

    def uuid(self, sequence: int) -> str:
        return f"6d1d7e1b-0000-4000-8000-{sequence:012x}"


CART = Endpoint(
    identity=258,
    cluster="default",
    namespace="shop",
    pod="cart-0",
    labels=("k8s:app=cart", "k8s:io.kubernetes.pod.namespace=shop"),
    workloads=(("cart", "Deployment"),),
)
PAYMENTS = Endpoint(identity=259, namespace="shop", pod="payments-0", service=("shop", "payments"))
WORLD = Endpoint(identity=2, labels=("reserved:world",), names=("api.github.com", "github.com"))
ENDPOINTS = (CART, PAYMENTS, WORLD)
POLICIES = (
    PolicyRef("only-charge", "shop", "CiliumNetworkPolicy", ("k8s:io.cilium.k8s.policy.name=only-charge",), 7),
    PolicyRef("dns", "", "CiliumClusterwideNetworkPolicy"),
)


def tables() -> Tables:
    out = Tables()
    for endpoint in ENDPOINTS:
        out.endpoints.intern(endpoint)
    for policy in POLICIES:
        out.policies.intern(policy)
    return out


def make_record(texts: tuple[bytes, ...] = (), **columns: object) -> rec.Records:
    """An array of one record with the columns given, addresses as text or bytes."""
    row = rec.empty(1)
    for name, value in columns.items():
        if isinstance(value, str):
            address = ipaddress.ip_address(value)
            value = address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed
        if isinstance(value, bytes) and name != "comm":
            value = np.frombuffer(value, np.uint8)
        row[name][0] = value
    lengths, text, cut = rec.pack_text(texts)
    row["text_length"][0] = lengths
    row["text"][0, : len(text)] = np.frombuffer(text, np.uint8)
    if cut:
        row["flags"][0] |= int(rec.Flags.TEXT_CUT)
    return row


def text_of(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def address_of(family: int, raw: bytes) -> str:
    if family == 4:
        return str(ipaddress.IPv4Address(raw[12:]))
    address = ipaddress.IPv6Address(raw)
    return f"::ffff:{address.ipv4_mapped}" if address.ipv4_mapped else str(address)


def set_endpoint(end: flow_pb2.Endpoint, number: int, identity: int, known: Endpoint) -> None:
    end.SetInParent()
    end.ID = number if known.pod else 0
    end.identity = identity or known.identity
    end.cluster_name = known.cluster
    end.namespace = known.namespace
    end.labels.extend(known.labels)
    end.pod_name = known.pod
    for name, kind in known.workloads:
        end.workloads.add(name=name, kind=kind)


def set_policy(policy: flow_pb2.Policy, ref: PolicyRef) -> None:
    policy.name, policy.namespace, policy.kind = ref.name, ref.namespace, ref.kind
    policy.labels.extend(ref.labels)
    policy.revision = ref.revision


def assemble(
    records: rec.Records, extra: Extra | None, sequence: int, node: int, source: Tables, row_index: int = 0
) -> tuple[flow_pb2.Flow, dict[str, object]]:
    """One flow, and the entries its extension has to hold (a Struct's bytes have no order to compare)."""
    row = records[row_index]
    value = {name: row[name].item() for name in rec.RECORD.names or () if records.dtype[name].shape == ()}
    present = value["present"]
    flow = flow_pb2.Flow()
    flow.time.SetInParent()
    flow.time.seconds, flow.time.nanos = divmod(value["time_ns"], 10**9)
    flow.uuid = source.uuid(sequence)
    flow.verdict = value["verdict"]
    flow.drop_reason = value["drop_reason_desc"]
    flow.drop_reason_desc = value["drop_reason_desc"]
    flow.Type = value["type"]
    flow.node_name = source.nodes[node]
    flow.event_type.type = value["event_type"]
    flow.event_type.sub_type = value["sub_type"]
    flow.event_type.SetInParent()
    flow.traffic_direction = value["direction"]
    flow.policy_match_type = value["policy_match"]
    flow.trace_reason = value["trace_reason"]
    if value["event_type"] == rec.EventType.TRACE:
        flow.trace_observation_point = value["sub_type"] or flow_pb2.TraceObservationPoint.TO_ENDPOINT
    if present & Present.IS_REPLY:
        flow.is_reply.value = bool(value["is_reply"])
        flow.reply = bool(value["is_reply"])
    if present & Present.MAC:
        flow.ethernet.source = row["source_mac"].tobytes().hex(":")
        flow.ethernet.destination = row["destination_mac"].tobytes().hex(":")
    for side in ("source", "destination"):
        number, identity = value[f"{side}_endpoint"], value[f"{side}_identity"]
        known = source.endpoints[number]
        if number or identity:
            set_endpoint(getattr(flow, side), number, identity, known)
        if known.service:
            service = getattr(flow, f"{side}_service")
            service.namespace, service.name = known.service
        names = getattr(extra, f"{side}_names") if extra else ()
        getattr(flow, f"{side}_names").extend(names or known.names)
    refused = value["verdict"] == 4 or (value["verdict"] == 2 and value["drop_reason_desc"] in (133, 181))
    for half, direction in (("egress", 2), ("ingress", 1)):
        if rule := value[f"{half}_rule"]:
            what = "denied" if refused and value["direction"] == direction else "allowed"
            set_policy(getattr(flow, f"{half}_{what}_by").add(), source.policies[rule])
    set_layers(flow, row, value)
    entries: dict[str, object] = {}
    if value["l7_kind"]:
        set_layer7(flow, row, value, extra, entries)
    if extra is not None:
        if extra.trace_id:
            flow.trace_context.parent.trace_id = extra.trace_id
        entries.update(extra.extension or {})
    if extra is not None and extra.tunnel is not None:
        tunnel = extra.tunnel
        flow.tunnel.protocol, flow.tunnel.vni = tunnel.protocol, tunnel.vni
        flow.tunnel.IP.source, flow.tunnel.IP.destination = tunnel.source_ip, tunnel.destination_ip
        flow.tunnel.IP.ipVersion = 2 if ":" in tunnel.source_ip else 1
        flow.tunnel.l4.UDP.source_port = tunnel.source_port
        flow.tunnel.l4.UDP.destination_port = tunnel.destination_port
    elif value["tunnel"]:
        flow.tunnel.protocol, flow.tunnel.vni = value["tunnel"], value["tunnel_id"]
    flow.socket_cookie, flow.cgroup_id = value["cookie"], value["cgroup_id"]
    if value["ifindex"]:
        flow.interface.index = value["ifindex"]
    if present & Present.COUNTERS:
        entries |= {"bytes": value["bytes"], "packets": value["packets"]}
    if present & Present.VLAN:
        entries["vlan"] = value["vlan"]
    if present & Present.PROCESS:
        entries["process"] = {"pid": value["pid"], "comm": text_of(value["comm"])}
    if value["drop_reason"]:
        entries["kernel_drop_reason"] = value["drop_reason"]
    if value["flags"] & rec.Flags.L7_INCOMPLETE:
        entries["l7_incomplete"] = True
    if entries:
        struct = Struct()
        struct.update(entries)
        flow.extensions.Pack(struct)
    return flow, entries


def set_layers(flow: flow_pb2.Flow, row: np.void, value: dict) -> None:
    family, protocol, present = value["family"], value["protocol"], value["present"]
    if not family:
        return
    flow.IP.source = address_of(family, row["source_ip"].tobytes())
    flow.IP.destination = address_of(family, row["destination_ip"].tobytes())
    flow.IP.ipVersion = {4: 1, 6: 2}[family]
    name = {6: "TCP", 17: "UDP", 132: "SCTP", 1: "ICMPv4", 58: "ICMPv6", 2: "IGMP", 112: "VRRP"}.get(protocol)
    if name is None:
        return
    l4 = getattr(flow.l4, name)
    l4.SetInParent()
    if name in ("TCP", "UDP", "SCTP"):
        l4.source_port, l4.destination_port = value["source_port"], value["destination_port"]
    elif present & Present.ICMP:
        l4.type = value["icmp_type"]
        if name.startswith("ICMP"):
            l4.code = value["icmp_code"]
    if name == "TCP" and present & Present.TCP_FLAGS:
        l4.flags.SetInParent()
        flags = [flag for flag in FLAG_ORDER if value["tcp_flags"] & rec.TcpFlag[flag]]
        for flag in flags:
            setattr(l4.flags, flag, True)
        flow.Summary = "TCP Flags: " + ", ".join(flags)
    elif name == "UDP" or name == "SCTP" or name == "IGMP" or name == "VRRP":
        flow.Summary = name
    elif name != "TCP":
        # The table of names has tests of its own; only echo is spelled out here.
        echo = {("ICMPv4", 8): "EchoRequest", ("ICMPv4", 0): "EchoReply"}
        echo |= {("ICMPv6", 128): "EchoRequest", ("ICMPv6", 129): "EchoReply"}
        flow.Summary = f"{name} {echo[name, value['icmp_type']]}"


def set_layer7(flow: flow_pb2.Flow, row: np.void, value: dict, extra: Extra | None, entries: dict[str, object]) -> None:
    present, kind = value["present"], value["l7_kind"]
    whole = extra is not None and extra.texts
    texts = ((*extra.texts, b"", b"", b"") if whole else rec.unpack_text(row))[:4]
    latency = value["latency_ns"] if present & Present.LATENCY else None
    l7 = flow.l7
    l7.SetInParent()
    l7.type = value["l7_type"]
    l7.latency_ns = latency or 0
    code = value["l7_code"] if present & Present.CODE else 0
    method = value["l7_method"] if present & Present.METHOD else None
    if kind in (L7Kind.HTTP, L7Kind.GRPC):
        set_http(flow, l7, texts, value, method, code, latency, extra)
    elif kind == L7Kind.DNS:
        set_dns(flow, l7, texts, value, method, extra)
    elif kind == L7Kind.KAFKA:
        kafka = l7.kafka
        kafka.api_version = value["l7_version"]
        kafka.api_key = {None: "", 0: "produce", 1: "fetch", 18: "apiversions"}[method]
        kafka.correlation_id = int(np.uint32(value["l7_id"]).view(np.int32))
        kafka.error_code = int(np.uint16(code).view(np.int16))
        kafka.topic = text_of(texts[0])
        what = "request" if l7.type == L7Type.REQUEST else "response"
        flow.Summary = f"Kafka {what} {kafka.api_key} correlation id {kafka.correlation_id} topic '{kafka.topic}'"
        if what == "response":
            flow.Summary += f" return code {kafka.error_code}"
        if texts[1]:
            entries["kafka"] = {"client_id": text_of(texts[1])}
    elif kind == L7Kind.TLS:
        flow.Summary = f"TLS {text_of(texts[0])}".strip()
        names = {"server_name": text_of(texts[0]), "alpn": text_of(texts[1])}
        entries["tls"] = {name: text for name, text in names.items() if text}
    if kind == L7Kind.GRPC:
        service, _, name = text_of(texts[0]).lstrip("/").partition("/")
        entries["grpc"] = {"service": service, "method": name}
        if present & Present.GRPC_STATUS:
            entries["grpc"]["status"] = value["grpc_status"]
    over_http2 = kind == L7Kind.GRPC or (kind == L7Kind.HTTP and value["l7_version"] >= 20)
    if present & Present.L7_ID and over_http2:
        entries["http2"] = {"stream_id": value["l7_id"]}
    if present & Present.L7_ID and kind == L7Kind.DNS:
        entries["dns"] = {"id": value["l7_id"]}


def set_http(flow, l7, texts, value, method, code, latency, extra) -> None:
    target, host, spelled, scheme = (text_of(text) for text in texts[:4])
    http = l7.http
    http.SetInParent()
    if method is not None:
        names = {1: "GET", 3: "POST", 6: "CONNECT", 7: "OPTIONS", 255: spelled}
        http.method = names[method]
    if host and target.startswith("/") and scheme:
        http.url = f"{scheme}://{host}{target}"
    elif host and target.startswith("/") and http.method != "CONNECT":
        http.url = f"http://{host}{target}"
    elif host and target == "*" and http.method != "CONNECT":
        http.url = f"http://{host}"
    else:
        http.url = target
    http.protocol = {0: "", 10: "HTTP/1.0", 11: "HTTP/1.1", 20: "HTTP/2"}[value["l7_version"]]
    code = code if l7.type == L7Type.RESPONSE else 0
    http.code = code
    for name, text in header_fields(extra.head) if extra is not None else ():
        http.headers.add(key=name, value=text)
    request = f"{http.method} {http.url}".strip(" ")
    if l7.type == L7Type.REQUEST:
        flow.Summary = f"{http.protocol} {request}"
    else:
        parts = [http.protocol, str(code or ""), "" if latency is None else f"{latency // 10**6}ms"]
        parts.append(f"({request})" if request else "")
        flow.Summary = " ".join(part for part in parts if part)


def set_dns(flow, l7, texts, value, method, extra) -> None:
    answer = (extra.dns if extra is not None else None) or DnsAnswer()
    dns = l7.dns
    dns.query = text_of(texts[0])
    dns.observation_source = "packet"
    qtypes = answer.qtypes or (() if method is None else ({1: "A", 28: "AAAA", 999: "TYPE999"}[method],))
    dns.qtypes.extend(qtypes)
    asked = f"{dns.query} {','.join(qtypes)}"
    if l7.type != L7Type.RESPONSE:
        flow.Summary = f"DNS Query {asked}"
        return
    dns.ips.extend(answer.ips)
    dns.ttl = answer.ttl
    dns.cnames.extend(answer.cnames)
    dns.rcode = value["l7_code"]
    dns.rrtypes.extend(answer.rrtypes)
    if dns.rcode:
        text = {2: "RCode: Server Failure ", 3: "RCode: Non-Existent Domain"}[dns.rcode]
    else:
        texts = [f'"{",".join(answer.ips)}"'] if answer.ips else []
        texts += [f'CNAMEs: "{",".join(answer.cnames)}"'] if answer.cnames else []
        text = " ".join(texts)
    flow.Summary = f"DNS Answer {text} TTL: {answer.ttl} (Query {asked})"
