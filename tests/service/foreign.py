"""Observers that are not ours: one that says what a test lets it say, and ours without what Hubble does not have."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from observer.service.server import Server

HANDLERS = Server._handlers


@contextmanager
def answering(address: str = "127.0.0.1:0", **answers: bytes | Sequence[bytes]) -> Iterator[str]:
    """A server of these methods of observer.Observer; their answers are one message, or those of a stream."""

    def handler(answer: bytes | Sequence[bytes]) -> grpc.RpcMethodHandler:
        if isinstance(answer, bytes):
            return grpc.unary_unary_rpc_method_handler(lambda _request, _context: answer)
        return grpc.unary_stream_rpc_method_handler(lambda _request, _context: iter(answer))

    methods = {name: handler(answer) for name, answer in answers.items()}
    server = grpc.server(
        ThreadPoolExecutor(4), handlers=[grpc.method_handlers_generic_handler("observer.Observer", methods)]
    )
    port = server.add_insecure_port(address)
    server.start()
    try:
        yield f"127.0.0.1:{port}" if port > 1 else address
    finally:
        server.stop(None).wait()


def without_batches(patch: pytest.MonkeyPatch) -> None:
    """Let our servers be plain Hubble nodes, which have no batch service."""

    def handlers(self: Server) -> list[grpc.ServiceRpcHandler]:
        return [handler for handler in HANDLERS(self) if handler.service_name() != "batch.Batch"]

    patch.setattr(Server, "_handlers", handlers)
