"""A store of a few plain flows, and a server over it, for tests on real sockets."""

from contextlib import contextmanager

from observer.identity.endpoints import Endpoint
from observer.record import Direction, EventType, FlowType, Present, Verdict, empty
from observer.service.address import parse_address
from observer.service.answers import About, Answers
from observer.service.server import Server
from observer.store import Store

START_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000

WEB = Endpoint(identity=300, cluster="default", namespace="shop", pod="web-1", labels=("k8s:app=web",))
DB = Endpoint(identity=301, cluster="default", namespace="data", pod="db-0", labels=("k8s:app=db",))


def make_store(count=10, capacity=1024):
    """`count` flows a second apart from web to db; those with an even number are dropped."""
    store = Store(capacity)
    store.nodes.append("node-1")
    if count:
        add_flows(store, count)
    return store


def add_flows(store, count, at_ns=START_NS):
    records = empty(count)
    for number in range(count):
        row = records[number]
        row["time_ns"] = at_ns + number * SECOND_NS
        row["source_endpoint"] = store.endpoints.intern(WEB)
        row["destination_endpoint"] = store.endpoints.intern(DB)
        row["source_identity"], row["destination_identity"] = WEB.identity, DB.identity
        row["source_ip"][10:12] = 255
        row["source_ip"][12:] = [10, 0, 0, 1]
        row["destination_ip"][10:12] = 255
        row["destination_ip"][12:] = [10, 0, 0, 2]
        row["source_port"], row["destination_port"] = 40_000 + number, 5432
        row["family"], row["protocol"] = 4, 6
        row["type"], row["event_type"] = FlowType.L3_L4, EventType.TRACE
        row["verdict"] = Verdict.FORWARDED if number % 2 else Verdict.DROPPED
        row["direction"] = Direction.INGRESS
        row["tcp_flags"] = 2
        row["present"] = Present.IS_REPLY | Present.TCP_FLAGS
    store.append(records, node=1)


@contextmanager
def serving(store, address, *, node_name="node-1", **options):
    """A started, ready server; yields it and the address it got."""
    server = Server(Answers(store, About(node_name, "pcap", "asked for", "audit"), **options), node_name=node_name)
    bound = server.listen(parse_address(address))
    server.start()
    server.ready()
    try:
        yield server, str(bound)
    finally:
        server.stop()
