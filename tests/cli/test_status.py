"""The lines of `status` from given statuses; test_commands.py asks a real server."""

import json

import pytest

from observer.api import observer_pb2
from observer.cli import status as module
from observer.client import Status

RELAY = Status(
    observer_pb2.ServerStatusResponse(
        num_flows=8190,
        max_flows=8190,
        seen_flows=123_456,
        uptime_ns=3_723_400_000_000,
        num_connected_nodes={"value": 2},
        num_unavailable_nodes={"value": 3},
        unavailable_nodes=["k8s5", "k8s3"],
        version="hubble-relay v1.19.4",
        flows_rate=12.345,
    )
)
OURS = Status(
    observer_pb2.ServerStatusResponse(
        num_flows=10, max_flows=1000, seen_flows=10, uptime_ns=4_000_000_000, version="flowscope v1"
    ),
    node_name="n\x1b[31m",
    tier="packet",
    tier_reason="no CAP_BPF",
    losses=[("decode", "truncated IPv4 header", 2000), ("store", "reader overtaken", 1)],
    attached=["veth1 (tcx)", "veth2 (tcx)"],
    pressures=[("connections", 32_768, 131_072)],
)


def test_compact_of_a_relay_is_the_stock_clis():
    assert list(module._compact(RELAY)) == [
        "Current/Max Flows: 8,190/8,190 (100.00%)",
        "Flows/s: 12.35",
        "Connected Nodes: 2/5",
        "Unavailable Nodes: 3",
        "  - k8s3",
        "  - k8s5",
        "  - and 1 more...",
    ]


def test_compact_of_ours_goes_on_with_tier_mode_and_losses():
    assert list(module._compact(OURS)) == [
        "Current/Max Flows: 10/1,000 (1.00%)",
        "Flows/s: 2.50",  # since it started, as the stock CLI reckons where no rate is told
        "Node: n\x1b[31m",
        "Tier: packet (no CAP_BPF)",
        "Attached: veth1 (tcx), veth2 (tcx)",
        "Policy mode: none, no policy is loaded",
        "Table connections: 32,768/131,072 (25%)",
        "Not read or lost: 2,001",
        "  decode: truncated IPv4 header: 2,000",
        "  store: reader overtaken: 1",
    ]


def test_dict():
    assert list(module._dict(RELAY)) == [
        "          NUM FLOWS: 8,190",
        "          MAX FLOWS: 8,190",
        "         SEEN FLOWS: 123,456",
        "   FLOWS PER SECOND: 12.35",
        "             UPTIME: 1h2m3s",
        "NUM CONNECTED NODES: 2",
        " NUM UNAVAIL. NODES: 3",
        "            VERSION: hubble-relay v1.19.4",
    ]


def test_table():
    head, row = module._table(OURS)
    assert head.startswith("NUM FLOWS   MAX FLOWS   SEEN FLOWS   FLOWS PER SECOND   UPTIME   NUM CONNECTED NODES   ")
    assert row.split() == ["10", "1,000", "10", "N/A", "4s", "N/A", "N/A", "flowscope", "v1"]
    assert row.index("1,000") == head.index("MAX FLOWS")


def test_json_adds_and_takes_nothing_away():
    (line,) = module._json(OURS)
    told = json.loads(line)
    assert told["num_flows"] == "10"
    assert told["losses"][0] == {"stage": "decode", "reason": "truncated IPv4 header", "number": "2000"}
    (line,) = module._json(RELAY)
    assert set(json.loads(line)) == {field.name for field, _ in RELAY.server.ListFields()}


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "0s"),
        (400_000_000, "0s"),
        (1_500_000_000, "2s"),
        (60_000_000_000, "1m0s"),
        (3_600_000_000_000, "1h0m0s"),
        (90_000_000_000_000, "25h0m0s"),
    ],
)
def test_durations_as_go_prints_them(time_ns, text):
    assert module._duration(time_ns) == text
