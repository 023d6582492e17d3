"""The filter flags of `observe`: a table of flags, and the flow filters that a command line of them means.

Flags enter in the order in which they were given, because `--not` speaks of the next one; FlowFilters for whitelist and
blacklist leave, by the stock CLI's rules. What a value means is the server's business, except where the CLI refuses it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import json_format

from observer.api import flow_pb2
from observer.errors import FilterError
from observer.filters import values

Parse = Callable[[str], Any]

VERDICTS: Final = tuple(flow_pb2.Verdict.keys())
DROP_REASONS: Final = frozenset(flow_pb2.DropReason.keys())


@dataclass(frozen=True, slots=True)
class FilterFlag:
    """One filter flag: which fields of a FlowFilter it adds to, and how it reads its value."""

    name: str
    help: str
    both: str = ""  # field added to in both halves
    parse: Parse = str
    source: str = ""  # field added to in the left half only
    destination: str = ""  # ... in the right half only
    short: str = ""
    constant: str | None = None  # the value where the flag takes none


def _verdict(text: str) -> int:
    if text not in VERDICTS:
        raise FilterError(f"invalid --verdict value: {text}; one of {', '.join(VERDICTS[1:])}")
    return flow_pb2.Verdict.Value(text)


def _drop_reason(text: str) -> int:
    if text not in DROP_REASONS:
        raise FilterError(f"invalid --drop-reason-desc value: {text or '(empty)'}; for example POLICY_DENIED")
    return flow_pb2.DropReason.Value(text)


def _ip_trace_id(text: str) -> int:
    number = values.unsigned(text, 64)
    if not number:
        raise FilterError(f"invalid --ip-trace-id value: {text}; must be a number greater than 0")
    return number


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise FilterError(f"invalid --reply value: {text}; true or false")
    return text.lower() == "true"


def _sided(name: str, field: str, what: str, parse: Parse = str, short: str = "") -> list[FilterFlag]:
    """The three flags of something that both endpoints have."""
    source, destination = f"source_{field}", f"destination_{field}"
    return [
        FilterFlag(f"from-{name}", f"Flows that come from {what}.", both=source, parse=parse),
        FilterFlag(name, f"Flows from or to {what}.", source=source, destination=destination, parse=parse, short=short),
        FilterFlag(f"to-{name}", f"Flows that go to {what}.", both=destination, parse=parse),
    ]


NAMESPACES: Final = ("from-namespace", "namespace", "to-namespace")
ALL_NAMESPACES: Final = ("from-all-namespaces", "all-namespaces", "to-all-namespaces")

FLAGS: Final[dict[str, FilterFlag]] = {
    flag.name: flag
    for flag in [
        FilterFlag("not", "Turn the next filter flag round: what matches it is left out.", constant="true"),
        FilterFlag("uuid", "The flow with this identifier.", both="uuid"),
        FilterFlag("node-name", "Flows seen on this node: NODE, CLUSTER/NODE, `*` allowed.", both="node_name"),
        FilterFlag("node-label", "Flows seen on nodes with this label (selector syntax).", both="node_labels"),
        *_sided("cluster", "cluster_name", "endpoints of this cluster"),
        FilterFlag("protocol", "Flows of this protocol: tcp, udp, icmp, sctp, http, dns, kafka ...", both="protocol"),
        FilterFlag(
            "tcp-flags", "Flows with all these TCP flags: syn, or syn,ack.", both="tcp_flags", parse=values.tcp_flags
        ),
        FilterFlag(
            "type",
            "Flows of this event type, TYPE or TYPE:SUBTYPE: trace, trace:to-endpoint, drop, l7, policy-verdict ...",
            both="event_type",
            parse=values.event_type,
            short="t",
        ),
        FilterFlag(
            "verdict", f"Flows with this verdict: {', '.join(VERDICTS[1:])}.", "verdict", parse=_verdict
        ),
        FilterFlag(
            "drop-reason-desc",
            "Flows dropped for this reason: POLICY_DENIED, UNSUPPORTED_L3_PROTOCOL ...",
            both="drop_reason_desc",
            parse=_drop_reason,
        ),
        FilterFlag("http-status", "HTTP responses with this status: 404, or 5+ for all of 5xx.", "http_status_code"),
        FilterFlag("http-method", "HTTP flows with this method, in any case.", both="http_method"),
        FilterFlag("http-path", "HTTP flows whose path matches this regular expression (RE2).", both="http_path"),
        FilterFlag("http-url", "HTTP flows whose URL matches this regular expression (RE2).", both="http_url"),
        FilterFlag("http-header", "HTTP flows with this header, NAME:VALUE.", both="http_header", parse=values.header),
        FilterFlag("dns-query", "DNS flows whose query matches this regular expression (RE2).", both="dns_query"),
        FilterFlag("trace-id", "Flows with this W3C trace id.", both="trace_id"),
        FilterFlag("ip-trace-id", "Flows with this IP trace id.", both="ip_trace_id", parse=_ip_trace_id),
        *_sided("fqdn", "fqdn", "this domain name (`*.example.com`)"),
        *_sided("ip", "ip", "this address or CIDR"),
        FilterFlag("snat-ip", "Flows translated to this address or CIDR.", both="source_ip_xlated"),
        FilterFlag("ipv4", "IPv4 flows.", both="ip_version", parse=values.ip_version, short="4", constant="v4"),
        FilterFlag("ipv6", "IPv6 flows.", both="ip_version", parse=values.ip_version, short="6", constant="v6"),
        FilterFlag("ip-version", "Flows of this IP version: v4, v6, none.", both="ip_version", parse=values.ip_version),
        *_sided("pod", "pod", "pods whose name begins so: [NAMESPACE/]PREFIX, namespace `default` if none is given"),
        FilterFlag("from-namespace", "Flows that come from this namespace."),
        FilterFlag("namespace", "Flows from or to this namespace.", short="n"),
        FilterFlag("to-namespace", "Flows that go to this namespace."),
        FilterFlag("from-all-namespaces", "Flows that come from any namespace.", constant="true"),
        FilterFlag("all-namespaces", "Flows from or to any namespace.", short="A", constant="true"),
        FilterFlag("to-all-namespaces", "Flows that go to any namespace.", constant="true"),
        *_sided("label", "label", "endpoints with these labels (selector syntax)", short="l"),
        *_sided("service", "service", "services whose name begins so: [NAMESPACE/]PREFIX"),
        *_sided("port", "port", "this port"),
        *_sided("workload", "workload", "this workload: NAME, KIND/NAME or KIND/", parse=values.workload),
        *_sided("identity", "identity", "this security identity: a number, or world, host", parse=values.identity),
        FilterFlag(
            "traffic-direction", "Flows in this direction: ingress, egress.", "traffic_direction", values.direction
        ),
        FilterFlag("reply", "Replies (true), or what is not one (false).", both="reply", parse=_boolean),
        FilterFlag("interface", "Flows seen on this network interface.", both="interface",
                   parse=lambda name: flow_pb2.NetworkInterface(name=name)),
        FilterFlag("encrypted", "Encrypted flows.", both="encrypted", parse=lambda _: True, constant="true"),
        FilterFlag("unencrypted", "Unencrypted flows.", both="encrypted", parse=lambda _: False, constant="true"),
    ]
}  # fmt: skip

CONFLICTS: Final = [
    group.split()
    for group in (
        "from-fqdn from-ip ip fqdn from-namespace namespace from-all-namespaces all-namespaces",
        "from-fqdn from-ip ip fqdn from-pod pod",
        "to-fqdn to-ip ip fqdn to-namespace namespace to-all-namespaces all-namespaces",
        "to-fqdn to-ip ip fqdn to-pod pod",
        "to-pod namespace all-namespaces",
        "from-pod namespace all-namespaces",
        "to-service namespace all-namespaces",
        "from-service namespace all-namespaces",
        "label from-label",
        "label to-label",
        "service from-service",
        "service to-service",
        "port to-port",
        "port from-port",
        "identity to-identity",
        "identity from-identity",
        "workload to-workload",
        "workload from-workload",
        "encrypted unencrypted",
    )
]
"""Flags of which only one may be given; a group's order decides which is named first."""


class Halves:
    """The two filters that the flags of one list make: flows match the left or the right one."""

    def __init__(self) -> None:
        self._left = flow_pb2.FlowFilter()
        self._right = flow_pb2.FlowFilter()
        self._namespaces: dict[str, list[str]] = {name: [] for name in NAMESPACES}
        self._given: set[str] = set()

    def add(self, flag: FilterFlag, value: str) -> None:
        """Add one flag; FilterError if it contradicts an earlier one or its value is refused."""
        self._given.add(flag.name)
        self._refuse_conflicts()
        if flag.name in NAMESPACES:
            self._namespaces[flag.name].append(value)
        elif flag.name in ALL_NAMESPACES:
            self._namespaces[flag.name.replace("all-namespaces", "namespace")].append("")
        else:
            parsed = flag.parse(value)
            for half, field in (
                (self._left, flag.both or flag.source),
                (self._right, flag.both or flag.destination),
            ):
                getattr(half, field).append(parsed)
        for half in (self._left, self._right):
            self._refuse_wrong_namespaces(half)

    def filters(self) -> list[flow_pb2.FlowFilter]:
        """The filters with the namespaces put in: none, one if both halves are equal, or two."""
        if not self._given:
            return []
        left, right = flow_pb2.FlowFilter(), flow_pb2.FlowFilter()
        left.CopyFrom(self._left)
        right.CopyFrom(self._right)
        for half in (left, right):
            _put_namespaces(half, "destination", self._namespaces["to-namespace"])
            _put_namespaces(half, "source", self._namespaces["from-namespace"])
        _put_namespaces(left, "source", self._namespaces["namespace"])
        _put_namespaces(right, "destination", self._namespaces["namespace"])
        return [left] if left == right else [left, right]

    def _refuse_conflicts(self) -> None:
        for group in CONFLICTS:
            given = [name for name in group if name in self._given]
            if len(given) > 1:
                raise FilterError(f"filters --{given[0]} and --{given[1]} cannot be combined")

    def _refuse_wrong_namespaces(self, half: flow_pb2.FlowFilter) -> None:
        source = [*half.source_pod, *half.source_service]
        destination = [*half.destination_pod, *half.destination_service]
        for flag, names in zip(NAMESPACES, (source, source + destination, destination), strict=True):
            for namespace in self._namespaces[flag]:
                for name in names:
                    if _namespace(name) not in ("", namespace):
                        raise FilterError(
                            f"namespace conflict: {json.dumps(namespace)} does not contain {json.dumps(name)}"
                        )
        for pods, services in (
            (half.source_pod, half.source_service),
            (half.destination_pod, half.destination_service),
        ):
            for pod in pods:
                for service in services:
                    namespace = _namespace(pod)
                    if namespace not in ("", _namespace(service)):
                        raise FilterError(
                            f"namespace of service {json.dumps(service)} conflict with pod {json.dumps(namespace)}"
                        )


def _namespace(name: str) -> str:
    """The namespace in "namespace/name"; empty if there is none."""
    return name.partition("/")[0] if "/" in name else ""


def _put_namespaces(half: flow_pb2.FlowFilter, side: str, namespaces: list[str]) -> None:
    """Put `namespaces` before the pod and service names of one side; with no name, any pod in them."""
    if not namespaces:
        return
    pods, services = getattr(half, f"{side}_pod"), getattr(half, f"{side}_service")
    if not pods and not services:
        pods.append("")
    for names in (pods, services):
        names[:] = [
            full
            for name in names
            for full in ([name] if "/" in name else [f"{namespace}/{name}" for namespace in namespaces])
        ]


class FlowFilters:
    """What the filter flags of one command line mean."""

    def __init__(self) -> None:
        self._allow = Halves()
        self._deny = Halves()
        self._negated = False

    @classmethod
    def from_flags(cls, flags: Iterable[tuple[str, str]]) -> FlowFilters:
        """Read (flag, value) pairs in the order in which they were given; FilterError if they make no sense."""
        filters = cls()
        for name, value in flags:
            filters.add(name, value)
        if filters._negated:
            raise FilterError("trailing --not found in the arguments")
        return filters

    def add(self, name: str, value: str) -> None:
        """Add one flag."""
        if name == "not":
            if self._negated:
                raise FilterError("consecutive --not statements")
            self._negated = True
            return
        (self._deny if self._negated else self._allow).add(FLAGS[name], value)
        self._negated = False

    def allow(self) -> list[flow_pb2.FlowFilter]:
        """The whitelist."""
        return self._allow.filters()

    def deny(self) -> list[flow_pb2.FlowFilter]:
        """The blacklist."""
        return self._deny.filters()


def raw_filters(flag: str, texts: Iterable[str]) -> list[flow_pb2.FlowFilter]:
    """Read FlowFilters from JSON: any number of objects in each text, proto or camelCase names."""
    filters = []
    decoder = json.JSONDecoder()
    for text in texts:
        rest = text.lstrip()
        while rest:
            try:
                value, end = decoder.raw_decode(rest)
                if not isinstance(value, dict):
                    raise ValueError("it is no JSON object")
                filters.append(json_format.ParseDict(value, flow_pb2.FlowFilter()))
            except (ValueError, RecursionError, json_format.ParseError) as error:
                reason = str(error).splitlines()[0]
                raise FilterError(f"invalid --{flag} flag: failed to decode '{text}': {reason}") from error
            rest = rest[end:].lstrip()
    return filters
