"""Interfaces by name, by glob, or every veth, as they come, are renamed, move and go."""

import pytest

from observer.datapath import interfaces, netlink
from observer.datapath.interfaces import Interfaces, list_interfaces
from tests.datapath.namespaces import WORKLOADS

pytestmark = pytest.mark.ebpf


@pytest.fixture
def follow(network):
    opened = []

    def start(*patterns: str) -> Interfaces:
        opened.append(Interfaces(patterns))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def names(changes) -> tuple[list[str], list[str]]:
    return [interface.name for interface in changes.went], [interface.name for interface in changes.came]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ((), list(WORKLOADS)),
        (("alpha",), ["alpha"]),
        (("*a",), ["alpha", "beta"]),
        (("lo",), ["lo"]),
        (("client", "[sl]*"), ["lo", "client", "server"]),
        (("none-such",), []),
    ],
)
def test_the_first_look_tells_what_is_there(follow, patterns, expected):
    assert names(follow(*patterns).changes()) == ([], expected)


def test_kinds_are_known(network):
    network.run("router", "ip", "link", "add", "fs-bridge", "type", "bridge")
    kinds = {interface.name: interface.kind for interface in list_interfaces()}
    assert kinds == dict.fromkeys(WORKLOADS, "veth") | {"lo": "", "fs-bridge": "bridge"}


def test_they_are_followed(network, follow):
    every, some = follow(), follow("web*")
    every.changes()
    some.changes()
    network.add_veth("web1", peer="alpha")
    assert names(every.changes()) == ([], ["web1"])
    assert names(every.changes()) == ([], [])
    assert names(some.changes()) == ([], ["web1"])
    network.run("router", "ip", "link", "set", "web1", "down")
    network.run("router", "ip", "link", "set", "web1", "name", "db1")
    assert names(every.changes()) == (["web1"], ["db1"])
    assert names(some.changes()) == (["web1"], [])
    network.run("router", "ip", "link", "set", "db1", "netns", network.namespace("beta"))
    assert names(every.changes()) == (["db1"], [])
    network.run("router", "ip", "link", "del", "client")
    assert names(every.changes()) == (["client"], [])


def test_what_came_and_went_between_two_looks_is_not_told(network, follow):
    every = follow()
    every.changes()
    network.add_veth("web1", peer="alpha")
    network.run("router", "ip", "link", "del", "web1")
    assert not every.changes()


def test_lost_messages_are_made_up_for(network, follow, monkeypatch):
    monkeypatch.setattr(interfaces, "BACKLOG", 1)  # the kernel rounds up to some two messages
    every = follow()
    every.changes()
    for number in range(20):
        network.add_veth(f"web{number}")
    network.run("router", "ip", "link", "del", "alpha")
    went, came = names(every.changes())
    assert went == ["alpha"]
    assert sorted(came) == sorted(f"web{number}{end}" for number in range(20) for end in ("", "-peer"))


@pytest.mark.parametrize("datagram", [b"", b"\0" * 15, b"\x20\0\0\0" + bytes(12)])
def test_short_messages_end_quietly(datagram):
    assert all(len(message.body) < 32 for message in netlink.messages(datagram))


def test_attributes_that_are_cut_end_the_list():
    whole = netlink.ATTRIBUTE.pack(6, 3) + b"lo\0\0" + netlink.ATTRIBUTE.pack(8, 4) + b"\1\0\0\0"
    for size in range(len(whole) + 1):
        assert set(netlink.attributes(whole[:size])) <= {3, 4}
    assert netlink.attributes(b"\1\0\0\0\0\0\0\0") == {}
