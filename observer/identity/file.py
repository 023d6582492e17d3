"""identities.yaml: the pods, namespaces and services of a cluster as somebody wrote them down.

A YAML file enters, endpoints with their prefixes leave. It refuses what it does not know, with file and line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from observer.identity.endpoints import Endpoint, EndpointTable, IpCache


@dataclass(frozen=True, slots=True)
class Identities:
    """What an identities file says."""

    cluster: str = "default"
    claims: tuple[tuple[Endpoint, tuple[tuple[bytes, int], ...]], ...] = ()  # endpoint, its (address, prefix length)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # labels by namespace
    dual_stack: bool = False

    def ipcache(self) -> IpCache:
        """An ipcache over a new endpoint table, filled with these endpoints."""
        cache = IpCache(EndpointTable(), dual_stack=self.dual_stack)
        for endpoint, prefixes in self.claims:
            number = cache.table.intern(endpoint)
            for address, length in prefixes:
                cache.add(address, length, number)
        return cache


def load_identities(path: str | Path) -> Identities:
    """Read an identities file; ConfigError `file:line: what; remedy`."""
    raise NotImplementedError
