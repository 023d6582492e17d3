"""An expression of the filter language, compiled: a mask over columns, a predicate on flows, and Hubble's FlowFilters.

A text or tree enters. `bounds` and `exact` judge it like a FilterTree, so query.select takes it as it is; `split` says
what of it a whitelist and a blacklist express exactly, which a server can do, and what is left to judge here.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeVar

import numpy as np

from observer.api import flow_pb2, observer_pb2
from observer.errors import FilterError
from observer.filters import patterns, readings
from observer.filters.endpoint import DEFAULT_NAMESPACE, SIDES
from observer.filters.fields import Field, Kind
from observer.filters.flowfilter import compile_filters
from observer.filters.index import Bounds, Exact, Judged, Mask, all_of, certain
from observer.filters.language import (
    EVERYTHING,
    And,
    Condition,
    Node,
    Not,
    Or,
    Pattern,
    Value,
    Word,
    parse,
    shown,
    text_of,
)
from observer.record import EventType
from observer.store import Columns

T = TypeVar("T")
R = TypeVar("R")

MAX_PUSHED: Final = 64
"""FlowFilters that one list may have; what needs more is judged here."""

MAX_MESSAGE: Final = 300
"""Characters of what is said of a value."""

_COMPARISONS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "=": operator.eq,
    "in": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_POSITIVE: Final = {"!=": "=", "!~": "~"}
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
            return _anywhere(_placed(patterns.expression, text, position))
    return _test(node)


def _cost(node: Node) -> int:
    """Cheap columns first: what they refuse, texts are not asked about."""
    match node:
        case And(parts) | Or(parts):
            return max(map(_cost, parts), default=0)
        case Not(part):
            return _cost(part)
        case Condition():
            return 0 if _filters(node) is not None or node.field.kind is Kind.NUMBER else 1
    return 2


def _anywhere(ask: Callable[[str], bool], *, addresses: bool = True) -> Judged:
    """Pods, domain names, addresses and summary."""
    ends = [readings.POD, readings.FQDN, *([readings.IP] if addresses else [])]
    return _Either([*(reading.term(side, ask) for reading in ends for side in SIDES), readings.SUMMARY.term("", ask)])


def _placed(read: Callable[[T], R], value: T, position: int) -> R:
    """What `read` makes of a value; a FilterError of it gets the value's position."""
    try:
        return read(value)
    except FilterError as error:
        raise FilterError(shown(str(error), MAX_MESSAGE), position) from None


def _test(test: Condition) -> Judged:
    if test.operator in _POSITIVE:
        return _Without(_test(Condition(test.name, _POSITIVE[test.operator], test.values, test.position)))
    field = test.field
    parts: list[Judged] = []
    for value in test.values:
        one = _filters(Condition(test.name, test.operator, (value,)))
        if one is None:
            parts += _own(test, field, value)
        else:
            _placed(compile_filters, one, value.position)  # alone, to tell which value is refused
    theirs = tuple(value for value in test.values if _theirs(test, value))
    together = _filters(Condition(test.name, test.operator, theirs))
    if together is not None:
        parts.insert(0, compile_filters(together))
    return parts[0] if len(parts) == 1 else _Either(parts)


def _theirs(test: Condition, value: Value) -> bool:
    """Whether Hubble's filter of that field means the same."""
    field = test.field
    same = test.operator in ("=", "in") or (test.operator == "~" and field.kind is Kind.PATTERN)
    return bool(field.hubble) and same and not value.glob and value.text.lower() not in field.own


def _filters(test: Condition) -> list[flow_pb2.FlowFilter] | None:
    """The FlowFilters of which a test is the OR; None if there are none that mean the same."""
    if not test.values or not all(_theirs(test, value) for value in test.values):
        return None
    field = test.field
    parsed = [_placed(field.parse, value.text, value.position) for value in test.values]
    sides = [f"{side}_" for side in ((test.side,) if test.side else SIDES)] if field.sided else [""]
    filters = [flow_pb2.FlowFilter() for _ in sides]
    for one, side in zip(filters, sides, strict=True):
        getattr(one, side + field.hubble).extend(parsed)
    return filters


def _own(test: Condition, field: Field, value: Value) -> list[Judged]:
    """One value as its field's reading judges it, at the end or ends that are meant."""
    assert field.reading is not None
    sides: Iterable[str] = ((test.side,) if test.side else SIDES) if field.sided else ("",)
    ask: Callable[[Any], Any]
    if test.operator == "~":
        ask = _placed(patterns.expression, value.text, value.position)
    elif value.glob:
        ask = patterns.expression(_glob(value.text))
    elif field.number is not None:
        ask = _comparison(test.operator, _placed(field.number, value.text, value.position))
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


# What a server can do


@dataclass(frozen=True, slots=True)
class Split:
    """An expression in two halves, both of which must match: the server's and ours.

    Where a server cannot say a part, it may still say something that the part needs, and then sends less.
    """

    whitelist: tuple[flow_pb2.FlowFilter, ...]
    blacklist: tuple[flow_pb2.FlowFilter, ...]
    pushed: Node
    """What whitelist and blacklist say."""
    local: Node
    """What is left; EVERYTHING if nothing is."""


def _disjuncts(node: Node, positive: bool) -> list[flow_pb2.FlowFilter] | None:
    """The FlowFilters of which a tree (or what it does not match) is the OR; None if there are none, or too many."""
    match node:
        case Not(part):
            return _disjuncts(part, not positive)
        case And(parts) | Or(parts):
            each = [_disjuncts(part, positive) for part in parts]
            known = [filters for filters in each if filters is not None]
            if len(known) < len(each):
                return None
            if isinstance(node, And) == positive:
                return _product(known)
            whole = [one for filters in known for one in filters]
            return whole if whole and len(whole) <= MAX_PUSHED else None
        case Condition(name, sign, values, position):
            if sign in _POSITIVE:
                positive, sign = not positive, _POSITIVE[sign]
            return _filters(Condition(name, sign, values, position)) if positive else None
    return None


def _at_least(node: Node) -> Node | None:
    """A tree that a server can judge, and that matches at least what a tree matches; None if there is none."""
    if _disjuncts(node, True) is not None:
        return node
    match node:
        case And(parts):
            known = [least for part in parts if (least := _at_least(part)) is not None]
            return _all(known) if known else None
        case Or(parts):
            each = [_at_least(part) for part in parts]
            known = [least for least in each if least is not None]
            return Or(tuple(dict.fromkeys(known))) if len(known) == len(each) else None
        case Condition(name, sign, values) if node.field.beginning and sign in ("=", "in"):
            if not all("/" in _beginning(value) for value in values if value.glob):
                return None
            wider = [Value(_beginning(value)) if value.glob else value for value in values]
            return Condition(name, sign, tuple(dict.fromkeys(wider)))
        case Condition(_, sign, values) if node.field.within and sign not in _POSITIVE:
            protocol = Value(node.field.within)
            if not node.field.own:
                return Condition("protocol", "=", (protocol,))
            wider = [value if _theirs(node, value) else protocol for value in values]
            return Condition("protocol", sign, tuple(dict.fromkeys(wider)))
    return None


def _beginning(value: Value) -> str:
    """What every match of a glob begins with."""
    return re.split(r"[*?]", value.text, maxsplit=1)[0]


def _product(lists: Sequence[Sequence[flow_pb2.FlowFilter]]) -> list[flow_pb2.FlowFilter] | None:
    """The AND of ORs as one OR."""
    whole = [flow_pb2.FlowFilter()]
    for filters in lists:
        if len(whole) * len(filters) > MAX_PUSHED:
            return None
        merged = [_merged(one, other) for one in whole for other in filters]
        whole = [one for one in merged if one is not None]
        if len(whole) < len(merged):
            return None
    return whole


def _merged(one: flow_pb2.FlowFilter, other: flow_pb2.FlowFilter) -> flow_pb2.FlowFilter | None:
    """The AND of two FlowFilters; None where one field would have to match twice."""
    whole = flow_pb2.FlowFilter()
    whole.CopyFrom(one)
    for descriptor, values in other.ListFields():
        mine = getattr(whole, descriptor.name)
        if not mine:
            mine.extend(values)
        elif descriptor.name.endswith(("_pod", "_service")):
            both = [text for left in mine for right in values if (text := _narrower(left, right)) is not None]
            if not both:
                return None
            mine[:] = both
        elif list(mine) != list(values):
            return None
    http = any(descriptor.name.startswith("http_") for descriptor, _ in whole.ListFields())
    if http and whole.event_type and all(kind.type != EventType.L7 for kind in whole.event_type):
        return None  # a server refuses the combination
    return whole


def _narrower(one: str, other: str) -> str | None:
    """The namespace/prefix that is both of two; None if nothing is."""
    (namespace, prefix), (other_namespace, other_prefix) = map(_namespace_and_prefix, (one, other))
    if namespace and other_namespace and namespace != other_namespace:
        return None
    long, short = sorted((prefix, other_prefix), key=len, reverse=True)
    return f"{namespace or other_namespace}/{long}" if long.startswith(short) else None


def _namespace_and_prefix(text: str) -> tuple[str, str]:
    namespace, slash, rest = text.partition("/")
    return (namespace, rest.partition("/")[0]) if slash else (DEFAULT_NAMESPACE, text)


def _conjuncts(node: Node) -> list[Node]:
    """The trees of which one is the AND."""
    match node:
        case And(parts):
            return [each for part in parts for each in _conjuncts(part)]
        case Not(Or(parts)):
            return [each for part in parts for each in _conjuncts(Not(part))]
        case Not(Not(part)):
            return _conjuncts(part)
    return [node]


def split(
    node: Node, whitelist: Iterable[flow_pb2.FlowFilter] = (), blacklist: Iterable[flow_pb2.FlowFilter] = ()
) -> Split:
    """Add to a whitelist and a blacklist what of a tree they can say; `local` is what they cannot say exactly."""
    allow, deny = list(whitelist), list(blacklist)
    pushed, local = [], []
    for part in _conjuncts(node):
        allowed = _disjuncts(part, True)
        both = allowed if not allow or allowed is None else _product([allow, allowed])
        denied = None if both is not None else _disjuncts(part, False)
        if both is not None:
            allow = both
        elif denied is not None and len(deny) + len(denied) <= MAX_PUSHED:
            deny += denied
        else:
            local.append(part)
            continue
        pushed.append(part)
    for part in local:
        least = _at_least(part)
        allowed = None if least is None else _disjuncts(least, True)
        both = None if allowed is None else _product([allow, allowed]) if allow else allowed
        if both is not None and least is not None and least not in pushed:
            allow = both
            pushed.append(least)
    return Split(tuple(allow), tuple(deny), _all(pushed), _all(local))


def _all(parts: Sequence[Node]) -> Node:
    return parts[0] if len(parts) == 1 else And(tuple(parts))


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
