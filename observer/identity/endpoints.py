"""The endpoint table: who was at an address, as it was then, and the ipcache from addresses to endpoints.

Addresses enter as 16 bytes (IPv4 as ::ffff:a.b.c.d), endpoint numbers leave; every address has an endpoint, if only
a reserved one. It knows no files: file.py fills it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from observer.numbered import Numbered


class ReservedIdentity(enum.IntEnum):
    """Cilium's reserved identities; a label set of ours gets 256 and up."""

    UNKNOWN = 0
    HOST = 1
    WORLD = 2
    UNMANAGED = 3
    HEALTH = 4
    INIT = 5
    REMOTE_NODE = 6
    KUBE_APISERVER = 7
    INGRESS = 8
    WORLD_IPV4 = 9
    WORLD_IPV6 = 10


RESERVED_NAMES: Final = {identity: identity.name.lower().replace("_", "-") for identity in ReservedIdentity}
FIRST_IDENTITY: Final = 256


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a flow (flow.Endpoint): a pod, or what a reserved identity stands for."""

    identity: int = 0
    cluster: str = ""
    namespace: str = ""
    pod: str = ""
    labels: tuple[str, ...] = ()  # "source:key=value", sorted
    workloads: tuple[tuple[str, str], ...] = ()  # (name, kind)
    names: tuple[str, ...] = ()  # DNS names, if the address is known by any
    service: tuple[str, str] | None = None  # (namespace, name), where the address is a service's
    named_ports: tuple[tuple[str, int], ...] = ()

    @property
    def managed(self) -> bool:
        """Whether it is a workload of ours (an endpoint that policies select), not a reserved identity."""
        return bool(self.pod) and not 0 < self.identity < FIRST_IDENTITY


NO_ENDPOINT: Final = Endpoint()


class EndpointTable(Numbered[Endpoint]):
    """Endpoints by number; a changed endpoint gets a new number, so that old flows keep what they had."""

    def __init__(self) -> None:
        super().__init__(NO_ENDPOINT)


MEMO_LIMIT: Final = 65_536
"""Addresses remembered by an ipcache; a scan over more only costs the slow path again."""

MAPPED: Final = bytes(10) + b"\xff\xff"
"""What an IPv4 address begins with among 16-byte addresses."""


IPV4_START: Final = 96
"""Bits before the IPv4 address; a shorter prefix is one of IPv6."""


class IpCache:
    """Longest prefix match from an address to the number of its endpoint; reserved ones for the rest."""

    def __init__(self, table: EndpointTable, *, dual_stack: bool = False) -> None:
        """Start with the host's loopback and the world; `dual_stack` splits the world by family, as Cilium does."""
        self.table = table
        worlds = (ReservedIdentity.WORLD_IPV4, ReservedIdentity.WORLD_IPV6) if dual_stack else (ReservedIdentity.WORLD,)
        numbers = [table.intern(reserved_endpoint(world)) for world in worlds]
        self._world = {4: numbers[0], 6: numbers[-1], 0: 0}
        self._prefixes: dict[int, dict[int, int]] = {}  # length in bits -> prefix -> endpoint number
        self._lengths: list[int] = []  # those in use, longest first
        self._memo: dict[tuple[int, bytes], int] = {}
        host = table.intern(reserved_endpoint(ReservedIdentity.HOST))
        self.add(MAPPED + bytes((127, 0, 0, 0)), IPV4_START + 8, host)
        self.add(bytes(15) + b"\x01", 128, host)

    def add(self, address: bytes, length: int, number: int) -> None:
        """Give the prefix of `length` bits (0-128; IPv4 counts from 96) to endpoint `number`."""
        prefixes = self._prefixes.get(length)
        if prefixes is None:
            prefixes = self._prefixes[length] = {}
            self._lengths = sorted(self._prefixes, reverse=True)
        prefixes[int.from_bytes(address) >> (128 - length)] = number
        self._memo.clear()

    def prefixes(self) -> Iterator[tuple[int, int, int]]:
        """Every prefix that was given away: its network as a number of 128 bits, its length, the endpoint's number."""
        for length, prefixes in self._prefixes.items():
            for bits, number in prefixes.items():
                yield bits << (128 - length), length, number

    def world(self, family: int) -> int:
        """The number of the endpoint that stands for all other addresses of a family."""
        return self._world[family]

    def lookup(self, family: int, address: bytes) -> int:
        """The number of the endpoint at a 16-byte address; 0 where there is no address (family 0)."""
        number = self._memo.get((family, address))
        if number is None:
            number = self._search(family, address)
            if len(self._memo) >= MEMO_LIMIT:
                self._memo.clear()
            self._memo[family, address] = number
        return number

    def _search(self, family: int, address: bytes) -> int:
        if not family:
            return 0
        bits = int.from_bytes(address)
        for length in self._lengths:
            if family == 4 and length < IPV4_START:
                break
            number = self._prefixes[length].get(bits >> (128 - length))
            if number is not None:
                return number
        return self._world[family]


def reserved_endpoint(identity: ReservedIdentity) -> Endpoint:
    """What stands for an address that only a reserved identity describes."""
    return Endpoint(identity=int(identity), labels=(f"reserved:{RESERVED_NAMES[identity]}",))
