"""A service address that the node's router translates: what is said over it shows once, with the pod that answered."""

import pytest

from fixtures.record import servers
from fixtures.record.clients import curl, dig
from fixtures.record.netns import Lab, Namespace
from tests.live.node import identities, is_request, pods, watched

pytestmark = pytest.mark.ebpf
SERVICE = "10.96.0.9"
SITE = "server { listen 8080; root {folder}/www; }"
CHAIN = "{ type nat hook prerouting priority dstnat; }"


def routed(lab: Lab) -> tuple[Namespace, Namespace, Namespace]:
    """A client and a server, each on its own wire to a router that translates the service's address."""
    router, client, server = (lab.namespace(name) for name in ("router", "client", "server"))
    for number, host in enumerate((client, server), 1):
        lab.wire(host, "eth0", router, f"to-{host.name}")
        host.address("eth0", f"10.9.{number}.2/24")
        router.address(f"to-{host.name}", f"10.9.{number}.1/24")
        host.run("ip", "route", "add", "default", "via", f"10.9.{number}.1")
    router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    router.run("nft", "add table ip nat")
    router.run("nft", f"add chain ip nat services {CHAIN}")
    router.run("nft", f"add rule ip nat services ip daddr {SERVICE} tcp dport 80 dnat to 10.9.2.2:8080")
    return router, client, server


def test_requests_to_a_service_show_once(lab):
    router, client, server = routed(lab)
    servers.nginx(server, SITE, 8080)
    who = identities(lab.folder / "identities.yaml", {"shop/client": ("10.9.1.2",), "shop/web": ("10.9.2.2",)})
    with watched(lab, router, "--datapath", "ebpf", "--identities", who) as node:
        said = [*curl(client, f"http://{SERVICE}/"), *curl(client, f"http://{SERVICE}/nothing")]
        flows = node.until(lambda flows: len(flows) >= 4, "--protocol", "http")
        opened = node.observe("--tcp-flags", "SYN", "--from-pod", "shop/client")
    assert [one.status for one in said] == [200, 404]
    assert len(flows) == 4
    assert {pods(flow) for flow in flows if is_request(flow)} == {("shop/client", "shop/web")}
    assert sorted(flow["l7"]["http"]["code"] for flow in flows if not is_request(flow)) == [200, 404]
    # Both tuples of a connection may show: the service's, and the pod's.
    assert {flow["IP"]["destination"] for flow in opened} == {SERVICE, "10.9.2.2"}


def test_names_asked_of_a_service_show_once(lab):
    router, client, server = routed(lab)
    router.run("nft", f"add rule ip nat services ip daddr {SERVICE} udp dport 53 dnat to 10.9.2.2:53")
    servers.dnsmasq(server, "address=/orders.shop.test/10.0.0.7\n")
    who = identities(lab.folder / "identities.yaml", {"shop/client": ("10.9.1.2",), "kube-system/dns": ("10.9.2.2",)})
    with watched(lab, router, "--datapath", "ebpf", "--identities", who) as node:
        dig(client, f"@{SERVICE}", "orders.shop.test", "A")
        flows = node.until(lambda flows: len(flows) >= 2, "--protocol", "dns")
    assert [flow["l7"]["dns"]["query"] for flow in flows] == ["orders.shop.test."] * 2
    assert [flow["l7"]["type"] for flow in flows] == ["REQUEST", "RESPONSE"]
    assert flows[1]["l7"]["dns"]["ips"] == ["10.0.0.7"]
