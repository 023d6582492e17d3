"""Filters on L7 messages: HTTP status, method, path, URL and headers, DNS query.

Fields of one FlowFilter enter, terms leave. Expressions are unanchored RE2 searches; the HTTP fields go only with an
event type list that has l7 in it. Rows are judged by their own strings and headers, put together as wire does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from observer.api import flow_pb2
from observer.errors import FilterError
from observer.extra import Extra, header_fields
from observer.filters import patterns
from observer.filters.index import (
    Bounds,
    Index,
    Mask,
    PerText,
    Rows,
    Term,
    certain,
    equal,
    flagged,
    one_of,
    possible,
    upper,
)
from observer.filters.patterns import Search, quoted
from observer.record import EventType, HttpMethod, L7Kind, L7Type, Present
from observer.store import Columns
from observer.wire.layer7 import Texts, http_method, url

HTTP_KINDS: Final = (L7Kind.HTTP, L7Kind.GRPC)
_STATUS: Final = re.compile("[1-5][0-9]{2}")
_STATUS_PREFIX: Final = re.compile(r"[1-5][0-9]?\+")


def terms(wanted: flow_pb2.FlowFilter) -> Iterator[Term]:
    """The terms of this family that the filter asks for."""
    if wanted.http_status_code:
        _needs_l7(wanted, "status code")
        yield _status(wanted.http_status_code)
    if wanted.http_method:
        _needs_l7(wanted, "method")
        yield _method(list(wanted.http_method))
    if wanted.http_path:
        _needs_l7(wanted, "path")
        yield _path(wanted.http_path)
    if wanted.http_url:
        _needs_l7(wanted, "url")
        searches = _expressions(wanted.http_url, "http url")
        yield _by_url(lambda whole: bool(whole) and _found(searches, whole))
    if wanted.http_header:
        _needs_l7(wanted, "headers")
        yield _header([(header.key, header.value) for header in wanted.http_header])
    if wanted.dns_query:
        queries = []
        for pattern in wanted.dns_query:
            try:
                queries.append(patterns.expression(pattern))
            except FilterError as error:
                raise FilterError(f"invalid DNS query filter: failed to compile regexp: {error}") from None
        dns = _of(L7Kind.DNS)
        yield Term(
            lambda flow: flow.l7.HasField("dns") and _found(queries, flow.l7.dns.query),
            dns,
            upper(dns),
            PerText(lambda _, texts: _found(queries, _decoded(texts[0]))),
        )


def _needs_l7(wanted: flow_pb2.FlowFilter, what: str) -> None:
    if wanted.event_type and not any(kind.type == EventType.L7 for kind in wanted.event_type):
        raise FilterError(f"filtering by http {what} requires the event type filter to only match 'l7' events")


def _of(*kinds: L7Kind) -> Index:
    """Rows of an L7 protocol, whose strings decide."""
    return lambda columns: possible(one_of(columns["l7_kind"], kinds))


_HTTP_IMPORTED: Final = upper(_of(*HTTP_KINDS))


def _decoded(raw: bytes) -> str:
    """Bytes of the network as the string that a flow has."""
    return raw.decode("utf-8", "backslashreplace")


def _http_method(method: int, texts: Texts) -> bytes:
    """The method of a row by its column and its strings."""
    return http_method(method, Present.METHOD.value, texts[2])


def _by_url(matches: Search) -> Term:
    """A predicate on the URL of a request, which is empty where there is none."""

    def ask(method: int, texts: Texts) -> bool:
        return matches(_decoded(url(_http_method(method, texts), texts[0], texts[1], texts[3])))

    return Term(lambda flow: matches(flow.l7.http.url), _of(*HTTP_KINDS), _HTTP_IMPORTED, PerText(ask))


def _found(searches: Sequence[Search], text: str) -> bool:
    return any(search(text) for search in searches)


def _expressions(texts: Iterable[str], what: str) -> list[Search]:
    compiled = []
    for text in texts:
        try:
            compiled.append(patterns.expression(text))
        except FilterError as error:
            raise FilterError(f"invalid {what} filter: {text}: {error}") from None
    return compiled


def _status(texts: Iterable[str]) -> Term:
    """Three digits, or one or two and a plus sign ("4+", "40+"); code 0 is no response."""
    whole: set[str] = set()
    prefixes: list[str] = []
    for text in texts:
        if _STATUS.fullmatch(text):
            whole.add(text)
        elif _STATUS_PREFIX.fullmatch(text):
            prefixes.append(text.removesuffix("+"))
        else:
            raise FilterError(f"invalid http status code filter: invalid status code prefix: {quoted(text)}")

    def matches(code: int) -> bool:
        text = f"{code:03d}"
        return code != 0 and (text in whole or text.startswith(tuple(prefixes)))

    usual = np.array([matches(code) for code in range(1_000)], np.bool_)

    def index(columns: Columns) -> Bounds:
        codes = columns["l7_code"]
        http = one_of(columns["l7_kind"], HTTP_KINDS) & equal(columns["l7_type"], L7Type.RESPONSE)
        http &= flagged(columns["present"], Present.CODE)
        sure = http & (codes < 1_000) & usual.take(codes, mode="clip")
        unusual = http & (codes >= 1_000)
        return (sure | unusual, sure) if unusual.any() else certain(sure)

    return Term(lambda flow: flow.l7.HasField("http") and matches(flow.l7.http.code), index, _HTTP_IMPORTED)


def _method(methods: Sequence[str]) -> Term:
    """Without regard to case (Unicode's simple folding)."""
    folded = {(len(method), method.casefold()) for method in methods}
    numbers = [
        method
        for method in HttpMethod
        if HttpMethod.UNKNOWN < method < HttpMethod.OTHER and (len(method.name), method.name.casefold()) in folded
    ]

    def matches(method: str) -> bool:
        return bool(method) and (len(method), method.casefold()) in folded

    def index(columns: Columns) -> Bounds:
        http = one_of(columns["l7_kind"], HTTP_KINDS) & flagged(columns["present"], Present.METHOD)
        column = columns["l7_method"]
        sure = http & one_of(column, numbers)
        spelled = http & equal(column, HttpMethod.OTHER)
        return (sure | spelled, sure) if spelled.any() else certain(sure)

    spelled = PerText(lambda method, texts: matches(_decoded(_http_method(method, texts))))
    return Term(lambda flow: matches(flow.l7.http.method), index, _HTTP_IMPORTED, spelled)


def _path(texts: Iterable[str]) -> Term:
    """On the decoded path of the URL, without query; a URL that Go would not parse never matches."""
    searches = _expressions(texts, "http path")

    def matches(whole: str) -> bool:
        path = patterns.request_path(whole)
        return path is not None and _found(searches, path)

    return _by_url(matches)


def _header(wanted: Sequence[tuple[str, str]]) -> Term:
    """Key and value exactly; an empty one is any."""

    def exact(flow: flow_pb2.Flow) -> bool:
        return any(
            key in ("", header.key) and value in ("", header.value)
            for header in flow.l7.http.headers
            for key, value in wanted
        )

    # What a line must hold to have the pair; a backslash may stand for a byte that is no UTF-8.
    needles = [tuple(b"" if "\\" in text else text.encode() for text in pair) for pair in wanted]

    def ask(extra: Extra | None) -> bool:
        head = b"" if extra is None else extra.head
        if not head:
            return False
        # Folded lines belong together, and then a value is not in the head as it is in the flow.
        folded = b"\n " in head or b"\n\t" in head
        lines: list[bytes] = [head] if folded else []
        for (key, value), (in_key, in_value) in zip(wanted, needles, strict=True):
            if not folded and (in_key not in head or in_value not in head):
                continue
            lines = lines or head.split(b"\r\n")
            for line in lines:
                if not folded and (in_key not in line or in_value not in line):
                    continue
                if any(key in ("", name) and value in ("", text) for name, text in header_fields(line)):
                    return True
        return False

    def judge(columns: Columns, rows: Rows) -> Mask:
        return np.array([ask(extra) for extra in columns.extras[rows].tolist()], np.bool_)

    return Term(exact, _of(*HTTP_KINDS), _HTTP_IMPORTED, judge)
