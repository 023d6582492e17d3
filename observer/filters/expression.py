"""An expression of the filter language, compiled: a mask over columns, a predicate on flows, and Hubble's FlowFilters.

A text or tree enters. `bounds` and `exact` judge it like a FilterTree, so query.select takes it as it is; `split` says
what of it a whitelist and a blacklist express exactly, which a server can do, and what is left to judge here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np

from observer.api import flow_pb2, observer_pb2
from observer.filters import patterns, readings
from observer.filters.endpoint import SIDES
from observer.filters.fields import Field, Kind
from observer.filters.flowfilter import compile_filters
from observer.filters.index import Bounds, Exact, Judged, Mask, all_of, certain
from observer.filters.language import parse
from observer.filters.pushdown import POSITIVE, Split, filters_of, is_theirs, placed, split
from observer.filters.summary_reading import SUMMARY
from observer.filters.tree import EVERYTHING, And, Condition, Node, Not, Or, Pattern, Value, Word, text_of
from observer.store import Columns

_COMPARISONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "=": operator.eq,
    "in": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ADDRESS: Final = frozenset("0123456789abcdef.:")


class _Every:
    """AND of its parts."""

    def __init__(self, parts: Sequence[Judged]) -> None:
        self._parts = parts

    def exact(self, flow: flow_pb2.Flow) -> bool:
        return all(part.exact(flow) for part in self._parts)

    def bounds(self, columns: Columns, among: Mask | None = None) -> Bounds:
        return all_of(self._parts, columns, among)


class _Either:
    """OR of its parts; a part is asked only of rows that the parts before it do not surely match."""

    def __init__(self, parts: Sequence[Judged]) -> None:
        self._parts = parts

    def exact(self, flow: flow_pb2.Flow) -> bool:
        return any(part.exact(flow) for part in self._parts)

    def bounds(self, columns: Columns, among: Mask | None = None) -> Bounds:
        maybe = sure = np.zeros(columns.length, np.bool_)
        left = among
        for part in self._parts:
            more, surely = part.bounds(columns, left)
            if maybe is sure and more is surely:
                maybe = sure = maybe | more
            else:
                maybe, sure = maybe | more, sure | surely
            left = ~sure if among is None else among & ~sure
            if not left.any():
                break
        return maybe, sure


class _Without:
    """NOT of its part."""

    def __init__(self, part: Judged) -> None:
        self._part = part

    def exact(self, flow: flow_pb2.Flow) -> bool:
        return not self._part.exact(flow)

    def bounds(self, columns: Columns, among: Mask | None = None) -> Bounds:
        maybe, sure = self._part.bounds(columns, among)
        return certain(~maybe) if maybe is sure else (~sure, ~maybe)


def _compiled(node: Node) -> Judged:
    match node:
        case And(parts):
            return _Every([_compiled(part) for part in sorted(parts, key=_cost)])
        case Or(parts):
            return _Either([_compiled(part) for part in sorted(parts, key=_cost)])
        case Not(part):
            return _Without(_compiled(part))
        case Word(text):
            needle = text.lower()
            return _anywhere(lambda value: needle in value.lower(), addresses=_ADDRESS.issuperset(needle))
        case Pattern(text, position):
            return _anywhere(placed(patterns.expression, text, position))
    return _test(node)


def _cost(node: Node) -> int:
    """Cheap columns first: what they refuse, texts are not asked about."""
    match node:
        case And(parts) | Or(parts):
            return max(map(_cost, parts), default=0)
        case Not(part):
            return _cost(part)
        case Condition():
            return 0 if filters_of(node) is not None or node.field.kind is Kind.NUMBER else 1
    return 2


def _anywhere(ask: Callable[[str], bool], *, addresses: bool = True) -> Judged:
    """Pods, domain names, addresses and summary."""
    ends = [readings.POD, readings.FQDN, *([readings.IP] if addresses else [])]
    return _Either([*(reading.term(side, ask) for reading in ends for side in SIDES), SUMMARY.term("", ask)])


def _test(test: Condition) -> Judged:
    if test.operator in POSITIVE:
        return _Without(_test(Condition(test.name, POSITIVE[test.operator], test.values, test.position)))
    field = test.field
    parts: list[Judged] = []
    for value in test.values:
        one = filters_of(Condition(test.name, test.operator, (value,)))
        if one is None:
            parts += _own(test, field, value)
        else:
            placed(compile_filters, one, value.position)  # alone, to tell which value is refused
    theirs = tuple(value for value in test.values if is_theirs(test, value))
    together = filters_of(Condition(test.name, test.operator, theirs))
    if together is not None:
        parts.insert(0, compile_filters(together))
    return parts[0] if len(parts) == 1 else _Either(parts)


def _own(test: Condition, field: Field, value: Value) -> list[Judged]:
    """One value as its field's reading judges it, at the end or ends that are meant."""
    assert field.reading is not None
    sides: Iterable[str] = ((test.side,) if test.side else SIDES) if field.sided else ("",)
    ask: Callable[[Any], Any]
    if test.operator == "~":
        ask = placed(patterns.expression, value.text, value.position)
    elif value.glob:
        ask = patterns.expression(_glob(value.text))
    elif field.number is not None:
        ask = _comparison(test.operator, placed(field.number, value.text, value.position))
    else:
        wanted = value.text.lower() if field.own else field.parse(value.text)
        ask = lambda text: text == wanted  # noqa: E731
    return [field.reading.term(side, ask) for side in sides]


def _comparison(sign: str, number: int) -> Callable[[Any], Any]:
    compare = _COMPARISONS[sign]
    return lambda value: compare(value, number)


def _glob(text: str) -> str:
    """The expression of a glob; one without a slash is of any namespace or kind."""
    parts = [".*" if character == "*" else "." if character == "?" else _literal(character) for character in text]
    return rf"(?s)\A{'' if '/' in text else '(?:[^/]*/)?'}{''.join(parts)}\z"


def _literal(character: str) -> str:
    return character if character.isascii() and character.isalnum() else f"\\x{{{ord(character):x}}}"


class Expression:
    """A compiled tree. Threads may share one."""

    def __init__(self, tree: Node = EVERYTHING) -> None:
        """Compile; FilterError with the position of a value that is refused."""
        self.tree: Final = tree
        self._judged = _compiled(tree)
        self.exact: Final[Exact] = self._judged.exact

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Read and compile a text; FilterError with the position of the mistake."""
        return cls(parse(text))

    def __str__(self) -> str:
        return text_of(self.tree)

    @property
    def matches_all(self) -> bool:
        """No filter at all: every flow passes."""
        return self.tree == EVERYTHING

    def bounds(self, columns: Columns, among: Mask | None = None) -> Bounds:
        """(maybe, sure), one bool a row: what is not `maybe` cannot pass, what is `sure` does, the rest needs exact."""
        return self._judged.bounds(columns, among)

    @cached_property
    def split(self) -> Split:
        """What a server can do, and what is left."""
        return split(self.tree)

    @cached_property
    def local(self) -> Expression:
        """What is left when a server did what it can."""
        return self if self.split.local == self.tree else Expression(self.split.local)

    def request(self, number: int = 0, *, follow: bool = False) -> observer_pb2.GetFlowsRequest:
        """The server's half as a request: the last `number` flows, then new ones if it follows."""
        halves = self.split
        return observer_pb2.GetFlowsRequest(
            number=number, follow=follow, whitelist=halves.whitelist, blacklist=halves.blacklist
        )
