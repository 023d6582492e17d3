"""A server as a source: Hubble's Observer API over gRPC, and our batch service where the server has it.

The server's bytes are a stranger's: a message that cannot be read ends the call with a FlowscopeError, sizes are
bounded. gRPC's status codes become errors that say what to do.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own words on stderr are nobody's; errors come as exceptions

import grpc
from google.protobuf.message import DecodeError as ProtobufError

from observer.api import batch_pb2, observer_pb2, relay_pb2
from observer.client.source import Node, State, Status
from observer.errors import DecodeError, FlowscopeError
from observer.service.address import parse_address

if TYPE_CHECKING:
    from observer.client.subscription import BackgroundSubscription
    from observer.store import Store

DIAL_S: Final = 5
"""How long one attempt to connect may take."""
UNARY_S: Final = 12.0
"""How long an answer of one message may take; both as the stock CLI has them."""
CLOSE_S: Final = 1.0
"""How long ending the calls may take; then the process may end without."""
RECONNECT_S: Final = 0.5
"""After a lost connection, before the first new attempt; each further one waits twice as long."""
RECONNECT_MAX_S: Final = 3.0
MAX_RESPONSE: Final = 64 << 20
"""Bytes of one message from the server."""
BACKLOG: Final = 8192
"""Messages read but not yet decoded, from a server that speaks only GetFlows; what comes on top is left out."""
GATHER: Final = 1024
"""Flows decoded and appended at a time."""
OBSERVER: Final = "hubble.server.Observer"
"""The name by which Hubble's CLI asks for the health of an observer."""

_NODE_STATES: Final = {value.number: value.name for value in relay_pb2.NodeState.DESCRIPTOR.values}

OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", MAX_RESPONSE),
    ("grpc.min_reconnect_backoff_ms", DIAL_S * 1000),  # the time limit of an attempt to connect
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 3_000),  # by itself gRPC would wait up to two minutes
)


class UnreachableError(FlowscopeError):
    """The server cannot be reached, or went away."""


class UnimplementedError(FlowscopeError):
    """The server does not know the call."""


class ServerSource:
    """One server."""

    warnings: Sequence[str] = ()

    def __init__(self, address: str) -> None:
        parsed = parse_address(address)
        self.name = str(parsed) if parsed.path is None else f"unix://{parsed.path}"
        self._channel = grpc.insecure_channel(parsed.target, options=OPTIONS)
        self._subscriptions: list[BackgroundSubscription] = []

    def get_flows(self, request: observer_pb2.GetFlowsRequest) -> Iterator[observer_pb2.GetFlowsResponse]:
        """The flows that `request` selects, as the server sends them."""
        return self._stream("/observer.Observer/GetFlows", request, observer_pb2.GetFlowsResponse)

    def subscribe(self, store: Store, request: observer_pb2.GetFlowsRequest) -> BackgroundSubscription:
        """Append what `request` selects to `store`, raw where the server can, and go on after a lost connection."""
        from observer.client.subscription import BackgroundSubscription, running

        subscription = BackgroundSubscription(store, _Feed(self, request), name=self.name)
        self._subscriptions = [*running(self._subscriptions), subscription]
        return subscription

    def status(self) -> Status:
        """Health first, as the stock CLI does, then the status, with more of it from a flowscope server."""
        from grpc_health.v1 import health_pb2

        check = health_pb2.HealthCheckRequest(service=OBSERVER)
        answer = self.unary("/grpc.health.v1.Health/Check", check, health_pb2.HealthCheckResponse)
        health = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        try:
            told = self.unary("/batch.Batch/Status", batch_pb2.StatusRequest(), batch_pb2.StatusResponse)
        except UnimplementedError:
            return Status(self.server_status(), health=health)
        return Status.from_batch(told, health=health)

    def server_status(self) -> observer_pb2.ServerStatusResponse:
        """Hubble's own ServerStatus."""
        request = observer_pb2.ServerStatusRequest()
        answer: observer_pb2.ServerStatusResponse = self.unary(
            "/observer.Observer/ServerStatus", request, observer_pb2.ServerStatusResponse
        )
        return answer

    def nodes(self) -> list[Node]:
        """The nodes behind it if it is a Relay, else itself."""
        try:
            told = self.unary(
                "/observer.Observer/GetNodes", observer_pb2.GetNodesRequest(), observer_pb2.GetNodesResponse
            )
        except UnimplementedError:
            return [Node.from_status(self.status(), address=self.name)]
        return [
            Node(
                name=node.name,
                state=_NODE_STATES.get(node.state, str(node.state)).removeprefix("NODE_"),
                address=node.address,
                version=node.version,
                num_flows=node.num_flows,
                max_flows=node.max_flows,
                seen_flows=node.seen_flows,
                uptime_ns=node.uptime_ns,
            )
            for node in told.nodes
        ]

    def close(self) -> None:
        """End every call and subscription."""
        for subscription in self._subscriptions:
            subscription.cancel()
        # A call that ctrl-c interrupted while it was being opened is known to nobody, and gRPC would wait for it.
        closing = threading.Thread(target=self._channel.close, name="close", daemon=True)
        closing.start()
        closing.join(CLOSE_S)

    # -- calls ----------------------------------------------------------------------------------------------------

    def unary(self, method: str, request: Any, response: Any) -> Any:
        """One request, one answer of the message type `response`."""
        call = self._channel.unary_unary(
            method, request_serializer=type(request).SerializeToString, response_deserializer=response.FromString
        )
        try:
            return call(request, timeout=UNARY_S)
        except grpc.RpcError as error:
            raise self.explain(error) from error

    def open(self, method: str, request: Any, response: Any) -> Any:
        """Start a stream of messages of the type `response`: iterate it, or cancel it."""
        return self._channel.unary_stream(
            method, request_serializer=type(request).SerializeToString, response_deserializer=response.FromString
        )(request)

    def _stream(self, method: str, request: Any, response: Any) -> Iterator[Any]:
        call = self.open(method, request, response)
        try:
            yield from call
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.CANCELLED:
                raise self.explain(error) from error
        finally:
            call.cancel()

    def explain(self, error: Any) -> FlowscopeError:
        """What an RpcError means for the user."""
        code, details = error.code(), error.details() or ""
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            reason = _reason(details) if code is grpc.StatusCode.UNAVAILABLE else f"no answer in {UNARY_S:.0f} s"
            return UnreachableError(
                f"cannot reach flowscope at {self.name}: {reason}; start one with `flowscope serve`"
            )
        if code is grpc.StatusCode.UNKNOWN:
            return FlowscopeError(details)  # the server's own words; so does the stock CLI
        # Go's spelling of the code, which scripts may look for.
        name = code.name.title().replace("_", "")
        text = f"rpc error: code = {name} desc = {details}"
        return UnimplementedError(text) if code is grpc.StatusCode.UNIMPLEMENTED else FlowscopeError(text)


def _reason(details: str) -> str:
    """What failed, out of gRPC's long sentence about every address that it tried."""
    for known in (
        "Connection refused",
        "No such file or directory",
        "Permission denied",
        "Network is unreachable",
        "No route to host",
        "Socket closed",
        "Connection reset by peer",
        "Name or service not known",
    ):
        if known.lower() in details.lower():
            return known.lower()
    if "dns" in details.lower() or "domain name not found" in details.lower():
        return "the name is not known"
    return details.rpartition("Last error: ")[2] or "no connection"


class _Feed:
    """Carries one server's flows into a subscription, connection after connection."""

    def __init__(self, source: ServerSource, request: observer_pb2.GetFlowsRequest) -> None:
        self._source = source
        self._request = observer_pb2.GetFlowsRequest()
        self._request.CopyFrom(request)
        self._batches = True

    def __call__(self, subscription: BackgroundSubscription) -> None:
        """Until the stream ends, or for ever where it follows."""
        connected = False
        wait = RECONNECT_S
        while not subscription.cancelled:
            try:
                self._source.server_status()  # tells a server that is there and has nothing from one that is not
                subscription.state, subscription.error, connected = State.LOADING, "", True
                wait = RECONNECT_S
                self._connection(subscription)
                return
            except UnreachableError as error:
                # Once connected it is worth waiting for; a first attempt fails, so that a wrong address is seen.
                if not (connected and self._request.follow):
                    raise
                subscription.state, subscription.error = State.RECONNECTING, str(error)
                if subscription.newest_ns:
                    since = subscription.newest_ns + 1
                    self._request.since.seconds, self._request.since.nanos = divmod(since, 1_000_000_000)
                    self._request.number = 0
            subscription.pause(wait)
            wait = min(2 * wait, RECONNECT_MAX_S)

    def _connection(self, subscription: BackgroundSubscription) -> None:
        if self._batches:
            try:
                self._by_batches(subscription)
                return
            except (UnimplementedError, DecodeError):
                # A real Hubble server, or one with records of another layout.
                self._batches = False
        self._by_flows(subscription)

    def _by_batches(self, subscription: BackgroundSubscription) -> None:
        from observer.batch import BatchReader

        reader = BatchReader(subscription.store.endpoints, subscription.store.policies)
        call = self._source.open("/batch.Batch/GetBatches", self._request, batch_pb2.BatchResponse)
        subscription.on_cancel(call.cancel)
        try:
            for response in call:
                subscription.take(reader.from_batch(response), reader.node_names)
        except grpc.RpcError as error:
            if not subscription.cancelled:
                raise self._source.explain(error) from error
        finally:
            call.cancel()

    def _by_flows(self, subscription: BackgroundSubscription) -> None:
        call = self._source.open("/observer.Observer/GetFlows", self._request, _Unread)
        subscription.on_cancel(call.cancel)
        backlog: queue.Queue[bytes | Exception | None] = queue.Queue(BACKLOG)
        # What the server held when asked is wanted whole; of what is new, what there is time for.
        wanted = self._request.number or BACKLOG
        reader = threading.Thread(target=_read, args=(call, backlog, subscription, wanted), daemon=True)
        reader.start()
        subscription.state = State.LIVE  # Hubble does not say when it has told all that it held
        try:
            self._decode(backlog, subscription)
        except grpc.RpcError as error:
            if not subscription.cancelled:
                raise self._source.explain(error) from error
        finally:
            call.cancel()

    def _decode(self, backlog: queue.Queue[bytes | Exception | None], subscription: BackgroundSubscription) -> None:
        """Decode as many as have come, at least one, and append them together."""
        import numpy as np

        from observer.wire import FlowDecoder

        decoder = FlowDecoder(subscription.store.endpoints, subscription.store.policies)
        while True:
            gathered = [backlog.get()]
            while len(gathered) < GATHER and not backlog.empty():
                gathered.append(backlog.get())
            flows = []
            for raw in gathered:
                if not isinstance(raw, bytes):
                    continue
                try:
                    response = observer_pb2.GetFlowsResponse.FromString(raw)
                except ProtobufError:
                    raise DecodeError(f"{self._source.name} sent a flow that cannot be read") from None
                if response.HasField("flow"):
                    flows.append(response.flow)
                elif response.HasField("lost_events"):
                    subscription.lost += response.lost_events.num_events_lost
            if flows:
                records, extras = decoder.add_many(flows)
                nodes = np.array([subscription.node(flow.node_name) for flow in flows], np.uint16)
                subscription.append(records, extras, nodes)
            end = gathered[-1]
            if isinstance(end, Exception):
                raise end
            if end is None:
                return


class _Unread:
    """Messages as their bytes: to leave one out must cost less than to read it."""

    @staticmethod
    def FromString(raw: bytes) -> bytes:  # noqa: N802  protobuf's name
        """The bytes."""
        return raw


def _read(
    call: Any, backlog: queue.Queue[bytes | Exception | None], subscription: BackgroundSubscription, wanted: int
) -> None:
    """Move messages into the backlog, then how it ended: an exception, or None.

    The first `wanted` wait for room; of those after them, what finds none is left out and counted.
    """

    def put(item: bytes | Exception | None) -> None:
        while True:
            try:
                backlog.put(item, timeout=0.2)
                return
            except queue.Full:
                if subscription.cancelled and item is not None:
                    return

    try:
        for number, message in enumerate(call):
            if number < wanted or not backlog.full():
                put(message)
            else:
                subscription.skipped += 1
        put(None)
    except grpc.RpcError as error:
        put(error)
