"""gRPC and gRPC-Web: what a call's header fields and message prefixes say (gRPC over HTTP/2, PROTOCOL-WEB).

In: header fields of a stream and the octets of its body. Out: service, method, deadline, status and message counts, as
the extension of an L7 message. Messages are passed over by their length prefix; trailers that gRPC-Web puts into the
body are read. It knows no frames, and refuses to know base64 (application/grpc-web-text), where nothing is counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from observer.extra import header_fields
from observer.l7.message import Message, Side
from observer.record import L7Kind, L7Type

# Looking members up in their class is slow, and done for every message.
CLIENT, SERVER = Side.CLIENT, Side.SERVER

STATUS_NAMES: Final = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)

WEB_TRAILER_LIMIT: Final = 4_096
"""Octets of a gRPC-Web trailer section that are read."""
MESSAGE_TEXT_LIMIT: Final = 1_024
"""Octets of grpc-message, as sent, that are kept."""

_PREFIX_SIZE: Final = 5  # a flag octet and a length
_TRAILER_FLAG: Final = 0x80  # gRPC-Web: the "message" is the trailer section
_FLAGS: Final = frozenset((0, 1, 0x80, 0x81))

_CONTENT_TYPE: Final = re.compile(rb"application/grpc(-web(?:-text)?)?(?:[+; \t]|\Z)", re.IGNORECASE)
_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS_NS: Final = {
    b"H": 3_600_000_000_000,
    b"M": 60_000_000_000,
    b"S": 1_000_000_000,
    b"m": 1_000_000,
    b"u": 1_000,
    b"n": 1,
}
_STATUS: Final = re.compile(rb"[0-9]{1,3}")


def is_grpc(content_type: bytes) -> bool:
    """Whether a body of this content-type is gRPC or gRPC-Web."""
    return content_type[:1] in b"aA" and _CONTENT_TYPE.match(content_type) is not None


def timeout_ns(value: bytes) -> int | None:
    """The deadline of grpc-timeout in nanoseconds, or None where it is malformed."""
    match = _TIMEOUT.fullmatch(value)
    return int(match[1]) * _UNITS_NS[match[2]] if match else None


def status_of(value: bytes) -> int | None:
    """The number of grpc-status, or None where it is malformed or fits no octet."""
    return int(value) if _STATUS.fullmatch(value) and int(value) < 256 else None


def split_path(path: bytes) -> tuple[str, str]:
    """Service and method of a :path (/package.Service/Method); empty where it has another form."""
    service, slash, method = path[1:].rpartition(b"/")
    if path[:1] != b"/" or not slash or not service or not method:
        return "", ""
    return service.decode("utf-8", "backslashreplace"), method.decode("utf-8", "backslashreplace")


class _Prefixes:
    """Counts the messages of one side by their length prefixes, and keeps a gRPC-Web trailer section."""

    __slots__ = ("head", "known", "left", "messages", "trailer", "trailer_left")

    def __init__(self) -> None:
        self.known = True
        self.head = b""
        self.left = 0
        self.messages = 0
        self.trailer = b""
        self.trailer_left = 0

    def feed(self, data: bytes) -> None:
        position, end = 0, len(data)
        while position < end:
            if self.left:
                step = min(self.left, end - position)
                self.left -= step
                position += step
            elif self.trailer_left:
                part = data[position : position + self.trailer_left]
                self.trailer_left -= len(part)
                position += len(part)
                self.trailer = (self.trailer + part)[:WEB_TRAILER_LIMIT]
            else:
                part = data[position : position + _PREFIX_SIZE - len(self.head)]
                position += len(part)
                head = self.head + part
                self.head = head if len(head) < _PREFIX_SIZE else b""
                if not self.head and not self._prefix(head):
                    return

    def _prefix(self, head: bytes) -> bool:
        size = int.from_bytes(head[1:], "big")
        if head[0] not in _FLAGS:
            self.known = False  # no gRPC, or not from its beginning
        elif head[0] & _TRAILER_FLAG:
            self.trailer_left = size
        else:
            self.messages += 1
            self.left = size
        return self.known


class GrpcCall:
    """One call: what its headers said, and how many messages went each way."""

    __slots__ = ("_sides", "deadline_ns", "method", "service", "status", "status_message")

    def __init__(self, path: bytes, content_type: bytes, timeout: bytes = b"") -> None:
        self.service, self.method = split_path(path)
        self.deadline_ns = timeout_ns(timeout)
        self.status: int | None = None
        self.status_message = b""
        self._sides = (_Prefixes(), _Prefixes())
        if content_type[:20].lower() == b"application/grpc-web" and content_type[20:25].lower() == b"-text":
            self.lose(CLIENT)
            self.lose(SERVER)

    def data(self, side: Side, data: bytes) -> None:
        """Take the next octets of that side's body."""
        prefixes = self._sides[side]
        if prefixes.known:
            prefixes.feed(data)

    def lose(self, side: Side) -> None:
        """Octets of that side's body were lost: its messages can no longer be counted."""
        self._sides[side].known = False

    def trailers(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Take grpc-status and grpc-message where the fields have them."""
        for name, value in fields:
            if name == b"grpc-status":
                self.status = status_of(value)
            elif name == b"grpc-message":
                self.status_message = unquote_to_bytes(value[:MESSAGE_TEXT_LIMIT])

    def end(self) -> None:
        """The server's body is complete: read the trailers in it (gRPC-Web)."""
        prefixes = self._sides[SERVER]
        if self.status is None and prefixes.known and prefixes.trailer:
            lines = prefixes.trailer.split(b"\n")
            if prefixes.trailer_left or len(prefixes.trailer) == WEB_TRAILER_LIMIT:
                lines.pop()  # the last may be cut
            pairs = [line.partition(b":") for line in lines]
            self.trailers((name.strip().lower(), value.strip()) for name, _, value in pairs)

    def request_extension(self) -> dict[str, Any]:
        """What the request's message carries beside Hubble's fields."""
        grpc: dict[str, Any] = {}
        if self.service:
            grpc = {"service": self.service, "method": self.method}
        if self.deadline_ns is not None:
            grpc["timeout_ns"] = self.deadline_ns
        return {"grpc": grpc}

    def response_extension(self) -> dict[str, Any]:
        """What the response's message carries: the request's, the status, and the counts that are known."""
        extension = self.request_extension()
        grpc = extension["grpc"]
        if self.status is not None:
            grpc["status"] = self.status
            if self.status < len(STATUS_NAMES):
                grpc["status_name"] = STATUS_NAMES[self.status]
        if self.status_message:
            grpc["message"] = self.status_message.decode("utf-8", "backslashreplace")
        asked, answered = self._sides
        if asked.known:
            grpc["request_messages"] = asked.messages
        if answered.known:
            grpc["response_messages"] = answered.messages
        several = (asked.messages > 1, answered.messages > 1)
        if any(several):  # of what was counted; a stream of one message shows nothing
            grpc["streaming"] = {(True, False): "client", (False, True): "server", (True, True): "bidirectional"}[
                several
            ]
        return extension


def see_http1(message: Message) -> None:
    """Make an HTTP/1 message of gRPC-Web one; counts, and trailers in the body, would take reading bodies."""
    fields = [(name.lower().encode(), value.encode()) for name, value in header_fields(message.head)]
    content_type = next((value for name, value in fields if name == b"content-type"), b"")
    request = message.request
    if not is_grpc(content_type) and (request is None or request.kind is not L7Kind.GRPC):
        return
    timeout = next((value for name, value in fields if name == b"grpc-timeout"), b"")
    call = GrpcCall(message.texts[0] if message.texts else b"", content_type, timeout)
    call.lose(CLIENT)
    call.lose(SERVER)
    call.trailers(fields)
    message.kind = L7Kind.GRPC
    message.extension = call.request_extension() if message.type is L7Type.REQUEST else call.response_extension()
