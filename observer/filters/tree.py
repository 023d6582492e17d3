"""The tree of the filter language, and the text that reads as it.

Tests, words and patterns, joined by and, or and not. A tree enters, a text leaves that language.parse reads as the same
tree; values of strangers are quoted and escaped in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from observer.filters.fields import FIELDS, PROTOCOLS, Field, whole

KEYWORDS: Final = ("and", "or", "not", "in")
"""Words that are none."""
_SAFE_WORD: Final = re.compile(r"[A-Za-z0-9_.:@%+-][A-Za-z0-9_.:/@%+-]*")
_SAFE_VALUE: Final = re.compile(r"[A-Za-z0-9_.:/@%+^$\\-][A-Za-z0-9_.:/@%+=^$\\{}-]*")


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a test; a glob is a bare one with `*` or `?` where those are ours."""

    text: str
    glob: bool = False
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Condition:
    """One field against its values: `name` is what the field was called, which tells its side."""

    name: str
    operator: str
    values: tuple[Value, ...]
    position: int = field(default=0, compare=False)

    @property
    def field(self) -> Field:
        """The field of that name."""
        return FIELDS[self.name][0]

    @property
    def side(self) -> str:
        """The end that is meant: "source", "destination", or empty."""
        return FIELDS[self.name][1]


@dataclass(frozen=True, slots=True)
class Word:
    """Text that pod, address, domain name or summary must hold, in any case."""

    text: str
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression that must find something in one of them."""

    text: str
    position: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    """What the part does not match."""

    part: Node


@dataclass(frozen=True, slots=True)
class And:
    """What all parts match; of none, everything."""

    parts: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Or:
    """What any part matches."""

    parts: tuple[Node, ...]


Node: TypeAlias = Condition | Word | Pattern | Not | And | Or
EVERYTHING: Final = And()


def text_of(node: Node) -> str:
    """The text of a tree, which reads as the same tree."""
    match node:
        case And(()):
            return ""
        case And(parts):
            return " and ".join([_within(part, (And, Or)) for part in parts])
        case Or(parts):
            return " or ".join([_within(part, (Or,)) for part in parts])
        case Not(part):
            return f"not {_within(part, (And, Or))}"
        case Word(text):
            lower = text.lower()
            bare = (
                _SAFE_WORD.fullmatch(text) and lower not in KEYWORDS and lower not in FIELDS and lower not in PROTOCOLS
            )
            return text if bare else quoted(text)
        case Pattern(text):
            return f"/{_slashed(text)}/"
        case Condition(name, "in", values):
            return f"{name} in ({', '.join(map(value_text, values))})"
        case Condition(name, operator, (value,)):
            if name == "protocol" and operator == "=" and value.text in PROTOCOLS:
                return value.text
            text = value_text(value)
            return f"{name}{operator} {text}" if text.startswith(("=", "~")) else f"{name}{operator}{text}"
    raise AssertionError(node)


def _within(node: Node, weaker: tuple[type, ...]) -> str:
    text = text_of(node)
    return f"({text})" if isinstance(node, weaker) else text


def value_text(value: Value) -> str:
    """A value as it stands in a text: quoted where it needs to be."""
    plain = value.glob or (_SAFE_VALUE.fullmatch(value.text) is not None)
    return value.text if plain else quoted(value.text)


def _slashed(pattern: str) -> str:
    """A pattern with its slashes escaped."""
    return re.sub(r"\\.|/", lambda found: r"\/" if found[0] == "/" else found[0], pattern, flags=re.DOTALL)


def quoted(text: str) -> str:
    """A text in quotes, in printable characters."""
    return '"' + "".join([escaped(character) for character in text]) + '"'


def escaped(character: str) -> str:
    """A character as it stands in a quoted text."""
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def term(name: str, value: str) -> str:
    """The test that a field is this very value, quoted as it needs to be: `to-pod=shop/cart`, `http.path="^/a b$"`.

    A pod and a service are beginnings of names, as in Hubble. Where Hubble's `=` cannot say it, an expression does.
    """
    known, _ = FIELDS[name]
    literal = known.literal(value)
    if literal is None:
        return text_of(Condition(name, "~", (Value(whole(value)),)))
    return text_of(Condition(name, "=", (Value(literal),)))


def shown(text: str, most: int = 64) -> str:
    """A text for a message: in printable characters, and not too many."""
    printable = "".join([each if each.isprintable() else escaped(each) for each in text[:most]])
    return printable + ("..." if len(text) > most else "")
