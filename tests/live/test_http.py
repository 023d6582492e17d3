"""curl and nginx through an observed switch: each request and response shows once, as both of them log it."""

from collections import Counter
from urllib.parse import urlsplit

import pytest

from fixtures.record import http1
from fixtures.record.clients import curl
from fixtures.record.netns import Namespace
from tests.live.node import Flow, identities, is_request, pods, watched

pytestmark = pytest.mark.ebpf
CLIENT, WEB = "shop/client", "shop/web"


def asked(flow: Flow) -> tuple[str, str]:
    url = urlsplit(flow["l7"]["http"]["url"])
    return flow["l7"]["http"]["method"], url.path + (f"?{url.query}" if url.query else "")


def traffic(client: Namespace) -> list[http1.Said]:
    v4, v6 = f"http://{http1.WEB}", "http://[fd00:9::20]"
    return [
        *curl(client, f"{v4}/", f"{v4}/index.html?q=1", f"{v4}/nothing"),  # one connection
        *curl(client, "-I", f"{v4}/index.html"),
        *curl(client, "-d", "amount=12", f"{v4}/echo/form"),
        *curl(client, "-T", "/etc/hostname", f"{v4}/files/a"),
        *curl(client, "-X", "DELETE", f"{v4}/files/a"),
        *curl(client, f"{v4}/chunks", f"{v4}/old", f"{v4}/empty", f"{v4}/broken"),
        *curl(client, f"{v4}/big.bin", "-o", "/dev/null", f"{v4}/big.bin"),
        *curl(client, f"{v6}/", f"{v6}/chunks", f"{v6}/index.html"),
    ]


@pytest.mark.parametrize("datapath", ["ebpf", "user"])
def test_each_request_and_response_shows_once(lab, datapath):
    switch, client, _, folder = http1.site(lab)
    who = identities(
        lab.folder / "identities.yaml",
        {CLIENT: (http1.CLIENT, "fd00:9::10"), WEB: (http1.WEB, "fd00:9::20")},
    )
    with watched(lab, switch, "--datapath", datapath, "--identities", who) as node:
        with node.follow("--protocol", "http") as followed:
            said = traffic(client)
            followed.until(lambda flows: len(flows) >= 2 * len(said))
        flows = followed.flows
        status = node.status()
    assert status["tier"] == {"ebpf": "ebpf", "user": "packet"}[datapath]
    requests = [flow for flow in flows if is_request(flow)]
    responses = [flow for flow in flows if not is_request(flow)]
    assert Counter(map(asked, requests)) == Counter((one.method, one.target) for one in said)
    answers = Counter((*asked(flow), flow["l7"]["http"]["code"]) for flow in responses)
    assert answers == Counter((one.method, one.target, one.status) for one in said)
    assert Counter(map(asked, requests)) == Counter((one.method, one.target) for one in http1.server_said(folder))
    assert {pods(flow) for flow in requests} == {(CLIENT, WEB)}
    assert {pods(flow) for flow in responses} == {(WEB, CLIENT)}
    assert {flow["verdict"] for flow in flows} == {"FORWARDED"}
    assert all(0 < int(flow["l7"]["latency_ns"]) < 10**10 for flow in responses)
    assert not any(flow["is_reply"] for flow in requests)
    assert all(flow["is_reply"] for flow in responses)
