"""What a sender changes after it was judged does not arrive: octets that lie in pages of a file are copied first."""

import sys

import pytest
import yaml

from tests.live.node import identities, is_request, watched

pytestmark = pytest.mark.ebpf
RULES = {"http": [{"method": "GET", "path": "/allowed"}]}
POLICY = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "only", "namespace": "shop"},
    "spec": {
        "endpointSelector": {"matchLabels": {"app": "web"}},
        "ingress": [{"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}], "rules": RULES}]}],
    },
}
# Reads only when the sender has had the time to write another request over the one that it sent.
SERVER = """
import pathlib, socket, sys, time
listener = socket.create_server(("", 80))
side, _ = listener.accept()
changed = pathlib.Path(sys.argv[1] + ".changed")
while not changed.exists(): time.sleep(0.01)
arrived = side.recv(65536)
side.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(arrived) + arrived)
"""
CLIENT = """
import os, pathlib, socket, sys, time
path = pathlib.Path(sys.argv[2])
head = "GET /%s HTTP/1.1\\r\\nHost: web\\r\\n\\r\\n"
path.write_text(head % "allowed")
side = socket.create_connection((sys.argv[1], 80))
with path.open("r+b") as file:
    os.sendfile(side.fileno(), file.fileno(), 0, path.stat().st_size)
    time.sleep(0.2)
    file.write((head % "refused").encode())
pathlib.Path(sys.argv[2] + ".changed").touch()
sys.stdout.buffer.write(side.recv(65536))
"""


def test_a_request_changed_after_it_was_judged_arrives_as_it_was_judged(lab):
    switch = lab.switch()
    client, web = (lab.host(name, f"10.9.0.{last}/24", at=switch) for name, last in (("client", 10), ("web", 20)))
    for namespace, interface in ((client, "eth0"), (web, "eth0"), (switch, "to-client"), (switch, "to-web")):
        namespace.offload(interface, on=True)  # else each wire copies, which those of real pods do not
    who = identities(lab.folder / "identities.yaml", {"shop/client": ("10.9.0.10",), "shop/web": ("10.9.0.20",)})
    policy = lab.folder / "policy.yaml"
    policy.write_text(yaml.safe_dump(POLICY))
    words = ("--datapath", "ebpf", "--identities", who, "--policy", policy, "--policy-mode", "enforce")
    with watched(lab, switch, *words) as node:
        request = lab.folder / "request"
        web.start(sys.executable, "-c", SERVER, request)
        web.listens(80)
        arrived = client.run(sys.executable, "-c", CLIENT, "10.9.0.20", request).stdout
        flows = node.until(lambda flows: any(map(is_request, flows)), "--protocol", "http")
    assert [flow["verdict"] for flow in flows if is_request(flow)] == ["FORWARDED"]
    assert "GET /allowed " in arrived
