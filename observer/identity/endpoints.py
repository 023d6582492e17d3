"""The endpoint table: who was at an address, as it was then, and the ipcache from addresses to endpoints.

Addresses enter as 16 bytes (IPv4 as ::ffff:a.b.c.d), endpoint numbers leave; every address has an endpoint, if only
a reserved one. It knows no files: file.py fills it.
"""

from __future__ import annotations

import enum
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
        return bool(self.pod)


NO_ENDPOINT: Final = Endpoint()


class EndpointTable(Numbered[Endpoint]):
    """Endpoints by number; a changed endpoint gets a new number, so that old flows keep what they had."""

    def __init__(self) -> None:
        super().__init__(NO_ENDPOINT)
