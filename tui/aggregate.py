"""Flows added up: groups by any fields for Top, who talks to whom for Map, flows by node; with numpy on the columns.

What a table shows enters, sums leave. Bounded: at most ROWS of the newest flows are looked at, and GROUPS are told;
the span that this is says what was left out. An end is the client or the server of a conversation, not source or
destination: answers count with their questions. Knows no screen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from observer.api import flow_pb2
from observer.filters.language import joined
from observer.filters.tree import quoted, term
from observer.printer import escape
from observer.record import Direction, HttpMethod, L7Kind, Present, Protocol, Verdict
from observer.store import Sequences, Store
from tui.columns import cut
from tui.matches import Rows, troubled

ROWS: Final = 131_072
"""The newest flows that are added up."""
TEXT_ROWS: Final = 16_384
"""And where paths or methods tell groups apart: those are read one by one."""
GROUPS: Final = 500
"""Groups told: the largest."""
BUCKETS: Final = 12
"""Bars of a sparkline."""
TEXT_MAX: Final = 120
"""Characters of a path that tell groups apart."""

Codes: TypeAlias = npt.NDArray[np.int64]
Ints: TypeAlias = npt.NDArray[Any]

_KINDS: Final = {L7Kind.HTTP: "HTTP", L7Kind.DNS: "DNS", L7Kind.KAFKA: "Kafka", L7Kind.GRPC: "gRPC", L7Kind.TLS: "TLS"}
_COLUMNS: Final = (
    *("time_ns", "verdict", "type", "is_reply", "protocol", "l7_kind", "l7_type", "l7_method", "l7_code", "present"),
    *("source_port", "destination_port", "source_endpoint", "destination_endpoint", "direction", "drop_reason_desc"),
    *("latency_ns", "bytes", "connection", "grpc_status", "egress_rule", "ingress_rule"),
)


class Shown(NamedTuple):
    """The flows that a table shows, newest at the end; taken by the thread that owns the table."""

    store: Store
    sequences: Sequences
    left_out: int = 0
    """Older ones that are not among them."""

    @classmethod
    def by(cls, rows: Rows, limit: int = ROWS) -> Shown:
        """The newest of a table's."""
        count = len(rows)
        if not count:
            return cls(rows.store, np.empty(0, np.int64))
        start = rows.at(max(0, count - limit))
        return cls(rows.store, rows.between(start, rows.at(count - 1) + 1).copy(), max(0, count - limit))


class Flows:
    """The columns of some flows, copied: the writer may go on."""

    def __init__(self, shown: Shown, limit: int = ROWS) -> None:
        store = shown.store
        sequences = shown.sequences[-limit:]
        self.store: Final[Store] = store
        self.left_out = shown.left_out + len(shown.sequences) - len(sequences)
        """Older flows that were not looked at."""
        columns: dict[str, list[Ints]] = {name: [] for name in _COLUMNS}
        nodes: list[Ints] = []
        trouble: list[Ints] = []
        if len(sequences):
            for window in store.columns(int(sequences[0]), int(sequences[-1]) + 1):
                here = slice(*np.searchsorted(sequences, (window.start, window.start + window.length)))
                picked = sequences[here] - window.start
                for name, parts in columns.items():
                    parts.append(window[name][picked])
                nodes.append(window.nodes[picked])
                trouble.append(troubled(window)[picked])
        self.sequences = sequences
        self._columns = {name: np.concatenate(parts) if parts else np.empty(0) for name, parts in columns.items()}
        self.nodes = np.concatenate(nodes) if nodes else np.empty(0, np.uint16)
        self.troubled = np.concatenate(trouble) if trouble else np.empty(0, np.bool_)
        gone = int(np.searchsorted(sequences, store.first))  # overwritten while they were copied
        if gone:
            self.sequences = sequences[gone:]
            self._columns = {name: column[gone:] for name, column in self._columns.items()}
            self.nodes, self.troubled = self.nodes[gone:], self.troubled[gone:]
        self.reply: Ints = self["is_reply"] != 0

    def __getitem__(self, name: str) -> Ints:
        return self._columns[name]

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def seconds(self) -> float:
        """From the oldest to the newest; at least one, so that rates mean something."""
        times = self["time_ns"]
        return max(1.0, (int(times.max()) - int(times.min())) / 1e9) if len(times) else 1.0

    def end(self, server: bool) -> Ints:
        """The endpoint numbers of clients, or of servers."""
        swapped = self.reply != server
        return np.where(swapped, self["destination_endpoint"], self["source_endpoint"])

    def server_port(self) -> Ints:
        """The port that was asked."""
        return np.where(self.reply, self["source_port"], self["destination_port"])


class Coded(NamedTuple):
    """A field of every flow as a small number, and what each number means: its name, and the test that selects it."""

    codes: Codes
    names: list[str]
    tests: list[str]


def _table(values: Ints, name: Callable[[int], str], test: Callable[[int], str]) -> Coded:
    """A column of few values."""
    found, codes = np.unique(values, return_inverse=True)
    numbers = found.tolist()
    return Coded(codes.astype(np.int64), [name(number) for number in numbers], [test(number) for number in numbers])


def _texts(texts: Sequence[str], test: Callable[[str], str]) -> Coded:
    """A text for every flow."""
    numbers: dict[str, int] = {}
    codes = np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), np.int64, len(texts))
    return Coded(codes, list(numbers), [test(text) if text else "" for text in numbers])


def _names_of(flows: Flows, numbers: Ints, name: Callable[[Any], tuple[str, str]]) -> Coded:
    """What is said of an end: (name, test) of an endpoint; endpoints of one name are one."""
    found, where = np.unique(numbers, return_inverse=True)
    endpoints = flows.store.endpoints
    # A row that the writer was just overwriting may have had any number; such rows are gone by now.
    said = [name(endpoints[number]) if number < len(endpoints) else ("?", "") for number in found.tolist()]
    known: dict[str, int] = {}
    tests: list[str] = []
    codes = []
    for text, test in said:
        if text not in known:
            known[text] = len(known)
            tests.append(test)
        codes.append(known[text])
    return Coded(np.array(codes, np.int64)[where] if codes else np.empty(0, np.int64), list(known), tests)


def workload_name(end: Any) -> tuple[str, str]:
    """An end by its workload; else by pod, name or reserved identity."""
    if end.workloads:
        name, _ = end.workloads[0]
        test = joined([term("workload", name), term("namespace", end.namespace)]) if end.namespace else ""
        return f"{end.namespace}/{name}".strip("/"), test or term("workload", name)
    return pod_name(end)


def pod_name(end: Any) -> tuple[str, str]:
    """An end by its pod; else by name or reserved identity."""
    if end.pod:
        return f"{end.namespace}/{end.pod}".strip("/"), term("pod", f"{end.namespace}/{end.pod}")
    if end.service is not None:
        return "/".join(filter(None, end.service)), term("service", "/".join(end.service))
    if end.names:
        return end.names[0], term("fqdn", end.names[0])
    reserved = next((label.partition(":")[2] for label in end.labels if label.startswith("reserved:")), "")
    if reserved:
        return reserved, f"identity={end.identity}"
    return (f"identity {end.identity}", f"identity={end.identity}") if end.identity else ("?", "")


def namespace_name(end: Any) -> tuple[str, str]:
    """An end's namespace; of what has none, the reserved identity."""
    return (end.namespace, term("namespace", end.namespace)) if end.namespace else pod_name(end)


def _protocol(flows: Flows) -> Coded:
    kinds, protocols = flows["l7_kind"].astype(np.int64), flows["protocol"].astype(np.int64)

    def name(code: int) -> str:
        if code >= 256:
            return _KINDS.get(L7Kind(code >> 8), "L7") if (code >> 8) in L7Kind._value2member_map_ else "L7"
        return Protocol(code).name if code in Protocol._value2member_map_ else str(code)

    def test(code: int) -> str:
        word = name(code).lower()
        return word if word in ("http", "dns", "kafka", "grpc", "tcp", "udp", "sctp", "icmp") else ""

    return _table(np.where(kinds > 0, kinds << 8, protocols), name, test)


def _status(flows: Flows) -> Coded:
    present, kind = flows["present"], flows["l7_kind"].astype(np.int64)
    coded = (present & int(Present.CODE)) != 0
    grpc = (present & int(Present.GRPC_STATUS)) != 0
    number = np.where(grpc, flows["grpc_status"], np.where(coded, flows["l7_code"], 0)).astype(np.int64)
    kind = np.where(grpc, int(L7Kind.GRPC), np.where(coded & (kind == int(L7Kind.GRPC)), int(L7Kind.HTTP), kind))
    codes = np.where(grpc | coded, (kind << 16) | number, -1)

    def name(code: int) -> str:
        return "-" if code < 0 else f"{_KINDS.get(L7Kind(code >> 16), '')} {code & 0xFFFF}".strip()

    def test(code: int) -> str:
        field = {L7Kind.HTTP: "http.status", L7Kind.GRPC: "grpc.status", L7Kind.DNS: "dns.rcode"}.get(
            L7Kind(code >> 16) if code >= 0 else L7Kind.NONE
        )
        return f"{field}={code & 0xFFFF}" if field else ""

    return _table(codes, name, test)


def _method(flows: Flows) -> Coded:
    http = np.isin(flows["l7_kind"], (int(L7Kind.HTTP), int(L7Kind.GRPC)))
    known = http & ((flows["present"] & int(Present.METHOD)) != 0)

    def name(code: int) -> str:
        return HttpMethod(code).name if code in HttpMethod._value2member_map_ and code else "-"

    return _table(
        np.where(known, flows["l7_method"], 0), name, lambda code: f"http.method={name(code)}" if code else ""
    )


def _path(flows: Flows) -> Coded:
    """The path without its query, the name asked for, the topic: the first text of each flow."""
    texts = []
    tests: dict[str, str] = {}
    fields = {int(L7Kind.DNS): "dns.query", int(L7Kind.KAFKA): "kafka.topic"}
    if len(flows):
        records, extras, _, whole = flows.store.take(flows.sequences)
        lengths = records["text_length"][:, 0].tolist()
        raw = np.ascontiguousarray(records["text"])
        size = raw.shape[1]
        data = raw.tobytes()
        texts = ["?"] * (len(flows) - len(whole))
        for row, (length, kind, extra) in enumerate(
            zip(lengths, flows["l7_kind"][len(flows) - len(whole) :].tolist(), extras, strict=True)
        ):
            first = extra.texts[0] if extra is not None and extra.texts else data[row * size : row * size + length]
            text = first.partition(b"?")[0].decode("utf-8", "backslashreplace")
            text = cut(text, TEXT_MAX)
            texts.append(text)
            if text and text not in tests:
                field = fields.get(kind)
                tests[text] = term(field, text) if field and len(text) < TEXT_MAX else quoted(text)
    return _texts(texts, lambda text: tests.get(text, ""))


FIELDS: Final[dict[str, tuple[str, Callable[[Flows], Coded]]]] = {
    "client": ("who asks: workload, pod or name", lambda flows: _names_of(flows, flows.end(False), workload_name)),
    "server": ("who is asked", lambda flows: _names_of(flows, flows.end(True), workload_name)),
    "client-pod": ("who asks, by pod", lambda flows: _names_of(flows, flows.end(False), pod_name)),
    "server-pod": ("who is asked, by pod", lambda flows: _names_of(flows, flows.end(True), pod_name)),
    "client-namespace": ("where the clients are", lambda flows: _names_of(flows, flows.end(False), namespace_name)),
    "server-namespace": ("where the servers are", lambda flows: _names_of(flows, flows.end(True), namespace_name)),
    "port": (
        "the port asked",
        lambda flows: _table(flows.server_port(), _port, lambda port: f"port={port}" if port else ""),
    ),
    "protocol": ("what is spoken", _protocol),
    "verdict": (
        "what became of it",
        lambda flows: _table(flows["verdict"], _verdict, lambda code: f"verdict={_verdict(code)}"),
    ),
    "method": ("HTTP methods", _method),
    "path": ("HTTP paths, DNS names, Kafka topics", _path),
    "status": ("HTTP, gRPC, DNS, Kafka answers", _status),
    "drop-reason": (
        "why it was dropped",
        lambda flows: _table(
            flows["drop_reason_desc"], _reason, lambda code: f"drop-reason={_reason(code)}" if code else ""
        ),
    ),
    "direction": (
        "ingress or egress",
        lambda flows: _table(
            flows["direction"],
            lambda code: Direction(code).name.lower() if code in (1, 2) else "-",
            lambda code: f"direction={Direction(code).name.lower()}" if code in (1, 2) else "",
        ),
    ),
    "node": (
        "where it was seen",
        lambda flows: _table(
            flows.nodes,
            lambda code: _node(flows, code),
            lambda code: term("node", flows.store.nodes[code]) if _node(flows, code) != "-" else "",
        ),
    ),
}
"""What groups can be made by: the help, and how."""
DEFAULT_FIELDS: Final = ("client", "server", "port")


def _port(number: int) -> str:
    """A port; what has none shows none."""
    return str(number) if number else "-"


def _node(flows: Flows, code: int) -> str:
    return (flows.store.nodes[code] if code < len(flows.store.nodes) else "") or "-"


def _verdict(code: int) -> str:
    return Verdict(code).name if code in Verdict._value2member_map_ else "VERDICT_UNKNOWN"


def _reason(code: int) -> str:
    value = flow_pb2.DropReason.DESCRIPTOR.values_by_number.get(code)
    return value.name if value is not None and code else "-"


class Group(NamedTuple):
    """One line of Top."""

    names: tuple[str, ...]
    test: str
    """The filter that selects it."""
    flows: int
    rate: float  # flows a second
    bytes: int
    errors: float  # share, 0 to 1
    p50: float  # latency in nanoseconds; 0: none measured
    p95: float
    p99: float
    bars: tuple[int, ...]


SORTS: Final[dict[str, Callable[[Group], Any]]] = {
    "flows/s": lambda group: -group.flows,
    "bytes": lambda group: -group.bytes,
    "errors": lambda group: (-group.errors, -group.flows),
    "p50": lambda group: -group.p50,
    "p95": lambda group: -group.p95,
    "p99": lambda group: -group.p99,
    "name": lambda group: group.names,
}
"""What Top can be sorted by."""


class Top(NamedTuple):
    """Groups, and over what."""

    groups: list[Group]
    flows: int
    seconds: float
    left_out: int
    more: int
    """Groups that are not told."""


def top(shown: Shown, fields: Sequence[str], sort: str = "flows/s") -> Top:
    """Group the newest flows by some fields."""
    flows = Flows(shown, TEXT_ROWS if "path" in fields else ROWS)
    if not len(flows):
        return Top([], 0, 1.0, 0, 0)
    coded = [FIELDS[field][1](flows) for field in fields]
    key = coded[0].codes
    for further in coded[1:]:
        # Numbered anew each time, so that no product can overflow.
        _, key = np.unique(key * len(further.names) + further.codes, return_inverse=True)
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    number = len(first)
    count = np.bincount(group, minlength=number)
    errors = np.bincount(group, weights=flows.troubled, minlength=number)
    size = _bytes(flows, group, number)
    quantiles = _quantiles(flows, group, number)
    bars = _bars(flows, group, number)
    seconds = flows.seconds
    groups = []
    for one, row in enumerate(first.tolist()):
        codes = [int(each.codes[row]) for each in coded]
        tests = [each.tests[code] for each, code in zip(coded, codes, strict=True)]
        groups.append(
            Group(
                tuple(escape(each.names[code]) for each, code in zip(coded, codes, strict=True)),
                " and ".join(filter(None, tests)),
                int(count[one]),
                float(count[one]) / seconds,
                int(size[one]),
                float(errors[one]) / float(count[one]),
                float(quantiles[one, 0]),
                float(quantiles[one, 1]),
                float(quantiles[one, 2]),
                tuple(bars[one].tolist()),
            )
        )
    groups.sort(key=SORTS[sort])
    return Top(groups[:GROUPS], len(flows), seconds, flows.left_out, max(0, number - GROUPS))


def _bytes(flows: Flows, group: Ints, number: int) -> Ints:
    """Bytes of a group: counters are of a connection so far, so the last of each direction counts."""
    rows = np.flatnonzero(((flows["present"] & int(Present.COUNTERS)) != 0) & (flows["connection"] != 0))[::-1]
    keys = flows["connection"][rows].astype(np.uint64) * np.uint64(2) + flows.reply[rows].astype(np.uint64)
    _, last = np.unique(keys, return_index=True)
    rows = rows[last]
    return np.bincount(group[rows], weights=flows["bytes"][rows], minlength=number)


def _quantiles(flows: Flows, group: Ints, number: int) -> Ints:
    """p50, p95 and p99 of the latencies of each group."""
    rows = np.flatnonzero((flows["present"] & int(Present.LATENCY)) != 0)
    latency, where = flows["latency_ns"][rows], group[rows]
    order = np.lexsort((latency, where))
    latency, where = latency[order], where[order]
    start, stop = np.searchsorted(where, np.arange(number)), np.searchsorted(where, np.arange(number), "right")
    out = np.zeros((number, 3))
    some = stop > start
    for place, quantile in enumerate((0.50, 0.95, 0.99)):
        index = start + np.floor((stop - start - 1) * quantile + 0.5).astype(np.int64)
        out[some, place] = latency[index[some]]
    return out


def _bars(flows: Flows, group: Ints, number: int) -> Ints:
    """Flows of each group by time: BUCKETS of equal length."""
    times = flows["time_ns"].astype(np.int64)
    start = int(times.min())
    length = max(1, int(times.max()) - start + 1)
    bucket = (times - start) * BUCKETS // length
    return np.bincount(group * BUCKETS + bucket, minlength=number * BUCKETS).reshape(number, BUCKETS)


class Edge(NamedTuple):
    """Who talks to whom: one line of Map."""

    client_namespace: str
    client: str
    server: str
    port: int
    protocol: str
    verdicts: dict[str, int]
    flows: int
    test: str
    client_test: str
    namespace_test: str


def edges(shown: Shown) -> tuple[list[Edge], Top]:
    """The edges between clients and servers, by namespace and name; and over what, in a Top without groups."""
    flows = Flows(shown)
    if not len(flows):
        return [], Top([], 0, 1.0, 0, 0)
    namespace = _names_of(flows, flows.end(False), namespace_name)
    client = _names_of(flows, flows.end(False), workload_name)
    server = _names_of(flows, flows.end(True), workload_name)
    port = flows.server_port().astype(np.int64)
    spoken = _protocol(flows)
    key = (client.codes * len(server.names) + server.codes) * 65_536 + port
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    verdict = flows["verdict"].astype(np.int64)
    best = np.zeros(len(first), np.int64)  # L7 protocols are sorted behind the others: the most telling one
    np.maximum.at(best, group, spoken.codes)
    counts = np.bincount(group * 256 + verdict, minlength=len(first) * 256).reshape(len(first), 256)
    out = []
    for one, row in enumerate(first.tolist()):
        asked = int(port[row])
        client_test, server_test = client.tests[client.codes[row]], server.tests[server.codes[row]]
        out.append(
            Edge(
                escape(namespace.names[namespace.codes[row]]),
                escape(client.names[client.codes[row]]),
                escape(server.names[server.codes[row]]),
                asked,
                spoken.names[int(best[one])],
                {_verdict(code): int(counts[one, code]) for code in np.flatnonzero(counts[one]).tolist()},
                int(counts[one].sum()),
                " and ".join(filter(None, (client_test, server_test, f"port={asked}" if asked else ""))),
                client_test,
                namespace.tests[namespace.codes[row]],
            )
        )
    out.sort(key=lambda edge: (edge.client_namespace, edge.client, -edge.flows, edge.server, edge.port))
    about = Top([], len(flows), flows.seconds, flows.left_out, max(0, len(out) - GROUPS))
    return out[:GROUPS], about


def by_node(shown: Shown) -> dict[str, tuple[int, float, int]]:
    """Flows held, flows a second over the last ten seconds, and nanoseconds from the oldest to the newest, by node."""
    flows = Flows(shown)
    if not len(flows):
        return {}
    times = flows["time_ns"].astype(np.int64)
    recent = times >= int(times.max()) - 10_000_000_000
    seconds = min(10.0, flows.seconds)
    out = {}
    for code in np.unique(flows.nodes).tolist():
        own = flows.nodes == code
        out[_node(flows, code)] = (int(own.sum()), float((own & recent).sum()) / seconds, int(np.ptp(times[own])))
    return out
