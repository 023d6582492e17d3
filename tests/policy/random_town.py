"""Random identities, policies, packets and requests, for engines that have to agree."""

import ipaddress
import json
import tempfile
from pathlib import Path

from hypothesis import strategies as st

from tests.policy.town import Http, Kafka, Town

V4 = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.1", "10.1.0.0", "10.255.255.255", "11.0.0.0", "192.0.2.7", "0.0.0.0"]
V6 = [
    "fd00::1",
    "fd00::2",
    "fd00:0:0:1::",
    "2001:db8::",
    "2001:db8:ffff::1",
    "::",
    "::ffff:10.0.0.1",
    "::ffff:11.0.0.0",
]
CLAIMS = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "10.0.0.0/30",
    "10.0.1.0/24",
    "fd00::1",
    "fd00::2",
    "fd00::/64",
    "2001:db8::/33",
]
CIDRS = ["10.0.0.0/8", "10.0.0.0/30", "10.0.1.0/24", "0.0.0.0/0", "10.0.0.2/32", "11.0.0.0/32", "::/0", "fd00::/16"]
CIDRS += ["2001:db8::/32", "2001:db8::/33", "::ffff:10.0.0.0/104"]
PORTS = [0, 1, 79, 80, 81, 443, 9092, 65535]
NAMES = ["web", "bus"]

labels = st.fixed_dictionaries({}, optional={"app": st.sampled_from("abc"), "tier": st.sampled_from("xy")})
ENTITIES = ["all", "cluster", "host", "remote-node", "kube-apiserver", "world", "world-ipv4", "world-ipv6", "none"]


@st.composite
def identities(draw):
    claims = draw(st.lists(st.sampled_from(CLAIMS), unique=True, min_size=1, max_size=6))
    endpoints = []
    for number, claim in enumerate(dict.fromkeys([*CLAIMS[:2], *claims])):
        if number < 2 or draw(st.integers(0, 4)):
            ports = draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(PORTS[1:]), max_size=2))
            namespace = draw(st.sampled_from(["red", "blue"]))
            pod = {"pod": f"{namespace}/p{number}", "ips": [claim], "labels": draw(labels), "ports": ports}
            endpoints.append(pod)
        else:
            entity = draw(st.sampled_from(["host", "remote-node", "kube-apiserver", "world", "unmanaged"]))
            endpoints.append({"entity": entity, "ips": [claim]})
    return {"endpoints": endpoints}


@st.composite
def selectors(draw):
    selector = {}
    if draw(st.booleans()):
        selector["matchLabels"] = draw(labels)
    if not draw(st.integers(0, 2)):
        key = draw(st.sampled_from(["app", "tier", "io.kubernetes.pod.namespace"]))
        operator = draw(st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]))
        expression = {"key": key, "operator": operator}
        if operator in ("In", "NotIn"):
            expression["values"] = draw(
                st.lists(st.sampled_from(["a", "b", "x", "red", "blue"]), min_size=1, max_size=2)
            )
        selector["matchExpressions"] = [expression]
    return selector


@st.composite
def peers(draw, prefix):
    kind = draw(st.sampled_from(["Endpoints", "Endpoints", "CIDR", "CIDRSet", "Entities", "", ""]))
    if kind == "Endpoints":
        return {f"{prefix}Endpoints": draw(st.lists(selectors(), max_size=2))}
    if kind == "CIDR":
        return {f"{prefix}CIDR": draw(st.lists(st.sampled_from(CIDRS), max_size=3))}
    if kind == "CIDRSet":
        return {f"{prefix}CIDRSet": [draw(cidr_sets()) for _ in range(draw(st.integers(1, 2)))]}
    if kind == "Entities":
        return {f"{prefix}Entities": draw(st.lists(st.sampled_from(ENTITIES), max_size=2))}
    return {}


@st.composite
def cidr_sets(draw):
    outer = draw(st.sampled_from(CIDRS))
    network = ipaddress.ip_network(outer)
    inside = [
        cidr
        for cidr in CIDRS
        if (other := ipaddress.ip_network(cidr)).version == network.version
        and other.subnet_of(network)
        and (":" not in outer or outer.startswith("::f") == cidr.startswith("::f"))  # mapped: of the other family
    ]
    return {"cidr": outer, "except": draw(st.lists(st.sampled_from(inside), max_size=2))}


PATTERNS = ["", "/.*", "/a", "/a/[0-9]+", "(?i)/A", "[^/]*", "GET|HEAD", "GET", ".*", "host", r"h\w+(:80)?"]
http_rules = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(PATTERNS) for name in ("method", "path", "host")}
)
kafka_rules = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["produce", "consume"]),
        "apiKey": st.sampled_from(["fetch", "metadata", "apiversions", "heartbeat"]),
        "apiVersion": st.sampled_from(["0", "7", "12"]),
        "clientID": st.sampled_from(["c", "client", "cé"]),
        "topic": st.sampled_from(["t", "topic", "topic-2"]),
    },
)


@st.composite
def port_rules(draw):
    kind = draw(st.sampled_from(["l4", "http", "kafka"]))
    if kind == "l4":
        ports = []
        for _ in range(draw(st.integers(1, 3))):
            port = draw(st.sampled_from(PORTS))
            entry = {"port": str(port)}
            if port and draw(st.booleans()):
                entry["endPort"] = draw(st.sampled_from([other for other in PORTS if other >= port]))
            if not draw(st.integers(0, 3)):
                entry = {"port": draw(st.sampled_from(NAMES))}
            ports.append(entry | draw(st.sampled_from([{}, {"protocol": "TCP"}, {"protocol": "UDP"}])))
        return {"ports": ports}
    if kind == "http":
        rules = draw(st.lists(http_rules, min_size=1, max_size=3))
        return {"ports": [{"port": "80", "endPort": 81, "protocol": "TCP"}], "rules": {"http": rules}}
    rules = draw(st.lists(kafka_rules, min_size=1, max_size=3))
    return {"ports": [{"port": "9092", "protocol": "TCP"}], "rules": {"kafka": rules}}


@st.composite
def directions(draw, prefix, deny):
    rule = draw(peers(prefix))
    kind = draw(st.sampled_from(["ports", "ports", "icmp", ""]))
    if kind == "ports":
        rule["toPorts"] = draw(st.lists(port_rules(), min_size=1, max_size=2))
        if deny:
            rule["toPorts"] = [{"ports": entry["ports"]} for entry in rule["toPorts"]]
    if kind == "icmp":
        types = st.fixed_dictionaries(
            {"family": st.sampled_from(["IPv4", "IPv6"]), "type": st.sampled_from([0, 8, 128, 255])}
        )
        rule["icmps"] = [{"fields": draw(st.lists(types, min_size=1, max_size=2))}]
    return rule


@st.composite
def policies(draw):
    documents = []
    for number in range(draw(st.integers(1, 4))):
        spec = {"endpointSelector": draw(st.just({}) | selectors())}
        allows = draw(st.lists(st.sampled_from(["ingress", "egress"]), unique=True, min_size=1))
        denies = draw(st.lists(st.sampled_from(["ingressDeny", "egressDeny"]), max_size=1))
        for section in allows + denies:
            rule = directions("from" if section.startswith("in") else "to", section.endswith("Deny"))
            spec[section] = draw(st.lists(rule, min_size=1, max_size=2))
        if not draw(st.integers(0, 3)):
            spec["enableDefaultDeny"] = {"ingress": draw(st.booleans()), "egress": draw(st.booleans())}
        clusterwide = not draw(st.integers(0, 3))
        metadata = {"name": f"p{number}"}
        if not clusterwide:
            metadata["namespace"] = draw(st.sampled_from(["red", "blue"]))
        kind = "CiliumClusterwideNetworkPolicy" if clusterwide else "CiliumNetworkPolicy"
        documents.append({"apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "spec": spec})
    return documents


@st.composite
def packets(draw):
    """Addresses, protocol, port or ICMP type, family."""
    family = draw(st.sampled_from([4, 4, 6]))
    texts = V4 if family == 4 else V6
    some = st.sampled_from(texts[:2]) | st.sampled_from(texts)
    ends = [ipaddress.ip_address(draw(some)).packed.rjust(16, b"\0") for _ in range(2)]
    if family == 4:
        ends = [bytes(10) + b"\xff\xff" + end[12:] for end in ends]
    protocol = draw(st.sampled_from([6, 6, 6, 17, 132, 1, 58, 2, 50]))
    port = draw(st.sampled_from([0, 8, 128, 254, 255]) if protocol in (1, 58) else st.sampled_from([*PORTS, 82, 65534]))
    return *ends, protocol, port, family


@st.composite
def questions(draw):
    """A packet, and maybe a request over its connection, then mostly on a port that has rules for such."""
    one, other, protocol, port, family = draw(packets())
    request = draw(requests)
    if request is not None and draw(st.integers(0, 4)):
        protocol, port = 6, 80 if isinstance(request, Http) else 9092
    return (one, other, protocol, port, family), request


requests = st.none() | st.builds(
    Http,
    st.sampled_from(["GET", "HEAD", "get", ""]),
    st.sampled_from([b"/a", b"/A", b"/a/7", b"/", b"", b"http://x/a", b"http://x", b"/\xff", b"*"]),
    st.sampled_from(["host", "host:80", "x", ""]),
)
requests |= st.builds(
    Kafka,
    st.sampled_from([0, 1, 3, 8, 12, 18, 22, 40, 999]),
    st.lists(st.sampled_from(["t", "topic", "topic-2", "topic-", "?"]), max_size=3).map(tuple),
    st.sampled_from([0, 6, 7, 12]),
    st.sampled_from(["", "c", "cl", "client", "cé"]),
)


def town(identities, policies) -> Town:
    with tempfile.TemporaryDirectory() as folder:
        return Town(Path(folder), "\n---\n".join(map(json.dumps, policies)), json.dumps(identities))
