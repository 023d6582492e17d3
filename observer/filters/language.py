"""The filter language: the text that `observe` and the TUI take, to a tree.

    dns and not to-namespace=kube-system or http.status=5xx and latency>20ms

A text enters, a tree of tests leaves; FilterError says what was expected, and where. tree.py has the way back. Values
are read by the compiler (expression.py), not here. No text that a stranger writes can nest, grow or run without bound.
"""

from __future__ import annotations

import difflib
import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from observer.errors import FilterError
from observer.filters.fields import FIELDS, PROTOCOLS
from observer.filters.tree import (
    EVERYTHING,
    KEYWORDS,
    And,
    Condition,
    Node,
    Not,
    Or,
    Pattern,
    Value,
    Word,
    escaped,
    shown,
    text_of,
)

MAX_LENGTH: Final = 4_096
"""Characters of a text."""
MAX_DEPTH: Final = 32
"""Parentheses and nots within each other."""
MAX_TESTS: Final = 256
"""Tests and values of one text."""

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_OPERATOR: Final = re.compile(r"!=|!~|==|=|~|<=|<|>=|>")
_BARE: Final = re.compile(r"""(?:(?!&&|\|\||![=~])[^\s()"=~<>,])+""")
_AND: Final = ("and", "&&")
_OR: Final = ("or", "||")
_SHORT_ESCAPES: Final = {"x": 2, "u": 4, "U": 8}
SUGGESTION_CUTOFF: Final = 0.6


class Expected(enum.Enum):
    """What may stand somewhere."""

    TEST = "test"
    OPERATOR = "operator"
    VALUE = "value"
    LISTED = "value of a list"


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the last token begins, what may stand there, and for which field and operator."""

    expected: Expected
    start: int
    name: str = ""
    operator: str = ""


class IncompleteError(FilterError):
    """The text ends too early: what was typed so far is no mistake."""


def parse(text: str) -> Node:
    """Read a text; of nothing but space: everything. FilterError with the position of the mistake."""
    if len(text) > MAX_LENGTH:
        raise FilterError(f"a filter has at most {MAX_LENGTH} characters, not {len(text)}", MAX_LENGTH)
    for position, character in enumerate(text):
        if not character.isprintable() and character not in " \t\r\n":
            what = f"the character U+{ord(character):04X}"
            raise FilterError(f"{what} cannot stand in a filter; in quotes write {escaped(character)}", position)
    return _Parser(text).whole()


def last_slot(text: str) -> tuple[Slot, FilterError | None]:
    """Where the last token of a text begins, and the mistake if there is one; of MAX_LENGTH characters at most."""
    parser = _Parser(text)
    try:
        parser.whole()
    except FilterError as error:
        return parser.slot, error
    return parser.slot, None


class _Parser:
    """Recursive descent over one text; `_at` is where the next token may begin."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._tests = 0
        self.slot = Slot(Expected.TEST, 0)

    def whole(self) -> Node:
        """All of it."""
        self._skip()
        if self._ended():
            return EVERYTHING
        node = self._or(0)
        if not self._ended():
            self._fail(f"unexpected `{self._text[self._at]}`")
        return node

    def _ended(self) -> bool:
        return self._at >= len(self._text)

    def _skip(self) -> None:
        match = _SPACE.match(self._text, self._at)
        assert match is not None
        self._at = match.end()

    def _fail(self, message: str, position: int | None = None) -> NoReturn:
        """A mistake here; at the end of the text it is only incomplete."""
        at = self._at if position is None else position
        raise (IncompleteError if at >= len(self._text) else FilterError)(message, at)

    def _word(self) -> str:
        """The bare word here, not taken; empty where there is none."""
        match = _BARE.match(self._text, self._at)
        return match[0] if match else ""

    def _takes(self, words: tuple[str, str]) -> bool:
        """Take a keyword or its sign."""
        word, sign = words
        if self._text.startswith(sign, self._at):
            self._at += len(sign)
        elif self._word().lower() == word:
            self._at += len(word)
        else:
            return False
        self._skip()
        return True

    def _count(self, position: int) -> None:
        self._tests += 1
        if self._tests > MAX_TESTS:
            self._fail(f"a filter has at most {MAX_TESTS} tests and values", position)

    def _or(self, depth: int) -> Node:
        parts = [self._and(depth)]
        while self._takes(_OR):
            parts.append(self._and(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _and(self, depth: int) -> Node:
        parts = [self._not(depth)]
        while True:
            told = self._takes(_AND)
            if not told and (
                self._ended()
                or self._text[self._at] in "),"
                or self._text.startswith("||", self._at)
                or self._word().lower() == "or"
            ):
                break
            parts.append(self._not(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _not(self, depth: int) -> Node:
        start = self._at
        if self._text.startswith("!", start) and not self._text.startswith(("!=", "!~"), start):
            self._at += 1
        elif self._word().lower() == "not":
            self._at += len("not")
        else:
            return self._primary(depth)
        self._skip()
        self._deeper(depth, start)
        return Not(self._not(depth + 1))

    def _deeper(self, depth: int, position: int) -> None:
        if depth >= MAX_DEPTH:
            self._fail(f"a filter nests at most {MAX_DEPTH} deep", position)

    def _primary(self, depth: int) -> Node:
        start = self._at
        self.slot = Slot(Expected.TEST, start)
        if self._ended():
            self._fail("expected a test" + (f" after `{last}`" if (last := self._last_word()) else ""))
        character = self._text[start]
        if character == "(":
            self._deeper(depth, start)
            self._at += 1
            self._skip()
            node = self._or(depth + 1)
            if self._ended() or self._text[self._at] != ")":
                self._fail("expected `)`, and, or")
            self._at += 1
            self._skip()
            return node
        self._count(start)
        if character == '"':
            return Word(self._quoted(), start)
        if character == "/":
            return Pattern(self._regex(), start)
        word = self._word()
        if not word:
            operator = _OPERATOR.match(self._text, start)
            self._fail(f"expected a field before `{operator[0]}`" if operator else f"unexpected `{character}`")
        if word.lower() in KEYWORDS:
            self._fail(f"expected a test, not `{word}`")
        self._at += len(word)
        self._skip()
        return self._test(word, start)

    def _last_word(self) -> str:
        words = self._text.split()
        return words[-1] if words and len(words[-1]) <= 16 else ""

    def _test(self, word: str, start: int) -> Node:
        """What follows a bare word: an operator, a list, or nothing."""
        name = word.lower()
        known = FIELDS.get(name)
        operator = _OPERATOR.match(self._text, self._at)
        if known is None:
            if operator:
                close = difflib.get_close_matches(name[:64], FIELDS, n=1, cutoff=SUGGESTION_CUTOFF)
                hint = f"did you mean `{close[0]}`?" if close else f"to find a text with `{operator[0]}`, quote it"
                raise FilterError(f"unknown field `{shown(word)}`; {hint}", start)
            if name in PROTOCOLS:
                return Condition("protocol", "=", (Value(name, position=start),), start)
            return Word(word, start)
        operators = known[0].operators
        signs = ", ".join(operators)
        self.slot = Slot(Expected.OPERATOR, self._at, name)
        if operator is None:
            if self._word().lower() != "in":
                message = f"expected {signs} after `{word}`"
                if not self._ended():
                    message += f'; for the text, quote it: "{word}"'
                self._fail(message)
            self._at += len("in")
            return Condition(name, "in", self._list(name), start)
        sign = "=" if operator[0] == "==" else operator[0]
        if sign not in operators:
            raise FilterError(f"expected {signs} after `{word}`, not `{operator[0]}`", self._at)
        self._at = operator.end()
        self._skip()
        return Condition(name, sign, (self._value(name, sign, word, listed=False),), start)

    def _list(self, name: str) -> tuple[Value, ...]:
        self._skip()
        if self._ended() or self._text[self._at] != "(":
            self._fail("expected `(` after `in`")
        values: list[Value] = []
        while True:
            self._at += 1
            self._skip()
            self._count(self._at)
            values.append(self._value(name, "in", "," if values else "(", listed=True))
            if self._ended() or self._text[self._at] not in ",)":
                self._fail("expected `,` or `)`")
            if self._text[self._at] == ")":
                self._at += 1
                self._skip()
                return tuple(values)

    def _value(self, name: str, operator: str, before: str, *, listed: bool) -> Value:
        start = self._at
        known, _ = FIELDS[name]
        self.slot = Slot(Expected.LISTED if listed else Expected.VALUE, start, name, operator)
        if not self._ended() and self._text[start] == '"':
            return Value(self._quoted(), position=start)
        text = self._bare_value(listed=listed)
        if not text:
            self._fail(f"expected a value after `{before if listed else before + operator}`")
        self._skip()
        glob = known.globs and operator in ("=", "!=", "in") and ("*" in text or "?" in text)
        return Value(text, glob, start)

    def _bare_value(self, *, listed: bool) -> str:
        """Up to space, a parenthesis that it did not open, && or ||; in a list, also a comma."""
        text, start, at, depth = self._text, self._at, self._at, 0
        while at < len(text):
            character = text[at]
            if character.isspace() or character == '"' or text.startswith(("&&", "||"), at):
                break
            if character == "(":
                depth += 1
            elif character == ")":
                if not depth:
                    break
                depth -= 1
            elif character == "," and listed and not depth:
                break
            at += 1
        self._at = at
        return text[start:at]

    def _quoted(self) -> str:
        r"""A text in quotes, where \" and \\ and \x1b, \u202e, \U0001f600 stand for a character; else \ is itself."""
        text, start = self._text, self._at
        out: list[str] = []
        at = start + 1
        while at < len(text) and text[at] != '"':
            following = text[at + 1 : at + 2]
            if text[at] != "\\" or not following or following not in '"\\xuU':
                out.append(text[at])
                at += 1
            elif following in '"\\':
                out.append(following)
                at += 2
            else:
                size = _SHORT_ESCAPES[following]
                digits = text[at + 2 : at + 2 + size]
                code = int(digits, 16) if re.fullmatch(f"[0-9A-Fa-f]{{{size}}}", digits) else -1
                if not 0 <= code <= 0x10FFFF or 0xD800 <= code <= 0xDFFF:
                    raise FilterError(
                        f"expected {size} hexadecimal digits of a character after `\\{following}`; "
                        f"for a backslash write `\\\\`",
                        at,
                    )
                out.append(chr(code))
                at += 2 + size
        if at >= len(text):
            self._fail('expected `"` at the end of the quoted text', at)
        self._at = at + 1
        self._skip()
        return "".join(out)

    def _regex(self) -> str:
        r"""A regular expression between slashes, where \/ is a slash."""
        text = self._text
        out: list[str] = []
        at = self._at + 1
        while at < len(text) and text[at] != "/":
            if text[at] == "\\" and at + 1 < len(text):
                out.append("/" if text[at + 1] == "/" else text[at : at + 2])
                at += 2
            else:
                out.append(text[at])
                at += 1
        if at >= len(text):
            self._fail("expected `/` at the end of the regular expression", at)
        self._at = at + 1
        self._skip()
        return "".join(out)


def joined(texts: Sequence[str]) -> str:
    """Several texts that must all match, as one."""
    parts = [node for node in map(parse, texts) if node != EVERYTHING]
    return text_of(parts[0] if len(parts) == 1 else And(tuple(parts)))
