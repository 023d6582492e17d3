"""tenant-alpha.pcap against verdicts decided by hand: a tenant's Kafka clients before a broker that policy guards."""

from functools import cache
from pathlib import Path

from google.protobuf.struct_pb2 import Struct

from observer.api import flow_pb2
from observer.client.source import open_capture_source
from tests.golden import flows_of, read_golden
from tests.tenant_alpha_expected import ACCESS, TENANT_ALPHA, Expected

PCAPS = Path(__file__).parent.parent / "fixtures/pcaps"
CAPTURE, IDENTITIES = PCAPS / "tenant-alpha.pcap", PCAPS / "tenant-alpha.identities.yaml"
POLICY, AS_FOUND = PCAPS / "tenant-alpha.policy.yaml", PCAPS / "tenant-alpha.as-found.policy.yaml"


@cache
def flows(policy: Path) -> list[flow_pb2.Flow]:
    return flows_of(CAPTURE, IDENTITIES, (policy,))[0]


def requests(policy: Path) -> list[flow_pb2.Flow]:
    return [flow for flow in flows(policy) if flow.l7.HasField("kafka") and flow.l7.type == flow_pb2.REQUEST]


def pod(endpoint: flow_pb2.Endpoint) -> str:
    """namespace/workload, or namespace/pod where nothing controls it."""
    return f"{endpoint.namespace}/{endpoint.workloads[0].name if endpoint.workloads else endpoint.pod_name}"


def ours(flow: flow_pb2.Flow) -> Struct:
    """What Hubble's Kafka message has no place for."""
    told = Struct()
    flow.extensions.Unpack(told)
    return told["kafka"]


def as_row(flow: flow_pb2.Flow) -> Expected:
    named = [policy.name for policy in (*flow.ingress_allowed_by, *flow.ingress_denied_by)]
    assert len(named) <= 1
    topics = tuple(ours(flow)["topics"]) if "topics" in ours(flow) else ()
    verdict = flow_pb2.Verdict.Name(flow.verdict)
    return Expected(pod(flow.source), flow.l7.kafka.api_key, topics, verdict, "".join(named))


def test_every_request_is_judged_as_by_hand() -> None:
    assert sorted({as_row(flow) for flow in requests(POLICY)}) == sorted(TENANT_ALPHA)


def test_the_refused_produce_shows_all_that_matters() -> None:
    refused = [flow for flow in requests(POLICY) if flow.l7.kafka.topic == "forbidden-topic"]
    produce = next(flow for flow in refused if flow.l7.kafka.api_key == "produce")
    assert produce.verdict == flow_pb2.DROPPED
    assert produce.drop_reason_desc == flow_pb2.POLICY_DENIED
    assert produce.traffic_direction == flow_pb2.INGRESS
    assert [policy.name for policy in produce.ingress_denied_by] == [ACCESS]
    assert (produce.source.identity, produce.source.namespace) == (258, "tenant-alpha")
    assert produce.source.pod_name == "ingestion-service-6f7c9d5b8d-k4tzn"
    assert "k8s:app=ingestion-service" in produce.source.labels
    assert (produce.destination.pod_name, produce.destination.namespace) == ("broker-0", "kafka")
    assert "k8s:app=kafka" in produce.destination.labels
    assert produce.l4.TCP.destination_port == 9092
    golden = read_golden(PCAPS / "tenant-alpha.golden.jsonl")
    asked = next(line for line in golden if line.get("topics") == ["forbidden-topic"] and line["api_key"] == 0)
    assert (asked["api_version"], asked["correlation_id"]) == (
        produce.l7.kafka.api_version,
        produce.l7.kafka.correlation_id,
    )
    assert ours(produce)["client_id"] == "ingestion-service"


def test_one_connection_carries_both_verdicts() -> None:
    produces = [
        flow
        for flow in requests(POLICY)
        if flow.l7.kafka.api_key == "produce" and pod(flow.source).endswith("ingestion-service")
    ]
    ports = [flow.l4.TCP.source_port for flow in produces]
    mixed = [flow for flow in produces if ports.count(flow.l4.TCP.source_port) == 4]
    assert [flow_pb2.Verdict.Name(flow.verdict) for flow in mixed] == ["FORWARDED", "DROPPED"] * 2


def test_an_answer_has_the_verdict_of_its_request() -> None:
    asked = {
        (flow.IP.source, flow.l4.TCP.source_port, flow.l7.kafka.correlation_id): flow.verdict
        for flow in requests(POLICY)
    }
    answers = [flow for flow in flows(POLICY) if flow.l7.HasField("kafka") and flow.l7.type == flow_pb2.RESPONSE]
    assert len(answers) > 70
    for flow in answers:
        key = (flow.IP.destination, flow.l4.TCP.destination_port, flow.l7.kafka.correlation_id)
        assert flow.verdict == asked[key]


def test_who_may_not_connect_is_refused_before_a_word_is_said() -> None:
    shell = [flow for flow in flows(POLICY) if "debug-shell" in (flow.source.pod_name, flow.destination.pod_name)]
    assert {flow.verdict for flow in shell} == {flow_pb2.DROPPED}
    silent = {
        flow.l4.TCP.source_port
        for flow in shell
        if flow.Type == flow_pb2.L3_L4 and flow.l4.TCP.destination_port == 9092
    } - {flow.l4.TCP.source_port for flow in shell if flow.Type == flow_pb2.L7}
    assert len(silent) == 1  # the bare connection


def test_another_port_of_the_broker_is_refused() -> None:
    other = [flow for flow in flows(POLICY) if 9093 in (flow.l4.TCP.source_port, flow.l4.TCP.destination_port)]
    assert {flow.verdict for flow in other} == {flow_pb2.DROPPED}


def test_as_found_on_the_web_it_refuses_nothing_and_says_so() -> None:
    assert {flow.verdict for flow in flows(AS_FOUND)} == {flow_pb2.FORWARDED}
    assert len(flows(AS_FOUND)) == len(flows(POLICY))
    for policy, warned in ((POLICY, False), (AS_FOUND, True)):
        source = open_capture_source(CAPTURE, identities=IDENTITIES, policies=(policy,))
        try:
            assert any("selects no endpoint" in warning for warning in source.warnings) == warned
        finally:
            source.close()
