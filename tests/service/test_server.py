"""The server from outside: a plain gRPC client on real sockets, as any Hubble client would be."""

import os
import stat
import threading
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from observer.api import batch_pb2, observer_pb2, peer_pb2
from observer.errors import ConfigError
from observer.record import LAYOUT
from observer.service import server as module
from observer.service.address import parse_address
from observer.service.answers import About, Answers
from observer.service.server import Server
from tests.service.flows import SECOND_NS, START_NS, add_flows, make_store, serving
from tests.waiting import wait_until

PATIENCE_S = 10


@contextmanager
def channel_to(address):
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(timeout=PATIENCE_S)
        yield channel


@pytest.fixture
def store():
    return make_store(10)


@pytest.fixture(scope="module")
def channel():
    """A server whose store nobody writes to; starting one takes gRPC 0.2 s."""
    with serving(make_store(10), "127.0.0.1:0") as (_, address), channel_to(address) as channel:
        yield channel


def get_flows(channel, **request):
    call = channel.unary_stream(
        "/observer.Observer/GetFlows",
        request_serializer=observer_pb2.GetFlowsRequest.SerializeToString,
        response_deserializer=observer_pb2.GetFlowsResponse.FromString,
    )
    return call(observer_pb2.GetFlowsRequest(**request), timeout=PATIENCE_S)


def unary(channel, method, request, response):
    call = channel.unary_unary(
        method, request_serializer=type(request).SerializeToString, response_deserializer=response.FromString
    )
    return call(request, timeout=PATIENCE_S)


def ports(responses):
    return [response.flow.l4.TCP.source_port - 40_000 for response in responses]


def list_or_error(call):
    try:
        return list(call)
    except grpc.RpcError:
        return None


def make_server(store):
    return Server(Answers(store, About()), node_name="n")


@pytest.mark.parametrize(
    ("request_fields", "numbers"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"number": 3}, [7, 8, 9]),
        ({"number": 3, "first": True}, [0, 1, 2]),
        ({"number": 2**64 - 1}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"number": 2, "whitelist": [{"verdict": ["DROPPED"]}]}, [6, 8]),
        ({"blacklist": [{"verdict": ["DROPPED"]}]}, [1, 3, 5, 7, 9]),
        ({"whitelist": [{"source_port": ["40002"]}, {"source_port": ["40004"]}]}, [2, 4]),
        ({"whitelist": [{"source_pod": ["shop/web"], "source_port": ["40002"]}]}, [2]),
        ({"since": {"seconds": START_NS // SECOND_NS + 7}}, [7, 8, 9]),
        ({"until": {"seconds": START_NS // SECOND_NS + 1}}, [0, 1]),
        ({"whitelist": [{"source_pod": ["nobody"]}]}, []),
    ],
)
def test_get_flows_selects(channel, request_fields, numbers):
    assert ports(get_flows(channel, **request_fields)) == numbers


def test_a_response_carries_flow_node_and_time(channel):
    (response,) = get_flows(channel, number=1)
    assert response.node_name == response.flow.node_name == "node-1"
    assert response.time == response.flow.time
    assert response.time.ToNanoseconds() == START_NS + 9 * SECOND_NS
    assert (response.flow.source.namespace, response.flow.source.pod_name) == ("shop", "web-1")
    assert list(response.flow.destination.labels) == ["k8s:app=db"]


def test_every_answer_names_the_version_without_looking_like_one_to_compare(channel):
    call = get_flows(channel)
    versions = [value for key, value in call.initial_metadata() if key == "hubble-server-version"]
    assert versions == [module.SERVER_VERSION]
    assert versions[0].startswith("1.19.4 ")
    call.cancel()


@pytest.mark.parametrize(
    ("request_fields", "code", "details"),
    [
        ({"first": True, "follow": True}, "INVALID_ARGUMENT", "first cannot be specified with follow"),
        ({"field_mask": {"paths": ["source.nothing"]}}, "UNKNOWN", "invalid fieldmask"),
        ({"field_mask": {"paths": ["source.labels.x"]}}, "UNKNOWN", "invalid fieldmask"),
        ({"whitelist": [{"source_port": ["http"]}]}, "UNKNOWN", "http"),
        ({"whitelist": [{"source_ip": ["10.0.0.300"]}]}, "UNKNOWN", "10.0.0.300"),
        ({"blacklist": [{"http_path": ["("], "event_type": [{"type": 129}]}]}, "UNKNOWN", "("),
    ],
)
def test_wrong_requests_are_refused_with_hubbles_codes(channel, request_fields, code, details):
    with pytest.raises(grpc.RpcError) as refused:
        list(get_flows(channel, **request_fields))
    assert refused.value.code().name == code
    assert details in refused.value.details()


def test_bytes_that_are_no_request_are_refused_and_the_server_lives_on(channel, caplog):
    for method in ("/observer.Observer/GetFlows", "/batch.Batch/GetBatches", "/peer.Peer/Notify"):
        with pytest.raises(grpc.RpcError) as refused:
            list(channel.unary_stream(method)(b"\xff\xff\xff"))
        assert refused.value.code() is grpc.StatusCode.INTERNAL
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/observer.Observer/ServerStatus")(b"\x07")
    assert refused.value.code() is grpc.StatusCode.INTERNAL
    assert len(list(get_flows(channel))) == 10
    assert caplog.records == []  # gRPC logs a traceback for what a handler lets through


def test_field_mask(channel):
    (response,) = get_flows(channel, number=1, field_mask={"paths": ["source.pod_name", "verdict"]})
    assert response.flow.source.pod_name == "web-1"
    assert [field.name for field, _ in response.flow.ListFields()] == ["verdict", "source"]
    assert not response.HasField("time")
    assert response.node_name == ""


def test_field_mask_can_be_ignored(store):
    with serving(store, "127.0.0.1:0", ignore_field_mask=True) as (_, address), channel_to(address) as channel:
        (response,) = get_flows(channel, number=1, field_mask={"paths": ["verdict"]})
        assert response.flow.source.pod_name == "web-1"


def test_follow_gives_new_flows_only_and_cancel_frees_the_thread(store):
    with serving(store, "127.0.0.1:0") as (server, address), channel_to(address) as channel:
        call = get_flows(channel, follow=True)
        call.initial_metadata()  # sent once the query stands
        wait_until(lambda: server.streams == 1)
        add_flows(store, 2, START_NS + 100 * SECOND_NS)
        got = [next(call), next(call)]
        assert [response.time.ToNanoseconds() for response in got] == [
            START_NS + 100 * SECOND_NS,
            START_NS + 101 * SECOND_NS,
        ]
        call.cancel()
        wait_until(lambda: server.streams == 0)


def test_follow_with_a_number_gives_the_last_ones_first(store):
    with serving(store, "127.0.0.1:0") as (_, address), channel_to(address) as channel:
        call = get_flows(channel, follow=True, number=2)
        assert ports([next(call), next(call)]) == [8, 9]
        add_flows(store, 1)
        assert ports([next(call)]) == [0]
        call.cancel()


def test_followers_do_not_starve_unary_calls_and_one_too_many_is_told(store, monkeypatch):
    monkeypatch.setattr(module, "MAX_STREAMS", 40)
    with serving(store, "127.0.0.1:0") as (server, address), channel_to(address) as channel:
        calls = [get_flows(channel, follow=True) for _ in range(40)]
        wait_until(lambda: server.streams == 40)
        status = unary(
            channel,
            "/observer.Observer/ServerStatus",
            observer_pb2.ServerStatusRequest(),
            observer_pb2.ServerStatusResponse,
        )
        assert status.num_flows == 10
        with pytest.raises(grpc.RpcError) as refused:
            list(get_flows(channel))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in calls:
            call.cancel()
        wait_until(lambda: server.streams == 0)
        assert len(list(get_flows(channel))) == 10


def test_an_overtaken_reader_is_told_what_it_lost():
    store = make_store(0, capacity=64)
    with serving(store, "127.0.0.1:0") as (_, address), channel_to(address) as channel:
        call = get_flows(channel, follow=True)
        call.initial_metadata()
        # One append larger than the ring: whoever follows cannot have seen its beginning.
        add_flows(store, 640)
        lost = []
        flows = 0
        while flows + sum(lost) < 640:
            response = next(call)
            if response.HasField("lost_events"):
                assert response.lost_events.source == 3  # HUBBLE_RING_BUFFER
                assert response.node_name == "node-1"
                lost.append(response.lost_events.num_events_lost)
            else:
                flows += 1
        assert flows <= 64
        assert store.losses.get("store", "reader overtaken") == sum(lost)
        call.cancel()


def test_server_status(channel):
    status = unary(
        channel,
        "/observer.Observer/ServerStatus",
        observer_pb2.ServerStatusRequest(),
        observer_pb2.ServerStatusResponse,
    )
    assert (status.num_flows, status.max_flows, status.seen_flows) == (10, 1024, 10)
    assert status.version.startswith("flowscope v")
    assert 0 < status.uptime_ns < 60 * SECOND_NS
    assert status.flows_rate == 0  # the flows are years old
    assert not status.HasField("num_connected_nodes")


def test_our_own_status_tells_tier_mode_and_losses(store):
    store.losses.count("decode", "truncated IPv4 header", 3)
    with serving(store, "127.0.0.1:0") as (_, address), channel_to(address) as channel:
        status = unary(channel, "/batch.Batch/Status", batch_pb2.StatusRequest(), batch_pb2.StatusResponse)
    assert (status.node_name, status.tier, status.tier_reason, status.policy_mode) == (
        "node-1", "pcap", "asked for", "audit",
    )  # fmt: skip
    assert status.record_layout == LAYOUT
    assert [(loss.stage, loss.reason, loss.number) for loss in status.losses] == [
        ("decode", "truncated IPv4 header", 3)
    ]
    assert status.server.num_flows == 10


def test_namespaces(channel):
    answer = unary(
        channel,
        "/observer.Observer/GetNamespaces",
        observer_pb2.GetNamespacesRequest(),
        observer_pb2.GetNamespacesResponse,
    )
    assert [(entry.cluster, entry.namespace) for entry in answer.namespaces] == [
        ("default", "data"),
        ("default", "shop"),
    ]


@pytest.mark.parametrize(
    ("method", "stream"),
    [("GetNodes", False), ("GetAgentEvents", True), ("GetDebugEvents", True)],
)
def test_what_only_relay_or_an_agent_can_answer_is_unimplemented(channel, method, stream):
    call = (channel.unary_stream if stream else channel.unary_unary)(f"/observer.Observer/{method}")
    with pytest.raises(grpc.RpcError) as refused:
        list(call(b""))
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert refused.value.details() == f"{method} not implemented"


@pytest.mark.parametrize("service", ["", "observer.Observer", "hubble.server.Observer"])
def test_health(channel, service):
    stub = health_pb2_grpc.HealthStub(channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_is_not_serving_before_ready(store):
    server = Server(Answers(store, About()), node_name="n")
    bound = server.listen(parse_address("127.0.0.1:0"))
    server.start()
    try:
        with channel_to(str(bound)) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service="hubble.server.Observer")
            assert stub.Check(request).status == health_pb2.HealthCheckResponse.NOT_SERVING
            server.ready()
            assert stub.Check(request).status == health_pb2.HealthCheckResponse.SERVING
    finally:
        server.stop()


def test_peer_notify_names_this_node_and_stays_open(store):
    with serving(store, "127.0.0.1:0") as (server, address), channel_to(address) as channel:
        call = channel.unary_stream(
            "/peer.Peer/Notify",
            request_serializer=peer_pb2.NotifyRequest.SerializeToString,
            response_deserializer=peer_pb2.ChangeNotification.FromString,
        )(peer_pb2.NotifyRequest(), timeout=PATIENCE_S)
        change = next(call)
        assert (change.name, change.address, change.type) == ("node-1", address, peer_pb2.PEER_ADDED)
        assert not change.HasField("tls")
        more = threading.Thread(target=lambda: list_or_error(call), daemon=True)
        more.start()
        more.join(0.3)
        assert more.is_alive()
        call.cancel()
        more.join(PATIENCE_S)
        assert not more.is_alive()
        wait_until(lambda: server.streams == 0)


def test_unix_socket_is_its_owners_and_goes_with_the_server(store, tmp_path):
    path = tmp_path / "flows.sock"
    with serving(store, f"unix://{path}") as (_, address):
        assert address == f"unix://{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with channel_to(f"unix:{path}") as channel:
            assert len(list(get_flows(channel))) == 10
    assert not path.exists()


def test_a_socket_that_a_killed_server_left_is_taken_over(store, tmp_path):
    import socket

    path = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    with serving(store, f"unix:{path}"), channel_to(f"unix:{path}") as channel:
        assert len(list(get_flows(channel))) == 10


def test_what_is_in_the_way_of_listening_is_told(store, tmp_path):
    taken = tmp_path / "taken.sock"
    file = tmp_path / "file"
    file.write_text("mine")
    with serving(store, f"unix:{taken}"), serving(store, "127.0.0.1:0") as (_, address):
        for where, words in (
            (f"unix:{taken}", "a server is listening there already"),
            (f"unix:{file}", "no socket"),
            (f"unix:{tmp_path}/no/such.sock", "no such directory"),
            (address, "address already in use"),
            ("192.0.2.1:4245", "cannot listen on 192.0.2.1:4245"),
        ):
            with pytest.raises(ConfigError, match=words):
                make_server(store).listen(parse_address(where))
    assert file.read_text() == "mine"


def test_stop_ends_followers_at_once(store):
    with serving(store, "127.0.0.1:0") as (server, address), channel_to(address) as channel:
        call = get_flows(channel, follow=True)
        call.initial_metadata()
        server.stop()
        with pytest.raises(grpc.RpcError) as ended:
            list(call)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE  # not that its time was over


def test_umask_is_as_it_was(store, tmp_path):
    mask = os.umask(0o022)
    os.umask(mask)
    with serving(store, f"unix:{tmp_path}/s.sock"):
        now = os.umask(mask)
        os.umask(now)
        assert now == mask
