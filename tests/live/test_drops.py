"""What refuses on a node without any policy of ours: nftables and closed ports show with the kernel's own reason."""

import pytest

from tests.live.node import identities, pods, watched

pytestmark = pytest.mark.ebpf
CLIENT, SERVER = "10.9.0.10", "10.9.0.20"
INPUT = "{ type filter hook input priority 0; }"


@pytest.mark.parametrize("family", ["4", "6"])
def test_netfilter_and_a_closed_port(lab, family):
    switch = lab.switch()
    client = lab.host("client", f"{CLIENT}/24", "fd00:9::10/64", at=switch)
    server = lab.host("server", f"{SERVER}/24", "fd00:9::20/64", at=switch)
    ends = {"shop/client": (CLIENT, "fd00:9::10"), "shop/server": (SERVER, "fd00:9::20")}
    who = identities(lab.folder / "identities.yaml", ends)
    for rule in (
        "add table inet guard",
        f"add chain inet guard input {INPUT}",
        "add rule inet guard input tcp dport 7777 drop",
    ):
        server.run("nft", rule)
    with watched(lab, switch, "--datapath", "ebpf", "--identities", who) as node:
        host = SERVER if family == "4" else "fd00:9::20"
        client.run("nc", "-z", "-w", 1, host, 7777, check=False)
        client.run("nc", "-z", "-w", 1, host, 7778, check=False)
        flows = node.until(
            lambda flows: len(flows) >= 2, "--verdict", "DROPPED", "--from-pod", "shop/client", "--protocol", "tcp"
        )
    told = {
        (flow["l4"]["TCP"]["destination_port"], flow["extensions"]["value"]["skb_drop_reason"]): flow for flow in flows
    }
    assert {(7777, "NETFILTER_DROP"), (7778, "NO_SOCKET")} <= set(told)
    for flow in told.values():
        assert pods(flow) == ("shop/client", "shop/server")
        assert flow["event_type"]["type"] == 1
        assert flow["l4"]["TCP"]["flags"] == {"SYN": True}
    assert told[7777, "NETFILTER_DROP"]["extensions"]["value"]["skb_drop_location"] in ("nft_do_chain", "nf_hook_slow")
