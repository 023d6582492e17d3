"""The conversation of a connection: messages in order, by whom, with latency; bytes where the source has them."""

from contextlib import closing

from observer.api import observer_pb2
from observer.client import open_capture_source
from observer.store import Store
from tests.tui.driving import PCAPS
from tests.tui.flows import add, filled
from tui import stream
from tui.stream import Stream
from tui.view import FlowView


def test_messages_are_those_of_the_connection_in_order():
    store = filled(40)
    one = Stream(FlowView(store), 6, packets=None, local=False)
    messages = one.messages()
    assert [message.sequence for message in messages] == [4, 6]
    assert [message.from_client for message in messages] == [True, False]
    assert (messages[0].latency, messages[1].latency) == ("", "6us")
    assert one.note == "1 from the client, 1 from the server"
    assert one.payloads() == {}


def test_it_grows_while_the_conversation_goes_on_and_ends_with_the_ring():
    store = filled(6, capacity=16)
    one = Stream(FlowView(store), 4, packets=None, local=False)
    assert len(one.messages()) == 1
    assert not one.changed()
    add(store, 2)
    assert one.changed()
    assert [message.sequence for message in one.messages()] == [4, 6]
    add(store, 100)
    assert one.changed()
    assert one.messages() == []


def test_a_long_conversation_has_a_bound(monkeypatch):
    monkeypatch.setattr(stream, "MESSAGES", 1)
    one = Stream(FlowView(filled(40)), 6, packets=None, local=False)
    assert [message.sequence for message in one.messages()] == [6]
    assert "1 older ones are not shown" in one.note


def test_of_a_flow_that_is_gone_there_is_nothing():
    store = filled(40, capacity=16)
    one = Stream(FlowView(store), 1, packets=None, local=False)
    assert (one.title, one.messages(), one.changed()) == ("gone", [], False)


def test_bytes_belong_to_their_messages():
    with closing(open_capture_source(PCAPS / "http1-keepalive.pcap")) as source:
        store = Store(4096)
        assert source.subscribe(store, observer_pb2.GetFlowsRequest(number=4096, follow=True)).wait(10)
        kinds = store.hot("l7_type").tolist()
        one = Stream(FlowView(store), kinds.index(2), packets=source.packets, local=False)
        messages = one.messages()
        payloads = one.payloads()
        assert len(messages) > 2
        for message in messages:
            first = payloads[message.sequence][0]
            assert first.startswith(("GET ", "POST ", "PUT ", "DELETE ", "HEAD ") if message.from_client else "HTTP/1.")


def test_the_bytes_of_a_message_have_a_bound(monkeypatch):
    monkeypatch.setattr(stream, "PAYLOAD", 10)
    with closing(open_capture_source(PCAPS / "http1-keepalive.pcap")) as source:
        store = Store(4096)
        assert source.subscribe(store, observer_pb2.GetFlowsRequest(number=4096, follow=True)).wait(10)
        one = Stream(FlowView(store), store.hot("l7_type").tolist().index(2), packets=source.packets, local=False)
        one.messages()
        lines = next(iter(one.payloads().values()))
        assert len(lines[0]) == 10
        assert lines[1].endswith("bytes more")
