"""The fields of the filter language: one table, from which parser, filters, completion and help texts come.

A field says what it is called (by us and by the stock CLI's flag), how `=` becomes Hubble's FlowFilter, and by which
reading (readings.py) everything else is judged on a flow and over columns. It knows no grammar.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from observer.api import flow_pb2
from observer.errors import FilterError
from observer.filters import l7_readings, patterns, readings, values
from observer.filters.endpoint import SIDES
from observer.filters.labels import parse_selector
from observer.filters.readings import Reading
from observer.l7.grpc import STATUS_NAMES
from observer.monitor import EVENT_TYPES, OBSERVATION_POINTS
from observer.record import EventType

FROM_AND_TO: Final = {"from-": SIDES[0], "to-": SIDES[1]}
"""What stands before the name of a field to mean one end."""
VERDICTS: Final = tuple(flow_pb2.Verdict.keys())[1:]
RCODES: Final = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
PROTOCOLS: Final = ("http", "dns", "kafka", "grpc", "tcp", "udp", "icmp", "sctp")
"""Words that stand for themselves: `dns` is `protocol=dns`."""


class Kind(enum.Enum):
    """What the values of a field are, and with that its operators."""

    NAME = "name"  # globs and expressions are ours
    PATTERN = "expression"  # `=` is a regular expression already, as the flag's value is
    CHOICE = "choice"
    NUMBER = "number"


OPERATORS: Final = {
    Kind.NAME: ("=", "!=", "~", "!~", "in"),
    Kind.PATTERN: ("=", "!=", "~", "!~", "in"),
    Kind.CHOICE: ("=", "!=", "in"),
    Kind.NUMBER: ("=", "!=", "<", "<=", ">", ">=", "in"),
}
OPERATOR_HELP: Final = {
    "=": "as the flag of that name means it",
    "!=": "not =",
    "~": "a regular expression (RE2) finds something",
    "!~": "not ~",
    "in": "any of a list: in (a, b)",
    "<": "less",
    "<=": "at most",
    ">": "more",
    ">=": "at least",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field."""

    name: str
    help: str
    kind: Kind
    flag: str = ""
    """The stock CLI's name, where it has another."""
    hubble: str = ""
    """The field of FlowFilter that `=` adds to, without its side; empty: judged by us."""
    parse: Callable[[str], Any] = str
    """What it adds for one value."""
    beginning: bool = False
    """Whether `=` takes the beginning of what the reading tells, as what a glob begins with is."""
    sided: bool = False
    reading: Reading[Any] | None = None
    """For `~`, globs and comparisons, and for `=` where Hubble has none."""
    globs: bool = False
    """Whether `*` and `?` in a bare value are ours; where Hubble has globs of its own, they are its."""
    number: Callable[[str], int] | None = None
    """Reads a value for a comparison."""
    own: tuple[str, ...] = ()
    """Values that Hubble does not know and the reading does."""
    within: str = ""
    """The protocol of all flows that have a value here (or one of `own`): a server can be asked for that at least."""
    choices: tuple[str, ...] = ()
    """Values worth offering."""
    literal: Callable[[str], str | None] = str
    """What `=` needs to mean exactly this value; None where it has no way to."""
    told: Callable[[flow_pb2.Flow, str], Iterable[str]] | None = None
    """What a flow has there, most telling first; by the reading if there is none of its own."""

    @property
    def operators(self) -> tuple[str, ...]:
        """The operators it takes."""
        return OPERATORS[self.kind]

    @property
    def names(self) -> tuple[str, ...]:
        """Everything it may be called."""
        plain = (self.name, self.flag) if self.flag else (self.name,)
        return (*plain, *(before + name for before in FROM_AND_TO for name in plain)) if self.sided else plain


def _choice(enum_type: Any, what: str, *, example: str = "") -> Callable[[str], int]:
    """Reads the name of an enum in any case."""
    numbers: dict[str, int] = dict(enum_type.items())

    def parse(text: str) -> int:
        number = numbers.get(text.upper())
        if number is None:
            raise FilterError(f"unknown {what} `{text}`; {example or 'one of ' + ', '.join(list(numbers)[1:])}")
        return number

    return parse


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise FilterError(f"expected true or false, not `{text}`")
    return text.lower() == "true"


def _namespace(text: str) -> str:
    if not text or "/" in text:
        raise FilterError(f"a namespace is one word without a slash, not `{text}`")
    return f"{text}/"


def _status(text: str) -> str:
    """5xx and 50x are Hubble's 5+ and 50+."""
    return text.lower().rstrip("x") + "+" if text[:1].isdigit() and text.lower().endswith("x") else text


def _plain(bits: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = values.unsigned(text, bits)
        if number is None:
            raise FilterError(f"expected a number below {1 << bits}, not `{text}`")
        return number

    return parse


def _named(names: Sequence[str]) -> Callable[[str], int]:
    """A number, or the name that has it by its place."""
    numbers = {name: number for number, name in enumerate(names)}

    def parse(text: str) -> int:
        number = numbers.get(text.upper(), values.unsigned(text, 16))
        if number is None:
            raise FilterError(f"expected a number or one of {', '.join(names)}, not `{text}`")
        return number

    return parse


def _trace_id(text: str) -> int:
    number = values.unsigned(text, 64)
    if not number:
        raise FilterError(f"expected a number greater than 0, not `{text}`")
    return number


def escaped(text: str) -> str:
    """A regular expression that finds this text and nothing else."""
    return "".join(
        [character if character.isalnum() or character in _PLAIN else _code(character) for character in text]
    )


_PLAIN: Final = frozenset("_-/:,;=&%@#~ ")
_MARKED: Final = frozenset(".*+?()[]{}|^$\\")


def _code(character: str) -> str:
    return f"\\{character}" if character in _MARKED else f"\\x{{{ord(character):x}}}"


def whole(text: str) -> str:
    """A regular expression that this text matches, and no other."""
    return f"^{escaped(text)}$"


_DOMAIN_NAME: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_NODE_NAME: Final = re.compile(r"[a-z0-9_-][a-z0-9._-]*[a-z0-9_-](?:/[a-z0-9_-][a-z0-9._-]*[a-z0-9_-])?")
_PLAIN_LABEL: Final = re.compile("[A-Za-z0-9_.:/=-]+")


def _matched(pattern: re.Pattern[str]) -> Callable[[str], str | None]:
    """For values that stand for themselves if they are spelled so."""
    return lambda text: text if pattern.fullmatch(text) else None


def _label_literal(text: str) -> str | None:
    try:
        return text if _PLAIN_LABEL.fullmatch(text) and parse_selector(text)([text]) else None
    except FilterError:
        return None


def _address_literal(text: str) -> str | None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return None
    return text


def _header_literal(text: str) -> str | None:
    return None if text.startswith(":") else text  # a pseudo header's name has a colon of its own


# What a flow has


def _enum_name(enum_type: Any, number: int) -> Iterator[str]:
    value = enum_type.DESCRIPTOR.values_by_number.get(number)
    if value is not None and number:
        yield value.name


def _protocols(flow: flow_pb2.Flow, _: str) -> Iterator[str]:
    yield from l7_readings.IS_GRPC.values(flow, "")
    for name in (flow.l7.WhichOneof("record"), flow.l4.WhichOneof("protocol")):
        if name in _TOLD_PROTOCOLS:
            yield name.lower()


_TOLD_PROTOCOLS: Final = ("http", "dns", "kafka", "TCP", "UDP", "SCTP", "ICMPv4", "ICMPv6", "IGMP", "VRRP")


def _drop_reason(flow: flow_pb2.Flow, _: str) -> Iterable[str]:
    return _enum_name(flow_pb2.DropReason, flow.drop_reason_desc) if flow.verdict == flow_pb2.DROPPED else ()


def _http_path(flow: flow_pb2.Flow, _: str) -> Iterator[str]:
    path = patterns.request_path(flow.l7.http.url)
    if path is not None and flow.l7.HasField("http"):
        yield path


def _http_status(flow: flow_pb2.Flow, _: str) -> Iterable[str]:
    return (str(flow.l7.http.code),) if 100 <= flow.l7.http.code < 600 else ()  # all that Hubble's filter knows


def _by_place(names: Sequence[str], reading: Reading[Any]) -> Callable[[flow_pb2.Flow, str], Iterator[str]]:
    def told(flow: flow_pb2.Flow, side: str) -> Iterator[str]:
        for number in reading.values(flow, side):
            if 0 <= number < 1 << 16 and number == int(number):
                yield names[int(number)] if number < len(names) else str(int(number))

    return told


def _latency(flow: flow_pb2.Flow, _: str) -> Iterable[str]:
    return (f"{flow.l7.latency_ns}ns",) if 0 < flow.l7.latency_ns <= values.LONGEST_NS else ()


def _bytes(flow: flow_pb2.Flow, _: str) -> Iterable[str]:
    return [
        str(int(number)) for number in readings.BYTES.values(flow, "") if 0 <= number == number // 1 < values.LARGEST
    ]


def _tcp_flags(flow: flow_pb2.Flow, _: str) -> Iterator[str]:
    if names := [descriptor.name.lower() for descriptor, on in flow.l4.TCP.flags.ListFields() if on]:
        yield ",".join(names)


def _event(flow: flow_pb2.Flow, _: str) -> Iterator[str]:
    event = flow.event_type
    name = EVENT_TYPES.get(event.type, str(event.type))
    if event.type == EventType.TRACE:
        yield f"{name}:{OBSERVATION_POINTS.get(event.sub_type, event.sub_type)}"
    elif event.type > 0:
        yield name


def _text(read: Callable[[flow_pb2.Flow], str]) -> Callable[[flow_pb2.Flow, str], Iterable[str]]:
    """One text, if it is there."""
    return lambda flow, _: (text,) if (text := read(flow)) else ()


_NAME, _PATTERN, _CHOICE, _NUMBER = Kind.NAME, Kind.PATTERN, Kind.CHOICE, Kind.NUMBER

TABLE: Final = (
    Field("pod", "a pod: [NAMESPACE/]PREFIX, namespace `default` if none is given; a glob is of any", _NAME,
          hubble="pod", sided=True, reading=readings.POD, globs=True, beginning=True),
    Field("namespace", "a namespace", _NAME, hubble="pod", parse=_namespace, sided=True, reading=readings.NAMESPACE,
          globs=True),
    Field("ip", "an address or CIDR: 10.0.0.0/8", _NAME, hubble="ip", sided=True, reading=readings.IP, globs=True,
          literal=_address_literal),
    Field("port", "a port", _NUMBER, hubble="port", sided=True, reading=readings.PORT, number=_plain(16)),
    Field("protocol", "a protocol; the usual ones need no `protocol=`", _CHOICE, hubble="protocol",
          reading=l7_readings.IS_GRPC, own=("grpc",), within="http", told=_protocols,
          choices=(*PROTOCOLS, "icmpv4", "icmpv6", "igmp", "vrrp")),
    Field("verdict", "what became of it", _CHOICE, hubble="verdict", parse=_choice(flow_pb2.Verdict, "verdict"),
          choices=VERDICTS, told=lambda flow, _: _enum_name(flow_pb2.Verdict, flow.verdict)),
    Field("drop-reason", "why it was dropped: POLICY_DENIED", _CHOICE, flag="drop-reason-desc",
          hubble="drop_reason_desc",
          parse=_choice(flow_pb2.DropReason, "drop reason", example="for example POLICY_DENIED"), told=_drop_reason),
    Field("policy", "a policy that decided: NAMESPACE/NAME, or its name alone", _NAME, reading=readings.POLICY,
          globs=True),
    Field("identity", "a security identity: a number, world, host", _NUMBER, hubble="identity", parse=values.identity,
          sided=True, reading=readings.IDENTITY, number=values.identity, choices=tuple(values.IDENTITIES)),
    Field("label", "labels, as a selector: k8s:app=cart", _NAME, hubble="label", sided=True, reading=readings.LABEL,
          globs=True, literal=_label_literal, told=lambda flow, side: getattr(flow, side).labels),
    Field("workload", "a workload: NAME, KIND/NAME or KIND/", _NAME, hubble="workload", parse=values.workload,
          sided=True, reading=readings.WORKLOAD, globs=True),
    Field("service", "a service: [NAMESPACE/]PREFIX", _NAME, hubble="service", sided=True, reading=readings.SERVICE,
          globs=True, beginning=True),
    Field("fqdn", "a domain name: *.example.com", _NAME, hubble="fqdn", sided=True, reading=readings.FQDN,
          literal=_matched(_DOMAIN_NAME)),
    Field("cluster", "a cluster", _NAME, hubble="cluster_name", sided=True, reading=readings.CLUSTER, globs=True),
    Field("node", "where it was seen: NODE, CLUSTER/NODE, `*` allowed", _NAME, flag="node-name", hubble="node_name",
          reading=readings.NODE, literal=_matched(_NODE_NAME)),
    Field("node-label", "labels of that node, as a selector", _CHOICE, hubble="node_labels"),
    Field("direction", "ingress or egress, seen from the workload", _CHOICE, flag="traffic-direction",
          hubble="traffic_direction", parse=values.direction, choices=("ingress", "egress"),
          told=lambda flow, _: map(str.lower, _enum_name(flow_pb2.TrafficDirection, flow.traffic_direction))),
    Field("reply", "true: a reply; false: what is not one", _CHOICE, hubble="reply", parse=_boolean,
          choices=("true", "false"),
          told=lambda flow, _: (str(flow.is_reply.value).lower(),) if flow.HasField("is_reply") else ()),
    Field("type", "an event: trace, trace:to-endpoint, drop, l7", _CHOICE, hubble="event_type",
          parse=values.event_type, choices=tuple(values.TYPES), told=_event),
    Field("http.method", "an HTTP method, in any case", _NAME, flag="http-method", within="http", hubble="http_method",
          reading=l7_readings.HTTP_METHOD, globs=True, choices=("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD")),
    Field("http.path", "a path, as a regular expression", _PATTERN, flag="http-path", hubble="http_path",
          literal=whole, told=_http_path),
    Field("http.url", "a URL, as a regular expression", _PATTERN, flag="http-url", hubble="http_url", literal=whole,
          told=_text(lambda flow: flow.l7.http.url)),
    Field("http.status", "a status: 404, 5xx", _NUMBER, flag="http-status", hubble="http_status_code", parse=_status,
          within="http", reading=l7_readings.HTTP_STATUS, number=_plain(16), choices=("2xx", "3xx", "4xx", "5xx"),
          told=_http_status),
    Field("http.header", "a header: NAME:VALUE", _NAME, flag="http-header", hubble="http_header", parse=values.header,
          within="http", reading=l7_readings.HTTP_HEADER, globs=True, literal=_header_literal),
    Field("dns.query", "a name that was asked for, as a regular expression", _PATTERN, flag="dns-query",
          hubble="dns_query", literal=whole, told=_text(lambda flow: flow.l7.dns.query)),
    Field("dns.rcode", "what a DNS server answered: NXDOMAIN, 3", _NUMBER, reading=l7_readings.DNS_RCODE, within="dns",
          number=_named(RCODES), choices=RCODES, told=_by_place(RCODES, l7_readings.DNS_RCODE)),
    Field("kafka.topic", "a Kafka topic", _NAME, within="kafka", reading=l7_readings.KAFKA_TOPIC, globs=True),
    Field("kafka.api", "a Kafka request: produce, fetch", _NAME, reading=l7_readings.KAFKA_API, within="kafka",
          globs=True),
    Field("grpc.method", "a gRPC call: package.Service/Method, or its method alone", _NAME,
          reading=l7_readings.GRPC_METHOD, globs=True, within="http", parse=lambda text: text.removeprefix("/"),
          literal=lambda text: None if text.startswith("/") else text),
    Field("grpc.status", "how a gRPC call ended: UNAVAILABLE, 14", _NUMBER, reading=l7_readings.GRPC_STATUS,
          within="http", number=_named(STATUS_NAMES), choices=STATUS_NAMES,
          told=_by_place(STATUS_NAMES, l7_readings.GRPC_STATUS)),
    Field("latency", "from request to response: 20ms, 1.5s", _NUMBER, reading=readings.LATENCY,
          number=values.duration_ns, told=_latency, choices=("1ms", "10ms", "100ms", "1s")),
    Field("bytes", "of the connection so far, in this direction: 1k, 2.5M", _NUMBER, reading=readings.BYTES,
          number=values.size, told=_bytes, choices=("1k", "1M", "1G")),
    Field("tcp-flags", "all of these TCP flags: syn,ack", _CHOICE, hubble="tcp_flags", parse=values.tcp_flags,
          choices=("syn", "syn,ack", "fin", "rst", "psh", "ack", "urg"), told=_tcp_flags),
    Field("ip-version", "v4, v6 or none", _CHOICE, hubble="ip_version", parse=values.ip_version,
          choices=("v4", "v6", "none")),
    Field("snat-ip", "the address or CIDR it was translated to", _CHOICE, hubble="source_ip_xlated"),
    Field("interface", "a network interface", _CHOICE, hubble="interface",
          parse=lambda name: flow_pb2.NetworkInterface(name=name)),
    Field("encrypted", "true: encrypted; false: not", _CHOICE, hubble="encrypted", parse=_boolean,
          choices=("true", "false")),
    Field("uuid", "the flow of this identifier", _CHOICE, hubble="uuid", told=_text(lambda flow: flow.uuid)),
    Field("trace-id", "a W3C trace id", _CHOICE, hubble="trace_id",
          told=_text(lambda flow: flow.trace_context.parent.trace_id)),
    Field("ip-trace-id", "an IP trace id", _CHOICE, hubble="ip_trace_id", parse=_trace_id),
)  # fmt: skip

FIELDS: Final[dict[str, tuple[Field, str]]] = {
    name: (field, FROM_AND_TO.get(name[: name.find("-") + 1], "") if field.sided else "")
    for field in TABLE
    for name in field.names
}
"""Every name of a field, and the side that it means."""


def values_of(flow: flow_pb2.Flow, name: str) -> list[str]:
    """What a flow has in a field of that name, for `term`: most telling first, empty if it has nothing there."""
    field, side = FIELDS[name]
    sides = ((side,) if side else SIDES) if field.sided else ("",)
    told: Callable[[flow_pb2.Flow, str], Iterable[Any]] | None = field.told
    if told is None and field.reading is not None:
        told = field.reading.values
    return [] if told is None else [str(value) for each in sides for value in told(flow, each)]
