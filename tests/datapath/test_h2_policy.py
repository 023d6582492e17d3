"""HTTP/2 and gRPC requests judged in the kernel: as the Python pipeline judges them, and refused in enforce mode."""

import pytest

from observer.datapath.fill import fill
from observer.datapath.maps import Settings
from observer.record import FlowType, L7Type, Verdict
from tests.datapath.both import World, differences, in_kernel, in_python, named, stored
from tests.datapath.http2_kernel import Connection, Kernel
from tests.datapath.test_http2_state import packets, segments
from tests.datapath.traffic import frames_of
from tests.l7.http2_bytes import CALL, GET, HELLO, SETTINGS, Sender, data, frame, message
from tests.l7.transcripts import CLIENT, SERVER

IDENTITIES = """
endpoints:
- {pod: default/shop, ips: [10.0.0.1, 10.1.0.0/16], labels: {app: shop}}
- {pod: default/api, ips: [10.0.0.2, 10.2.0.1], labels: {app: api}}
"""
POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: rules, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: shop}}]
    toPorts:
    - ports: [{port: "50051", protocol: TCP}]
      rules: {http: [{method: POST, path: /p.Svc/Do, host: h}, {method: GET, path: "/a.*"}, {method: PURGE}]}
"""
PASSED, REFUSED = -1, 2  # TC_ACT_UNSPEC, TC_ACT_SHOT


def asking(method: str, path: str, host: str = "h") -> list[tuple[str, str]]:
    return [(":method", method), (":scheme", "http"), (":path", path), (":authority", host)]


REQUESTS = [
    CALL,
    [*CALL[:2], (":path", "/p.Svc/Undo"), *CALL[3:]],
    [*CALL[:3], (":authority", "i"), *CALL[4:]],
    GET,
    asking("GET", "/"),
    asking("GET", "/a" + "x" * 240),
    asking("GET", "/b" + "x" * 240),
    asking("GET", "/a", "h" * 200),
    asking("PURGE", "/anything"),
    asking("DELETE", "/a"),
    [(":method", "CONNECT"), (":authority", "o:443")],
    [*asking("POST", "/p.Svc/Do", ""), ("host", "h")],
]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("world")
    for name, text in (("identities.yaml", IDENTITIES), ("policy.yaml", POLICY)):
        (folder / name).write_text(text)
    return World(folder / "identities.yaml", folder / "policy.yaml")


@pytest.mark.ebpf
def test_requests_are_judged_alike(world):
    """Each twice: the second time by what the table holds."""
    client = Sender()
    asked = [client.headers(2 * number + 1, fields) for number, fields in enumerate([*REQUESTS, *REQUESTS])]
    long = client.encoder.encode(asking("GET", "/a" + "y" * 2_000), huffman=False)
    asked.append(frame(1, 5, 2 * len(asked) + 1, b"\x82\x86\x04" + long[long.index(b"\x7f") :]))
    said = segments([(CLIENT, HELLO), (SERVER, SETTINGS), *((CLIENT, each) for each in asked)])
    batches = [frames_of(packets(0, said))]
    python, kernel = stored(in_python(batches, world)), stored(in_kernel(batches, world))
    missing, added = differences(python, kernel)
    assert ([named(row) for row in missing], [named(row) for row in added]) == ([], [])
    verdicts = [flow["verdict"] for flow in map(named, kernel) if flow["type"] == FlowType.L7]
    assert len(verdicts) == len(asked)
    assert {Verdict.FORWARDED, Verdict.DROPPED} == set(verdicts)


@pytest.mark.ebpf
@pytest.mark.parametrize("path", ["/a" + "z" * 300, "/a" + "z" * 2_100])
def test_a_path_of_which_not_all_is_kept_is_not_judged(world, path):
    """Indexed beyond what a table keeps, or longer than what policy looks at: it may be allowed, so nobody says."""
    sender = Sender()
    said = segments([(CLIENT, HELLO), *((CLIENT, sender.headers(stream, asking("GET", path))) for stream in (1, 3))])
    flows = [named(row) for row in stored(in_kernel([frames_of(packets(0, said))], world))]
    verdicts = [flow["verdict"] for flow in flows if flow["type"] == FlowType.L7]
    assert verdicts == [Verdict.FORWARDED if len(path) < 2_048 else Verdict.VERDICT_UNKNOWN, Verdict.VERDICT_UNKNOWN]


@pytest.fixture
def enforcing(world) -> Kernel:
    kernel = Kernel()
    _, rest = world.load()
    fill(kernel.object, rest["endpoints"], rest["policy"], Settings(enforce=True))
    return kernel


def ask(connection: Connection, octets: bytes) -> int:
    """Say it, and go on only where it has passed."""
    verdict = connection.segment(CLIENT, octets, 16, 1)
    if verdict == PASSED:
        connection.sequence[CLIENT] += len(octets)
    return verdict


@pytest.mark.ebpf
def test_what_policy_refuses_does_not_pass(enforcing):
    connection, client = Connection(enforcing), Sender()
    assert ask(connection, HELLO) == PASSED
    assert ask(connection, client.headers(1, CALL) + data(1, message(), end=True)) == PASSED
    refused = client.headers(3, [*CALL[:2], (":path", "/p.Svc/Undo"), *CALL[3:]])
    assert [ask(connection, refused) for _ in range(3)] == [REFUSED] * 3
    told = [(int(row["l7_id"]), int(row["verdict"])) for row in enforcing.rows() if row["l7_type"] == L7Type.REQUEST]
    assert told == [(1, Verdict.FORWARDED), (3, Verdict.DROPPED)]  # once, however often it is sent


@pytest.mark.ebpf
def test_one_refused_request_among_others_holds_the_packet_back(enforcing):
    connection, client = Connection(enforcing), Sender()
    assert ask(connection, HELLO) == PASSED
    mixed = client.headers(1, CALL) + client.headers(3, asking("GET", "/b")) + client.headers(5, CALL)
    assert ask(connection, mixed) == REFUSED


@pytest.mark.ebpf
def test_a_request_that_nobody_can_read_does_not_pass(enforcing):
    """Its path was inserted before anybody listened."""
    client = Sender()
    client.headers(1, CALL)
    connection = Connection(enforcing, joined=True)
    assert ask(connection, client.headers(3, CALL)) == REFUSED


@pytest.mark.ebpf
@pytest.mark.parametrize("block", [b"\x80", b"\x82\x86\xbe", b"\x04\x82\xff\xff"])
def test_a_malformed_block_does_not_pass(enforcing, block):
    connection = Connection(enforcing)
    assert ask(connection, HELLO) == PASSED
    assert ask(connection, frame(1, 5, 1, block)) == REFUSED


@pytest.mark.ebpf
def test_a_hole_lets_nothing_pass_unread(enforcing):
    """What lies behind it has to come again, in order."""
    connection, client = Connection(enforcing), Sender()
    assert ask(connection, HELLO) == PASSED
    said = [client.headers(1, CALL), client.headers(3, CALL), client.headers(5, asking("GET", "/b"))]
    for missing in (said[0], said[1]):
        connection.sequence[CLIENT] += len(missing)
        assert connection.segment(CLIENT, said[2], 16, 1) == REFUSED
        connection.sequence[CLIENT] -= len(missing)
        assert ask(connection, missing) == PASSED
    assert ask(connection, said[2]) == REFUSED
    assert [int(row["l7_id"]) for row in enforcing.rows() if row["l7_type"] == L7Type.REQUEST] == [1, 3, 5]
