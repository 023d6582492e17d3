"""Which endpoints a selector, an entity or a CIDR means: the endpoint table as policy sees it.

Endpoint numbers and model.py's peers enter, yes or no leaves; what depends on an endpoint alone is worked out once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from observer.identity.endpoints import RESERVED_NAMES, Endpoint, EndpointTable, ReservedIdentity
from observer.policy.model import Peers
from observer.policy.selector import Labels, Selector, by_key

_WORLDS: Final = {
    ReservedIdentity.UNKNOWN: 0,
    ReservedIdentity.WORLD: 0,
    ReservedIdentity.WORLD_IPV4: 4,
    ReservedIdentity.WORLD_IPV6: 6,
}
"""Identities of addresses that nobody claims, with their family where the identity tells it."""

_CLUSTER_LABEL: Final = "k8s:io.cilium.k8s.policy.cluster"


@dataclass(frozen=True, slots=True)
class _Known:
    """One endpoint as policy sees it."""

    endpoint: Endpoint
    labels: Labels
    managed: bool
    outside: bool
    host: bool
    named_ports: frozenset[tuple[str, int]]


class Matcher:
    """Answers about the endpoints of a table, by number."""

    def __init__(self, endpoints: EndpointTable) -> None:
        self._endpoints = endpoints
        self._known: list[_Known] = []

    def managed(self, number: int) -> bool:
        """Whether policies can select it: a pod."""
        return self._get(number).managed

    def outside(self, number: int) -> bool:
        """Whether it is the world: an address that no entry claims, the only ones that CIDR rules mean."""
        return self._get(number).outside

    def is_host(self, number: int) -> bool:
        """Whether it is the local host."""
        return self._get(number).host

    def named_ports(self, number: int) -> frozenset[tuple[str, int]]:
        """The ports that the endpoint has names for."""
        return self._get(number).named_ports

    def has_named_port(self, number: int, name: str, port: int) -> bool:
        """Whether the endpoint calls that port so."""
        return (name, port) in self.named_ports(number)

    def selects(self, subject: Selector, number: int) -> bool:
        """Whether a policy with that subject selects the endpoint."""
        known = self._get(number)
        return known.managed and subject.matches(known.labels)

    def pods(self) -> Iterator[tuple[int, Endpoint, Labels]]:
        """Every pod of the table as it is now."""
        for number in range(len(self._endpoints)):
            known = self._get(number)
            if known.managed:
                yield number, known.endpoint, known.labels

    def numbers(self) -> range:
        """Every number of the table as it is now."""
        return range(len(self._endpoints))

    def is_peer(self, peers: Peers | None, number: int, family: int, address: bytes) -> bool:
        """Whether the endpoint, seen at `address`, is one of the peers; None means anybody."""
        if peers is None:
            return True
        known = self._get(number)
        if peers.entities:
            return any(_is_entity(entity, known, family) for entity in peers.entities)
        if peers.cidrs:
            number_of_address = int.from_bytes(address)
            return known.outside and any(cidr.matches(family, number_of_address) for cidr in peers.cidrs)
        labels = known.labels
        if known.outside:  # both worlds are reserved:world, and one of its families
            labels = {**labels, "world": (("reserved", ""),), f"world-ipv{family}": (("reserved", ""),)}
        return any(selector.matches(labels) for selector in peers.selectors)

    def _get(self, number: int) -> _Known:
        while number >= len(self._known):
            self._known.append(_known(self._endpoints[len(self._known)]))
        return self._known[number]


def _known(endpoint: Endpoint) -> _Known:
    labels = endpoint.labels
    if endpoint.cluster and endpoint.managed:
        labels = (*labels, f"{_CLUSTER_LABEL}={endpoint.cluster}")
    return _Known(
        endpoint=endpoint,
        labels=by_key(labels),
        managed=endpoint.managed,
        outside=endpoint.identity in _WORLDS and not endpoint.managed,
        host=endpoint.identity == ReservedIdentity.HOST,
        named_ports=frozenset(endpoint.named_ports),
    )


def _is_entity(entity: str, known: _Known, family: int) -> bool:
    if entity == "all":
        return True
    if entity == "cluster":
        return known.managed or (known.endpoint.identity in RESERVED_NAMES and not known.outside)
    if entity == "world":
        return known.outside
    if entity in ("world-ipv4", "world-ipv6"):
        return known.outside and entity == f"world-ipv{family}"
    return any(source == "reserved" for source, _ in known.labels.get(entity, ()))
