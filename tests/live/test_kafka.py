"""Kafka clients through an observed switch: each request shows once, as the broker logs it."""

from collections import Counter

import pytest

from fixtures.record import kafka
from fixtures.record.kafka import CLIENT, SERVER
from fixtures.record.kafka_broker import NAMES, PORT, Cluster
from observer.l7.kafka_schema import name_of
from tests.live.node import identities, is_request, pods, watched

pytestmark = pytest.mark.ebpf


@pytest.mark.parametrize("program", ["kafka_confluent.py", "kafka_pure.py"])
def test_each_request_shows_once_and_is_answered(lab, program):
    switch = lab.switch()
    client = lab.host("client", f"{CLIENT}/24", at=switch)
    broker = lab.host("broker", f"{SERVER}/24", at=switch)
    cluster = Cluster(broker, SERVER)
    who = identities(lab.folder / "identities.yaml", {"shop/billing": (CLIENT,), "kafka/broker-0": (SERVER,)})
    bootstrap = f"{SERVER}:{PORT}"
    with watched(lab, switch, "--datapath", "ebpf", "--identities", who) as node:
        kafka.client(client, program, "produce", bootstrap, "billing-service", "orders")
        kafka.client(client, program, "fetch", bootstrap, "billing-service", "orders")
        said = Counter(one.method for one in cluster.said())
        flows = node.until(
            lambda flows: sum(map(is_request, flows)) >= said.total(), "--protocol", "kafka", "--port", str(PORT)
        )
    requests = [flow for flow in flows if is_request(flow)]
    names = {name_of(number): name for number, name in NAMES.items()}
    asked = Counter(
        f"{names[flow['l7']['kafka']['api_key']]}V{flow['l7']['kafka'].get('api_version', 0)}" for flow in requests
    )
    assert asked == said
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
