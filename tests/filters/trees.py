"""Random trees of the filter language, from values that the random flows have."""

from random import Random

from observer.filters.fields import FIELDS, Kind
from observer.filters.tree import And, Condition, Node, Not, Or, Pattern, Value, Word
from tests.filters.flows import TEXTS, TRACE

WORDS = [
    "cart",
    "CART",
    "10.0.0",
    "fd00",
    "shop",
    "github",
    "SYN",
    "DNS",
    "Kafka",
    "GET",
    "udp",
    "echo",
    "é",
    "",
    "200",
]
PATTERNS = ["cart", "^10[.]0", "SYN|UDP", "(?i)get", "^$", r"\d\d\dms", "a/b", ".*"]
GLOBS = ["*", "cart*", "shop/*", "*/cart-?", "?art", "10.0.0.*", "*x*", "*org"]
NUMBERS = {
    "port": ["0", "80", "443", "8080", "40000"],
    "identity": ["0", "1", "2", "300", "301", "999", "world", "host"],
    "http.status": ["200", "404", "503", "0"],
    "dns.rcode": ["0", "3", "NXDOMAIN", "200"],
    "grpc.status": ["0", "14", "UNAVAILABLE", "3"],
    "latency": ["1ns", "1ms", "20ms", "2s", "1.5us"],
    "bytes": ["0", "1", "1k", "1.5M", "64KiB"],
}
OTHERS = {
    "namespace": ["shop", "default", "none"],
    "protocol": [*TEXTS["protocol"], "grpc", "GRPC"],
    "verdict": ["FORWARDED", "dropped", "Audit"],
    "drop-reason": ["POLICY_DENIED", "policy_deny"],
    "policy": ["shop/cart-only", "cart-only", "everybody", "imported", "nobody"],
    "workload": ["cart", "Deployment/cart", "Job/", "/other"],
    "service": TEXTS["pod"],
    "cluster": TEXTS["cluster_name"],
    "node": TEXTS["node_name"],
    "node-label": TEXTS["node_labels"],
    "direction": ["ingress", "EGRESS"],
    "reply": ["true", "False"],
    "type": ["trace", "trace:to-endpoint", "drop", "l7", "1000", "0"],
    "http.status": [*TEXTS["http_status_code"], "5xx", "40X"],
    "http.header": ["X-Id:7", "x-id:", ":7", r"X-\xff:\xff"],
    "kafka.topic": ["orders", "topic", ""],
    "kafka.api": ["produce", "txnoffsetcommit", "nonsense", ""],
    "grpc.method": ["shop.Cart/Add", "/shop.Cart/Add", "Add", "", "cart"],
    "tcp-flags": ["syn", "SYN,ack", "ns"],
    "ip-version": ["v4", "6", "none"],
    "snat-ip": ["10.0.0.1", "10.0.0.0/8"],
    "interface": ["eth0"],
    "encrypted": ["true", "false"],
    "uuid": TEXTS["uuid"],
    "trace-id": ["", TRACE],
    "ip-trace-id": ["7"],
}


def pool(name: str, operator: str) -> list[str]:
    """Values for a field and an operator."""
    known, _ = FIELDS[name]
    if operator in ("~", "!~") and known.kind is Kind.NAME:
        return PATTERNS
    if operator in ("<", "<=", ">", ">="):
        return NUMBERS[known.name]
    found = OTHERS.get(known.name) or TEXTS.get(known.hubble) or NUMBERS[known.name]
    return found if known.name != "http.status" or operator in ("=", "!=", "in") else NUMBERS[known.name]


def some_test(random: Random, name: str | None = None, operator: str | None = None) -> Condition:
    """One test of one field, or of that one."""
    name = name or random.choice(list(FIELDS))
    known, _ = FIELDS[name]
    operator = operator or random.choice(known.operators)
    texts = random.choices(pool(name, operator), k=random.randint(1, 3) if operator == "in" else 1)
    values = [Value(text) for text in texts]
    if known.globs and operator in ("=", "!=", "in") and random.random() < 0.4:
        values[0] = Value(random.choice(GLOBS), glob=True)
    return Condition(name, operator, tuple(values))


def some_tree(random: Random, depth: int = 3) -> Node:
    """A tree of a few tests."""
    shape = random.choice(["test", "test", "test", "word", "not", "and", "or", "and", "or"])
    if not depth or shape == "test":
        return some_test(random)
    if shape == "word":
        return random.choice([Word(random.choice(WORDS)), Pattern(random.choice(PATTERNS))])
    if shape == "not":
        return Not(some_tree(random, depth - 1))
    parts = tuple(some_tree(random, depth - 1) for _ in range(random.randint(2, 3)))
    return And(parts) if shape == "and" else Or(parts)
