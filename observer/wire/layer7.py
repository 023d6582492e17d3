"""flow.Layer7 and the summary of L7 flows: HTTP, DNS, Kafka; gRPC as HTTP/2, TLS without a record.

The L7 columns and texts of one record and its extra in; encoded Layer7, summary text and extension entries out.
HTTP field semantics are RFC 9110's.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple, TypeAlias

from observer.api import flow_pb2
from observer.extra import DnsAnswer, Extra, header_fields
from observer.l7.dns_types import type_name
from observer.l7.kafka_schema import KEYS, name_of
from observer.record import HttpMethod, L7Kind, L7Type, Present
from observer.wire import summary
from observer.wire.protobuf import delimited, keep, number, string, strings, struct_entry, tag, utf8, varint, varints

OBSERVATION_SOURCE: Final = "packet"
"""DNS.observation_source: the packets themselves; Hubble has "proxy" there, which flowscope has none of."""

# Plain integers: members of IntFlag and IntEnum cost a microsecond in every `&` and `==`.
_REQUEST: Final = L7Type.REQUEST.value
_RESPONSE: Final = L7Type.RESPONSE.value
_KIND_HTTP: Final = L7Kind.HTTP.value
_KIND_DNS: Final = L7Kind.DNS.value
_KIND_KAFKA: Final = L7Kind.KAFKA.value
_KIND_GRPC: Final = L7Kind.GRPC.value
_KIND_TLS: Final = L7Kind.TLS.value
_HAS_CODE: Final = Present.CODE.value
_HAS_METHOD: Final = Present.METHOD.value
_HAS_ID: Final = Present.L7_ID.value
_HAS_LATENCY: Final = Present.LATENCY.value
_HAS_GRPC_STATUS: Final = Present.GRPC_STATUS.value

_TYPE: Final = tag(flow_pb2.Layer7, "type")
_LATENCY: Final = tag(flow_pb2.Layer7, "latency_ns")
_HTTP: Final = tag(flow_pb2.Layer7, "http")
_DNS: Final = tag(flow_pb2.Layer7, "dns")
_KAFKA: Final = tag(flow_pb2.Layer7, "kafka")
_NS_PER_MS: Final = 1_000_000
_DOUBLE: Final = struct.Struct("<d")
_TYPES: Final = tuple(number(_TYPE, l7_type) for l7_type in range(256))

# HTTP and gRPC

_CODE: Final = tag(flow_pb2.HTTP, "code")
_METHOD: Final = tag(flow_pb2.HTTP, "method")
_URL: Final = tag(flow_pb2.HTTP, "url")
_PROTOCOL: Final = tag(flow_pb2.HTTP, "protocol")
_HEADERS: Final = tag(flow_pb2.HTTP, "headers")
_HEADER_KEY: Final = tag(flow_pb2.HTTPHeader, "key")
_HEADER_VALUE: Final = tag(flow_pb2.HTTPHeader, "value")
_METHODS: Final = {method.value: method.name.encode() for method in HttpMethod if 0 < method.value < 255}
Texts: TypeAlias = tuple[bytes, bytes, bytes, bytes]

_LINE_MAX: Final = 512  # longer header lines repeat too seldom to be worth keeping


def url(method: bytes, target: bytes, host: bytes, scheme: bytes = b"") -> bytes:
    """The URL of a request: scheme and host before an origin-form target, other forms as sent (RFC 9112, 3.2)."""
    if scheme and host and target[:1] == b"/":
        return scheme + b"://" + host + target  # also of an extended CONNECT (RFC 8441, 4)
    if not host or not target or (target[:1] != b"/" and target != b"*") or method == b"CONNECT":
        return target
    if target == b"*":
        return b"http://" + host  # RFC 9110, 7.1: the authority itself
    return b"http://" + host + target


def http_method(l7_method: int, present: int, spelled: bytes) -> bytes:
    """The name of a request method, empty when it is not known."""
    if not present & _HAS_METHOD:
        return b""
    return _METHODS.get(l7_method, spelled if l7_method == HttpMethod.OTHER else b"")


def http_version(l7_version: int) -> bytes:
    """The protocol as Hubble spells it: HTTP/1.0, HTTP/1.1, HTTP/2; empty when it is not known."""
    if not l7_version:
        return b""
    major, minor = divmod(l7_version, 10)
    return b"HTTP/%d" % major if major > 1 else b"HTTP/%d.%d" % (major, minor)


def http(l7_type: int, code: int, method: bytes, version: bytes, texts: Texts) -> Message:
    """The body of Layer7.http without headers, and the summary; what is not known is left out of both."""
    method, whole = utf8(method), utf8(url(method, texts[0], texts[1], texts[3]))
    body = number(_CODE, code) + string(_METHOD, method) + string(_URL, whole) + string(_PROTOCOL, version)
    request = (method + b" " + whole).strip(b" ")
    if l7_type == _REQUEST:
        line = version + b" " + request
        return Message(body, b"", line, b"", line, b"")
    answer = b" ".join([part for part in (version, b"%d" % code if code else b"") if part])
    asked = b"(" + request + b")" if request else b""
    return Message(
        body,
        b"",
        answer + b" " if answer else b"",
        b" " + asked if asked else b"",
        b" ".join([part for part in (answer, asked) if part]),
        b"",
    )


def _header_line(line: bytes) -> bytes:
    return b"".join(
        [
            delimited(_HEADERS, string(_HEADER_KEY, name) + string(_HEADER_VALUE, value))
            for name, value in header_fields(line)
        ]
    )


class _HeaderLines(dict[bytes, bytes]):
    """Encoded headers by line: the same lines come again and again, except long ones, which are not kept."""

    def __missing__(self, line: bytes) -> bytes:
        value = _header_line(line)
        if len(line) <= _LINE_MAX:
            keep(self, line, value)
        return value


_header_lines: Final = _HeaderLines()


def http_headers(head: bytes) -> bytes:
    """The headers of a message from its raw section."""
    if b"\n " in head or b"\n\t" in head:
        return _header_line(head)  # folded lines belong together
    lines = _header_lines
    return b"".join([lines[line] for line in head.split(b"\r\n")])


# DNS

_QUERY: Final = tag(flow_pb2.DNS, "query")
_IPS: Final = tag(flow_pb2.DNS, "ips")
_TTL: Final = tag(flow_pb2.DNS, "ttl")
_CNAMES: Final = tag(flow_pb2.DNS, "cnames")
_SOURCE: Final = tag(flow_pb2.DNS, "observation_source")
_RCODE: Final = tag(flow_pb2.DNS, "rcode")
_QTYPES: Final = tag(flow_pb2.DNS, "qtypes")
_RRTYPES: Final = tag(flow_pb2.DNS, "rrtypes")
_NO_ANSWER: Final = DnsAnswer()


def dns(l7_type: int, query: str, qtype: int | None, rcode: int, answer: DnsAnswer | None) -> tuple[bytes, str]:
    """The field Layer7.dns and the summary."""
    said = answer or _NO_ANSWER
    qtypes = said.qtypes
    if not qtypes and qtype is not None:
        qtypes = (type_name(qtype),)
    body = string(_QUERY, query) + string(_SOURCE, OBSERVATION_SOURCE) + strings(_QTYPES, qtypes)
    if l7_type != _RESPONSE:
        return delimited(_DNS, body), summary.dns_query(query, qtypes)
    body += (
        strings(_IPS, said.ips)
        + number(_TTL, said.ttl)
        + strings(_CNAMES, said.cnames)
        + number(_RCODE, rcode)
        + strings(_RRTYPES, said.rrtypes)
    )
    return delimited(_DNS, body), summary.dns_answer(query, qtypes, rcode, said)


# Kafka

_ERROR_CODE: Final = tag(flow_pb2.Kafka, "error_code")
_API_VERSION: Final = tag(flow_pb2.Kafka, "api_version")
_API_KEY: Final = tag(flow_pb2.Kafka, "api_key")
_CORRELATION_ID: Final = tag(flow_pb2.Kafka, "correlation_id")
_TOPIC: Final = tag(flow_pb2.Kafka, "topic")


def kafka_api_number(name: str) -> int | None:
    """The number of a Kafka API key by its name (or number as text); None for an unknown one."""
    if name.isascii() and name.isdigit():
        return int(name) if len(name) < 6 and int(name) < 1 << 16 else None
    return KEYS.get(name)


def kafka(
    l7_type: int, api_key: int | None, version: int, error_code: int, correlation_id: int, topic: str
) -> tuple[bytes, str]:
    """The field Layer7.kafka and the summary; error code and correlation id are signed on the wire."""
    name = "" if api_key is None else name_of(api_key)
    error = error_code - (0x1_0000 if error_code > 0x7FFF else 0)
    correlation = correlation_id - (0x1_0000_0000 if correlation_id > 0x7FFF_FFFF else 0)
    body = (
        number(_ERROR_CODE, error)
        + number(_API_VERSION, version)
        + string(_API_KEY, name)
        + number(_CORRELATION_ID, correlation)
        + string(_TOPIC, topic)
    )
    return delimited(_KAFKA, body), summary.kafka(l7_type == _REQUEST, name, correlation, topic, error)


# What Hubble has no place for


_STREAM_ID: Final = struct_entry("http2", {"stream_id": 0})[:-8]
_DNS_ID: Final = struct_entry("dns", {"id": 0})[:-8]


def extension_entries(kind: int, present: int, grpc_status: int, texts: Texts) -> bytes:
    """The entries of Flow.extensions that an L7 protocol adds, without the stream."""
    if kind == _KIND_GRPC:
        service, _, method = texts[0].lstrip(b"/").partition(b"/")
        call: dict[str, object] = {"service": service, "method": method}
        if present & _HAS_GRPC_STATUS:
            call["status"] = grpc_status
        return struct_entry("grpc", call)
    if kind == _KIND_KAFKA and texts[1]:
        return struct_entry("kafka", {"client_id": texts[1]})
    if kind == _KIND_TLS:
        hello = {"server_name": texts[0], "alpn": texts[1]}
        return struct_entry("tls", {name: text for name, text in hello.items() if text})
    return b""


class Message(NamedTuple):
    """What records with the same L7 columns and texts share, encoded."""

    http: bytes  # the body of Layer7.http without headers
    record: bytes  # the field Layer7.dns or Layer7.kafka whole
    before: bytes  # the summary before the latency, after it, and where there is none
    after: bytes
    plain: bytes
    entries: bytes  # of the extension


class Layer7Encoder:
    """Encodes the L7 part of flows, and keeps what it made of the same request."""

    def __init__(self) -> None:
        self._messages: dict[tuple[object, ...], Message] = {}

    def encode(
        self,
        tail: bytes,
        present: int,
        code: int,
        version: int,
        method: int,
        l7_id: int,
        latency: int,
        lengths: bytes,
        text: bytes,
        extra: Extra | None,
    ) -> tuple[bytes, bytes, bytes]:
        """Layer7, the summary and the extension's entries of one record; `tail` is the record from `family` on."""
        kind = tail[8]
        head = b""
        more: object = None
        if extra is not None:
            head = extra.head
            if extra.texts:
                more = extra.texts
            if (said := extra.dns) is not None:
                more = (more, said.ips, said.cnames, said.ttl, said.qtypes, said.rrtypes)
        # A correlation id is the only id that goes into the record itself; one at a time is what Kafka costs.
        id_in_record = l7_id if kind == _KIND_KAFKA else 0
        key = (text, lengths, tail, present, code, version, method, id_in_record, more)
        message = self._messages.get(key)
        if message is None:
            message = make_message(
                tail, present, (code, version, method, l7_id), split_texts(lengths, text, extra), extra
            )
            keep(self._messages, key, message)
        body, record, before, after, line, entries = message
        out = _TYPES[tail[9]]
        if present & _HAS_LATENCY and latency:
            out += _LATENCY + varint(latency)
        if kind == _KIND_HTTP or kind == _KIND_GRPC:  # noqa: SIM109 -- half the price of `in`
            if head:
                body += http_headers(head)
            out += _HTTP + varints[len(body)] + body
            if present & _HAS_LATENCY and tail[9] != _REQUEST:
                line = before + b"%dms" % (latency // _NS_PER_MS) + after
            if extra is not None and extra.extension:
                if "grpc" in extra.extension:
                    entries = b""  # the extra says the same, and more
                if "http2" in extra.extension:
                    return out, line, entries
            if present & _HAS_ID and (version >= 20 or kind == _KIND_GRPC):
                entries += _STREAM_ID + _DOUBLE.pack(l7_id)
        else:
            out += record
            if kind == _KIND_DNS and present & _HAS_ID:
                entries += _DNS_ID + _DOUBLE.pack(l7_id)
        return out, line, entries


def split_texts(lengths: bytes, text: bytes, extra: Extra | None) -> Texts:
    """The four strings of a record, whole where the extra has them."""
    if extra is not None and extra.texts:
        whole = (*extra.texts, b"", b"", b"", b"")
        return whole[0], whole[1], whole[2], whole[3]
    one = lengths[0]
    two = one + lengths[1]
    three = two + lengths[2]
    return text[:one], text[one:two], text[two:three], text[three : three + lengths[3]]


def make_message(
    tail: bytes, present: int, columns: tuple[int, int, int, int], texts: Texts, extra: Extra | None
) -> Message:
    """Encode what records with the same L7 columns and texts share."""
    kind, l7_type = tail[8], tail[9]
    code, version, method, l7_id = columns
    entries = extension_entries(kind, present, tail[11], texts)
    known_method = method if present & _HAS_METHOD else None
    record, line = b"", ""
    if kind in (_KIND_HTTP, _KIND_GRPC):
        code = code if present & _HAS_CODE and l7_type == _RESPONSE else 0
        return http(l7_type, code, http_method(method, present, texts[2]), http_version(version), texts)._replace(
            entries=entries
        )
    if kind == _KIND_DNS:
        query = texts[0].decode("utf-8", "backslashreplace")
        record, line = dns(l7_type, query, known_method, code, extra.dns if extra is not None else None)
    elif kind == _KIND_KAFKA:
        topic = texts[0].decode("utf-8", "backslashreplace")
        record, line = kafka(l7_type, known_method, version, code if present & _HAS_CODE else 0, l7_id, topic)
    elif kind == _KIND_TLS:
        line = f"TLS {texts[0].decode('utf-8', 'backslashreplace')}".strip()
    return Message(b"", record, b"", b"", line.encode("utf-8", "backslashreplace"), entries)
