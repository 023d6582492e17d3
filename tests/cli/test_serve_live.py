"""`flowscope serve` on the interfaces of a router in namespaces: what it says, sees, counts and gives up."""

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import datetime

import pytest

from observer.datapath.attach import PARENTS, filters
from observer.datapath.interfaces import list_interfaces
from observer.datapath.rights import Capability
from tests.cli.test_commands import ENVIRONMENT, PATIENCE_S, ROOT
from tests.datapath.namespaces import Network
from tests.waiting import wait_until

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
def serving(network, *words, prefix=(), said=1, environment=()):
    """`flowscope serve` on the router; gives the process with what it has said until it was ready."""
    process = network.start(
        "router",
        *prefix,
        *SERVE,
        *words,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT | dict(environment),
        cwd=ROOT,
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


TIERS = pytest.mark.parametrize(
    ("words", "environment", "tier", "way"),
    [
        (("--datapath", "user"), {}, "tier packet (asked for with --datapath user)", "packet socket"),
        ((), {}, "tier ebpf", "tcx"),
        (("--datapath", "ebpf"), {"FLOWSCOPE_ATTACH": "clsact"}, "tier ebpf", "clsact"),
    ],
    ids=["packet", "tcx", "clsact"],
)


@TIERS
def test_requests_are_seen_once(network, web, tmp_path, words, environment, tier, way):
    address = f"unix://{tmp_path}/f.sock"
    with serving(network, *words, "--listen", address, environment=environment) as process:
        assert process.said[0] == f"flowscope: serving the flows of 4 interfaces on {address}, {tier}\n"
        for number in range(5):
            get(network, f"/{number}")
        found = flows(address, "--protocol", "http", number=10)
        assert [flow["l7"]["http"]["url"].rpartition("/")[2] for flow in found] == [
            str(number) for number in range(5) for _ in ("request", "response")
        ]
        assert [flow["l7"]["http"].get("code") for flow in found] == [None, 200] * 5
        for flow, was in zip(found, [time.time()] * 10, strict=True):
            assert abs(datetime.fromisoformat(flow["time"]).timestamp() - was) < PATIENCE_S
        told = json.loads(status(address, "-o", "json"))
        assert told["tier"] == tier.split()[1]
        assert told["attached"] == [f"{name} ({way})" for name in ("client", "server", "alpha", "beta")]
        if way != "packet socket":
            assert [pressure["table"] for pressure in told["pressures"]] == ["connections", "pending_requests"]
            assert int(told["pressures"][0]["entries"]) >= 5
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert names_of_filters(network) == set()


POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
    - fromEndpoints: [{matchLabels: {app: front}}]
      toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: GET, path: "/open/.*"}]}}]
"""


@pytest.mark.parametrize("mode", ["audit", "enforce"])
def test_policy_is_told_or_enforced_in_the_kernel(network, web, tmp_path, mode):
    address = f"unix://{tmp_path}/f.sock"
    policy, identities = tmp_path / "policy.yaml", tmp_path / "identities.yaml"
    policy.write_text(POLICY)
    pods = {"client": "front", "server": "web", "alpha": "other"}
    identities.write_text(
        "endpoints:\n"
        + "".join(
            f"  - {{pod: shop/{app}, ips: [{network.ip(name)}], labels: {{app: {app}}}}}\n"
            for name, app in pods.items()
        )
    )
    words = ("--policy", str(policy), "--identities", str(identities), "--policy-mode", mode, "--datapath", "ebpf")
    asked = {("client", "/open/a"): "FORWARDED", ("client", "/shut"): None, ("alpha", "/open/b"): None}
    with serving(network, *words, "--listen", address):
        for name, path in asked:
            url = f"http://{network.ip('server')}{path}"
            done = network.run(name, "curl", "-s", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}", url, check=False)
            allowed = mode == "audit" or asked[name, path] == "FORWARDED"
            assert done.stdout == ("200" if allowed else "000")
        refusal = "AUDIT" if mode == "audit" else "DROPPED"
        found = flows(address, "--to-pod", "shop/web", "--from-pod", "shop/front", "--type", "l7", number=2)
        assert [(flow["l7"]["http"]["url"].partition("/")[2].partition("/")[2], flow["verdict"]) for flow in found] == [
            (f"{network.ip('server')}/open/a", "FORWARDED"),
            (f"{network.ip('server')}/shut", refusal),
        ]
        found = flows(address, "--to-pod", "shop/web", "--from-pod", "shop/other", number=1)
        assert {(flow["verdict"], flow["drop_reason_desc"]) for flow in found} == {(refusal, "POLICY_DENIED")}


def names_of_filters(network):
    with network.inside("router"):
        return {filter.name for each in list_interfaces() for point in PARENTS for filter in filters(each.index, point)}


def test_what_the_kernel_drops_is_told_with_its_reason(network, tmp_path):
    address = f"unix://{tmp_path}/f.sock"
    with serving(network, "--listen", address):
        network.run("server", "nft", "add table inet fs; add chain inet fs in { type filter hook input priority 0; }")
        network.run("server", "nft", "add rule inet fs in tcp dport 81 drop")
        for port in (81, 82):
            network.run("client", "curl", "-s", "-m", "1", f"http://{network.ip('server')}:{port}/", check=False)
        words = ("--verdict", "DROPPED", "--from-ip", network.ip("client"), "--to-ip", network.ip("server"))
        reasons = {
            (flow["l4"]["TCP"]["destination_port"], flow["extensions"]["value"]["skb_drop_reason"])
            for flow in flows(address, *words, number=2)
        }
        assert reasons == {(81, "NETFILTER_DROP"), (82, "NO_SOCKET")}


def test_an_observer_that_was_killed_leaves_nothing_and_the_next_one_starts(network, web, tmp_path):
    address = f"unix://{tmp_path}/f.sock"
    for environment in ({"FLOWSCOPE_ATTACH": "clsact"}, {}, {}):
        with serving(network, "--listen", address, environment=environment) as process:
            get(network, "/a")
            assert len(flows(address, "--protocol", "http", number=2)) == 2
            process.kill()
            process.wait()
    assert names_of_filters(network) == set()


def test_a_lesser_tier_says_why_it_is_not_a_better_one(network, web, tmp_path):
    address = f"unix://{tmp_path}/f.sock"
    less = "-net_admin,-bpf,-perfmon,-sys_admin"
    prefix = ("setpriv", f"--bounding-set={less}", f"--inh-caps={less}")
    with serving(network, "--listen", address, prefix=prefix) as process:
        reason = "no ebpf: cannot load datapath: CAP_BPF and CAP_NET_ADMIN and CAP_PERFMON missing"
        assert f"tier packet ({reason}" in process.said[0]
        assert f"Tier: packet ({reason}" in status(address)
        get(network, "/a")
        assert len(flows(address, "--protocol", "http", number=2)) == 2
    assert reason in refused(network, "--datapath", "ebpf", prefix=prefix).replace("cannot", "no ebpf: cannot")


def test_interfaces_are_chosen_and_followed(network, web, tmp_path):
    address = f"unix://{tmp_path}/f.sock"
    with serving(network, "--datapath", "user", "-i", "web*", "-i", "alpha", "--listen", address) as process:
        assert "of 1 interface on" in process.said[0]
        network.add_veth("web1", peer="beta")
        network.run("router", "ip", "link", "del", "alpha")
        wait_until(lambda: "Attached: web1 (packet socket)" in status(address).splitlines())


def test_no_interface_at_all_is_warned_about(network, tmp_path):
    with serving(
        network, "--datapath", "user", "-i", "none*", "--listen", f"unix://{tmp_path}/f.sock", said=2
    ) as process:
        assert process.said[0] == "warning: there is no such interface yet\n"


@pytest.mark.parametrize(
    ("words", "environment", "kept"),
    [
        (("--datapath", "user"), {}, ()),
        ((), {}, ()),
        ((), {"FLOWSCOPE_ATTACH": "clsact"}, (Capability.CAP_NET_ADMIN, Capability.CAP_BPF)),
    ],
    ids=["packet", "tcx", "clsact"],
)
def test_no_thread_keeps_a_right_that_it_does_not_need(network, tmp_path, words, environment, kept):
    listen = f"unix://{tmp_path}/f.sock"
    with serving(network, *words, "--listen", listen, environment=environment) as process:
        told = subprocess.run(
            ["sh", "-c", f"cat /proc/{process.pid}/task/*/status"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        fields = [line.split(":\t") for line in told if line.startswith(("CapEff", "CapPrm", "CapBnd"))]
        assert len(fields) >= 9
        assert {int(value, 16) for _, value in fields} == {sum(1 << capability for capability in kept)}
        # And what it may still do is enough to follow the interfaces.
        network.add_veth("web1", peer="beta")
        wait_until(lambda: ", web1 (" in status(listen))


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


def test_nothing_is_enforced_in_user_space(network):
    policy = ROOT / "fixtures" / "pcaps" / "shop.policy.yaml"
    identities = ROOT / "fixtures" / "pcaps" / "shop.identities.yaml"
    words = ("--policy", str(policy), "--identities", str(identities), "--policy-mode", "enforce")
    line = refused(network, "--datapath", "user", *words)
    assert line.endswith(
        "policy cannot be enforced in user space (asked for with --datapath user): use --policy-mode audit"
    )
