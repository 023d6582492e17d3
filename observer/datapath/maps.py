"""What the kernel's maps hold, as bytes: settings, and who is at an address.

An ipcache and settings enter; keys and values of bpf/maps.h leave. Who writes them into maps decides when.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from observer.identity.endpoints import IPV4_START, MAPPED, Endpoint, IpCache, ReservedIdentity

ZERO: Final = bytes(4)
"""The only key of a map of one entry."""

_SETTINGS: Final = struct.Struct("=4IQ")
_ADDRESS: Final = struct.Struct("=I16s")
_ENDPOINT: Final = struct.Struct("=3I")

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
    revision: int = 0
    wall_ns: int = 0
    """What turns the kernel's monotonic time into wall time."""

    def pack(self) -> bytes:
        """The value of the map `settings`."""
        return _SETTINGS.pack(self.enforce, self.has_policy, self.replay, self.revision, self.wall_ns)


def addresses(endpoints: IpCache) -> Iterator[tuple[bytes, bytes]]:
    """The entries of the map `ipcache`: every prefix, and the world for the rest."""
    worlds = ((0, 0, endpoints.world(6)), (int.from_bytes(MAPPED) << 32, IPV4_START, endpoints.world(4)))
    for network, length, number in (*worlds, *endpoints.prefixes()):
        endpoint = endpoints.table[number]
        value = _ENDPOINT.pack(number, endpoint.identity, _flags(endpoint))
        yield _ADDRESS.pack(length, network.to_bytes(16)), value


def _flags(endpoint: Endpoint) -> int:
    if endpoint.managed:
        return MANAGED
    return HOST if endpoint.identity == ReservedIdentity.HOST else OUTSIDE
