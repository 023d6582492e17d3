"""Identity and policy of a connection: who is at both ends, and what policy says of it and of its requests.

Connections and HTTP requests enter; endpoint numbers, verdicts and deciding rules leave, ready for a record. It knows
no packets and no records, and asks the ipcache and the policy engine for everything.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from observer.conntrack import Connection
from observer.extra import header_fields
from observer.identity.endpoints import IpCache
from observer.l7.message import Message
from observer.policy.engine import Decision, Engine
from observer.record import (
    POLICY_DENIED,
    Direction,
    EventType,
    HttpMethod,
    L7Kind,
    ObservationPoint,
    PolicyMatch,
    Verdict,
)

MEMO_LIMIT: Final = 65_536
"""Tags remembered by both endpoints and the decision; more of them only cost the slow path again."""

ABSOLUTE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://[^/?#]*")
METHODS: Final = {int(method): method.name.encode() for method in HttpMethod}


class PolicyMode(enum.StrEnum):
    """What becomes of what policy refuses."""

    AUDIT = "audit"  # it passes, with verdict AUDIT
    ENFORCE = "enforce"  # DROPPED


class Judgement(NamedTuple):
    """A verdict as records carry it."""

    verdict: int
    event_type: int  # of an L3_L4 flow
    drop_reason: int
    direction: int
    egress_rule: int
    ingress_rule: int
    match: int


class Ends(NamedTuple):
    """Both ends of a flow in one direction."""

    source_endpoint: int
    destination_endpoint: int
    source_identity: int
    destination_identity: int
    sub_type: int  # of an L3_L4 flow: drop reason, or where a packet that goes there is observed


@dataclass(frozen=True, slots=True)  # no NamedTuple: that looks its fields up in the class at every reading
class Tag:
    """What identity and policy say of a connection."""

    client: Ends  # of packets from the client
    server: Ends
    decision: Decision
    judgement: Judgement


UNJUDGED: Final = Decision(True, Direction.UNKNOWN, 0, 0, PolicyMatch.NONE)
"""What no policies say of everything."""


UNDECIDED: Final = Judgement(Verdict.VERDICT_UNKNOWN.value, EventType.TRACE.value, 0, 0, 0, 0, PolicyMatch.NONE.value)
"""What is said of a request of which too little was seen to judge it."""


class Tagger:
    """Tags connections by an ipcache and policies; `policy` None forwards everything."""

    def __init__(self, endpoints: IpCache, policy: Engine | None, mode: PolicyMode) -> None:
        self._endpoints = endpoints
        self._policy = policy
        self._refusal = Verdict.AUDIT if mode is PolicyMode.AUDIT else Verdict.DROPPED
        self._memo: dict[tuple[int, int, int], Tag] = {}

    def tag(self, connection: Connection) -> Tag:
        """Who opened this connection to whom, and may he."""
        endpoints, policy, key = self._endpoints, self._policy, connection.client.key
        source_ip, destination_ip, family = key[:16], key[16:32], key[39]
        source, destination = endpoints.lookup(family, source_ip), endpoints.lookup(family, destination_ip)
        if policy is None:
            decision = UNJUDGED
        elif connection.related is not None:
            # An ICMP error is let through, or not, with the connection that it is about.
            decision = self.tag(connection.related).decision
        else:
            decision = policy.connection(
                source,
                destination,
                source_ip,
                destination_ip,
                connection.protocol,
                connection.server_port,
                connection.icmp_type,
                family,
            )
        known = (source, destination, id(decision))  # a decision remembered here stays, so its id does
        tag = self._memo.get(known)
        if tag is None:
            if len(self._memo) >= MEMO_LIMIT:
                self._memo.clear()
            tag = self._memo[known] = self._tag(source, destination, decision)
        return tag

    def request(self, tag: Tag, message: Message) -> Judgement:
        """What policy says of an HTTP or Kafka request on a connection; the connection's own verdict for all else."""
        decision, policy = tag.decision, self._policy
        if message.judged is not None:
            return Judgement(*message.judged)
        if decision.l7 is None or not decision.allowed or policy is None:
            return tag.judgement
        if message.kind is L7Kind.HTTP or message.kind is L7Kind.GRPC:
            target, host = (*message.texts, b"", b"")[:2]
            decision = policy.http(decision, method_of(message), path_of(target), host, _fields(message))
            if not decision.allowed and message.incomplete and (message.method is None or not target or not host):
                return UNDECIDED._replace(direction=tag.judgement.direction)  # what was not seen may have been allowed
        elif message.kind is L7Kind.KAFKA and message.method is not None:
            client_id = message.texts[1].decode("utf-8", "surrogateescape") or None
            decision = policy.kafka(decision, message.method, message.version, client_id, message.topics)
        else:
            return tag.judgement
        return self._judgement(decision, tag.judgement.direction)

    def _tag(self, source: int, destination: int, decision: Decision) -> Tag:
        endpoints = self._endpoints
        one, other = endpoints.table[source], endpoints.table[destination]
        side = Direction.INGRESS if other.managed else Direction.EGRESS if one.managed else Direction.UNKNOWN
        judgement = self._judgement(decision, side)
        points = (
            (POLICY_DENIED,) * 2
            if judgement.drop_reason
            else (point(one.managed, other.managed), point(other.managed, one.managed))
        )
        return Tag(
            Ends(source, destination, one.identity, other.identity, points[0]),
            Ends(destination, source, other.identity, one.identity, points[1]),
            decision,
            judgement,
        )

    def _judgement(self, decision: Decision, direction: int) -> Judgement:
        rules = decision.egress_rule, decision.ingress_rule, int(decision.match)
        if decision.allowed:
            return Judgement(Verdict.FORWARDED.value, EventType.TRACE.value, 0, int(direction), *rules)
        return Judgement(self._refusal.value, EventType.DROP.value, POLICY_DENIED, int(decision.direction), *rules)


def point(source_managed: bool, destination_managed: bool) -> int:
    """Where a packet is observed: on its way into a workload, out of one, or from the wire."""
    if destination_managed:
        return ObservationPoint.TO_ENDPOINT.value
    return ObservationPoint.TO_STACK.value if source_managed else ObservationPoint.FROM_NETWORK.value


def path_of(target: bytes) -> bytes:
    """What Envoy would see as :path: of a target in absolute form, what follows the authority (RFC 9112, 3.2.2)."""
    absolute = ABSOLUTE.match(target)
    if absolute is None:
        return target
    path = target[absolute.end() :]
    return path if path[:1] == b"/" else b"/" + path


def method_of(message: Message) -> bytes:
    """The method of an HTTP request as it was sent."""
    if message.method is None or message.method == HttpMethod.OTHER:
        return message.texts[2] if len(message.texts) > 2 else b""
    return METHODS.get(message.method, b"")


def _fields(message: Message) -> Callable[[], list[tuple[str, str]]]:
    return lambda: header_fields(message.head)
