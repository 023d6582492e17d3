"""Rows and details as text: widths, signs, escapes."""

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from observer.api import flow_pb2
from observer.store import Store
from observer.wire import FlowDecoder
from tui.view import FlowView, cells, detail_lines, duration, gist
from tui.widgets.status import Reading, StatusLine


@pytest.mark.parametrize(
    ("latency_ns", "text"), [(840_000, "840us"), (1_200_000, "1.2ms"), (48_000_000, "48.0ms"), (3_400_000_000, "3.4s")]
)
def test_duration(latency_ns, text):
    assert duration(latency_ns) == text


def refused() -> flow_pb2.Flow:
    return ParseDict(
        {
            "time": "2026-11-20T10:44:06.913Z",
            "verdict": "DROPPED",
            "drop_reason_desc": "POLICY_DENIED",
            "IP": {"source": "10.0.3.12", "destination": "10.0.3.11", "ipVersion": "IPv4"},
            "l4": {"TCP": {"source_port": 43122, "destination_port": 8080}},
            "source": {"identity": 300, "namespace": "shop", "pod_name": "stranger", "labels": ["k8s:app=stranger"]},
            "destination": {
                "identity": 301,
                "namespace": "shop",
                "pod_name": "payment",
                "workloads": [{"kind": "Deployment", "name": "payment"}],
            },
            "Type": "L7",
            "l7": {"type": "REQUEST", "http": {"method": "GET", "url": "http://pay/\x1b[31m", "protocol": "HTTP/1.1"}},
            "event_type": {"type": 129},
            "is_reply": False,
            "traffic_direction": "INGRESS",
            "ingress_denied_by": [{"name": "pay-ingress", "namespace": "shop", "kind": "CiliumNetworkPolicy"}],
            "Summary": "HTTP/1.1 GET http://pay/\x1b[31m",
        },
        flow_pb2.Flow(),
    )


def test_a_refused_request_as_a_row():
    row = cells(refused())
    assert (row.time, row.source, row.arrow, row.destination) == (
        "10:44:06.913",
        "shop/stranger:43122",
        "->",
        "shop/payment:8080",
    )
    assert (row.type, row.verdict, row.verdict_name) == ("http-request", "✗ DROPPED", "DROPPED")
    assert "\x1b" not in "".join(row)


@pytest.mark.parametrize(
    ("http", "text"),
    [
        ({"method": "GET", "url": "http://pay:8080/v1/charge?a=1"}, "GET /v1/charge?a=1 pay:8080"),
        ({"method": "GET", "url": "http://pay/", "code": 404}, "404 GET / pay"),
        ({"method": "CONNECT", "url": "pay:443"}, "CONNECT pay:443"),
        ({"code": 200}, "200"),
    ],
)
def test_the_path_comes_before_the_host(http, text):
    assert gist(flow_pb2.Flow(l7={"http": http})) == text


def test_a_reply_keeps_the_client_on_the_left():
    flow = refused()
    flow.is_reply.value = True
    flow.source.pod_name, flow.destination.pod_name = "payment", "stranger"
    row = cells(flow)
    assert (row.source[:13], row.arrow) == ("shop/stranger", "<-")


def test_an_unknown_direction_and_an_unknown_verdict_are_told_as_such():
    flow = flow_pb2.Flow(verdict=99)
    row = cells(flow)
    assert (row.arrow, row.verdict) == ("<>", "? VERDICT_UNKNOWN")


def test_the_detail_tells_the_verdict_and_its_rule_first():
    lines = list(detail_lines(refused()))
    assert lines[:2] == [
        ("verdict", "✗ DROPPED  POLICY_DENIED"),
        ("denied by", "CiliumNetworkPolicy shop/pay-ingress"),
    ]
    by_name = dict(lines)
    assert by_name["source"] == "shop/stranger:43122 (ID:300)"
    assert by_name["  workload"] == "Deployment/payment"
    assert by_name["addresses"] == "10.0.3.12 to 10.0.3.11"
    assert by_name["direction"] == "ingress"


def test_nothing_of_a_header_reaches_the_terminal_raw():
    store = Store(4)
    flow = refused()
    flow.l7.http.headers.add(key="X-\x1b[2J", value="\x1b]0;pwn\x07")
    records, extras = FlowDecoder(store.endpoints, store.policies).add_many([flow])
    store.append(records, extras)
    lines = FlowView(store).detail(0)
    assert ("  X-^[[2J", "^[]0;pwn\\x07") in lines
    assert not any("\x1b" in text for line in lines for text in line)


def test_the_words_of_a_server_reach_the_status_line_escaped():
    line = StatusLine()
    line.tell(Reading(state="FAILED", detail="no\x1b[2J"))
    assert "no^[[2J" in line.render().plain


def test_the_detail_tells_what_hubble_has_no_place_for():
    flow = refused()
    ours = Struct()
    ours.update({"grpc": {"service": "shop.Cart", "status": 14, "ratio": 0.5}, "topics": ["a", "b"], "nothing": None})
    flow.extensions.Pack(ours)
    by_name = dict(detail_lines(flow))
    assert by_name["grpc.service"] == "shop.Cart"
    assert by_name["grpc.status"] == "14"
    assert by_name["grpc.ratio"] == "0.5"
    assert by_name["topics"] == "a b"
    assert "nothing" not in by_name


def test_plain_default_deny_is_said_in_words():
    flow = refused()
    del flow.ingress_denied_by[:]
    assert dict(detail_lines(flow))["denied by"].startswith("default deny")
