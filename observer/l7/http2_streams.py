"""The streams of one HTTP/2 connection: header sections of both sides in, requests and responses out (RFC 9113, 8).

A request is told at its header section, a response at its own; a gRPC response when its trailers have come, because
they hold its status. It owns pairing and latency. What was said before it listened is told as unknown. It knows no
octets of frames and no tables.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from observer.l7.grpc import GrpcCall, is_grpc
from observer.l7.http2_head import Section, method_of, texts_of
from observer.l7.message import Message, Side
from observer.losses import Losses
from observer.record import L7Kind, L7Type

# Looking members up in their class is slow, and done for every message.
GRPC, HTTP = L7Kind.GRPC, L7Kind.HTTP
BOTH = CLIENT, SERVER = Side.CLIENT, Side.SERVER
REQUEST, RESPONSE = L7Type.REQUEST, L7Type.RESPONSE

STREAM_LIMIT: Final = 4_096
"""Streams of one connection that are remembered; beyond, the oldest is forgotten."""
REMEMBERED_LIMIT: Final = 1 << 22
"""Octets of header sections that the streams of one connection keep, STREAM_COST included."""
STREAM_COST: Final = 512
RESET_LIMIT: Final = 256
"""Streams that a client has given up and whose answer may still be on its way: so many are remembered."""
GOAWAY_LIMIT: Final = 16
"""GOAWAY frames that are acted upon."""

ERROR_CODES: Final = (  # 7
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)

_SIDES: Final = ("client", "server")


def error_name(code: int) -> str:
    """The name of an error code, its number where it has none."""
    return ERROR_CODES[code] if code < len(ERROR_CODES) else str(code)


class Answer(NamedTuple):
    """A response as far as another reader has heard it."""

    answered: bool
    told: bool
    code: int | None
    incomplete: bool
    grpc_status: int | None


class _Stream:
    """One request and its response, as far as they were seen."""

    __slots__ = ("answered", "call", "code", "cost", "epochs", "head", "incomplete", "pushed", "request", "told")

    def __init__(self, request: Message | None, epochs: tuple[int, int]) -> None:
        self.request = request
        self.epochs = epochs  # how often bytes had been lost on each side
        self.call: GrpcCall | None = None
        self.answered = False  # the response's header section has come
        self.told = False  # the response
        self.pushed = False  # `request` is the server's promise (8.4)
        self.code: int | None = None
        self.head = b""  # of the response
        self.incomplete = False  # fields of the response are missing
        self.cost = STREAM_COST


class Streams:
    """What is remembered of the streams of one connection."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        self._streams: dict[int, _Stream] = {}
        self._cost = 0
        self._newest = 0  # the last stream that the client opened (5.1.1: their numbers ascend)
        self._epochs = (0, 0)
        self._goaways = 0
        self._given_up: deque[int] = deque(maxlen=RESET_LIMIT)

    def lost(self, side: Side) -> None:
        """Bytes of a side were lost, and frames may be among them."""
        client, server = self._epochs
        self._epochs = (client + 1, server) if side is CLIENT else (client, server + 1)

    def upgraded(self, request: Message) -> None:
        """Stream 1 is an HTTP/1.1 request that asked for h2c (RFC 7540, 3.2)."""
        self._newest = 1
        self._remember(1, _Stream(request, self._epochs), len(request.head))

    def resume(self, newest: int) -> None:
        """Go on where another reader has stopped: `newest` is the last stream that the client opened."""
        self._newest = newest

    def resume_stream(self, number: int, request: Message | None, content_type: bytes, answer: Answer) -> None:
        """Take a stream that waits for the rest of its response; messages in its bodies are not counted any more."""
        stream = _Stream(request, self._epochs)
        stream.answered, stream.told, stream.code, stream.incomplete = answer[:4]
        if content_type:
            stream.call = GrpcCall(request.texts[0] if request is not None else b"", content_type)
            stream.call.lose(CLIENT)
            stream.call.lose(SERVER)
            stream.call.status = answer.grpc_status
        self._remember(number, stream, 0)

    def section(
        self, side: Side, number: int, section: Section, end_stream: bool, time_ns: int, out: list[Message]
    ) -> None:
        """Take a header section of a stream."""
        if side is CLIENT:
            self._asked(number, section, end_stream, time_ns, out)
        elif section.code is None or not 100 <= section.code < 200:  # 8.1: interim, the response is still to come
            self._answered(number, section, end_stream, time_ns, out)

    def promise(self, number: int, section: Section, time_ns: int) -> None:
        """Take the request that the server makes up for what it will push (8.4): no client has sent it."""
        method = method_of(section)
        request = Message(HTTP, REQUEST, CLIENT, time_ns, texts_of(section, method), method, 20, id=number)
        stream = _Stream(request, self._epochs)
        stream.pushed = True
        stream.incomplete = section.unknown or section.cut
        self._remember(number, stream, sum(map(len, request.texts)))

    def wants_data(self, number: int) -> bool:
        """Whether somebody counts messages in that stream's DATA."""
        stream = self._streams.get(number)
        return stream is not None and stream.call is not None and not stream.told

    def data(self, side: Side, number: int, data: bytes, start: int, end: int) -> None:
        """Take octets of DATA, without padding, where somebody counts messages in them."""
        stream = self._streams.get(number)
        if stream is None or stream.call is None or stream.told:
            return
        if stream.epochs[side] != self._epochs[side]:
            stream.call.lose(side)
        stream.call.data(side, data[start:end])

    def data_lost(self, side: Side, number: int) -> None:
        """Octets of DATA of this stream were lost, and nothing else."""
        stream = self._streams.get(number)
        if stream is not None and stream.call is not None:
            stream.call.lose(side)

    def end(self, side: Side, number: int, time_ns: int, out: list[Message]) -> None:
        """The side ends the stream with DATA: the last that a response has where no trailers follow."""
        if side is SERVER and (stream := self._streams.get(number)) is not None:
            if stream.call is not None and not stream.told:
                if stream.epochs[side] == self._epochs[side]:
                    stream.call.end()
                self._tell(number, stream, time_ns, out)
            self._forget(number)

    def reset(self, side: Side, number: int, code: int, time_ns: int, out: list[Message]) -> None:
        """The side gives the stream up (6.4): a request without answer gets none any more."""
        stream = self._streams.get(number)
        if stream is None:
            return
        if not stream.told and not stream.pushed:
            self._tell(number, stream, time_ns, out, {"reset": error_name(code), "reset_by": _SIDES[side]})
            if side is CLIENT:
                self._given_up.append(number)
        self._forget(number)

    def go_away(self, side: Side, last: int, code: int, time_ns: int, out: list[Message]) -> None:
        """The server will not look at the requests after `last` (6.8)."""
        self._goaways += 1
        if side is CLIENT or self._goaways > GOAWAY_LIMIT:
            return  # a client's is about pushes
        for number in [number for number in self._streams if number > last and number % 2]:
            stream = self._streams[number]
            if not stream.answered:
                self._tell(number, stream, time_ns, out, {"goaway": error_name(code)})
                self._forget(number)

    def close(self, time_ns: int, out: list[Message]) -> None:
        """The server says no more: tell the gRPC responses that have begun."""
        for number, stream in self._streams.items():
            if stream.answered and not stream.told:
                stream.incomplete = True
                self._tell(number, stream, time_ns, out)
        self._streams.clear()
        self._cost = 0

    # Header sections

    def _asked(self, number: int, section: Section, end_stream: bool, time_ns: int, out: list[Message]) -> None:
        if not section.is_request:
            asked = self._streams.get(number)
            if asked is not None and asked.request is not None:
                return  # trailers (8.1)
            if number <= self._newest or not section.begins_unknown:
                return  # trailers of a request that was not seen, or is forgotten
            if end_stream and not self._newest:
                self._losses.count("http2", "header section of unknown kind")
                return
        if not number % 2:
            self._losses.count("http2", "request on a server's stream")  # 5.1.1
            return
        if number > self._newest:
            self._newest = number
        method = method_of(section)
        texts = texts_of(section, method)
        message = Message(HTTP, REQUEST, CLIENT, time_ns, texts, method, 20, None, number)
        message.head = section.head
        if section.unknown or section.cut:
            message.incomplete = True
        elif method is None or not texts[0]:
            message.incomplete = True
            self._losses.count("http2", "malformed request")  # 8.3.1
        stream = _Stream(message, self._epochs)
        content_type, timeout = section.first.get(b"content-type", b""), section.first.get(b"grpc-timeout", b"")
        if is_grpc(content_type) or (section.unknown and timeout):
            message.kind = GRPC
            call = stream.call = GrpcCall(texts[0], content_type, timeout)
            message.extension = call.request_extension()
        if protocol := section.pseudo.get(b":protocol"):  # RFC 8441
            spoken = protocol.decode("utf-8", "backslashreplace")
            message.extension = {**(message.extension or {}), "http2": {"stream_id": number, "protocol": spoken}}
        out.append(message)
        self._remember(number, stream, len(section.head) + sum(map(len, texts)))

    def _answered(self, number: int, section: Section, end_stream: bool, time_ns: int, out: list[Message]) -> None:
        stream = self._streams.get(number)
        begins = b":status" in section.pseudo or self._begins(stream, section, end_stream)
        if stream is None:
            if number in self._given_up:
                return  # the server answered before it heard of it: the response was told (5.1)
            if begins is False and not section.get(b"grpc-status"):
                return  # trailers of a response that was not seen
            stream = _Stream(None, self._epochs)
            if not end_stream and begins:
                self._remember(number, stream, 0)
        if begins is None:
            if stream.call is None:
                self._losses.count("http2", "header section of unknown kind")
                return
            stream.incomplete = True  # the first section or the last: a gRPC response ends with either
        if begins and stream.answered:
            self._losses.count("http2", "second response of a stream")
            return
        stream.incomplete |= section.unknown or section.cut
        if begins:
            stream.answered = True
            stream.code = section.code
        elif not stream.answered:
            stream.incomplete = True
        if not stream.told:
            if stream.call is None and not stream.pushed:
                self._see_grpc(stream, section, begins is True)
            stream.head += section.head
            stream.cost += len(section.head)
            if number in self._streams:
                self._cost += len(section.head)
            if stream.call is not None and (b"grpc-status" in section.first or b"grpc-message" in section.first):
                stream.call.trailers(section.fields)
            if end_stream or (begins and stream.call is None):
                self._tell(number, stream, time_ns, out)
        if end_stream:
            self._forget(number)

    def _begins(self, stream: _Stream | None, section: Section, end_stream: bool) -> bool | None:
        """Whether a server's section without status begins a response (not: ends one); None: that cannot be known."""
        if (stream is not None and stream.answered) or not section.begins_unknown:
            return False
        if not end_stream or (stream is not None and stream.epochs[SERVER] == self._epochs[SERVER]):
            return True  # trailers end their stream, and come second
        return None

    def _see_grpc(self, stream: _Stream, section: Section, begins: bool) -> None:
        """Let the response say that it is gRPC where the request could not."""
        content_type = section.get(b"content-type")
        if not is_grpc(content_type) and not section.get(b"grpc-status"):
            return
        request = stream.request
        if request is not None and not request.incomplete:
            return  # its request was read whole, and was none
        target = request.texts[0] if request is not None else b""
        stream.call = GrpcCall(target, content_type)
        stream.call.lose(CLIENT)
        if not begins:
            stream.call.lose(SERVER)

    # Messages

    def _tell(
        self, number: int, stream: _Stream, time_ns: int, out: list[Message], ended: dict[str, Any] | None = None
    ) -> None:
        stream.told = True
        call, request = stream.call, stream.request
        message = Message(HTTP, RESPONSE, SERVER, time_ns, (), None, 20, stream.code, number)
        message.head = stream.head
        message.incomplete = stream.incomplete or request is None or (stream.code is None and ended is None)
        if stream.epochs[SERVER] != self._epochs[SERVER] and (ended is not None or call is not None):
            message.incomplete = True  # what was lost may have been the answer, or its trailers
        extension: Mapping[str, Any] = {}
        if call is not None:
            for side in BOTH:
                if stream.epochs[side] != self._epochs[side]:
                    call.lose(side)
            message.kind = GRPC
            extension = call.response_extension()
        if ended is not None:
            extension = {**extension, "http2": {"stream_id": number, **ended}}
        elif stream.pushed:
            extension = {**extension, "http2": {"stream_id": number, "pushed": True}}
        message.extension = extension or None
        if request is not None:
            message.texts, message.method = request.texts, request.method
            message.incomplete |= request.incomplete
            if not stream.pushed:
                message.request = request
                if time_ns >= request.time_ns:
                    message.latency_ns = time_ns - request.time_ns
        out.append(message)
        stream.request, stream.head = None, b""

    # What is remembered

    def _remember(self, number: int, stream: _Stream, size: int) -> None:
        if number in self._streams:
            self._forget(number)
        stream.cost += size
        self._cost += stream.cost
        self._streams[number] = stream
        while len(self._streams) > STREAM_LIMIT or self._cost > REMEMBERED_LIMIT:
            self._forget(next(iter(self._streams)))
            self._losses.count("http2", "too many streams")

    def _forget(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None:
            self._cost -= stream.cost
