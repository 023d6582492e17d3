"""Filters over a million flows, taking flows in, and the newest few: beside the budgets and beside Python objects."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from observer.api import flow_pb2, observer_pb2
from observer.extra import Extra
from observer.filters.flowfilter import compile_filters
from observer.identity.endpoints import Endpoint
from observer.query import BLOCK, Query, select
from observer.record import HttpMethod, L7Kind, L7Type, Present, Records, empty, pack_text
from observer.store import DEFAULT_CAPACITY, Store
from observer.wire import FlowEncoder

FLOWS = 1_000_000
PEER_FLOWS = 100_000
HTTP_PEER_FLOWS = 10_000
PATHS = 2_000
PODS = 500
RUNS = 5
BATCH = 4_096

Filter = flow_pb2.FlowFilter


def flows() -> Records:
    rng = np.random.default_rng(1)
    records = empty(FLOWS)
    records["time_ns"] = 1_700_000_000_000_000_000 + np.arange(FLOWS) * 100_000
    records["verdict"] = rng.choice([1, 1, 1, 1, 2], FLOWS)
    records["family"], records["type"], records["event_type"] = 4, 1, 4
    records["protocol"] = rng.choice([6, 6, 17], FLOWS)
    for side in ("source", "destination"):
        records[f"{side}_endpoint"] = rng.integers(1, PODS + 1, FLOWS)
        address = np.zeros((FLOWS, 16), np.uint8)
        address[:, 10:12], address[:, 12], address[:, 13:] = 255, 10, rng.integers(0, 255, (FLOWS, 3))
        records[f"{side}_ip"] = address
    records["destination_port"] = rng.choice([80, 443, 53, 9092], FLOWS)
    records["source_port"] = rng.integers(30_000, 60_000, FLOWS)
    return records


def pods() -> list[Endpoint]:
    return [
        Endpoint(
            256 + number,
            "default",
            f"ns{number % 10}",
            f"pod-{number}",
            (f"k8s:app=a{number % 20}", f"k8s:io.kubernetes.pod.namespace=ns{number % 10}", "k8s:team=payments"),
        )
        for number in range(PODS)
    ]


@dataclass(slots=True)
class Object:
    """What a flow of the same few fields is as a Python object: the peer."""

    verdict: int
    namespace: str
    labels: dict[str, str]
    protocol: int
    destination_port: int


def objects(records: Records, ends: list[Endpoint]) -> list[Object]:
    labels = [dict(label.removeprefix("k8s:").split("=") for label in end.labels) for end in ends]
    return [
        Object(
            int(row["verdict"]), ends[end].namespace, labels[end], int(row["protocol"]), int(row["destination_port"])
        )
        for row, end in zip(records, (records["source_endpoint"] - 1).tolist(), strict=True)
    ]


def requests(paths: int) -> Store:
    """A ring full of HTTP requests to so many paths, each with its headers; one in a hundred is to /cart."""
    store = Store(DEFAULT_CAPACITY)
    for end in pods():
        store.endpoints.intern(end)
    records = flows()[:DEFAULT_CAPACITY]
    records["protocol"], records["event_type"], records["type"] = 6, 129, 2
    records["l7_kind"], records["l7_type"], records["l7_version"] = L7Kind.HTTP, L7Type.REQUEST, 11
    records["l7_method"], records["present"] = HttpMethod.GET, Present.METHOD
    extras = []
    for row in range(DEFAULT_CAPACITY):
        path = b"/%s/%d?page=1" % (b"cart" if row % 100 == 7 else b"items", row % paths)
        records["text_length"][row], text, _ = pack_text((path, b"shop.example.org:8080"))
        records["text"][row, : len(text)] = list(text)
        head = b"Host: shop.example.org:8080\r\nAccept: */*\r\nX-Request-Id: %032x\r\n" % row
        extras.append((row, Extra(head=head)))
    store.append(records, extras)
    return store


def exactly(store: Store, wanted: flow_pb2.FlowFilter) -> int:
    """Build flows of the ring and ask each: the peer."""
    exact = compile_filters([wanted]).exact
    records, extras, nodes, sequences = store.take(np.arange(HTTP_PEER_FLOWS))
    built = FlowEncoder(store).encode_many(records, extras, sequences, nodes)
    return sum(exact(flow_pb2.Flow.FromString(flow)) for flow in built)


def best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of some runs."""
    fastest = float("inf")
    for _ in range(RUNS):
        begun = time.perf_counter()
        work()
        fastest = min(fastest, time.perf_counter() - begun)
    return fastest


def masks(store: Store, wanted: flow_pb2.FlowFilter) -> int:
    """Mask the whole ring in the reader's blocks; the count of rows that pass."""
    tree = compile_filters([wanted])
    passed = 0
    for start in range(store.first, store.next, BLOCK):
        for columns in store.columns(start, min(start + BLOCK, store.next)):
            mask, exact = tree.mask(columns)
            assert exact
            passed += int(np.count_nonzero(mask))
    return passed


def main() -> None:
    records = flows()
    store = Store(FLOWS)
    for end in pods():
        store.endpoints.intern(end)

    def fill() -> None:
        for start in range(0, FLOWS, BATCH):
            store.append(records[start : start + BATCH])

    fill()  # touches the ring's pages once
    seconds = best(fill)
    print(f"take in records: {FLOWS / seconds / 1e6:.1f} M/s (budget 1 M/s, aim 5 M/s)")

    peer = objects(records[:PEER_FLOWS], pods())
    selector = "app in (a1, a2), io.kubernetes.pod.namespace != ns3"
    cases: list[tuple[str, flow_pb2.FlowFilter, str, Callable[[Object], bool] | None]] = [
        (
            "verdict + pod + port",
            Filter(verdict=[2], source_pod=["ns1/"], destination_port=["80"]),
            "budget 10 ms, aim 3 ms",
            lambda one: (
                one.verdict == 2 and one.namespace == "ns1" and one.protocol in (6, 17) and one.destination_port == 80
            ),
        ),
        (
            "label selector",
            Filter(source_label=[selector]),
            "budget 10 ms, aim 5 ms",
            lambda one: one.labels.get("app") in ("a1", "a2") and one.labels["io.kubernetes.pod.namespace"] != "ns3",
        ),
        ("CIDR", Filter(source_ip=["10.0.0.0/9"]), "no budget", None),
        ("identity", Filter(source_identity=[300]), "no budget", None),
    ]
    for name, wanted, budget, predicate in cases:
        passed = masks(store, wanted)
        seconds = best(lambda wanted=wanted: masks(store, wanted))
        told = ""
        if predicate:
            objects_s = best(lambda predicate=predicate: [one for one in peer if predicate(one)]) * FLOWS / PEER_FLOWS
            told = f"; a list comprehension over objects {objects_s * 1e3:.0f} ms, {objects_s / seconds:.0f} x"
        print(f"{name} over {FLOWS:,} rows: {seconds * 1e3:.1f} ms ({budget}), {passed:,} pass{told}")

    def read(request: observer_pb2.GetFlowsRequest) -> int:
        return sum(len(part) for part in select(store, Query.from_request(request)))

    for name, request in (
        ("last 20", observer_pb2.GetFlowsRequest(number=20)),
        ("last 20 of one in 200", observer_pb2.GetFlowsRequest(number=20, whitelist=[cases[0][1]])),
        ("last 20 of none", observer_pb2.GetFlowsRequest(number=20, whitelist=[Filter(verdict=[4])])),
    ):
        print(f"{name}: {best(lambda request=request: read(request)) * 1e3:.2f} ms (no budget)")
    seconds = best(lambda: read(observer_pb2.GetFlowsRequest()))
    print(f"copy everything out: {FLOWS / seconds / 1e6:.1f} M flows/s (follow stream: budget 0.2 M/s, aim 1 M/s)")
    texts()


def texts() -> None:
    """Filters on what only the texts and headers of a row tell."""
    for paths in (PATHS, DEFAULT_CAPACITY):
        store = requests(paths)
        for name, wanted, first in (
            ("http_path, no match", Filter(http_path=["^/none$"]), 0),
            ("http_path, 1 in 100", Filter(http_path=["^/cart/"]), 0),
            ("http_path, first 20 of 1 in 100", Filter(http_path=["^/cart/"]), 20),
            ("http_header, 1 row", Filter(http_header=[{"key": "X-Request-Id", "value": f"{77:032x}"}]), 0),
            ("http_path, 1 in 100, of one pod in 500", Filter(http_path=["^/cart/"], source_pod=["ns7/pod-77"]), 0),
        ):
            request = observer_pb2.GetFlowsRequest(whitelist=[wanted], number=first, first=True)
            passed = sum(len(part) for part in select(store, Query.from_request(request)))
            # Compiled anew in each run: a query remembers the texts that it has judged.
            seconds = best(lambda store=store, request=request: list(select(store, Query.from_request(request))))
            peer_s = (
                best(lambda store=store, wanted=wanted: exactly(store, wanted)) * DEFAULT_CAPACITY / HTTP_PEER_FLOWS
            )
            print(
                f"{name} over {DEFAULT_CAPACITY:,} HTTP rows, {paths:,} paths: {seconds * 1e3:.1f} ms (no budget), "
                f"{passed:,} pass; building and asking every flow {peer_s * 1e3:.0f} ms, {peer_s / seconds:.0f} x"
            )


if __name__ == "__main__":
    main()
