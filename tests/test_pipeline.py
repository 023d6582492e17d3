import random
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from observer import conntrack, pipeline
from observer.decode import Decoder
from observer.errors import CaptureError
from observer.extra import header_fields
from observer.identity.endpoints import Endpoint, EndpointTable, IpCache
from observer.pipeline import Pipeline, replay, replay_batches
from observer.policy.engine import Engine
from observer.policy.load import load_policies
from observer.record import (
    Direction,
    EventType,
    Flags,
    FlowType,
    HttpMethod,
    L7Type,
    Present,
    TraceReason,
    Verdict,
    unpack_text,
)
from observer.sources.pcap import open_capture
from observer.store import Store
from observer.tag import PolicyMode
from tests.packets import SECOND, START, Packet, address, batch, connection, icmp, ip_packet, pcap, tcp, udp

SHOP, API, WORLD, OTHER = "10.0.0.1:40000", "10.0.0.2:80", "192.0.2.7:50000", "192.0.2.8:80"
PODS = {"10.0.0.1": ("shop", 300), "10.0.0.2": ("api", 301), "fd00::2": ("api6", 302)}
GET = b"GET /a?b=1 HTTP/1.1\r\nHost: api\r\nX-Key: v\r\n\r\n"
POST = b"POST /charge HTTP/1.1\r\nHost: api\r\nContent-Length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
QUERY = bytes.fromhex("1234010000010000000000000161027879000001 0001".replace(" ", ""))
ANSWER = bytes.fromhex("12348180000100010000000001610278790000010001" + "c00c000100010000003c00040a000002")

ONLY_GET = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: only-get, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: shop}}]
    toPorts:
    - ports: [{port: "80", protocol: TCP}]
      rules: {http: [{method: GET, headers: ["X-Key v"]}]}
"""
NO_EGRESS = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: no-egress, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: shop}}
  egressDeny:
  - toEntities: [all]
"""

PCAPS = Path(__file__).parents[1] / "fixtures" / "pcaps"
L34, L7 = FlowType.L3_L4, FlowType.L7


class Observer:
    """A pipeline over a few pods, and what its store holds."""

    def __init__(self, folder=None, policy="", mode=PolicyMode.ENFORCE):
        cache = IpCache(EndpointTable())
        for ip, (app, identity) in PODS.items():
            labels = (f"k8s:app={app}", "k8s:io.kubernetes.pod.namespace=default")
            number = cache.table.intern(Endpoint(identity, "default", "default", app, labels))
            cache.add(address(ip), 128, number)
        self.store = Store(4096, endpoints=cache.table)
        engine = None
        if policy:
            (folder / "policy.yaml").write_text(policy)
            engine = Engine(load_policies([folder / "policy.yaml"]), cache.table, self.store.policies, {})
        self.pipeline = Pipeline(store=self.store, endpoints=cache, policy=engine, mode=mode, node="here")

    def see(self, *rows):
        self.pipeline.packets(batch(*rows))
        return self

    def end(self):
        self.pipeline.finish()
        return self

    @property
    def records(self):
        return self.store.take(np.arange(self.store.next))[0]

    @property
    def extras(self):
        return self.store.take(np.arange(self.store.next))[1]

    def l7(self):
        return [record for record in self.records if record["type"] == L7]

    def requests(self):
        """Method or status, target, and latency in milliseconds of each L7 flow."""
        return [
            (
                int(r["l7_code"]) or HttpMethod(int(r["l7_method"])).name,
                unpack_text(r)[0].decode(),
                int(r["latency_ns"]) // 10**6,
            )
            for r in self.l7()
        ]

    def pod(self, number):
        return self.store.endpoints[int(number)].pod or self.store.endpoints[int(number)].labels[0]

    def verdicts(self):
        """Type, verdict, event, sub type and direction of each flow."""
        return [
            (FlowType(int(r["type"])).name, Verdict(int(r["verdict"])).name, int(r["event_type"]), int(r["sub_type"]),
             Direction(int(r["direction"])).name)
            for r in self.records
        ]  # fmt: skip


def test_an_http_connection_makes_these_records():
    seen = Observer().see(*connection(SHOP, API, request=GET, response=OK))
    rows = [
        (FlowType(int(r["type"])).name, int(r["event_type"]), int(r["sub_type"]), int(r["is_reply"]),
         TraceReason(int(r["trace_reason"])).name, seen.pod(r["source_endpoint"]), int(r["source_port"]),
         (int(r["time_ns"]) - START) // 10**6)
        for r in seen.records
    ]  # fmt: skip
    assert rows == [
        ("L3_L4", 4, 0, 0, "NEW", "shop", 40000, 0),
        ("L3_L4", 4, 0, 1, "REPLY", "api", 80, 1),
        ("L7", 129, 0, 0, "UNKNOWN", "shop", 40000, 3),
        ("L7", 129, 0, 1, "UNKNOWN", "api", 80, 5),
        ("L3_L4", 4, 0, 0, "ESTABLISHED", "shop", 40000, 7),
        ("L3_L4", 4, 0, 1, "REPLY", "api", 80, 8),
    ]
    assert set(seen.records["connection"].tolist()) == {1}
    assert set(seen.records["verdict"].tolist()) == {Verdict.FORWARDED}
    assert set(seen.records["direction"].tolist()) == {Direction.INGRESS}
    assert seen.store.take(np.arange(6))[2].tolist() == [seen.store.nodes.index("here")] * 6
    assert seen.pipeline.losses.total() == 0


def test_every_field_of_an_l3_l4_record():
    [record] = Observer().see(tcp(SHOP, API, "SA", vlan=7, payload=b"", sequence=5)).records
    present = Present.IS_REPLY | Present.COUNTERS | Present.TCP_FLAGS | Present.MAC | Present.VLAN
    expected = {
        "time_ns": START, "bytes": 40, "packets": 1, "connection": 1, "present": present, "flags": 0, "vlan": 7,
        "source_identity": 300, "destination_identity": 301, "tcp_flags": 0x12, "family": 4, "protocol": 6,
        "type": L34, "event_type": EventType.TRACE, "sub_type": 0, "is_reply": 1, "drop_reason_desc": 0,
        "egress_rule": 0, "ingress_rule": 0, "latency_ns": 0, "l7_kind": 0,
    }  # fmt: skip
    assert {name: int(record[name]) for name in expected} == expected
    assert record["source_ip"].tobytes() == address("10.0.0.1")
    assert record["destination_ip"].tobytes() == address("10.0.0.2")
    assert record["source_mac"].tobytes() == b"\x02\x42\x0a\0\0\x01"
    assert record["destination_mac"].tobytes() == b"\x02\x42\x0a\0\0\x02"


def test_http_fields_of_request_and_response():
    seen = Observer().see(*connection(SHOP, API, request=GET, response=OK))
    request, response = seen.l7()
    assert unpack_text(request)[:2] == unpack_text(response)[:2] == (b"/a?b=1", b"api")
    assert (request["l7_type"], request["l7_method"], request["l7_version"]) == (L7Type.REQUEST, HttpMethod.GET, 11)
    assert (response["l7_type"], response["l7_method"], response["l7_code"]) == (L7Type.RESPONSE, HttpMethod.GET, 200)
    assert request["present"] & (Present.CODE | Present.LATENCY) == 0
    assert response["present"] & (Present.CODE | Present.LATENCY) == Present.CODE | Present.LATENCY
    assert response["latency_ns"] == 2_000_000
    assert request["flags"] & Flags.EXTRA
    assert header_fields(seen.extras[2].head) == [("Host", "api"), ("X-Key", "v")]
    assert [extra is None for extra in seen.extras] == [True, True, False, False, True, True]


def test_texts_that_do_not_fit_are_whole_in_the_extra():
    path = b"/" + b"x" * 400
    seen = Observer().see(*connection(SHOP, API, request=b"GET %s HTTP/1.1\r\nHost: api\r\n\r\n" % path))
    [request] = seen.l7()
    assert request["flags"] & Flags.TEXT_CUT
    assert seen.extras[2].texts[:2] == (path, b"api")


def test_dns_over_udp():
    seen = Observer().see(udp(SHOP, "10.0.0.2:53", QUERY), udp("10.0.0.2:53", SHOP, ANSWER, at=0.25))
    told = [(int(r["type"]), int(r["is_reply"]), int(r["l7_type"])) for r in seen.records]
    assert told == [(L34, 0, 0), (L7, 0, L7Type.REQUEST), (L34, 1, 0), (L7, 1, L7Type.RESPONSE)]
    request, response = seen.l7()
    assert unpack_text(request)[0].rstrip(b".") == unpack_text(response)[0].rstrip(b".") == b"a.xy"
    assert (response["latency_ns"], response["l7_id"], response["l7_method"]) == (250_000_000, 0x1234, 1)
    assert seen.extras[3].dns.ips == ("10.0.0.2",)


DIRECTIONS = [  # client, server, direction, sub types of a packet there and of one back
    (SHOP, API, Direction.INGRESS, 0, 0),
    (WORLD, API, Direction.INGRESS, 0, 3),
    (SHOP, OTHER, Direction.EGRESS, 3, 0),
    (WORLD, OTHER, Direction.UNKNOWN, 10, 10),
]


@pytest.mark.parametrize(("client", "server", "direction", "there", "back"), DIRECTIONS)
def test_direction_is_the_connections_and_the_point_is_the_packets(client, server, direction, there, back):
    records = Observer().see(tcp(client, server, "S"), tcp(server, client, "SA")).records
    assert records["direction"].tolist() == [direction] * 2
    assert records["sub_type"].tolist() == [there, back]


def test_a_request_that_policy_refuses(tmp_path):
    whole = connection(SHOP, API, request=GET, response=OK) + connection(
        "10.0.0.1:40001", API, request=POST, response=OK, at=1
    )
    seen = Observer(tmp_path, ONLY_GET).see(*whole)
    passed = [("L3_L4", "FORWARDED", 4, 0, "INGRESS")] * 2
    assert seen.verdicts() == [
        *passed, *[("L7", "FORWARDED", 129, 0, "INGRESS")] * 2, *passed,
        *passed, *[("L7", "DROPPED", 129, 0, "INGRESS")] * 2, *passed,
    ]  # fmt: skip
    assert [int(r["drop_reason_desc"]) for r in seen.l7()] == [0, 0, 133, 133]
    assert {seen.store.policies[int(r["ingress_rule"])].name for r in seen.l7()} == {"only-get"}


def test_headers_decide_too(tmp_path):
    request = GET.replace(b"X-Key: v", b"X-Key: w")
    seen = Observer(tmp_path, ONLY_GET).see(*connection(SHOP, API, request=request, response=OK))
    assert [int(r["verdict"]) for r in seen.l7()] == [Verdict.DROPPED] * 2


@pytest.mark.parametrize(
    ("client", "policy", "direction", "rule"),
    [(WORLD, ONLY_GET, "INGRESS", ""), (SHOP, NO_EGRESS, "EGRESS", "no-egress")],
)
def test_a_connection_that_policy_refuses_is_refused_in_all_its_flows(tmp_path, client, policy, direction, rule):
    seen = Observer(tmp_path, policy).see(*connection(client, API, request=GET, response=OK))
    drop = ("L3_L4", "DROPPED", 1, 133, direction)
    assert seen.verdicts() == [drop] * 2 + [("L7", "DROPPED", 129, 0, direction)] * 2 + [drop] * 2
    assert set(seen.records["drop_reason_desc"].tolist()) == {133}
    column = seen.records["egress_rule" if direction == "EGRESS" else "ingress_rule"]
    assert {seen.store.policies[number].name for number in column.tolist()} == {rule}


def test_audit_says_what_would_be_refused(tmp_path):
    seen = Observer(tmp_path, ONLY_GET, PolicyMode.AUDIT).see(*connection(WORLD, API, request=GET))
    assert set(seen.records["verdict"].tolist()) == {Verdict.AUDIT}
    assert set(seen.records["drop_reason_desc"].tolist()) == {133}


def test_an_icmp_error_shares_the_verdict_of_what_it_is_about(tmp_path):
    rows = []
    for client in (WORLD, SHOP):
        cause = tcp(client, API, "S")
        rows += [cause, icmp("10.0.0.2", cause.source, 3, code=1, payload=ip_packet(cause)[:28])]
    seen = Observer(tmp_path, ONLY_GET).see(*rows)
    verdicts = [Verdict.DROPPED, Verdict.DROPPED, Verdict.FORWARDED, Verdict.FORWARDED]
    assert seen.records["verdict"].tolist() == verdicts
    errors = seen.records[1::2]
    assert errors["trace_reason"].tolist() == [TraceReason.RELATED] * 2
    assert errors["icmp_type"].tolist() == [3, 3]
    assert errors["icmp_code"].tolist() == [1, 1]
    assert errors["source_port"].tolist() == [0, 0]
    assert all(errors["present"] & Present.ICMP)


def test_roles_guessed_in_mid_connection_are_put_right_by_what_the_bytes_say():
    client, server = "10.0.0.1:50000", "10.0.0.2:60000"
    seen = Observer().see(
        tcp(server, client, "A", sequence=9),  # nothing to go by: the first seen counts as client
        tcp(server, client, "PA", OK, sequence=9, at=1),
        tcp(client, server, "PA", GET, sequence=1, at=2),
    )
    told = [
        (int(r["type"]), seen.pod(r["source_endpoint"]), bool(r["present"] & Present.IS_REPLY) and int(r["is_reply"]))
        for r in seen.records
    ]
    assert told == [(L34, "api", False), (L7, "api", 1), (L34, "shop", 0), (L7, "shop", 0)]
    assert {int(r["direction"]) for r in seen.l7()} == {Direction.INGRESS}


def test_roles_that_nobody_knows_are_not_told():
    client, server = "10.0.0.1:50000", "10.0.0.2:60000"
    records = Observer().see(tcp(server, client, "A"), tcp(client, server, "A")).records
    assert records["is_reply"].tolist() == [0, 0]
    assert not any(records["present"] & Present.IS_REPLY)


def test_a_first_packet_with_bytes_tells_the_roles_at_once(tmp_path):
    rows = [tcp("10.0.0.2:60000", "10.0.0.1:50000", "PA", OK, sequence=9)]
    seen = Observer(tmp_path, ONLY_GET).see(*rows)
    assert seen.records["is_reply"].tolist() == [1, 1]
    assert seen.verdicts()[0] == ("L3_L4", "DROPPED", 1, 133, "INGRESS")  # shop -> api:60000


def test_a_server_that_asks_over_a_connection_it_was_given_stays_tcps_server():
    seen = Observer().see(*connection(SHOP, API, request=OK, response=GET))
    assert [(seen.pod(r["source_endpoint"]), int(r["l7_type"])) for r in seen.l7()] == [("shop", 2), ("api", 1)]
    assert [int(r["is_reply"]) for r in seen.records if r["type"] == L34] == [0, 1, 0, 1]


def test_segments_in_any_order_and_twice_give_the_same_messages():
    text = GET + POST + GET
    answers = OK * 3
    head, tail = connection(SHOP, API)[:3], connection(SHOP, API, at=9)[3:]
    random.seed(7)
    for size in (1, 7, 40):
        sides = []
        for one, two, base, data in ((SHOP, API, 1001, text), (API, SHOP, 5001, answers)):
            cuts = range(0, len(data), size)
            segments = [tcp(one, two, "PA", data[at : at + size], sequence=base + at, at=1) for at in cuts]
            segments += random.sample(segments, len(segments) // 2)
            random.shuffle(segments)
            sides += segments
        ends = [
            replace(tail[0], sequence=1001 + len(text)),
            replace(tail[1], sequence=5001 + len(answers)),
        ]
        seen = Observer().see(*head, *sides, *ends)
        methods = [int(r["l7_method"]) for r in seen.l7() if r["l7_type"] == L7Type.REQUEST]
        assert methods == [HttpMethod.GET, HttpMethod.POST, HttpMethod.GET]
        assert sorted(int(r["l7_code"]) for r in seen.l7()) == [0, 0, 0, 200, 200, 200]
        assert seen.pipeline.losses.snapshot() == {}
        assert seen.pipeline._assembly.held == 0


def lossy():
    """A connection of which the second of three requests was not captured."""
    requests = [
        tcp(SHOP, API, "PA", GET, sequence=1001 + at * len(GET), acknowledgment=5001, at=1 + at) for at in range(3)
    ]
    return [*connection(SHOP, API)[:3], requests[0], requests[2]]


def test_a_hole_that_the_receiver_acknowledged_is_passed_over_after_a_moment():
    seen = Observer().see(*lossy())
    assert len(seen.l7()) == 1
    acknowledgment = {"sequence": 5001, "acknowledgment": 1001 + 3 * len(GET)}
    early = 3 + (pipeline.HOLE_NS - 1) / SECOND
    seen.see(tcp(API, SHOP, "A", **acknowledgment, at=early))
    assert len(seen.l7()) == 1
    seen.see(tcp(API, SHOP, "A", **acknowledgment, at=early + 1e-6))
    assert len(seen.l7()) == 2
    assert seen.pipeline.losses.snapshot() == {("stream", "gap: segment not captured"): 1}
    seen.see(tcp(API, SHOP, "A", **acknowledgment, at=4))
    assert not any(half.wants_acks for each in seen.pipeline._conntrack for half in (each.client, each.server))


def test_a_hole_is_passed_over_when_the_capture_ends():
    seen = Observer().see(*lossy()).end()
    assert len(seen.l7()) == 2
    assert seen.records["time_ns"].tolist() == sorted(seen.records["time_ns"].tolist())


def test_a_hole_is_passed_over_when_the_connection_expires():
    seen = Observer().see(*lossy())
    seen.pipeline.advance(START + 4 * SECOND + conntrack.TCP_NS)
    assert len(seen.l7()) == 2
    assert len(seen.pipeline._conntrack) == 0


def test_a_hole_is_passed_over_when_the_connection_is_forgotten(monkeypatch):
    monkeypatch.setattr(conntrack, "MAX_CONNECTIONS", 1)
    seen = Observer().see(*lossy(), udp(SHOP, API, at=5))
    assert [int(kind) for kind in seen.records["type"]] == [L34, L34, L7, L7, L34]


def test_bytes_behind_the_snap_length_do_not_stop_the_reading():
    rows = connection(SHOP, API, request=GET, response=OK)
    body = tcp(API, SHOP, "PA", b"x" * 10, missing=90, sequence=5001, at=1)
    rows = [
        *rows[:3],
        body,
        *[replace(row, sequence=row.sequence + 100) if row.source == "10.0.0.2" else row for row in rows[3:]],
    ]
    seen = Observer().see(*rows)
    assert seen.requests() == [("GET", "/a?b=1", 0), (200, "/a?b=1", 2)]
    assert seen.pipeline.losses.get("stream", "gap: cut by the snap length") == 1


def test_ports_used_again_start_a_new_conversation():
    first = connection(SHOP, API, request=GET[:10])
    seen = Observer().see(*first, *connection(SHOP, API, first=9_999, request=POST, response=OK, at=1))
    assert seen.requests() == [("POST", "/charge", 0), (200, "/charge", 2)]
    assert set(seen.records["connection"].tolist()) == {1, 2}


def test_what_nobody_reads_is_let_go():
    noise = bytes(range(128, 256)) * 4
    rows = connection(SHOP, API, request=b"\x16\x03" + noise, response=b"\x16\x03" + noise)
    seen = Observer().see(*rows[:-3])
    [only] = seen.pipeline._conntrack
    assert [half.wants_payload for half in (only.client, only.server)] == [False, False]
    assert [half.stream for half in (only.client, only.server)] == [None, None]
    seen.see(*rows[-3:]).end()
    assert [int(kind) for kind in seen.records["type"]] == [L34] * 4


def test_request_in_the_syn():
    rows = [
        tcp(SHOP, API, "S", GET, sequence=7),
        tcp(API, SHOP, "SA", sequence=50, acknowledgment=8 + len(GET), at=0.1),
        tcp(API, SHOP, "PA", OK, sequence=51, acknowledgment=8 + len(GET), at=0.2),
    ]
    assert Observer().see(*rows).requests() == [("GET", "/a?b=1", 0), (200, "/a?b=1", 200)]


def test_times_that_go_back_keep_the_captures_order_and_value():
    seen = Observer().see(udp(SHOP, API, at=5), udp("10.0.0.1:40001", API, at=1))
    assert seen.records["time_ns"].tolist() == [START + 5 * SECOND, START + SECOND]


def test_an_empty_batch_is_nothing():
    assert len(Observer().see().end().store) == 0


def test_store_and_ipcache_share_one_table():
    with pytest.raises(ValueError, match="one endpoint table"):
        Pipeline(store=Store(1), endpoints=IpCache(EndpointTable()))


CHUNKS = st.sampled_from([b"", GET, POST, OK, QUERY, ANSWER, GET[:9], OK[5:], b"\0" * 9, b"\x16\x03\x01", b"\r\n"])
ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2", "192.0.2.7", "fd00::1", "fd00::2"])
PORT_NUMBERS = st.sampled_from([0, 53, 80, 40_000, 50_000])
NUMBERS = st.one_of(st.integers(0, 60), st.integers(0xFFFFFFC0, 0xFFFFFFFF))
ANYTHING = st.builds(
    Packet,
    ADDRESSES,
    ADDRESSES,
    st.sampled_from([6, 6, 6, 17, 1, 58, 132, 2, 0, 255]),
    PORT_NUMBERS,
    PORT_NUMBERS,
    st.one_of(st.sampled_from([2, 18, 16, 24, 17, 4]), st.integers(0, 511)),
    NUMBERS,
    NUMBERS,
    st.one_of(CHUNKS, st.binary(max_size=40)),
    st.sampled_from([0, 0, 0, 5, 70_000]),
    st.one_of(st.floats(0, 3), st.floats(0, 20_000)),
    st.sampled_from([0, 0, 5, 4095]),
    st.tuples(st.integers(0, 255), st.integers(0, 255), st.sampled_from([0, 7, 65_535])),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(packets=st.lists(ANYTHING, max_size=40), cut=st.integers(0, 40), bound=st.sampled_from([2, 1000]))
def test_no_packets_can_upset_it(monkeypatch, packets, cut, bound):
    monkeypatch.setattr(conntrack, "MAX_CONNECTIONS", bound)
    rows = [
        replace(row, destination=row.source) if (":" in row.source) != (":" in row.destination) else row
        for row in packets
    ]
    seen = Observer()
    for part in (rows[:cut], rows[cut:]):
        if part:
            seen.see(*part)
    assert len(seen.pipeline._conntrack) <= bound
    seen.end()
    assert seen.pipeline._assembly.held == 0
    assert len(seen.pipeline._conntrack) == 0
    told = seen.records[seen.records["type"] == L34]
    assert len(told) <= len(rows)
    assert {row.time_ns for row in rows} >= set(told["time_ns"].tolist())
    has_extra = [bool(flags & Flags.EXTRA) for flags in seen.records["flags"].tolist()]
    assert has_extra == [extra is not None for extra in seen.extras]


# -- replay


@pytest.fixture
def capture(tmp_path):
    path = tmp_path / "one.pcap"
    path.write_bytes(pcap(*connection(SHOP, API, request=GET, response=OK, step=0.02)))
    return path


def test_replay_of_a_file(capture):
    seen = Observer()
    calls = []
    replay(capture, seen.pipeline, progress=lambda done, size: calls.append((done, size)))
    assert seen.requests() == [("GET", "/a?b=1", 0), (200, "/a?b=1", 40)]
    assert seen.records["present"][0] & Present.MAC == 0  # raw IP
    assert calls[-1] == (capture.stat().st_size, capture.stat().st_size)
    assert len(seen.pipeline._conntrack) == 0


def test_batches_give_the_caller_a_turn(capture):
    seen = Observer()
    held = [seen.store.next for _ in replay_batches(capture, seen.pipeline)]
    assert held == [6, 6]


def test_replay_of_nothing_says_so(tmp_path):
    with pytest.raises(CaptureError):
        replay(tmp_path / "missing.pcap", Observer().pipeline)


def test_replay_in_real_time_gives_each_flow_when_its_time_has_come(capture):
    seen = Observer()
    held = []
    begun = time.monotonic()
    for _ in replay_batches(capture, seen.pipeline, realtime=True):
        if len(seen.store):
            # Never early: what is there has its time behind it.
            assert (int(seen.records["time_ns"][-1]) - START) / SECOND <= time.monotonic() - begun
        held.append(len(seen.store))
    assert held[-1] == 6
    assert len(set(held)) > 2


def test_replay_in_real_time_stops_at_once(tmp_path):
    path = tmp_path / "slow.pcap"
    path.write_bytes(pcap(udp(SHOP, API), udp(SHOP, API, at=3000)))
    seen = Observer()
    stop = threading.Event()
    thread = threading.Thread(target=replay, args=(path, seen.pipeline), kwargs={"realtime": True, "stop": stop})
    thread.start()
    assert seen.store.wait(0, 10)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert len(seen.store) == 1


def test_replay_that_is_stopped_before_reads_nothing(capture):
    seen = Observer()
    stop = threading.Event()
    stop.set()
    for realtime in (False, True):
        replay(capture, seen.pipeline, stop=stop, realtime=realtime)
    assert len(seen.store) == 0


@pytest.mark.parametrize("size", [5, 64])
@pytest.mark.parametrize("kind", ["http1", "http2", "grpc", "kafka", "tcp", "tls", "tunnel"])
def test_lanes_change_no_record(kind, size, monkeypatch):
    def read():
        observer = Observer()
        for path in sorted(PCAPS.glob(f"{kind}-*.pcap")):
            decoder = Decoder(observer.store.losses)
            with open_capture(path, observer.store.losses) as capture:
                for frames in capture.frames(size):
                    observer.pipeline.packets(decoder.decode(frames))
            observer.pipeline.finish()
        rows = observer.store.take(np.arange(observer.store.next))
        return rows[0].tobytes(), rows[1], observer.store.losses.snapshot()

    together = read()
    used = []
    monkeypatch.setattr(pipeline, "_lane", lambda connection, lane=pipeline._lane: used.append(lane(connection)) or 0)
    assert together == read()
    assert kind in ("kafka", "tunnel") or any(used)
