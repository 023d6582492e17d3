"""Programs on interfaces, by TCX and by clsact: attached to what comes, gone with the process, others left alone."""

import contextlib
import ctypes
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bpf.build import build
from observer.datapath import attach, hooks
from observer.datapath.attach import Attachments, Way, filters, remove_leftovers
from observer.datapath.interfaces import Changes, Interface, Interfaces, list_interfaces
from observer.datapath.ring import RecordRing
from observer.errors import ConfigError, DatapathError

pytestmark = pytest.mark.ebpf

LIBBPF = ctypes.CDLL("libbpf.so.1")
BOTH = pytest.mark.parametrize("way", list(Way))


@pytest.fixture
def tiny(load):
    return load("flowscope_tc", "length")


@pytest.fixture
def attached(tiny, network):
    """Attachments of the tiny object, and what they said."""
    said: list[str] = []
    with contextlib.ExitStack() as stack:

        def start(way):
            made = Attachments(tiny.program("flowscope_tc"), way=way, say=said.append)
            stack.callback(made.close)
            return made, said

        yield start


def interface(name: str) -> Interface:
    return next(each for each in list_interfaces() if each.name == name)


def everything() -> Changes:
    with contextlib.closing(Interfaces()) as interfaces:
        return interfaces.changes()


def programs_at(name: str) -> list[int]:
    """The numbers of the programs that TCX holds on an interface, both directions, first to last."""
    found = []
    for kind in (hooks.TCX_INGRESS, hooks.TCX_EGRESS):
        numbers, count = (ctypes.c_uint32 * 16)(), ctypes.c_uint32(16)
        assert LIBBPF.bpf_prog_query(interface(name).index, kind, 0, None, numbers, ctypes.byref(count)) == 0
        found += numbers[: count.value]
    return found


def names_of_filters() -> set[tuple[str, str]]:
    return {
        (each.name, filter.name.partition(":")[0])
        for each in list_interfaces()
        for point in attach.PARENTS
        for filter in filters(each.index, point)
        if filter.name
    }


def packets_seen(tiny, network) -> int:
    """How many records one ping from client to server makes."""
    ring = RecordRing(tiny.map("events"))
    ring.take(1000)
    network.run("client", "ping", "-c", "1", "-W", "5", network.ip("server"))
    return int((ring.take(1000)["bytes"] == 98).sum())  # an echo of `ping` is 84 octets of IP


@BOTH
def test_both_directions_of_every_interface_are_seen_until_it_is_closed(attached, tiny, network, way):
    attachments, said = attached(way)
    attachments.take(everything())
    assert attachments.way is way
    assert [each.name for each in attachments] == ["client", "server", "alpha", "beta"]
    assert packets_seen(tiny, network) == 4  # in and out of the router, there and back
    attachments.detach(interface("client"))
    assert packets_seen(tiny, network) == 2
    attachments.close()
    assert len(attachments) == 0
    assert packets_seen(tiny, network) == 0
    assert names_of_filters() == set()
    assert "clsact" not in network.run("router", "tc", "qdisc").stdout
    assert said == []


def test_this_kernel_takes_tcx_by_itself(attached):
    attachments, _ = attached(None)
    attachments.attach(interface("client"))
    assert attachments.way is Way.TCX


def test_an_older_kernel_takes_clsact_by_itself(attached, tiny, network, monkeypatch):
    # What a kernel that does not know an attach type says; it knows none of this number.
    monkeypatch.setattr(hooks, "TCX_INGRESS", 9999)
    attachments, said = attached(None)
    attachments.take(everything())
    assert attachments.way is Way.CLSACT
    assert packets_seen(tiny, network) == 4
    assert said == []


@BOTH
def test_an_interface_that_is_gone_before_it_is_attached_to_is_told(attached, network, way):
    attachments, said = attached(way)
    gone = interface("alpha")
    network.run("router", "ip", "link", "del", "alpha")
    attachments.take(Changes(came=[gone, interface("beta")]))
    assert said == ["alpha is gone before it could be captured from"]
    assert [each.name for each in attachments] == ["beta"]


@BOTH
def test_an_interface_that_goes_is_let_go(attached, network, way):
    attachments, said = attached(way)
    follow = Interfaces()
    attachments.take(follow.changes())
    network.run("router", "ip", "link", "del", "alpha")
    network.add_veth("web1", peer="beta")
    attachments.take(follow.changes())
    assert [each.name for each in attachments] == ["client", "server", "beta", "web1"]
    assert said == []
    follow.close()


@BOTH
def test_an_interface_that_refuses_is_told_and_the_others_are_attached_to(attached, way):
    attachments, said = attached(way)
    attachments.take(Changes(came=[Interface(0, "nothing"), interface("beta")]))
    assert len(said) == 1
    assert said[0].startswith("nothing is ")
    assert [each.name for each in attachments] == ["beta"]


def test_the_other_direction_is_let_go_where_one_refuses(attached, tiny, network, monkeypatch):
    monkeypatch.setattr(hooks, "TCX_EGRESS", 9999)
    attachments, _ = attached(Way.TCX)
    with pytest.raises(DatapathError):
        attachments.attach(interface("client"))
    assert packets_seen(tiny, network) == 0


CHILD = """
import sys, time
from pathlib import Path
from observer.datapath.attach import Attachments, Way
from observer.datapath.interfaces import Interfaces
from observer.datapath.libbpf import Object
tiny = Object(Path(sys.argv[1]).read_bytes(), "tiny")
tiny.only("flowscope_tc")
tiny.load()
attachments = Attachments(tiny.program("flowscope_tc"), way=Way(sys.argv[2]), say=print)
attachments.take(Interfaces().changes())
print(len(attachments), flush=True)
time.sleep(60)
"""


@pytest.fixture
def start_child(network, tiny_image, tmp_path):
    """Another process that attaches to every veth of the router."""
    path = tmp_path / "tiny.bpf.o"
    path.write_bytes(tiny_image)
    children = []

    def start(way: Way) -> subprocess.Popen[str]:
        child = network.start("router", sys.executable, "-c", CHILD, path, way, stdout=subprocess.PIPE)
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "4\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def test_nothing_stays_of_a_process_that_was_killed(start_child):
    child = start_child(Way.TCX)
    assert len(programs_at("client")) == len(programs_at("beta")) == 2
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert programs_at("client") == programs_at("beta") == []
    assert names_of_filters() == set()


def test_two_processes_do_not_hinder_each_other_and_the_later_stands_first(start_child, attached, tiny, network):
    start_child(Way.TCX)
    first = programs_at("client")[0]
    attachments, _ = attached(Way.TCX)
    attachments.take(everything())
    assert len(programs_at("client")) == 4
    assert programs_at("client")[1] == first
    assert packets_seen(tiny, network) == 4
    attachments.close()
    assert programs_at("client")[0] == first


def test_filters_that_a_killed_process_left_are_removed_and_no_others(start_child, network, attached, tmp_path):
    ours = {(name, "flowscope_tc") for name in ("client", "server", "alpha", "beta")}
    add_foreign(network, tmp_path, "beta")
    child = start_child(Way.CLSACT)
    assert names_of_filters() == ours | {("beta", "foreign.o")}
    assert remove_leftovers() == 0  # a process that lives has them
    assert names_of_filters() == ours | {("beta", "foreign.o")}
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert names_of_filters() == ours | {("beta", "foreign.o")}
    attached(Way.TCX)
    assert names_of_filters() == {("beta", "foreign.o")}


def test_a_qdisc_that_others_use_stays(attached, network, tmp_path):
    attachments, _ = attached(Way.CLSACT)
    attachments.attach(interface("beta"))
    add_foreign(network, tmp_path, "beta")
    attachments.close()
    assert names_of_filters() == {("beta", "foreign.o")}


def add_foreign(network, tmp_path, name: str) -> None:
    """A filter that is not ours."""
    target = tmp_path / "foreign.o"
    build(Path(__file__).parent / "tiny.bpf.c", target)
    subprocess.run(["tc", "qdisc", "add", "dev", name, "clsact"], check=False, capture_output=True)
    subprocess.run(
        ["tc", "filter", "add", "dev", name, "ingress", "bpf", "da", "obj", str(target), "section", "tc"],
        check=True,
        capture_output=True,
    )


def test_names_of_programs_that_could_not_be_known_again_are_a_mistake(tiny):
    with pytest.raises(ValueError, match="begins with flowscope_"):
        Attachments(tiny.program("length"), way=None, say=print)


@pytest.mark.parametrize(("text", "way"), [("", None), ("tcx", Way.TCX), ("clsact", Way.CLSACT)])
def test_the_environment_chooses_the_way(monkeypatch, text, way):
    monkeypatch.setenv(attach.VARIABLE, text)
    assert Way.chosen() is way


def test_a_way_that_is_none_is_told(monkeypatch):
    monkeypatch.setenv(attach.VARIABLE, "xdp")
    with pytest.raises(ConfigError, match="FLOWSCOPE_ATTACH is 'xdp': it may be tcx or clsact"):
        Way.chosen()
