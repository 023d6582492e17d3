"""The recorded captures against their goldens, and the shop against verdicts decided by hand."""

from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from observer.api import flow_pb2
from tests.golden import compare, flows_of, read_golden
from tests.shop_expected import SHOP, Expected

PCAPS = Path(__file__).parent.parent / "fixtures/pcaps"
CAPTURES = sorted(path.stem for path in PCAPS.glob("*.pcap"))


# Where flowscope reads a capture otherwise than tshark, on purpose.
EXPLAINED = {
    "http1-errors": [
        # Not HTTP/1.x: no request, but counted. nginx answers 505, which is told.
        "only the golden has: request GET http://web.lab.test/version HTTP/3.9",
        # The sender went away in mid-head: tshark tells nothing, flowscope what there is, marked as incomplete.
        "only flowscope has: request GET /half HTTP/1.1",
        "only flowscope has: response 200",
    ],
}


@pytest.mark.parametrize("name", CAPTURES)
def test_flows_agree_with_the_golden(name: str) -> None:
    flows, _ = flows_of(PCAPS / f"{name}.pcap")
    differences = compare(read_golden(PCAPS / f"{name}.golden.jsonl"), flows)
    words = [difference.split(": ", 2)[-1] for difference in differences]  # which ports they had is chance
    assert sorted(words) == sorted(EXPLAINED.get(name, []))


LOST = {
    "http1-errors": {
        ("http1", "head cut short"): 2,
        ("http1", "invalid Content-Length"): 1,
        ("http1", "malformed request line"): 1,
        ("http1", "several Host fields"): 1,
    },
    "tcp-capture-loss": {("stream", "gap: segment not captured"): 7},
}
"""What cannot be read whole; all else of the fixtures is."""


@pytest.mark.parametrize("name", CAPTURES)
def test_what_is_lost_is_counted_and_nothing_else(name: str) -> None:
    _, losses = flows_of(PCAPS / f"{name}.pcap")
    assert {cause: n for cause, n in losses.items() if cause != ("decode", "not IP: ARP")} == LOST.get(name, {})


def test_every_golden_has_its_capture() -> None:
    assert sorted(path.name.removesuffix(".golden.jsonl") for path in PCAPS.glob("*.golden.jsonl")) == CAPTURES


@cache
def shop() -> list[flow_pb2.Flow]:
    flows, _ = flows_of(PCAPS / "shop.pcap", PCAPS / "shop.identities.yaml", (PCAPS / "shop.policy.yaml",))
    return flows


def pod(endpoint: flow_pb2.Endpoint) -> str:
    """namespace/workload of a pod, the reserved label of anything else."""
    if not endpoint.pod_name:
        return endpoint.labels[0].removeprefix("reserved:")
    return f"{endpoint.namespace}/{endpoint.workloads[0].name}"


def decided_by(flow: flow_pb2.Flow) -> str:
    """The one policy that allowed or refused a flow at its destination."""
    assert not flow.egress_allowed_by
    assert not flow.egress_denied_by
    named = [policy.name for policy in (*flow.ingress_allowed_by, *flow.ingress_denied_by)]
    assert len(named) <= 1
    return "".join(named)


def test_the_shop_is_judged_as_by_hand() -> None:
    requests = [flow for flow in shop() if flow.l7.HasField("http") and flow.l7.type == flow_pb2.REQUEST]
    told = [
        Expected(
            pod(flow.source),
            pod(flow.destination),
            flow.l7.http.method,
            flow.l7.http.url,
            flow_pb2.Verdict.Name(flow.verdict),
            decided_by(flow),
        )
        for flow in requests
    ]
    assert told == SHOP


def test_what_the_shop_refuses_says_why_and_where() -> None:
    refused = [flow for flow in shop() if flow.verdict == flow_pb2.DROPPED]
    assert len(refused) > 2 * sum(row.verdict == "DROPPED" for row in SHOP)  # requests, answers and packets
    for flow in refused:
        assert flow.drop_reason_desc == flow_pb2.POLICY_DENIED
        assert flow.traffic_direction == flow_pb2.INGRESS
        assert not flow.ingress_allowed_by


def test_an_answer_has_the_verdict_of_its_request() -> None:
    http = [flow for flow in shop() if flow.l7.HasField("http")]
    verdicts = {
        kind: Counter((flow.l7.http.url, flow.l7.http.method, flow.verdict) for flow in http if flow.l7.type == kind)
        for kind in (flow_pb2.REQUEST, flow_pb2.RESPONSE)
    }
    assert verdicts[flow_pb2.REQUEST] == verdicts[flow_pb2.RESPONSE]


def test_a_bare_connection_to_a_closed_port_is_judged_too() -> None:
    bare = [flow for flow in shop() if 9090 in (flow.l4.TCP.source_port, flow.l4.TCP.destination_port)]
    assert {flow.verdict for flow in bare} == {flow_pb2.DROPPED}
    assert {flow.event_type.sub_type for flow in bare} == {flow_pb2.POLICY_DENIED}


def test_names_are_asked_for_freely() -> None:
    asked = [flow for flow in shop() if flow.l7.HasField("dns")]
    assert {flow.verdict for flow in asked} == {flow_pb2.FORWARDED}
    assert {flow.l7.dns.rcode for flow in asked} == {0, 3}


def test_every_pod_of_the_shop_is_known() -> None:
    ends = {(end.pod_name, end.identity) for flow in shop() for end in (flow.source, flow.destination) if end.pod_name}
    assert {name for name, _ in ends} == {
        "order-service-7c9d8f6b5d-x2kqm",
        "payment-gateway-0",
        "frontend-6b8f4c7d9c-lw5tz",
        "api-server-59f6d4c8b7-9hjwn",
        "stranger-5d7c8b9f64-qv8rd",
        "coredns-76f75df574-4mzkx",
    }
    assert {("order-service-7c9d8f6b5d-x2kqm", 4711), ("payment-gateway-0", 12055)} <= ends
