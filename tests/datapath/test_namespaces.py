"""The network that the eBPF tests run in: everybody reaches everybody, and nothing of it stays."""

import socket
import subprocess
from pathlib import Path

import pytest

from tests.datapath.namespaces import WORKLOADS, Network

pytestmark = pytest.mark.ebpf


def test_every_workload_reaches_every_other_over_both_families():
    with Network() as network:
        for family, kind in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            with network.inside("server"):
                listener = socket.create_server((network.ip("server", family), 80), family=kind)
            for name in set(WORKLOADS) - {"server"}:
                with network.inside(name), socket.create_connection(listener.getsockname()[:2], 5) as sent:
                    assert sent.getsockname()[0] == network.ip(name, family)
            listener.close()


def test_nothing_stays():
    with Network() as network:
        names = [Path("/run/netns", network.namespace(name)) for name in (*WORKLOADS, "router")]
        assert all(name.exists() for name in names)
    assert not any(name.exists() for name in names)


def test_what_a_killed_run_left_is_removed():
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = Path("/run/netns", f"fs-{dead.pid}-0-router")
    subprocess.run(["ip", "netns", "add", left.name], check=True)
    with Network():
        assert not left.exists()
