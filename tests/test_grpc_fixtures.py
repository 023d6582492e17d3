"""What grpc_shop.py, the client of the recordings, said and was told, in the flows: tshark's goldens lack it."""

from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from observer.api import flow_pb2
from tests.golden import flows_of

PCAPS = Path(__file__).parent.parent / "fixtures/pcaps"


def answers(name: str) -> list[tuple[flow_pb2.Flow, dict[str, Any]]]:
    """The answers of a capture, each with what is told of its gRPC call."""
    out = []
    for flow in flows_of(PCAPS / f"{name}.pcap")[0]:
        if flow.l7.HasField("http") and flow.l7.type == flow_pb2.RESPONSE:
            ours = Struct()
            flow.extensions.Unpack(ours)
            out.append((flow, MessageToDict(ours)["grpc"]))
    return out


ERRORS = [
    ("Missing", "NOT_FOUND", "no order 1042"),
    ("Wrong", "INVALID_ARGUMENT", "amount: not a number"),
    ("Forbidden", "PERMISSION_DENIED", "RBAC: access denied"),
    ("Nobody", "UNAUTHENTICATED", None),
    ("TooMany", "RESOURCE_EXHAUSTED", "quota\nexceeded: 100 %"),
    ("Broken", "INTERNAL", "Fehler: Größe überschritten \N{SNOWMAN}"),
    ("Away", "UNAVAILABLE", "try again"),
    ("Raises", "UNKNOWN", "Exception calling application: a mistake of the server"),
    ("NotThere", "UNIMPLEMENTED", "Method not found!"),
    ("Get", "UNIMPLEMENTED", "Method not found!"),
    ("Halfway", "ABORTED", "changed meanwhile"),
    ("Get", "OK", None),
]


def test_an_error_comes_with_its_name_and_message() -> None:
    told = [(call["method"], call.get("status_name"), call.get("message")) for _, call in answers("grpc-errors")]
    assert told[: len(ERRORS)] == ERRORS


def test_calls_that_ended_early_are_told_and_the_next_is_read() -> None:
    ended = answers("grpc-errors")[len(ERRORS) :]
    assert [call["method"] for _, call in ended] == ["Slow", "Endless", "Slow", "Get"]
    assert ended[0][1]["timeout_ns"] == 400_000_000
    assert ended[-1][1]["status_name"] == "OK"


STREAMS = [
    ("List", "server", 1, 12),
    ("Upload", "client", 9, 1),
    ("Chat", "bidirectional", 6, 6),
    ("List", None, 1, 0),
    ("Chat", None, 1, 1),  # 18,000 bytes each way, in two DATA frames
]


def test_messages_of_streams_are_counted() -> None:
    names = ("method", "streaming", "request_messages", "response_messages")
    assert [tuple(call.get(name) for name in names) for _, call in answers("grpc-streams")] == STREAMS


def test_the_trace_of_a_call_is_its_own() -> None:
    traces = [flow.trace_context.parent.trace_id for flow, _ in answers("grpc-unary")]
    assert traces == [""] * 6 + ["4bf92f3577b34da6a3ce929d0e0e4736"]


def test_calls_after_large_header_blocks_are_read() -> None:
    told = [(call["method"], call["status_name"]) for _, call in answers("grpc-big-metadata")]
    assert told == [("Big", "OK"), ("Get", "OK")] * 2
