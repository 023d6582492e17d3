"""Completion and validation while a filter is typed: what may stand at the cursor, with live values and their counts.

A text, a cursor and a store enter; candidates leave, most frequent first, with the span that one of them replaces. What
flows have is counted by live.py.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from observer.errors import FilterError
from observer.filters.endpoint import SIDES
from observer.filters.expression import Expression
from observer.filters.fields import FIELDS, FROM_AND_TO, OPERATOR_HELP, PROTOCOLS, TABLE, Field, Kind, whole
from observer.filters.language import MAX_LENGTH, Expected, IncompleteError, Slot, last_slot, parse
from observer.filters.live import LIVE
from observer.filters.tree import Value, value_text
from observer.store import Store

MAX_CANDIDATES: Final = 50


class State(enum.Enum):
    """Whether a text is a filter."""

    OK = "ok"
    INCOMPLETE = "incomplete"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Validity:
    """What is to be said of a text while it is typed."""

    state: State
    message: str = ""
    position: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """What may stand at the cursor; `count` flows have that value, None where that was not counted."""

    text: str
    help: str = ""
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Candidates:
    """What may replace text[start:stop], best first."""

    start: int
    stop: int
    items: tuple[Candidate, ...] = ()


def check(text: str) -> Validity:
    """Whether a text is a filter, the beginning of one, or neither."""
    try:
        Expression(parse(text))
    except IncompleteError as error:
        return Validity(State.INCOMPLETE, str(error), len(text))
    except FilterError as error:
        return Validity(State.ERROR, str(error), error.position or 0)
    return Validity(State.OK)


def complete(text: str, cursor: int, store: Store) -> Candidates:
    """What may stand at the cursor; nothing where the text before it is wrong or too long."""
    before = text[:cursor]
    nothing = Candidates(cursor, cursor)
    if len(text) > MAX_LENGTH:
        return nothing
    slot, error = last_slot(before)
    partial = before[slot.start :]
    quoted = partial.startswith('"')
    wrong = error is not None and not isinstance(error, IncompleteError) and error.position != slot.start
    if wrong or (quoted and slot.expected is Expected.TEST and error is not None):
        return nothing
    finished = (quoted and error is None) or (not quoted and (partial[-1:].isspace() or partial.endswith(")")))
    if finished and partial:
        if (slot.expected is Expected.LISTED and not partial.endswith(")")) or not partial[-1].isspace():
            return nothing
        slot, partial = Slot(Expected.TEST, cursor), ""
    stop = cursor
    while stop < len(text) and not text[stop].isspace() and text[stop] not in '(),"=!~<>':
        stop += 1
    found = _at(slot, partial.removeprefix('"') if quoted else partial, store)
    return Candidates(slot.start, stop, tuple(found[:MAX_CANDIDATES]))


def _at(slot: Slot, partial: str, store: Store) -> list[Candidate]:
    match slot.expected:
        case Expected.TEST:
            return _tests(partial.lower())
        case Expected.OPERATOR:
            known, _ = FIELDS[slot.name]
            signs = [sign for sign in known.operators if sign.startswith(partial)]
            return [Candidate("in (" if sign == "in" else sign, OPERATOR_HELP[sign]) for sign in signs]
    return _values(slot, partial, store)


def _tests(partial: str) -> list[Candidate]:
    """Fields, protocols and keywords; those that begin so before those that hold it."""
    offered: dict[str, str] = {}
    for field in TABLE:
        offered[field.name] = field.help
        for before in FROM_AND_TO if field.sided else ():
            offered[before + field.name] = f"{before.removesuffix('-')} {field.help}"
        if field.flag:
            offered[field.flag] = field.help
    for name in PROTOCOLS:
        offered[name] = "the protocol"
    if not partial:
        return [Candidate(field.name, field.help) for field in TABLE]
    begins = [name for name in offered if name.startswith(partial)]
    holds = [name for name in offered if partial in name and name not in begins]
    keywords = [word for word in ("and", "or", "not") if word.startswith(partial)]
    flags = {field.flag for field in TABLE}
    ordered = sorted([*keywords, *begins], key=lambda name: name in flags) + [
        name for name in holds if name not in flags
    ]
    return [Candidate(name, offered.get(name, "")) for name in ordered]


def _values(slot: Slot, partial: str, store: Store) -> list[Candidate]:
    """Values that flows have, most frequent first, then those that are known from the table."""
    known, side = FIELDS[slot.name]
    counted: Counter[str] = Counter()
    ask = LIVE.get(known.name)
    if ask is not None:
        for each in ((side,) if side else SIDES) if known.sided else ("",):
            counted.update(ask(store, each))
    needle = partial.lower().removeprefix("^").replace("\\", "")
    expression = slot.operator in ("~", "!~")
    fitting = ((value, count) for value, count in counted.most_common() if needle in value.lower())
    found = [
        Candidate(_written(known, value, expression=expression), count=count)
        for value, count in islice(fitting, MAX_CANDIDATES)
    ]
    takes = known.number if slot.operator in ("<", "<=", ">", ">=") else None
    more = [
        Candidate(choice)
        for choice in (() if expression else known.choices)
        if needle in choice.lower() and (takes is None or _takes(takes, choice))
    ]
    seen: set[str] = set()
    return [each for each in [*found, *more] if not (each.text in seen or seen.add(each.text))]  # type: ignore[func-returns-value]


def _takes(read: Callable[[str], int], choice: str) -> bool:
    try:
        read(choice)
    except FilterError:
        return False
    return True


def _written(known: Field, value: str, *, expression: bool) -> str:
    """A value as it stands after the operator."""
    literal = known.literal(value)
    if expression and known.kind is Kind.NAME:
        return value_text(Value(whole(value)))
    return value_text(Value(value if literal is None else literal))
