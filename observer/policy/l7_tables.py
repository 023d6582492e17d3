"""HTTP and Kafka rules as tables: sets of rules by number, and the states of the automata that read what they ask.

The L7 rules of a half, as engine.py lists them, enter; the number of their set leaves, and at the end the bytes of
`policy_sets` and `policy_states` of bpf/policy.h. What the tables cannot hold exactly is refused by PolicyError.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from observer.errors import PolicyError
from observer.policy.automaton import DEAD, MASK_BITS, Automaton, TooLargeError, from_target, union
from observer.policy.bits import mask_of
from observer.policy.engine import Engine, L7Rules
from observer.policy.http_rules import HttpRule, Pattern
from observer.policy.kafka_rules import TOPIC_KEYS, KafkaRule
from observer.policy.model import PortRule
from observer.policy.regex import Byte, Choice, Node, Then, parse

SETS_LIMIT: Final = 1024
"""Different sets of L7 rules."""

STATES_LIMIT: Final = 8192
"""States of all automata together: 4.3 MB, of which the kernel holds two."""

CLIENT_LIMIT: Final = 254
"""Bytes of a clientID; the kernel reads one more of a request's."""

ANY: Final = 0xFFFF_FFFF
"""A start state that stands for no automaton: no rule of the set asks for the field."""

SHOWN: Final = 80
"""Characters of a pattern that an error shows."""

REMEDY: Final = "or use --datapath user"

OWNER: Final = struct.Struct("=II")
SET: Final = struct.Struct(f"=5Q7IIII{OWNER.size * MASK_BITS}s{OWNER.size * MASK_BITS}s")
STATE: Final = struct.Struct("=Q256H")

_TOPIC_KEYS: Final = sum(1 << key for key in TOPIC_KEYS)
_NEVER: Final = Choice()
_Rule = TypeVar("_Rule", HttpRule, KafkaRule)


def check_rules(engine: Engine) -> None:
    """Raise PolicyError, by its name, for the first policy with an L7 rule that the tables cannot hold."""
    held: set[tuple[str, str]] = set()
    for _, policy in engine.policies:
        for rule in policy.rules:
            for entry in (*rule.ingress, *rule.egress):
                for port_rule in entry.ports or ():
                    reason = _refusal(port_rule, held)
                    if reason:
                        raise PolicyError(f"{entry.place}: policy {policy.shown}: {reason}, {REMEDY}")


def _refusal(port_rule: PortRule, held: set[tuple[str, str]]) -> str:
    """Why L7 rules cannot be held, and what to do; "" where they can. `held`: patterns that were tried before."""
    for count, kind in ((len(port_rule.http), "http"), (len(port_rule.kafka), "kafka")):
        if count > MASK_BITS:
            return f"{count} {kind} rules for one port, the kernel judges {MASK_BITS}; join some by alternatives"
    for http in port_rule.http:
        if http.headers:
            return f"the kernel does not judge headers (here {http.headers[0].name!r}); take the condition out"
        for name, pattern in (("method", http.method), ("path", http.path), ("host", http.host)):
            if (name, pattern.text) not in held:
                reason = _refused_pattern(name, pattern)
                if reason:
                    return f"{name} {pattern.text[:SHOWN]!r} {reason}"
                held.add((name, pattern.text))
    if any(len(kafka.client_id.encode("utf-8", "surrogateescape")) > CLIENT_LIMIT for kafka in port_rule.kafka):
        return f"a clientID of more than {CLIENT_LIMIT} bytes, of which the kernel reads no more; shorten it"
    return ""


def _refused_pattern(name: str, pattern: Pattern) -> str:
    try:
        tree = _tree(pattern)
        if tree is not None:
            automaton = union([tree])
            if name == "path":
                from_target(automaton)
    except ValueError as error:
        return f"has {error}, which the kernel does not judge; rewrite it"
    except TooLargeError:
        return "is too large for the kernel's tables; simplify it"
    return ""


class L7Tables:
    """Numbers sets of L7 rules and automata, the same ones once."""

    def __init__(self, revision: int) -> None:
        self._revision = revision
        self._numbers: dict[tuple[tuple[int, int, int], ...], int] = {}
        self._starts: dict[tuple[object, ...], int] = {}
        self._kept: list[tuple[L7Rules, ...]] = []  # so that no id of their rules is given away again
        self.sets: list[bytes] = []
        self.states: list[bytes] = [STATE.pack(0, *(DEAD,) * 256)]

    def number(self, rules: tuple[L7Rules, ...], who: Callable[[], str]) -> int:
        """The number of a set, from 1; `who` tells whose it is, where it cannot be held."""
        key = tuple((entry.number, int(entry.match), id(entry.rules)) for entry in rules)
        number = self._numbers.get(key)
        if number is None:
            if len(self.sets) >= SETS_LIMIT:
                raise PolicyError(f"policies make more than {SETS_LIMIT} sets of L7 rules; join some, {REMEDY}")
            try:
                packed = self._pack(rules)
            except TooLargeError:
                raise PolicyError(
                    f"{who()}: the http rules for one peer and port are too large together for the kernel's tables; "
                    f"simplify their patterns, {REMEDY}"
                ) from None
            except OverflowError as error:
                raise PolicyError(f"{who()}: {error}; join some by alternatives, {REMEDY}") from None
            self.sets.append(packed)
            self._kept.append(rules)
            number = self._numbers[key] = len(self.sets)
        return number

    def _pack(self, rules: tuple[L7Rules, ...]) -> bytes:
        http = [(entry, rule) for entry in rules for rule in entry.rules.http]
        kafka = [(entry, rule) for entry in rules for rule in entry.rules.kafka]
        for owned, kind in ((http, "http"), (kafka, "kafka")):
            if len(owned) > MASK_BITS:
                raise OverflowError(
                    f"{len(owned)} {kind} rules for one peer and port; the kernel judges {MASK_BITS} together"
                )
        asked = [rule for _, rule in kafka]
        starts = (
            self._http_start("method", [rule.method for _, rule in http]),
            self._http_start("path", [rule.path for _, rule in http]),
            self._http_start("host", [rule.host for _, rule in http]),
            self._start([None if rule.api_keys is None else _numbers(rule.api_keys) for rule in asked]),
            self._start([None if rule.api_version is None else _numbers({rule.api_version}) for rule in asked]),
            self._start([_literal(rule.client_id) if rule.client_id else None for rule in asked]),
            self._start([_literal(rule.topic) if rule.topic else _NEVER for rule in asked]),
        )
        return SET.pack(
            (1 << len(http)) - 1,
            (1 << len(kafka)) - 1,
            mask_of(rule == HttpRule() for _, rule in http),
            mask_of(not rule.topic for rule in asked),
            _TOPIC_KEYS,
            *starts,
            self._revision,
            rules[0].number,
            int(rules[0].match),
            _owners(http),
            _owners(kafka),
        )

    def _http_start(self, field: str, patterns: Sequence[Pattern]) -> int:
        key = field == "path", *(pattern.text for pattern in patterns)
        if key not in self._starts:
            trees = [_tree(pattern) for pattern in patterns]
            if any(tree is not None for tree in trees):
                automaton = union(trees)
                self._starts[key] = self._append(from_target(automaton) if field == "path" else automaton)
            else:
                self._starts[key] = ANY
        return self._starts[key]

    def _start(self, trees: Sequence[Node | None]) -> int:
        key = tuple(trees)
        if key not in self._starts:
            self._starts[key] = self._append(union(trees)) if any(tree is not None for tree in trees) else ANY
        return self._starts[key]

    def _append(self, automaton: Automaton) -> int:
        """Take in the states of an automaton; the dead one is one for all, where it says the same."""
        dead = DEAD if not automaton.masks[DEAD] else len(self.states)
        shift = len(self.states) - (0 if dead else 1)
        if shift + len(automaton.masks) > STATES_LIMIT:
            raise PolicyError(
                f"L7 rules need more than {STATES_LIMIT} states of automata in all; simplify their patterns, {REMEDY}"
            )
        for state, (mask, row) in enumerate(zip(automaton.masks, automaton.rows(), strict=True)):
            if state or dead:
                self.states.append(STATE.pack(mask, *(shift + to if to else dead for to in row)))
        return shift + automaton.start


def _tree(pattern: Pattern) -> Node | None:
    return parse(pattern.text) if pattern.text else None


def _literal(text: str) -> Node:
    return Then(tuple(Byte(byte, byte) for byte in text.encode("utf-8", "surrogateescape")))


def _numbers(numbers: set[int] | frozenset[int]) -> Node:
    """Numbers of 16 bits, as two bytes in network order."""
    return Choice(tuple(Then((Byte(n >> 8, n >> 8), Byte(n & 255, n & 255))) for n in sorted(numbers)))


def _owners(owned: Sequence[tuple[L7Rules, _Rule]]) -> bytes:
    return b"".join(OWNER.pack(entry.number, int(entry.match)) for entry, _ in owned)
