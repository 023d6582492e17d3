"""The fields of an HTTP/2 header section: what they say of a request or a response (RFC 9113, 8.1 to 8.5).

Decoded fields in; pseudo-fields by name and the regular ones as lines, as HTTP/1 would have sent them, out. A field
that could make a line of its own (8.2.1) is left out and counted. It knows no streams.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from observer.l7.hpack import STATIC_TABLE, Field
from observer.l7.http1 import METHODS
from observer.losses import Losses
from observer.record import HttpMethod

# Looking members up in their class is slow, and done for every message.
CONNECT, OTHER = HttpMethod.CONNECT.value, HttpMethod.OTHER.value

NUL: Final = 0
"""As a number: `in` takes a string for an error first, and is slow."""

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")  # a token without upper case (8.2)
_PSEUDO: Final = frozenset({b":method", b":scheme", b":authority", b":path", b":status", b":protocol"})  # RFC 8441, 4
_STATUS: Final = re.compile(rb"[1-5][0-9][0-9]")
_PLAIN_NAMES: Final = frozenset(name for name, _ in STATIC_TABLE if name[:1] != b":") - {b"cookie"} | {
    b"te", b"grpc-status", b"grpc-message", b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding", b"traceparent",
}  # fmt: skip


@dataclass(slots=True)  # no NamedTuple: that looks its fields up in the class at every reading
class Section:
    """A header section."""

    pseudo: dict[bytes, bytes]
    fields: list[tuple[bytes, bytes]]  # the regular ones
    head: bytes  # the same as lines
    unknown: bool  # there are fields that could not be known
    begins_unknown: bool  # its first field is one of them
    cut: bool  # fields after these are missing
    sound: bool  # nothing was counted about it
    code: int | None  # of the status, where it is one
    first: dict[bytes, bytes]  # the value of the first field of each name
    is_request: bool  # it has a pseudo-field that only requests have

    def get(self, name: bytes) -> bytes:
        """The value of the first field of that name, or nothing."""
        return self.first.get(name, b"")


def read_section(decoded: Sequence[Field], cut: bool, losses: Losses) -> Section:
    """Sort the fields of one block; count what no sender may send."""
    pseudo: dict[bytes, bytes] = {}
    fields: list[tuple[bytes, bytes]] = []
    cookies: list[bytes] = []
    unknown = False
    malformed = 0
    for name, value in decoded:
        if name is None or value is None:
            unknown = True
        elif name in _PLAIN_NAMES:
            fields.append((name, value))
        elif name in _PSEUDO:
            if name in pseudo or fields:  # 8.3
                malformed += 1
            else:
                pseudo[name] = value
        elif name == b"cookie":
            cookies.append(value)
            if len(cookies) == 1:  # 8.2.3: the others are crumbs of the same field
                fields.append((name, value))
        elif _NAME.fullmatch(name):
            fields.append((name, value))
        else:
            malformed += 1
    if len(cookies) > 1:
        whole = b"; ".join(cookies)
        fields = [(name, whole if name == b"cookie" else value) for name, value in fields]
    head = _lines(fields)
    if NUL in head:  # gRPC's own way of sending octets as they are: the same as in base64
        fields = [(name, _in_base64(value) if name[-4:] == b"-bin" else value) for name, value in fields]
        head = _lines(fields)
    if head.count(b"\n") != len(fields) or head.count(b"\r") != len(fields) or NUL in head:
        kept = [(name, value) for name, value in fields if not _breaks(value)]
        malformed += len(fields) - len(kept)
        fields, head = kept, _lines(kept)
    if malformed:
        losses.count("http2", "malformed field", malformed)
    if cut:
        losses.count("http2", "header section cut short")
    first_unknown = decoded[0][0] is None if decoded else cut
    sound = not malformed and not cut
    status = pseudo.get(b":status")
    code = int(status) if status is not None and _STATUS.fullmatch(status) else None
    is_request = bool(pseudo) and status is None
    return Section(pseudo, fields, head, unknown, first_unknown, cut, sound, code, dict(reversed(fields)), is_request)


def _lines(fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"\r\n".join([name + b": " + value for name, value in fields] + [b""])


def _in_base64(value: bytes) -> bytes:
    return base64.b64encode(value[1:]).rstrip(b"=") if value[:1] == b"\0" else value


def _breaks(value: bytes) -> bool:
    return b"\n" in value or b"\r" in value or b"\0" in value


def method_of(section: Section) -> int | None:
    """The number of a request's method, None where it is not known."""
    method = section.pseudo.get(b":method")
    return METHODS.get(method, OTHER) if method else None


def texts_of(section: Section, method: int | None) -> tuple[bytes, ...]:
    """Target, host, method if it has no number, and scheme if it is not http: record.TEXT."""
    pseudo = section.pseudo
    host = pseudo.get(b":authority") or section.get(b"host")  # 8.3.1
    target = pseudo.get(b":path", b"")
    if method == CONNECT and not target and b":protocol" not in pseudo and not (section.unknown or section.cut):
        target = host  # 8.5: as HTTP/1 has it, in authority-form
    scheme = pseudo.get(b":scheme", b"http")
    spelled = pseudo[b":method"] if method == OTHER else b""
    if scheme != b"http" or b":protocol" in pseudo:
        return target, host, spelled, scheme
    return (target, host, spelled) if spelled else (target, host)
