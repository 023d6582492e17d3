"""The verdict of policy: may this source open this connection, and send this request over it.

Endpoint numbers, ports and request fields enter; a Decision leaves. It knows no files, sockets or clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from observer.identity.endpoints import EndpointTable
from observer.policy.model import PolicyTable
from observer.record import Direction, PolicyMatch

if TYPE_CHECKING:
    from observer.policy.load import Documents


@dataclass(frozen=True, slots=True)
class Decision:
    """What policy says of a connection or a request."""

    allowed: bool
    direction: Direction  # the refusing side, or UNKNOWN
    egress_rule: int  # number in the policy table of the policy that decided that half; 0: none
    ingress_rule: int
    match: PolicyMatch  # of the half that refused; else of ingress where the destination is managed, else of egress
    l7: Any = None  # opaque; not None: each request needs Engine.http or Engine.kafka


class Engine:
    """Policies against an endpoint table; one thread."""

    def __init__(
        self,
        documents: Documents,
        endpoints: EndpointTable,
        policies: PolicyTable,
        namespaces: Mapping[str, Mapping[str, str]],
    ) -> None:
        """Number the policies and check them against each other; PolicyError where two of them clash."""
        self.warnings: list[str] = []
        raise NotImplementedError

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
        raise NotImplementedError

    def http(
        self,
        decision: Decision,
        method: str | bytes,
        path: str | bytes,
        host: str | bytes,
        headers: Callable[[], list[tuple[str, str]]],
    ) -> Decision:
        """Judge one request over a connection of that decision; `path` is the request target with its query.

        Bytes are matched as seen; `headers` is called only where a rule asks for headers.
        """
        raise NotImplementedError

    def kafka(
        self,
        decision: Decision,
        api_key: int | str,
        api_version: int | None,
        client_id: str | None,
        topics: tuple[str, ...] | None,
    ) -> Decision:
        """Judge one Kafka request; `topics` None means that it names none (all topics, or not known)."""
        raise NotImplementedError
