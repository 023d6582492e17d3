"""Policies and identities that change while flows pass: what is written holds a moment later, on both tiers."""

import pytest

from fixtures.record import http1
from fixtures.record.clients import curl
from tests.live.node import Flow, identities, is_request, pods, watched

pytestmark = pytest.mark.ebpf
ALLOW = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
    - fromEndpoints: [{matchLabels: {app: client}}]
      toPorts:
        - ports: [{port: "80", protocol: TCP}]
          rules: {http: [{method: GET, path: "%s"}]}
"""


def asked(flows: list[Flow]) -> dict[str, Flow]:
    """Requests by the end of their URL."""
    return {flow["l7"]["http"]["url"].rpartition("/")[2]: flow for flow in flows if is_request(flow)}


@pytest.mark.parametrize(("datapath", "mode", "verdict"), [("ebpf", "enforce", "DROPPED"), ("user", "audit", "AUDIT")])
def test_what_is_written_holds(lab, datapath, mode, verdict):
    switch, client, _, _ = http1.site(lab)
    who = identities(lab.folder / "identities.yaml", {"shop/client": (http1.CLIENT,), "shop/web": (http1.WEB,)})
    policy = lab.folder / "policy.yaml"
    policy.write_text(ALLOW % "/.*")
    words = ("--datapath", datapath, "--identities", who, "--policy", policy, "--policy-mode", mode)

    def get(path: str) -> int:
        return int(curl(client, "--max-time", 1, f"http://{http1.WEB}{path}", fails=True)[0].status)

    with watched(lab, switch, *words) as node:
        assert get("/one") == 404
        policy.write_text("kind: [")
        assert "what was read before still holds" in node.says()
        assert get("/two") == 404
        policy.write_text(ALLOW % "/allowed")
        assert node.says() == "flowscope: read identities and policies again: they hold from now on"
        assert get("/three") == (0 if mode == "enforce" else 404)
        assert get("/allowed") == 404
        identities(who, {"shop/caller": (http1.CLIENT,), "shop/web": (http1.WEB,)})
        assert node.says() == "flowscope: read identities and policies again: they hold from now on"
        assert get("/four") == (0 if mode == "enforce" else 404)
        flows = node.until(lambda flows: "allowed" in asked(flows), "--to-ip", http1.WEB)
    said = {path: flow["verdict"] for path, flow in asked(flows).items()}
    assert said.items() >= {"one": "FORWARDED", "two": "FORWARDED", "three": verdict, "allowed": "FORWARDED"}.items()
    callers = [flow for flow in flows if pods(flow)[0] == "shop/caller"]
    assert callers  # refused before a word is said, or audited
    assert {flow["verdict"] for flow in callers} == {verdict}
