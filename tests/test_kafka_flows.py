"""Kafka from packets to flows: the verdict by all topics, the fields of Layer7.kafka, the summary, the filter."""

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from observer.api import flow_pb2, observer_pb2
from observer.client.source import open_capture_source
from tests.l7.test_kafka import (
    ID,
    fetch_13,
    heartbeat,
    metadata,
    metadata_12,
    produce,
    produced,
    request,
    told_metadata_12,
)
from tests.packets import connection, pcap

BROKER = "10.0.0.9:9092"
IDENTITIES = """
endpoints:
  - {pod: kafka/broker, ips: [10.0.0.9], labels: {app: kafka}}
  - {pod: alpha/ingestion, ips: [10.0.1.10], labels: {app: ingestion}}
  - {pod: alpha/processing, ips: [10.0.1.11], labels: {app: processing}}
"""
POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: by-topic, namespace: kafka}
spec:
  endpointSelector: {matchLabels: {app: kafka}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: ingestion, "k8s:io.kubernetes.pod.namespace": alpha}}]
    toPorts:
    - ports: [{port: "9092", protocol: TCP}]
      rules:
        kafka: [{role: produce, topic: telemetry}, {apiKey: produce, topic: events}, {apiKey: heartbeat}]
  - fromEndpoints: [{matchLabels: {app: processing, "k8s:io.kubernetes.pod.namespace": alpha}}]
    toPorts:
    - ports: [{port: "9092", protocol: TCP}]
      rules: {kafka: [{role: consume, topic: telemetry}]}
"""


def flows_of(folder, *connections, whitelist=()) -> list[flow_pb2.Flow]:
    """The L7 flows of connections from (client, request, response)."""
    rows = []
    for number, (client, asked, answered) in enumerate(connections):
        rows += connection(f"{client}:{40001 + number}", BROKER, request=asked, response=answered, at=number)
    (folder / "capture.pcap").write_bytes(pcap(*rows))
    (folder / "identities.yaml").write_text(IDENTITIES)
    (folder / "policy.yaml").write_text(POLICY)
    source = open_capture_source(
        folder / "capture.pcap", identities=folder / "identities.yaml", policies=[folder / "policy.yaml"]
    )
    try:
        wanted = observer_pb2.GetFlowsRequest(number=1000, first=True, whitelist=whitelist)
        answers = [answer for answer in source.get_flows(wanted) if answer.WhichOneof("response_types") == "flow"]
        return [answer.flow for answer in answers if whitelist or answer.flow.Type == flow_pb2.L7]
    finally:
        source.close()


INGESTION, PROCESSING = "10.0.1.10", "10.0.1.11"
FORWARDED, DROPPED = flow_pb2.FORWARDED, flow_pb2.DROPPED


@pytest.mark.parametrize(
    ("client", "asked", "verdict"),
    [
        (INGESTION, produce(1, (b"telemetry", b"")), FORWARDED),
        (INGESTION, produce(1, (b"telemetry", b""), (b"events", b"")), FORWARDED),
        (INGESTION, produce(1, (b"telemetry", b""), (b"forbidden", b"")), DROPPED),
        (INGESTION, produce(1, (b"forbidden", bytes(9000)), (b"telemetry", b"")), DROPPED),
        (INGESTION, produce(1, (b"telemetry-2", b"")), DROPPED),
        (INGESTION, metadata(1, 1, b"telemetry"), FORWARDED),
        (INGESTION, metadata(1, 1, b"events"), DROPPED),
        (INGESTION, metadata(1, 1, null=True), DROPPED),
        (INGESTION, metadata(1, 1), DROPPED),
        (INGESTION, heartbeat(1), FORWARDED),
        (INGESTION, fetch_13(1, ID), DROPPED),
        (PROCESSING, fetch_13(1, ID), DROPPED),  # nobody has said what the id's topic is
        (PROCESSING, fetch_13(1), FORWARDED),  # nothing new in a fetch session
        (PROCESSING, produce(1, (b"telemetry", b"")), DROPPED),
        (PROCESSING, request(1, 99, 1, b"?"), None),  # not even detected
        (PROCESSING, heartbeat(1) + request(1, 99, 2, b"?"), DROPPED),  # what it fetches is not known
        ("10.0.9.9", produce(1, (b"telemetry", b"")), DROPPED),
    ],
)
def test_verdict(tmp_path, client, asked, verdict):
    flows = flows_of(tmp_path, (client, asked, b""))
    assert [flow.verdict for flow in flows[-1:]] == [verdict][: verdict is not None]


def test_an_answer_has_the_verdict_of_its_request_and_an_id_the_name_that_it_told(tmp_path):
    flows = flows_of(
        tmp_path,
        (PROCESSING, metadata_12(1), told_metadata_12(1, b"telemetry", ID)),
        (PROCESSING, fetch_13(2, ID), b""),
        (INGESTION, produce(3, (b"forbidden", b"")), produced(3, 29)),
    )
    assert [(flow.Summary, flow.verdict) for flow in flows] == [
        ("Kafka request metadata correlation id 1 topic ''", DROPPED),
        ("Kafka response metadata correlation id 1 topic '' return code 0", DROPPED),
        ("Kafka request fetch correlation id 2 topic 'telemetry'", FORWARDED),
        ("Kafka request produce correlation id 3 topic 'forbidden'", DROPPED),
        ("Kafka response produce correlation id 3 topic 'forbidden' return code 29", DROPPED),
    ]


def test_fields(tmp_path):
    asked, answered = flows_of(
        tmp_path, (INGESTION, produce(-7, (b"telemetry", b""), (b"other", b"")), produced(-7, 0, -1))
    )
    assert MessageToDict(asked.l7, preserving_proto_field_name=True) == {
        "type": "REQUEST",
        "kafka": {"api_version": 2, "api_key": "produce", "correlation_id": -7, "topic": "telemetry"},
    }
    assert answered.l7.kafka.error_code == -1
    assert answered.l7.latency_ns == 2_000_000
    assert answered.is_reply.value
    assert asked.drop_reason_desc == flow_pb2.POLICY_DENIED
    assert asked.source.pod_name == "ingestion"
    assert asked.destination.namespace == "kafka"
    for flow in (asked, answered):
        ours = Struct()
        flow.extensions.Unpack(ours)
        assert MessageToDict(ours)["kafka"] == {"client_id": "cli", "topics": ["telemetry", "other"]}


def test_filter_by_protocol(tmp_path):
    kafka = flow_pb2.FlowFilter(protocol=["kafka"])
    flows = flows_of(tmp_path, (INGESTION, heartbeat(1), b""), whitelist=[kafka])
    assert [flow.Summary for flow in flows] == ["Kafka request heartbeat correlation id 1 topic ''"]
