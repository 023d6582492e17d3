"""Readings: what a field says of a flow, on the materialised flow and over a store's columns.

A question about one value ("begins with a", "over 100") enters, the Term that asks it of every value a flow has leaves.
Hubble's own fields are read by the families (event, network, endpoint, l7); these readings serve what its filters
cannot express. Where a column does not tell all, rows are left open and the flow is asked.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Generic, TypeAlias, TypeVar

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from observer.api import flow_pb2
from observer.extra import Extra, header_fields
from observer.filters.index import (
    TEXTS_KEPT,
    Bounds,
    Index,
    Judge,
    Mask,
    PerEndpoint,
    PerText,
    Rows,
    Term,
    certain,
    endpoint_index,
    equal,
    flagged,
    one_of,
    possible,
    upper,
)
from observer.filters.l7 import HTTP_KINDS
from observer.filters.network import PORT_PROTOCOLS
from observer.identity.endpoints import MAPPED, Endpoint
from observer.l7.kafka_schema import name_of
from observer.record import RECORD, RECORD_SIZE, L7Kind, L7Type, Present, Protocol, Records
from observer.store import Columns
from observer.wire import summary as summaries
from observer.wire.layer7 import Layer7Encoder, Texts, http_method, split_texts
from observer.wire.parts import address_text
from observer.wire.protobuf import keep

T = TypeVar("T")
Flow: TypeAlias = flow_pb2.Flow
Parts: TypeAlias = tuple[Index, Callable[[Columns], Mask] | None, Judge | None]
"""What makes a Term beside its exact form: index, imported, judge."""
Ask: TypeAlias = Callable[[Any], Any]
"""A question about one value, or about each of an array of numbers."""


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """One field in both forms; `side` is "source", "destination", or empty for what belongs to no end."""

    values: Callable[[Flow, str], Iterable[T]]
    rows: Callable[[str, Ask], Parts]

    def term(self, side: str, ask: Ask) -> Term:
        """The term that any value of the field satisfies `ask`."""
        values = self.values
        return Term(lambda flow: any(ask(value) for value in values(flow, side)), *self.rows(side, ask))


def _decoded(raw: bytes) -> str:
    """Bytes of the network as the string that a flow has."""
    return raw.decode("utf-8", "backslashreplace")


# One end of a flow


def _of_endpoint(
    flow: Callable[[flow_pb2.Endpoint], Iterable[str]], table: Callable[[Endpoint], Iterable[str]]
) -> Reading[str]:
    """By what an endpoint says; imported rows have theirs in the table too."""

    def rows(side: str, ask: Ask) -> Parts:
        index = endpoint_index(f"{side}_endpoint", lambda endpoint: any(ask(text) for text in table(endpoint)))
        return index, upper(index), None

    return Reading(lambda whole, side: flow(getattr(whole, side)), rows)


def slashed(namespace: str, name: str) -> tuple[str, ...]:
    """Namespace/name, as a list that is empty where there is neither."""
    return (f"{namespace}/{name}",) if namespace or name else ()


def _label_forms(labels: Iterable[str]) -> Iterator[str]:
    """Each label with and without its source."""
    for label in labels:
        yield label
        _, colon, rest = label.partition(":")
        if colon:
            yield rest


def _kind_and_name(kind: str, name: str) -> str:
    return f"{kind}/{name}" if kind else name


POD: Final = _of_endpoint(lambda end: slashed(end.namespace, end.pod_name), lambda end: slashed(end.namespace, end.pod))
NAMESPACE: Final = _of_endpoint(
    lambda end: (end.namespace,) if end.namespace else (), lambda end: (end.namespace,) if end.namespace else ()
)
CLUSTER: Final = _of_endpoint(
    lambda end: (end.cluster_name,) if end.cluster_name else (), lambda end: (end.cluster,) if end.cluster else ()
)
LABEL: Final = _of_endpoint(lambda end: _label_forms(end.labels), lambda end: _label_forms(end.labels))
WORKLOAD: Final = _of_endpoint(
    lambda end: [_kind_and_name(each.kind, each.name) for each in end.workloads],
    lambda end: [_kind_and_name(kind, name) for name, kind in end.workloads],
)


def _service_values(flow: Flow, side: str) -> Iterable[str]:
    service = getattr(flow, f"{side}_service")
    return slashed(service.namespace, service.name)


def _service_rows(side: str, ask: Ask) -> Parts:
    def of_endpoint(endpoint: Endpoint) -> bool:
        return endpoint.service is not None and any(ask(text) for text in slashed(*endpoint.service))

    # An imported flow may name a service and have no endpoint.
    return endpoint_index(f"{side}_endpoint", of_endpoint), None, None


SERVICE: Final = Reading(_service_values, _service_rows)


def _fqdn_rows(side: str, ask: Ask) -> Parts:
    of_endpoint = PerEndpoint(f"{side}_endpoint", lambda endpoint: any(ask(name) for name in endpoint.names), np.bool_)
    known: dict[tuple[str, ...], bool] = {}
    own = attrgetter(f"{side}_names")

    def index(columns: Columns) -> Bounds:
        mask = of_endpoint(columns)
        for row, extra in enumerate(columns.extras.tolist()):
            if extra is None or not (names := own(extra)):
                continue
            answer = known.get(names)
            if answer is None:
                answer = any(ask(name) for name in names)
                keep(known, names, answer)
            mask[row] = answer
        return certain(mask)

    return index, upper(index), None


FQDN: Final = Reading(lambda flow, side: getattr(flow, f"{side}_names"), _fqdn_rows)


def _identity_rows(side: str, ask: Ask) -> Parts:
    """The record's own identity, else its endpoint's, as endpoint.py reads it."""
    numbers = f"{side}_endpoint"
    of_endpoint = PerEndpoint(numbers, lambda endpoint: endpoint.identity, np.uint32)

    def index(columns: Columns) -> Bounds:
        own = columns[f"{side}_identity"]
        told = own != 0
        return certain(ask(np.where(told, own, of_endpoint(columns))) & (told | (columns[numbers] != 0)))

    return index, lambda columns: ask(columns[f"{side}_identity"]), None


IDENTITY: Final = Reading(
    lambda flow, side: (getattr(flow, side).identity,) if flow.HasField(side) else (), _identity_rows
)


def _ip_rows(side: str, ask: Ask) -> Parts:
    known: dict[tuple[int, bytes], bool] = {}

    def answer(family: int, address: bytes) -> bool:
        key = (family, address)
        said = known.get(key)
        if said is None:
            said = bool(ask(address_text(family, address)))
            keep(known, key, said, ADDRESSES_KEPT)
        return said

    def judge(columns: Columns, asked: Rows) -> Mask:
        families = columns["family"][asked]
        addresses = np.ascontiguousarray(columns[f"{side}_ip"][asked])
        mask = np.zeros(len(asked), np.bool_)
        rows = np.flatnonzero(families == 4)  # whose first twelve bytes are all alike
        if len(rows):
            numbers, places = np.unique(addresses[rows].view("<u4")[:, 3], return_inverse=True)
            raw = numbers.tobytes()
            answers = [answer(4, MAPPED + raw[at : at + 4]) for at in range(0, len(raw), 4)]
            mask[rows] = np.array(answers, np.bool_)[places]
        others = np.flatnonzero(families != 4)
        told = addresses[others].tobytes()
        for at, (row, family) in enumerate(zip(others.tolist(), families[others].tolist(), strict=True)):
            mask[row] = answer(family, told[16 * at : 16 * at + 16])
        return mask

    # An imported flow may spell it otherwise.
    return (lambda columns: possible(columns["family"] != 0)), None, judge


ADDRESSES_KEPT: Final = 1 << 16
"""Addresses that a question about addresses remembers from one block of rows to the next."""
IP: Final = Reading(lambda flow, side: (text,) if (text := getattr(flow.IP, side)) else (), _ip_rows)


def _port_values(flow: Flow, side: str) -> Iterable[int]:
    name = flow.l4.WhichOneof("protocol")
    return (getattr(getattr(flow.l4, name), f"{side}_port") & 0xFFFF,) if name in ("TCP", "UDP", "SCTP") else ()


def _port_rows(side: str, ask: Ask) -> Parts:
    def index(columns: Columns) -> Bounds:
        ported = one_of(columns["protocol"], PORT_PROTOCOLS) & (columns["family"] != 0)
        return certain(ported & ask(columns[f"{side}_port"]))

    return index, lambda columns: ask(columns[f"{side}_port"]), None


PORT: Final = Reading(_port_values, _port_rows)

# The flow itself


def _node_rows(_: str, ask: Ask) -> Parts:
    def index(columns: Columns) -> Bounds:
        answers = np.array([bool(name) and ask(name) for name in columns.store.nodes], np.bool_)
        return certain(answers.take(columns.nodes, mode="clip"))

    return index, None, None


NODE: Final = Reading(lambda flow, _: (flow.node_name,) if flow.node_name else (), _node_rows)


def policy_forms(namespace: str, name: str) -> tuple[str, ...]:
    """Namespace/name, and the name alone."""
    return (f"{namespace}/{name}", name) if namespace and name else (name,) if name else ()


def _policies(flow: Flow, _: str) -> Iterator[str]:
    for policies in (flow.egress_denied_by, flow.ingress_denied_by, flow.egress_allowed_by, flow.ingress_allowed_by):
        for policy in policies:
            yield from policy_forms(policy.namespace, policy.name)


def _policy_rows(_: str, ask: Ask) -> Parts:
    def index(columns: Columns) -> Bounds:
        policies = columns.store.policies
        mask = np.zeros(columns.length, np.bool_)
        for column in ("egress_rule", "ingress_rule"):
            numbers, places = np.unique(columns[column], return_inverse=True)
            # A row that the writer is just overwriting may have any number.
            known = [policies[number] if 0 < number < len(policies) else None for number in numbers.tolist()]
            answers = [
                policy is not None and any(ask(text) for text in policy_forms(policy.namespace, policy.name))
                for policy in known
            ]
            mask |= np.array(answers, np.bool_)[places]
        return certain(mask)

    return index, None, None  # an imported flow may name more than two


POLICY: Final = Reading(_policies, _policy_rows)


def _latency_rows(_: str, ask: Ask) -> Parts:
    def index(columns: Columns) -> Bounds:
        told = flagged(columns["present"], Present.LATENCY) & (columns["l7_kind"] != 0)
        latency_ns = columns["latency_ns"]
        return certain(told & (latency_ns != 0) & ask(latency_ns))

    return index, lambda columns: (columns["latency_ns"] != 0) & ask(columns["latency_ns"]), None


LATENCY: Final = Reading(lambda flow, _: (flow.l7.latency_ns,) if flow.l7.latency_ns else (), _latency_rows)


def extension(flow: Flow, key: str) -> Any:
    """One entry of the Struct in Flow.extensions, where Hubble has no place for it; None if it is not there."""
    if not flow.extensions.Is(Struct.DESCRIPTOR):
        return None
    struct = Struct()
    try:
        flow.extensions.Unpack(struct)
    except DecodeError:  # the bytes inside an Any were not checked with the flow
        return None
    return struct[key] if key in struct.fields else None  # as Struct shows it: number, text, Struct, ListValue


def _extension_part(flow: Flow, key: str, name: str) -> Any:
    part = extension(flow, key)
    return part[name] if isinstance(part, Struct) and name in part.fields else None


def _number(value: Any) -> Iterable[float]:
    return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else ()


def _bytes_rows(_: str, ask: Ask) -> Parts:
    def index(columns: Columns) -> Bounds:
        # A Struct holds doubles.
        return certain(flagged(columns["present"], Present.COUNTERS) & ask(columns["bytes"].astype(np.float64)))

    return index, lambda columns: flagged(columns["present"], Present.COUNTERS), None


BYTES: Final = Reading(lambda flow, _: _number(extension(flow, "bytes")), _bytes_rows)


# L7


def _kind(*kinds: L7Kind) -> Index:
    return lambda columns: possible(one_of(columns["l7_kind"], kinds))


_HTTP: Final = _kind(*HTTP_KINDS)
_KAFKA: Final = _kind(L7Kind.KAFKA)
_GRPC: Final = _kind(L7Kind.GRPC)


def _status_rows(_: str, ask: Ask) -> Parts:
    def index(columns: Columns) -> Bounds:
        codes = columns["l7_code"]
        told = one_of(columns["l7_kind"], HTTP_KINDS) & equal(columns["l7_type"], L7Type.RESPONSE)
        return certain(told & flagged(columns["present"], Present.CODE) & (codes != 0) & ask(codes))

    return index, upper(_HTTP), None


HTTP_STATUS: Final = Reading(lambda flow, _: (flow.l7.http.code,) if flow.l7.http.code else (), _status_rows)


def _method_rows(_: str, ask: Ask) -> Parts:
    def judge(method: int, texts: Texts) -> bool:
        name = _decoded(http_method(method, Present.METHOD.value, texts[2]))
        return bool(name) and bool(ask(name))

    return _HTTP, upper(_HTTP), PerText(judge)


HTTP_METHOD: Final = Reading(lambda flow, _: (flow.l7.http.method,) if flow.l7.http.method else (), _method_rows)


def _header_rows(_: str, ask: Ask) -> Parts:
    def judge(columns: Columns, rows: Rows) -> Mask:
        return np.array(
            [
                extra is not None and any(ask(f"{name}:{text}") for name, text in header_fields(extra.head))
                for extra in columns.extras[rows].tolist()
            ],
            np.bool_,
        )

    return _HTTP, upper(_HTTP), judge


HTTP_HEADER: Final = Reading(
    lambda flow, _: [f"{each.key}:{each.value}" for each in flow.l7.http.headers], _header_rows
)


def _rcode_rows(_: str, ask: Ask) -> Parts:
    def index(columns: Columns) -> Bounds:
        told = equal(columns["l7_kind"], L7Kind.DNS) & equal(columns["l7_type"], L7Type.RESPONSE)
        return certain(told & ask(columns["l7_code"]))

    return index, upper(_kind(L7Kind.DNS)), None


DNS_RCODE: Final = Reading(
    lambda flow, _: (
        (flow.l7.dns.rcode,) if flow.l7.HasField("dns") and flow.l7.type == flow_pb2.L7FlowType.RESPONSE else ()
    ),
    _rcode_rows,
)


def _by_row(values: Callable[[Texts, Mapping[str, Any], int | None], Iterable[Any]], ask: Ask) -> Judge:
    """A judge by a row's strings, what its extra has beside them, and its gRPC status."""

    def judge(columns: Columns, rows: Rows) -> Mask:
        lengths, text = columns["text_length"][rows], columns["text"][rows]
        told = flagged(columns["present"][rows], Present.GRPC_STATUS)
        statuses = np.where(told, columns["grpc_status"][rows].astype(np.int16), -1)
        answers = []
        extras: list[Extra | None] = columns.extras[rows].tolist()
        for row, (extra, status) in enumerate(zip(extras, statuses.tolist(), strict=True)):
            strings = split_texts(lengths[row].tobytes(), text[row].tobytes(), extra)
            ours = {} if extra is None or extra.extension is None else extra.extension
            answers.append(any(ask(value) for value in values(strings, ours, None if status < 0 else status)))
        return np.array(answers, np.bool_)

    return judge


def _topics(flow: Flow, _: str) -> Iterable[str]:
    if not flow.l7.HasField("kafka"):
        return ()
    topics = _extension_part(flow, "kafka", "topics")
    more = [each.string_value for each in topics.values] if topics is not None and hasattr(topics, "values") else []
    return dict.fromkeys([flow.l7.kafka.topic, *more])


def _topic_rows(_: str, ask: Ask) -> Parts:
    def values(texts: Texts, ours: Mapping[str, Any], __: int | None) -> Iterable[str]:
        kafka = ours.get("kafka")
        topics = kafka.get("topics") if isinstance(kafka, Mapping) else None
        return [_decoded(texts[0]), *(map(str, topics) if isinstance(topics, list | tuple) else ())]

    return _KAFKA, upper(_KAFKA), _by_row(values, ask)


KAFKA_TOPIC: Final = Reading(_topics, _topic_rows)


def _api_rows(_: str, ask: Ask) -> Parts:
    def index(columns: Columns) -> Bounds:
        kafka = equal(columns["l7_kind"], L7Kind.KAFKA) & flagged(columns["present"], Present.METHOD)
        keys = columns["l7_method"]
        wanted = [key for key in np.unique(keys[kafka]).tolist() if ask(name_of(key))]
        return certain(kafka & one_of(keys, wanted))

    return index, upper(_KAFKA), None


KAFKA_API: Final = Reading(
    lambda flow, _: (flow.l7.kafka.api_key,) if flow.l7.HasField("kafka") and flow.l7.kafka.api_key else (), _api_rows
)


def _call(service: Any, method: Any) -> tuple[str, ...]:
    """Service/method of a call, and method alone, if it is known."""
    return (f"{service}/{method}", method) if isinstance(service, str) and isinstance(method, str) else ()


def _grpc(flow: Flow) -> Mapping[str, Any]:
    part = extension(flow, "grpc") if flow.l7.HasField("http") else None
    return dict(part.items()) if isinstance(part, Struct) else {}


def _called(texts: Texts, ours: Mapping[str, Any], status: int | None) -> Mapping[str, Any]:
    """What the extension of a gRPC row has under "grpc": the extra's, else the record's."""
    grpc = ours.get("grpc")
    if isinstance(grpc, Mapping):
        return grpc
    service, _, method = texts[0].lstrip(b"/").partition(b"/")
    call: dict[str, Any] = {"service": _decoded(service), "method": _decoded(method)}
    return call if status is None else call | {"status": status}


def _grpc_reading(values: Callable[[Mapping[str, Any]], Iterable[Any]]) -> Reading[Any]:
    """By what is told of the call; an imported row of gRPC is one of HTTP."""

    def rows(_: str, ask: Ask) -> Parts:
        judge = _by_row(lambda texts, ours, status: values(_called(texts, ours, status)), ask)
        return _GRPC, upper(_HTTP), judge

    return Reading(lambda flow, _: values(_grpc(flow)), rows)


GRPC_METHOD: Final = _grpc_reading(lambda call: _call(call.get("service"), call.get("method")))
GRPC_STATUS: Final = _grpc_reading(lambda call: _number(call.get("status")))


def _is_grpc_rows(_: str, ask: Ask) -> Parts:
    return (lambda columns: certain(equal(columns["l7_kind"], L7Kind.GRPC) & bool(ask("grpc")))), upper(_HTTP), None


IS_GRPC: Final = Reading(
    lambda flow, _: ("grpc",) if flow.l7.HasField("http") and extension(flow, "grpc") is not None else (),
    _is_grpc_rows,
)

# The summary


def _summary_rows(_: str, ask: Ask) -> Parts:
    layer7 = Layer7Encoder()
    lines: dict[tuple[int, int, int, int], bool] = {}

    def packet(key: tuple[int, int, int, int]) -> bool:
        protocol, flags, icmp_type, icmp_code = key
        if protocol == Protocol.TCP:
            text = summaries.tcp(flags) if flags >= 0 else ""
        else:
            text = summaries.transport(protocol, icmp_type, icmp_code)
        return bool(text) and bool(ask(text))

    def index(columns: Columns) -> Bounds:
        """Packets are told by four columns, of which few combinations come; messages are left to the judge."""
        plain = (columns["l7_kind"] == 0) & (columns["family"] != 0)
        protocol = columns["protocol"].astype(np.int64)
        told = flagged(columns["present"], Present.TCP_FLAGS) & (protocol == int(Protocol.TCP))
        flags = np.where(told, columns["tcp_flags"].astype(np.int64), -1)
        packed = ((protocol << 17 | flags + 1) << 8 | columns["icmp_type"]) << 8 | columns["icmp_code"]
        combinations, rows = np.unique(packed, return_inverse=True)
        answers = []
        for number in combinations.tolist():
            key = (number >> 33, (number >> 16 & 0x1FFFF) - 1, number >> 8 & 0xFF, number & 0xFF)
            answer = lines.get(key)
            if answer is None:
                answer = packet(key)
                keep(lines, key, answer, COMBINATIONS_KEPT)
            answers.append(answer)
        sure = plain & np.array(answers, np.bool_)[rows]
        return sure | (columns["l7_kind"] != 0), sure

    said: dict[tuple[object, ...], bool] = {}

    def judge(columns: Columns, rows: Rows) -> Mask:
        """Lines as wire composes them, once for all rows that say the same: the end of a record, and what goes in."""
        records, extras, _, whole = columns.store.take(columns.start + rows)
        present, kinds = records["present"], records["l7_kind"]
        timed = flagged(present, Present.LATENCY) & one_of(kinds, HTTP_KINDS)
        timed &= records["l7_type"] != int(L7Type.REQUEST)
        latency_ms = np.where(timed, records["latency_ns"] // 1_000_000, 0)
        ids = np.where(kinds == int(L7Kind.KAFKA), records["l7_id"], 0)
        firsts, places = _alike(records, present, latency_ms, ids, extras)
        raw = records[firsts].tobytes()
        answers = []
        for start, row, *numbers in zip(
            range(_MESSAGE, len(raw), RECORD_SIZE),
            firsts.tolist(),
            present[firsts].tolist(),
            latency_ms[firsts].tolist(),
            ids[firsts].tolist(),
            strict=True,
        ):
            end = raw[start : start + _END.size]
            extra = extras[row]
            more = None if extra is None else (extra.texts, extra.dns)
            key = (end, more, *numbers)
            answer = said.get(key)
            if answer is None:
                line = _line(layer7, end, extra, *numbers)
                answer = bool(line) and bool(ask(line))
                keep(said, key, answer, TEXTS_KEPT)
            answers.append(answer)
        mask = np.zeros(len(rows), np.bool_)
        mask[len(rows) - len(whole) :] = np.array(answers, np.bool_)[places]
        return mask

    return index, None, judge


COMBINATIONS_KEPT: Final = 1 << 12
"""Summaries of packets that a question remembers."""
_MESSAGE: Final = RECORD.fields["l7_code"][1]  # type: ignore[index]
"""Where the part of a record begins that tells of a message; it goes to the end."""
_END: Final = struct.Struct("<3H16s4s16x304s")
assert _MESSAGE + _END.size == RECORD_SIZE


def _alike(
    records: Records, present: Numbers, latency_ms: Numbers, ids: Numbers, extras: Sequence[Extra | None]
) -> tuple[Rows, Rows]:
    """The first of all rows that have the same line, and for each row which of them it is.

    Rows are alike if a sum over their words is, which is checked; those whose extra tells more are like no other.
    """
    words = records.view("u1").reshape(len(records), RECORD_SIZE)[:, RECORD_SIZE - 8 * len(_FACTORS) :].view("<u8")
    words = words & _MASK
    sums = words @ _FACTORS
    for number, factor in zip((present, latency_ms, ids), _MORE_FACTORS, strict=True):
        sums += number.astype(np.uint64) * factor
    lone = np.array([each is not None and (each.dns is not None or each.texts != ()) for each in extras], np.bool_)
    _, firsts, places = np.unique(sums, return_index=True, return_inverse=True)
    same = ~lone & ~lone[firsts[places]]
    same &= (words == words[firsts[places]]).all(axis=1)
    for number in (present, latency_ms, ids):
        same &= number == number[firsts[places]]
    others = np.flatnonzero(~same)
    places[others] = len(firsts) + np.arange(len(others))
    return np.concatenate([firsts, others]), places


Numbers: TypeAlias = np.ndarray[Any, np.dtype[Any]]
_WORDS: Final = -(-(RECORD_SIZE - _MESSAGE) // 8)
_MASK: Final = np.full(_WORDS, ~np.uint64(0))
_MASK[0] <<= np.uint64(8 * (8 * _WORDS - (RECORD_SIZE - _MESSAGE)))  # what stands before the message in its first word
_FACTORS: Final = np.array([secrets.randbits(64) | 1 for _ in range(_WORDS)], np.uint64)
_MORE_FACTORS: Final = [np.uint64(secrets.randbits(64) | 1) for _ in range(3)]
"""Nobody outside can choose rows whose sums are alike, which would only cost time."""


def _line(layer7: Layer7Encoder, end: bytes, extra: Extra | None, present: int, latency_ms: int, number: int) -> str:
    """The summary of a message from the end of its record."""
    code, version, method, tail, lengths, text = _END.unpack(end)
    told = None if extra is None else Extra(texts=extra.texts, dns=extra.dns)  # headers are not in it
    latency_ns = latency_ms * 1_000_000
    _, line, _ = layer7.encode(tail, present, code, version, method, number, latency_ns, lengths, text, told)
    return line.decode()


SUMMARY: Final = Reading(lambda flow, _: (flow.Summary,) if flow.Summary else (), _summary_rows)
