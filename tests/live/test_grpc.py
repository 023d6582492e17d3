"""grpcio's client and server through an observed switch: what the client was told of each call shows."""

import json
import sys
from collections import Counter

import pytest

from fixtures.record.clients import CUT_SHORT
from fixtures.record.grpc import CLIENT, PORT, PROGRAM, SERVER
from tests.live.node import Flow, identities, is_request, pods, watched

pytestmark = pytest.mark.ebpf


def call(flow: Flow) -> str:
    told = flow["extensions"]["value"]["grpc"]
    return f"/{told['service']}/{told['method']}"


@pytest.mark.parametrize(("case", "address"), [("unary", SERVER), ("streams", SERVER), ("errors", "[fd00:9::50]")])
def test_each_call_shows_with_its_status(lab, case, address):
    switch = lab.switch()
    client = lab.host("client", f"{CLIENT}/24", "fd00:9::10/64", at=switch)
    server = lab.host("server", f"{SERVER}/24", "fd00:9::50/64", at=switch)
    server.start(sys.executable, PROGRAM, "serve", f"[::]:{PORT}")
    server.listens(PORT)
    ends = {"shop/client": (CLIENT, "fd00:9::10"), "shop/orders": (SERVER, "fd00:9::50")}
    who = identities(lab.folder / "identities.yaml", ends)
    with watched(lab, switch, "--datapath", "ebpf", "--identities", who) as node:
        with node.follow("--protocol", "http") as followed:
            done = client.run(sys.executable, PROGRAM, case, f"{address}:{PORT}")
            said = [json.loads(line) for line in done.stdout.splitlines()]
            followed.until(lambda flows: len(flows) >= 2 * len(said))
        flows = followed.flows
    requests = [flow for flow in flows if is_request(flow)]
    responses = [flow for flow in flows if not is_request(flow)]
    assert len(said) >= 5
    assert Counter(map(call, requests)) == Counter(path for path, _ in said)
    assert {pods(flow) for flow in requests} == {("shop/client", "shop/orders")}
    # A call that was cut short has no status on the wire: the client made it up itself.
    told = Counter((path, code) for path, code in said if code not in CUT_SHORT)
    answered = Counter((call(flow), int(flow["extensions"]["value"]["grpc"].get("status", -1))) for flow in responses)
    assert answered & told == told
    assert sum(answered.values()) == len(said)
    assert all(int(flow["l7"].get("latency_ns", 0)) > 0 for flow in responses)
