"""The datapath refuses what policy refuses, and goes by new policies and identities from one packet to the next."""

import struct
from collections.abc import Iterator

import pytest

from observer.datapath.fill import fill
from observer.datapath.libbpf import Object
from observer.datapath.maps import Settings
from observer.datapath.objects import PROGRAM, image
from observer.errors import PolicyError
from tests import captures
from tests.packets import ip_packet, tcp, udp
from tests.policy.town import IDENTITIES, Town, cnp

pytestmark = pytest.mark.ebpf

PASSED, REFUSED = -1, 2  # TC_ACT_UNSPEC, TC_ACT_SHOT
VAULT = "endpointSelector: {matchLabels: {role: vault}}"
TO_80 = cnp("open", f"{{{VAULT}, ingress: [{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}]}}]}}]}}")
TO_NONE = cnp("shut", f"{{{VAULT}, ingress: [{{}}]}}")
ONLY_GET = TO_80.replace("protocol: TCP}]", "protocol: TCP}], rules: {http: [{method: GET}]}")


class Node:
    """The programs, with what was filled into them last."""

    def __init__(self, datapath: Object):
        self.datapath = datapath
        self.settings = Settings(enforce=True)

    def hold(self, folder, policies, identities=IDENTITIES):
        town = Town(folder, policies, identities)
        self.settings = fill(self.datapath, town.cache, town.engine if policies else None, self.settings)

    def send(self, packet):
        return self.datapath.program(PROGRAM).test_run(captures.ethernet(ip_packet(packet))).retval


@pytest.fixture
def node() -> Iterator[Node]:
    with Object(image("datapath"), "datapath") as datapath:
        datapath.load()
        yield Node(datapath)


SYN = tcp("10.20.0.1:40000", "10.20.0.2:80", "S", sequence=100)
SYN_ACK = tcp("10.20.0.2:80", "10.20.0.1:40000", "SA", sequence=900, acknowledgment=101)
ACK = tcp("10.20.0.1:40000", "10.20.0.2:80", "A", sequence=101, acknowledgment=901)
REQUEST = b"%s / HTTP/1.1\r\nHost: vault\r\nContent-Length: 0\r\n\r\n"


def test_new_policies_hold_from_the_next_packet_on(tmp_path, node):
    node.hold(tmp_path, TO_80)
    assert [node.send(packet) for packet in (SYN, SYN_ACK, ACK)] == [PASSED] * 3
    for policies, verdict in ((TO_NONE, REFUSED), (TO_80, PASSED), (TO_NONE, REFUSED), ("", PASSED), (TO_80, PASSED)):
        node.hold(tmp_path, policies)
        assert node.send(ACK) == verdict, policies
    assert node.settings.revision == 6


def test_another_port_of_the_same_workload_is_refused_and_answers_pass(tmp_path, node):
    node.hold(tmp_path, TO_80)
    assert node.send(tcp("10.20.0.1:40000", "10.20.0.2:81", "S")) == REFUSED
    assert node.send(tcp("10.20.0.2:50000", "10.20.0.1:81", "S")) == PASSED
    assert node.send(udp("10.20.0.1:40000", "10.20.0.2:80", b"x")) == REFUSED


def test_new_rules_for_requests_hold_within_a_connection(tmp_path, node):
    node.hold(tmp_path, TO_80)
    assert [node.send(packet) for packet in (SYN, SYN_ACK, ACK)] == [PASSED] * 3
    sequence = 101
    for policies, method, verdict in (
        (TO_80, b"PUT", PASSED),
        (ONLY_GET, b"GET", PASSED),
        (ONLY_GET, b"PUT", REFUSED),
    ):
        node.hold(tmp_path, policies)
        head = REQUEST % method
        assert node.send(tcp("10.20.0.1:40000", "10.20.0.2:80", "PA", head, sequence=sequence)) == verdict, method
        sequence += len(head)


def test_new_identities_take_the_place_of_old_ones(tmp_path, node):
    node.hold(tmp_path, TO_NONE)
    key = struct.pack("=I16s", 128, bytes(10) + b"\xff\xff" + bytes((10, 20, 0, 2)))
    before = node.datapath.map("ipcache").get(key)
    assert node.send(SYN) == REFUSED
    node.hold(tmp_path, TO_NONE, IDENTITIES.replace("10.20.0.2", "10.20.0.9"))
    assert node.send(ACK) == PASSED  # nobody's address now
    assert node.send(tcp("10.20.0.1:40000", "10.20.0.9:80", "S")) == REFUSED
    assert before is not None
    assert node.datapath.map("ipcache").get(key) != before


def test_policies_that_cannot_be_held_leave_those_that_hold(tmp_path, node):
    node.hold(tmp_path, TO_NONE)
    with pytest.raises(PolicyError, match="does not judge headers"):
        node.hold(tmp_path, ONLY_GET.replace("{method: GET}", "{headers: [X]}"))
    assert node.send(SYN) == REFUSED
    assert node.settings.revision == 1
