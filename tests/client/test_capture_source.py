"""A capture as a source: selectors over a file, with the shop of the fixtures."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from observer.api import flow_pb2, observer_pb2
from observer.client import State, open_capture_source
from observer.errors import CaptureError, ConfigError, FilterError, FlowscopeError, PolicyError
from observer.query import InvalidQueryError
from observer.store import Store
from tests.waiting import wait_until

PCAPS = Path(__file__).parent.parent.parent / "fixtures" / "pcaps"
SHOP = PCAPS / "shop.pcap"
IDENTITIES = PCAPS / "shop.identities.yaml"
POLICY = PCAPS / "shop.policy.yaml"
PATIENCE_S = 20


def shop(**options):
    return closing(open_capture_source(SHOP, identities=IDENTITIES, policies=[POLICY], **options))


def flows(source, **fields):
    return [response.flow for response in source.get_flows(observer_pb2.GetFlowsRequest(**fields))]


@pytest.fixture(scope="module")
def every():
    with shop() as source:
        return flows(source)


def without_uuid(flow):
    copy = flow_pb2.Flow()
    copy.CopyFrom(flow)
    copy.ClearField("uuid")  # a new replay is a new store
    return copy


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, slice(None)),
        ({"number": 2**64 - 1}, slice(None)),
        ({"number": 3}, slice(-3, None)),
        ({"number": 3, "follow": True}, slice(-3, None)),
        ({"number": 3, "first": True}, slice(0, 3)),
        ({"follow": True}, slice(None)),
    ],
)
def test_selectors(every, fields, wanted):
    with shop() as source:
        assert list(map(without_uuid, flows(source, **fields))) == list(map(without_uuid, every[wanted]))


def test_times(every):
    middle = every[len(every) // 2].time
    middle_ns = middle.ToNanoseconds()
    with shop() as source:
        since = flows(source, since=middle)
        assert len(since) == sum(flow.time.ToNanoseconds() >= middle_ns for flow in every)
        assert [flow.time for flow in flows(source, since=middle, number=2)] == [flow.time for flow in since[:2]]
        until = flows(source, until=middle)
        assert len(until) == next(i for i, flow in enumerate(every) if flow.time.ToNanoseconds() > middle_ns)
        assert flows(source, until=middle, number=3) == []  # as Hubble: the last three are all later


def test_filters_and_verdicts(every):
    with shop() as source:
        dropped = flows(source, whitelist=[flow_pb2.FlowFilter(verdict=["DROPPED"])])
        assert 0 < len(dropped) < len(every)
        assert {flow.verdict for flow in dropped} == {flow_pb2.DROPPED}
        rest = flows(source, blacklist=[flow_pb2.FlowFilter(verdict=["DROPPED"])])
        assert len(rest) + len(dropped) == len(every)


def test_audit_mode_lets_pass_what_enforce_drops():
    with shop() as enforced, shop(policy_mode="audit") as audited:
        dropped = flows(enforced, whitelist=[flow_pb2.FlowFilter(verdict=["DROPPED"])])
        audit = flows(audited, whitelist=[flow_pb2.FlowFilter(verdict=["AUDIT"])])
        assert [flow.l7.http.url for flow in dropped] == [flow.l7.http.url for flow in audit]
        assert flows(audited, whitelist=[flow_pb2.FlowFilter(verdict=["DROPPED"])]) == []


def test_field_mask():
    with shop() as source:
        (flow,) = flows(source, number=1, field_mask={"paths": ["verdict"]})
        assert [field.name for field, _ in flow.ListFields()] == ["verdict"]


def test_wrong_requests_are_refused_before_anything_is_read():
    with shop() as source:
        with pytest.raises(InvalidQueryError):
            source.get_flows(observer_pb2.GetFlowsRequest(first=True, follow=True))
        with pytest.raises(FilterError, match="invalid fieldmask"):
            source.get_flows(observer_pb2.GetFlowsRequest(field_mask={"paths": ["x"]}))


def test_subscriptions_filter_one_replay_again_and_again(every):
    with shop() as source:
        for verdict in ([], ["DROPPED"], ["FORWARDED"]):
            store = Store(4096)
            whitelist = [flow_pb2.FlowFilter(verdict=verdict)] if verdict else []
            subscription = source.subscribe(
                store, observer_pb2.GetFlowsRequest(number=4096, follow=True, whitelist=whitelist)
            )
            assert subscription.wait(PATIENCE_S)
            assert (subscription.state, subscription.error, subscription.lost) == (State.ENDED, "", 0)
            wanted = [flow for flow in every if not verdict or flow_pb2.Verdict.Name(flow.verdict) in verdict]
            assert store.hot("time_ns").tolist() == [flow.time.ToNanoseconds() for flow in wanted]
        assert source.status().server.seen_flows == len(every)


def test_realtime_paces_and_close_stops_it():
    with shop(realtime=True) as source:
        store = Store(4096)
        subscription = source.subscribe(store, observer_pb2.GetFlowsRequest(follow=True, number=4096))
        wait_until(lambda: len(store))
    assert subscription.state is State.ENDED


def test_progress_and_status():
    seen = []
    with shop(progress=lambda done, size: seen.append((done, size))) as source:
        count = len(flows(source))
        status = source.status()
    assert seen[-1] == (SHOP.stat().st_size,) * 2
    assert (status.tier, status.policy_mode, status.server.seen_flows) == ("pcap", "enforce", count)
    assert all(stage == "decode" and reason.startswith("not IP: ") for stage, reason, _ in status.losses)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"path": PCAPS / "no.pcap"}, CaptureError, "no.pcap: no such file"),
        ({"path": IDENTITIES}, CaptureError, "no pcap or pcapng"),
        ({"path": PCAPS}, CaptureError, "directory"),
        ({"path": SHOP, "identities": PCAPS / "no.yaml"}, ConfigError, "no.yaml"),
        ({"path": SHOP, "identities": SHOP}, ConfigError, "shop.pcap"),
        ({"path": SHOP, "policies": [PCAPS / "no.yaml"]}, PolicyError, "no.yaml"),
        ({"path": SHOP, "policies": [IDENTITIES]}, PolicyError, "shop.identities.yaml"),
    ],
)
def test_wrong_files_are_told_at_once(options, error, words):
    with pytest.raises(error, match=words):
        open_capture_source(**options)


def test_the_packets_of_a_flow_are_read_again_both_ways():
    with closing(open_capture_source(PCAPS / "http1-basic.pcap")) as source:
        store = Store(4096)
        subscription = source.subscribe(store, observer_pb2.GetFlowsRequest(number=4096, follow=True))
        assert subscription.wait(10)
        records, _, _, _ = store.take(np.arange(store.first, store.next))
        record = records[np.flatnonzero(records["l7_type"] == 1)[0]]
        packets = source.packets(record)
        assert {packet.forward for packet in packets} == {True, False}
        request = next(packet for packet in packets if packet.payload)
        assert request.forward
        assert request.payload.startswith(b"GET ")
        assert request.data.endswith(request.payload)
        assert [packet.number for packet in packets] == sorted(packet.number for packet in packets)
        (one,) = source.packets(record, around_ns=int(record["time_ns"]), limit=1)
        assert one == request
        assert len(source.packets(record, limit=2)) == 2
        record["source_port"] = 1
        assert source.packets(record) == []


def test_packets_have_a_bound(monkeypatch):
    from observer.client import capture

    with closing(open_capture_source(PCAPS / "http1-basic.pcap")) as source:
        store = Store(4096)
        assert source.subscribe(store, observer_pb2.GetFlowsRequest(number=4096, follow=True)).wait(10)
        records, _, _, _ = store.take(np.arange(1))
        whole = source.packets(records[0])
        monkeypatch.setattr(capture, "MAX_PACKET_BYTES", sum(len(packet.data) for packet in whole[:3]))
        assert source.packets(records[0]) == whole[:3]


def test_the_node_of_a_capture():
    with closing(open_capture_source(PCAPS / "http1-basic.pcap")) as source:
        (node,) = source.nodes()
        assert (node.tier, node.address) == ("pcap", "http1-basic.pcap")


def test_packets_of_a_pipe_cannot_be_saved(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    with (
        closing(open_capture_source(tmp_path / "pipe")) as source,
        (tmp_path / "out").open("wb") as out,
        pytest.raises(FlowscopeError, match="by a pipe"),
    ):
        source.write_packets(out, np.zeros(0), [])


def test_comments_of_a_packet_have_a_bound(tmp_path, monkeypatch):
    from observer.client import annotated

    monkeypatch.setattr(annotated, "COMMENTS_MAX", 2)
    monkeypatch.setattr(annotated, "COMMENT_MAX", 5)
    with closing(open_capture_source(PCAPS / "http1-basic.pcap")) as source:
        store = Store(4096)
        assert source.subscribe(store, observer_pb2.GetFlowsRequest(number=4096, follow=True)).wait(10)
        records, _, _, _ = store.take(np.arange(1))
        with (tmp_path / "out.pcapng").open("wb") as out:
            assert source.write_packets(out, np.repeat(records, 3), ["abcdefgh"] * 3) == len(source.packets(records[0]))
        data = (tmp_path / "out.pcapng").read_bytes()
        assert (data.count(b"abcde"), data.count(b"abcdef")) == (2, 0)
        with (tmp_path / "none.pcapng").open("wb") as out:
            assert source.write_packets(out, records, [""], stop=lambda: True) == 0
