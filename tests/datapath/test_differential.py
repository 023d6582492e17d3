"""The kernel's datapath, completed in user space, makes the same flows as the Python pipeline."""

from functools import cache
from pathlib import Path

import pytest

from observer.datapath.complete import Completion
from observer.losses import Losses
from observer.record import L7Kind
from observer.sources.frames import Frames
from observer.sources.pcap import open_capture
from tests.datapath.both import NOWHERE, World, by_kernel, differences, in_kernel, in_python, named, stored

pytestmark = pytest.mark.ebpf

PCAPS = Path(__file__).parents[2] / "fixtures/pcaps"
NAMES = sorted(path.stem for path in PCAPS.glob("*.pcap"))

# What the kernel tells by itself: requests and responses at the very least, of those that the pipeline finds.
IN_KERNEL = {
    "http1-basic": (L7Kind.HTTP, 40),
    "http1-big-body": (L7Kind.HTTP, 8),
    "http1-chunked": (L7Kind.HTTP, 16),
    "http1-ipv6": (L7Kind.HTTP, 10),
    "http1-keepalive": (L7Kind.HTTP, 46),
    "http1-pipelining": (L7Kind.HTTP, 22),
    "vlan-http": (L7Kind.HTTP, 20),
    "qinq-http": (L7Kind.HTTP, 20),
    "grpc-unary": (L7Kind.GRPC, 14),
    "grpc-streams": (L7Kind.GRPC, 10),
    "grpc-errors": (L7Kind.GRPC, 32),
    "kafka-aiokafka": (L7Kind.KAFKA, 182),
    "kafka-confluent": (L7Kind.KAFKA, 158),
    "kafka-python": (L7Kind.KAFKA, 228),
}


@cache
def frames(name: str) -> tuple[Frames, ...]:
    with open_capture(PCAPS / f"{name}.pcap", Losses()) as capture:
        return tuple(capture.frames())


def world(name: str) -> World:
    identities, policy = PCAPS / f"{name}.identities.yaml", PCAPS / f"{name}.policy.yaml"
    return World(identities if identities.exists() else None, policy if policy.exists() else None)


@pytest.mark.parametrize("name", NAMES)
def test_a_capture_makes_the_same_flows(name):
    python, kernel = in_python(frames(name), world(name)), in_kernel(frames(name), world(name))
    missing, added = differences(stored(python), stored(kernel))
    assert ([named(row) for row in missing[:3]], [named(row) for row in added[:3]]) == ([], [])
    assert python.losses.snapshot() == kernel.losses.snapshot()


@pytest.mark.parametrize(("name", "kind", "count"), [(name, *told) for name, told in IN_KERNEL.items()])
def test_the_kernel_reads_by_itself(name, kind, count):
    assert by_kernel(in_kernel(frames(name), NOWHERE), kind) >= count


@pytest.mark.parametrize("name", ["http1-errors", "http1-upgrade", "dns-basic", "tcp-loss"])
def test_without_completion_flows_are_missing(name, monkeypatch):
    monkeypatch.setattr(Completion, "snapshots", lambda *_: None)
    missing, added = differences(stored(in_python(frames(name))), stored(in_kernel(frames(name))))
    assert missing
    assert not added
