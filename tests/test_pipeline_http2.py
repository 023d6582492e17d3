"""HTTP/2 and gRPC through the pipeline: verdicts, trace ids, the wire's flow."""

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from observer.record import Flags, L7Kind, Present, Verdict, unpack_text
from observer.wire.encoder import FlowEncoder
from tests.l7.http2_bytes import CALL, GRPC_END, GRPC_OK, HELLO, PING, SETTINGS, Sender, data, message, reset
from tests.packets import connection, tcp
from tests.test_pipeline import API, SHOP, Observer

ID = "0af7651916cd43dd8448eb211c80319c"
TRACED = ("traceparent", f"00-{ID}-b7ad6b7169203331-01")
POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: rules, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: shop}}]
    toPorts:
    - ports: [{port: "80", protocol: TCP}]
      rules: {http: [{method: POST, path: /p.Svc/Do, host: h, headers: ["X-Key v"]}]}
"""


def call(path: str = "/p.Svc/Do", host: str = "h", *more: tuple[str, str]) -> list[tuple[str, str]]:
    return [CALL[0], (":scheme", "https"), (":path", path), (":authority", host), *CALL[4:], *more]


def seen(tmp_path, fields, policy: str = POLICY, end=GRPC_END) -> Observer:
    client, server = Sender(), Sender()
    asked = HELLO + client.headers(1, fields) + data(1, message(), end=True)
    answered = SETTINGS + server.headers(1, GRPC_OK) + data(1, message()) + server.headers(1, end, end=True)
    return Observer(tmp_path, policy).see(*connection(SHOP, API, request=asked, response=answered))


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        (call("/p.Svc/Do", "h", ("x-key", "v")), Verdict.FORWARDED),
        (call("/p.Svc/Do", "h", ("x-key", "w")), Verdict.DROPPED),
        (call("/p.Svc/Undo", "h", ("x-key", "v")), Verdict.DROPPED),
        (call("/p.Svc/Do", "i", ("x-key", "v")), Verdict.DROPPED),
        ([call("/p.Svc/Do", "h")[0], *call()[2:5], ("x-key", "v")], Verdict.FORWARDED),  # plain HTTP/2
    ],
)
def test_rules_for_http_judge_http2_and_grpc(tmp_path, fields, verdict):
    assert [int(record["verdict"]) for record in seen(tmp_path, fields).l7()] == [verdict] * 2


def test_a_request_of_which_too_little_was_seen_is_not_judged(tmp_path):
    client = Sender()
    client.headers(1, call("/p.Svc/Do", "h", ("x-key", "v")))
    later = client.headers(3, call("/p.Svc/Do", "h", ("x-key", "v")))
    watched = Observer(tmp_path, POLICY).see(tcp(SHOP, API, "A", PING + later))
    (request,) = watched.l7()
    assert (request["verdict"], request["drop_reason_desc"]) == (Verdict.VERDICT_UNKNOWN, 0)
    assert request["flags"] & Flags.L7_INCOMPLETE


def test_what_the_record_and_the_flow_say(tmp_path):
    fields = call("/p.Svc/Do", "h", TRACED)
    watched = seen(tmp_path, fields, "", [("grpc-status", "7"), ("grpc-message", "no")])
    request, response = watched.l7()
    assert unpack_text(request) == (b"/p.Svc/Do", b"h", b"", b"https")
    assert (request["l7_kind"], request["l7_version"], request["l7_id"]) == (L7Kind.GRPC, 20, 1)
    assert not request["present"] & Present.GRPC_STATUS
    assert (response["grpc_status"], response["l7_code"], response["latency_ns"]) == (7, 200, 2_000_000)
    assert response["present"] & Present.GRPC_STATUS
    assert [extra.trace_id for extra in watched.extras if extra is not None] == [ID, ID]
    flows = [
        FlowEncoder(watched.store).flow(record, extra, number)
        for number, (record, extra) in enumerate(zip(watched.records, watched.extras, strict=True))
        if record["l7_kind"]
    ]
    assert [flow.trace_context.parent.trace_id for flow in flows] == [ID, ID]
    assert [(flow.l7.http.protocol, flow.l7.http.url, flow.l7.http.code) for flow in flows] == [
        ("HTTP/2", "https://h/p.Svc/Do", 0),
        ("HTTP/2", "https://h/p.Svc/Do", 200),
    ]
    assert ("traceparent", TRACED[1]) in [(header.key, header.value) for header in flows[0].l7.http.headers]
    told = ours(flows[1])
    assert told["http2"] == {"stream_id": 1}
    assert told["grpc"] == {
        "service": "p.Svc", "method": "Do", "status": 7, "status_name": "PERMISSION_DENIED", "message": "no",
        "request_messages": 1, "response_messages": 1, "timeout_ns": 2e9,
    }  # fmt: skip


def test_a_reset_is_told_beside_the_stream():
    client = Sender()
    asked = HELLO + client.headers(5, call()) + reset(5)
    watched = Observer().see(*connection(SHOP, API, request=asked, response=SETTINGS))
    response = next(index for index, record in enumerate(watched.records) if record["l7_type"] == 2)
    record, extra = watched.records[response], watched.extras[response]
    assert not record["present"] & Present.CODE
    flow = FlowEncoder(watched.store).flow(record, extra, 0)
    assert ours(flow)["http2"] == {"stream_id": 5, "reset": "CANCEL", "reset_by": "client"}
    assert flow.is_reply.value


def test_traceparent_of_http1_and_only_where_it_is_the_requests():
    head = f"Host: h\r\nTraceparent: {TRACED[1]}\r\n\r\n".encode()
    answer = b"HTTP/1.1 200 OK\r\ntraceparent: 00-%s-b7ad6b7169203331-01\r\nContent-Length: 0\r\n\r\n" % (b"1" * 32)
    watched = Observer().see(*connection(SHOP, API, request=b"GET / HTTP/1.1\r\n" + head, response=answer))
    assert [extra.trace_id for extra in watched.extras if extra is not None] == [ID, ID]


def ours(flow) -> dict:
    struct = Struct()
    assert flow.extensions.Unpack(struct)
    return MessageToDict(struct)
