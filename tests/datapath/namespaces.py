"""A small network of real kernels' namespaces: workloads behind veth pairs, and the router that the observer sits on.

    client ─┐                  ┌─ alpha
            ├─ r o u t e r ────┤
    server ─┘                  └─ beta

10.9.N.2 and fd09:N::2 are the workloads (N = 1 client, 2 server, 3 alpha, 4 beta), whose interface is eth0; 10.9.N.1
and fd09:N::1 are the router's, whose interfaces have the names of the workloads behind them.

Names begin with `fs-` and hold the number of the process that made them; what a killed run left is removed by the next.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fixtures.record.netns import inside

WORKLOADS = ("client", "server", "alpha", "beta")
ROUTER = "router"
_numbers = itertools.count()


class Network:
    """Namespaces with addresses and routes; closing takes all of it away, processes in it excepted."""

    def __init__(self) -> None:
        remove_leftovers()
        self._prefix = f"fs-{os.getpid()}-{next(_numbers)}"
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for name in (*WORKLOADS, ROUTER):
            subprocess.run(["ip", "netns", "del", self.namespace(name)], capture_output=True, check=False)

    def namespace(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def ip(self, name: str, family: int = 4) -> str:
        """A workload's address."""
        number = WORKLOADS.index(name) + 1
        return f"10.9.{number}.2" if family == 4 else f"fd09:{number}::2"

    def command(self, name: str, *command: str | Path) -> list[str]:
        """A command as it runs there; not by `ip netns exec`, which mounts another /sys."""
        return ["nsenter", f"--net=/run/netns/{self.namespace(name)}", *map(str, command)]

    def run(self, name: str, *command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run to its end, a minute at most; a failure raises."""
        options = {"capture_output": True, "text": True, "check": True, "timeout": 60} | options
        return subprocess.run(self.command(name, *command), **options)

    def start(self, name: str, *command: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Start; the caller ends it."""
        return subprocess.Popen(self.command(name, *command), **({"text": True} | options))

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """This thread within that namespace: sockets made and interfaces named here are its own."""
        with inside(Path("/run/netns", self.namespace(name))):
            yield

    def add_veth(self, host: str, *, peer: str | None = None) -> None:
        """One more pair, up: `host` on the router; its other end there too, or in the namespace of `peer`."""
        inner = ["netns", self.namespace(peer)] if peer else []
        self.run(ROUTER, "ip", "link", "add", host, "type", "veth", "peer", "name", f"{host}-peer", *inner)
        self.run(ROUTER, "ip", "link", "set", host, "up")

    def _build(self) -> None:
        router = self.namespace(ROUTER)
        for name in (ROUTER, *WORKLOADS):
            subprocess.run(["ip", "netns", "add", self.namespace(name)], check=True, capture_output=True)
        lines = []
        for number, name in enumerate(WORKLOADS, 1):
            self._batch(name, [f"link add eth0 type veth peer name {name} netns {router}"])
            lines += [
                f"addr add 10.9.{number}.1/24 dev {name}",
                f"addr add fd09:{number}::1/64 dev {name} nodad",
                f"link set {name} up",
            ]
        self._batch(ROUTER, ["link set lo up", *lines])
        for number, name in enumerate(WORKLOADS, 1):
            self._batch(
                name,
                [
                    "link set lo up",
                    "link set eth0 up",
                    f"addr add 10.9.{number}.2/24 dev eth0",
                    f"addr add fd09:{number}::2/64 dev eth0 nodad",
                    f"route add default via 10.9.{number}.1",
                    f"-6 route add default via fd09:{number}::1",
                ],
            )
        forwarding = "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"
        self.run(ROUTER, "sh", "-c", forwarding)

    def _batch(self, name: str, lines: Sequence[str]) -> None:
        for family in ("", "-6 "):
            chosen = [line.removeprefix("-6 ") for line in lines if line.startswith("-6 ") == bool(family)]
            if chosen:
                ip = ["ip", *family.split(), "-batch", "-"]
                subprocess.run(
                    [*ip[:1], "-n", self.namespace(name), *ip[1:]],
                    input="\n".join(chosen),
                    text=True,
                    check=True,
                    capture_output=True,
                )


def remove_leftovers() -> None:
    """Remove the namespaces of test processes that are no more."""
    folder = Path("/run/netns")
    for path in folder.glob("fs-*") if folder.is_dir() else ():
        owner = path.name.split("-")[1]
        if owner.isdigit() and not Path("/proc", owner).exists():
            subprocess.run(["ip", "netns", "del", path.name], capture_output=True, check=False)
