"""Random records, extras and filters from small pools, so that filters meet what they ask for."""

import enum
import ipaddress
from random import Random

import numpy as np
from google.protobuf.struct_pb2 import Struct

from observer.api import flow_pb2
from observer.extra import Extra
from observer.identity.endpoints import Endpoint
from observer.policy.model import PolicyRef
from observer.record import (
    Flags,
    HttpMethod,
    L7Kind,
    Present,
    Records,
    TcpFlag,
    empty,
    pack_text,
)
from observer.store import Store
from observer.wire import FlowDecoder

ENDPOINTS = [
    Endpoint(identity=2, labels=("reserved:world",), names=("api.github.com",)),
    Endpoint(identity=1, labels=("reserved:host",)),
    Endpoint(
        identity=300,
        cluster="default",
        namespace="shop",
        pod="cart-0",
        labels=("k8s:app=cart", "k8s:io.kubernetes.pod.namespace=shop"),
        workloads=(("cart", "StatefulSet"),),
        service=("shop", "cart"),
    ),
    Endpoint(
        identity=301,
        cluster="east",
        namespace="default",
        pod="cart-frontend",
        labels=("container:app=cart", "k8s:tier=3"),
        workloads=(("cart", "Deployment"), ("other", "Job")),
        names=("cart.default.svc.cluster.local", "a_b.example.org"),
    ),
    Endpoint(identity=0, namespace="shop"),
]
POLICIES = [
    PolicyRef("cart-only", "shop", "CiliumNetworkPolicy", (), 1),
    PolicyRef("everybody", "", "CiliumClusterwideNetworkPolicy", (), 1),
]
NODES = ["", "node-1", "east/node-2", "Node3"]
ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.1.2.3", "192.168.0.9", "0.0.0.0", "fd00::1", "fd00::1:0:0:2", "::1", "::"]
MAPPED = "::ffff:10.0.0.1"  # in a flow of IPv6
URLS = [
    (b"/", b"shop"),
    (b"/cart?item=1#x", b"shop:8080"),
    (b"/a%20b/%2e", b"shop"),
    (b"/bad%zz", b"shop"),
    (b"http://proxy.example/x", b""),
    (b"*", b""),
    (b"/caf\xc3\xa9/\xff", b"shop"),
    (b"", b""),
    # hostile: control bytes, half escapes, surrogates, other forms of a target, hosts that are none
    (b"/a\x00b", b"shop"),
    (b"/a\r\nb?\x7f", b"shop"),
    (b"/%", b"shop"),
    (b"/%ed%a0%80\xed\xa0\x80", b"shop"),
    (b"/cart", b"sh op"),
    (b"/cart", b"[::1"),
    (b"/cart", b"u%zz@shop:8x"),
    (b"/cart", b"caf\xe9\xff"),
    (b"//cart//", b"shop"),
    (b"?cart", b"shop"),
    (b"*", b"shop"),
    (b"*?cart", b"shop"),
    (b"shop:80", b"shop"),
    (b":cart", b""),
    (b"1http://shop/cart", b"shop"),
    (b"", b"shop"),
    (b"/\\xff", b"shop"),
    (b"/" + b"c" * 254, b"shop"),  # 259 bytes: whole, and yet over one slot
    (b"/cart?" + b"\xff" * 290, b"shop" * 30),  # cut
    (b"/" + b"c" * 400 + b"art", b""),
]
HEADS = [
    b"",
    b"Host: shop\r\nX-Id: 7\r\n",
    b"X-Id:7\r\nX-Id: 8",
    b"x-id: 7\nX-Id \t: 7 \r\r\n",
    b"X-Id: 6\r\n 7\r\nX-Other: 7\r\n",  # folded
    b"X-Id: 7\n\t\r\n",
    b" X-Id: 7\r\n",
    b"X-Id\r\n: 7\r\nX-Id 7",
    b"X-\xff: \xff\r\n",
    b"X-\\xff: \\xff\r\n",
    b"caf\xc3\xa9: caf\xc3\xa9\r\n",
    b"\r\n\r\n:\r\n\x00",
]
EXTENSIONS = {
    L7Kind.GRPC: [
        {"grpc": {"service": "shop.Cart", "method": "Add", "status": 14, "status_name": "UNAVAILABLE"}},
        {"grpc": {"service": "shop.Cart", "method": "Get"}, "http2": {"stream_id": 7}},
        {"grpc": {}},
        {"http2": {"stream_id": 7}},
    ],
    L7Kind.KAFKA: [{"kafka": {"topics": ["orders", "\\xff", "more"]}}, {"kafka": {"client_id": "x"}}],
    L7Kind.TLS: [{"tls": {"server_name": "shop"}}],
}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def packed(text: str) -> tuple[int, list[int]]:
    if text == MAPPED:
        return 6, list(ipaddress.IPv6Address(text).packed)
    address = ipaddress.ip_address(text)
    if address.version == 4:
        return 4, list(ipaddress.IPv6Address(f"::ffff:{text}").packed)
    return 6, list(address.packed)


def some_flags(random: Random, flags: type[enum.IntFlag]) -> int:
    return sum(int(flag) for flag in flags if random.random() < 0.5)


def flow_row(random: Random, decoder: FlowDecoder) -> tuple[Records, Extra | None]:
    """One record with whatever it may have, and perhaps an extra; or one of another server's flow."""
    if random.random() < 0.1:
        return decoder.add(imported_flow(random))
    record = empty(1)
    row = record[0]
    some = random.choice
    row["time_ns"] = random.randrange(1 << 62)
    row["verdict"] = some([0, 1, 2, 2, 4, 5])
    row["event_type"], row["sub_type"] = some([(4, 0), (4, 3), (1, 133), (129, 0), (5, 1), (0, 0)])
    row["direction"] = some([0, 1, 2])
    row["is_reply"] = some([0, 1])
    row["drop_reason_desc"] = some([0, 133, 181])
    row["present"] = some_flags(random, Present)
    row["protocol"] = some([6, 6, 17, 132, 1, 58, 2, 112, 47])
    row["tcp_flags"] = some_flags(random, TcpFlag)
    row["source_port"], row["destination_port"] = some([0, 80, 443, 40000]), some([0, 53, 80, 8080])
    row["source_endpoint"], row["destination_endpoint"] = some([0, 1, 3, 4, 5]), some([0, 2, 3, 4, 5])
    row["source_identity"], row["destination_identity"] = some([0, 0, 300, 999]), some([0, 0, 301, 2])
    row["egress_rule"], row["ingress_rule"] = some([0, 1, 2]), some([0, 0, 2])
    row["ifindex"] = some([0, 1, 7])
    family, row["source_ip"] = packed(some([*ADDRESSES, MAPPED]))
    _, row["destination_ip"] = packed(some([text for text in ADDRESSES if (":" in text) == (family == 6)]))
    row["family"] = some([family, family, family, 0])
    kind = row["l7_kind"] = some([0, 0, *[L7Kind.HTTP] * 3, L7Kind.DNS, L7Kind.KAFKA, L7Kind.GRPC, L7Kind.TLS])
    row["type"] = 2 if kind else 1
    row["l7_type"] = some([1, 2])
    row["l7_code"] = some([0, 3, 200, 404, 503, 4040])
    row["l7_version"], row["l7_id"] = some([0, 11, 20]), some([0, 7])
    row["latency_ns"] = some([0, 1_000, 1_500_000, 20_000_000, 3_000_000_000])
    row["bytes"], row["grpc_status"] = some([0, 1, 1_500, 1 << 40]), some([0, 3, 14])
    row["icmp_type"], row["icmp_code"] = some([0, 3, 8, 128]), some([0, 1])
    row["l7_method"] = some([0, HttpMethod.GET, HttpMethod.POST, HttpMethod.CONNECT, HttpMethod.OTHER, 28])
    texts: tuple[bytes, ...] = (some([b"topic", b"orders", b"", b"\xff"]), b"client")
    if kind in (L7Kind.HTTP, L7Kind.GRPC):
        texts = (*some(URLS), some([b"PURGE", b"get", b"CONNECT", b"\xff", b""]), some([b"", b"", b"https", b"\x00:"]))
    elif kind == L7Kind.DNS:
        texts = (some([b"api.github.com.", b"cart.shop.svc.", b"", b"\xff.example.", b"a\n\x00", b"x." * 200]),)
    row["text_length"], text, cut = pack_text(texts)
    row["text"][: len(text)] = list(text)
    if random.random() < 0.05:  # another server's record may have any lengths
        row["text_length"] = some([(255, 255, 255, 255), (0, 9, 0, 200), (3, 0, 2, 1)])
    if random.random() < 0.5:
        return record, None
    extra = Extra(
        texts=texts if cut and some([True, True, False]) else (),
        head=some(HEADS),
        source_names=some([(), ("db.example.org", "x.example.org")]),
        destination_names=some([(), ("api.github.com.",)]),
        trace_id=some(["", TRACE]),
        extension=some([None, *EXTENSIONS.get(L7Kind(kind), [])]),
    )
    row["flags"] = Flags.EXTRA
    return record, extra


def imported_flow(random: Random) -> flow_pb2.Flow:
    """A flow of another server, which says what no record can: any part may be missing, empty or out of range."""
    some = random.choice
    flow = flow_pb2.Flow(uuid="elsewhere", verdict=some([0, 1, 2, 300]), traffic_direction=some([0, 1, 2, 256]))
    flow.drop_reason_desc, flow.drop_reason = some([0, 133]), some([0, 133])
    flow.node_name = some(NODES)
    for side in ("source", "destination"):
        end = some([None, flow_pb2.Endpoint(), *ENDPOINTS])
        if isinstance(end, flow_pb2.Endpoint):
            getattr(flow, side).SetInParent()
        elif end is not None:
            told = getattr(flow, side)
            told.identity, told.namespace, told.pod_name, told.cluster_name = (
                end.identity,
                end.namespace,
                end.pod,
                end.cluster,
            )
            told.labels.extend(end.labels)
            for name, kind in end.workloads:
                told.workloads.add(name=name, kind=kind)
        if some([True, False]):
            service = getattr(flow, f"{side}_service")
            service.namespace, service.name = "shop", "cart-0"
        getattr(flow, f"{side}_names").extend(some([[], ["api.github.com"], ["x.example.org", "db"]]))
    if some([True, True, False]):
        flow.IP.source, flow.IP.destination = some([*ADDRESSES, MAPPED, "", "0:0:0:0:0:0:0:1"]), some(ADDRESSES)
        flow.IP.source_xlated, flow.IP.encrypted = "10.0.0.1", some([True, False])
        flow.IP.ipVersion = some([0, 1, 2])
    if some([True, True, False]):
        ports = flow_pb2.TCP(source_port=some([80, 65536 + 80]), destination_port=some([0, 53]))
        if some([True, False]):
            ports.flags.SYN = True
        some([flow.l4.TCP, flow.l4.UDP, flow.l4.SCTP]).MergeFromString(ports.SerializeToString())
    elif some([True, False]):
        some([flow.l4.ICMPv4, flow.l4.ICMPv6, flow.l4.VRRP, flow.l4.IGMP]).SetInParent()
    if some([True, True, False]):
        flow.event_type.type, flow.event_type.sub_type = some([(4, 0), (4, 3), (1, 133), (129, 0), (1000, 0), (0, 0)])
        flow.trace_observation_point = some([0, 3, 101])
    if some([True, False]):
        flow.is_reply.value = some([True, False])
    kind = some(["", "http", "dns", "kafka"])
    if kind == "http":
        flow.l7.type = some([1, 2])
        flow.l7.http.code, flow.l7.http.method = some([0, 200, 404, 4040, 70_000]), some(["", "get", "GET", "PURGE"])
        flow.l7.http.url = some(["/cart", "http://shop:8080/a", "", "/bad%"])
        flow.l7.http.headers.add(key="X-Id", value="7")
    elif kind == "dns":
        flow.l7.dns.query = some(["", "api.github.com.", "cart.shop.svc."])
        flow.l7.dns.rcode, flow.l7.type = some([0, 3, 70_000]), some([1, 2])
    elif kind:
        flow.l7.kafka.topic, flow.l7.kafka.api_key = some(["orders", ""]), some(["produce", "nonsense", ""])
    if kind:
        flow.l7.latency_ns, flow.Summary = some([0, 1_500_000, 3_000_000_000]), some(["", "DNS cart", "HTTP/1.1 200"])
    if some([True, False]):
        ours = Struct()
        ours.update(some([{"bytes": 1500.5, "grpc": {"service": "shop.Cart", "method": "Add", "status": 14}},
                          {"bytes": "x", "kafka": {"topics": ["more", 7]}, "grpc": 7}, {}]))  # fmt: skip
        flow.extensions.Pack(ours)
    if some([True, False]):
        for policies in (flow.egress_denied_by, flow.ingress_allowed_by, flow.ingress_allowed_by):
            policies.add(name=some(["", "cart-only", "imported"]), namespace=some(["", "shop"]))
    flow.trace_context.parent.trace_id = some(["", TRACE])
    flow.ip_trace_id.trace_id = 7
    flow.interface.name = "eth0"
    flow.node_labels.append("zone=a")
    return flow


TEXTS = {
    "uuid": ["elsewhere", "nonsense"],
    "ip": ["10.0.0.1", "10.0.0.0/30", "10.0.0.7/8", "0.0.0.0/0", "192.168.0.9/32", "::ffff:10.0.0.1", "::ffff:0:0/96"],
    "pod": ["shop/", "/cart", "/", "cart", "shop/cart-0/x", "cart-frontend", "Shop/cart"],
    "fqdn": ["api.github.com", "*.example.org", "API.GitHub.com.", "a_b.*", "*"],
    "label": ["app=cart", "k8s:app", "k8s.app", "!app", "app in (cart, x),tier>2", "reserved:world", "tier notin (3)"],
    "cluster_name": ["default", "east", "prod-*"],
    "port": ["80", "080", "0", "53", "443", "8080", "65535"],
    "protocol": ["tcp", "UDP", "icmp", "ICMPv4", "icmpv6", "sctp", "http", "dns", "kafka", "igmp", "vrrp"],
    "http_status_code": ["200", "4+", "40+", "503", "1+"],
    "http_method": ["GET", "get", "Post", "purge", "connect", r"\xff"],
    "http_path": ["^/$", "cart", " ", "^$", "\ufffd", "é", r"^\*$", r"\\xff", "^//", "art$", "^/c+$"],
    "http_url": [
        "shop",
        "^http://shop:8080/",
        "#x$",
        "^https:",
        r"^\*",
        r"\\xff",
        r"\x00",
        "^/",
        "art$",
        "^http://shop$",
    ],
    "dns_query": [r"github\.com", "^$", "svc", r"\\xff", r"\x00", r"^(x\.){200}$"],
    "node_name": ["node-1", "east/*", "default/", "node*", "node3"],
    "node_labels": ["zone=a", "!zone"],
    "trace_id": ["", TRACE],
}
TEXTS["ip"] += ["::1", "0:0:0:0:0:0:0:1", "fd00::1", "fd00::/64", "::/0", "fd00::1:0:0:0/80", "::/128", "fe80::1%eth0"]
TEXTS["label"] += ["", "io.kubernetes.pod.namespace=shop", "container:app!=cart"]

SIDED = ("ip", "pod", "service", "fqdn", "label", "cluster_name", "port")
NUMBERS = {
    "verdict": [0, 1, 2, 5, 300],
    "traffic_direction": [0, 1, 2],
    "drop_reason_desc": [0, 133, 181],
    "ip_version": [0, 1, 2],
    "ip_trace_id": [0, 7],
    "encrypted": [True, False],
    "reply": [True, False],
    "source_identity": [0, 1, 2, 300, 999],
    "destination_identity": [0, 1, 2, 301, 999],
}
FIELDS = [field.name for field in flow_pb2.FlowFilter.DESCRIPTOR.fields if field.name != "experimental"]


def add_field(random: Random, wanted: flow_pb2.FlowFilter, name: str) -> None:
    """Ask for one field with a few values."""
    some = random.choice
    side, _, plain = name.partition("_")
    sided = {"ip_xlated": "ip", "service": "pod"}.get(plain, plain) if side in ("source", "destination") else name
    pool = TEXTS.get(sided)
    if pool:
        getattr(wanted, name).extend(random.sample(pool, random.randint(1, min(6, len(pool)))))
    elif name in NUMBERS:
        getattr(wanted, name).extend(random.sample(NUMBERS[name], random.randint(1, 2)))
    elif plain == "workload":
        getattr(wanted, name).add(name=some(["", "cart"]), kind=some(["", "Job", "Deployment"]))
    elif name == "event_type":
        kind = some([0, 1, 4, 129])
        wanted.event_type.add(type=kind, match_sub_type=some([True, False]), sub_type=some([0, 133]))
    elif name == "tcp_flags":
        wanted.tcp_flags.add(SYN=some([True, False]), ACK=some([True, False]), NS=some([True, False]))
    elif name == "interface":
        wanted.interface.add(index=some([0, 7]), name=some(["", "eth0"]))
    else:
        for _ in range(some([1, 1, 2])):
            key = some(["", "X-Id", "x-id", r"X-\xff", "caf\xe9", "Host"])
            wanted.http_header.add(key=key, value=some(["", "7", "6 7", r"\xff", "caf\xe9"]))
    if any(field.name.startswith("http_") for field, _ in wanted.ListFields()) and wanted.event_type:
        wanted.event_type.add(type=129)


def flow_filter(random: Random) -> flow_pb2.FlowFilter:
    """A filter with one to three fields."""
    wanted = flow_pb2.FlowFilter()
    for name in random.sample(FIELDS, random.choice([1, 1, 2, 3])):
        add_field(random, wanted, name)
    return wanted


def store_of(random: Random, count: int, capacity: int) -> Store:
    """A store that took random flows."""
    store = Store(capacity)
    for endpoint in ENDPOINTS:
        store.endpoints.intern(endpoint)
    for policy in POLICIES:
        store.policies.intern(policy)
    store.nodes[:] = NODES
    decoder = FlowDecoder(store.endpoints, store.policies)
    flows = [flow_row(random, decoder) for _ in range(count)]
    records = np.concatenate([record for record, _ in flows])
    extras = [(row, extra) for row, (_, extra) in enumerate(flows) if extra is not None]
    store.append(records, extras, np.array([random.randrange(len(NODES)) for _ in flows]))
    return store
