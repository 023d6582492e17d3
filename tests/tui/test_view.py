"""Rows and details as text: widths, signs, escapes."""

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from observer.api import flow_pb2
from observer.store import Store
from observer.wire import FlowDecoder
from tests.tui.flows import filled
from tui import view
from tui.look import Look
from tui.view import FlowView, Line, byte_lines, cells, clock, delta, detail_lines, duration, gist, hex_lines
from tui.widgets.status import Reading, StatusLine

LOOK = Look()


@pytest.mark.parametrize(
    ("latency_ns", "text"), [(840_000, "840us"), (1_200_000, "1.2ms"), (48_000_000, "48.0ms"), (3_400_000_000, "3.4s")]
)
def test_duration(latency_ns, text):
    assert duration(latency_ns) == text


@pytest.mark.parametrize(
    ("time_ns", "text"), [(0, "00:00:00.000"), (86_399_999_999_999, "23:59:59.999"), (1_500_000_000, "00:00:01.500")]
)
def test_clock_in_utc(time_ns, text):
    assert clock(time_ns) == text


@pytest.mark.parametrize(("time_ns", "text"), [(123_000, "+0.000123"), (-2_000_000_000, "-2.000000")])
def test_delta(time_ns, text):
    assert delta(time_ns) == text


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


def lines_of(flow):
    return [(line.name, line.value) for line in detail_lines(flow, LOOK)]


def test_a_refused_request_as_a_row():
    row = cells(refused())
    assert (row.source, row.arrow, row.destination) == ("shop/stranger:43122", "->", "shop/payment:8080")
    assert clock(row.time_ns) == "10:44:06.913"
    assert (row.type, row.verdict, row.protocol) == ("http-request", "DROPPED", "HTTP/1.1")
    assert (row.policy, row.direction) == ("CiliumNetworkPolicy shop/pay-ingress", "ingress")
    assert "\x1b" not in "".join(map(str, row))


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


@pytest.mark.parametrize(
    ("l7", "text"),
    [
        ({"type": "REQUEST", "dns": {"query": "a.b.", "qtypes": ["A"]}}, "A a.b."),
        ({"type": "RESPONSE", "dns": {"query": "a.b.", "qtypes": ["A"], "ips": ["1.2.3.4"]}}, "A a.b. -> 1.2.3.4"),
        ({"type": "RESPONSE", "dns": {"query": "a.b.", "qtypes": ["A"], "cnames": ["c."]}}, "A a.b. -> c."),
        ({"type": "RESPONSE", "dns": {"query": "a.b.", "qtypes": ["AAAA"]}}, "AAAA a.b. -> nothing"),
        ({"type": "RESPONSE", "dns": {"query": "a.b.", "qtypes": ["A"], "rcode": 3}}, "NXDOMAIN A a.b."),
        ({"type": "RESPONSE", "dns": {"query": "a.b.", "rcode": 23}}, "RCODE 23 a.b."),
    ],
)
def test_dns_says_what_went_wrong_then_the_name(l7, text):
    assert gist(ParseDict({"l7": l7, "Summary": "DNS Query"}, flow_pb2.Flow())) == text


def test_a_reply_keeps_the_client_on_the_left():
    flow = refused()
    flow.is_reply.value = True
    flow.source.pod_name, flow.destination.pod_name = "payment", "stranger"
    row = cells(flow)
    assert (row.source[:13], row.arrow) == ("shop/stranger", "<-")


def test_an_unknown_direction_and_an_unknown_verdict_are_told_as_such():
    row = cells(flow_pb2.Flow(verdict=99))
    assert (row.arrow, row.verdict) == ("<>", "VERDICT_UNKNOWN")


def test_the_detail_tells_the_verdict_and_its_rule_first():
    lines = lines_of(refused())
    assert lines[:2] == [
        ("verdict", "✗ DROPPED  POLICY_DENIED"),
        ("denied by", "CiliumNetworkPolicy shop/pay-ingress"),
    ]
    by_name = dict(lines)
    assert by_name["source"] == "shop/stranger:43122 (ID:300)"
    assert by_name["workload"] == "Deployment/payment"
    assert by_name["direction"] == "ingress"
    assert by_name["transport"] == "TCP  source 43122, destination 8080"


def test_every_field_that_is_set_is_told():
    flow = refused()
    flow.interface.name = "eth7"
    flow.trace_context.parent.trace_id = "4bf92f3577b34da6"
    flow.proxy_port = 4711
    values = " ".join(value for _, value in lines_of(flow))
    assert all(word in values for word in ("eth7", "4bf92f3577b34da6", "4711"))


def test_nothing_of_a_header_reaches_the_terminal_raw():
    store = Store(4)
    flow = refused()
    flow.l7.http.headers.add(key="X-\x1b[2J", value="\x1b]0;pwn\x07")
    records, extras = FlowDecoder(store.endpoints, store.policies).add_many([flow])
    store.append(records, extras)
    lines = FlowView(store).detail(0, LOOK)
    assert Line(1, "X-^[[2J", "^[]0;pwn\\x07") in lines
    assert not any("\x1b" in line.name + line.value for line in lines)


def test_a_cell_of_the_networks_has_a_bound():
    flow = refused()
    flow.source.pod_name = "x" * 100_000
    assert len(cells(flow).source) < 1000


def test_the_words_of_a_server_reach_the_status_line_escaped():
    line = StatusLine(LOOK)
    line.tell(Reading(state="FAILED", detail="no\x1b[2J"))
    assert "no^[[2J" in line.render().plain


def test_a_drop_of_the_kernels_has_its_own_word():
    flow = ParseDict(
        {
            "verdict": "DROPPED",
            "event_type": {"type": 1, "sub_type": 1},
            "l4": {"TCP": {"destination_port": 7777, "flags": {"SYN": True}}},
            "Summary": "TCP Flags: SYN",
        },
        flow_pb2.Flow(),
    )
    told = Struct()
    told.update({"skb_drop_reason": "NETFILTER_DROP", "skb_drop_location": "nft_do_chain"})
    flow.extensions.Pack(told)
    assert gist(flow) == "NETFILTER_DROP  SYN"
    lines = list(detail_lines(flow, LOOK))
    assert lines[0] == Line(0, "verdict", "✗ DROPPED  NETFILTER_DROP")
    assert "denied by" not in [line.name for line in lines]
    assert Line(0, "skb_drop_location", "nft_do_chain") in lines


def test_the_detail_tells_what_hubble_has_no_place_for():
    flow = refused()
    ours = Struct()
    ours.update({"grpc": {"service": "shop.Cart", "status": 14, "ratio": 0.5}, "topics": ["a", "b"], "nothing": None})
    flow.extensions.Pack(ours)
    by_name = dict(lines_of(flow))
    assert (by_name["service"], by_name["status"], by_name["ratio"]) == ("shop.Cart", "14", "0.5")
    assert by_name["topics"] == "a b"
    assert "nothing" not in by_name
    assert cells(flow).protocol == "gRPC"


def test_plain_default_deny_is_said_in_words():
    flow = refused()
    del flow.ingress_denied_by[:]
    assert dict(lines_of(flow))["denied by"].startswith("default deny")


def test_a_flow_that_has_left_is_none():
    store = Store(4)
    assert FlowView(store).row(0) is None
    assert FlowView(store).detail(7, LOOK) == []


def test_bytes_as_hex_and_as_text():
    assert hex_lines(b"GET / \x00\xff" + b"a" * 10) == [
        "0000  47 45 54 20 2f 20 00 ff 61 61 61 61 61 61 61 61  GET / ..aaaaaaaa",
        "0010  61 61                                            aa",
    ]
    assert byte_lines(b"GET / HTTP/1.1\r\nHost: a") == ["GET / HTTP/1.1", "Host: a"]
    assert byte_lines(b"\x00\x01\x02")[0].startswith("0000  00 01 02")
    assert not any("\x1b" in line for line in byte_lines(b"a" * 100 + b"\x1b[2J"))


def test_rows_that_are_kept_have_a_bound(monkeypatch):
    monkeypatch.setattr(view, "CACHED_ROWS", 10)
    shown = FlowView(filled(100))
    shown.fetch(range(100))
    assert list(shown._rows) == list(range(90, 100))
    assert shown.row(3) is not None
    assert len(shown._rows) == 10


def test_a_page_together_is_what_its_rows_are_one_by_one():
    together, alone = FlowView(filled(50, capacity=32)), FlowView(filled(50, capacity=32))
    together.fetch(range(50))
    assert [together.row(one) for one in range(50)] == [alone.row(one) for one in range(50)]
