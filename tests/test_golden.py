"""The comparison itself: it is silent on agreement and names each kind of difference."""

import copy
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from observer.api import flow_pb2
from tests.golden import Golden, compare

TO = {"src": "10.0.0.1", "sport": 4000, "dst": "10.0.0.2", "dport": 80}
BACK = {"src": "10.0.0.2", "sport": 80, "dst": "10.0.0.1", "dport": 4000}
ASK = {"src": "10.0.0.1", "sport": 5000, "dst": "10.0.0.2", "dport": 53, "proto": "udp"}
L4 = {"t": "l4", "layer": "outer", "packets": 5, "bytes": 500, "syn": 0, "fin": 0, "rst": 0}
GOLDEN: list[Golden] = [
    {"t": "http1_req", **TO, "method": "GET", "host": "web", "uri": "/a", "version": "HTTP/1.1"},
    {"t": "http1_resp", **BACK, "status": 100, "version": "HTTP/1.1"},
    {"t": "http1_resp", **BACK, "status": 200, "version": "HTTP/1.1"},
    {"t": "http1_req", **TO, "method": "CONNECT", "host": "web", "uri": "web:443", "version": "HTTP/1.1"},
    {"t": "dns", **ASK, "id": 7, "qr": 0, "names": ["a.test"], "types": [28], "rcode": None, "answers": []},
    {**L4, "proto": "tcp", **TO, "syn": 1},
    {**L4, "proto": "tcp", **BACK},
    {**L4, "proto": "udp", **{key: ASK[key] for key in TO}},
    {**L4, "proto": "icmp", "src": "10.0.0.2", "dst": "10.0.0.1", "sport": None, "dport": None},
]


def flow(ends: Golden, **fields: Any) -> flow_pb2.Flow:
    layer = {"source_port": ends["sport"], "destination_port": ends["dport"], **fields.pop("layer", {})}
    l4 = {"UDP" if ends.get("proto") == "udp" else "TCP": layer}
    return flow_pb2.Flow(IP={"source": ends["src"], "destination": ends["dst"]}, l4=l4, **fields)


def http(ends: Golden, kind: int, **fields: Any) -> flow_pb2.Flow:
    return flow(ends, Type=flow_pb2.L7, l7={"type": kind, "http": {"protocol": "HTTP/1.1", **fields}})


def dns(identifier: int) -> flow_pb2.Flow:
    said = {"query": "a.test.", "qtypes": ["AAAA"]}
    made = flow(ASK, Type=flow_pb2.L7, l7={"type": flow_pb2.REQUEST, "dns": said})
    ours = Struct()
    ours.update({"dns": {"id": identifier}})
    made.extensions.Pack(ours)
    return made


FLOWS = [
    flow(TO, Type=flow_pb2.L3_L4, layer={"flags": {"SYN": True}}),
    http(TO, flow_pb2.REQUEST, method="GET", url="http://web/a"),
    http(BACK, flow_pb2.RESPONSE, code=200),
    http(TO, flow_pb2.REQUEST, method="CONNECT", url="web:443"),
    dns(7),
    flow_pb2.Flow(IP={"source": "10.0.0.2", "destination": "10.0.0.1"}, l4={"ICMPv4": {"type": 3}}),
]


def test_agreement_is_silent() -> None:
    assert compare(GOLDEN, FLOWS) == []


@pytest.mark.parametrize(
    ("change", "differences"),
    [
        ({0: {"uri": "/b"}}, 2),
        ({0: {"host": "other"}}, 2),
        ({0: {"method": "PUT"}}, 2),
        ({0: {"version": "HTTP/1.0"}}, 2),
        ({2: {"status": 404}}, 2),
        ({1: {"status": 101}}, 1),
        ({4: {"id": 8}}, 2),
        ({4: {"names": ["b.test"]}}, 2),
        ({4: {"types": [1]}}, 2),
        ({5: {"syn": 0}}, 1),
        ({5: {"rst": 1}}, 1),
        ({7: {"sport": 5001}}, 2),
        ({8: {"dst": "10.0.0.3"}}, 2),
        ({5: {"vlan": 7}}, 2),
    ],
    ids=str,
)
def test_each_difference_is_named(change: dict[int, Golden], differences: int) -> None:
    golden = copy.deepcopy(GOLDEN)
    for line, fields in change.items():
        golden[line].update(fields)
    assert len(compare(golden, FLOWS)) == differences


@pytest.mark.parametrize("gone", range(1, 5))
def test_a_missing_message_is_named(gone: int) -> None:
    differences = compare(GOLDEN, FLOWS[:gone] + FLOWS[gone + 1 :])
    assert "only the golden has" in differences[0]


TLS_TO = {**TO, "dport": 443}
HELLO: Golden = {"t": "tls_hello", **TLS_TO, "stream": 3, "sni": "web.test", "alpn": ["h2"]}
TLS_L4 = {**L4, "proto": "tcp", **TLS_TO}


def told(ends: Golden, **words: Any) -> flow_pb2.Flow:
    made = flow(ends, Type=flow_pb2.L3_L4)
    ours = Struct()
    ours.update(words)
    made.extensions.Pack(ours)
    return made


GREETED = told(TLS_TO, tls={"server_name": "web.test", "alpn": ["h2"], "version": "TLS 1.3"})


@pytest.mark.parametrize(
    ("golden", "flows", "differences"),
    [
        ([TLS_L4, HELLO], [GREETED], 0),
        ([TLS_L4, HELLO], [GREETED, GREETED], 0),  # later flows of the connection say it too
        ([TLS_L4, HELLO, HELLO], [GREETED], 0),  # the second one answers HelloRetryRequest
        ([TLS_L4, HELLO, {**HELLO, "stream": 4}], [GREETED], 1),
        ([TLS_L4, {**HELLO, "sni": None}], [GREETED], 2),
        ([TLS_L4, {**HELLO, "alpn": []}], [GREETED], 2),
        ([TLS_L4], [GREETED], 1),
        ([TLS_L4, HELLO], [flow(TLS_TO)], 1),
        ([TLS_L4, HELLO, {**HELLO, "sport": 9}], [GREETED], 0),  # QUIC's: no TCP packets with these ends
    ],
)
def test_hellos(golden: list[Golden], flows: list[flow_pb2.Flow], differences: int) -> None:
    assert len(compare(golden, flows)) == differences


OUTER = {**L4, "proto": "udp", "src": "172.16.0.1", "sport": 5, "dst": "172.16.0.2", "dport": 4789}
INNER = {**L4, "layer": "inner", "proto": "tcp", **TO}
IPIP = {**OUTER, "proto": "ip", "sport": None, "dport": None}


def tunnelled(port: int = 4789) -> flow_pb2.Flow:
    made = flow(TO)
    made.tunnel.IP.source, made.tunnel.IP.destination = "172.16.0.1", "172.16.0.2"
    made.tunnel.l4.UDP.source_port, made.tunnel.l4.UDP.destination_port = 5, port
    return made


@pytest.mark.parametrize(
    ("golden", "flows", "differences"),
    [
        ([OUTER, INNER], [tunnelled()], 0),
        ([OUTER, INNER], [flow(TO)], 1),
        ([OUTER, INNER], [tunnelled(6081)], 2),
        ([OUTER], [tunnelled()], 1),
        ([IPIP, INNER], [told(TO, tunnel={"source": "172.16.0.1", "destination": "172.16.0.2"})], 0),
        ([IPIP, INNER], [told(TO, tunnel={"source": "172.16.0.1", "destination": "172.16.0.3"})], 1),
        ([OUTER, INNER], [flow(TO), flow({**OUTER, "proto": "udp"})], 0),  # some entered, some not: both are told
    ],
)
def test_tunnels(golden: list[Golden], flows: list[flow_pb2.Flow], differences: int) -> None:
    assert len(compare(golden, flows)) == differences


def test_the_order_within_a_direction_counts() -> None:
    swapped = [FLOWS[0], FLOWS[3], FLOWS[2], FLOWS[1], *FLOWS[4:]]
    assert len(compare(GOLDEN, swapped)) == 2


H2_GOLDEN: list[Golden] = [
    {"t": "http2_req", **TO, "sid": 1, "method": "POST", "path": "/s/M", "authority": "h", "scheme": "http"},
    {"t": "http2_req", **TO, "sid": 3, "method": "CONNECT", "path": None, "authority": "o:1", "scheme": None},
    {"t": "http2_resp", **BACK, "sid": 3, "status": 100},
    {"t": "http2_resp", **BACK, "sid": 3, "status": 502},
    {"t": "http2_resp", **BACK, "sid": 1, "status": 200},
    {"t": "http2_trailer", **BACK, "sid": 1, "grpc_status": 5, "grpc_message": ""},
    *GOLDEN[5:7],
]


def http2(ends: Golden, kind: int, sid: int, grpc: Golden | None = None, **fields: Any) -> flow_pb2.Flow:
    made = flow(ends, Type=flow_pb2.L7, l7={"type": kind, "http": {"protocol": "HTTP/2", **fields}})
    ours = Struct()
    ours.update({"http2": {"stream_id": sid}, **({"grpc": grpc} if grpc else {})})
    made.extensions.Pack(ours)
    return made


H2_FLOWS = [
    FLOWS[0],
    http2(TO, flow_pb2.REQUEST, 1, method="POST", url="http://h/s/M"),
    http2(TO, flow_pb2.REQUEST, 3, method="CONNECT", url="o:1"),
    http2(
        BACK, flow_pb2.RESPONSE, 1, {"status": 5}, code=200
    ),  # dated to its trailers, or before: streams are compared
    http2(BACK, flow_pb2.RESPONSE, 3, code=502),
]


def test_http2_is_compared_by_stream() -> None:
    assert compare(H2_GOLDEN, H2_FLOWS) == []
    assert compare(H2_GOLDEN, [H2_FLOWS[0], *reversed(H2_FLOWS[1:])]) == []


@pytest.mark.parametrize(
    ("change", "differences"),
    [
        ({0: {"path": "/s/N"}}, 2),
        ({0: {"sid": 5}}, 2),
        ({1: {"authority": "o:2"}}, 2),
        ({3: {"status": 503}}, 2),
        ({5: {"grpc_status": 6}}, 2),
        ({5: {"grpc_status": None}}, 1),
    ],
    ids=str,
)
def test_each_difference_of_http2_is_named(change: dict[int, Golden], differences: int) -> None:
    golden = copy.deepcopy(H2_GOLDEN)
    for line, fields in change.items():
        golden[line].update(fields)
    assert len(compare(golden, H2_FLOWS)) == differences
