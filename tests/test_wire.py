"""Encoding by hand equals protobuf's own objects; decoding gives back what came; summaries are Hubble's."""

import ipaddress
import json
import time

import numpy as np
import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from observer import record as rec
from observer.api import flow_pb2, observer_pb2
from observer.extra import DnsAnswer, Extra, Tunnel
from observer.identity.endpoints import EndpointTable
from observer.policy.model import PolicyTable
from observer.record import Flags, L7Kind, L7Type, Present
from observer.wire import FlowDecoder, FlowEncoder, summary
from observer.wire.layer7 import url
from observer.wire.protobuf import MAX_NESTING, Cache, encode_varint, struct_entry, varint, varints
from tests.wire_oracle import CART, Tables, assemble, make_record, tables

SECOND = 1_700_000_000
# Rows are large to draw, and others may share the machine: time is not what these tests judge.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
HTTP = {"family": 4, "protocol": 6, "type": 2, "event_type": 129, "l7_kind": L7Kind.HTTP, "l7_version": 11}


def same(encoded: bytes, expected: flow_pb2.Flow, entries: dict[str, object]) -> None:
    """Compare whole flows; an extension is compared by its content, because maps have no order."""
    flow = flow_pb2.Flow.FromString(encoded)
    struct = Struct()
    if entries:
        assert flow.extensions.type_url == "type.googleapis.com/google.protobuf.Struct"
        assert flow.extensions.Unpack(struct)
        wanted = Struct()
        wanted.update(entries)
        assert struct == wanted
    else:
        assert not flow.HasField("extensions")
    flow.ClearField("extensions")
    expected.ClearField("extensions")
    assert flow == expected


# Random records, of the values that the pipeline may give

u8, u16, u32, u64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 64))
addresses = st.one_of(
    st.ip_addresses(v=4).map(lambda ip: (4, b"\0" * 10 + b"\xff\xff" + ip.packed)),
    st.ip_addresses(v=6).map(lambda ip: (6, ip.packed)),
    st.sampled_from(["::ffff:10.0.0.1", "::1", "::", "::1.2.3.4", "fd00::10:0:0:1", "1:0:1:1:1:1:1:1"]).map(
        lambda text: (6, ipaddress.IPv6Address(text).packed)
    ),
    st.just((0, bytes(16))),
)
texts = st.lists(
    st.one_of(
        st.sampled_from([b"", b"*", b"/", b"/v1/charge?a=1&b=<2>", b"api.shop", b"http://b/x", b"pay:443"]),
        st.binary(max_size=40),
        st.binary(min_size=200, max_size=400),
    ),
    min_size=3,
    max_size=3,
).map(tuple)
names = st.lists(st.sampled_from(["a.example", "b.example.org", "ü.example"]), max_size=2).map(tuple)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
heads = st.one_of(
    st.just(b""),
    st.lists(
        st.sampled_from(
            [b"Host: a", b"X: \xff\xfe", b"Empty:", b": no name", b"no colon", b"A: b: c", b"Long: " + b"x" * 600]
        ),
        min_size=1,
        max_size=5,
    ).map(lambda lines: b"\r\n".join(lines) + b"\r\n"),
    st.just(b"Folded: one\r\n two\r\nOther: x\n"),
    st.binary(max_size=60),
)


@st.composite
def rows(draw: st.DrawFn) -> tuple[rec.Records, Extra | None]:
    family, source = draw(addresses)
    other = draw(addresses)
    kind = draw(st.sampled_from([*L7Kind, L7Kind.NONE, L7Kind.NONE]))
    present = draw(st.integers(0, (1 << 12) - 1))
    protocol = draw(st.sampled_from([6, 6, 6, 17, 132, 1, 58, 2, 112, 47]))
    if protocol in (1, 58):
        icmp_type, icmp_code = draw(st.sampled_from({1: [8, 0], 58: [128, 129]}[protocol])), 0
    else:
        icmp_type, icmp_code = draw(u8), draw(u8)
    method = {
        L7Kind.HTTP: [1, 3, 6, 7, 255],
        L7Kind.GRPC: [3],
        L7Kind.DNS: [1, 28, 999],
        L7Kind.KAFKA: [0, 1, 18],
    }.get(kind, [0])
    columns = {
        "time_ns": draw(st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 10**9, SECOND * 10**9 + 16384])),
        "latency_ns": draw(u64 | st.sampled_from([0, 999_999, 7_000_000])),
        "bytes": draw(st.integers(0, 2**53)),
        "cookie": draw(st.just(0) | u64),
        "cgroup_id": draw(st.just(0) | u64),
        "packets": draw(u32),
        "pid": draw(u32),
        "ifindex": draw(st.just(0) | u32),
        "source_endpoint": draw(st.integers(0, 3)),
        "destination_endpoint": draw(st.integers(0, 3)),
        "source_identity": draw(st.just(0) | u32),
        "destination_identity": draw(st.just(0) | u32),
        "egress_rule": draw(st.integers(0, 2)),
        "ingress_rule": draw(st.integers(0, 2)),
        "l7_id": draw(u32),
        "present": present,
        "flags": draw(st.sampled_from([0, 0, int(Flags.L7_INCOMPLETE)])),
        "drop_reason": draw(st.just(0) | u32),
        "tunnel_id": draw(st.integers(0, (1 << 24) - 1)),
        "source_ip": source,
        "destination_ip": other[1] if other[0] == family else source,
        "source_mac": draw(st.binary(min_size=6, max_size=6)),
        "destination_mac": draw(st.binary(min_size=6, max_size=6)),
        "source_port": draw(u16),
        "destination_port": draw(u16),
        "vlan": draw(u16),
        "tcp_flags": draw(st.integers(0, 511)),
        "drop_reason_desc": draw(st.sampled_from([0, 133, 181, 150])),
        "l7_code": draw(st.sampled_from({L7Kind.DNS: [0, 2, 3]}.get(kind, [0, 200, 404, 65535]))),
        "l7_version": draw(st.sampled_from([0, 10, 11, 20])),
        "l7_method": draw(st.sampled_from(method)),
        "family": family,
        "protocol": protocol,
        "type": draw(st.integers(0, 3)),
        "event_type": draw(st.sampled_from([0, 1, 4, 129])),
        "sub_type": draw(st.sampled_from([0, 3, 10, 133])),
        "verdict": draw(st.integers(0, 7)),
        "direction": draw(st.integers(0, 2)),
        "is_reply": draw(st.integers(0, 1)),
        "l7_kind": kind,
        "l7_type": draw(st.integers(0, 3)),
        "policy_match": draw(st.integers(0, 6)),
        "grpc_status": draw(st.integers(0, 16)),
        "trace_reason": draw(st.integers(0, 4)),
        "icmp_type": icmp_type,
        "icmp_code": icmp_code,
        "tunnel": draw(st.integers(0, 2)),
        "comm": draw(st.sampled_from([b"", b"curl", b"gunicorn: wor"])),
    }
    whole = draw(texts)
    extra = draw(
        st.none()
        | st.builds(
            Extra,
            head=heads,
            dns=st.none()
            | st.builds(
                DnsAnswer,
                ips=st.sampled_from([(), ("10.0.0.1",), ("10.0.0.1", "fd00::1")]),
                cnames=names,
                ttl=u32,
                qtypes=st.sampled_from([(), ("A",), ("A", "AAAA")]),
                rrtypes=st.sampled_from([(), ("A",), ("CNAME", "A")]),
            ),
            source_names=names,
            destination_names=names,
            tunnel=st.none()
            | st.builds(
                Tunnel,
                st.integers(1, 2),
                st.sampled_from(["10.1.1.1", "fd00::1"]),
                st.sampled_from(["10.1.1.2", "fd00::2"]),
                u16,
                u16,
                st.integers(0, (1 << 24) - 1),
            ),
            trace_id=st.sampled_from(["", "4bf92f3577b34da6a3ce929d0e0e4736"]),
            extension=st.none() | st.dictionaries(st.text(max_size=8), json_values, max_size=3),
        )
    )
    record = make_record(whole, **columns)
    if record["flags"][0] & Flags.TEXT_CUT:
        extra = extra or Extra()
        extra.texts = whole
    return record, extra


@unhurried
@given(st.lists(st.tuples(rows(), st.integers(0, 1)), min_size=1, max_size=4))
def test_bytes_mean_what_protobufs_own_objects_mean(batch):
    source = tables()
    records = rec.empty(len(batch))
    for index, ((record, _), _) in enumerate(batch):
        records[index] = record[0]
    extras = [extra for (_, extra), _ in batch]
    nodes = [node for _, node in batch]
    encoder = FlowEncoder(source)
    for _ in range(2):  # the second time from what the encoder kept
        encoded = encoder.encode_many(records, extras, range(7, 7 + len(batch)), nodes)
        for index, flow in enumerate(encoded):
            same(flow, *assemble(records, extras[index], 7 + index, nodes[index], source, index))
    responses = encoder.responses(records, extras, range(7, 7 + len(batch)), nodes)
    for index, raw in enumerate(responses):
        response = observer_pb2.GetFlowsResponse.FromString(raw)
        assert response.flow == flow_pb2.Flow.FromString(encoded[index])
        assert response.node_name == source.nodes[nodes[index]]
        assert response.time == response.flow.time
        assert raw == encoder.response(encoded[index], source.nodes[nodes[index]], int(records["time_ns"][index]))
        assert encoder.encode(records[index], extras[index], 7 + index, nodes[index]) == encoded[index]
        assert encoder.flow(records[index : index + 1], extras[index], 7 + index, nodes[index]) == response.flow


@unhurried
@given(rows())
def test_decoded_flows_are_given_back_and_keep_their_columns(row):
    record, extra = row
    source = tables()
    flow = FlowEncoder(source).flow(record, extra, 3)
    theirs = Tables()
    decoder = FlowDecoder(theirs.endpoints, theirs.policies)
    again, kept = decoder.add(flow)
    assert FlowEncoder(theirs).flow(again, kept, 99) == flow
    assert again["flags"][0] & Flags.IMPORTED
    before, after = record[0], again[0]
    always = ["time_ns", "cookie", "cgroup_id", "ifindex", "verdict", "direction", "type", "event_type", "policy_match"]
    always += ["sub_type", "drop_reason_desc", "trace_reason", "drop_reason"]
    for name in always:
        assert after[name] == before[name], name
    if before["family"]:
        assert bytes(after["source_ip"]) == bytes(before["source_ip"])
        assert after["family"] == before["family"]
        if before["protocol"] in (6, 17, 132):
            for name in ("protocol", "source_port", "destination_port"):
                assert after[name] == before[name], name
    for bit in (Present.IS_REPLY, Present.MAC, Present.COUNTERS, Present.VLAN):
        assert bool(after["present"] & bit) == bool(before["present"] & bit)
    if before["present"] & Present.COUNTERS:
        assert (after["bytes"], after["packets"]) == (before["bytes"], before["packets"])
    if number := int(before["source_endpoint"]):
        assert theirs.endpoints[int(after["source_endpoint"])].pod == source.endpoints[number].pod
    if before["l7_kind"] == L7Kind.DNS:
        assert after["l7_kind"] == L7Kind.DNS


def test_a_decoded_flow_without_its_extra_is_encoded_from_its_columns():
    source = tables()
    record = make_record((b"/x", b"b"), **HTTP, l7_type=1, l7_method=1, present=int(Present.METHOD), source_endpoint=1)
    flow = FlowEncoder(source).flow(record, None, 3)
    again, extra = FlowDecoder(source.endpoints, source.policies).add(flow)
    assert again["source_endpoint"][0] == 1
    rebuilt = FlowEncoder(source).flow(again, None, 3)
    assert rebuilt == flow
    assert extra.imported == flow.SerializeToString()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"time": {"seconds": -5, "nanos": -1}},
        {"time": {"seconds": 2**62}},
        {"IP": {"source": "not an address", "destination": "10.0.0.1%eth0"}},
        {"IP": {"source": "fe80::1%eth0"}},
        {"ethernet": {"source": "zz", "destination": "00:11"}},
        {"l4": {"TCP": {"source_port": 2**32 - 1}}},
        {"l4": {"ICMPv4": {"type": 2**32 - 1, "code": 300}}},
        {"l4": {"IGMP": {"type": 22, "group_address": "224.0.0.1"}}},
        {"l7": {"type": 77, "http": {"code": 2**32 - 1, "method": "BREW", "protocol": "HTTP/9"}}},
        {"l7": {"type": 2, "kafka": {"api_key": "9" * 50, "error_code": -1, "correlation_id": -7}}},
        {"l7": {"type": 2, "kafka": {"api_key": "\u0661", "api_version": -3}}},
        {"verdict": 300, "Type": -1, "drop_reason": 2**31, "event_type": {"type": -1, "sub_type": 2**31 - 1}},
        {"extensions": {"type_url": "type.googleapis.com/google.protobuf.Struct", "value": b"\xff\xff"}},
        {"extensions": {"type_url": "type.googleapis.com/flow.Flow", "value": b""}},
        {"policy_match_type": 2**32 - 1, "interface": {"index": 2**32 - 1}, "tunnel": {"vni": 2**32 - 1}},
    ],
)
def test_a_strangers_flow_is_read_whatever_it_says(fields):
    flow = flow_pb2.Flow(**fields)
    source = Tables()
    record, extra = FlowDecoder(source.endpoints, source.policies).add(flow)
    assert FlowEncoder(source).flow(record, extra, 1) == flow
    FlowEncoder(source).flow(record, None, 1)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e300, -1.0, "7", True, None, [1], 2.5])
def test_counters_of_a_stranger_are_read_only_where_they_are_numbers(value):
    struct = Struct()
    struct.update({"bytes": value, "process": "curl"})
    flow = flow_pb2.Flow()
    flow.extensions.Pack(struct)
    record, _ = FlowDecoder(EndpointTable(), PolicyTable()).add(flow)
    assert record["bytes"][0] == (1 if value is True else 0)


def test_one_flow_in_full():
    """The whole of a refused request, as a reader of JSON sees it."""
    source = tables()
    record = make_record(
        (b"/v1/refund?id=7", b"payments.shop"),
        **HTTP,
        time_ns=SECOND * 10**9 + 250_000_000,
        source_endpoint=1,
        destination_endpoint=2,
        source_ip="10.0.1.10",
        destination_ip="10.0.1.20",
        source_port=40000,
        destination_port=8080,
        verdict=2,
        drop_reason_desc=133,
        direction=1,
        ingress_rule=1,
        policy_match=2,
        l7_type=L7Type.REQUEST,
        l7_method=3,
        present=int(Present.IS_REPLY | Present.METHOD),
    )
    flow = FlowEncoder(source).flow(record, Extra(head=b"Host: payments.shop\r\n"), 1, 1)
    assert json_format.MessageToDict(flow, preserving_proto_field_name=True) == {
        "time": "2023-11-14T22:13:20.250Z",
        "uuid": "6d1d7e1b-0000-4000-8000-000000000001",
        "verdict": "DROPPED",
        "drop_reason": 133,
        "IP": {"source": "10.0.1.10", "destination": "10.0.1.20", "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": 40000, "destination_port": 8080}},
        "source": {
            "ID": 1,
            "identity": 258,
            "cluster_name": "default",
            "namespace": "shop",
            "labels": ["k8s:app=cart", "k8s:io.kubernetes.pod.namespace=shop"],
            "pod_name": "cart-0",
            "workloads": [{"name": "cart", "kind": "Deployment"}],
        },
        "destination": {"ID": 2, "identity": 259, "namespace": "shop", "pod_name": "payments-0"},
        "Type": "L7",
        "node_name": "west/node-2",
        "l7": {
            "type": "REQUEST",
            "http": {
                "method": "POST",
                "url": "http://payments.shop/v1/refund?id=7",
                "protocol": "HTTP/1.1",
                "headers": [{"key": "Host", "value": "payments.shop"}],
            },
        },
        "event_type": {"type": 129},
        "destination_service": {"name": "payments", "namespace": "shop"},
        "traffic_direction": "INGRESS",
        "policy_match_type": 2,
        "drop_reason_desc": "POLICY_DENIED",
        "is_reply": False,
        "ingress_denied_by": [
            {
                "name": "only-charge",
                "namespace": "shop",
                "labels": ["k8s:io.cilium.k8s.policy.name=only-charge"],
                "revision": "7",
                "kind": "CiliumNetworkPolicy",
            }
        ],
        "Summary": "HTTP/1.1 POST http://payments.shop/v1/refund?id=7",
    }


@pytest.mark.parametrize(
    ("columns", "denied", "allowed"),
    [
        ({"verdict": 1, "direction": 1}, None, ["egress_allowed_by", "ingress_allowed_by"]),
        ({"verdict": 2, "direction": 1, "drop_reason_desc": 133}, "ingress_denied_by", ["egress_allowed_by"]),
        ({"verdict": 2, "direction": 2, "drop_reason_desc": 181}, "egress_denied_by", ["ingress_allowed_by"]),
        ({"verdict": 4, "direction": 2}, "egress_denied_by", ["ingress_allowed_by"]),
        # The kernel dropped what policy had allowed.
        ({"verdict": 2, "direction": 1, "drop_reason_desc": 150}, None, ["egress_allowed_by", "ingress_allowed_by"]),
    ],
)
def test_policies_stand_with_what_they_decided(columns, denied, allowed):
    flow = FlowEncoder(tables()).flow(make_record(egress_rule=1, ingress_rule=2, **columns), None, 0)
    lists = ["egress_allowed_by", "ingress_allowed_by", "egress_denied_by", "ingress_denied_by"]
    assert [name for name in lists if getattr(flow, name)] == sorted(
        [*allowed, *([denied] if denied else [])], key=lists.index
    )


@pytest.mark.parametrize(
    ("method", "target", "host", "expected"),
    [
        (b"GET", b"/x?a=1", b"b", b"http://b/x?a=1"),
        (b"GET", b"http://b/x", b"b", b"http://b/x"),
        (b"CONNECT", b"pay:443", b"pay:443", b"pay:443"),
        (b"OPTIONS", b"*", b"b", b"http://b"),
        (b"GET", b"/x", b"", b"/x"),
        (b"", b"", b"b", b""),
    ],
)
def test_urls(method, target, host, expected):
    assert url(method, target, host) == expected


def test_the_scheme_of_http2_is_in_the_url():
    assert url(b"GET", b"/x", b"b", b"https") == b"https://b/x"
    assert url(b"CONNECT", b"/chat", b"b", b"http") == b"http://b/chat"  # RFC 8441
    assert url(b"CONNECT", b"b:1", b"b:1", b"") == b"b:1"


RESPONSE = HTTP | {"l7_type": 2, "l7_method": 1, "l7_code": 200, "latency_ns": 7_900_000}
DNS = {"family": 4, "protocol": 17, "l7_kind": L7Kind.DNS, "l7_method": 1}
KAFKA = {"family": 4, "protocol": 6, "l7_kind": L7Kind.KAFKA, "l7_method": 1, "l7_id": 7}
METHOD, CODE, LATENCY, ICMP, FLAGS = (int(Present[name]) for name in ("METHOD", "CODE", "LATENCY", "ICMP", "TCP_FLAGS"))
ANSWERED = METHOD | CODE | LATENCY
ANSWER = DnsAnswer(("10.0.0.1", "10.0.0.2"), ("b.org.",), 30, ("A",), ("CNAME", "A"))


@pytest.mark.parametrize(
    ("expected", "columns", "texts", "extra"),
    [
        ("TCP Flags: SYN, ACK", {"protocol": 6, "present": FLAGS, "tcp_flags": 18}, (), None),
        (
            "TCP Flags: SYN, ACK, RST, FIN, PSH, URG, ECE, CWR, NS",
            {"protocol": 6, "present": FLAGS, "tcp_flags": 511},
            (),
            None,
        ),
        ("", {"protocol": 6}, (), None),
        ("UDP", {"protocol": 17}, (), None),
        ("SCTP", {"protocol": 132}, (), None),
        ("ICMPv4 EchoRequest", {"protocol": 1, "present": ICMP, "icmp_type": 8}, (), None),
        (
            "ICMPv4 DestinationUnreachable(Port)",
            {"protocol": 1, "present": ICMP, "icmp_type": 3, "icmp_code": 3},
            (),
            None,
        ),
        ("ICMPv6 EchoReply", {"protocol": 58, "present": ICMP, "icmp_type": 129}, (), None),
        ("", {"protocol": 47}, (), None),
        (
            "HTTP/1.1 GET http://b/x?a=1&b=<2>",
            RESPONSE | {"l7_type": 1, "present": METHOD},
            (b"/x?a=1&b=<2>", b"b"),
            None,
        ),
        ("HTTP/1.1 200 7ms (GET http://b/x)", RESPONSE | {"present": ANSWERED}, (b"/x", b"b"), None),
        ("HTTP/1.1 200 (GET http://b/x)", RESPONSE | {"present": METHOD | CODE}, (b"/x", b"b"), None),
        ("HTTP/1.1 200 7ms", RESPONSE | {"present": CODE | LATENCY}, (), None),
        (
            "HTTP/2 200 0ms (GET http://b/x)",
            RESPONSE | {"l7_version": 20, "latency_ns": 0, "present": ANSWERED},
            (b"/x", b"b"),
            None,
        ),
        (
            "HTTP/1.1 PROPFIND http://b/x",
            RESPONSE | {"l7_type": 1, "l7_method": 255, "present": METHOD},
            (b"/x", b"b", b"PROPFIND"),
            None,
        ),
        ("DNS Query q. A", DNS | {"l7_type": 1, "present": METHOD}, (b"q.",), None),
        (
            'DNS Answer "10.0.0.1,10.0.0.2" CNAMEs: "b.org." TTL: 30 (Query q. A)',
            DNS | {"l7_type": 2, "present": ANSWERED},
            (b"q.",),
            Extra(dns=ANSWER),
        ),
        (
            "DNS Answer RCode: Non-Existent Domain TTL: 0 (Query q. A)",
            DNS | {"l7_type": 2, "l7_code": 3, "present": ANSWERED},
            (b"q.",),
            None,
        ),
        ("Kafka request fetch correlation id 7 topic 't'", KAFKA | {"l7_type": 1, "present": METHOD}, (b"t",), None),
        (
            "Kafka response fetch correlation id -1 topic 't' return code -1",
            KAFKA | {"l7_type": 2, "l7_id": 2**32 - 1, "l7_code": 65535, "present": METHOD | CODE},
            (b"t",),
            None,
        ),
        ("TLS shop.example", {"protocol": 6, "l7_kind": L7Kind.TLS, "l7_type": 1}, (b"shop.example", b"h2"), None),
    ],
)
def test_summaries(expected, columns, texts, extra):
    record = make_record(texts, **{"family": 4, **columns})
    assert FlowEncoder(tables()).flow(record, extra, 0).Summary == expected


@pytest.mark.parametrize(
    ("version", "icmp_type", "code", "expected"),
    [
        (4, 0, 0, "ICMPv4 EchoReply"),
        (4, 8, 1, "ICMPv4 EchoRequest(Code: 1)"),
        (4, 3, 15, "ICMPv4 DestinationUnreachable(PrecedenceCutoff)"),
        (4, 3, 16, "ICMPv4 DestinationUnreachable(Code: 16)"),
        (4, 5, 3, "ICMPv4 Redirect(TOS+Host)"),
        (4, 11, 0, "ICMPv4 TimeExceeded(TTLExceeded)"),
        (4, 250, 9, "ICMPv4 250(9)"),
        (6, 1, 4, "ICMPv6 DestinationUnreachable(PortUnreachable)"),
        (6, 2, 0, "ICMPv6 PacketTooBig"),
        (6, 135, 0, "ICMPv6 NeighborSolicitation"),
        (6, 143, 0, "ICMPv6 143(0)"),
    ],
)
def test_icmp_names(version, icmp_type, code, expected):
    assert summary.icmp(version, icmp_type, code) == expected


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain", '"plain"'),
        ('rpc error: "boom"', '"rpc error: \\"boom\\""'),
        ("a\\b\n\x1b\u202e\u00fc\U000e0001", '"a\\\\b\\n\\x1b\\u202e\u00fc\\U000e0001"'),
    ],
)
def test_go_quoting(text, quoted):
    assert summary.quote(text) == quoted


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02"), (2**64 - 1, "ffffffffffffffffff01")],
)
def test_varints(number, expected):
    """The examples of the encoding guide, and the edges."""
    assert encode_varint(number).hex() == expected


@unhurried
@given(st.integers(0, 2**64 - 1) | st.sampled_from([2**14 - 1, 2**14, 2**30 - 1, 2**30, 2**21]))
def test_the_quick_varint_is_the_plain_one(number):
    assert varint(number) == encode_varint(number)


def test_caches_are_bounded():
    cache: Cache[int] = Cache(encode_varint, size=10)
    for number in range(1000):
        assert cache[number] == encode_varint(number)
        assert len(cache) <= 10
    encoder = FlowEncoder(tables())
    count = 20_000
    records = rec.empty(count)
    records["family"] = 4
    records["source_identity"] = range(1, count + 1)
    records["source_ip"][:, 12:] = np.arange(count, dtype=">u4").view("u1").reshape(-1, 4)
    records["l7_kind"] = L7Kind.HTTP
    records["l7_code"] = records["source_identity"]
    encoder.encode_many(records, [None] * count, range(count), [0] * count)
    assert all(len(kept) <= 8192 for kept in (encoder._stories, encoder._addresses, encoder._layer7._messages))
    assert len(varints) <= 1 << 16


def test_a_deep_extension_ends_where_protobuf_readers_would_give_up():
    value: list = []
    for _ in range(200):
        value = [value]
    read, depth = Struct.FromString(struct_entry("deep", value)).fields["deep"], 0
    while read.WhichOneof("kind") == "list_value":
        read, depth = read.list_value.values[0], depth + 1
    assert (read.WhichOneof("kind"), depth) == ("null_value", MAX_NESTING + 1)


@pytest.mark.parametrize("number", [10**400, float("inf"), float("nan")])
def test_numbers_that_json_has_not_become_null(number):
    """The stock CLI would fail on the whole flow."""
    assert Struct.FromString(struct_entry("n", number)).fields["n"].WhichOneof("kind") == "null_value"


def test_a_reserved_identity_has_no_endpoint_number():
    flow = FlowEncoder(tables()).flow(make_record(source_endpoint=1, destination_endpoint=3), None, 0)
    assert flow.source.ID == 1
    assert (flow.destination.ID, flow.destination.identity) == (0, 2)
    assert list(flow.destination_names) == ["api.github.com", "github.com"]


def test_an_end_that_was_not_looked_up_is_absent():
    flow = FlowEncoder(tables()).flow(make_record(destination_identity=7), None, 0)
    assert not flow.HasField("source")
    assert flow.destination.identity == 7


def test_a_changed_endpoint_has_a_number_of_its_own():
    source = tables()
    encoder = FlowEncoder(source)
    assert encoder.flow(make_record(source_endpoint=1), None, 0).source.pod_name == CART.pod
    number = source.endpoints.intern(type(CART)(identity=300, pod="cart-1"))
    assert encoder.flow(make_record(source_endpoint=number), None, 0).source.pod_name == "cart-1"


def test_the_extension_survives_the_trip_to_json_and_back():
    flow = FlowEncoder(tables()).flow(make_record(), Extra(extension={"topics": ["a", "b"], "n": 3}), 0)
    assert json.loads(json_format.MessageToJson(flow))["extensions"]["value"] == {"topics": ["a", "b"], "n": 3.0}
    _, extra = FlowDecoder(EndpointTable(), PolicyTable()).add(flow)
    assert extra.extension == {"topics": ["a", "b"], "n": 3}


def test_flows_of_many_seconds_keep_their_time():
    encoder = FlowEncoder(tables())
    records = rec.empty(3)
    records["time_ns"] = [5, 10**9, time.time_ns()]
    got = [flow_pb2.Flow.FromString(raw) for raw in encoder.encode_many(records, [None] * 3, range(3), [0] * 3)]
    assert [flow.time.ToNanoseconds() for flow in got] == records["time_ns"].tolist()
