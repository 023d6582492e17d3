"""Automata over bytes: which of up to 64 rules match a text, read byte by byte, as the kernel does.

Trees of regex.py enter, one a rule; a table leaves whose states carry the mask of the rules that match a text ending
there. Sizes and work are bounded: a pattern that would need more is told by TooLargeError, soon.
"""

from __future__ import annotations

import enum
import string
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from observer.policy.bits import set_bits
from observer.policy.regex import Byte, Choice, Edge, Node, Repeat, Then

MASK_BITS: Final = 64
"""Rules that one automaton tells apart."""

STATES_LIMIT: Final = 4096
"""States of one automaton."""

PARTS_LIMIT: Final = 20_000
"""Parts (states of the nondeterministic automaton) that the patterns of one automaton may have, repeats written out."""

WORK_LIMIT: Final = 2_000_000
"""Steps that building one automaton may take: about a second."""

DEAD: Final = 0
"""The state from which nothing matches any more."""


class TooLargeError(Exception):
    """Patterns need more states than an automaton may have."""


@dataclass(slots=True)
class Automaton:
    """States by number; `following[state]` has the next state for each class of bytes."""

    start: int
    masks: list[int]
    following: list[list[int]]
    byte_class: list[int]

    def step(self, state: int, byte: int) -> int:
        """The state after one more byte."""
        return self.following[state][self.byte_class[byte]]

    def rows(self) -> list[list[int]]:
        """The next state for each of the 256 bytes, by state."""
        return [[row[number] for number in self.byte_class] for row in self.following]


def union(patterns: Sequence[Node | None]) -> Automaton:
    """The automaton of several patterns, bit `i` of a mask for the i-th; None stands for no condition."""
    free = sum(1 << index for index, pattern in enumerate(patterns) if pattern is None)
    parts = _Parts()
    for index, pattern in enumerate(patterns):
        if pattern is not None:
            first, last = parts.add(pattern)
            parts.starts.append(first)
            parts.final[last] = 1 << index
    return _determined(parts, free)


@dataclass(slots=True)
class _Parts:
    """A nondeterministic automaton: bytes and empty steps from part to part."""

    steps: list[list[tuple[int, int, int]]] = field(default_factory=list)  # (low, high, to)
    empty: list[list[int]] = field(default_factory=list)
    at_begin: list[list[int]] = field(default_factory=list)  # empty steps that only the beginning of the text allows
    at_end: list[list[int]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    final: dict[int, int] = field(default_factory=dict)  # mask of rules

    def new(self) -> int:
        if len(self.steps) >= PARTS_LIMIT:
            raise TooLargeError
        for steps in (self.empty, self.at_begin, self.at_end):
            steps.append([])
        self.steps.append([])
        return len(self.steps) - 1

    def add(self, node: Node) -> tuple[int, int]:
        """Write a tree out; its first and last part."""
        if isinstance(node, Then):
            first = last = self.new()
            for part in node.parts:
                start, end = self.add(part)
                self.empty[last].append(start)
                last = end
            return first, last
        if isinstance(node, Repeat):
            return self._repeat(node)
        first, last = self.new(), self.new()
        if isinstance(node, Byte):
            self.steps[first].append((node.low, node.high, last))
        elif isinstance(node, Edge):
            (self.at_end if node.end else self.at_begin)[first].append(last)
        else:
            assert isinstance(node, Choice)
            for part in node.parts:
                start, end = self.add(part)
                self.empty[first].append(start)
                self.empty[end].append(last)
        return first, last

    def _repeat(self, node: Repeat) -> tuple[int, int]:
        first = last = self.new()
        for _ in range(node.low):
            start, end = self.add(node.part)
            self.empty[last].append(start)
            last = end
        if node.high is None:
            start, end = self.add(node.part)
            loop, out = self.new(), self.new()
            self.empty[last].append(loop)
            self.empty[loop] += [start, out]
            self.empty[end].append(loop)
            return first, out
        skips = []
        for _ in range(node.high - node.low):
            start, end = self.add(node.part)
            skips.append(last)
            self.empty[last].append(start)
            last = end
        out = self.new()
        for part in (*skips, last):
            self.empty[part].append(out)
        return first, out

    def reached(self, part: int, *, begin: bool = False, end: bool = False) -> int:
        """The parts, as bits, that empty steps lead to from `part`."""
        seen = 1 << part
        waiting = [part]
        while waiting:
            here = waiting.pop()
            steps = self.empty[here]
            if begin and self.at_begin[here]:
                steps = steps + self.at_begin[here]
            if end and self.at_end[here]:
                steps = steps + self.at_end[here]
            for to in steps:
                if not seen >> to & 1:
                    seen |= 1 << to
                    waiting.append(to)
        return seen


class _Budget:
    """The work that is left."""

    def __init__(self) -> None:
        self.left = WORK_LIMIT

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise TooLargeError


def from_target(paths: Automaton) -> Automaton:
    """The automaton of request targets whose path, as Envoy sees it, `paths` is for: what tag.path_of takes off an
    absolute form (RFC 9112, 3.2.2), scheme and authority, is passed over.

    Raises TooLargeError. While a scheme may still be going on, the state of `paths` for the target as it is is kept.
    """
    pairs = [(paths.byte_class[byte], _FORM_CLASS[byte]) for byte in range(256)]
    kinds = list(dict.fromkeys(pairs))
    byte_class = [kinds.index(pair) for pair in pairs]
    samples = [pairs.index(kind) for kind in kinds]
    root = paths.step(paths.start, _SLASH)
    masks: list[int] = []
    following: list[list[int]] = []
    numbers: dict[tuple[_Form, int], int] = {}
    found: list[tuple[_Form, int]] = []

    def number(form: _Form, state: int) -> int:
        key = form, state
        if key not in numbers:
            if len(found) >= STATES_LIMIT:
                raise TooLargeError
            numbers[key] = len(found)
            found.append(key)
            masks.append(paths.masks[root if form is _Form.AUTHORITY else state])
        return numbers[key]

    def behind(form: _Form, state: int, byte: int) -> int:
        if form is _Form.AUTHORITY:
            if byte not in _BEHIND_AUTHORITY:
                return number(form, DEAD)
            return number(_Form.PLAIN, root if byte == _SLASH else paths.step(root, byte))
        form = _following_form(form, byte)
        return number(form, DEAD if form is _Form.AUTHORITY else paths.step(state, byte))

    number(_Form.PLAIN, DEAD)
    start = number(_Form.BEGIN, paths.start)
    while len(following) < len(found):
        form, state = found[len(following)]
        following.append([behind(form, state, byte) for byte in samples])
    return Automaton(start, masks, following, byte_class)


class _Form(enum.Enum):
    """How far a target looks like an absolute form, as in tag.ABSOLUTE."""

    PLAIN = enum.auto()  # it does not
    BEGIN = enum.auto()
    SCHEME = enum.auto()
    COLON = enum.auto()  # behind "scheme:"
    SLASH = enum.auto()  # behind "scheme:/"
    AUTHORITY = enum.auto()  # behind "scheme://"


_SLASH: Final = ord("/")
_LETTERS: Final = frozenset(string.ascii_letters.encode())
_SCHEME: Final = frozenset(f"{string.ascii_letters}{string.digits}+.-".encode())
_BEHIND_AUTHORITY: Final = frozenset(b"/?#")


def _form_class(byte: int) -> int:
    """What a byte may be to an absolute form."""
    if byte in b":/":
        return byte
    return (byte in _LETTERS) + 2 * (byte in _SCHEME) + 4 * (byte in _BEHIND_AUTHORITY)


_FORM_CLASS: Final = [_form_class(byte) for byte in range(256)]


def _following_form(form: _Form, byte: int) -> _Form:
    if form is _Form.BEGIN:
        return _Form.SCHEME if byte in _LETTERS else _Form.PLAIN
    if form is _Form.SCHEME and byte in _SCHEME:
        return _Form.SCHEME
    if form is _Form.SCHEME and byte == ord(":"):
        return _Form.COLON
    if form is _Form.COLON and byte == _SLASH:
        return _Form.SLASH
    if form is _Form.SLASH and byte == _SLASH:
        return _Form.AUTHORITY
    return _Form.PLAIN


def _determined(parts: _Parts, free: int) -> Automaton:
    """The subset construction, over classes of bytes that no step tells apart."""
    byte_class, samples = _byte_classes(parts)
    budget = _Budget()
    moving = sum(1 << part for part, steps in enumerate(parts.steps) if steps)  # parts that a byte leads on from
    closures: dict[int, int] = {}
    endings: dict[int, int] = {}

    def closure(part: int) -> int:
        if part not in closures:
            reached = parts.reached(part)
            budget.spend(reached.bit_count())
            closures[part] = reached
        return closures[part]

    def ending(part: int, *, begin: bool) -> int:
        """The rules that match where the text ends in a part."""
        reached = parts.reached(part, begin=begin, end=True)
        budget.spend(reached.bit_count())
        return sum(mask for last, mask in parts.final.items() if reached >> last & 1)

    def mask_of(subset: int) -> int:
        budget.spend(subset.bit_count())
        mask = free
        for part in set_bits(subset):
            if part not in endings:
                endings[part] = ending(part, begin=False)
            mask |= endings[part]
        return mask

    masks, following = [free], [[DEAD] * len(samples)]
    numbers: dict[int, int] = {0: DEAD}
    subsets: list[int] = [0]

    def number(subset: int) -> int:
        found = numbers.get(subset)
        if found is None:
            if len(subsets) >= STATES_LIMIT:
                raise TooLargeError
            found = numbers[subset] = len(subsets)
            subsets.append(subset)
            masks.append(mask_of(subset))
            following.append([])
        return found

    begin_mask, begin_subset = free, 0
    for start in parts.starts:
        begin_subset |= parts.reached(start, begin=True)
        begin_mask |= ending(start, begin=True)
    # The beginning is a state of its own: anchors that hold there hold nowhere else.
    subsets.append(begin_subset)
    masks.append(begin_mask)
    following.append([])
    state = 1
    while state < len(subsets):
        targets: dict[int, int] = defaultdict(int)
        budget.spend(subsets[state].bit_count() + len(samples))
        for part in set_bits(subsets[state] & moving):
            for low, high, to in parts.steps[part]:
                first, last = byte_class[low], byte_class[high]
                budget.spend(last - first + 1)
                for of_bytes in range(first, last + 1):
                    targets[of_bytes] |= closure(to)
        following[state] = [number(targets.get(of_bytes, 0)) for of_bytes in range(len(samples))]
        state += 1
    return Automaton(1, masks, following, byte_class)


def _byte_classes(parts: _Parts) -> tuple[list[int], list[int]]:
    """The class of each byte, ascending with the bytes, and a byte of each class."""
    borders = {0}
    for steps in parts.steps:
        for low, high, _ in steps:
            borders |= {low, high + 1}
    samples = sorted(borders - {256})
    classes: list[int] = []
    for index, start in enumerate(samples):
        end = samples[index + 1] if index + 1 < len(samples) else 256
        classes += [index] * (end - start)
    return classes, samples
