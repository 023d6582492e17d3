"""Ways around a policy that refuses: what it does not allow does not pass, however it is cut, sent or dressed up, and
what became of a packet is what is told of it."""

import socket
import struct
from collections.abc import Iterator

import pytest

from observer.datapath.fill import fill
from observer.datapath.libbpf import Object, Program
from observer.datapath.losses import Counter
from observer.datapath.maps import Settings
from observer.datapath.objects import PROGRAM, image
from observer.datapath.pending import place
from observer.datapath.ring import Counters, RecordRing
from observer.record import Flags, FlowType, Verdict
from tests import captures
from tests.packets import icmp, ip_packet, tcp, udp
from tests.policy.town import IDENTITIES, Town, cnp

pytestmark = pytest.mark.ebpf
PASSED, REFUSED = -1, 2  # TC_ACT_UNSPEC, TC_ACT_SHOT
POLICY_DENIED, INVALID_PACKET = 133, 134  # flow.DropReason

VAULT = "endpointSelector: {matchLabels: {role: vault}}"
RULES = {"http": "{http: [{method: GET, path: '/a.*'}]}", "kafka": "{kafka: [{role: produce, topic: a}]}"}


def policy(port: int = 80, rules: str = RULES["http"]) -> str:
    to_port = f"{{ports: [{{port: '{port}', protocol: TCP}}], rules: {rules}}}"
    return cnp("judged", f"{{{VAULT}, ingress: [{{toPorts: [{to_port}]}}]}}")


JUDGED = policy()
OPEN = cnp("open", f"{{{VAULT}, ingress: [{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}]}}]}}]}}")
TELLER, GUARD, SERVER = "10.20.0.1", "10.20.0.3", "10.20.0.2:80"
ALLOWED = b"GET /a HTTP/1.1\r\nHost: vault\r\n\r\n"
DENIED = b"GET /b HTTP/1.1\r\nHost: vault\r\n\r\n"
"""As long as what is allowed."""


class Node:
    """The programs in enforce mode; one connection that is open, and what is said on it."""

    def __init__(self, datapath: Object, folder):
        self.datapath = datapath
        self.folder = folder
        self.settings = Settings(enforce=True)
        self.ring = RecordRing(datapath.map("events"))
        self.program: Program = datapath.program(PROGRAM)
        self.client = f"{TELLER}:40000"
        self.server = SERVER

    def hold(self, policies: str) -> None:
        town = Town(self.folder, policies, IDENTITIES)
        self.settings = fill(self.datapath, town.cache, town.engine if policies else None, self.settings)

    def send(self, packet, *, hook: int = 1, urgent: bool = False) -> int:
        frame = bytearray(captures.ethernet(ip_packet(packet)))
        if urgent:
            frame[47] |= 32
        return self.frame(bytes(frame), hook)

    def frame(self, frame: bytes, hook: int = 1) -> int:
        context = bytearray(192)
        struct.pack_into("=I", context, 40, hook)  # ifindex
        return self.program.test_run(frame, ctx=bytes(context)).retval

    def open(self, hook: int = 1) -> None:
        said = [
            tcp(self.client, self.server, "S", sequence=99),
            tcp(self.server, self.client, "SA", sequence=899, acknowledgment=100),
            tcp(self.client, self.server, "A", sequence=100, acknowledgment=900),
        ]
        assert [self.send(packet, hook=hook) for packet in said] == [PASSED] * 3

    def says(self, payload: bytes, sequence: int = 100, flags: str = "PA", **how) -> int:
        """The client's octets."""
        return self.send(tcp(self.client, self.server, flags, payload, sequence=sequence, acknowledgment=900), **how)

    def answers(self, payload: bytes, sequence: int = 900) -> int:
        return self.send(tcp(self.server, self.client, "PA", payload, sequence=sequence, acknowledgment=100))

    def told(self) -> list[tuple[FlowType, Verdict, int]]:
        """Type, verdict and reason of what was told since the last look."""
        rows = self.ring.take(4096)
        return [(FlowType(row["type"]), Verdict(row["verdict"]), int(row["drop_reason_desc"])) for row in rows]


HELD = 16  # of bpf/maps.h
L7_DENIED = (FlowType.L7, Verdict.DROPPED, POLICY_DENIED)
L3_DENIED = (FlowType.L3_L4, Verdict.DROPPED, POLICY_DENIED)
UNREAD = (FlowType.L3_L4, Verdict.DROPPED, INVALID_PACKET)


@pytest.fixture
def node(tmp_path) -> Iterator[Node]:
    with Object(image("datapath"), "datapath") as datapath:
        datapath.load()
        node = Node(datapath, tmp_path)
        node.hold(JUDGED)
        yield node


def test_what_is_allowed_passes_and_what_is_not_does_not(node):
    node.open()
    node.told()
    assert node.says(ALLOWED) == PASSED
    assert [node.says(DENIED, 100 + len(ALLOWED)) for _ in range(3)] == [REFUSED] * 3
    assert node.told() == [(FlowType.L7, Verdict.FORWARDED, 0), L7_DENIED]  # once


@pytest.mark.parametrize("cut", range(1, len(DENIED)))
def test_a_refused_request_cut_anywhere(node, cut):
    node.open()
    node.told()
    assert node.says(DENIED[:cut]) == REFUSED
    assert node.says(DENIED[cut:], 100 + cut) == REFUSED
    assert node.says(DENIED) == REFUSED
    assert node.told() == [UNREAD]


@pytest.mark.parametrize(
    ("behind", "told"),
    [
        (DENIED, [L7_DENIED, L7_DENIED]),
        (b"GET /a HTTP", [(FlowType.L7, Verdict.DROPPED, INVALID_PACKET), UNREAD]),
    ],
)
def test_an_allowed_request_goes_with_what_is_refused_behind_it(node, behind, told):
    node.open()
    node.told()
    assert [node.says(ALLOWED + behind) for _ in range(2)] == [REFUSED] * 2
    assert node.told() == told  # once
    assert node.says(DENIED, 100 + len(ALLOWED)) == REFUSED


def test_a_request_that_went_with_another_is_answered_when_it_comes_again(node):
    node.open()
    assert node.says(ALLOWED + DENIED) == REFUSED
    node.hold(JUDGED.replace("/a.*", "/.*"))
    node.told()
    assert node.says(ALLOWED + DENIED) == PASSED
    assert node.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") == PASSED
    answered = node.ring.take(4096)[-1]
    assert (answered["l7_code"], answered["text"].tobytes()[:2], answered["flags"]) == (200, b"/a", 0)


def test_requests_that_are_held_until_their_packet_is_judged_are_bounded(node):
    node.open()
    node.told()
    assert node.says(ALLOWED * (HELD + 2) + DENIED) == REFUSED
    assert node.told() == [(FlowType.L7, Verdict.FORWARDED, 0)] * 3 + [L7_DENIED] * HELD


@pytest.mark.parametrize(
    ("policies", "request_line"), [(JUDGED, b"GET /a"), (OPEN, b"GET /a"), (OPEN, b"HEAD /a"), ("", b"HEAD /a")]
)
def test_a_request_that_others_push_out_costs_its_record_and_not_the_connection(node, policies, request_line):
    """Whoever picks numbers of streams that share a bucket with another's request can do that."""
    node.hold(policies)
    node.open()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    sequences = [100, 900]
    for line, is_lost in ((request_line, 1), (b"GET /a", 0)):
        request = line + b" HTTP/1.1\r\nHost: vault\r\n\r\n"
        answer = head if line.startswith(b"HEAD") else head + b"xx"
        assert node.says(request, sequences[0]) == PASSED
        if is_lost:
            table = node.datapath.map("pending_requests")
            bucket, _ = place(int(node.ring.take(4096)[-1]["connection"]), 0)
            table.set(bucket, bytes(table.value_size))
        assert node.answers(answer, sequences[1]) == PASSED
        row = node.ring.take(4096)[-1]
        assert (row["type"], row["l7_code"], row["flags"]) == (FlowType.L7, 200, Flags.L7_INCOMPLETE if is_lost else 0)
        assert row["text_length"].any() != is_lost
        sequences = [sequences[0] + len(request), sequences[1] + len(answer)]
    assert Counters(node.datapath.map("counters")).read()[Counter.PENDING_LOST] == 1


def test_what_lies_behind_a_hole_comes_again(node):
    node.open()
    node.told()
    assert node.says(DENIED, 100 + len(ALLOWED)) == REFUSED
    assert node.told() == []  # nobody can say yet what it is
    assert node.says(ALLOWED) == PASSED
    assert node.says(DENIED, 100 + len(ALLOWED)) == REFUSED
    assert node.told() == [(FlowType.L7, Verdict.FORWARDED, 0), L7_DENIED]


def test_an_overlap_is_read_from_where_it_is_new(node):
    node.open()
    assert node.says(ALLOWED) == PASSED
    assert node.says(b"x" * 10 + DENIED, 90 + len(ALLOWED)) == REFUSED


@pytest.mark.parametrize("flags", ["FPA", "PA"])
def test_what_is_told_of_a_packet_is_what_became_of_it(node, flags):
    node.open()
    node.told()
    assert node.says(DENIED, flags=flags) == REFUSED
    assert node.told() == [L7_DENIED, *[L3_DENIED] * ("F" in flags)]
    assert node.says(b"", 100 + len(DENIED), "FA") == REFUSED
    assert node.told() == [L3_DENIED] * ("F" not in flags)


def test_a_reset_behind_what_was_refused_ends_the_connection(node):
    node.open()
    assert node.says(DENIED) == REFUSED
    assert node.says(DENIED, flags="RA") == REFUSED
    assert node.says(b"", 100 + len(DENIED), "RA") == PASSED


@pytest.mark.parametrize("payload", [DENIED, b"G"])
def test_octets_in_a_syn(node, payload):
    assert [node.says(payload, 99, "S") for _ in range(2)] == [REFUSED] * 2
    assert len(node.told()) == 2 - (payload == b"G")  # of the packet, and of the request where it is one
    assert node.says(b"", 99, "S") == PASSED


def test_octets_taken_out_of_line_are_not_read_by_whom_they_are_for(node):
    node.open()
    assert node.says(ALLOWED, urgent=True) == REFUSED
    assert node.says(b"", 100, "A", urgent=True) == REFUSED
    assert UNREAD in node.told()


@pytest.mark.parametrize("spoken", [b"\x16\x03\x01\x02\x00\x01" + b"x" * 60, b"GET /a"])
def test_user_space_reads_it_when_a_policy_comes_that_judges_requests(node, spoken):
    node.hold(OPEN)
    node.open()
    assert node.says(spoken) == PASSED
    node.hold(JUDGED)
    node.told()
    assert [node.says(DENIED, 100 + len(spoken)) for _ in range(2)] == [REFUSED] * 2
    assert node.answers(b"x") == REFUSED
    assert node.told() == [UNREAD, UNREAD]
    node.hold(OPEN)
    assert node.says(DENIED, 100 + len(spoken)) == PASSED


def test_what_was_refused_is_judged_anew_by_other_policies(node):
    node.open()
    refused = DENIED.replace(b"\r\n\r\n", b"\r\nContent-Length: 40\r\n\r\n")
    assert node.says(refused) == REFUSED
    node.hold(JUDGED)
    assert node.says(refused) == REFUSED  # its own end is no body of it
    node.hold(JUDGED.replace("/a.*", "/b.*"))
    assert node.says(refused) == PASSED
    node.told()
    assert node.says(b"x" * 40, 100 + len(refused)) == PASSED
    assert node.says(DENIED, 140 + len(refused)) == PASSED
    assert node.says(ALLOWED, 140 + len(refused) + len(DENIED)) == REFUSED
    assert node.told() == [(FlowType.L7, Verdict.FORWARDED, 0), L7_DENIED]


def test_roles_that_were_guessed_wrong_are_judged_anew_at_once(node):
    """A client behind a port of servers asks a server behind a port of clients."""
    node.hold(policy(40000))
    node.client, node.server = f"{TELLER}:80", "10.20.0.2:40000"
    assert node.says(DENIED) == REFUSED
    assert node.says(ALLOWED) == REFUSED
    assert node.told()[0][0] is FlowType.L7


@pytest.mark.parametrize("first", [b"G", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"\0\0\0"])
def test_a_client_that_looks_like_a_server_is_read_as_a_client(node, first):
    """Its connection was forgotten, say because it opened many others; its port is one of servers."""
    node.hold(policy(9092))
    node.client, node.server = f"{TELLER}:80", "10.20.0.2:9092"
    assert node.says(first) == REFUSED
    assert node.says(DENIED, 100 + len(first)) == REFUSED


def another_hook() -> int:
    return next(index for index, _ in socket.if_nameindex() if index != 1)


def test_a_hook_that_a_client_does_not_pass_does_not_read_for_it(node):
    """Somebody else opened the connection in its name, and the hooks that it passes leave the reading to his."""
    other = another_hook()
    node.open(hook=other)
    node.told()
    assert node.says(DENIED) == REFUSED
    assert node.told() == [L7_DENIED]


def test_what_one_hook_has_read_passes_the_next(node):
    other = another_hook()
    node.open()
    for at, verdict in ((100, PASSED), (100 + len(ALLOWED), PASSED)):
        assert node.says(ALLOWED, at) == verdict
        assert node.says(ALLOWED, at, hook=other) == verdict
    at = 100 + 2 * len(ALLOWED)
    assert node.says(DENIED, at) == node.says(DENIED, at, hook=other) == REFUSED
    assert [row for row in node.told() if row[0] is FlowType.L7] == [(FlowType.L7, Verdict.FORWARDED, 0)] * 2 + [
        L7_DENIED
    ]


FRAGMENTS = {
    "to a port with rules": (6, captures.tcp(ALLOWED, 40000, 80, 24, 100), REFUSED),
    "a header and nothing else": (6, captures.tcp(b"", 40000, 80, 24, 100), REFUSED),
    "a header cut short": (6, captures.tcp(ALLOWED, 40000, 80, 24, 100)[:8], REFUSED),
    "to a denied port": (6, captures.tcp(ALLOWED, 40000, 81, 24, 100), REFUSED),
    "a datagram to a denied port": (17, captures.udp(bytes(64), 40000, 53, 2000), REFUSED),
    "from the vault": (17, captures.udp(bytes(64), 5000, 40000, 2000), PASSED),
}


@pytest.mark.parametrize("name", FRAGMENTS)
def test_first_fragments_are_judged_and_the_rest_are_nothing_without_them(node, name):
    protocol, segment, verdict = FRAGMENTS[name]
    node.open()
    ends = (TELLER, "10.20.0.2") if name != "from the vault" else ("10.20.0.2", TELLER)
    assert node.frame(captures.ethernet(captures.ipv4(segment, protocol, *ends, fragment=0x2000))) == verdict
    assert node.frame(captures.ethernet(captures.ipv4(bytes(64), protocol, *ends, fragment=0x0008))) == PASSED
    ends = ("fd20::1", "fd20::2") if name != "from the vault" else ("fd20::2", "fd20::1")
    six = captures.ipv6(struct.pack(">BBHI", protocol, 0, 1, 7) + segment, 44, *ends)
    assert node.frame(captures.ethernet(six, 0x86DD)) == verdict


@pytest.mark.parametrize(
    "frame",
    [
        captures.ethernet(ip_packet(tcp(f"{TELLER}:40000", SERVER, "PA", DENIED)), tags=[(0x8100, 0)] * 5),
        captures.ethernet(ip_packet(tcp(f"{TELLER}:40000", SERVER, "PA", DENIED)))[:40],
        captures.ethernet(captures.ipv6(bytes((60, 0)) * 4 * 20, 60, "fd20::1", "fd20::2"), 0x86DD),
        captures.ethernet(captures.ipv4(bytes(19), 6, TELLER, "10.20.0.2")),
    ],
    ids=["tags in tags", "cut", "headers behind headers", "less than a header"],
)
def test_what_cannot_be_read_at_all_does_not_pass_where_policy_refuses(node, frame):
    counters = Counters(node.datapath.map("counters"))
    assert node.frame(frame) == REFUSED
    assert (int(counters.read()[2]), int(counters.read()[7])) == (1, 1)
    node.hold("")
    assert node.frame(frame) == PASSED


def test_an_error_goes_to_whom_it_is_about(node):
    """Others it does not reach by quoting a connection that may be."""
    node.hold(cnp("only", f"{{{VAULT}, ingress: [{{fromEndpoints: [{{matchLabels: {{role: guard}}}}]}}]}}"))
    allowed = udp(f"{TELLER}:5000", f"{GUARD}:9999", b"x")
    assert node.send(allowed) == PASSED
    quoted = ip_packet(allowed)
    assert node.send(icmp(GUARD, TELLER, 3, code=3, payload=quoted)) == PASSED
    assert node.send(icmp(TELLER, "10.20.0.2", 3, code=3, payload=quoted)) == REFUSED


@pytest.mark.parametrize(
    ("kind", "verdict"), [(133, PASSED), (135, PASSED), (136, PASSED), (137, REFUSED), (128, REFUSED)]
)
def test_neighbours_find_each_other_whatever_policy_says(node, kind, verdict):
    said = captures.icmp(kind, payload=bytes(20))
    assert node.frame(captures.ethernet(captures.ipv6(said, 58, "fd20::1", "fd20::2"), 0x86DD)) == verdict
