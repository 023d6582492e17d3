"""The verdict of policy: may this source open this connection, and send this request over it.

Endpoint numbers, ports and request fields enter; a Decision leaves. Egress of the source is judged before ingress of
the destination; answers are nobody's business here. It knows no files, sockets or clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from observer.identity.endpoints import EndpointTable
from observer.policy.conflicts import check_conflicts
from observer.policy.kafka_rules import API_KEYS, deciding
from observer.policy.matching import Matcher
from observer.policy.model import DirectionRule, Documents, PolicyTable, PortRule
from observer.policy.unselected import unselected_warnings
from observer.record import Direction, PolicyMatch, Protocol

MEMO_LIMIT: Final = 65_536
"""Decisions remembered; a port scan over more only costs the slow path again."""

_SPECIFIC: Final = (
    PolicyMatch.ALL,
    PolicyMatch.L3_ONLY,
    PolicyMatch.PROTO_ONLY,
    PolicyMatch.L3_PROTO,
    PolicyMatch.L4_ONLY,
    PolicyMatch.L3_L4,
)
"""From the least to the most specific, as Cilium's policy map prefers its entries: port, then protocol, then peer."""

_ICMP: Final[Mapping[int, int]] = {Protocol.ICMP: 4, Protocol.ICMPV6: 6}
_KEYS_BY_NAME: Final = {**API_KEYS, "listoffsets": 2}


@dataclass(frozen=True, slots=True)
class L7Rules:
    """The L7 rules that a connection matched in one direction, with the number of their policy."""

    number: int
    match: PolicyMatch
    rules: PortRule


@dataclass(frozen=True, slots=True)
class Decision:
    """What policy says of a connection or a request."""

    allowed: bool
    direction: Direction  # the refusing side, or UNKNOWN
    egress_rule: int  # number in the policy table of the policy that decided that half; 0: none
    ingress_rule: int
    match: PolicyMatch  # of the half that refused; else of ingress where the destination is managed, else of egress
    l7: tuple[tuple[L7Rules, ...], tuple[L7Rules, ...]] | None = None  # (egress, ingress): requests need judging


@dataclass(frozen=True, slots=True)
class Half:
    """The verdict of one endpoint's policies in one direction."""

    allowed: bool
    rule: int
    match: PolicyMatch
    l7: tuple[L7Rules, ...] = ()


_UNJUDGED: Final = Half(True, 0, PolicyMatch.NONE)  # no workload of ours: no policy can select it
_OPEN: Final = Half(True, 0, PolicyMatch.ALL)  # no default deny and no rule for it
_FROM_HOST: Final = Half(True, 0, PolicyMatch.L3_ONLY)
_DEFAULT_DENY: Final = Half(False, 0, PolicyMatch.NONE)


@dataclass(frozen=True, slots=True)
class Side:
    """What selects one endpoint in one direction."""

    rules: tuple[tuple[int, DirectionRule], ...]
    default_deny: bool


class Engine:
    """Policies against an endpoint table; for one thread."""

    def __init__(
        self,
        documents: Documents,
        endpoints: EndpointTable,
        policies: PolicyTable,
        namespaces: Mapping[str, Mapping[str, str]],
    ) -> None:
        """Number the policies and check them against each other; PolicyError where two of them clash.

        Endpoints may join the table later; what is said about them at load (warnings, clashes) is about those there.
        """
        self.matcher = Matcher(endpoints)
        self.policies = tuple((policies.intern(policy.ref), policy) for policy in documents.policies)
        check_conflicts(documents.policies, self.matcher)
        self.warnings = list(unselected_warnings(documents.policies, self.matcher, namespaces))
        self._by_address = any(
            entry.peers is not None and entry.peers.cidrs
            for policy in documents.policies
            for rule in policy.rules
            for entry in (*rule.ingress, *rule.egress)
        )
        self._sides: dict[tuple[int, Direction], Side | None] = {}
        self._peers: dict[tuple[int, Direction, int, int, bytes], tuple[tuple[int, DirectionRule], ...]] = {}
        self._decisions: dict[tuple[int, int, int, int, int | None, int, bytes], Decision] = {}

    def connection(
        self,
        source: int,
        destination: int,
        source_ip: bytes,
        destination_ip: bytes,
        protocol: int,
        port: int,
        icmp_type: int | None,
        family: int,
    ) -> Decision:
        """Judge the first packet from endpoint `source` to `destination`; answers need no judging. Memoised."""
        addresses = b""
        if self._by_address:  # only CIDR rules tell the addresses of one endpoint apart, and only outside ones
            if self.matcher.outside(source):
                addresses = source_ip
            if self.matcher.outside(destination):
                addresses += destination_ip
        key = (source, destination, protocol, port, icmp_type, family, addresses)
        decision = self._decisions.get(key)
        if decision is None:
            decision = self._judge(source, destination, source_ip, destination_ip, protocol, port, icmp_type, family)
            if len(self._decisions) >= MEMO_LIMIT:
                self._decisions.clear()
            self._decisions[key] = decision
        return decision

    def http(
        self,
        decision: Decision,
        method: str | bytes,
        path: str | bytes,
        host: str | bytes,
        headers: Callable[[], Sequence[tuple[str, str]]],
    ) -> Decision:
        """Judge one request over a connection of that decision; `path` is the request target with its query.

        Bytes are matched as seen; `headers` is called only where a rule asks for headers.
        """
        if decision.l7 is None:
            return decision
        raw_method, raw_path, raw_host = _raw(method), _raw(path), _raw(host)

        def matching(rules: tuple[L7Rules, ...]) -> L7Rules | None:
            for entry in rules:
                for rule in entry.rules.http:
                    if rule.matches(raw_method, raw_path, raw_host, headers):
                        return entry
            return None

        return _requested(decision, matching)

    def kafka(
        self,
        decision: Decision,
        api_key: int | str,
        api_version: int | None,
        client_id: str | None,
        topics: tuple[str, ...] | None,
    ) -> Decision:
        """Judge one Kafka request; `topics` None means that it names none (all topics, or not known)."""
        if decision.l7 is None:
            return decision
        key = api_key if isinstance(api_key, int) else _KEYS_BY_NAME.get(api_key.lower(), -1)

        def matching(rules: tuple[L7Rules, ...]) -> L7Rules | None:
            owned = ((entry, rule) for entry in rules for rule in entry.rules.kafka)
            return deciding(owned, key, api_version, client_id, topics or ())

        return _requested(decision, matching)

    def _judge(
        self,
        source: int,
        destination: int,
        source_ip: bytes,
        destination_ip: bytes,
        protocol: int,
        port: int,
        icmp_type: int | None,
        family: int,
    ) -> Decision:
        what = protocol, port, icmp_type, family
        egress = self.half(source, Direction.EGRESS, destination, destination_ip, *what)
        if not egress.allowed:
            return Decision(False, Direction.EGRESS, egress.rule, 0, egress.match)
        ingress = self.half(destination, Direction.INGRESS, source, source_ip, *what)
        if not ingress.allowed:
            return Decision(False, Direction.INGRESS, egress.rule, ingress.rule, ingress.match)
        match = ingress.match if self.matcher.managed(destination) else egress.match
        l7 = (egress.l7, ingress.l7) if egress.l7 or ingress.l7 else None
        return Decision(True, Direction.UNKNOWN, egress.rule, ingress.rule, match, l7)

    def half(
        self,
        subject: int,
        direction: Direction,
        peer: int,
        peer_ip: bytes,
        protocol: int,
        port: int,
        icmp_type: int | None,
        family: int,
    ) -> Half:
        """Judge by the policies of one end in one direction: EGRESS of the source, INGRESS of the destination."""
        side = self.side(subject, direction)
        if side is None:
            return _OPEN if self.matcher.managed(subject) else _UNJUDGED
        if direction == Direction.INGRESS and self.matcher.is_host(peer):
            return _FROM_HOST  # the kubelet's probes must pass, whatever the rules say
        rules = self.rules_for(side, subject, direction, peer, peer_ip, family)
        destination = subject if direction == Direction.INGRESS else peer
        return self._half(rules, side.default_deny, protocol, port, icmp_type, destination)

    def side(self, subject: int, direction: Direction) -> Side | None:
        """The rules that select an endpoint in one direction; None if there are none."""
        key = (subject, direction)
        if key not in self._sides:
            self._sides[key] = self._select(subject, direction)
        return self._sides[key]

    def _select(self, subject: int, direction: Direction) -> Side | None:
        rules: list[tuple[int, DirectionRule]] = []
        default_deny = False
        for number, policy in self.policies:
            for rule in policy.rules:
                if not self.matcher.selects(rule.subject, subject):
                    continue
                ingress = direction == Direction.INGRESS
                rules += [(number, entry) for entry in (rule.ingress if ingress else rule.egress)]
                default_deny |= rule.default_deny_ingress if ingress else rule.default_deny_egress
        return Side(tuple(rules), default_deny) if rules else None

    def rules_for(
        self, side: Side, subject: int, direction: Direction, peer: int, peer_ip: bytes, family: int
    ) -> tuple[tuple[int, DirectionRule], ...]:
        """The rules of a side that have the peer among their peers. Memoised."""
        address = peer_ip if self._by_address and self.matcher.outside(peer) else b""
        key = (subject, direction, peer, family, address)
        rules = self._peers.get(key)
        if rules is None:
            rules = tuple(
                (number, rule)
                for number, rule in side.rules
                if not rule.nothing and self.matcher.is_peer(rule.peers, peer, family, peer_ip)
            )
            if len(self._peers) >= MEMO_LIMIT:
                self._peers.clear()
            self._peers[key] = rules
        return rules

    def _half(
        self,
        rules: tuple[tuple[int, DirectionRule], ...],
        default_deny: bool,
        protocol: int,
        port: int,
        icmp_type: int | None,
        destination: int,
    ) -> Half:
        """Deny beats allow, an allow without L7 rules beats those with, the more specific match is told."""
        denied: Half | None = None
        allowed: Half | None = None
        l7: list[L7Rules] = []
        for number, rule in rules:
            for match, port_rule in self._l4(rule, protocol, port, icmp_type, destination):
                if rule.deny:
                    denied = _better(denied, Half(False, number, match))
                elif port_rule is not None and (port_rule.http or port_rule.kafka):
                    l7.append(L7Rules(number, match, port_rule))
                else:
                    allowed = _better(allowed, Half(True, number, match))
        if denied is not None:
            return denied
        if allowed is not None:
            return allowed
        if l7:
            return Half(True, l7[0].number, l7[0].match, tuple(l7))
        return _DEFAULT_DENY if default_deny else _OPEN

    def _l4(
        self, rule: DirectionRule, protocol: int, port: int, icmp_type: int | None, destination: int
    ) -> list[tuple[PolicyMatch, PortRule | None]]:
        """How a rule, whose peers hold, matches at L4; several entries of its ports may."""
        everybody = rule.peers is None or rule.peers.everybody
        if rule.l3_only:
            return [(PolicyMatch.ALL if everybody else PolicyMatch.L3_ONLY, None)]
        on_port = PolicyMatch.L4_ONLY if everybody else PolicyMatch.L3_L4
        if rule.icmps is not None:
            family = _ICMP.get(protocol)
            hit = any(entry.family == family and entry.type == icmp_type for entry in rule.icmps)
            return [(on_port, None)] if hit else []
        found: list[tuple[PolicyMatch, PortRule | None]] = []
        for port_rule in rule.ports or ():
            for ports in port_rule.ports:
                if protocol not in ports.protocols:
                    continue
                if ports.every:
                    found.append((PolicyMatch.PROTO_ONLY if everybody else PolicyMatch.L3_PROTO, port_rule))
                elif (
                    self.matcher.has_named_port(destination, ports.name, port)
                    if ports.name
                    else ports.low <= port <= ports.high
                ):
                    found.append((on_port, port_rule))
        return found


def _better(old: Half | None, new: Half) -> Half:
    return new if old is None or _SPECIFIC.index(new.match) > _SPECIFIC.index(old.match) else old


def _raw(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def _requested(decision: Decision, matching: Callable[[tuple[L7Rules, ...]], L7Rules | None]) -> Decision:
    """The decision on a request: both halves that have L7 rules must let it pass, egress first."""
    assert decision.l7 is not None
    egress, ingress = decision.l7
    egress_rule, ingress_rule, match = decision.egress_rule, decision.ingress_rule, decision.match
    if egress:
        entry = matching(egress)
        if entry is None:
            return Decision(False, Direction.EGRESS, egress[0].number, 0, egress[0].match)
        egress_rule = entry.number
    if ingress:
        entry = matching(ingress)
        if entry is None:
            return Decision(False, Direction.INGRESS, egress_rule, ingress[0].number, ingress[0].match)
        ingress_rule, match = entry.number, entry.match
    if (egress_rule, ingress_rule, match) == (decision.egress_rule, decision.ingress_rule, decision.match):
        return decision
    return Decision(True, Direction.UNKNOWN, egress_rule, ingress_rule, match, decision.l7)
