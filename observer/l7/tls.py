"""The ClientHello of a TLS connection: server name, ALPN and version; the rest is encrypted and stays opaque.

Bytes of both sides enter, at most one message leaves: what the client asked for in the clear, also over several records
and segments (RFC 8446, 4.1.2 and 5.1; RFC 6066, 3; RFC 7301). Of an encrypted ClientHello it is the outer one's. GREASE
(RFC 8701) is left out. It refuses to know certificates, what a server answers, unless that is HTTP in the clear, and
SSL 2's hello.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from observer.l7.http1 import Http1
from observer.l7.message import Message, Side
from observer.losses import Losses
from observer.record import L7Kind, L7Type

RECORD_HEADER: Final = 5
RECORD_LIMIT: Final = 1 << 14
"""Octets of a plaintext record (RFC 8446, 5.1)."""

HELLO_LIMIT: Final = 1 << 16
"""Octets of a ClientHello that is read; with key shares of post-quantum groups they have 2,000."""

RECORDS_LIMIT: Final = 64
"""Records that a ClientHello may be spread over; senders use one or two."""

ALPN_LIMIT: Final = 32
"""Protocols offered that are told."""

VERSIONS: Final = {0x0300: "SSL 3.0", 0x0301: "TLS 1.0", 0x0302: "TLS 1.1", 0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}

_ANSWERS: Final = (21, 22)
"""Records with which a server answers a hello: alert, handshake."""

_HANDSHAKE, _CLIENT_HELLO, _SERVER_HELLO = 22, 1, 2
_SERVER_NAME, _ALPN, _SUPPORTED_VERSIONS, _ENCRYPTED_CLIENT_HELLO = 0, 16, 43, 0xFE0D
_RECORD: Final = struct.Struct(">BHH")


class MalformedError(Exception):
    """Bytes that are no ClientHello; never leaves l7/. Its text is the reason that is counted."""


def starts(data: bytes | bytearray) -> Side | None:
    """Whose hello these first bytes begin: a handshake record with a ClientHello or ServerHello in it."""
    if len(data) < RECORD_HEADER + 1:
        return None
    kind, version, length = _RECORD.unpack_from(data)
    if kind != _HANDSHAKE or version >> 8 != 3 or version & 0xFF > 4 or not 0 < length <= RECORD_LIMIT:
        return None
    return {_CLIENT_HELLO: Side.CLIENT, _SERVER_HELLO: Side.SERVER}.get(data[RECORD_HEADER])


def may_start(data: bytes | bytearray) -> bool:
    """Whether these few bytes may become a hello."""
    return len(data) <= RECORD_HEADER and b"\x16\x03".startswith(bytes(data[:2])) and (len(data) < 3 or data[2] <= 4)


class Tls:
    """Parser of one connection: opaque as soon as the ClientHello is read, or cannot be, and the server has answered.

    A server that takes the hello for a broken request answers in HTTP; that is read."""

    def __init__(self, losses: Losses) -> None:
        self.opaque = False
        self._losses = losses
        self._buffer = bytearray()  # of the client, from the record at hand on
        self._hello = bytearray()  # the handshake message, out of its records
        self._records = 0
        self._done = False
        self._plain: Http1 | None = None

    def feed(self, side: Side, data: bytes, time_ns: int) -> list[Message]:
        """Take the next bytes of a side and give the ClientHello if they complete it."""
        if self._plain is not None:
            out = self._plain.feed(side, data, time_ns)
            self.opaque = self._plain.opaque
            return out
        if self.opaque or not data:
            return []
        if side is Side.SERVER:
            if data[0] in _ANSWERS:
                self._end("" if self._done else "hello not seen")
                self.opaque = True
                return []
            self._end("")
            self._plain = Http1(self._losses)
            self._plain.gap(Side.CLIENT, 1)
            return self.feed(side, data, time_ns)
        if self._done:
            return []
        self._buffer += data
        try:
            hello = self._read()
            if hello is None:
                return []
            message = client_hello(hello, time_ns)
        except MalformedError as malformed:
            self._end(str(malformed))
            return []
        self._end("")
        return [message]

    def gap(self, side: Side, size: int) -> None:
        """Without these bytes there is no hello."""
        if self._plain is not None:
            self._plain.gap(side, size)
        elif side is Side.SERVER:
            self._end("" if self._done else "hello not seen")
            self.opaque = True
        elif not self._done:
            self._end("hello lost bytes")

    def close(self, side: Side) -> list[Message]:
        """Count a hello that will never be whole."""
        if self._plain is not None:
            return self._plain.close(side)
        if side is Side.CLIENT and not self._done:
            self._end("hello cut short" if self._buffer or self._hello else "")
        return []

    def _end(self, reason: str) -> None:
        if reason:
            self._losses.count("tls", reason)
        self._done = True
        self._buffer = bytearray()
        self._hello = bytearray()

    def _read(self) -> bytes | None:
        """The body of the hello once it is whole (RFC 8446, 5.1: a handshake message may span records)."""
        buffer, hello = self._buffer, self._hello
        at = 0
        while len(buffer) - at > RECORD_HEADER:
            kind, version, length = _RECORD.unpack_from(buffer, at)
            if kind != _HANDSHAKE or version >> 8 != 3 or not 0 < length <= RECORD_LIMIT:
                raise MalformedError("record of another kind within the hello")
            if len(buffer) - at < RECORD_HEADER + length:
                break
            self._records += 1
            if self._records > RECORDS_LIMIT:
                raise MalformedError("hello in too many records")
            hello += buffer[at + RECORD_HEADER : at + RECORD_HEADER + length]
            at += RECORD_HEADER + length
            if len(hello) < 4:
                continue
            if hello[0] != _CLIENT_HELLO:
                raise MalformedError("handshake without ClientHello")
            size = int.from_bytes(hello[1:4], "big")
            if size > HELLO_LIMIT:
                raise MalformedError("hello too large")
            if len(hello) >= 4 + size:
                return bytes(hello[4 : 4 + size])
        del buffer[:at]
        return None


def client_hello(body: bytes, time_ns: int) -> Message:
    """Read the body of a ClientHello; raises MalformedError."""
    version = _Fields(body).number(2)
    fields = _Fields(body)
    fields.skip(2 + 32)  # version, random
    fields.block(1)  # session id
    fields.block(2)  # cipher suites
    fields.block(1)  # compression methods
    name = b""
    protocols: list[bytes] = []
    told: dict[str, Any] = {}
    extensions = _Fields(fields.block(2)) if fields.left else fields
    seen: set[int] = set()
    while extensions.left:
        kind, data = extensions.number(2), _Fields(extensions.block(2))
        if kind in seen:
            continue  # RFC 8446, 4.2: there is one of a kind; of more, the first counts
        seen.add(kind)
        if kind == _SERVER_NAME:
            name = _server_name(data)
        elif kind == _ALPN:
            protocols = _alpn(data)
        elif kind == _SUPPORTED_VERSIONS:
            version = _newest(data, version)
        elif kind == _ENCRYPTED_CLIENT_HELLO:
            told["encrypted_client_hello"] = True  # or GREASE of it: that nobody can tell
    if name:
        told["server_name"] = text(name)
    if protocols:
        told["alpn"] = [text(protocol) for protocol in protocols]
    told["version"] = VERSIONS.get(version, f"0x{version:04x}")
    return Message(
        L7Kind.TLS,
        L7Type.REQUEST,
        Side.CLIENT,
        time_ns,
        (name, b",".join(protocols)),
        version=version,
        extension={"tls": told},
    )


def text(octets: bytes) -> str:
    """Bytes of a peer as text."""
    return octets.decode("utf-8", "backslashreplace")


def is_grease(number: int) -> bool:
    """Whether the value means nothing (RFC 8701, 2)."""
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


def _server_name(data: _Fields) -> bytes:
    """The first host name (RFC 6066, 3); b"" of an empty extension."""
    if not data.left:
        return b""
    names = _Fields(data.block(2))
    while names.left:
        kind, name = names.number(1), names.block(2)
        if kind == 0:
            return name
    return b""


def _alpn(data: _Fields) -> list[bytes]:
    """RFC 7301, 3.1."""
    protocols: list[bytes] = []
    names = _Fields(data.block(2))
    while names.left and len(protocols) < ALPN_LIMIT:
        name = names.block(1)
        if not (len(name) == 2 and is_grease(int.from_bytes(name, "big"))):
            protocols.append(name)
    return protocols


def _newest(data: _Fields, legacy: int) -> int:
    """The newest version offered (RFC 8446, 4.2.1); drafts of 1.3 count less than what was published."""
    versions = _Fields(data.block(1))
    offered = []
    while versions.left:
        offered.append(versions.number(2))
    offered = [version for version in offered if not is_grease(version)]
    return max([version for version in offered if version in VERSIONS] or offered[:1] or [legacy])


class _Fields:
    """Fields one after the other; raises MalformedError where one reaches beyond the end."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def skip(self, size: int) -> None:
        if size > self.left:
            raise MalformedError("malformed hello")
        self._at += size

    def number(self, size: int) -> int:
        self.skip(size)
        return int.from_bytes(self._data[self._at - size : self._at], "big")

    def block(self, width: int) -> bytes:
        """What follows a length of `width` octets."""
        size = self.number(width)
        self.skip(size)
        return self._data[self._at - size : self._at]
