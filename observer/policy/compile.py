"""Policies as contents of the kernel's maps: what bpf/policy.h judges by, and gives the verdicts of engine.py.

An engine and an ipcache enter; tables of bytes leave, by the names of the maps in bpf/policy.h. Every verdict in them
is asked of the engine, half by half: for each class of subjects, each class of peers and each range of ports that rules
tell apart. What the tables cannot hold exactly is refused by PolicyError; nothing here talks to the kernel.
"""

from __future__ import annotations

import enum
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from observer.errors import PolicyError
from observer.identity.endpoints import IpCache
from observer.policy.classes import AddressClass, Classified, classify
from observer.policy.engine import Engine, Half, Side
from observer.policy.l7_tables import REMEDY, SET, L7Tables, check_rules
from observer.policy.model import DirectionRule, Ports
from observer.record import Direction, Protocol

PAIRS_LIMIT: Final = 262_144
"""Entries of `policy_pairs`: a class that some policy selects, a direction, and a class of peers that is told apart."""

PORTS_LIMIT: Final = 262_144
"""Entries of `policy_ports`: ranges of ports, written as prefixes."""

ANYBODY: Final = 0
"""Stands for every class of peers that is not named with a subject."""


class ClassFlag(enum.IntFlag):
    """What policies know of a class of addresses, as bpf/policy.h has it."""

    MANAGED = 1
    INGRESS = 2  # some policy selects it in that direction
    EGRESS = 4


ADDRESS: Final = struct.Struct("=II16s")  # length in bits, family, address
CLASS: Final = struct.Struct("=II")  # number, flags
PAIR: Final = struct.Struct("=III")  # class of the subject, class of the peer, direction
PORT: Final = struct.Struct("=IIB2sx")  # length in bits, table, protocol, port in network order
HALF: Final = struct.Struct("=IIBBxx")  # rule, set of L7 rules, allowed, match
NUMBER: Final = struct.Struct("=I")  # of a table of ports, a set, a state

FAMILY_BITS: Final = 32
TABLE_BITS: Final = 32
PROTOCOL_BITS: Final = 8
PORT_BITS: Final = 16

ICMP_TYPES: Final = 256
_PORTED: Final = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)
_ICMP: Final = (Protocol.ICMP, Protocol.ICMPV6)
_OTHER_PROTOCOL: Final = 255  # reserved (RFC 5237), stands for all that no rule can name

_HeldHalf: TypeAlias = tuple[int, int, bool, int]  # as HALF
_Entry: TypeAlias = tuple[int, int, int, _HeldHalf]  # bits behind the table's, protocol, port


class MapKind(enum.Enum):
    """Kinds of maps, by what the kernel calls them."""

    HASH = 1
    ARRAY = 2
    LPM_TRIE = 11


@dataclass(slots=True)
class PolicyTable:
    """The contents of one map."""

    kind: MapKind
    key_size: int
    value_size: int
    entries: list[tuple[bytes, bytes]] = field(default_factory=list)


@dataclass(slots=True)
class PolicyMaps:
    """The contents of the maps of bpf/policy.h, by their names; all of one revision belong together."""

    revision: int
    tables: dict[str, PolicyTable]
    states: bytes
    """What `policy_states` begins with; zeroes follow."""


def compile_policy(engine: Engine, cache: IpCache, revision: int) -> PolicyMaps:
    """The contents of policy's maps; PolicyError for what the kernel cannot hold exactly.

    `engine` remembers what it is asked, and is for one thread: hand in one of its own.
    """
    check_rules(engine)
    classified = classify(engine, cache)
    l7 = L7Tables(revision)
    halves = _Halves(engine, classified, l7)
    flags = {owner.number: _flags(engine, owner) for owner in classified.classes}
    addresses = PolicyTable(MapKind.LPM_TRIE, ADDRESS.size, CLASS.size)
    for prefix in classified.prefixes:
        key = ADDRESS.pack(FAMILY_BITS + prefix.length, prefix.family, prefix.network.to_bytes(16))
        addresses.entries.append((key, CLASS.pack(prefix.owner.number, flags[prefix.owner.number])))
    return PolicyMaps(
        revision,
        {
            "policy_addresses": addresses,
            "policy_pairs": halves.pairs,
            "policy_ports": halves.ports,
            "policy_sets": _array(SET.size, [bytes(SET.size), *l7.sets]),
        },
        b"".join(l7.states),
    )


def _array(value_size: int, values: Sequence[bytes]) -> PolicyTable:
    entries = [(NUMBER.pack(index), value) for index, value in enumerate(values)]
    return PolicyTable(MapKind.ARRAY, NUMBER.size, value_size, entries)


def _flags(engine: Engine, owner: AddressClass) -> int:
    if not owner.managed:
        return 0
    flags = ClassFlag.MANAGED
    if engine.side(owner.endpoint, Direction.INGRESS) is not None:
        flags |= ClassFlag.INGRESS
    if engine.side(owner.endpoint, Direction.EGRESS) is not None:
        flags |= ClassFlag.EGRESS
    return int(flags)


class _Halves:
    """Verdicts on connections: which table of ports a pair of classes has, and what stands in it."""

    def __init__(self, engine: Engine, classified: Classified, l7: L7Tables) -> None:
        self.pairs = PolicyTable(MapKind.HASH, PAIR.size, NUMBER.size)
        self.ports = PolicyTable(MapKind.LPM_TRIE, PORT.size, HALF.size)
        self._engine = engine
        self._classified = classified
        self._l7 = l7
        self._shown = {number: policy.shown for number, policy in engine.policies}
        self._by_rules: dict[tuple[object, ...], int] = {}
        self._by_content: dict[tuple[_Entry, ...], int] = {}
        for subject in classified.classes:
            for direction in (Direction.INGRESS, Direction.EGRESS):
                side = engine.side(subject.endpoint, direction)
                if side is not None:
                    self._fill(subject, direction, side)

    def _fill(self, subject: AddressClass, direction: Direction, side: Side) -> None:
        """The tables of a subject: one for all peers that its rules do not tell from others, and those of the rest."""
        ingress = direction == Direction.INGRESS
        holding: dict[int, list[int]] = defaultdict(list)  # rules that hold for a class and not for everybody
        common = []
        for index, (_, rule) in enumerate(side.rules):
            if rule.nothing:
                continue
            if rule.peers is None:
                common.append(index)
                continue
            for peer in self._classified.members(rule.peers):
                holding[peer.number].append(index)
        named = not ingress and any(ports.name for _, rule in side.rules for ports in _ports(rule))
        tables: dict[int, int] = {}
        rest: AddressClass | None = None
        for peer in self._classified.classes:
            if peer.number in holding or (ingress and peer.host) or (named and peer.named_ports):
                rules = sorted((*holding[peer.number], *common))
                tables[peer.number] = self._table(subject, direction, side, peer, rules)
            else:
                rest = peer
        of_rest = self._table(subject, direction, side, rest, common) if rest is not None else 0
        others = len(self._classified.classes) - len(tables)
        ((usual, _),) = (Counter(tables.values()) + Counter({of_rest: others})).most_common(1)
        self._pair(subject.number, ANYBODY, direction, usual)
        for peer in self._classified.classes:
            table = tables.get(peer.number, of_rest)
            if table != usual:
                self._pair(subject.number, peer.number, direction, table)

    def _pair(self, subject: int, peer: int, direction: Direction, table: int) -> None:
        if len(self.pairs.entries) >= PAIRS_LIMIT:
            raise PolicyError(
                f"policies have different rules for more than {PAIRS_LIMIT} pairs of workloads and peers, which is "
                f"what the kernel's tables hold; select by fewer labels and CIDRs, {REMEDY}"
            )
        self.pairs.entries.append((PAIR.pack(subject, peer, direction), NUMBER.pack(table)))

    def _table(
        self, subject: AddressClass, direction: Direction, side: Side, peer: AddressClass, holding: Sequence[int]
    ) -> int:
        """The number of the table of ports of a pair; pairs for which the same rules hold are judged once."""
        from_host = direction == Direction.INGRESS and peer.host
        named = (subject if direction == Direction.INGRESS else peer).named_ports
        rules = [] if from_host else [side.rules[index][1] for index in holding]
        key = (side.default_deny, from_host, named, *map(id, rules))
        table = self._by_rules.get(key)
        if table is None:

            def half(protocol: int, port: int, icmp_type: int | None) -> _HeldHalf:
                ends = subject.endpoint, direction, peer.endpoint, peer.address
                return self._held(self._engine.half(*ends, protocol, port, icmp_type, peer.family))

            content = tuple(_entries(_borders(rules, named), half))
            table = self._by_content.get(content)
            if table is None:
                table = self._by_content[content] = len(self._by_content) + 1
                self._append(table, content)
            self._by_rules[key] = table
        return table

    def _held(self, half: Half) -> _HeldHalf:
        l7 = self._l7.number(half.l7, lambda: f"policy {self._shown[half.rule]}") if half.l7 else 0
        return half.rule, l7, half.allowed, int(half.match)

    def _append(self, table: int, content: Sequence[_Entry]) -> None:
        if len(self.ports.entries) + len(content) > PORTS_LIMIT:
            raise PolicyError(
                f"policies tell more than {PORTS_LIMIT} ranges of ports apart, which is what the kernel's tables hold; "
                f"use fewer ports, or ranges by endPort, {REMEDY}"
            )
        for length, protocol, port, half in content:
            key = PORT.pack(TABLE_BITS + length, table, protocol, port.to_bytes(2))
            self.ports.entries.append((key, HALF.pack(*half)))


@dataclass(frozen=True, slots=True)
class _Borders:
    """Where verdicts may change: the first of a range of ports, or of ICMP types."""

    ports: list[int]
    types: list[int]


def _borders(rules: Sequence[DirectionRule], named: frozenset[tuple[str, int]]) -> _Borders:
    ports = {0}
    types = {0, ICMP_TYPES}
    for rule in rules:
        for entry in rule.icmps or ():
            types |= {entry.type, entry.type + 1}
        for each in _ports(rule):
            if each.name:
                ports |= {border for name, port in named if name == each.name for border in (port, port + 1)}
            else:
                ports |= {each.low, each.high + 1}
    return _Borders(sorted(ports - {1 << PORT_BITS}), sorted(types))


def _ports(rule: DirectionRule) -> Iterator[Ports]:
    for port_rule in rule.ports or ():
        yield from port_rule.ports


def _entries(borders: _Borders, judge: Callable[[int, int, int | None], _HeldHalf]) -> Iterator[_Entry]:
    """A table of ports as prefixes: of every protocol, of one, of its ports; the longest that fits says it."""
    every = judge(_OTHER_PROTOCOL, 0, None)
    yield 0, 0, 0, every
    for protocol in (*_PORTED, *_ICMP):
        if protocol in _PORTED:
            judged = [(first, judge(protocol, first, None)) for first in borders.ports]
        else:
            judged = [(first, judge(protocol, 0, first if first < ICMP_TYPES else None)) for first in borders.types]
        ranges = [
            (first, last, half)
            for (first, half), last in zip(judged, [first - 1 for first, _ in judged[1:]] + [65535], strict=True)
        ]
        widths: Counter[_HeldHalf] = Counter()
        for first, last, half in ranges:
            widths[half] += last - first + 1
        ((usual, _),) = widths.most_common(1)
        if usual != every:
            yield PROTOCOL_BITS, int(protocol), 0, usual
        for first, last, half in ranges:
            if half != usual:
                for port, length in _prefixes(first, last):
                    yield PROTOCOL_BITS + length, int(protocol), port, half


def _prefixes(first: int, last: int) -> Iterator[tuple[int, int]]:
    """The fewest prefixes of 16 bits that make a range: (value, length)."""
    while first <= last:
        size = first & -first or 1 << PORT_BITS
        while first + size - 1 > last:
            size >>= 1
        yield first, PORT_BITS + 1 - size.bit_length()
        first += size
