"""HTTP and Kafka rules for the same peer and port: no proxy can serve both, so Cilium refuses them, and so do we.

Parsed policies enter; PolicyError leaves where two of them clash, within a document or across.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from observer.errors import PolicyError
from observer.policy.matching import Matcher
from observer.policy.model import DirectionRule, Peers, Policy, Ports, Rule
from observer.policy.selector import Selector
from observer.record import Direction


@dataclass(frozen=True, slots=True)
class _Use:
    """Ports with L7 rules of one kind."""

    policy: Policy
    rule: Rule
    direction: Direction
    entry: DirectionRule
    ports: tuple[Ports, ...]


def check_conflicts(policies: Sequence[Policy], matcher: Matcher) -> None:
    """Raise PolicyError for the first pair of HTTP and Kafka rules that meet."""
    http = list(_uses(policies, "http"))
    members = _Members(matcher)
    for kafka in _uses(policies, "kafka"):
        for other in http:
            if other.direction == kafka.direction and _meet(other, kafka, members):
                raise PolicyError(
                    f"{kafka.entry.place}: policy {kafka.policy.shown}: kafka rules for a peer and port that have http "
                    f"rules in policy {other.policy.shown} ({other.entry.place}); keep one of the two"
                )


def _uses(policies: Sequence[Policy], kind: str) -> Iterator[_Use]:
    for policy in policies:
        for rule in policy.rules:
            for direction, entries in ((Direction.INGRESS, rule.ingress), (Direction.EGRESS, rule.egress)):
                for entry in entries:
                    for port_rule in entry.ports or ():
                        if getattr(port_rule, kind):
                            yield _Use(policy, rule, direction, entry, port_rule.ports)


class _Members:
    """Who of the table is meant by subjects and peers, each worked out once: pairs of rules are many."""

    def __init__(self, matcher: Matcher) -> None:
        self.matcher = matcher
        self._subjects: dict[Selector, frozenset[int]] = {}
        self._peers: dict[Peers, frozenset[tuple[int, int]]] = {}

    def of_subject(self, subject: Selector) -> frozenset[int]:
        """The endpoints that a policy selects."""
        if subject not in self._subjects:
            numbers = self.matcher.numbers()
            self._subjects[subject] = frozenset(n for n in numbers if self.matcher.selects(subject, n))
        return self._subjects[subject]

    def of_peers(self, peers: Peers) -> frozenset[tuple[int, int]]:
        """The endpoints that are peers, with the family in which they are."""
        if peers not in self._peers:
            self._peers[peers] = frozenset(
                (number, family)
                for number in self.matcher.numbers()
                for family in (4, 6)
                if self.matcher.is_peer(peers, number, family, bytes(16))
            )
        return self._peers[peers]


def _meet(one: _Use, other: _Use, members: _Members) -> bool:
    return (
        any(_same_port(a, b, members.matcher) for a in one.ports for b in other.ports)
        and _same_subject(one.rule, other.rule, members)
        and _same_peer(one.entry.peers, other.entry.peers, members)
    )


def _same_port(one: Ports, other: Ports, matcher: Matcher) -> bool:
    if one.name and other.name:
        return one.name == other.name
    if one.name or other.name:
        named, numbered = (one, other) if one.name else (other, one)
        return any(
            name == named.name and numbered.low <= port <= numbered.high
            for _, endpoint, _ in matcher.pods()
            for name, port in endpoint.named_ports
        )
    return one.low <= other.high and other.low <= one.high


def _same_subject(one: Rule, other: Rule, members: _Members) -> bool:
    if one.subject == other.subject:
        return True
    return not members.of_subject(one.subject).isdisjoint(members.of_subject(other.subject))


def _same_peer(one: Peers | None, other: Peers | None, members: _Members) -> bool:
    if one is None or other is None:
        return _somebody(one) and _somebody(other)
    if one.entities & other.entities - {"none"} or set(one.selectors) & set(other.selectors):
        return True
    if any(a.cidr.overlaps(b.cidr) for a in one.cidrs for b in other.cidrs):
        return True
    matcher = members.matcher
    for a, b in ((one, other), (other, one)):  # a CIDR against an entity or a selector of the world
        for cidr in a.cidrs:
            address = cidr.cidr.network.to_bytes(16)
            if any(matcher.outside(n) and matcher.is_peer(b, n, cidr.cidr.family, address) for n in matcher.numbers()):
                return True
    return not members.of_peers(one).isdisjoint(members.of_peers(other))


def _somebody(peers: Peers | None) -> bool:
    return peers is None or bool(peers.selectors or peers.cidrs or peers.entities - {"none"})
