"""What of a filter a server can judge: trees of the language as whitelist and blacklist of Hubble's FlowFilters.

A tree enters, a split leaves: the FlowFilters, what they say, and what is left to judge here. Both halves together mean
the tree exactly. A FlowFilter is an AND of fields, a list an OR of them, so trees are multiplied out, within bounds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from observer.api import flow_pb2
from observer.errors import FilterError
from observer.filters.endpoint import DEFAULT_NAMESPACE, SIDES
from observer.filters.fields import Kind
from observer.filters.tree import And, Condition, Node, Not, Or, Value, shown
from observer.record import EventType

T = TypeVar("T")
R = TypeVar("R")

MAX_PUSHED: Final = 64
"""FlowFilters that one list may have; what needs more is judged here."""

MAX_MESSAGE: Final = 300
"""Characters of what is said of a value."""

POSITIVE: Final = {"!=": "=", "!~": "~"}
"""What the operators deny."""


def placed(read: Callable[[T], R], value: T, position: int) -> R:
    """What `read` makes of a value; a FilterError of it gets the value's position."""
    try:
        return read(value)
    except FilterError as error:
        raise FilterError(shown(str(error), MAX_MESSAGE), position) from None


def is_theirs(test: Condition, value: Value) -> bool:
    """Whether Hubble's filter of that field means the same."""
    field = test.field
    same = test.operator in ("=", "in") or (test.operator == "~" and field.kind is Kind.PATTERN)
    return bool(field.hubble) and same and not value.glob and value.text.lower() not in field.own


def filters_of(test: Condition) -> list[flow_pb2.FlowFilter] | None:
    """The FlowFilters of which a test is the OR; None if there are none that mean the same."""
    if not test.values or not all(is_theirs(test, value) for value in test.values):
        return None
    field = test.field
    parsed = [placed(field.parse, value.text, value.position) for value in test.values]
    sides = [f"{side}_" for side in ((test.side,) if test.side else SIDES)] if field.sided else [""]
    filters = [flow_pb2.FlowFilter() for _ in sides]
    for one, side in zip(filters, sides, strict=True):
        getattr(one, side + field.hubble).extend(parsed)
    return filters


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
            if sign in POSITIVE:
                positive, sign = not positive, POSITIVE[sign]
            return filters_of(Condition(name, sign, values, position)) if positive else None
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
        case Condition(_, sign, values) if node.field.within and sign not in POSITIVE:
            protocol = Value(node.field.within)
            if not node.field.own:
                return Condition("protocol", "=", (protocol,))
            wider = [value if is_theirs(node, value) else protocol for value in values]
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
