"""flow.Layer7 and the summary of L7 flows: HTTP, DNS, Kafka; gRPC as HTTP/2, TLS without a record.

The L7 columns and texts of one record and its extra in; encoded Layer7, summary text and extension entries out.
HTTP field semantics are RFC 9110's; DNS type names are IANA's, RFC 3597's form for the rest.
"""

from __future__ import annotations

from typing import Final

from observer.api import flow_pb2
from observer.extra import DnsAnswer, Extra, header_fields
from observer.record import HttpMethod, L7Kind, L7Type, Present
from observer.wire import summary
from observer.wire.protobuf import (
    Cache,
    delimited,
    encode_varint,
    number,
    string,
    strings,
    struct_entry,
    tag,
    utf8,
    varints,
)

OBSERVATION_SOURCE: Final = "packet"
"""DNS.observation_source: the packets themselves; Hubble has "proxy" there, which flowscope has none of."""

_TYPE: Final = tag(flow_pb2.Layer7, "type")
_LATENCY: Final = tag(flow_pb2.Layer7, "latency_ns")
_HTTP: Final = tag(flow_pb2.Layer7, "http")
_DNS: Final = tag(flow_pb2.Layer7, "dns")
_KAFKA: Final = tag(flow_pb2.Layer7, "kafka")
_NS_PER_MS: Final = 1_000_000

type_field: Final[Cache[int]] = Cache(lambda l7_type: number(_TYPE, l7_type))


def layer7_head(l7_type: int, latency_ns: int | None) -> bytes:
    """Layer7.type and, where it is known, Layer7.latency_ns."""
    if not latency_ns:
        return type_field[l7_type]
    return type_field[l7_type] + _LATENCY + encode_varint(latency_ns)


# HTTP and gRPC

_CODE: Final = tag(flow_pb2.HTTP, "code")
_METHOD: Final = tag(flow_pb2.HTTP, "method")
_URL: Final = tag(flow_pb2.HTTP, "url")
_PROTOCOL: Final = tag(flow_pb2.HTTP, "protocol")
_HEADERS: Final = tag(flow_pb2.HTTP, "headers")
_HEADER_KEY: Final = tag(flow_pb2.HTTPHeader, "key")
_HEADER_VALUE: Final = tag(flow_pb2.HTTPHeader, "value")
_METHODS: Final = {method.value: method.name.encode() for method in HttpMethod if 0 < method.value < 255}
_LINE_MAX: Final = 512  # longer header lines repeat too seldom to be worth keeping

status_field: Final[Cache[int]] = Cache(lambda code: number(_CODE, code))


def url(method: bytes, target: bytes, host: bytes) -> bytes:
    """The URL of a request: scheme and host before an origin-form target, other forms as sent (RFC 9112, 3.2)."""
    if not host or not target or (target[:1] != b"/" and target != b"*") or method == b"CONNECT":
        return target
    if target == b"*":
        return b"http://" + host  # RFC 9110, 7.1: the authority itself
    return b"http://" + host + target


def http_method(l7_method: int, present: int, spelled: bytes) -> bytes:
    """The name of a request method, empty when it is not known."""
    if not present & Present.METHOD:
        return b""
    return _METHODS.get(l7_method, spelled if l7_method == HttpMethod.OTHER else b"")


def http_version(l7_version: int) -> bytes:
    """The protocol as Hubble spells it: HTTP/1.0, HTTP/1.1, HTTP/2; empty when it is not known."""
    if not l7_version:
        return b""
    major, minor = divmod(l7_version, 10)
    return b"HTTP/%d" % major if major > 1 else b"HTTP/%d.%d" % (major, minor)


def http_parts(method: bytes, version: bytes, target: bytes, host: bytes) -> tuple[bytes, bytes, bytes]:
    """What all flows of a request share: encoded fields, "METHOD URL" and protocol for the summary."""
    method, whole = utf8(method), utf8(url(method, target, host))
    fields = string(_METHOD, method) + string(_URL, whole) + string(_PROTOCOL, version)
    return fields, (method + b" " + whole).strip(b" "), version


def _header_line(line: bytes) -> bytes:
    return b"".join(
        [
            delimited(_HEADERS, string(_HEADER_KEY, name) + string(_HEADER_VALUE, value))
            for name, value in header_fields(line)
        ]
    )


_header_lines: Final = Cache(_header_line)


def http_headers(head: bytes) -> bytes:
    """The headers of a message from its raw section, line by line: the same lines come again and again."""
    if b"\n " in head or b"\n\t" in head or head[:1] in (b" ", b"\t"):
        return _header_line(head)  # folded lines belong together
    return b"".join(
        [
            _header_lines[line] if len(line) <= _LINE_MAX else _header_line(line)
            for line in head.replace(b"\r\n", b"\n").split(b"\n")
            if line
        ]
    )


def http_field(l7_type: int, code: int, fields: bytes, head: bytes) -> bytes:
    """The field Layer7.http."""
    body = fields
    if l7_type == L7Type.RESPONSE and code:
        body = status_field[code] + body
    if head:
        body += http_headers(head)
    return _HTTP + varints[len(body)] + body


def http_summary(l7_type: int, code: int, latency_ns: int | None, request: bytes, version: bytes) -> bytes:
    """The summary of a request or response; what is not known is left out."""
    if l7_type == L7Type.REQUEST:
        return version + b" " + request
    parts = [version, b"%d" % code if code else b""]
    if latency_ns is not None:
        parts.append(b"%dms" % (latency_ns // _NS_PER_MS))
    if request:
        parts.append(b"(" + request + b")")
    return b" ".join([part for part in parts if part])


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
_DNS_TYPES: Final = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    12: "PTR",
    15: "MX",
    16: "TXT",
    28: "AAAA",
    33: "SRV",
    64: "SVCB",
    65: "HTTPS",
    255: "ANY",
}


def dns(l7_type: int, query: str, qtype: int | None, rcode: int, answer: DnsAnswer | None) -> tuple[bytes, str]:
    """The field Layer7.dns and the summary."""
    said = answer or _NO_ANSWER
    qtypes = said.qtypes
    if not qtypes and qtype is not None:
        qtypes = (_DNS_TYPES.get(qtype, f"TYPE{qtype}"),)
    body = string(_QUERY, query) + string(_SOURCE, OBSERVATION_SOURCE) + strings(_QTYPES, qtypes)
    if l7_type != L7Type.RESPONSE:
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
# Protocol guide, "API Keys", in the spelling of Hubble and of policies.
_API_KEYS: Final = [
    "produce",
    "fetch",
    "offsets",
    "metadata",
    "leaderandisr",
    "stopreplica",
    "updatemetadata",
    "controlledshutdown",
    "offsetcommit",
    "offsetfetch",
    "findcoordinator",
    "joingroup",
    "heartbeat",
    "leavegroup",
    "syncgroup",
    "describegroups",
    "listgroups",
    "saslhandshake",
    "apiversions",
    "createtopics",
    "deletetopics",
    "deleterecords",
    "initproducerid",
    "offsetforleaderepoch",
    "addpartitionstotxn",
    "addoffsetstotxn",
    "endtxn",
    "writetxnmarkers",
    "txnoffsetcommit",
    "describeacls",
    "createacls",
    "deleteacls",
    "describeconfigs",
    "alterconfigs",
]


def kafka_api_key(key: int) -> str:
    """The name of a Kafka API key, its number where it has none."""
    return _API_KEYS[key] if key < len(_API_KEYS) else str(key)


def kafka(
    l7_type: int, api_key: int | None, version: int, error_code: int | None, correlation_id: int, topic: str
) -> tuple[bytes, str]:
    """The field Layer7.kafka and the summary; error code and correlation id are signed on the wire."""
    name = "" if api_key is None else kafka_api_key(api_key)
    error = (error_code or 0) - (0x1_0000 if (error_code or 0) > 0x7FFF else 0)
    correlation = correlation_id - (0x1_0000_0000 if correlation_id > 0x7FFF_FFFF else 0)
    body = (
        number(_ERROR_CODE, error)
        + number(_API_VERSION, version)
        + string(_API_KEY, name)
        + number(_CORRELATION_ID, correlation)
        + string(_TOPIC, topic)
    )
    return delimited(_KAFKA, body), summary.kafka(l7_type == L7Type.REQUEST, name, correlation, topic, error)


# What Hubble has no place for


def extension_entries(
    kind: int, present: int, l7_id: int, l7_version: int, grpc_status: int, texts: tuple[bytes, ...]
) -> bytes:
    """The entries of Flow.extensions that an L7 protocol adds."""
    entries = b""
    if kind == L7Kind.GRPC:
        service, _, method = texts[0].lstrip(b"/").partition(b"/")
        call: dict[str, object] = {"service": service, "method": method}
        if present & Present.GRPC_STATUS:
            call["status"] = grpc_status
        entries = struct_entry("grpc", call)
    elif kind == L7Kind.KAFKA and texts[1]:
        entries = struct_entry("kafka", {"client_id": texts[1]})
    elif kind == L7Kind.TLS:
        hello = {"server_name": texts[0], "alpn": texts[1]}
        entries = struct_entry("tls", {name: text for name, text in hello.items() if text})
    if present & Present.L7_ID:
        if kind == L7Kind.DNS:
            entries += struct_entry("dns", {"id": l7_id})
        elif kind == L7Kind.GRPC or (kind == L7Kind.HTTP and l7_version >= 20):
            entries += struct_entry("http2", {"stream_id": l7_id})
    return entries


def layer7(
    kind: int,
    l7_type: int,
    present: int,
    columns: tuple[int, int, int, int],
    texts: tuple[bytes, ...],
    latency_ns: int | None,
    extra: Extra | None,
) -> tuple[bytes, bytes]:
    """The record field of Layer7 and the summary of a kind other than HTTP; `columns` are code, version, method, id."""
    code, version, method, l7_id = columns
    if kind == L7Kind.DNS:
        query = texts[0].decode("utf-8", "backslashreplace")
        field, text = dns(
            l7_type, query, method if present & Present.METHOD else None, code, extra.dns if extra is not None else None
        )
    elif kind == L7Kind.KAFKA:
        topic = texts[0].decode("utf-8", "backslashreplace")
        field, text = kafka(
            l7_type,
            method if present & Present.METHOD else None,
            version,
            code if present & Present.CODE else None,
            l7_id,
            topic,
        )
    elif kind == L7Kind.TLS:
        field, text = b"", f"TLS {texts[0].decode('utf-8', 'backslashreplace')}".strip()
    else:
        field, text = b"", ""
    return field, text.encode()
