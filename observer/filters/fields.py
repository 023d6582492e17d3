"""The fields of the filter language: one table, from which parser, filters, completion and help texts come.

A field says what it is called (by us and by the stock CLI's flag), how `=` becomes Hubble's FlowFilter, and by which
reading (readings.py) everything else is judged on a flow and over columns. It knows no grammar.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from observer.api import flow_pb2
from observer.errors import FilterError
from observer.filters import readings, values
from observer.filters.endpoint import SIDES
from observer.filters.readings import Reading
from observer.l7.grpc import STATUS_NAMES

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
    sided: bool = False
    reading: Reading[Any] | None = None
    """For `~`, globs and comparisons, and for `=` where Hubble has none."""
    globs: bool = False
    """Whether `*` and `?` in a bare value are ours; where Hubble has globs of its own, they are its."""
    number: Callable[[str], int] | None = None
    """Reads a value for a comparison."""
    own: tuple[str, ...] = ()
    """Values that Hubble does not know and the reading does."""
    choices: tuple[str, ...] = ()
    """Values worth offering."""
    literal: Callable[[str], str] = str
    """The value that `=` needs to mean exactly this one."""

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


def _whole(text: str) -> str:
    return f"^{escaped(text)}$"


def _path(url: str) -> str:
    """A path as Hubble sees it is that of the URL."""
    return _whole(url)


_NAME, _PATTERN, _CHOICE, _NUMBER = Kind.NAME, Kind.PATTERN, Kind.CHOICE, Kind.NUMBER

TABLE: Final = (
    Field("pod", "a pod: [NAMESPACE/]PREFIX, namespace `default` if none is given; a glob is of any", _NAME,
          hubble="pod", sided=True, reading=readings.POD, globs=True),
    Field("namespace", "a namespace", _NAME, hubble="pod", parse=_namespace, sided=True, reading=readings.NAMESPACE,
          globs=True),
    Field("ip", "an address or CIDR: 10.0.0.0/8", _NAME, hubble="ip", sided=True, reading=readings.IP, globs=True),
    Field("port", "a port", _NUMBER, hubble="port", sided=True, reading=readings.PORT, number=_plain(16)),
    Field("protocol", "a protocol; the usual ones need no `protocol=`", _CHOICE, hubble="protocol",
          reading=readings.IS_GRPC, own=("grpc",), choices=(*PROTOCOLS, "icmpv4", "icmpv6", "igmp", "vrrp")),
    Field("verdict", "what became of it", _CHOICE, hubble="verdict", parse=_choice(flow_pb2.Verdict, "verdict"),
          choices=VERDICTS),
    Field("drop-reason", "why it was dropped: POLICY_DENIED", _CHOICE, flag="drop-reason-desc",
          hubble="drop_reason_desc",
          parse=_choice(flow_pb2.DropReason, "drop reason", example="for example POLICY_DENIED")),
    Field("identity", "a security identity: a number, world, host", _NUMBER, hubble="identity", parse=values.identity,
          sided=True, reading=readings.IDENTITY, number=values.identity, choices=tuple(values.IDENTITIES)),
    Field("label", "labels, as a selector: k8s:app=cart", _NAME, hubble="label", sided=True, reading=readings.LABEL,
          globs=True),
    Field("workload", "a workload: NAME, KIND/NAME or KIND/", _NAME, hubble="workload", parse=values.workload,
          sided=True, reading=readings.WORKLOAD, globs=True),
    Field("service", "a service: [NAMESPACE/]PREFIX", _NAME, hubble="service", sided=True, reading=readings.SERVICE,
          globs=True),
    Field("fqdn", "a domain name: *.example.com", _NAME, hubble="fqdn", sided=True, reading=readings.FQDN),
    Field("cluster", "a cluster", _NAME, hubble="cluster_name", sided=True, reading=readings.CLUSTER, globs=True),
    Field("node", "where it was seen: NODE, CLUSTER/NODE, `*` allowed", _NAME, flag="node-name", hubble="node_name",
          reading=readings.NODE),
    Field("node-label", "labels of that node, as a selector", _CHOICE, hubble="node_labels"),
    Field("direction", "ingress or egress, seen from the workload", _CHOICE, flag="traffic-direction",
          hubble="traffic_direction", parse=values.direction, choices=("ingress", "egress")),
    Field("reply", "true: a reply; false: what is not one", _CHOICE, hubble="reply", parse=_boolean,
          choices=("true", "false")),
    Field("type", "an event: trace, trace:to-endpoint, drop, l7", _CHOICE, hubble="event_type",
          parse=values.event_type, choices=tuple(values.TYPES)),
    Field("http.method", "an HTTP method, in any case", _NAME, flag="http-method", hubble="http_method",
          reading=readings.HTTP_METHOD, globs=True, choices=("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD")),
    Field("http.path", "a path, as a regular expression", _PATTERN, flag="http-path", hubble="http_path",
          literal=_path),
    Field("http.url", "a URL, as a regular expression", _PATTERN, flag="http-url", hubble="http_url", literal=_whole),
    Field("http.status", "a status: 404, 5xx", _NUMBER, flag="http-status", hubble="http_status_code", parse=_status,
          reading=readings.HTTP_STATUS, number=_plain(16), choices=("2xx", "3xx", "4xx", "5xx")),
    Field("http.header", "a header: NAME:VALUE", _NAME, flag="http-header", hubble="http_header", parse=values.header,
          reading=readings.HTTP_HEADER, globs=True),
    Field("dns.query", "a name that was asked for, as a regular expression", _PATTERN, flag="dns-query",
          hubble="dns_query", literal=_whole),
    Field("dns.rcode", "what a DNS server answered: NXDOMAIN, 3", _NUMBER, reading=readings.DNS_RCODE,
          number=_named(RCODES), choices=RCODES),
    Field("kafka.topic", "a Kafka topic", _NAME, reading=readings.KAFKA_TOPIC, globs=True),
    Field("kafka.api", "a Kafka request: produce, fetch", _NAME, reading=readings.KAFKA_API, globs=True),
    Field("grpc.method", "a gRPC call: package.Service/Method", _NAME, reading=readings.GRPC_METHOD, globs=True),
    Field("grpc.status", "how a gRPC call ended: UNAVAILABLE, 14", _NUMBER, reading=readings.GRPC_STATUS,
          number=_named(STATUS_NAMES), choices=STATUS_NAMES),
    Field("latency", "from request to response: 20ms, 1.5s", _NUMBER, reading=readings.LATENCY,
          number=values.duration_ns),
    Field("bytes", "of the connection so far, in this direction: 1k, 2.5M", _NUMBER, reading=readings.BYTES,
          number=values.size),
    Field("tcp-flags", "all of these TCP flags: syn,ack", _CHOICE, hubble="tcp_flags", parse=values.tcp_flags,
          choices=("syn", "syn,ack", "fin", "rst", "psh", "ack", "urg")),
    Field("ip-version", "v4, v6 or none", _CHOICE, hubble="ip_version", parse=values.ip_version,
          choices=("v4", "v6", "none")),
    Field("snat-ip", "the address or CIDR it was translated to", _CHOICE, hubble="source_ip_xlated"),
    Field("interface", "a network interface", _CHOICE, hubble="interface",
          parse=lambda name: flow_pb2.NetworkInterface(name=name)),
    Field("encrypted", "true: encrypted; false: not", _CHOICE, hubble="encrypted", parse=_boolean,
          choices=("true", "false")),
    Field("uuid", "the flow of this identifier", _CHOICE, hubble="uuid"),
    Field("trace-id", "a W3C trace id", _CHOICE, hubble="trace_id"),
    Field("ip-trace-id", "an IP trace id", _CHOICE, hubble="ip_trace_id", parse=_trace_id),
)  # fmt: skip

FIELDS: Final[dict[str, tuple[Field, str]]] = {
    name: (field, FROM_AND_TO.get(name[: name.find("-") + 1], "") if field.sided else "")
    for field in TABLE
    for name in field.names
}
"""Every name of a field, and the side that it means."""
