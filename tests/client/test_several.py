"""Several servers as one source, over real sockets: order, tables, servers that are away."""

from contextlib import ExitStack, closing

import numpy as np
import pytest

from observer.api import observer_pb2
from observer.client import State, open_server, open_servers, several
from observer.client.several import SeveralSources, _Inlet
from observer.errors import FlowscopeError
from observer.extra import Extra
from observer.identity.endpoints import Endpoint
from observer.record import empty
from observer.store import Store
from tests.service.flows import SECOND_NS, START_NS, add_flows, make_store, serving
from tests.waiting import wait_until


def request(**fields):
    return observer_pb2.GetFlowsRequest(**fields)


@pytest.fixture
def pair():
    """Two servers, their flows half a second apart; the second knows other endpoints."""
    one, two = make_store(5), make_store(0)
    two.nodes[:] = ["", "node-2"]
    two.endpoints.intern(Endpoint(identity=999, namespace="other", pod="elsewhere-0"))
    add_flows(two, 5, START_NS + SECOND_NS // 2)
    with serving(one, "127.0.0.1:0") as (_, first), serving(two, "127.0.0.1:0", node_name="node-2") as (_, second):
        yield (one, first), (two, second)


def test_one_address_is_that_server_and_equal_ones_are_one():
    with closing(open_servers(["127.0.0.1:1", "127.0.0.1:1"])) as source:
        assert source.name == "127.0.0.1:1"


def test_history_is_put_in_order_and_new_flows_come(pair):
    (one, first), (two, second) = pair
    with closing(open_servers([first, second])) as source:
        assert source.name == f"{first}, {second}"
        store = Store(64)
        subscription = source.subscribe(store, request(number=100, follow=True))
        wait_until(lambda: subscription.state is State.LIVE and len(store) == 10)
        times = store.hot("time_ns").tolist()
        assert times == sorted(times)
        records, _, nodes, _ = store.take(np.arange(store.first, store.next))
        assert [store.nodes[number] for number in nodes] == ["node-1", "node-2"] * 5
        assert {store.endpoints[number].pod for number in records["source_endpoint"].tolist()} == {"web-1"}
        add_flows(one, 1, START_NS + 60 * SECOND_NS)
        add_flows(two, 1, START_NS + 61 * SECOND_NS)
        wait_until(lambda: len(store) == 12)
        subscription.cancel()
        assert subscription.state is State.ENDED
        add_flows(one, 1, START_NS + 70 * SECOND_NS)
        assert len(store) == 12


def test_flows_once_come_in_order(pair):
    (_, first), (_, second) = pair
    with closing(open_servers([first, second])) as source:
        times = [response.time.ToNanoseconds() for response in source.get_flows(request(number=100))]
        assert (len(times), times) == (10, sorted(times))
        with pytest.raises(FlowscopeError, match="cannot be followed flow by flow"):
            source.get_flows(request(follow=True))


def test_one_that_is_away_keeps_no_other_from_being_seen_and_is_asked_again(monkeypatch, tmp_path):
    monkeypatch.setattr(several, "AGAIN_S", 0.05)
    away = f"unix://{tmp_path}/away.sock"
    with ExitStack() as stack:
        _, first = stack.enter_context(serving(make_store(3), "127.0.0.1:0"))
        source = stack.enter_context(closing(SeveralSources([open_server(first), open_server(away)])))
        store = Store(64)
        subscription = source.subscribe(store, request(number=100, follow=True))
        wait_until(lambda: len(store) == 3 and subscription.state is State.LIVE)
        assert subscription.error.startswith("1 of 2 servers away: cannot reach flowscope at unix://")
        states = {node.name: node.state for node in source.nodes()}
        assert states[away] == "UNREACHABLE"
        assert states["node-1"] == "SERVING"
        assert source.status().health == "SERVING"
        stack.enter_context(serving(make_store(4), away))
        wait_until(lambda: len(store) == 7)
        wait_until(lambda: subscription.error == "")


def test_the_end_of_all_is_the_end(pair):
    (_, first), (_, second) = pair
    with closing(open_servers([first, second])) as source:
        store = Store(64)
        subscription = source.subscribe(store, request(number=2))
        assert subscription.wait(10)
        assert (subscription.state, len(store)) == (State.ENDED, 4)


def test_extras_stay_with_their_records():
    store, inlet = Store(8), _Inlet()
    records = empty(3)
    inlet.append(records, [(1, Extra(trace_id="b"))], 0)
    inlet.append(records[:1], [(0, Extra(trace_id="d"))], np.zeros(1, np.uint16))
    taken = inlet.take(store)
    assert taken is not None
    assert [(row, extra.trace_id) for row, extra in taken[1]] == [(1, "b"), (3, "d")]
    assert inlet.take(store) is None


def test_a_full_inlet_lets_its_server_wait_until_it_is_closed(monkeypatch):
    monkeypatch.setattr(several, "INLET", 4)
    import threading

    inlet = _Inlet()
    inlet.append(empty(4))
    waiting = threading.Thread(target=inlet.append, args=(empty(1),))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    taken = inlet.take(Store(8))
    assert taken is not None
    assert len(taken[0]) == 4
    waiting.join(5)
    assert not waiting.is_alive()
    inlet.append(empty(3))
    late = threading.Thread(target=inlet.append, args=(empty(1),))
    late.start()
    inlet.close()
    late.join(5)
    assert not late.is_alive()
