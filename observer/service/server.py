"""The gRPC server: observer.Observer, peer.Peer, batch.Batch and grpc.health.v1 on unix sockets and TCP.

Serialized requests enter and serialized answers leave, so gRPC decodes nothing and no peer's bytes raise inside it. A
stream holds a thread for as long as it lasts; streams are counted, so that the unary calls always find one.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own words on stderr are nobody's; errors come as exceptions

import grpc
from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from observer import __version__
from observer.api import batch_pb2, observer_pb2, peer_pb2
from observer.errors import ConfigError, FilterError
from observer.query import InvalidQueryError
from observer.service.address import Address, check_free
from observer.service.answers import Answers

MAX_STREAMS: Final = 512
"""Followers and other streams at a time; one more is told RESOURCE_EXHAUSTED."""
SPARE_CALLS: Final = 64
"""Calls beside the streams: unary ones, and those that are told that there is no room."""
MAX_REQUEST: Final = 1 << 20
"""Bytes of a request: filters, no data."""
STOP_S: Final = 1.0
"""How long `stop` lets answers under way finish."""
SWITCH_S: Final = 0.0005
"""How long a busy thread may keep the others waiting. A message changes threads twice, and Python's own 5 ms each time,
beside a pipeline that never rests, made followers a third slower."""
HEALTH_NAMES: Final = ("", "observer.Observer", "hubble.server.Observer", "batch.Batch")

# The API that we speak is Hubble 1.19.4's. Written so that no CLI takes it for a version to compare itself with: the
# stock one, built from source, is 0.0.0 and would warn its user of every server that gives a number.
SERVER_VERSION: Final = f"1.19.4 (flowscope {__version__})"
METADATA: Final = (("hubble-server-version", SERVER_VERSION),)

OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # two servers on one port would share its connections without a word
    ("grpc.max_receive_message_length", MAX_REQUEST),
    # A follower whose machine is gone says nothing; ask it, or its thread is never free again.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

Request = TypeVar("Request", bound=Message)
Stream = Callable[[Any, threading.Event], Iterator[bytes]]


class Server:
    """Listens, answers, stops."""

    def __init__(self, answers: Answers, *, node_name: str) -> None:
        self._answers = answers
        self._node_name = node_name
        self._stopping = threading.Event()
        self._streams = 0
        self._lock = threading.Lock()
        self._cancels: set[threading.Event] = set()
        self._addresses: list[Address] = []
        self._health = health.HealthServicer()
        self._threads = ThreadPoolExecutor(MAX_STREAMS + SPARE_CALLS, thread_name_prefix="grpc")
        self._server = grpc.server(
            self._threads,
            handlers=self._handlers(),
            options=OPTIONS,
            maximum_concurrent_rpcs=MAX_STREAMS + SPARE_CALLS,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)

    def listen(self, address: Address) -> Address:
        """Bind one more address and return it with the port it got; ConfigError says what is in the way."""
        check_free(address)
        # Only its owner may connect to a socket file; the mask holds from the first moment it is there.
        mask = os.umask(0o177)
        try:
            port = self._server.add_insecure_port(address.target)
        except RuntimeError as error:
            raise ConfigError(f"cannot listen on {address}; choose another with --listen") from error
        finally:
            os.umask(mask)
        bound = address if address.path is not None else Address(host=address.host, port=port)
        self._addresses.append(bound)
        return bound

    def start(self) -> None:
        """Answer calls; `status` says NOT_SERVING until `ready`."""
        sys.setswitchinterval(SWITCH_S)
        self._server.start()

    def ready(self) -> None:
        """Say SERVING."""
        self._set_health(health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        """End every stream and call, and take the socket files away."""
        self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._stopping.set()
        with self._lock:
            for cancel in self._cancels:
                cancel.set()
        self._server.stop(STOP_S).wait()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for address in self._addresses:
            if address.path is not None:
                address.path.unlink(missing_ok=True)

    @property
    def streams(self) -> int:
        """How many streams hold a thread now."""
        return self._streams

    def _set_health(self, status: Any) -> None:
        for name in HEALTH_NAMES:
            self._health.set(name, status)

    def _handlers(self) -> list[grpc.GenericRpcHandler]:
        answers = self._answers
        unary, stream = self._unary, self._stream
        return [
            grpc.method_handlers_generic_handler(
                "observer.Observer",
                {
                    "GetFlows": stream(observer_pb2.GetFlowsRequest, lambda r, c: answers.flows(r, c.is_set)),
                    "ServerStatus": unary(observer_pb2.ServerStatusRequest, lambda _: answers.server_status()),
                    "GetNamespaces": unary(observer_pb2.GetNamespacesRequest, lambda _: answers.namespaces()),
                    "GetNodes": _unimplemented("GetNodes"),
                    "GetAgentEvents": _unimplemented("GetAgentEvents", stream=True),
                    "GetDebugEvents": _unimplemented("GetDebugEvents", stream=True),
                },
            ),
            grpc.method_handlers_generic_handler(
                "batch.Batch",
                {
                    "GetBatches": stream(observer_pb2.GetFlowsRequest, lambda r, c: answers.batches(r, c.is_set)),
                    "Status": unary(batch_pb2.StatusRequest, lambda _: answers.status()),
                },
            ),
            grpc.method_handlers_generic_handler(
                "peer.Peer", {"Notify": stream(peer_pb2.NotifyRequest, lambda _, c: self._peers(c))}
            ),
        ]

    def _peers(self, cancel: threading.Event) -> Iterator[bytes]:
        """Tell of this node, the only one, and keep the stream open: Relay takes its end for a failure."""
        reachable = sorted(self._addresses, key=lambda address: address.local)
        yield peer_pb2.ChangeNotification(
            name=self._node_name, address=str(reachable[0]), type=peer_pb2.PEER_ADDED
        ).SerializeToString()
        cancel.wait()

    def _unary(self, kind: type[Request], answer: Callable[[Request], Message]) -> grpc.RpcMethodHandler[bytes, bytes]:
        def respond(serialized: bytes, context: grpc.ServicerContext) -> bytes:
            request = _parse(kind, serialized, context)
            context.send_initial_metadata(METADATA)
            return answer(request).SerializeToString()

        return grpc.unary_unary_rpc_method_handler(respond)

    def _stream(self, kind: type[Request], stream: Stream) -> grpc.RpcMethodHandler[bytes, bytes]:
        def respond(serialized: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            request = _parse(kind, serialized, context)
            cancel = threading.Event()
            if not self._enter(cancel):
                context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, f"the server answers {MAX_STREAMS} streams already; try later"
                )
            try:
                if not context.add_callback(cancel.set):
                    return  # gone before it began
                messages = stream(request, cancel)
                context.send_initial_metadata(METADATA)
                yield from messages
                if self._stopping.is_set():
                    # Not an end: a follower tries again, and finds the next server.
                    context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
            except InvalidQueryError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            except FilterError as error:
                context.abort(grpc.StatusCode.UNKNOWN, str(error))  # as Hubble: its CLI prints the bare text
            finally:
                self._leave(cancel)

        return grpc.unary_stream_rpc_method_handler(respond)

    def _enter(self, cancel: threading.Event) -> bool:
        with self._lock:
            if self._streams >= MAX_STREAMS or self._stopping.is_set():
                return False
            self._streams += 1
            self._cancels.add(cancel)
            return True

    def _leave(self, cancel: threading.Event) -> None:
        with self._lock:
            self._streams -= 1
            self._cancels.discard(cancel)


def _parse(kind: type[Request], serialized: bytes, context: grpc.ServicerContext) -> Request:
    try:
        return kind.FromString(serialized)
    except ProtobufError:
        context.abort(grpc.StatusCode.INTERNAL, f"the request is no {kind.DESCRIPTOR.full_name}")


def _unimplemented(name: str, *, stream: bool = False) -> grpc.RpcMethodHandler[bytes, bytes]:
    def refuse(_: bytes, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{name} not implemented")

    return grpc.unary_stream_rpc_method_handler(refuse) if stream else grpc.unary_unary_rpc_method_handler(refuse)
