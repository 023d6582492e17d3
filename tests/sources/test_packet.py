"""Frames of a packet socket on real interfaces: whole, once, with their times and tags; what is lost is counted."""

import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from observer.datapath.interfaces import list_interfaces
from observer.losses import Losses
from observer.sources import packet
from observer.sources.frames import Frames
from observer.sources.packet import PacketSocket
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.ebpf  # for the rights and the namespaces

FROM_CLIENT = b"\x02\0\0\0\0\x01\x02\0\0\0\0\x02\x88\xb5"  # a local experimental ethertype


@pytest.fixture
def network(network):
    for name in ("client", "router"):  # nobody speaks but us
        network.run(name, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6")
    return network


@pytest.fixture
def losses():
    return Losses()


@pytest.fixture
def capture(network, losses):
    """A packet socket on some of the router's interfaces."""
    opened = []

    def start(*names: str, **options) -> PacketSocket:
        opened.append(PacketSocket(losses, **options))
        opened[-1].choose({each.index for each in list_interfaces() if each.name in names})
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.fixture
def send(network):
    """Send frames as they are from the client."""
    with network.inside("client"):
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sender.bind(("eth0", 0))
    with sender:
        yield sender.send


def arriving(opened: PacketSocket) -> Iterator[list[Frames]]:
    """All that there is, whenever there is something; for PATIENCE_S at the most."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        select.select([opened.fd], [], [], 1)
        yield list(opened.frames())


def ours(opened: PacketSocket, number: int) -> list[tuple[bytes, int]]:
    """The next frames of ours: bytes and time."""
    found = []
    for batches in arriving(opened):
        for frames in batches:
            for offset, length, time_ns in zip(frames.offsets, frames.lengths, frames.times_ns.tolist(), strict=True):
                frame = bytes(frames.data[offset : offset + length])
                if b"\x88\xb5" in frame[12:18]:
                    found.append((frame, time_ns))
        if len(found) >= number:
            break
    return found


def test_frames_come_whole_in_order_and_with_wall_time(capture, send):
    opened = capture("client")
    sent = [FROM_CLIENT + number.to_bytes(2, "big") * (20 + 7 * number) for number in range(100)]
    before = time.time_ns()
    for frame in sent:
        send(frame)
    got = ours(opened, len(sent))
    assert [frame for frame, _ in got] == sent
    times = [time_ns for _, time_ns in got]
    assert times == sorted(times)
    assert before - 1_000_000_000 < times[0] <= times[-1] <= time.time_ns()


def test_blocks_are_given_back_to_the_kernel(capture, send):
    opened = capture("client", blocks=2)
    for number in range(6):  # all rounds together are more than the ring
        sent = [FROM_CLIENT + bytes([number]) * 1400 for _ in range(500)]
        for frame in sent:
            send(frame)
        assert [frame for frame, _ in ours(opened, len(sent))] == sent


def test_a_full_ring_is_counted_to_the_frame(capture, send, losses):
    opened = capture("client", blocks=1)
    number = 3000
    for _ in range(number):
        send(FROM_CLIENT + bytes(1400))
    seen = len(ours(opened, 1))
    opened.count_losses()
    assert 0 < seen < number
    assert seen + losses.get("packet", "ring full") == number


def test_other_interfaces_are_not_seen(capture, send):
    opened = capture("server")
    send(FROM_CLIENT + b"x" * 50)
    opened.choose({each.index for each in list_interfaces() if each.name == "client"})
    send(FROM_CLIENT + b"y" * 50)
    assert [frame[14:15] for frame, _ in ours(opened, 1)] == [b"y"]


def test_more_interfaces_than_the_kernels_filter_holds(capture, send, monkeypatch):
    monkeypatch.setattr(packet, "MAX_FILTERED", 1)
    opened = capture("client", "alpha")
    send(FROM_CLIENT + b"y" * 50)
    assert len(ours(opened, 1)) == 1


def test_the_loopback_shows_a_packet_once(capture):
    opened = capture("lo")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"hello", ("127.0.0.1", 9))
    batches = next(filter(None, arriving(opened)))
    found = [bytes(frames.data[at : at + 60]) for frames in batches for at in frames.offsets.tolist()]
    assert sum(b"hello" in frame for frame in found) == 1


def test_tags_that_the_kernel_took_out_are_put_back(capture, send):
    opened = capture("client")
    tagged = FROM_CLIENT[:12] + b"\x81\x00\x60\x07" + FROM_CLIENT[12:] + b"tagged" * 10
    send(FROM_CLIENT + b"plain" * 10)
    send(tagged)
    assert [frame for frame, _ in ours(opened, 2)] == [FROM_CLIENT + b"plain" * 10, tagged]


def test_an_interface_without_ethernet_is_read(network, capture, losses):
    network.run("router", "ip", "tuntap", "add", "fs-tun", "mode", "tun")
    network.run("router", "ip", "addr", "add", "10.77.0.1/24", "dev", "fs-tun")
    holder = network.start("router", sys.executable, "-c", HOLD_TUN, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == "held\n"
        network.run("router", "ip", "link", "set", "fs-tun", "up")
        opened = capture("fs-tun")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", ("10.77.0.9", 9))
        batches = next(filter(None, arriving(opened)))
        assert {kind for frames in batches for kind in frames.link_types.tolist()} == {101}
        assert losses.total() == 0
    finally:
        holder.kill()
        holder.communicate()


HOLD_TUN = """
import fcntl, os, struct, time
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH", b"fs-tun", 0x1001))
print("held", flush=True)
time.sleep(60)
"""


def test_a_missing_right_is_told():
    code = """
from observer.errors import CaptureError
from observer.losses import Losses
from observer.sources.packet import PacketSocket
try:
    PacketSocket(Losses())
except CaptureError as error:
    print(error)
"""
    run = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", sys.executable, "-c", code]
    told = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert told.startswith("cannot open a packet socket: CAP_NET_RAW missing")


def test_the_layout_of_a_frames_head_is_the_kernels():
    assert packet.FRAME.itemsize == 48 + 20
    assert [packet.FRAME.fields[name][1] for name in ("mac", "vlan", "ifindex", "way")] == [24, 32, 52, 58]
    assert np.dtype(packet.FRAME).fields is not None
