"""A server as a source: over real sockets, ours by batches and a plain Hubble server by flows."""

import gc
import time
import weakref
from contextlib import closing

import numpy as np
import pytest

from observer.api import flow_pb2, observer_pb2
from observer.client import State, open_server
from observer.client import server as module
from observer.errors import ConfigError, FlowscopeError
from observer.store import Store
from tests.service.flows import SECOND_NS, START_NS, add_flows, make_store, serving
from tests.service.foreign import answering, without_batches
from tests.waiting import wait_until

PATIENCE_S = 10


def request(**fields):
    return observer_pb2.GetFlowsRequest(**fields)


def ports(store):
    return [port - 40_000 for port in store.hot("source_port").tolist()]


@pytest.fixture(params=["127.0.0.1:0", "unix"])
def address(request, tmp_path):
    return f"unix://{tmp_path}/s.sock" if request.param == "unix" else request.param


def test_get_flows(address):
    with serving(make_store(5), address) as (_, bound), closing(open_server(bound)) as source:
        assert source.name == bound
        flows = [response.flow.l4.TCP.source_port for response in source.get_flows(request(number=2))]
        assert flows == [40_003, 40_004]


def test_subscribe_copies_flows_with_their_endpoints(address):
    with serving(make_store(5), address) as (_, bound), closing(open_server(bound)) as source:
        store = Store(64)
        subscription = source.subscribe(store, request(number=3))
        assert subscription.wait(PATIENCE_S)
        assert (subscription.state, subscription.error) == (State.ENDED, "")
        assert ports(store) == [2, 3, 4]
        numbers = store.hot("source_endpoint").tolist()
        assert {store.endpoints[number].pod for number in numbers} == {"web-1"}
        records, _, nodes, _ = store.take(np.arange(store.first, store.next))
        assert {store.nodes[node] for node in nodes.tolist()} == {"node-1"}
        assert records["source_identity"].tolist() == [300] * 3


def test_subscription_is_loading_then_live_then_follows_and_ends_on_cancel(address):
    served = make_store(5)
    with serving(served, address) as (server, bound), closing(open_server(bound)) as source:
        store = Store(64)
        subscription = source.subscribe(
            store, request(number=100, follow=True, whitelist=[flow_pb2.FlowFilter(verdict=["DROPPED"])])
        )
        wait_until(lambda: subscription.state is State.LIVE)
        assert ports(store) == [0, 2, 4]
        add_flows(served, 2, START_NS + 60 * SECOND_NS)
        wait_until(lambda: len(store) == 4)
        subscription.cancel()
        assert subscription.state is State.ENDED
        wait_until(lambda: server.streams == 0)
        add_flows(served, 2)
        time.sleep(0.3)
        assert len(store) == 4


def test_live_comes_also_where_nothing_matches():
    nobody = [flow_pb2.FlowFilter(source_pod=["nobody/"])]
    with serving(make_store(5), "127.0.0.1:0") as (_, bound), closing(open_server(bound)) as source:
        store = Store(64)
        subscription = source.subscribe(store, request(number=100, follow=True, whitelist=nobody))
        wait_until(lambda: subscription.state is State.LIVE)
        assert len(store) == 0


def test_an_ended_subscription_lets_its_store_go():
    with serving(make_store(5), "127.0.0.1:0") as (_, bound), closing(open_server(bound)) as source:
        gone = []
        for _ in range(3):  # a TUI whose filter is changed
            store = Store(64)
            gone.append(weakref.ref(store))
            subscription = source.subscribe(store, request(number=100, follow=True))
            wait_until(lambda subscription=subscription: subscription.state is State.LIVE)
            subscription.cancel()
        store, subscription = Store(64), None
        last = source.subscribe(store, request(number=100))
        assert last.wait(PATIENCE_S)
        gc.collect()
        assert [reference() for reference in gone] == [None] * 3


def test_losses_are_told_to_the_subscription():
    served = make_store(0, capacity=64)
    with serving(served, "127.0.0.1:0") as (_, bound), closing(open_server(bound)) as source:
        store = Store(4096)
        subscription = source.subscribe(store, request(follow=True))
        wait_until(lambda: subscription.state is State.LIVE)
        add_flows(served, 640)
        wait_until(lambda: subscription.lost + len(store) == 640)
        assert subscription.lost >= 640 - 64


def test_reconnects_and_goes_on_where_it_was(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "RECONNECT_S", 0.05)
    address = f"unix://{tmp_path}/s.sock"
    store = Store(64)
    with closing(open_server(address)) as source:
        with serving(make_store(5), address):
            subscription = source.subscribe(store, request(number=100, follow=True))
            wait_until(lambda: len(store) == 5)
        wait_until(lambda: subscription.state in (State.RECONNECTING, State.ENDED))
        assert subscription.state is State.RECONNECTING
        assert "cannot reach flowscope" in subscription.error
        with serving(make_store(7), address):  # another life of the server: the same five flows and two more
            wait_until(lambda: subscription.state is State.LIVE)
            wait_until(lambda: len(store) == 7)
            assert ports(store) == [0, 1, 2, 3, 4, 5, 6]
            assert subscription.error == ""


@pytest.mark.parametrize("layout", [None, 99])
def test_a_server_without_our_batches_or_with_other_records_is_read_by_flows(layout, monkeypatch):
    served = make_store(5)
    if layout is None:
        without_batches(monkeypatch)
    else:
        monkeypatch.setattr("observer.batch.LAYOUT", layout)
        from observer.batch import BatchReader
        from observer.errors import DecodeError

        def refuse(self, response):
            raise DecodeError(f"records of layout {response.layout}")

        monkeypatch.setattr(BatchReader, "from_batch", refuse)
    with serving(served, "127.0.0.1:0") as (_, bound), closing(open_server(bound)) as source:
        store = Store(64)
        subscription = source.subscribe(store, request(number=100, follow=True))
        wait_until(lambda: len(store) == 5)
        assert subscription.state is State.LIVE
        add_flows(served, 1, START_NS + 60 * SECOND_NS)
        wait_until(lambda: len(store) == 6)
        assert ports(store) == [0, 1, 2, 3, 4, 0]
        subscription.cancel()
        assert subscription.state is State.ENDED


def test_status_of_ours_and_of_a_plain_hubble_server(monkeypatch):
    store = make_store(5)
    store.losses.count("pcap", "cut in mid-packet", 1)
    with serving(store, "127.0.0.1:0") as (_, bound), closing(open_server(bound)) as source:
        status = source.status()
        assert (status.health, status.tier, status.policy_mode) == ("SERVING", "pcap", "audit")
        assert list(status.losses) == [("pcap", "cut in mid-packet", 1)]
        assert status.server.num_flows == 5
    without_batches(monkeypatch)
    with serving(store, "127.0.0.1:0") as (_, bound), closing(open_server(bound)) as source:
        status = source.status()
        assert (status.health, status.tier, status.server.num_flows) == ("SERVING", "", 5)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", "cannot reach flowscope at 127.0.0.1:1: connection refused; start one with `flowscope serve`"),
        ("unix:///no/such.sock", "cannot reach flowscope at unix:///no/such.sock: no such file or directory;"),
        ("no-such-host.invalid:1", "cannot reach flowscope at no-such-host.invalid:1: the name is not known;"),
    ],
)
def test_what_cannot_be_reached_says_what_to_do(address, words):
    with closing(open_server(address)) as source:
        with pytest.raises(FlowscopeError) as failed:
            list(source.get_flows(request()))
        assert words in str(failed.value)
        subscription = source.subscribe(Store(8), request(follow=True))
        assert subscription.wait(PATIENCE_S)
        assert subscription.state is State.FAILED
        assert words in subscription.error


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "names no host"),
        (":4245", "0.0.0.0:4245 for every interface"),
        ("host:", "no port"),
        ("host:http", "no port"),
        ("host:65536", "no port"),
        ("::1", r"\[::1\]:4245"),
        ("unix:", "names no socket"),
        ("unix://" + "/x" * 60, "longer than 107 bytes"),
        ("tls://host:1", "no TLS yet"),
    ],
)
def test_addresses_that_are_none(address, words):
    with pytest.raises(ConfigError, match=words):
        open_server(address)


def test_server_errors_are_told_as_the_stock_cli_tells_them():
    with serving(make_store(1), "127.0.0.1:0") as (_, bound), closing(open_server(bound)) as source:
        with pytest.raises(FlowscopeError, match=r"^invalid fieldmask"):
            list(source.get_flows(request(field_mask={"paths": ["x"]})))
        with pytest.raises(
            FlowscopeError, match=r"^rpc error: code = InvalidArgument desc = first cannot be specified"
        ):
            list(source.get_flows(request(first=True, follow=True)))


def test_a_server_that_talks_nonsense_fails_the_call_and_no_more():
    with (
        answering(GetFlows=[b"\xff\xff\xff"]) as bound,
        closing(open_server(bound)) as source,
        pytest.raises(FlowscopeError),
    ):
        list(source.get_flows(request()))


def test_what_comes_faster_than_it_can_be_read_is_left_out_and_counted(monkeypatch):
    without_batches(monkeypatch)
    monkeypatch.setattr(module, "BACKLOG", 16)
    served = make_store(10, capacity=1 << 16)
    with serving(served, "127.0.0.1:0") as (_, bound), closing(open_server(bound)) as source:
        store = Store(1 << 16)
        subscription = source.subscribe(store, request(number=10, follow=True))
        wait_until(lambda: len(store) == 10)  # what it held is wanted whole, also beyond the backlog
        add_flows(served, 5_000, START_NS + 60 * SECOND_NS)
        wait_until(lambda: len(store) + subscription.skipped + subscription.lost == 5_010)
        assert subscription.skipped > 0


def test_a_message_that_is_no_flow_fails_the_subscription_in_words():
    with answering(GetFlows=[b"\xff\xff\xff"], ServerStatus=b"") as bound, closing(open_server(bound)) as source:
        subscription = source.subscribe(Store(8), request(number=1, follow=True))
        assert subscription.wait(PATIENCE_S)
        assert subscription.state is State.FAILED
        assert subscription.error == f"{bound} sent a flow that cannot be read"


def test_nodes_are_those_of_a_relay_or_the_server_itself():
    with serving(make_store(5), "127.0.0.1:0") as (_, bound), closing(open_server(bound)) as source:
        (node,) = source.nodes()
        assert (node.name, node.state, node.tier, node.num_flows) == ("node-1", "SERVING", "pcap", 5)

    one = observer_pb2.Node(name="default/a", state=1, address="10.0.0.1:4244", num_flows=7, max_flows=10)
    two = observer_pb2.Node(name="default/b", state=2)
    told = observer_pb2.GetNodesResponse(nodes=[one, two]).SerializeToString()
    with answering(GetNodes=told) as bound, closing(open_server(bound)) as source:
        one, two = source.nodes()
        assert (one.name, one.state, one.num_flows, one.max_flows) == ("default/a", "CONNECTED", 7, 10)
        assert (two.name, two.state) == ("default/b", "UNAVAILABLE")
