"""Readings of HTTP, DNS, Kafka and gRPC: by columns where they tell, else by a row's strings and its extra.

What is read is what wire would show: strings with bytes that are no UTF-8 written out, and of gRPC and Kafka what the
extension has, the extra's before the record's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
from google.protobuf.struct_pb2 import Struct

from observer.api import flow_pb2
from observer.extra import Extra, header_fields
from observer.filters.index import (
    Bounds,
    Index,
    Judge,
    Mask,
    PerText,
    Rows,
    certain,
    equal,
    flagged,
    one_of,
    possible,
    upper,
)
from observer.filters.l7 import HTTP_KINDS
from observer.filters.readings import Ask, Flow, Parts, Reading, extension, extension_part, numbers_of
from observer.l7.kafka_schema import name_of
from observer.record import L7Kind, L7Type, Present
from observer.store import Columns
from observer.wire.layer7 import Texts, http_method, split_texts


def _decoded(raw: bytes) -> str:
    """Bytes of the network as the string that a flow has."""
    return raw.decode("utf-8", "backslashreplace")


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
    topics = extension_part(flow, "kafka", "topics")
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
GRPC_STATUS: Final = _grpc_reading(lambda call: numbers_of(call.get("status")))


def _is_grpc_rows(_: str, ask: Ask) -> Parts:
    return (lambda columns: certain(equal(columns["l7_kind"], L7Kind.GRPC) & bool(ask("grpc")))), upper(_HTTP), None


IS_GRPC: Final = Reading(
    lambda flow, _: ("grpc",) if flow.l7.HasField("http") and extension(flow, "grpc") is not None else (),
    _is_grpc_rows,
)
