"""Filters on L7 messages: HTTP status, method, path, URL and headers, DNS query.

Fields of one FlowFilter enter, terms leave. Expressions are unanchored RE2 searches; the HTTP fields go only with an
event type list that has l7 in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from observer.api import flow_pb2
from observer.errors import FilterError
from observer.filters import patterns
from observer.filters.index import Bounds, Index, Term, certain, equal, flagged, one_of, possible, upper
from observer.filters.patterns import Search, quoted
from observer.record import EventType, HttpMethod, L7Kind, L7Type, Present
from observer.store import Columns

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
        yield Term(
            lambda flow: bool(flow.l7.http.url) and _found(searches, flow.l7.http.url), _of(*HTTP_KINDS), _HTTP_IMPORTED
        )
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
        yield Term(lambda flow: flow.l7.HasField("dns") and _found(queries, flow.l7.dns.query), dns, upper(dns))


def _needs_l7(wanted: flow_pb2.FlowFilter, what: str) -> None:
    if wanted.event_type and not any(kind.type == EventType.L7 for kind in wanted.event_type):
        raise FilterError(f"filtering by http {what} requires the event type filter to only match 'l7' events")


def _of(*kinds: L7Kind) -> Index:
    """Rows of an L7 protocol, whose strings only the flow shows."""
    return lambda columns: possible(one_of(columns["l7_kind"], kinds))


_HTTP_IMPORTED: Final = upper(_of(*HTTP_KINDS))


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

    def exact(flow: flow_pb2.Flow) -> bool:
        method = flow.l7.http.method
        return bool(method) and (len(method), method.casefold()) in folded

    def index(columns: Columns) -> Bounds:
        http = one_of(columns["l7_kind"], HTTP_KINDS) & flagged(columns["present"], Present.METHOD)
        column = columns["l7_method"]
        sure = http & one_of(column, numbers)
        spelled = http & equal(column, HttpMethod.OTHER)
        return (sure | spelled, sure) if spelled.any() else certain(sure)

    return Term(exact, index, _HTTP_IMPORTED)


def _path(texts: Iterable[str]) -> Term:
    """On the decoded path of the URL, without query; a URL that Go would not parse never matches."""
    searches = _expressions(texts, "http path")

    def exact(flow: flow_pb2.Flow) -> bool:
        url = flow.l7.http.url
        path = patterns.request_path(url) if url else None
        return path is not None and _found(searches, path)

    return Term(exact, _of(*HTTP_KINDS), _HTTP_IMPORTED)


def _header(wanted: Sequence[tuple[str, str]]) -> Term:
    """Key and value exactly; an empty one is any."""

    def exact(flow: flow_pb2.Flow) -> bool:
        return any(
            key in ("", header.key) and value in ("", header.value)
            for header in flow.l7.http.headers
            for key, value in wanted
        )

    return Term(exact, _of(*HTTP_KINDS), _HTTP_IMPORTED)
