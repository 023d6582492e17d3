"""What the kernel's maps hold: settings, who is at an address, the tables of policies and of Kafka.

An ipcache, policies and settings enter; keys and values go into the maps of a loaded object. Who calls decides when.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from observer.datapath import kafka_table
from observer.datapath.libbpf import Object
from observer.datapath.policy_maps import FIRST_REVISION, put_policy
from observer.identity.endpoints import IPV4_START, MAPPED, Endpoint, IpCache, ReservedIdentity
from observer.policy.compile import compile_policy
from observer.policy.engine import Engine

ZERO: Final = bytes(4)
"""The only key of a map of one entry."""

_SETTINGS: Final = struct.Struct("=6IQ")
_ADDRESS: Final = struct.Struct("=I16s")
_ENDPOINT: Final = struct.Struct("=4I")

# Flags of struct endpoint.
MANAGED: Final = 1
HOST: Final = 2
OUTSIDE: Final = 4


@dataclass(frozen=True, slots=True)
class Settings:
    """`struct settings`."""

    enforce: bool = False
    has_policy: bool = False
    replay: bool = False
    generation: int = 0
    revision: int = 0
    wall_ns: int = 0
    """What turns the kernel's monotonic time into wall time."""

    def pack(self) -> bytes:
        """The value of the map `settings`."""
        return _SETTINGS.pack(
            self.enforce, self.has_policy, self.replay, self.generation, self.revision, 0, self.wall_ns
        )


def fill(datapath: Object, endpoints: IpCache, policy: Engine | None) -> None:
    """Write all that a fresh object goes by, but for the settings: addresses, policies, programs of Kafka's layouts.

    PolicyError for policies that the kernel cannot hold exactly. They have FIRST_REVISION.
    """
    ipcache = datapath.map("ipcache")
    for key, value in addresses(endpoints):
        ipcache.set(key, value)
    for name, values in zip(("kafka_programs", "kafka_steps"), kafka_table.tables(), strict=True):
        table = datapath.map(name)
        rows = np.frombuffer(values, f"V{table.value_size}")
        table.update_batch(np.arange(len(rows), dtype=np.uint32).view("V4"), rows)
    if policy is not None:
        put_policy(datapath, compile_policy(policy, endpoints, FIRST_REVISION))


def addresses(endpoints: IpCache) -> Iterator[tuple[bytes, bytes]]:
    """The entries of the map `ipcache`: every prefix, and the world for the rest."""
    worlds = ((0, 0, endpoints.world(6)), (int.from_bytes(MAPPED) << 32, IPV4_START, endpoints.world(4)))
    for network, length, number in (*worlds, *endpoints.prefixes()):
        endpoint = endpoints.table[number]
        value = _ENDPOINT.pack(number, endpoint.identity, 0, _flags(endpoint))
        yield _ADDRESS.pack(length, network.to_bytes(16)), value


def _flags(endpoint: Endpoint) -> int:
    if endpoint.managed:
        return MANAGED
    return HOST if endpoint.identity == ReservedIdentity.HOST else OUTSIDE
