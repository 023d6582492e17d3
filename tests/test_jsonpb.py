"""JSON: the same content as protobuf's own writer, and the bytes of Go's."""

import json

import pytest
from google.protobuf import any_pb2, json_format, struct_pb2, text_format, timestamp_pb2, wrappers_pb2
from hypothesis import given
from hypothesis import strategies as st

from observer.api import flow_pb2, observer_pb2, peer_pb2
from observer.jsonpb import MAX_ANY_DEPTH, to_json
from tests.test_wire import rows, unhurried
from tests.wire_oracle import assemble, tables


def message(kind: type, text: str):
    return text_format.Parse(text, kind())


@pytest.mark.parametrize(
    ("kind", "text", "line"),
    [
        (flow_pb2.Flow, "", "{}"),
        # Declaration order, not that of numbers.
        (
            flow_pb2.Flow,
            'uuid: "u" verdict: DROPPED time { seconds: 1 } Summary: "s" node_labels: "a" node_name: "n" Type: L7',
            '{"time":"1970-01-01T00:00:01Z","uuid":"u","verdict":"DROPPED","Type":"L7","node_name":"n",'
            '"node_labels":["a"],"Summary":"s"}',
        ),
        (flow_pb2.Flow, "socket_cookie: 18446744073709551615", '{"socket_cookie":"18446744073709551615"}'),
        (flow_pb2.Flow, "is_reply {}", '{"is_reply":false}'),
        (flow_pb2.Flow, "is_reply { value: true } reply: true", '{"reply":true,"is_reply":true}'),
        (flow_pb2.Flow, "verdict: 99", '{"verdict":99}'),
        (flow_pb2.Flow, "event_type { type: -1 }", '{"event_type":{"type":-1}}'),
        (flow_pb2.Flow, "l7 { http {} }", '{"l7":{"http":{}}}'),
        (flow_pb2.LostEvent, "num_events_lost: 7 cpu {}", '{"num_events_lost":"7","cpu":0}'),
        (observer_pb2.ServerStatusResponse, "flows_rate: 12.5", '{"flows_rate":12.5}'),
        (
            observer_pb2.GetFlowsRequest,
            'field_mask { paths: "source.pod_name" paths: "IP" }',
            '{"field_mask":"source.podName,IP"}',
        ),
        (peer_pb2.ChangeNotification, 'name: "a<b>&c"', '{"name":"a\\u003cb\\u003e\\u0026c"}'),
        (
            peer_pb2.ChangeNotification,
            'name: "\\"\\\\\\b\\f\\n\\r\\t\\001"',
            '{"name":"\\"\\\\\\b\\f\\n\\r\\t\\u0001"}',
        ),
        (peer_pb2.ChangeNotification, 'name: "\u00fc\u2028\u2029"', '{"name":"\u00fc\\u2028\\u2029"}'),
        # Beyond Go, same meaning: what a terminal would obey.
        (peer_pb2.ChangeNotification, 'name: "\\177"', '{"name":"\\u007f"}'),
        (peer_pb2.ChangeNotification, 'name: "\u009b\u202e\U0001f600"', '{"name":"\\u009b\\u202e\U0001f600"}'),
    ],
)
def test_lines(kind, text, line):
    assert to_json(message(kind, text)) == line


@pytest.mark.parametrize(
    ("seconds", "nanos", "text"),
    [
        (0, 0, '"1970-01-01T00:00:00Z"'),
        (0, 500_000_000, '"1970-01-01T00:00:00.500Z"'),
        (0, 1_000, '"1970-01-01T00:00:00.000001Z"'),
        (0, 1, '"1970-01-01T00:00:00.000000001Z"'),
        (1_700_000_000, 120_000_000, '"2023-11-14T22:13:20.120Z"'),
        (-62_135_596_800, 0, '"0001-01-01T00:00:00Z"'),
        (253_402_300_799, 0, '"9999-12-31T23:59:59Z"'),
        (253_402_300_800, 0, "null"),
        (0, -1, "null"),
    ],
)
def test_times_have_the_digits_go_prints(seconds, nanos, text):
    assert to_json(timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos)) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        # Go's strconv as encoding/json and protojson use it.
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-2.5, "-2.5"),
        (0.1, "0.1"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (1.5e-10, "1.5e-10"),
        (1e20, "100000000000000000000"),
        (123456789012345680000.0, "123456789012345680000"),
        (1e21, "1e+21"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (float("inf"), '"Infinity"'),
        (float("-inf"), '"-Infinity"'),
        (float("nan"), '"NaN"'),
    ],
)
def test_numbers(number, text):
    assert to_json(wrappers_pb2.DoubleValue(value=number)) == text


@pytest.mark.parametrize(("number", "text"), [(0.1, "0.1"), (16777216.0, "16777216"), (1e-7, "1e-7"), (1.5, "1.5")])
def test_single_precision_numbers(number, text):
    assert to_json(wrappers_pb2.FloatValue(value=number)) == text


def packed(inside) -> any_pb2.Any:
    out = any_pb2.Any()
    out.Pack(inside)
    return out


def test_any_of_a_struct_is_what_the_stock_cli_prints():
    struct = struct_pb2.Struct()
    struct.update({"b": [1, None], "a": {"x": True}, "<": "&"})
    line = to_json(flow_pb2.Flow(extensions=packed(struct)))
    assert line == (
        '{"extensions":{"@type":"type.googleapis.com/google.protobuf.Struct",'
        '"value":{"\\u003c":"\\u0026","a":{"x":true},"b":[1,null]}}}'
    )


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        (any_pb2.Any(), "{}"),
        (packed(flow_pb2.Workload(name="w")), '{"@type":"type.googleapis.com/flow.Workload","name":"w"}'),
        (packed(flow_pb2.Workload()), '{"@type":"type.googleapis.com/flow.Workload"}'),
        (
            packed(wrappers_pb2.BytesValue(value=b"\xff")),
            '{"@type":"type.googleapis.com/google.protobuf.BytesValue","value":"/w=="}',
        ),
        (any_pb2.Any(type_url="x/unknown.Type", value=b"ab"), '{"@type":"x/unknown.Type","value":"YWI="}'),
        (any_pb2.Any(type_url="x/flow.Nothing", value=b"ab"), '{"@type":"x/flow.Nothing","value":"YWI="}'),
        (any_pb2.Any(type_url="x/flow.Flow", value=b"\xff"), '{"@type":"x/flow.Flow","value":"/w=="}'),
        (
            any_pb2.Any(type_url="x/google.protobuf.FileDescriptorSet"),
            '{"@type":"x/google.protobuf.FileDescriptorSet","value":""}',
        ),
    ],
)
def test_any_of_a_stranger(inside, text):
    assert to_json(inside) == text


def test_any_in_any_in_any_ends():
    inside = any_pb2.Any(type_url="x/flow.Workload")
    for _ in range(2000):
        inside = packed(inside)
    value = json.loads(to_json(flow_pb2.Flow(extensions=inside)))["extensions"]
    depth = 0
    while isinstance(value, dict):
        value = value["value"]
        depth += 1
    assert depth == MAX_ANY_DEPTH + 1


def test_messages_that_hold_themselves():
    """observer.ExportEvent and flow.Flow share types; a Struct holds Values that hold Structs."""
    value = struct_pb2.Value()
    inner = value
    for _ in range(30):
        inner = inner.list_value.values.add()
    inner.null_value = 0
    assert to_json(value) == "[" * 30 + "null" + "]" * 30


@unhurried
@given(rows(), st.integers(0, 1))
def test_the_content_is_that_of_protobufs_own_writer(row, node):
    record, extra = row
    flow, _ = assemble(record, extra, 1, node, tables())
    response = observer_pb2.GetFlowsResponse(flow=flow, node_name=flow.node_name, time=flow.time)
    line = to_json(response)
    assert "\n" not in line
    if flow.time.seconds < 253_402_300_800:
        theirs = json_format.MessageToDict(response, preserving_proto_field_name=True)
        assert json.loads(line, parse_int=float) == theirs  # beyond 2^53 Go pads the shortest digits with zeros
    else:
        assert json.loads(line)["time"] is None


@unhurried
@given(st.text())
def test_any_text_survives(text):
    line = to_json(peer_pb2.ChangeNotification(name=text))
    assert json.loads(line).get("name", "") == text
    assert all(character.isprintable() or not character.isascii() for character in line)
