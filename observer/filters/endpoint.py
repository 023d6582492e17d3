"""Filters on one end of a flow: pod, service, label, workload, cluster, identity, FQDN.

Each is one predicate on what an endpoint says, asked of the flow's endpoint in the exact form and once per endpoint
number in the index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Literal

import numpy as np

from observer.api import flow_pb2
from observer.errors import FilterError
from observer.filters import patterns
from observer.filters.index import Bounds, Exact, Index, Mask, PerEndpoint, Term, certain, endpoint_index, one_of, upper
from observer.filters.labels import parse_selector
from observer.identity.endpoints import Endpoint
from observer.store import Columns

Side = Literal["source", "destination"]
SIDES: Final[tuple[Side, Side]] = ("source", "destination")
DEFAULT_NAMESPACE: Final = "default"


def terms(wanted: flow_pb2.FlowFilter) -> Iterator[Term]:
    """The terms of this family that the filter asks for."""
    for side in SIDES:
        if identities := getattr(wanted, f"{side}_identity"):
            yield _identity(side, frozenset(identities))
        if pods := getattr(wanted, f"{side}_pod"):
            yield _pod(side, _namespaced(pods))
        if workloads := getattr(wanted, f"{side}_workload"):
            yield _workload(side, [(workload.name, workload.kind) for workload in workloads])
        if clusters := getattr(wanted, f"{side}_cluster_name"):
            yield _cluster(side, frozenset(clusters))
        if services := getattr(wanted, f"{side}_service"):
            yield _service(side, services)
        if labels := getattr(wanted, f"{side}_label"):
            yield _label(side, selectors(labels, side))
        if names := getattr(wanted, f"{side}_fqdn"):
            yield _fqdn(side, patterns.fqdn(names))


def selectors(texts: Iterable[str], side: str) -> Callable[[Sequence[str]], bool]:
    """Compile label selectors to one OR of them."""
    try:
        compiled = [parse_selector(text) for text in texts]
    except FilterError as error:
        raise FilterError(f"invalid {side} label filter: {error}") from None
    return lambda labels: any(selector(labels) for selector in compiled)


def _told_by_endpoint(exact: Exact, index: Index) -> Term:
    """A term that imported rows answer too: their endpoints are in the table as their flows told them."""
    return Term(exact, index, upper(index))


def _identity(side: Side, identities: frozenset[int]) -> Term:
    """The record's own identity, else its endpoint's; with neither there is no endpoint, and not even 0 matches."""

    def exact(flow: flow_pb2.Flow) -> bool:
        return flow.HasField(side) and getattr(flow, side).identity in identities

    numbers = f"{side}_endpoint"
    of_endpoint = PerEndpoint(numbers, lambda endpoint: endpoint.identity, np.uint32)

    def index(columns: Columns) -> Bounds:
        own = columns[f"{side}_identity"]
        told = own != 0
        mask = one_of(np.where(told, own, of_endpoint(columns)), sorted(identities))
        return certain(mask & (told | (columns[numbers] != 0)))

    def imported(columns: Columns) -> Mask:
        own = columns[f"{side}_identity"]  # 0 also where the endpoint is there and says nothing
        return one_of(own, sorted(identities))

    return Term(exact, index, imported)


def _namespaced(texts: Iterable[str]) -> Callable[[str, str], bool]:
    """Compile "namespace/prefix" filters: an exact namespace and the beginning of a name; either half may be empty."""
    wanted: list[tuple[str, str]] = []
    for text in texts:
        if not text:
            raise FilterError('invalid filter, must be [namespace/][<name>], got ""')
        namespace, slash, rest = text.partition("/")
        wanted.append((namespace, rest.partition("/")[0]) if slash else (DEFAULT_NAMESPACE, text))

    def matches(namespace: str, name: str) -> bool:
        if not namespace and not name:
            return False
        return any(want in ("", namespace) and name.startswith(prefix) for want, prefix in wanted)

    return matches


def _pod(side: Side, matches: Callable[[str, str], bool]) -> Term:
    def exact(flow: flow_pb2.Flow) -> bool:
        endpoint = getattr(flow, side)
        return matches(endpoint.namespace, endpoint.pod_name)

    return _told_by_endpoint(
        exact, endpoint_index(f"{side}_endpoint", lambda endpoint: matches(endpoint.namespace, endpoint.pod))
    )


def _service(side: Side, texts: Iterable[str]) -> Term:
    try:
        matches = _namespaced(texts)
    except FilterError as error:
        raise FilterError(f"invalid {side} service filter: {error}") from None

    def exact(flow: flow_pb2.Flow) -> bool:
        service = getattr(flow, f"{side}_service")
        return matches(service.namespace, service.name)

    def of_endpoint(endpoint: Endpoint) -> bool:
        return endpoint.service is not None and matches(*endpoint.service)

    return Term(exact, endpoint_index(f"{side}_endpoint", of_endpoint))


def _workload(side: Side, wanted: Sequence[tuple[str, str]]) -> Term:
    def matches(name: str, kind: str) -> bool:
        return any(want_name in ("", name) and want_kind in ("", kind) for want_name, want_kind in wanted)

    return _told_by_endpoint(
        lambda flow: any(matches(workload.name, workload.kind) for workload in getattr(flow, side).workloads),
        endpoint_index(f"{side}_endpoint", lambda endpoint: any(matches(*workload) for workload in endpoint.workloads)),
    )


def _cluster(side: Side, names: frozenset[str]) -> Term:
    if "" in names:
        raise FilterError("invalid filter, name must not be empty")
    return _told_by_endpoint(
        lambda flow: getattr(flow, side).cluster_name in names,
        endpoint_index(f"{side}_endpoint", lambda endpoint: endpoint.cluster in names),
    )


def _label(side: Side, matches: Callable[[Sequence[str]], bool]) -> Term:
    return _told_by_endpoint(
        lambda flow: matches(getattr(flow, side).labels),
        endpoint_index(f"{side}_endpoint", lambda endpoint: matches(endpoint.labels)),
    )


def _fqdn(side: Side, matches: Callable[[str], bool]) -> Term:
    """By the names that a flow carries: those of its own (from DNS answers seen), else of its endpoint."""
    of_endpoint = PerEndpoint(
        f"{side}_endpoint", lambda endpoint: any(matches(name) for name in endpoint.names), np.bool_
    )

    def index(columns: Columns) -> Bounds:
        mask = of_endpoint(columns)
        for row, extra in enumerate(columns.extras.tolist()):
            names = () if extra is None else getattr(extra, f"{side}_names")
            if names:
                mask[row] = any(matches(name) for name in names)
        return certain(mask)

    return Term(lambda flow: any(matches(name) for name in getattr(flow, f"{side}_names")), index, upper(index))
