"""What a flow costs to encode: by kind and in a mixture, beside the budget and beside protobuf's own objects."""

import time

import numpy as np

from observer import record as rec
from observer.api import observer_pb2
from observer.extra import DnsAnswer, Extra
from observer.identity.endpoints import Endpoint
from observer.jsonpb import to_json
from observer.record import L7Kind, L7Type, Present
from observer.wire import FlowEncoder
from tests.wire_oracle import Tables, assemble, make_record

FLOWS = 20_000
PEER_FLOWS = 2000
BATCH = 512
BUDGET_US = 4.0
PODS = 60
RUNS = 5
HEAD = b"Host: api.shop\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n"
ANSWER = (
    b"Server: nginx\r\nDate: Mon, 01 Jan 2024 00:%02d:%02d GMT\r\nContent-Type: text/html\r\nContent-Length: %d\r\n"
)


def source() -> Tables:
    out = Tables()
    for number in range(PODS):
        name = f"app-{number}"
        labels = (f"k8s:app={name}", "k8s:io.kubernetes.pod.namespace=shop", "k8s:team=payments")
        out.endpoints.intern(Endpoint(256 + number, "default", "shop", f"{name}-6d5f", labels, ((name, "Deployment"),)))
    return out


def flows(kind: str) -> tuple[rec.Records, list[Extra | None]]:
    """FLOWS records of a kind; six flows a connection, as conntrack tells them."""
    rng = np.random.default_rng(1)
    columns = {
        "family": 4,
        "protocol": 17 if kind == "dns" else 6,
        "type": 1,
        "event_type": 4,
        "verdict": 1,
        "direction": 1,
        "trace_reason": 2,
    }
    present = Present.IS_REPLY | Present.MAC | Present.TCP_FLAGS | Present.COUNTERS
    texts: tuple[bytes, ...] = ()
    if kind in ("http", "http with headers"):
        columns |= {"type": 2, "event_type": 129, "l7_kind": L7Kind.HTTP, "l7_method": 1, "l7_version": 11}
        present = Present.IS_REPLY | Present.MAC | Present.METHOD | Present.CODE | Present.LATENCY
        texts = (b"/api/v2/orders/12345", b"api.shop")
    elif kind == "dns":
        columns |= {"type": 2, "event_type": 129, "l7_kind": L7Kind.DNS, "l7_method": 1}
        present = Present.IS_REPLY | Present.MAC | Present.METHOD | Present.CODE | Present.LATENCY | Present.L7_ID
        texts = (b"api.shop.svc.cluster.local.",)
    out = np.repeat(make_record(texts, present=int(present), **columns), FLOWS)
    connection = np.arange(FLOWS) // 6
    out["time_ns"] = 1_700_000_000_000_000_000 + np.arange(FLOWS) * 137_129
    out["source_endpoint"] = 1 + connection * 7 % PODS
    out["destination_endpoint"] = 1 + connection * 3 % PODS
    out["source_ip"][:, 10:] = [255, 255, 10, 0, 1, 0]
    out["source_ip"][:, 15] = connection * 7 % PODS
    out["destination_ip"][:, 10:] = [255, 255, 10, 0, 2, 0]
    out["destination_ip"][:, 15] = connection * 3 % PODS
    out["source_port"] = 32768 + connection % 28000
    out["destination_port"] = 80
    out["tcp_flags"] = rng.choice([2, 18, 16, 24, 17], FLOWS)
    out["is_reply"] = np.arange(FLOWS) % 2
    out["bytes"] = rng.integers(60, 10**6, FLOWS)
    out["packets"] = rng.integers(1, 100, FLOWS)
    extras: list[Extra | None] = [None] * FLOWS
    if columns["type"] == 2:
        out["l7_type"] = np.where(out["is_reply"], L7Type.RESPONSE, L7Type.REQUEST)
        out["l7_code"] = np.where(out["is_reply"], 200 if kind != "dns" else 0, 0)
        out["latency_ns"] = np.where(out["is_reply"], rng.integers(10**5, 10**9, FLOWS), 0)
        out["l7_id"] = rng.integers(0, 65536, FLOWS) if kind == "dns" else 0
    if kind == "http with headers":
        extras = [Extra(head=ANSWER % (i // 6000, i // 100 % 60, i % 977) if i % 2 else HEAD) for i in range(FLOWS)]
    elif kind == "dns":
        said = DnsAnswer(("10.0.2.1",), (), 30, ("A",), ("A",))
        extras = [Extra(dns=said if i % 2 else DnsAnswer(qtypes=("A",))) for i in range(FLOWS)]
    return out, extras


def best_us(work, count: int = FLOWS) -> float:
    """Microseconds a flow: the best of some runs (others share the machine), each from cold caches."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times) / count * 1e6


def in_batches(tables: Tables, records: rec.Records, extras: list[Extra | None], responses: bool = False) -> None:
    encoder = FlowEncoder(tables)
    encode = encoder.responses if responses else encoder.encode_many
    for at in range(0, FLOWS, BATCH):
        rows = records[at : at + BATCH]
        encode(rows, extras[at : at + BATCH], range(at, at + len(rows)), [0] * len(rows))


def main() -> None:
    tables = source()
    kinds = {kind: flows(kind) for kind in ("l3/l4", "http", "http with headers", "dns")}
    rng = np.random.default_rng(2)
    chosen = rng.choice(len(kinds), FLOWS, p=[0.5, 0.2, 0.2, 0.1])
    mixed = np.array([list(kinds.values())[kind][0][i] for i, kind in enumerate(chosen)], rec.RECORD)
    kinds["mixture"] = mixed, [list(kinds.values())[kind][1][i] for i, kind in enumerate(chosen)]
    for kind, (records, extras) in kinds.items():
        ours = best_us(lambda records=records, extras=extras: in_batches(tables, records, extras))
        peer = best_us(
            lambda records=records, extras=extras: [
                assemble(records, extras[i], i, 0, tables, i)[0].SerializeToString() for i in range(PEER_FLOWS)
            ],
            PEER_FLOWS,
        )
        print(
            f"encode {kind:18} {ours:6.2f} us a flow  (budget {BUDGET_US:.0f})  protobuf objects {peer / ours:5.1f} x"
        )
    records, extras = kinds["mixture"]
    ours = best_us(lambda: in_batches(tables, records, extras, responses=True))
    print(f"GetFlowsResponse mixture  {ours:6.2f} us a flow")
    encoder = FlowEncoder(tables)
    sent = [
        observer_pb2.GetFlowsResponse.FromString(raw)
        for raw in encoder.responses(records[:5000], extras[:5000], range(5000), [0] * 5000)
    ]
    print(f"json mixture              {best_us(lambda: [to_json(each) for each in sent], 5000):6.2f} us a flow")


if __name__ == "__main__":
    main()
