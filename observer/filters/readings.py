"""Readings: what a field says of a flow, on the materialised flow and over a store's columns.

A question about one value ("begins with a", "over 100") enters, the Term that asks it of every value a flow has leaves.
Hubble's own fields are read by the families (event, network, endpoint, l7); these readings serve what its filters
cannot express. Where a column does not tell all, rows are left open and the flow is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Generic, TypeAlias, TypeVar

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from observer.api import flow_pb2
from observer.filters.index import (
    Bounds,
    Index,
    Judge,
    Mask,
    PerEndpoint,
    Rows,
    Term,
    certain,
    endpoint_index,
    flagged,
    one_of,
    possible,
    upper,
)
from observer.filters.network import PORT_PROTOCOLS
from observer.identity.endpoints import MAPPED, Endpoint
from observer.record import Present
from observer.store import Columns
from observer.wire.parts import address_text
from observer.wire.protobuf import keep

T = TypeVar("T")
Flow: TypeAlias = flow_pb2.Flow
Parts: TypeAlias = tuple[Index, Callable[[Columns], Mask] | None, Judge | None]
"""What makes a Term beside its exact form: index, imported, judge."""
Ask: TypeAlias = Callable[[Any], Any]
"""A question about one value, or about each of an array of numbers."""


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """One field in both forms; `side` is "source", "destination", or empty for what belongs to no end."""

    values: Callable[[Flow, str], Iterable[T]]
    rows: Callable[[str, Ask], Parts]

    def term(self, side: str, ask: Ask) -> Term:
        """The term that any value of the field satisfies `ask`."""
        values = self.values
        return Term(lambda flow: any(ask(value) for value in values(flow, side)), *self.rows(side, ask))


# One end of a flow


def _of_endpoint(
    flow: Callable[[flow_pb2.Endpoint], Iterable[str]], table: Callable[[Endpoint], Iterable[str]]
) -> Reading[str]:
    """By what an endpoint says; imported rows have theirs in the table too."""

    def rows(side: str, ask: Ask) -> Parts:
        index = endpoint_index(f"{side}_endpoint", lambda endpoint: any(ask(text) for text in table(endpoint)))
        return index, upper(index), None

    return Reading(lambda whole, side: flow(getattr(whole, side)), rows)


def slashed(namespace: str, name: str) -> tuple[str, ...]:
    """Namespace/name, as a list that is empty where there is neither."""
    return (f"{namespace}/{name}",) if namespace or name else ()


def _label_forms(labels: Iterable[str]) -> Iterator[str]:
    """Each label with and without its source."""
    for label in labels:
        yield label
        _, colon, rest = label.partition(":")
        if colon:
            yield rest


def _kind_and_name(kind: str, name: str) -> str:
    return f"{kind}/{name}" if kind else name


POD: Final = _of_endpoint(lambda end: slashed(end.namespace, end.pod_name), lambda end: slashed(end.namespace, end.pod))
NAMESPACE: Final = _of_endpoint(
    lambda end: (end.namespace,) if end.namespace else (), lambda end: (end.namespace,) if end.namespace else ()
)
CLUSTER: Final = _of_endpoint(
    lambda end: (end.cluster_name,) if end.cluster_name else (), lambda end: (end.cluster,) if end.cluster else ()
)
LABEL: Final = _of_endpoint(lambda end: _label_forms(end.labels), lambda end: _label_forms(end.labels))
WORKLOAD: Final = _of_endpoint(
    lambda end: [_kind_and_name(each.kind, each.name) for each in end.workloads],
    lambda end: [_kind_and_name(kind, name) for name, kind in end.workloads],
)


def _service_values(flow: Flow, side: str) -> Iterable[str]:
    service = getattr(flow, f"{side}_service")
    return slashed(service.namespace, service.name)


def _service_rows(side: str, ask: Ask) -> Parts:
    def of_endpoint(endpoint: Endpoint) -> bool:
        return endpoint.service is not None and any(ask(text) for text in slashed(*endpoint.service))

    # An imported flow may name a service and have no endpoint.
    return endpoint_index(f"{side}_endpoint", of_endpoint), None, None


SERVICE: Final = Reading(_service_values, _service_rows)


def _fqdn_rows(side: str, ask: Ask) -> Parts:
    of_endpoint = PerEndpoint(f"{side}_endpoint", lambda endpoint: any(ask(name) for name in endpoint.names), np.bool_)
    known: dict[tuple[str, ...], bool] = {}
    own = attrgetter(f"{side}_names")

    def index(columns: Columns) -> Bounds:
        mask = of_endpoint(columns)
        named = [
            (row, names)
            for row, extra in enumerate(columns.extras.tolist())
            if extra is not None and (names := own(extra))
        ]
        for row, names in named:
            answer = known.get(names)
            if answer is None:
                answer = any(ask(name) for name in names)
                keep(known, names, answer)
            mask[row] = answer
        return certain(mask)

    return index, upper(index), None


FQDN: Final = Reading(lambda flow, side: getattr(flow, f"{side}_names"), _fqdn_rows)


def _identity_rows(side: str, ask: Ask) -> Parts:
    """The record's own identity, else its endpoint's, as endpoint.py reads it."""
    numbers = f"{side}_endpoint"
    of_endpoint = PerEndpoint(numbers, lambda endpoint: endpoint.identity, np.uint32)

    def index(columns: Columns) -> Bounds:
        own = columns[f"{side}_identity"]
        told = own != 0
        return certain(ask(np.where(told, own, of_endpoint(columns))) & (told | (columns[numbers] != 0)))

    return index, lambda columns: ask(columns[f"{side}_identity"]), None


IDENTITY: Final = Reading(
    lambda flow, side: (getattr(flow, side).identity,) if flow.HasField(side) else (), _identity_rows
)


def _ip_rows(side: str, ask: Ask) -> Parts:
    known: dict[tuple[int, bytes], bool] = {}

    def answer(family: int, address: bytes) -> bool:
        key = (family, address)
        said = known.get(key)
        if said is None:
            said = bool(ask(address_text(family, address)))
            keep(known, key, said, ADDRESSES_KEPT)
        return said

    def judge(columns: Columns, asked: Rows) -> Mask:
        families = columns["family"][asked]
        addresses = np.ascontiguousarray(columns[f"{side}_ip"][asked])
        mask = np.zeros(len(asked), np.bool_)
        rows = np.flatnonzero(families == 4)  # whose first twelve bytes are all alike
        if len(rows):
            numbers, places = np.unique(addresses[rows].view("<u4")[:, 3], return_inverse=True)
            raw = numbers.tobytes()
            answers = [answer(4, MAPPED + raw[at : at + 4]) for at in range(0, len(raw), 4)]
            mask[rows] = np.array(answers, np.bool_)[places]
        others = np.flatnonzero(families != 4)
        told = addresses[others].tobytes()
        for at, (row, family) in enumerate(zip(others.tolist(), families[others].tolist(), strict=True)):
            mask[row] = answer(family, told[16 * at : 16 * at + 16])
        return mask

    # An imported flow may spell it otherwise.
    return (lambda columns: possible(columns["family"] != 0)), None, judge


ADDRESSES_KEPT: Final = 1 << 16
"""Addresses that a question about addresses remembers from one block of rows to the next."""
IP: Final = Reading(lambda flow, side: (text,) if (text := getattr(flow.IP, side)) else (), _ip_rows)


def _port_values(flow: Flow, side: str) -> Iterable[int]:
    name = flow.l4.WhichOneof("protocol")
    return (getattr(getattr(flow.l4, name), f"{side}_port") & 0xFFFF,) if name in ("TCP", "UDP", "SCTP") else ()


def _port_rows(side: str, ask: Ask) -> Parts:
    def index(columns: Columns) -> Bounds:
        ported = one_of(columns["protocol"], PORT_PROTOCOLS) & (columns["family"] != 0)
        return certain(ported & ask(columns[f"{side}_port"]))

    return index, lambda columns: ask(columns[f"{side}_port"]), None


PORT: Final = Reading(_port_values, _port_rows)

# The flow itself


def _node_rows(_: str, ask: Ask) -> Parts:
    def index(columns: Columns) -> Bounds:
        answers = np.array([bool(name) and ask(name) for name in columns.store.nodes], np.bool_)
        return certain(answers.take(columns.nodes, mode="clip"))

    return index, None, None


NODE: Final = Reading(lambda flow, _: (flow.node_name,) if flow.node_name else (), _node_rows)


def policy_forms(namespace: str, name: str) -> tuple[str, ...]:
    """Namespace/name, and the name alone."""
    return (f"{namespace}/{name}", name) if namespace and name else (name,) if name else ()


def _policies(flow: Flow, _: str) -> Iterator[str]:
    for policies in (flow.egress_denied_by, flow.ingress_denied_by, flow.egress_allowed_by, flow.ingress_allowed_by):
        for policy in policies:
            yield from policy_forms(policy.namespace, policy.name)


def _policy_rows(_: str, ask: Ask) -> Parts:
    def index(columns: Columns) -> Bounds:
        policies = columns.store.policies
        mask = np.zeros(columns.length, np.bool_)
        for column in ("egress_rule", "ingress_rule"):
            numbers, places = np.unique(columns[column], return_inverse=True)
            # A row that the writer is just overwriting may have any number.
            known = [policies[number] if 0 < number < len(policies) else None for number in numbers.tolist()]
            answers = [
                policy is not None and any(ask(text) for text in policy_forms(policy.namespace, policy.name))
                for policy in known
            ]
            mask |= np.array(answers, np.bool_)[places]
        return certain(mask)

    return index, None, None  # an imported flow may name more than two


POLICY: Final = Reading(_policies, _policy_rows)


def _latency_rows(_: str, ask: Ask) -> Parts:
    def index(columns: Columns) -> Bounds:
        told = flagged(columns["present"], Present.LATENCY) & (columns["l7_kind"] != 0)
        latency_ns = columns["latency_ns"]
        return certain(told & (latency_ns != 0) & ask(latency_ns))

    return index, lambda columns: (columns["latency_ns"] != 0) & ask(columns["latency_ns"]), None


LATENCY: Final = Reading(lambda flow, _: (flow.l7.latency_ns,) if flow.l7.latency_ns else (), _latency_rows)


def extension(flow: Flow, key: str) -> Any:
    """One entry of the Struct in Flow.extensions, where Hubble has no place for it; None if it is not there."""
    if not flow.extensions.Is(Struct.DESCRIPTOR):
        return None
    struct = Struct()
    try:
        flow.extensions.Unpack(struct)
    except DecodeError:  # the bytes inside an Any were not checked with the flow
        return None
    return struct[key] if key in struct.fields else None  # as Struct shows it: number, text, Struct, ListValue


def extension_part(flow: Flow, key: str, name: str) -> Any:
    """One entry within one that is a Struct itself; None if it is not there."""
    part = extension(flow, key)
    return part[name] if isinstance(part, Struct) and name in part.fields else None


def numbers_of(value: Any) -> Iterable[float]:
    """A number of a Struct, if it is one."""
    return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else ()


def _bytes_rows(_: str, ask: Ask) -> Parts:
    def index(columns: Columns) -> Bounds:
        # A Struct holds doubles.
        return certain(flagged(columns["present"], Present.COUNTERS) & ask(columns["bytes"].astype(np.float64)))

    return index, lambda columns: flagged(columns["present"], Present.COUNTERS), None


BYTES: Final = Reading(lambda flow, _: numbers_of(extension(flow, "bytes")), _bytes_rows)
