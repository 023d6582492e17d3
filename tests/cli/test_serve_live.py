"""`flowscope serve` on the interfaces of a router in namespaces: what it says, sees, counts and gives up."""

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from tests.cli.test_commands import ENVIRONMENT, PATIENCE_S, ROOT
from tests.datapath.namespaces import Network

pytestmark = pytest.mark.ebpf

SERVE = [sys.executable, "-m", "observer.cli", "serve"]


@pytest.fixture
def network():
    with Network() as network:
        yield network


@pytest.fixture
def web(network):
    """An HTTP server on `server`."""
    process = network.start("server", sys.executable, "-c", WEB, network.ip("server"), stdout=subprocess.PIPE)
    assert process.stdout.readline() == "up\n"
    yield
    process.kill()
    process.communicate()


WEB = """
import http.server, sys
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer((sys.argv[1], 80), Answers)
print("up", flush=True)
server.serve_forever()
"""


@contextmanager
def serving(network, *words, prefix=(), said=1):
    """`flowscope serve` on the router; gives the process with what it has said until it was ready."""
    process = network.start(
        "router", *prefix, *SERVE, *words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT, cwd=ROOT
    )
    try:
        process.said = []
        while not process.said or not process.said[-1].startswith("flowscope: serving "):
            line = process.stderr.readline()
            assert line, f"the server ended: {process.said}"
            process.said.append(line)
        assert len(process.said) == said, process.said
        yield process
    finally:
        process.kill()
        process.communicate()


def flows(address, *words, number):
    """At least so many flows that these flags select, as objects, once they are there."""
    deadline = time.monotonic() + 20
    while True:
        run = [sys.executable, "-m", "observer.cli", "observe", "--server", address, "--all", "-o", "json", *words]
        done = subprocess.run(run, capture_output=True, text=True, check=True, env=ENVIRONMENT, cwd=ROOT)
        found = [json.loads(line)["flow"] for line in done.stdout.splitlines()]
        if len(found) >= number or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def status(address, *words):
    run = [sys.executable, "-m", "observer.cli", "status", "--server", address, *words]
    return subprocess.run(run, capture_output=True, text=True, check=True, env=ENVIRONMENT, cwd=ROOT).stdout


def get(network, path):
    network.run("client", "curl", "-sf", f"http://{network.ip('server')}{path}")


def test_requests_are_seen_once_in_user_space(network, web, tmp_path):
    address = f"unix://{tmp_path}/f.sock"
    with serving(network, "--datapath", "user", "--listen", address) as process:
        assert process.said[0] == (
            f"flowscope: serving the flows of 4 interfaces on {address}, tier packet (asked for with --datapath user)\n"
        )
        for number in range(5):
            get(network, f"/{number}")
        found = flows(address, "--protocol", "http", number=10)
        assert [flow["l7"]["http"]["url"].rpartition("/")[2] for flow in found] == [
            str(number) for number in range(5) for _ in ("request", "response")
        ]
        assert [flow["l7"]["http"].get("code") for flow in found] == [None, 200] * 5
        told = json.loads(status(address, "-o", "json"))
        assert told["tier"] == "packet"
        assert told["attached"] == [f"{name} (packet socket)" for name in ("client", "server", "alpha", "beta")]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


def test_interfaces_are_chosen_and_followed(network, web, tmp_path):
    address = f"unix://{tmp_path}/f.sock"
    with serving(network, "--datapath", "user", "-i", "web*", "-i", "alpha", "--listen", address) as process:
        assert "of 1 interface on" in process.said[0]
        network.add_veth("web1", peer="beta")
        network.run("router", "ip", "link", "del", "alpha")
        deadline = time.monotonic() + 10
        while "Attached: web1 (packet socket)" not in status(address) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert "Attached: web1 (packet socket)" in status(address).splitlines()


def test_no_interface_at_all_is_warned_about(network, tmp_path):
    with serving(
        network, "--datapath", "user", "-i", "none*", "--listen", f"unix://{tmp_path}/f.sock", said=2
    ) as process:
        assert process.said[0] == "warning: there is no such interface yet\n"


def test_no_thread_keeps_a_right_that_it_does_not_need(network, tmp_path):
    with serving(network, "--datapath", "user", "--listen", f"unix://{tmp_path}/f.sock") as process:
        told = subprocess.run(
            ["sh", "-c", f"cat /proc/{process.pid}/task/*/status"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        fields = [line.split(":\t") for line in told if line.startswith(("CapEff", "CapPrm", "CapBnd"))]
        assert len(fields) >= 9
        assert {int(value, 16) for _, value in fields} == {0}


def refused(network, *words, prefix=()):
    run = network.command("router", *prefix, *SERVE, *words)
    done = subprocess.run(
        run, capture_output=True, text=True, check=False, env=ENVIRONMENT, cwd=ROOT, timeout=PATIENCE_S
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    return line


def test_a_missing_right_is_one_line(network):
    less = "-net_raw,-net_admin,-bpf,-perfmon,-sys_admin"
    prefix = ("setpriv", f"--bounding-set={less}", f"--inh-caps={less}")
    assert "CAP_NET_RAW missing" in refused(network, "--datapath", "user", prefix=prefix)


def test_nothing_is_enforced_in_user_space(network, tmp_path):
    policy = ROOT / "fixtures" / "pcaps" / "shop.policy.yaml"
    identities = ROOT / "fixtures" / "pcaps" / "shop.identities.yaml"
    words = ("--policy", str(policy), "--identities", str(identities), "--policy-mode", "enforce")
    line = refused(network, "--datapath", "user", *words)
    assert line.endswith(
        "policy cannot be enforced in user space (asked for with --datapath user): use --policy-mode audit"
    )
