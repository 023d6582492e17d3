"""The tier ebpf from its rings on: order, floods counted to the event, the clock, and what it says where it fails."""

import os
import socket
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from observer.datapath.interfaces import Interfaces
from observer.datapath.losses import LOST, Counter
from observer.datapath.maps import ZERO
from observer.errors import ConfigError, DatapathError
from observer.identity.endpoints import IpCache
from observer.identity.file import Identities
from observer.live import kernel, tier
from observer.live.kernel import KernelCapture, check_kernel, wall_offset_ns
from observer.live.tier import Judges, open_tier
from observer.policy.engine import Engine
from observer.store import Store
from observer.tag import PolicyMode

pytestmark = pytest.mark.ebpf

SECOND = 1_000_000_000


def judges(mode=PolicyMode.AUDIT, policy=None) -> Judges:
    ipcache: IpCache = Identities().ipcache()
    return Judges(Store(1 << 16, endpoints=ipcache.table), ipcache, policy, mode, "node")


@pytest.fixture
def capture(network):
    """The tier on every interface of the router, and its store."""
    judged = judges()
    said: list[str] = []
    opened = KernelCapture(
        store=judged.store, endpoints=judged.endpoints, policy=None, mode=judged.mode, node=0, say=said.append
    )
    interfaces = Interfaces()
    opened.take(interfaces.changes())
    yield opened, judged.store
    opened.close()
    interfaces.close()
    assert said == []


def send(network, number: int, *, first_port: int = 1024) -> None:
    """One datagram on each of so many connections, from client to server."""
    with network.inside("client"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for each in range(number):
            sender.sendto(b"x", (network.ip("server"), first_port + each))


def rows(store):
    """Every record that the store holds."""
    return store.take(np.arange(store.first, store.next))[0]


def drained(capture) -> None:
    """What has happened until now is in the store."""
    time.sleep(2 * kernel.SETTLED_NS / SECOND)
    capture.drain()
    capture.drain()


def test_flows_come_in_the_order_of_time_and_with_wall_time(capture, network):
    opened, store = capture
    before = time.time_ns()
    for each in range(30):
        send(network, 20, first_port=2000 + 20 * each)
        opened.drain()  # also while more is coming
    drained(opened)
    records = rows(store)
    assert (np.diff(records["time_ns"].astype(np.int64)) >= 0).all()
    ours = records[(records["protocol"] == 17) & (records["event_type"] == 4) & (records["destination_port"] >= 2000)]
    assert before - SECOND // 1000 <= ours["time_ns"][0]
    assert ours["time_ns"][-1] <= time.time_ns()
    ports = ours["destination_port"]
    assert sorted(ports.tolist()) == list(range(2000, 2600))  # once each, though they pass two interfaces


def test_a_ring_that_overflows_is_counted_to_the_record(capture, network, monkeypatch):
    opened, store = capture
    taken: list[int] = []
    take = opened._events.take

    def counted(limit):
        records = take(limit)
        taken.append(len(records))
        return records

    drained(opened)
    before = opened._counters.read().astype(int)
    monkeypatch.setattr(opened._events, "take", counted)
    for _ in range(20):
        send(network, 60_000)
        added = opened._counters.read().astype(int) - before
        if added[Counter.EVENTS_FULL]:
            break
    drained(opened)
    opened.tick(time.time_ns())
    added = opened._counters.read().astype(int) - before
    assert added[Counter.EVENTS_FULL] > 0
    assert sum(taken) == added[Counter.TOLD] >= opened._events.capacity - 1
    assert store.losses.get(*LOST[Counter.EVENTS_FULL]) == added[Counter.EVENTS_FULL]


@pytest.mark.parametrize("family", [4, 6])
def test_a_large_transfer_is_counted_to_the_octet_and_loses_nothing(capture, network, family):
    opened, store = capture
    size = 200 << 20
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with network.inside("server"):
        listener = socket.create_server((network.ip("server", family), 5001), family=kind)

    def receive() -> None:
        accepted, _ = listener.accept()
        with accepted:
            while accepted.recv(1 << 20):
                opened.drain()

    receiver = threading.Thread(target=receive)
    receiver.start()
    with network.inside("client"), socket.create_connection(listener.getsockname()[:2], 10) as sender:
        for _ in range(size >> 20):
            sender.sendall(bytes(1 << 20))
    receiver.join(60)
    listener.close()
    drained(opened)
    opened.tick(time.time_ns())
    records = rows(store)
    ours = records[(records["destination_port"] == 5001) & (records["event_type"] == 4)]
    last = ours[-1]
    assert last["tcp_flags"] & 1
    headers = int(last["packets"]) * (20 if family == 4 else 40)
    # Options of TCP come on top, and what it sent twice on a busy machine.
    assert size + headers < int(last["bytes"]) <= 1.05 * (size + headers + int(last["packets"]) * 60)
    assert store.losses.total() == 0


def test_the_wall_clock_is_followed_when_it_is_set(capture, monkeypatch):
    opened, _ = capture
    real = time.time_ns
    written = []
    monkeypatch.setattr(
        opened, "_settings_map", SimpleNamespace(set=lambda key, value: written.append((key, value))), raising=True
    )
    opened.tick(real())
    assert written == []
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3600 * SECOND)
    opened.tick(real())
    assert written == [(ZERO, opened._settings.pack())]
    monkeypatch.setattr(time, "time_ns", real)
    assert abs(opened._settings.wall_ns - wall_offset_ns() - 3600 * SECOND) < SECOND


def test_how_full_the_tables_are_is_read_at_most_every_few_seconds(capture, network):
    opened, _ = capture
    name, entries, most = opened.pressures[0]
    assert (name, most) == ("connections", 131_072)
    send(network, 100)
    assert opened.pressures[0][1] == entries
    opened._pressures = (-kernel.PRESSURE_S, ())
    assert opened.pressures[0][1] >= entries + 100


@pytest.mark.parametrize(
    ("release", "old"), [("5.16.20-x", True), ("5.17", False), ("6.1.0-40", False), ("odd", False)]
)
def test_a_kernel_that_is_too_old_is_told(monkeypatch, release, old):
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=release))
    if not old:
        check_kernel()
        return
    with pytest.raises(DatapathError, match=r"Linux 5\.16\.20-x is too old: 5\.17 or newer is needed"):
        check_kernel()


def test_an_object_that_does_not_load_makes_a_lesser_tier_that_says_so(network, monkeypatch):
    monkeypatch.setattr(kernel, "image", lambda name: b"garbage")
    opened = open_tier("auto", judges(), say=print)
    assert opened.name == "packet"
    assert opened.reason.startswith("no ebpf: datapath is no eBPF object")
    opened.capture.close()
    with pytest.raises(DatapathError, match="datapath is no eBPF object"):
        open_tier("ebpf", judges(), say=print)


def test_drops_that_cannot_be_traced_are_told_and_nothing_else_is_lost(network, monkeypatch):
    real = kernel.image
    monkeypatch.setattr(kernel, "image", lambda name: b"garbage" if name == "drops" else real(name))
    opened = open_tier("auto", judges(), say=print)
    assert opened.name == "ebpf"
    assert opened.reason.startswith("without what the kernel drops: drops is no eBPF object")
    opened.capture.close()


def test_what_was_to_be_enforced_does_not_fall_to_a_tier_that_only_looks(network, monkeypatch):
    monkeypatch.setattr(tier, "KernelCapture", refusing)
    judged = judges(PolicyMode.ENFORCE, policy=object.__new__(Engine))
    with pytest.raises(ConfigError, match=r"cannot be enforced in user space \(no ebpf: no way\)"):
        open_tier("auto", judged, say=print)


def refusing(**_):
    raise DatapathError("no way")
