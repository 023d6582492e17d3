"""`observe --pcap --datapath ebpf`: the kernel's programs read the capture, and the flows are the same."""

import json

import pytest

from tests.cli.test_commands import JUDGED, PCAPS, run


def flows(*words):
    code, out, err = run("observe", *words, "-o", "json")
    assert code == 0, err
    told = [json.loads(line)["flow"] for line in out.splitlines() if '"flow"' in line]
    for flow in told:
        del flow["uuid"]
        # Headers and what else Hubble has no place for are made where somebody asked for them: not in the kernel.
        flow.get("l7", {}).get("http", {}).pop("headers", None)
        flow.pop("extensions", None)
        flow.pop("trace_context", None)
    return told


@pytest.mark.ebpf
@pytest.mark.parametrize("words", [JUDGED, ["--pcap", str(PCAPS / "kafka-python.pcap")]], ids=["shop", "kafka"])
def test_both_datapaths_tell_the_same_flows(words):
    by_user = flows(*words)
    assert len(by_user) > 50
    assert flows(*words, "--datapath", "ebpf") == by_user


@pytest.mark.ebpf
def test_a_rule_that_the_kernel_cannot_hold_is_told(tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("""
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: by-header, namespace: shop}
spec:
  endpointSelector: {}
  ingress:
    - toPorts:
        - ports: [{port: "8080", protocol: TCP}]
          rules: {http: [{headers: ["X-Team"]}]}
""")
    code, out, err = run("observe", *JUDGED[:4], "--policy", str(policy), "--datapath", "ebpf")
    assert (code, out) == (1, "")
    assert "by-header" in err
    assert err.count("\n") == 1


def test_a_server_reads_as_it_was_started():
    code, _, err = run("observe", "--datapath", "ebpf")
    assert code == 1
    assert err == "--datapath needs --pcap; a server judges by what it was started with\n"
