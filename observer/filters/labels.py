"""Kubernetes label selectors over Cilium's labels: "k8s:app in (a, b), !reserved:world".

The text of a selector enters, a predicate on lists of labels ("source:key=value") leaves. Requirements of one selector
are AND; a key without a source matches any source. Grammar and validation are apimachinery's; the messages too.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from observer.errors import FilterError
from observer.filters.patterns import quoted

Selector: TypeAlias = Callable[[Sequence[str]], bool]

ANY_SOURCE: Final = "any"

_SPECIAL: Final = "=!(),><"
_TOKEN: Final = re.compile(r"[ \t\r\n]*(==|!=|[=!(),><]|[^=!(),>< \t\r\n\x00]+)")
_OPERATORS: Final = ("in", "notin", "=", "==", "!=", ">", "<")
_END: Final = ""
_NAME: Final = re.compile("[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_NAME_MAX: Final = 63
_SUBDOMAIN_MAX: Final = 253
_INTEGER: Final = re.compile("[+-]?[0-9]+")


@dataclass(frozen=True, slots=True)
class Label:
    """A label in parts."""

    source: str
    key: str
    value: str


@functools.lru_cache(maxsize=65_536)
def parse_label(text: str) -> Label:
    """Split "source:key=value"; source and value may be missing."""
    if text.startswith("$"):
        source, rest = "reserved", text[1:]
    else:
        source, colon, rest = text.partition(":")
        if not colon:
            source, rest = "", text
    key, _, value = rest.partition("=")
    return Label(source, key, value)


@functools.lru_cache(maxsize=4_096)
def _labels(texts: tuple[str, ...]) -> tuple[Label, ...]:
    return tuple(sorted((parse_label(text) for text in texts), key=lambda label: label.key))


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition of a selector; `names` are the (source, key) pairs that its key may stand for."""

    names: tuple[tuple[str, str], ...]
    operator: str  # in, notin, exists, !, >, <
    values: frozenset[str] = frozenset()

    def matches(self, labels: Iterable[Label]) -> bool:
        """Whether a sorted list of labels meets it."""
        value = self._value(labels)
        match self.operator:
            case "exists":
                return value is not None
            case "!":
                return value is None
            case "in":
                return value is not None and value in self.values
            case "notin":
                return value is None or value not in self.values
        (bound,) = self.values
        number = None if value is None else _integer(value)
        limit = _integer(bound)
        if number is None or limit is None:
            return False
        return number > limit if self.operator == ">" else number < limit

    def _value(self, labels: Iterable[Label]) -> str | None:
        for label in labels:
            for source, key in self.names:
                if label.key == key and source in (ANY_SOURCE, label.source):
                    return label.value
        return None


def parse_selector(text: str) -> Selector:
    """Compile one selector; FilterError says what was found and what was expected."""
    if text and text.isspace():
        raise FilterError("unable to parse requirement: found '', expected: identifier")
    requirements = _Parser(text).requirements()

    def matches(labels: Sequence[str]) -> bool:
        parts = _labels(tuple(labels))
        return all(requirement.matches(parts) for requirement in requirements)

    return matches


def _integer(text: str) -> int | None:
    """A signed 64-bit decimal as Go's ParseInt reads it."""
    if not _INTEGER.fullmatch(text):
        return None
    number = int(text) if len(text) <= 20 else 1 << 64
    return number if -(1 << 63) <= number < 1 << 63 else None


class _Parser:
    """Recursive descent over the tokens of one selector."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        position = 0
        while match := _TOKEN.match(text, position):
            self._tokens.append(match[1])
            position = match.end()
        self._position = 0

    def requirements(self) -> list[Requirement]:
        """All of it."""
        out: list[Requirement] = []
        while (token := self._peek()) != _END:
            if token != "!" and not _identifier(token):
                raise FilterError(f"found '{token}', expected: !, identifier, or 'end of string'")
            try:
                out.append(self._requirement())
            except FilterError as error:
                raise FilterError(f"unable to parse requirement: {error}") from None
            token = self._next()
            if token == _END:
                break
            if token != ",":
                raise FilterError(f"found '{token}', expected: ',' or 'end of string'")
            token = self._peek()
            if token != "!" and not _identifier(token):
                raise FilterError(f"found '{token}', expected: identifier after ','")
        return out

    def _peek(self) -> str:
        return self._tokens[self._position] if self._position < len(self._tokens) else _END

    def _next(self) -> str:
        token = self._peek()
        self._position += 1
        return token

    def _requirement(self) -> Requirement:
        token = self._next()
        absent = token == "!"
        if absent:
            token = self._next()
        if not _identifier(token):
            raise FilterError(f"found '{token}', expected: identifier")
        names = _names(token)
        if self._peek() in (_END, ","):
            return Requirement(names, "!" if absent else "exists")
        operator = self._next()
        if operator not in _OPERATORS:
            raise FilterError(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")
        if operator in ("in", "notin"):
            values = self._values()
        else:
            values = self._exact_value()
        for value in values:
            _check_value(value)
            if operator in ("<", ">") and _integer(value) is None:
                raise FilterError(
                    f"Invalid value: {quoted(value)}: for 'Gt', 'Lt' operators, the value must be an integer"
                )
        same = {"=": "in", "==": "in", "!=": "notin"}
        return Requirement(names, same.get(operator, operator), frozenset(values))

    def _exact_value(self) -> set[str]:
        token = self._peek()
        if token in (_END, ","):
            return {""}
        if not _identifier(token):
            raise FilterError(f"found '{token}', expected: identifier")
        return {self._next()}

    def _values(self) -> set[str]:
        """The parenthesised list; nothing before, after or between commas is the empty value."""
        token = self._next()
        if token != "(":
            raise FilterError(f"found '{token}' expected: '('")
        values: set[str] = set()
        expecting = True
        while True:
            token = self._next()
            if token == ")":
                if expecting:
                    values.add("")
                return values
            if token == ",":
                if expecting:
                    values.add("")
                expecting = True
            elif _identifier(token) and expecting:
                values.add(token)
                expecting = False
            else:
                expected = "',', or identifier" if expecting else "',' or ')'"
                raise FilterError(f"found '{token}', expected: {expected}")


def _identifier(token: str) -> bool:
    """Whether a token is a key or value ("in" and "notin" are, where no operator can stand)."""
    return token != _END and token[0] not in _SPECIAL


def _names(key: str) -> tuple[tuple[str, str], ...]:
    """The (source, key) pairs that a key names.

    Without a colon any source does; and since Hubble writes the colon as a dot, "k8s.app" is "k8s:app" too.
    """
    source, colon, rest = key.partition(":")
    if not colon:
        source, rest = ANY_SOURCE, key
    _check_key(f"{source}.{rest}")
    dotted, dot, after = key.partition(".")
    if not colon and dot and after:
        return (source, rest), (dotted, after)
    return ((source, rest),)


def _check_key(key: str) -> None:
    """A qualified name: [subdomain/]name."""
    prefix, slash, name = key.rpartition("/")
    if (slash and (len(prefix) > _SUBDOMAIN_MAX or not _SUBDOMAIN.fullmatch(prefix))) or not _valid_name(name):
        raise FilterError(
            f"Invalid value: {quoted(key)}: name part must consist of alphanumeric characters, '-', '_' or '.', and "
            "must start and end with an alphanumeric character"
        )


def _check_value(value: str) -> None:
    if value and not _valid_name(value):
        raise FilterError(
            f"Invalid value: {quoted(value)}: a valid label must be an empty string or consist of alphanumeric "
            "characters, '-', '_' or '.', and must start and end with an alphanumeric character"
        )


def _valid_name(name: str) -> bool:
    return len(name) <= _NAME_MAX and _NAME.fullmatch(name) is not None
