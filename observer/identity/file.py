"""identities.yaml: the pods, namespaces and services of a cluster as somebody wrote them down.

A YAML file enters, endpoints with their prefixes leave. Addresses that no entry claims stay with the reserved
identities. It refuses what it does not know, with file, line and remedy, and guesses nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

from observer.errors import ConfigError
from observer.identity.endpoints import (
    FIRST_IDENTITY,
    MAPPED,
    RESERVED_NAMES,
    Endpoint,
    EndpointTable,
    IpCache,
    ReservedIdentity,
)
from observer.yamlfile import Value, read_documents

Prefix: TypeAlias = tuple[bytes, int]
"""A 16-byte address and a length in bits; IPv4 as ::ffff:a.b.c.d, so that its /0 is 96."""

NAMESPACE_LABEL: Final = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS_PREFIX: Final = "io.cilium.k8s.namespace.labels."
IDENTITY_LIMIT: Final = (1 << 24) - 1
"""Identities of label sets are 24 bits (with the cluster's id in the upper eight)."""

_RESERVED_BY_NAME: Final = {name: identity for identity, name in RESERVED_NAMES.items() if identity}


@dataclass(frozen=True, slots=True)
class Identities:
    """What an identities file says."""

    cluster: str = "default"
    claims: tuple[tuple[Endpoint, tuple[Prefix, ...]], ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # labels by namespace
    dual_stack: bool = False  # addresses of both families are claimed

    def ipcache(self, table: EndpointTable | None = None) -> IpCache:
        """An ipcache filled with these endpoints, over a new endpoint table unless one is given."""
        cache = IpCache(EndpointTable() if table is None else table, dual_stack=self.dual_stack)
        for endpoint, prefixes in self.claims:
            number = cache.table.intern(endpoint)
            for address, length in prefixes:
                cache.add(address, length, number)
        return cache


def load_identities(path: str | Path) -> Identities:
    """Read an identities file; ConfigError `file:line: what; remedy`."""
    documents = list(read_documents(path, ConfigError))
    if not documents:
        raise ConfigError(f"{path}: holds nothing; write `endpoints:` with pods and their ips")
    if len(documents) > 1:
        raise documents[1].error("a second document; an identities file holds one")
    return _Reader(documents[0]).identities()


@dataclass(slots=True)
class _Claim:
    """An entry on its way: its endpoint gets its identity when all entries are known."""

    value: Value
    endpoint: Endpoint
    prefixes: tuple[Prefix, ...]


class _Reader:
    """Reads one file; what one entry may not say because of another is remembered here."""

    def __init__(self, document: Value) -> None:
        self.fields = document.fields(("cluster", "endpoints", "namespaces", "services"))
        self.cluster = self.fields["cluster"].name() if "cluster" in self.fields else "default"
        self.namespaces: dict[str, Mapping[str, str]] = {}
        self.claimed: dict[Prefix, str] = {}

    def identities(self) -> Identities:
        if "namespaces" in self.fields:
            for name, value in self.fields["namespaces"].mapping().items():
                labels = {} if value.data is None else value.fields(("labels",))
                self.namespaces[name] = MappingProxyType(
                    {key: label.plain() for key, label in labels["labels"].mapping().items()} if labels else {}
                )
        claims = [self.endpoint(value) for value in self.entries("endpoints")]
        self.number(claims)
        services = [self.service(value) for value in self.entries("services")]
        prefixes = [prefix for claim in [*claims, *services] for prefix in claim.prefixes]
        dual_stack = len({_family(prefix) for prefix in prefixes}) == 2
        return Identities(
            cluster=self.cluster,
            claims=tuple(
                [(claim.endpoint, claim.prefixes) for claim in claims]
                + [part for claim in services for part in _service_parts(claim, dual_stack)]
            ),
            namespaces=MappingProxyType(self.namespaces),
            dual_stack=dual_stack,
        )

    def entries(self, name: str) -> Iterable[Value]:
        return self.fields[name].items() if name in self.fields else ()

    def endpoint(self, value: Value) -> _Claim:
        fields = value.fields(("pod", "entity", "ips", "labels", "workload", "identity", "ports"))
        if "ips" not in fields:
            raise value.error("ips is missing; list the addresses, as in ips: [10.0.1.10]")
        namespace, pod = _pair(fields["pod"]) if "pod" in fields else ("", "")
        own = _labels(fields["labels"]) if "labels" in fields else ()
        reserved = _reserved(fields, own)
        labels = set(own)
        if reserved is not None:
            labels.add(f"reserved:{RESERVED_NAMES[reserved]}")
        elif pod:
            labels.add(f"k8s:{NAMESPACE_LABEL}={namespace}")
            for key, text in self.namespaces.get(namespace, {}).items():
                labels.add(f"k8s:{NAMESPACE_LABELS_PREFIX}{key}" + (f"={text}" if text else ""))
        elif not labels:
            raise value.error("says of whom the addresses are neither by pod: namespace/name, nor entity, nor labels")
        identity = 0 if reserved is None else int(reserved)
        if "identity" in fields and reserved is None:
            identity = fields["identity"].integer(FIRST_IDENTITY, IDENTITY_LIMIT)
        endpoint = Endpoint(
            identity=identity,
            cluster=self.cluster,
            namespace=namespace,
            pod=pod,
            labels=tuple(sorted(labels)),
            workloads=_workloads(fields["workload"]) if "workload" in fields else (),
            named_ports=_named_ports(fields["ports"]) if "ports" in fields else (),
        )
        return _Claim(value, endpoint, self.prefixes(fields["ips"], f"{namespace}/{pod}" if pod else "another entry"))

    def prefixes(self, value: Value, owner: str) -> tuple[Prefix, ...]:
        prefixes = []
        for item in value.items():
            prefix = _prefix(item)
            if prefix in self.claimed:
                raise item.error(f"{item.string()} is already claimed ({self.claimed[prefix]}); give it to one of them")
            self.claimed[prefix] = f"{owner}, line {item.line}"
            prefixes.append(prefix)
        return tuple(prefixes)

    def number(self, claims: list[_Claim]) -> None:
        """Give each label set one identity: the one that is written, else the next free from 256."""
        by_labels: dict[tuple[str, ...], int] = {}
        by_identity: dict[int, tuple[str, ...]] = {}
        for claim in claims:
            identity, labels = claim.endpoint.identity, claim.endpoint.labels
            if identity < FIRST_IDENTITY:
                continue
            if by_identity.setdefault(identity, labels) != labels:
                raise claim.value.error(
                    f"identity {identity} stands with other labels too; an identity is one label set"
                )
            by_labels.setdefault(labels, identity)
        free = FIRST_IDENTITY
        for claim in claims:
            labels = claim.endpoint.labels
            if claim.endpoint.identity:
                continue
            if labels not in by_labels:
                while free in by_identity:
                    free += 1
                by_identity[free] = labels
                by_labels[labels] = free
            claim.endpoint = replace(claim.endpoint, identity=by_labels[labels])

    def service(self, value: Value) -> _Claim:
        fields = value.fields(("name", "ips"))
        for name in ("name", "ips"):
            if name not in fields:
                raise value.error(f"{name} is missing; a service has name: namespace/name and ips")
        namespace, name = _pair(fields["name"])
        prefixes = self.prefixes(fields["ips"], f"service {namespace}/{name}")
        return _Claim(value, Endpoint(cluster=self.cluster, service=(namespace, name)), prefixes)


def _service_parts(claim: _Claim, dual_stack: bool) -> list[tuple[Endpoint, tuple[Prefix, ...]]]:
    """A service is no workload: its addresses are the world's to policy, but known by name; one part a family."""
    parts = []
    for family, split in ((4, ReservedIdentity.WORLD_IPV4), (6, ReservedIdentity.WORLD_IPV6)):
        prefixes = tuple(prefix for prefix in claim.prefixes if _family(prefix) == family)
        if prefixes:
            world = split if dual_stack else ReservedIdentity.WORLD
            endpoint = Endpoint(
                identity=int(world),
                cluster=claim.endpoint.cluster,
                labels=(f"reserved:{RESERVED_NAMES[world]}",),
                service=claim.endpoint.service,
            )
            parts.append((endpoint, prefixes))
    return parts


def _reserved(fields: Mapping[str, Value], labels: Iterable[str]) -> ReservedIdentity | None:
    """The reserved identity of an entry: by entity: host, by identity: 1 or by a label of source reserved."""
    if "entity" in fields:
        name = fields["entity"].string()
        if name not in _RESERVED_BY_NAME:
            raise fields["entity"].error(
                f"unknown entity {fields['entity'].shown}; one of {', '.join(_RESERVED_BY_NAME)}"
            )
        return _RESERVED_BY_NAME[name]
    if "identity" in fields:
        number = fields["identity"].integer(1, IDENTITY_LIMIT)
        if number < FIRST_IDENTITY:
            if number not in RESERVED_NAMES:
                raise fields["identity"].error(
                    f"no reserved identity is {number}; label sets count from {FIRST_IDENTITY}"
                )
            return ReservedIdentity(number)
    found: list[ReservedIdentity] = []
    for label in labels:
        source, _, key = label.partition(":")
        if source == "reserved":
            name = key.partition("=")[0]
            if name not in _RESERVED_BY_NAME:
                raise fields["labels"].error(f"unknown reserved label {name!r}; one of {', '.join(_RESERVED_BY_NAME)}")
            found.append(_RESERVED_BY_NAME[name])
    for first in (ReservedIdentity.HOST, ReservedIdentity.KUBE_APISERVER):  # a node may be several things at once
        if first in found:
            return first
    return found[0] if found else None


def _pair(value: Value) -> tuple[str, str]:
    namespace, slash, name = value.name().partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise value.error(f"must be namespace/name, not {value.shown}")
    return namespace, name


def _labels(value: Value) -> tuple[str, ...]:
    """Labels as "source:key=value", or "source:key" where there is no value."""
    labels = []
    for key, text in value.mapping().items():
        source, colon, name = key.partition(":")
        if not colon:
            source, name = "k8s", key
        if not source or not name:
            raise text.error("must be key or source:key")
        plain = text.plain()
        labels.append(f"{source}:{name}={plain}" if plain else f"{source}:{name}")
    return tuple(labels)


def _workloads(value: Value) -> tuple[tuple[str, str], ...]:
    fields = value.fields(("kind", "name"))
    if "name" not in fields:
        raise value.error("name is missing; as in workload: {kind: Deployment, name: web}")
    return ((fields["name"].name(), fields["kind"].name() if "kind" in fields else ""),)


def _named_ports(value: Value) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((name.lower(), port.integer(1, 65535)) for name, port in value.mapping().items()))


def _prefix(value: Value) -> Prefix:
    text = value.string()
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        try:
            interface = ipaddress.ip_interface(text)
        except ValueError:
            raise value.error(f"not an address or CIDR: {value.shown}") from None
        remedy = f"write {interface.network} for all of it, {interface.ip} for the address"
        raise value.error(f"{value.shown} has bits beyond its mask; {remedy}") from None
    if isinstance(network, ipaddress.IPv4Network):
        return MAPPED + network.network_address.packed, 96 + network.prefixlen
    if network.network_address.scope_id is not None:
        raise value.error(f"{value.shown} has a zone; take it out")
    return network.network_address.packed, network.prefixlen


def _family(prefix: Prefix) -> int:
    address, length = prefix
    return 4 if length >= 96 and address.startswith(MAPPED) else 6
