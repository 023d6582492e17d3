"""A large transfer at full speed, and many short ones at once: nothing is lost."""

import sys
import time
from collections import Counter

import pytest

from fixtures.record import http1
from fixtures.record.clients import curl
from tests.live.node import is_request, watched

pytestmark = pytest.mark.ebpf
MANY = 2_000


def losses(status: dict) -> list[dict]:
    """Losses of the capture; ARP and the like are counted there, and are no loss."""
    return [loss for loss in status["losses"] if not loss["reason"].startswith("not IP")]


def test_a_gigabyte_is_one_request_and_one_response(lab):
    switch, client, web, folder = http1.site(lab)
    with (folder / "www/huge.bin").open("wb") as file:
        file.truncate(1 << 30)
    for namespace, interface in ((client, "eth0"), (web, "eth0"), (switch, "to-client"), (switch, "to-web")):
        namespace.offload(interface, on=True)  # frames of 64 KB, as between real pods
    with watched(lab, switch, "--datapath", "ebpf") as node:
        (said,) = curl(client, f"http://{http1.WEB}/huge.bin")
        (after,) = curl(client, f"http://{http1.WEB}/index.html")
        flows = node.until(lambda flows: len(flows) >= 4, "--protocol", "http")
        ends = node.observe("--tcp-flags", "FIN", "--from-ip", http1.WEB)
        assert losses(node.status()) == []
    assert (said.status, after.status) == (200, 200)
    assert Counter(flow["l7"]["http"].get("code", 0) for flow in flows) == {0: 2, 200: 2}
    assert max(int(flow["extensions"]["value"]["bytes"]) for flow in ends) > 1 << 30


def test_many_requests_at_once_are_all_told(lab):
    switch, client, _, folder = http1.site(lab)
    with watched(lab, switch, "--datapath", "ebpf") as node:
        many = f"http://{http1.WEB}/index.html?n=[1-{MANY}]"
        client.run("curl", "-sS", "-Z", "--parallel-max", 16, "-o", "/dev/null", many)
        flows = node.until(lambda flows: len(flows) >= 2 * MANY, "--protocol", "http")
        assert losses(node.status()) == []
    requests = Counter(flow["l7"]["http"]["url"].partition("?n=")[2] for flow in flows if is_request(flow))
    assert requests == Counter(str(number) for number in range(1, MANY + 1))
    assert sum(flow["l7"]["http"].get("code") == 200 for flow in flows) == MANY
    assert len(http1.server_said(folder)) == MANY


TAKE_ALL = """
import socket
side, _ = socket.create_server(("", 9000)).accept()
while side.recv(1 << 20): pass
side.send(b"!")
"""
GIVE = """
import pathlib, socket, sys, time
side = socket.create_connection((sys.argv[1], 9000))
side.sendall(bytes(8 << 20))
while not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.05)
for _ in range(300): side.sendall(bytes(1 << 20))
side.shutdown(socket.SHUT_WR)
assert side.recv(1) == b"!"
"""


def test_a_stream_of_nothing_known_that_nobody_answers_is_let_go(lab):
    switch = lab.switch()
    client, server = (lab.host(name, f"10.9.0.{last}/24", at=switch) for name, last in (("client", 10), ("server", 20)))
    go_on = lab.folder / "go-on"
    with watched(lab, switch, "--datapath", "ebpf") as node:
        server.start(sys.executable, "-c", TAKE_ALL)
        server.listens(9000)
        client.start(sys.executable, "-c", GIVE, "10.9.0.20", go_on)
        # What is read of the beginning, or finds no room, is read by now; how much that is depends on the machine.
        node.until(lambda flows: bool(flows), "--tcp-flags", "SYN", "--port", "9000")
        lost = None
        while lost != (lost := losses(node.status())):
            time.sleep(1)
        go_on.touch()
        ends = node.until(lambda flows: len(flows) >= 2, "--tcp-flags", "FIN", "--port", "9000")
        assert losses(node.status()) == lost
    assert max(int(flow["extensions"]["value"]["bytes"]) for flow in ends) > 300 << 20
