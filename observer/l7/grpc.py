"""gRPC and gRPC-Web: what a call's header fields and message prefixes say (gRPC over HTTP/2, PROTOCOL-WEB).

In: header fields of a stream and the octets of its body. Out: service, method, deadline, status and message counts, as
the extension of an L7 message. Messages are passed over by their length prefix; trailers that gRPC-Web puts into the
body are read. It knows no frames, and refuses to know base64 (application/grpc-web-text), where nothing is counted.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
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

EXTENSIONS_LIMIT: Final = 1_024
"""Extensions of messages kept, because calls of one method say the same again and again."""
EXTENSION_SIZE: Final = 256
"""Octets of the path and message of one that is kept."""

_PREFIX: Final = struct.Struct("!BL")  # a flag octet and a length
_PREFIX_SIZE: Final = _PREFIX.size
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


def is_grpc(content_type: bytes) -> bool:
    """Whether a body of this content-type is gRPC or gRPC-Web."""
    return content_type[:1] in b"aA" and _CONTENT_TYPE.match(content_type) is not None


def timeout_ns(value: bytes) -> int | None:
    """The deadline of grpc-timeout in nanoseconds, or None where it is malformed."""
    match = _TIMEOUT.fullmatch(value)
    return int(match[1]) * _UNITS_NS[match[2]] if match else None


def status_of(value: bytes) -> int | None:
    """The number of grpc-status, or None where it is malformed or fits no octet."""
    return int(value) if value.isdigit() and len(value) < 4 and int(value) < 256 else None


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
        if end >= _PREFIX_SIZE and not (self.left or self.head or self.trailer_left):
            flag, size = _PREFIX.unpack_from(data)
            if size == end - _PREFIX_SIZE and flag < 2:  # one message, as most DATA
                self.messages += 1
                return
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

    __slots__ = ("_path", "_sides", "deadline_ns", "status", "status_message")

    def __init__(self, path: bytes, content_type: bytes, timeout: bytes = b"") -> None:
        self._path = path
        self.deadline_ns = timeout_ns(timeout) if timeout else None
        self.status: int | None = None
        self.status_message = b""
        self._sides = (_Prefixes(), _Prefixes())
        if content_type[16:17] == b"-" and content_type[:25].lower() == b"application/grpc-web-text":
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
                self.status_message = unquote_to_bytes(value[:MESSAGE_TEXT_LIMIT]) if value else b""

    def end(self) -> None:
        """The server's body is complete: read the trailers in it (gRPC-Web)."""
        prefixes = self._sides[SERVER]
        if self.status is None and prefixes.known and prefixes.trailer:
            lines = prefixes.trailer.split(b"\n")
            if prefixes.trailer_left or len(prefixes.trailer) == WEB_TRAILER_LIMIT:
                lines.pop()  # the last may be cut
            pairs = [line.partition(b":") for line in lines]
            self.trailers((name.strip().lower(), value.strip()) for name, _, value in pairs)

    def request_extension(self) -> Mapping[str, Any]:
        """What the request's message carries beside Hubble's fields; not to be changed."""
        extension = _kept_extension if len(self._path) <= EXTENSION_SIZE else _extension
        return extension(self._path, self.deadline_ns)

    def response_extension(self) -> Mapping[str, Any]:
        """What the response's message carries: the request's, the status, and the counts that are known; as above."""
        asked, answered = self._sides
        size = len(self._path) + len(self.status_message)
        extension = _kept_extension if size <= EXTENSION_SIZE else _extension
        return extension(
            self._path,
            self.deadline_ns,
            self.status,
            self.status_message,
            asked.messages if asked.known else None,
            answered.messages if answered.known else None,
        )


def _extension(
    path: bytes,
    deadline_ns: int | None,
    status: int | None = None,
    status_message: bytes = b"",
    asked: int | None = None,
    answered: int | None = None,
) -> Mapping[str, Any]:
    """What a message of a call carries; `asked` and `answered` are messages counted, None where nobody could."""
    service, method = (_kept_path if len(path) <= EXTENSION_SIZE else split_path)(path)
    grpc: dict[str, Any] = {"service": service, "method": method} if service else {}
    if deadline_ns is not None:
        grpc["timeout_ns"] = deadline_ns
    if status is not None:
        grpc["status"] = status
        if status < len(STATUS_NAMES):
            grpc["status_name"] = STATUS_NAMES[status]
    if status_message:
        grpc["message"] = status_message.decode("utf-8", "backslashreplace")
    if asked is not None:
        grpc["request_messages"] = asked
    if answered is not None:
        grpc["response_messages"] = answered
    several = (asked or 0) > 1, (answered or 0) > 1
    if any(several):  # of what was counted; a stream of one message shows nothing
        grpc["streaming"] = {(True, False): "client", (False, True): "server", (True, True): "bidirectional"}[several]
    return {"grpc": grpc}


_kept_extension = lru_cache(EXTENSIONS_LIMIT)(_extension)
_kept_path = lru_cache(EXTENSIONS_LIMIT)(split_path)


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
