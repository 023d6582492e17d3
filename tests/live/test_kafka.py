"""Kafka clients through an observed switch: each request shows once, as tshark reads it from the wire.

The broker's log is held against it too, but cannot be the measure: a client that goes away leaves requests on the wire
that no broker reads.
"""

from collections import Counter

import pytest

from fixtures.record import golden, kafka
from fixtures.record.kafka import CLIENT, SERVER
from fixtures.record.kafka_broker import PORT, Cluster, asked
from observer.l7.kafka_schema import name_of
from tests.live.node import Flow, identities, is_request, pods, watched

pytestmark = pytest.mark.ebpf


def header(flow: Flow) -> tuple[str, int, int, int]:
    """API key, version and correlation id of a request, and the port it came from."""
    kafka = flow["l7"]["kafka"]
    port = flow["l4"]["TCP"]["source_port"]
    return kafka["api_key"], kafka.get("api_version", 0), kafka.get("correlation_id", 0), port


@pytest.mark.parametrize("program", ["kafka_confluent.py", "kafka_pure.py"])
def test_each_request_shows_once_and_is_answered(lab, program):
    switch = lab.switch()
    client = lab.host("client", f"{CLIENT}/24", at=switch)
    broker = lab.host("broker", f"{SERVER}/24", at=switch)
    cluster = Cluster(broker, SERVER)
    who = identities(lab.folder / "identities.yaml", {"shop/billing": (CLIENT,), "kafka/broker-0": (SERVER,)})
    bootstrap = f"{SERVER}:{PORT}"
    pcap = lab.folder / "wire.pcap"
    with watched(lab, switch, "--datapath", "ebpf", "--identities", who) as node:
        with node.follow("--protocol", "kafka", "--port", str(PORT)) as followed:
            with lab.capture(switch, "br0", pcap, filters=f"tcp port {PORT}"):
                kafka.client(client, program, "produce", bootstrap, "billing-service", "orders")
                kafka.client(client, program, "fetch", bootstrap, "billing-service", "orders")
            wire = [line for line in golden.read(pcap) if line["t"] == "kafka_req"]
            followed.until(lambda flows: sum(map(is_request, flows)) >= len(wire))
        flows = followed.flows
    requests = [flow for flow in flows if is_request(flow)]
    assert Counter(map(header, requests)) == Counter(
        (name_of(line["api_key"]), line["api_version"], line["correlation_id"], line["sport"]) for line in wire
    )
    assert not Counter(cluster.said()) - Counter(map(asked, wire))
    assert {pods(flow) for flow in requests} == {("shop/billing", "kafka/broker-0")}
    topics = {flow["l7"]["kafka"].get("topic") for flow in requests if flow["l7"]["kafka"]["api_key"] == "produce"}
    assert topics == {"orders"}
    fetched = {flow["l7"]["kafka"].get("topic") for flow in requests if flow["l7"]["kafka"]["api_key"] == "fetch"}
    assert fetched == {"orders"}  # version 13 and later name it by its id alone
    assert {flow["extensions"]["value"]["kafka"]["client_id"] for flow in requests} == {"billing-service"}
    answers = [flow for flow in flows if not is_request(flow)]
    asked_ids = Counter(flow["l7"]["kafka"].get("correlation_id") for flow in requests)
    assert not Counter(flow["l7"]["kafka"].get("correlation_id") for flow in answers) - asked_ids
    assert len(answers) >= len(requests) - 4  # who goes away leaves his last fetches unanswered
    assert all(int(flow["l7"]["latency_ns"]) > 0 for flow in answers)
