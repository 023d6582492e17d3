"""tenant-alpha live: what its policy refuses does not arrive at the broker; in audit mode it arrives and says AUDIT."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from fixtures.record.kafka_broker import PORT, Cluster
from fixtures.record.netns import Lab, Namespace
from fixtures.record.tenant_alpha import BROKER, FORBIDDEN, TOPIC
from tests.live.node import ROOT, Flow, is_request, pods, watched

pytestmark = pytest.mark.ebpf
PCAPS = ROOT / "fixtures/pcaps"
IDENTITIES, POLICY = PCAPS / "tenant-alpha.identities.yaml", PCAPS / "tenant-alpha.policy.yaml"
BOOTSTRAP = f"{BROKER}:{PORT}"
QUIET = ("enable.metrics.push=false", "message.timeout.ms=2500", "socket.timeout.ms=1500")
INGESTION, PROCESSING, SHELL = "ingestion-service", "processing-service", "debug-shell"

PROGRAMS = Path(__file__).parent / "programs"
CONFLUENT = ROOT / "fixtures/record/programs/kafka_confluent.py"
REFUSED = {"enforce": "DROPPED", "audit": "AUDIT"}


class Alpha:
    """The pods of tenant-alpha around a switch, and the broker."""

    def __init__(self, lab: Lab) -> None:
        self.switch = lab.switch()
        endpoints = yaml.safe_load(IDENTITIES.read_text())["endpoints"]
        self.pods: dict[str, Namespace] = {
            entry["labels"]["app"]: lab.host(entry["labels"]["app"][:8], f"{entry['ips'][0]}/16", at=self.switch)
            for entry in endpoints
        }
        self.cluster = Cluster(self.pods["kafka"], BROKER)

    def knows(self, pod: str, what: str, topic: str) -> bool:
        """Send one request as a client that asks for no metadata first; whether it is answered."""
        said = self.pods[pod].run(sys.executable, PROGRAMS / "kafka_knows.py", BOOTSTRAP, pod, what, topic).stdout
        assert said.startswith(("answered", "silence"))
        return said.startswith("answered")

    def produces(self, pod: str, topic: str) -> bool:
        """Let confluent-kafka produce; whether all was delivered."""
        words = ("produce", BOOTSTRAP, pod, topic, *QUIET)
        return not self.pods[pod].run(sys.executable, CONFLUENT, *words, check=False).returncode

    def connects(self, pod: str) -> bool:
        return not self.pods[pod].run("nc", "-z", "-w", 1, BROKER, PORT, check=False).returncode

    def everything(self) -> dict[str, bool]:
        """Each thing that somebody may or may not do: whether it worked."""
        return {
            "ingestion produces": self.produces(INGESTION, TOPIC),
            "ingestion produces, knowing the topic": self.knows(INGESTION, "produce", TOPIC),
            "processing fetches": self.knows(PROCESSING, "fetch", TOPIC),
            "ingestion produces elsewhere": self.produces(INGESTION, FORBIDDEN),  # it asks for Metadata first
            "ingestion produces elsewhere, knowing the topic": self.knows(INGESTION, "produce", FORBIDDEN),
            "ingestion fetches": self.knows(INGESTION, "fetch", TOPIC),
            "processing produces": self.knows(PROCESSING, "produce", TOPIC),
            "the shell connects": self.connects(SHELL),
        }


ALLOWED = ("ingestion produces", "ingestion produces, knowing the topic", "processing fetches")


def told(flows: list[Flow]) -> set[tuple[str, str, str, str]]:
    """Who asked for what on which topic, and what policy said."""
    return {
        (
            pods(flow)[0].split("/")[1].split("-")[0],
            flow["l7"]["kafka"]["api_key"],
            flow["l7"]["kafka"].get("topic", ""),
            flow["verdict"],
        )
        for flow in flows
        if is_request(flow)
    }


@pytest.mark.parametrize("mode", ["enforce", "audit"])
def test_what_policy_refuses_does_not_arrive_unless_it_only_audits(lab, mode):
    alpha = Alpha(lab)
    words = ("--datapath", "ebpf", "--identities", IDENTITIES, "--policy", POLICY, "--policy-mode", mode)
    with watched(lab, alpha.switch, *words) as node:
        worked = alpha.everything()
        flows = node.until(
            lambda flows: ("processing", "produce", TOPIC, REFUSED[mode]) in told(flows), "--port", str(PORT)
        )
        arrived = {(one.method.rstrip("0123456789").rstrip("V"), one.target) for one in alpha.cluster.said()}
    assert worked == {what: mode == "audit" or what in ALLOWED for what in worked}
    refused = REFUSED[mode]
    assert {
        ("ingestion", "produce", TOPIC, "FORWARDED"),
        ("processing", "fetch", TOPIC, "FORWARDED"),
        ("ingestion", "metadata", FORBIDDEN, refused),
        ("ingestion", "produce", FORBIDDEN, refused),
        ("ingestion", "fetch", TOPIC, refused),
        ("processing", "produce", TOPIC, refused),
    } <= told(flows)
    assert not {row for row in told(flows) if row[3] == refused} & {
        ("ingestion", "produce", TOPIC, refused),
        ("processing", "fetch", TOPIC, refused),
    }
    shell = [flow for flow in flows if pods(flow)[0] == "tenant-alpha/debug-shell"]
    assert shell
    assert {flow["verdict"] for flow in shell} == {refused}
    for flow in flows:
        # The kernel drops packets also of other tests' namespaces, and tells them to everybody.
        if flow["verdict"] == refused and any(pods(flow)):
            assert flow.get("drop_reason_desc") == "POLICY_DENIED", json.dumps(flow)
    # What was refused did not reach the broker: it logs every request that it gets.
    fetches = {target.split(":")[0] for name, target in arrived if name == "Fetch"}
    expected = {"from 10.0.1.11"} if mode == "enforce" else {"from 10.0.1.10", "from 10.0.1.11"}
    assert fetches == expected
    produces = {target.split(":")[0] for name, target in arrived if name == "Produce"}
    assert produces == ({"from 10.0.1.10"} if mode == "enforce" else expected)
