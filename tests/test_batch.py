"""Batches: what a writer sends a reader has, in the reader's own numbers; what contradicts itself is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer import record as rec
from observer.api import batch_pb2, flow_pb2
from observer.batch import BatchReader, BatchWriter
from observer.errors import DecodeError
from observer.extra import DnsAnswer, Extra, Tunnel
from observer.identity.endpoints import Endpoint
from observer.policy.model import PolicyRef
from observer.wire import FlowDecoder, FlowEncoder
from tests.test_wire import rows, unhurried
from tests.wire_oracle import CART, PAYMENTS, POLICIES, WORLD, Tables, make_record, tables


def send(writer: BatchWriter, *arguments, **options) -> batch_pb2.BatchResponse:
    """Over the wire: bytes and back."""
    return batch_pb2.BatchResponse.FromString(writer.to_batch(*arguments, **options).SerializeToString())


@unhurried
@given(st.lists(st.tuples(rows(), st.integers(0, 1)), min_size=1, max_size=5), st.integers(1, 4))
def test_a_reader_has_the_same_flows(batch, block):
    """The flows that a reader's own store would tell are those of the server, whatever its numbers are."""
    server = tables()
    client = Tables()
    client.endpoints.intern(Endpoint(identity=999, pod="other"))  # so that no number is the server's
    client.policies.intern(PolicyRef("other"))
    writer, reader = BatchWriter(server), BatchReader(client.endpoints, client.policies)
    records = rec.empty(len(batch))
    for index, ((record, _), _) in enumerate(batch):
        records[index] = record[0]
    extras = [extra for (_, extra), _ in batch]
    nodes = np.array([node for _, node in batch])
    sequences = np.arange(len(batch)) * 3 + 2**40
    for at in range(0, len(batch), block):
        part = slice(at, at + block)
        got = reader.from_batch(send(writer, records[part], extras[part], sequences[part], nodes[part]))
        assert got.sequences.tolist() == sequences[part].tolist()
        client.nodes = reader.node_names
        assert [client.nodes[node] for node in got.nodes] == [server.nodes[node] for node in nodes[part]]
        kept = dict(got.extras)
        for row in range(len(got.records)):
            ours = FlowEncoder(client).flow(got.records[row], kept.get(row), 1, int(got.nodes[row]))
            theirs = FlowEncoder(server).flow(records[at + row], extras[at + row], 1, int(nodes[at + row]))
            for flow in (ours, theirs):  # the endpoint's number is the table's
                flow.source.ID = flow.destination.ID = 0
            assert FlowDecoder(client.endpoints, client.policies).add(ours)[1].extension == (
                FlowDecoder(client.endpoints, client.policies).add(theirs)[1].extension
            )
            ours.extensions.Clear()
            theirs.extensions.Clear()
            assert ours == theirs


def test_each_endpoint_policy_and_node_is_sent_once():
    writer = BatchWriter(tables())
    record = make_record(source_endpoint=1, destination_endpoint=2, egress_rule=1)
    first = send(writer, record, [None], [0], [1])
    assert [end.number for end in first.endpoints] == [1, 2]
    assert [policy.number for policy in first.policies] == [1]
    assert list(first.node_names) == ["node-1", "west/node-2"]
    again = send(writer, record, [None], [1], [0])
    assert (len(again.endpoints), len(again.policies), len(again.node_names), again.nodes) == (0, 0, 0, b"")
    more = send(writer, make_record(destination_endpoint=3, ingress_rule=2), [None], [2], [0])
    assert [end.number for end in more.endpoints] == [3]
    assert [policy.number for policy in more.policies] == [2]


def test_tables_arrive_whole():
    client = Tables()
    record = np.concatenate(
        [
            make_record(source_endpoint=1, destination_endpoint=2, egress_rule=1, ingress_rule=2),
            make_record(source_endpoint=3, destination_endpoint=1),
        ]
    )
    got = BatchReader(client.endpoints, client.policies).from_batch(
        send(BatchWriter(tables()), record, [None] * 2, [0, 1], [0, 0])
    )
    assert [client.endpoints[number] for number in got.records["source_endpoint"]] == [CART, WORLD]
    assert client.endpoints[got.records["destination_endpoint"][0]] == PAYMENTS
    assert client.policies[got.records["egress_rule"][0]] == POLICIES[0]
    assert client.policies[got.records["ingress_rule"][0]] == POLICIES[1]


FULL = Extra(
    texts=(b"/long", b"\xff\xfe", b""),
    head=b"Host: a\r\n",
    dns=DnsAnswer(("10.0.0.1",), ("c.",), 30, ("A",), ("A",)),
    source_names=("a.example",),
    destination_names=("b.example", "c.example"),
    tunnel=Tunnel(1, "10.0.0.1", "fd00::1", 1, 4789, 77),
    trace_id="4bf9",
    extension={"n": 2**60, "list": [None, True, "x", {"y": 1.5}]},
)


@pytest.mark.parametrize("extra", [FULL, Extra(), Extra(dns=DnsAnswer()), Extra(imported=b"\x10\x02")])
def test_extras_arrive_whole(extra):
    client = Tables()
    got = BatchReader(client.endpoints, client.policies).from_batch(
        send(BatchWriter(tables()), rec.empty(3), [None, extra, None], [0, 1, 2], [0, 0, 0])
    )
    assert got.extras == [(1, extra)]


def test_losses_and_the_end_of_the_past_arrive():
    lost = flow_pb2.LostEvent(source="HUBBLE_RING_BUFFER", num_events_lost=5)
    client = Tables()
    got = BatchReader(client.endpoints, client.policies).from_batch(
        send(BatchWriter(tables()), rec.empty(0), [], [], [], lost_events=[lost], caught_up=True)
    )
    assert (len(got.records), got.extras, got.lost_events, got.caught_up) == (0, [], [lost], True)


def good() -> batch_pb2.BatchResponse:
    record = np.repeat(make_record(source_endpoint=1, egress_rule=1), 2)
    return BatchWriter(tables()).to_batch(record, [Extra(trace_id="a"), Extra(trace_id="b")], [4, 5], [0, 1])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda block: setattr(block, "layout", 99), "have layout 99, this client reads layout 1: use"),
        (lambda block: setattr(block, "records", block.records[:-1]), "a block of 2 flows that holds another number"),
        (lambda block: setattr(block, "count", 3), "a block of 3 flows that holds another number"),
        (lambda block: block.sequences.pop(), "a block of 2 flows that holds another number"),
        (lambda block: setattr(block, "nodes", b"\0\0\1"), "2 flows with 3 bytes of node numbers"),
        (lambda block: block.ClearField("node_names"), "flows of node 1 before it said its name"),
        (lambda block: block.ClearField("endpoints"), "source_endpoint 1 before it said what that is"),
        (lambda block: block.ClearField("policies"), "egress_rule 1 before it said what that is"),
        (lambda block: setattr(block.extras[1], "index", 2), "extras out of order: 2 after 0 of 2"),
        (lambda block: setattr(block.extras[1], "index", 0), "extras out of order: 0 after 0 of 2"),
        (lambda block: setattr(block.extras[0], "extension", b"{"), "an extension that is no JSON"),
        (lambda block: setattr(block.extras[0], "extension", b"[" * 100_000), "an extension that is no JSON"),
        (lambda block: setattr(block.extras[0], "extension", b"9" * 5000), "an extension that is no JSON"),
        (lambda block: setattr(block.extras[0], "extension", b"\xff"), "an extension that is no JSON"),
        (lambda block: setattr(block.extras[0], "extension", b"[]"), "an extension that is no JSON object"),
        (lambda block: block.node_names.extend(["x"] * 65_536), "the server names 65538 nodes on one stream"),
    ],
)
def test_a_server_that_contradicts_itself_is_refused(spoil, message):
    client = Tables()
    block = good()
    BatchReader(client.endpoints, client.policies).from_batch(block)
    spoil(block)
    with pytest.raises(DecodeError, match=message):
        BatchReader(client.endpoints, client.policies).from_batch(block)


@unhurried
@given(st.binary(max_size=2 * rec.RECORD_SIZE))
def test_records_of_random_bytes_do_no_harm(noise):
    """A record that passes the reader can be encoded, whatever it holds."""
    client = Tables()
    records = np.frombuffer(noise.ljust(2 * rec.RECORD_SIZE, b"\xa5"), rec.RECORD).copy()
    for column in ("source_endpoint", "destination_endpoint", "egress_rule", "ingress_rule"):
        records[column] = 0
    block = batch_pb2.BatchResponse(layout=rec.LAYOUT, records=records.tobytes(), count=2, sequences=[1, 2])
    got = BatchReader(client.endpoints, client.policies).from_batch(block)
    for flow in FlowEncoder(client).encode_many(got.records, [None, Extra()], got.sequences, got.nodes):
        flow_pb2.Flow.FromString(flow)
