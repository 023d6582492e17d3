"""The values that flows have, by field, with how many flows have each: for completion while a filter is typed.

A store and an end enter, counts leave: over columns and tables of the whole ring, over strings and addresses of its
newest rows. No flow is built.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from observer.api import flow_pb2
from observer.filters import readings
from observer.filters.fields import RCODES
from observer.filters.index import flagged, one_of
from observer.filters.l7 import HTTP_KINDS
from observer.filters.network import PORT_PROTOCOLS
from observer.filters.patterns import request_path
from observer.identity.endpoints import RESERVED_NAMES, Endpoint
from observer.l7.grpc import STATUS_NAMES
from observer.l7.kafka_schema import name_of
from observer.monitor import EVENT_TYPES
from observer.record import L7Kind, L7Type, Present
from observer.record import Protocol as IpProtocol
from observer.store import Columns, Store
from observer.wire.layer7 import Texts, http_method, split_texts, url
from observer.wire.parts import address_text

NEWEST: Final = 8_192
"""Rows whose strings and addresses are looked at; what is in columns is counted over the whole ring."""
COUNTED: Final = 2_048
"""Numbers and addresses that are named, where there are more: the most frequent."""
TOLD_PER_ENDPOINT: Final = 64
"""Labels, names or workloads of one endpoint that are counted."""

Live = Callable[[Store, str], "Counter[str]"]


def _counts(numbers: npt.NDArray[Any], name: Callable[[int], str]) -> Counter[str]:
    """How often each number comes, by its name; unnamed ones are left out."""
    counted: Counter[str] = Counter()
    if numbers.dtype.itemsize <= 2:
        counts = np.bincount(numbers)
        present = np.flatnonzero(counts)
        counts = counts[present]
    else:
        present, counts = np.unique(numbers, return_counts=True)
    if len(present) > COUNTED:
        most = np.argpartition(counts, -COUNTED)[-COUNTED:]
        present, counts = present[most], counts[most]
    pairs = zip(present.tolist(), counts.tolist(), strict=True)
    for number, count in pairs:
        if text := name(number):
            counted[text] += count
    return counted


def _together(store: Store, *names: str) -> list[npt.NDArray[Any]]:
    """Several columns of all rows held, cut to the same rows: a writer may move on between two."""
    columns = [store.hot(name) for name in names]
    count = min(map(len, columns))
    return [column[len(column) - count :] for column in columns]


def _of_column(column: str, name: Callable[[int], str]) -> Live:
    return lambda store, _: _counts(store.hot(column), name)


def _of_endpoint(told: Callable[[Endpoint], Iterable[str]]) -> Live:
    def live(store: Store, side: str) -> Counter[str]:
        counts = np.bincount(store.hot(f"{side}_endpoint"))
        counted: Counter[str] = Counter()
        for number in np.flatnonzero(counts).tolist():
            if number < len(store.endpoints):
                for text in list(told(store.endpoints[number]))[:TOLD_PER_ENDPOINT]:
                    counted[text] += int(counts[number])
        return counted

    return live


def _identities(store: Store, side: str) -> Counter[str]:
    own, ends = _together(store, f"{side}_identity", f"{side}_endpoint")
    of_endpoint = np.array([endpoint.identity for endpoint in store.endpoints.from_number(0)], np.uint32)
    identities = np.where(own != 0, own, of_endpoint.take(ends, mode="clip"))
    return _counts(identities, lambda number: RESERVED_NAMES.get(number, str(number)) if number else "")  # type: ignore[call-overload]


def _ports(store: Store, side: str) -> Counter[str]:
    ports, protocols, families = _together(store, f"{side}_port", "protocol", "family")
    return _counts(ports[one_of(protocols, PORT_PROTOCOLS) & (families != 0)], str)


def _statuses(store: Store, _: str) -> Counter[str]:
    kinds, types, codes = _together(store, "l7_kind", "l7_type", "l7_code")
    told = one_of(kinds, HTTP_KINDS) & (types == L7Type.RESPONSE.value)
    return _counts(codes[told], lambda code: str(code) if 100 <= code < 600 else "")


def _rcodes(store: Store, _: str) -> Counter[str]:
    kinds, types, codes = _together(store, "l7_kind", "l7_type", "l7_code")
    told = (kinds == L7Kind.DNS.value) & (types == L7Type.RESPONSE.value)
    return _counts(codes[told], lambda code: RCODES[code] if code < len(RCODES) else str(code))


def _grpc_statuses(store: Store, _: str) -> Counter[str]:
    present, statuses = _together(store, "present", "grpc_status")
    told = flagged(present, Present.GRPC_STATUS)
    return _counts(statuses[told], lambda code: STATUS_NAMES[code] if code < len(STATUS_NAMES) else str(code))


def _kafka_apis(store: Store, _: str) -> Counter[str]:
    kinds, present, keys = _together(store, "l7_kind", "present", "l7_method")
    return _counts(keys[(kinds == L7Kind.KAFKA.value) & flagged(present, Present.METHOD)], name_of)


def _protocols(store: Store, _: str) -> Counter[str]:
    layer4 = {number.value: number.name.lower() for number in IpProtocol}
    layer7 = {
        L7Kind.HTTP.value: "http",
        L7Kind.GRPC.value: "grpc",
        L7Kind.DNS.value: "dns",
        L7Kind.KAFKA.value: "kafka",
    }
    protocols, kinds = _together(store, "protocol", "l7_kind")
    return _counts(protocols, lambda number: layer4.get(number, "")) + _counts(
        kinds, lambda number: layer7.get(number, "")
    )


def _drop_reasons(store: Store, _: str) -> Counter[str]:
    verdicts, reasons = _together(store, "verdict", "drop_reason_desc")
    return _counts(reasons[verdicts == flow_pb2.DROPPED], lambda number: _name(flow_pb2.DropReason, number))


def _replies(store: Store, _: str) -> Counter[str]:
    present, replies = _together(store, "present", "is_reply")
    told = replies[flagged(present, Present.IS_REPLY)] != 0
    return +Counter({"true": int(told.sum()), "false": int((~told).sum())})


def _name(enum_type: Any, number: int) -> str:
    value = enum_type.DESCRIPTOR.values_by_number.get(number)
    return str(value.name) if value is not None and number else ""


def _policies(store: Store, _: str) -> Counter[str]:
    counted: Counter[str] = Counter()
    for columns in store.columns(store.first, store.next):
        for name in ("egress_rule", "ingress_rule"):
            numbers, counts = np.unique(columns[name], return_counts=True)
            for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
                if 0 < number < len(store.policies):
                    policy = store.policies[number]
                    for text in readings.policy_forms(policy.namespace, policy.name)[:1]:
                        counted[text] += count
    return counted


def _windows(store: Store) -> list[Columns]:
    return store.columns(max(store.first, store.next - NEWEST), store.next)


def _nodes(store: Store, _: str) -> Counter[str]:
    names = list(store.nodes)
    counted: Counter[str] = Counter()
    for columns in store.columns(store.first, store.next):
        counted += _counts(columns.nodes, lambda number: names[number] if number < len(names) else "")
    return counted


def _addresses(store: Store, side: str) -> Counter[str]:
    raw: Counter[tuple[int, bytes]] = Counter()
    for columns in _windows(store):
        packed, families = columns[f"{side}_ip"].tobytes(), columns["family"].tolist()
        raw.update((family, packed[16 * row : 16 * row + 16]) for row, family in enumerate(families) if family)
    return Counter({address_text(*key): count for key, count in raw.most_common(COUNTED)})


def _names(store: Store, side: str) -> Counter[str]:
    """Those of the endpoints, and those that the newest rows have of their own."""
    counted = _of_endpoint(lambda endpoint: endpoint.names)(store, side)
    for columns in _windows(store):
        for extra in columns.extras.tolist():
            if extra is not None:
                counted.update(getattr(extra, f"{side}_names")[:TOLD_PER_ENDPOINT])
    return counted


def _of_texts(kinds: Iterable[L7Kind], told: Callable[[int, Texts], str | None]) -> Live:
    """By method and strings of the newest rows of some protocols; each different one is read once."""
    wanted = list(kinds)

    def live(store: Store, _: str) -> Counter[str]:
        raw: Counter[tuple[int, bytes, bytes]] = Counter()
        counted: Counter[str] = Counter()
        for columns in _windows(store):
            rows = np.flatnonzero(one_of(columns["l7_kind"], wanted))
            lengths, texts = columns["text_length"][rows], columns["text"][rows]
            methods = np.where(flagged(columns["present"], Present.METHOD), columns["l7_method"], 0)[rows]
            size = texts.shape[1]
            packed, joined = lengths.tobytes(), texts.tobytes()
            raw.update(
                (method, packed[4 * row : 4 * row + 4], joined[size * row : size * (row + 1)])
                for row, method in enumerate(methods.tolist())
            )
        for (method, sizes, text), count in raw.items():
            value = told(method, split_texts(sizes, text, None))
            if value:
                counted[value] += count
        return counted

    return live


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _method(method: int, texts: Texts) -> str:
    return _decoded(http_method(method, Present.METHOD.value, texts[2]))


def _url(method: int, texts: Texts) -> str:
    spelled = http_method(method, Present.METHOD.value, texts[2])
    return _decoded(url(spelled, texts[0], texts[1], texts[3]))


def _workloads(endpoint: Endpoint) -> Iterable[str]:
    return [f"{kind}/{name}" if kind else name for name, kind in endpoint.workloads]


LIVE: Final[dict[str, Live]] = {
    "pod": _of_endpoint(lambda endpoint: readings.slashed(endpoint.namespace, endpoint.pod) if endpoint.pod else ()),
    "namespace": _of_endpoint(lambda endpoint: (endpoint.namespace,) if endpoint.namespace else ()),
    "label": _of_endpoint(lambda endpoint: endpoint.labels),
    "workload": _of_endpoint(_workloads),
    "service": _of_endpoint(lambda endpoint: () if endpoint.service is None else readings.slashed(*endpoint.service)),
    "cluster": _of_endpoint(lambda endpoint: (endpoint.cluster,) if endpoint.cluster else ()),
    "fqdn": _names,
    "policy": _policies,
    "identity": _identities,
    "ip": _addresses,
    "port": _ports,
    "protocol": _protocols,
    "verdict": _of_column("verdict", lambda number: _name(flow_pb2.Verdict, number)),
    "drop-reason": _drop_reasons,
    "direction": _of_column("direction", lambda number: _name(flow_pb2.TrafficDirection, number).lower()),
    "reply": _replies,
    "type": _of_column("event_type", lambda number: EVENT_TYPES.get(number, "") if number else ""),
    "node": _nodes,
    "http.method": _of_texts(HTTP_KINDS, _method),
    "http.path": _of_texts(HTTP_KINDS, lambda method, texts: request_path(_url(method, texts))),
    "http.url": _of_texts(HTTP_KINDS, _url),
    "http.status": _statuses,
    "dns.query": _of_texts([L7Kind.DNS], lambda _, texts: _decoded(texts[0])),
    "dns.rcode": _rcodes,
    "kafka.topic": _of_texts([L7Kind.KAFKA], lambda _, texts: _decoded(texts[0])),
    "kafka.api": _kafka_apis,
    "grpc.method": _of_texts([L7Kind.GRPC], lambda _, texts: _decoded(texts[0].lstrip(b"/"))),
    "grpc.status": _grpc_statuses,
}
"""How the values of a field are counted."""
