"""From the YAML of a policy document to model.py's data: strict, with Cilium's defaults filled in.

CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy of cilium.io/v2 enter. What Cilium's API refuses is refused
(pkg/policy/api, pkg/k8s/apis/cilium.io/utils); a field that is known but not read yet by its name, an unknown one by
its path: a verdict from half a policy would be a wrong one.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from observer.identity.endpoints import MAPPED
from observer.identity.file import NAMESPACE_LABEL, NAMESPACE_LABELS_PREFIX
from observer.policy.model import Cidr, CidrRule, DirectionRule, Peers, Policy, PolicyRef, Rule
from observer.policy.parse_ports import icmp_types, port_rules
from observer.policy.selector import ANY_SOURCE, EXISTS, IN, OPERATORS, Requirement, Selector, split_key
from observer.yamlfile import Value

NAMESPACED: Final = "CiliumNetworkPolicy"
CLUSTERWIDE: Final = "CiliumClusterwideNetworkPolicy"
KINDS: Final = (NAMESPACED, CLUSTERWIDE)

ENTITIES: Final = (
    "all",
    "cluster",
    "health",
    "host",
    "ingress",
    "init",
    "kube-apiserver",
    "none",
    "remote-node",
    "unmanaged",
    "world",
    "world-ipv4",
    "world-ipv6",
)

_METADATA: Final = (
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
)
_SECTIONS: Final = ("ingress", "ingressDeny", "egress", "egressDeny")


@dataclass(frozen=True, slots=True)
class _Way:
    """How the fields of one direction are called."""

    peers: tuple[str, str, str, str]  # endpoints, CIDRs, CIDR sets, entities
    later: tuple[str, ...]


_INGRESS: Final = _Way(
    ("fromEndpoints", "fromCIDR", "fromCIDRSet", "fromEntities"),
    ("fromGroups", "fromNodes", "fromRequires", "authentication"),
)
_EGRESS: Final = _Way(
    ("toEndpoints", "toCIDR", "toCIDRSet", "toEntities"),
    ("toFQDNs", "toGroups", "toNodes", "toRequires", "toServices", "authentication"),
)


def parse_policy(document: Value) -> tuple[Policy, list[str]]:
    """The policy of a document of one of the two kinds, and warnings about it."""
    fields = document.fields(("apiVersion", "kind", "metadata", "spec", "specs", "status"))
    kind = fields["kind"].string()
    if "apiVersion" not in fields:
        raise document.error("apiVersion is missing; write apiVersion: cilium.io/v2")
    if fields["apiVersion"].string() != "cilium.io/v2":
        raise fields["apiVersion"].error(
            f"{kind} of version {fields['apiVersion'].shown} is not read; write cilium.io/v2"
        )
    if "metadata" not in fields:
        raise document.error("metadata is missing; write metadata: {name: ...}")
    metadata = fields["metadata"].fields(_METADATA)
    if "name" not in metadata:
        raise fields["metadata"].error("name is missing; a policy needs one")
    namespace = metadata["namespace"].name() if "namespace" in metadata and not metadata["namespace"].empty else ""
    if kind == CLUSTERWIDE and namespace:
        raise metadata["namespace"].error(f"a {CLUSTERWIDE} has no namespace; take it out, or write {NAMESPACED}")
    if kind == NAMESPACED:
        namespace = namespace or "default"
    name = metadata["name"].name()
    specs = [fields["spec"]] if "spec" in fields else []
    if "specs" in fields:
        specs += fields["specs"].items()
    if not specs:
        raise document.error("spec is missing; a policy needs a spec, or specs")
    warnings: list[str] = []
    rules = tuple(_Spec(name, namespace, warnings).rule(spec) for spec in specs)
    uid = metadata["uid"].string() if "uid" in metadata else ""
    ref = PolicyRef(name=name, namespace=namespace, kind=kind, labels=_policy_labels(kind, namespace, name, uid))
    return Policy(ref, document.place, rules), warnings


def _policy_labels(kind: str, namespace: str, name: str, uid: str) -> tuple[str, ...]:
    """The labels that Cilium gives the rules of a document, and Hubble tells."""
    prefix = "k8s:io.cilium.k8s.policy."
    labels = [f"{prefix}derived-from={kind}", f"{prefix}name={name}"]
    if namespace:
        labels.append(f"{prefix}namespace={namespace}")
    if uid:
        labels.append(f"{prefix}uid={uid}")
    return tuple(labels)


@dataclass(slots=True)
class _Spec:
    """Reads the specs of one document."""

    name: str
    namespace: str  # "" where clusterwide
    warnings: list[str]

    def rule(self, spec: Value) -> Rule:
        known = (*_SECTIONS, "endpointSelector", "enableDefaultDeny", "description", "labels", "log")
        fields = spec.fields(known, ("nodeSelector",))
        if "endpointSelector" not in fields:
            raise spec.error("endpointSelector is missing; write endpointSelector: {} for every pod")
        own = _selector(fields["endpointSelector"])
        sections = {name: fields[name].items() for name in _SECTIONS if name in fields}
        if not any(sections.values()):
            raise spec.error(
                "a rule needs at least one of ingress, ingressDeny, egress, egressDeny that is not empty; "
                "for default deny write ingress: [{}]"
            )
        ingress = [self.direction(_INGRESS, entry, False) for entry in sections.get("ingress", ())]
        ingress += [self.direction(_INGRESS, entry, True) for entry in sections.get("ingressDeny", ())]
        egress = [self.direction(_EGRESS, entry, False) for entry in sections.get("egress", ())]
        egress += [self.direction(_EGRESS, entry, True) for entry in sections.get("egressDeny", ())]
        switches = fields["enableDefaultDeny"].fields(("ingress", "egress")) if "enableDefaultDeny" in fields else {}
        on = {name: value.truth() for name, value in switches.items()}
        return Rule(
            place=spec.place,
            subject=self.subject(fields["endpointSelector"], own),
            own=_without_namespace(own) if self.namespace else own,
            ingress=tuple(ingress),
            egress=tuple(egress),
            default_deny_ingress=bool(ingress) and on.get("ingress", True),
            default_deny_egress=bool(egress) and on.get("egress", True),
        )

    def subject(self, value: Value, own: Selector) -> Selector:
        """Pods of the policy's namespace; of a clusterwide policy, whatever has a namespace."""
        if not self.namespace:
            return Selector((*own.requirements, Requirement("k8s", NAMESPACE_LABEL, EXISTS)))
        for requirement in own.requirements:
            foreign = requirement.operator == IN and requirement.values != {self.namespace}
            if _is_namespace(requirement) and requirement.source == "k8s" and foreign:
                self.warnings.append(
                    f"{value.place}: policy {self.namespace}/{self.name}: the namespace in endpointSelector is "
                    f"replaced by the policy's own, {self.namespace}; it selects pods of no other"
                )
        kept = _without_namespace(own).requirements
        return Selector((*kept, Requirement("k8s", NAMESPACE_LABEL, IN, frozenset((self.namespace,)))))

    def direction(self, way: _Way, entry: Value, deny: bool) -> DirectionRule:
        known = (*way.peers, "toPorts", "icmps")
        later = tuple(name for name in way.later if not (deny and name == "authentication"))
        fields = entry.fields(known, later)
        kinds = [name for name in way.peers if name in fields and fields[name].items()]
        if len(kinds) > 1:
            raise fields[kinds[1]].error(f"{kinds[0]} and {kinds[1]} cannot be combined in one rule; write two rules")
        present = [name for name in way.peers if name in fields]
        ports = fields.get("toPorts")
        icmps = fields.get("icmps")
        if ports is not None and not ports.items():
            ports = None
        if icmps is not None and not icmps.items():
            icmps = None
        if ports is not None and icmps is not None:
            raise icmps.error("icmps and toPorts cannot be combined in one rule; write two rules")
        return DirectionRule(
            place=entry.place,
            peers=self.peers(way, fields[(kinds or present)[0]], (kinds or present)[0]) if present else None,
            ports=None if ports is None else port_rules(ports, deny=deny),
            icmps=None if icmps is None else icmp_types(icmps),
            deny=deny,
            nothing=not present and ports is None and icmps is None,
        )

    def peers(self, way: _Way, value: Value, name: str) -> Peers:
        """The peers of one field; of an empty list nobody."""
        endpoints, cidrs, cidr_sets, entities = way.peers
        if name == endpoints:
            return Peers(selectors=tuple(self.peer_selector(item) for item in value.items()))
        if name == cidrs:
            return Peers(cidrs=tuple(CidrRule(_cidr(item, bare=True)) for item in value.items()))
        if name == cidr_sets:
            return Peers(cidrs=tuple(_cidr_rule(item) for item in value.items()))
        assert name == entities
        for item in value.items():
            if item.string() not in ENTITIES:
                raise item.error(f"unknown entity {item.shown}; one of {', '.join(ENTITIES)}")
        return Peers(entities=frozenset(item.string() for item in value.items()))

    def peer_selector(self, value: Value) -> Selector:
        """A selector of peers, held to the policy's namespace unless it says something of namespaces itself."""
        selector = _selector(value)
        requirements = selector.requirements
        if any(requirement.source == "reserved" for requirement in requirements):
            return selector
        if any(_is_namespace(requirement) for requirement in requirements):
            return selector
        if not self.namespace:
            return Selector((*requirements, Requirement("k8s", NAMESPACE_LABEL, EXISTS)))
        if any(
            requirement.source in ("k8s", ANY_SOURCE) and requirement.key.startswith(NAMESPACE_LABELS_PREFIX)
            for requirement in requirements
        ):
            return selector
        return Selector((*requirements, Requirement("k8s", NAMESPACE_LABEL, IN, frozenset((self.namespace,)))))


def _is_namespace(requirement: Requirement) -> bool:
    return requirement.key == NAMESPACE_LABEL and requirement.source in ("k8s", ANY_SOURCE)


def _without_namespace(selector: Selector) -> Selector:
    """The selector without what the policy's own namespace replaces: k8s: and a namespace to be in."""
    return Selector(
        tuple(
            requirement
            for requirement in selector.requirements
            if not (_is_namespace(requirement) and requirement.source == "k8s" and requirement.operator == IN)
        )
    )


def _selector(value: Value) -> Selector:
    fields = value.fields(("matchLabels", "matchExpressions"))
    requirements: list[Requirement] = []
    if "matchLabels" in fields:
        for key, label in fields["matchLabels"].mapping().items():
            text = "" if label.data is None else label.string()
            requirements.append(Requirement(*_key(label, key), IN, frozenset((text,))))
    if "matchExpressions" in fields:
        requirements += [_expression(item) for item in fields["matchExpressions"].items()]
    return Selector(tuple(requirements))


def _expression(value: Value) -> Requirement:
    fields = value.fields(("key", "operator", "values"))
    for name in ("key", "operator"):
        if name not in fields:
            raise value.error(f"{name} is missing; as in {{key: app, operator: In, values: [web]}}")
    operator = fields["operator"].string()
    if operator not in OPERATORS:
        raise fields["operator"].error(f"unknown operator {fields['operator'].shown}; one of {', '.join(OPERATORS)}")
    values = [item.string() for item in fields["values"].items()] if "values" in fields else []
    if operator in ("In", "NotIn") and not values:
        raise value.error(f"operator {operator} needs values; or use Exists, DoesNotExist")
    if operator in ("Exists", "DoesNotExist") and values:
        raise fields["values"].error(f"operator {operator} takes no values; take them out, or use In")
    return Requirement(*_key(fields["key"], fields["key"].name()), operator, frozenset(values))


def _key(value: Value, key: str) -> tuple[str, str]:
    source, name = split_key(key)
    if not name or key.startswith(":"):
        raise value.error("must be a label key, as in app or k8s:app")
    return source, name


def _cidr_rule(value: Value) -> CidrRule:
    fields = value.fields(("cidr", "except"), ("cidrGroupRef", "cidrGroupSelector"))
    if "cidr" not in fields:
        raise value.error("cidr is missing; as in cidr: 192.0.2.0/24")
    cidr = _cidr(fields["cidr"], bare=False)
    excepted = []
    for item in fields["except"].items() if "except" in fields else ():
        part = _cidr(item, bare=False)
        if part.length < cidr.length or not cidr.contains(part.family, part.network):
            raise item.error(f"{item.shown} does not lie inside {fields['cidr'].shown}; take out what is outside")
        excepted.append(part)
    return CidrRule(cidr, tuple(excepted))


def _cidr(value: Value, *, bare: bool) -> Cidr:
    text = value.string()
    _address, slash, length = text.partition("/")
    try:
        if not slash and not bare:
            raise ValueError
        if slash and not (length.isascii() and length.isdigit() and (length == "0" or length[0] != "0")):
            raise ValueError
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        form = "an address or CIDR" if bare else "a CIDR with its length, as in 192.0.2.0/24"
        raise value.error(f"must be {form}, not {value.shown}") from None
    if isinstance(network, ipaddress.IPv4Network):
        return Cidr(4, int.from_bytes(MAPPED + network.network_address.packed), 96 + network.prefixlen)
    if network.network_address.scope_id is not None:
        raise value.error(f"{value.shown} has a zone; take it out")
    packed = network.network_address.packed
    mapped = network.prefixlen >= 96 and packed.startswith(MAPPED)
    return Cidr(4 if mapped else 6, int.from_bytes(packed), network.prefixlen)
