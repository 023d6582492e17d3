"""Stores of made-up flows, large ones fast: who, what and when by simple rules that tests can count on."""

import numpy as np

from observer.identity.endpoints import Endpoint
from observer.record import Direction, EventType, FlowType, L7Kind, L7Type, Present, Verdict, empty
from observer.store import Store

START_NS = 1_700_000_000_000_000_000
ENDS = [
    Endpoint(identity=300, namespace="shop", pod="web-1", workloads=(("web", "Deployment"),)),
    Endpoint(identity=301, namespace="shop", pod="web-2", workloads=(("web", "Deployment"),)),
    Endpoint(identity=302, namespace="data", pod="db-0", workloads=(("db", "StatefulSet"),)),
    Endpoint(identity=2, labels=("reserved:world",)),
]


def records(store, count, *, start=0, gap_ns=1_000_000):
    """Flow n is of ENDS[n % 2] and its server ENDS[2 + n % 2]; every tenth is dropped.

    The upper two of each four are replies, of n microseconds; each four are two connections.
    """
    out = empty(count)
    number = np.arange(start, start + count)
    numbers = np.array([store.endpoints.intern(end) for end in ENDS], np.uint32)
    reply = number % 4 >= 2
    client, server = numbers[number % 2], numbers[2 + number % 2]
    out["time_ns"] = START_NS + number * gap_ns
    out["source_endpoint"], out["destination_endpoint"] = (
        np.where(reply, server, client),
        np.where(reply, client, server),
    )
    one, other = number % 2, 2 + number % 2
    for name, last in (("source_ip", np.where(reply, other, one)), ("destination_ip", np.where(reply, one, other))):
        out[name][:, 10:12] = 255
        out[name][:, 12] = 10
        out[name][:, 15] = last
    out["family"], out["protocol"] = 4, 6
    out["source_port"], out["destination_port"] = np.where(reply, 8080, 40_000), np.where(reply, 40_000, 8080)
    out["type"], out["event_type"] = FlowType.L7, EventType.L7
    out["l7_kind"], out["l7_type"] = L7Kind.HTTP, np.where(reply, L7Type.RESPONSE, L7Type.REQUEST)
    out["l7_code"] = np.where(reply, np.where(number % 8 == 2, 503, 200), 0)
    out["verdict"] = np.where(number % 10 == 0, Verdict.DROPPED, Verdict.FORWARDED)
    out["direction"] = Direction.INGRESS
    out["is_reply"] = reply
    out["latency_ns"] = np.where(reply, number * 1000, 0)
    out["present"] = (
        int(Present.IS_REPLY) | int(Present.COUNTERS) | np.where(reply, int(Present.LATENCY) | int(Present.CODE), 0)
    )
    out["bytes"], out["connection"] = number, number // 4 * 2 + number % 2 + 1
    return out


def filled(count, *, capacity=4096, gap_ns=1_000_000):
    """A store with `count` flows of one node."""
    store = Store(capacity)
    store.nodes.append("node-1")
    for start in range(0, count, 65_536):
        add(store, min(65_536, count - start), gap_ns=gap_ns)
    return store


def add(store, count, *, gap_ns=1_000_000):
    """`count` more."""
    store.append(records(store, count, start=store.next, gap_ns=gap_ns), node=1)
