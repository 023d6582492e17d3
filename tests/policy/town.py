"""A small town to judge in: its identities, and how a case says who asks whom for what."""

import ipaddress
from dataclasses import dataclass

from observer.identity.file import load_identities
from observer.policy.engine import Decision, Engine
from observer.policy.load import load_policies
from observer.policy.model import PolicyTable

IDENTITIES = """
endpoints:
  - {pod: bank/teller, ips: [10.20.0.1, "fd20::1"], labels: {role: teller, shift: day}}
  - {pod: bank/vault, ips: [10.20.0.2, "fd20::2"], labels: {role: vault}, ports: {ledger: 7070}}
  - {pod: bank/guard, ips: [10.20.0.3, "fd20::3"], labels: {role: guard, shift: night}}
  - {pod: mail/postman, ips: [10.20.1.1, "fd20::11"], labels: {role: postman}}
  - {pod: mail/clerk, ips: [10.20.1.2, "fd20::12"], labels: {role: teller}}
  - {pod: infra/broker, ips: [10.20.2.1, "fd20::21"], labels: {role: broker}}
  - {pod: infra/watcher, ips: [10.20.2.2, "fd20::22"], labels: {"container:role": watcher}}
  - {pod: default/stray, ips: [10.20.3.1, "fd20::31"], labels: {role: stray}}
  - {entity: host, ips: [192.168.77.1]}
  - {entity: remote-node, ips: [192.168.77.2]}
  - {entity: kube-apiserver, ips: [192.168.77.3]}
namespaces: {mail: {labels: {floor: second}}, quiet: {}}
services: [{name: infra/bus, ips: [10.96.1.1]}]
"""

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132, "ICMP": 1, "ICMPV6": 58, "IGMP": 2}


@dataclass(frozen=True)
class Http:
    method: str = "GET"
    path: str | bytes = "/"
    host: str = "vault.test"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Kafka:
    key: int | str
    topics: tuple[str, ...] | None = ()
    version: int | None = 5
    client: str | None = "c1"


class Town:
    """The identities above and some policies, ready to be asked."""

    def __init__(self, folder, policies, identities=IDENTITIES):
        (folder / "identities.yaml").write_text(identities)
        (folder / "policy.yaml").write_text(policies)
        self.identities = load_identities(folder / "identities.yaml")
        self.cache = self.identities.ipcache()
        self.policies = PolicyTable()
        self.documents = load_policies([folder / "policy.yaml"])
        self.engine = Engine(self.documents, self.cache.table, self.policies, self.identities.namespaces)
        self.ips = {
            f"{endpoint.namespace}/{endpoint.pod}": [self._text(address) for address, _ in prefixes]
            for endpoint, prefixes in self.identities.claims
            if endpoint.pod
        }

    @staticmethod
    def _text(address):
        ip = ipaddress.ip_address(address)
        return str(ip.ipv4_mapped or ip)

    def _address(self, who, family):
        text = next(ip for ip in self.ips[who] if (":" in ip) == (family == 6)) if who in self.ips else who
        ip = ipaddress.ip_address(text)
        return ip.packed if ip.version == 6 else bytes(10) + b"\xff\xff" + ip.packed

    def packet(self, source, destination, what) -> tuple[bytes, bytes, int, int, int]:
        """Addresses, protocol, port or ICMP type, family; `what` is TCP/80, ICMP/8, TCP6/80."""
        protocol, _, number = what.partition("/")
        six = ":" in source or ":" in destination or protocol.endswith("6")
        protocol = protocol if protocol == "ICMPV6" else protocol.removesuffix("6")
        family = 6 if six else 4
        one, other = self._address(source, family), self._address(destination, family)
        return one, other, PROTOCOLS[protocol], int(number), family

    def connection(self, one, other, protocol, number, family) -> Decision:
        """The engine's word on a packet."""
        icmp = protocol in (1, 58)
        return self.engine.connection(
            self.cache.lookup(family, one),
            self.cache.lookup(family, other),
            one,
            other,
            protocol,
            0 if icmp else number,
            number if icmp else None,
            family,
        )

    def ask(self, source, destination, what, request=None) -> Decision:
        """The engine's word on a connection, or on a request over it; see `packet`."""
        return self.request(self.connection(*self.packet(source, destination, what)), request)

    def request(self, decision, request) -> Decision:
        """The engine's word on a request over a connection."""
        if isinstance(request, Http):
            fields = list(request.headers)
            return self.engine.http(decision, request.method, request.path, request.host, lambda: fields)
        if isinstance(request, Kafka):
            return self.engine.kafka(decision, request.key, request.version, request.client, request.topics)
        return decision

    def told(self, decision) -> str:
        """A decision in one word: what happened, and by which policies in each half (egress>ingress)."""
        egress = self.policies[decision.egress_rule].name
        ingress = self.policies[decision.ingress_rule].name
        word = "pass" if decision.allowed else f"refuse {decision.direction.name}"
        return f"{word} {egress}>{ingress}"


def cnp(name, spec, namespace="bank", kind="CiliumNetworkPolicy"):
    """A policy document around the text of a spec in flow style."""
    place = f", namespace: {namespace}" if namespace else ""
    return f"---\napiVersion: cilium.io/v2\nkind: {kind}\nmetadata: {{name: {name}{place}}}\nspec: {spec}\n"


def ccnp(name, spec):
    return cnp(name, spec, namespace="", kind="CiliumClusterwideNetworkPolicy")
