"""The regular expressions of HTTP rules as trees over bytes: what automaton.py can build tables from.

A pattern that google-re2 compiles enters; a tree of byte ranges leaves, or ValueError with what of RE2's syntax it is
that the kernel's tables do not hold. Bytes are matched as RE2 matches UTF-8: what is no UTF-8 is matched by no `.`
(re2/compile.cc, re2/parse.cc).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Characters, as ascending ranges that do not touch."""


@dataclass(frozen=True, slots=True)
class Byte:
    """One byte of a range."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Then:
    """One after the other; none of them is the empty text."""

    parts: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """Any of them; none of them is no text at all."""

    parts: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Repeat:
    """A part from `low` to `high` times, None: any number."""

    part: Node
    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Edge:
    """The beginning of the text, or its end."""

    end: bool


Node: TypeAlias = Byte | Then | Choice | Repeat | Edge

_LAST: Final = 0x10FFFF
_BEYOND_ASCII: Final = 0x80, _LAST
DEPTH_LIMIT: Final = 50
"""Parentheses inside each other."""

_PARTIAL_LIMIT: Final = 1024
"""Characters beyond ASCII that a class may have, if not all of them, in a pattern with alternatives: RE2 may join the
classes of alternatives, and reads all of them together less strictly than one by one."""

_GROUPS: Final[dict[str, Ranges]] = {
    "d": ((48, 57),),
    "s": ((9, 10), (12, 13), (32, 32)),
    "w": ((48, 57), (65, 90), (95, 95), (97, 122)),
}
_POSIX: Final[dict[str, Ranges]] = {
    "alnum": ((48, 57), (65, 90), (97, 122)),
    "alpha": ((65, 90), (97, 122)),
    "ascii": ((0, 127),),
    "blank": ((9, 9), (32, 32)),
    "cntrl": ((0, 31), (127, 127)),
    "digit": ((48, 57),),
    "graph": ((33, 126),),
    "lower": ((97, 122),),
    "print": ((32, 126),),
    "punct": ((33, 47), (58, 64), (91, 96), (123, 126)),
    "space": ((9, 13), (32, 32)),
    "upper": ((65, 90),),
    "word": ((48, 57), (65, 90), (95, 95), (97, 122)),
    "xdigit": ((48, 57), (65, 70), (97, 102)),
}
_CONTROLS: Final = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_FOLDED_BEYOND: Final = {ord("k"): 0x212A, ord("s"): 0x17F}
"""Characters beyond ASCII that are a letter of it where case does not count: the Kelvin sign and the long s."""


def parse(pattern: str) -> Node:
    """The tree of a pattern; ValueError where it uses what the tables do not hold."""
    return _Parser(pattern).all()


class _Parser:
    """Recursive descent over a pattern that RE2 accepts; what RE2 refuses need not be found."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0
        self.fold = False
        self.dot_newline = False
        self.alternatives = False
        self.partial = False  # a class has many characters beyond ASCII, but not all

    def all(self) -> Node:
        node = self.choice()
        if self.at < len(self.text):
            raise ValueError("a parenthesis too many")
        if self.alternatives and self.partial:
            raise ValueError("alternatives beside a class of many, not all, characters beyond ASCII")
        return node

    def choice(self) -> Node:
        """Alternatives up to the end of the group; flags that are set inside end with it."""
        fold, dot_newline = self.fold, self.dot_newline
        parts = [self.sequence()]
        while self.take("|"):
            self.alternatives = True
            parts.append(self.sequence())
        self.fold, self.dot_newline = fold, dot_newline
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def sequence(self) -> Node:
        parts: list[Node] = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            if self.take("\\Q"):
                end = self.text.find("\\E", self.at)
                literal = self.text[self.at : end if end >= 0 else None]
                self.at = end + 2 if end >= 0 else len(self.text)
                parts += [self.literal(ord(character)) for character in literal]
                if not literal:
                    continue
            else:
                atom = self.atom()
                if atom is None:
                    continue
                parts.append(atom)
            while (bounds := self.bounds()) is not None:
                parts[-1] = Repeat(parts[-1], *bounds)
        return parts[0] if len(parts) == 1 else Then(tuple(parts))

    def atom(self) -> Node | None:
        """A character, class, group or anchor; None for a change of flags."""
        character = self.text[self.at]
        if character == "(":
            return self.group()
        if character == "[":
            return self.ranges(self.bracket())
        self.at += 1
        if character == ".":
            return self.ranges(((0, _LAST),) if self.dot_newline else ((0, 9), (11, _LAST)))
        if character in "^$":
            return Edge(character == "$")
        if character != "\\":
            return self.literal(ord(character))
        following = self.text[self.at]
        if following in "Az":
            self.at += 1
            return Edge(following == "z")
        if following.lower() in _GROUPS:
            self.at += 1
            return self.ranges(self.perl_group(following))
        return self.literal(self.escape())

    def group(self) -> Node | None:
        self.at += 1
        fold, dot_newline = self.fold, self.dot_newline
        if self.take("?"):
            if self.take("P<") or self.take("<"):
                self.at = self.text.index(">", self.at) + 1
            elif not self.flags():
                return None  # they hold to the end of the group around
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            raise ValueError(f"more than {DEPTH_LIMIT} parentheses inside each other")
        node = self.choice()
        if not self.take(")"):
            raise ValueError("a parenthesis too few")
        self.depth -= 1
        self.fold, self.dot_newline = fold, dot_newline
        return node

    def flags(self) -> bool:
        """Read (?flags: or (?flags); whether a group begins."""
        on = True
        while (flag := self.next()) not in ":)":
            if flag == "-":
                on = False
            elif flag == "i":
                self.fold = on
            elif flag == "s":
                self.dot_newline = on
            elif flag == "m" and on:
                raise ValueError("the flag m")
        return flag == ":"

    def bounds(self) -> tuple[int, int | None] | None:
        """How often the last part may come, if that is written next; greed makes no difference to a full match."""
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        found = simple.get(self.text[self.at : self.at + 1])
        if found is not None:
            self.at += 1
        else:
            found = self.braces()
            if found is None:
                return None
        self.take("?")
        return found

    def braces(self) -> tuple[int, int | None] | None:
        """{n}, {n,} or {n,m}; anything else in braces is literal."""
        if not self.text.startswith("{", self.at):
            return None
        end = self.text.find("}", self.at)
        low, comma, high = self.text[self.at + 1 : max(end, self.at + 1)].partition(",")
        if end < 0 or not _number(low) or (high and not _number(high)):
            return None
        self.at = end + 1
        return int(low), (int(high) if high else None) if comma else int(low)

    def literal(self, character: int) -> Node:
        if not self.fold:
            return _utf8_of(character)
        if character > 0x7F:
            raise ValueError("the flag i with characters beyond ASCII")
        return self.ranges(self.folded(((character, character),)))

    def escape(self) -> int:
        """The character of an escape, behind its backslash."""
        character = self.next()
        if character in "01234567":
            start = self.at - 1
            while self.at < min(start + 3, len(self.text)) and self.text[self.at] in "01234567":
                self.at += 1
            return int(self.text[start : self.at], 8)
        if character == "x":
            if self.take("{"):
                end = self.text.index("}", self.at)
                digits, self.at = self.text[self.at : end], end + 1
            else:
                digits, self.at = self.text[self.at : self.at + 2], self.at + 2
            return int(digits, 16)
        if character in _CONTROLS:
            return _CONTROLS[character]
        if character.isalnum():
            raise ValueError(f"\\{character}")
        return ord(character)

    def bracket(self) -> Ranges:
        """A class in brackets."""
        self.at += 1
        negated = self.take("^")
        ranges: list[tuple[int, int]] = []
        first = True
        while first or not self.text.startswith("]", self.at):
            first = False
            if self.text.startswith("[:", self.at) and (end := self.text.find(":]", self.at)) >= 0:
                name = self.text[self.at + 2 : end]
                self.at = end + 2
                ranges += self.group_ranges(_POSIX[name.removeprefix("^")], negated=name.startswith("^"))
            elif self.text.startswith("\\", self.at) and self.text[self.at + 1].lower() in _GROUPS:
                self.at += 2
                ranges += self.perl_group(self.text[self.at - 1])
            else:
                low = high = self.class_character()
                if self.text.startswith("-", self.at) and not self.text.startswith("-]", self.at):
                    self.at += 1
                    high = self.class_character()
                ranges += self.folded(((low, high),))
        self.at += 1
        return _complement(_joined(ranges)) if negated else _joined(ranges)

    def class_character(self) -> int:
        character = self.next()
        return self.escape() if character == "\\" else ord(character)

    def perl_group(self, letter: str) -> Ranges:
        return self.group_ranges(_GROUPS[letter.lower()], negated=letter.isupper())

    def group_ranges(self, ranges: Ranges, *, negated: bool) -> Ranges:
        folded = self.folded(ranges)
        return _complement(folded) if negated else folded

    def folded(self, ranges: Ranges) -> Ranges:
        """The characters, and those that are the same where case does not count."""
        if not self.fold:
            return ranges
        out = list(ranges)
        for low, high in ranges:
            if high > 0x7F and (low > 0x80 or high < _LAST):
                raise ValueError("the flag i with characters beyond ASCII")
            if high == _LAST:
                out += [(ord(letter), ord(letter)) for letter in "KSks"]  # as _FOLDED_BEYOND, the other way round
            for character in range(low, min(high, 0x7F) + 1):
                if chr(character).isalpha():
                    other = character ^ 0x20
                    out.append((other, other))
                    beyond = _FOLDED_BEYOND.get(character | 0x20)
                    if beyond is not None:
                        out.append((beyond, beyond))
        return _joined(out)

    def ranges(self, ranges: Ranges) -> Node:
        """A class of characters as bytes."""
        beyond = [(max(low, 0x80), high) for low, high in ranges if high >= 0x80]
        if beyond and beyond != [_BEYOND_ASCII] and sum(high - low + 1 for low, high in beyond) > _PARTIAL_LIMIT:
            self.partial = True
        return _one_of([node for low, high in ranges for node in _utf8_ranges(low, high)])

    def next(self) -> str:
        if self.at >= len(self.text):
            raise ValueError("an end that is not expected")
        self.at += 1
        return self.text[self.at - 1]

    def take(self, text: str) -> bool:
        """Pass over `text` if it comes next."""
        if not self.text.startswith(text, self.at):
            return False
        self.at += len(text)
        return True


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and (len(text) == 1 or text[0] != "0")


def _one_of(nodes: Sequence[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else Choice(tuple(nodes))


def _joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    out: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if out and low <= out[-1][1] + 1:
            out[-1] = out[-1][0], max(out[-1][1], high)
        else:
            out.append((low, high))
    return tuple(out)


def _complement(ranges: Ranges) -> Ranges:
    out: list[tuple[int, int]] = []
    start = 0
    for low, high in _joined(ranges):
        if start < low:
            out.append((start, low - 1))
        start = high + 1
    if start <= _LAST:
        out.append((start, _LAST))
    return tuple(out)


def _encoded(character: int) -> bytes:
    return chr(character).encode("utf-8", "surrogatepass")


def _utf8_of(character: int) -> Node:
    return _bytes((byte, byte) for byte in _encoded(character))


def _bytes(ranges: Iterable[tuple[int, int]]) -> Node:
    parts = tuple(Byte(low, high) for low, high in ranges)
    return parts[0] if len(parts) == 1 else Then(parts)


_TAIL: Final = (0x80, 0xBF)


def _utf8_ranges(low: int, high: int) -> list[Node]:
    """A range of characters as sequences of byte ranges; split as RE2's Compiler::AddRuneRangeUTF8 does."""
    if (low, high) == _BEYOND_ASCII:  # RE2 takes overlong forms too, where all of them are meant
        return [
            _bytes(((0xC2, 0xDF), _TAIL)),
            _bytes(((0xE0, 0xEF), _TAIL, _TAIL)),
            _bytes(((0xF0, 0xF4), _TAIL, _TAIL, _TAIL)),
        ]
    for longest in (0x7F, 0x7FF, 0xFFFF):
        if low <= longest < high:
            return _utf8_ranges(low, longest) + _utf8_ranges(longest + 1, high)
    if high < 0x80:
        return [Byte(low, high)]
    for bits in (6, 12, 18):
        mask = (1 << bits) - 1
        if low & ~mask != high & ~mask:
            if low & mask:
                return _utf8_ranges(low, low | mask) + _utf8_ranges((low | mask) + 1, high)
            if high & mask != mask:
                return _utf8_ranges(low, (high & ~mask) - 1) + _utf8_ranges(high & ~mask, high)
    return [_bytes(zip(_encoded(low), _encoded(high), strict=True))]
