"""Policy documents as parsed, and the table of policies that decided flows.

What parse.py makes of a CiliumNetworkPolicy or CiliumClusterwideNetworkPolicy and engine.py judges by: frozen data,
namespaces and defaults already filled in. It knows neither YAML nor endpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from observer.numbered import Numbered
from observer.policy.http_rules import HttpRule
from observer.policy.kafka_rules import KafkaRule
from observer.policy.selector import Selector


@dataclass(frozen=True, slots=True)
class PolicyRef:
    """The name of a policy as a flow carries it (flow.Policy)."""

    name: str = ""
    namespace: str = ""
    kind: str = ""
    labels: tuple[str, ...] = ()
    revision: int = 0


NO_POLICY: Final = PolicyRef()


class PolicyTable(Numbered[PolicyRef]):
    """Policies by number; 0 is none."""

    def __init__(self) -> None:
        super().__init__(NO_POLICY)


@dataclass(frozen=True, slots=True)
class Cidr:
    """A prefix of addresses; the network is that of the 16-byte form, its length counted in it."""

    family: int
    network: int
    length: int

    def contains(self, family: int, address: int) -> bool:
        """Whether an address (its 16 bytes as a number) lies in it."""
        return family == self.family and address >> (128 - self.length) == self.network >> (128 - self.length)

    def overlaps(self, other: Cidr) -> bool:
        """Whether the two have addresses in common."""
        return self.contains(other.family, other.network) or other.contains(self.family, self.network)


@dataclass(frozen=True, slots=True)
class CidrRule:
    """A prefix without its exceptions, which narrow this entry only."""

    cidr: Cidr
    excepted: tuple[Cidr, ...] = ()

    def matches(self, family: int, address: int) -> bool:
        """Whether the entry covers an address."""
        return self.cidr.contains(family, address) and not any(part.contains(family, address) for part in self.excepted)


@dataclass(frozen=True, slots=True)
class Peers:
    """Who is at the other end: one kind is filled, or none, and then nobody."""

    selectors: tuple[Selector, ...] = ()
    cidrs: tuple[CidrRule, ...] = ()
    entities: frozenset[str] = frozenset()

    @property
    def everybody(self) -> bool:
        """Whether it is the entity that covers every address."""
        return "all" in self.entities


@dataclass(frozen=True, slots=True)
class Ports:
    """A range of ports, or a named port of the destination, for some protocols."""

    low: int
    high: int
    protocols: frozenset[int]
    name: str = ""

    @property
    def every(self) -> bool:
        """Whether it is port 0: all of them."""
        return not self.name and self.low == 0


@dataclass(frozen=True, slots=True)
class PortRule:
    """An entry of toPorts: ports, and what requests over them must look like."""

    ports: tuple[Ports, ...]
    http: tuple[HttpRule, ...] = ()
    kafka: tuple[KafkaRule, ...] = ()


@dataclass(frozen=True, slots=True)
class IcmpType:
    """A type of ICMP (family 4) or ICMPv6 (family 6)."""

    family: int
    type: int


@dataclass(frozen=True, slots=True)
class DirectionRule:
    """An entry of ingress, egress, ingressDeny or egressDeny."""

    place: str  # file:line
    peers: Peers | None  # None: any peer, the world included
    ports: tuple[PortRule, ...] | None = None  # None: no condition on ports
    icmps: tuple[IcmpType, ...] | None = None  # None: none on ICMP types
    deny: bool = False
    nothing: bool = False  # `- {}`: allows nobody, only switches default deny on

    @property
    def l3_only(self) -> bool:
        """Whether it admits every protocol of its peers."""
        return self.ports is None and self.icmps is None


@dataclass(frozen=True, slots=True)
class Rule:
    """A spec: which endpoints, and what they may."""

    place: str
    subject: Selector  # the policy's namespace included
    own: Selector  # as written, without the namespace, to say why nothing is selected
    ingress: tuple[DirectionRule, ...]  # allows and denies
    egress: tuple[DirectionRule, ...]
    default_deny_ingress: bool
    default_deny_egress: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy document."""

    ref: PolicyRef
    place: str
    rules: tuple[Rule, ...]

    @property
    def shown(self) -> str:
        """Its name as a message tells it."""
        return f"{self.ref.namespace}/{self.ref.name}" if self.ref.namespace else self.ref.name


@dataclass(frozen=True, slots=True)
class Documents:
    """The policies of all files in order, and what should be told about them."""

    policies: tuple[Policy, ...] = ()
    warnings: tuple[str, ...] = ()
