"""Which addresses policies can tell apart: prefixes with their endpoint and class, as the kernel's ipcache holds them.

An ipcache and an engine enter; prefixes that cover every address leave, each with the number of its class. Two
addresses share a class where no rule answers differently for them: same selectors and entities, same CIDRs of rules,
same named ports. It knows no map layouts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from observer.errors import PolicyError
from observer.identity.endpoints import IPV4_START, MAPPED, IpCache
from observer.policy.engine import Engine
from observer.policy.model import CidrRule, Peers
from observer.policy.selector import Selector

PREFIXES_LIMIT: Final = 262_144
"""Prefixes of identities and of CIDR rules together, both families."""

CLASSES_LIMIT: Final = 16_384
"""Classes of addresses."""

_V4_ROOT: Final = int.from_bytes(MAPPED + bytes(4)), IPV4_START
_V6_ROOT: Final = 0, 0

_Prefix: TypeAlias = tuple[int, int]  # network as a number of 128 bits, length


@dataclass(slots=True)
class AddressClass:
    """Addresses that policies cannot tell apart, by an example of them."""

    number: int  # of the class, from 1
    endpoint: int  # the example's
    family: int
    address: bytes
    managed: bool
    host: bool


@dataclass(frozen=True, slots=True)
class ClassedPrefix:
    """A prefix whose addresses, but for those of longer prefixes, are of one endpoint and one class."""

    family: int
    network: int
    length: int
    endpoint: int
    owner: AddressClass


@dataclass(slots=True)
class _Open:
    """A prefix that the sweep is in."""

    network: int
    length: int
    free: int  # the lowest address of it that no longer prefix covers, as far as seen
    endpoint: int
    key: tuple[object, ...]
    changed: list[tuple[int, int]]  # what it did to the count of CIDR rules that hold, by peers
    needed: bool = False  # a longer prefix was left out, since it says the same

    @property
    def last(self) -> int:
        return self.network | (1 << (128 - self.length)) - 1


@dataclass(slots=True)
class _Questions:
    """What rules ask of an end: everything that can tell two endpoints apart."""

    subjects: tuple[Selector, ...]
    peers: tuple[Peers, ...]  # those without CIDRs
    by_cidr: tuple[Peers, ...]
    names: frozenset[str]  # of named ports
    _answers: dict[tuple[object, ...], tuple[object, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, engine: Engine) -> _Questions:
        subjects: dict[Selector, None] = {}
        peers: dict[Peers, None] = {}
        names: set[str] = set()
        for _, policy in engine.policies:
            for rule in policy.rules:
                subjects[rule.subject] = None
                for entry in (*rule.ingress, *rule.egress):
                    if entry.peers is not None:
                        peers[entry.peers] = None
                    names.update(port.name for port_rule in entry.ports or () for port in port_rule.ports if port.name)
        return cls(
            tuple(subjects),
            tuple(entry for entry in peers if not entry.cidrs),
            tuple(entry for entry in peers if entry.cidrs),
            frozenset(names),
        )

    def answers(self, engine: Engine, cache: IpCache, number: int, family: int) -> tuple[object, ...]:
        """All that rules know of an endpoint; its family counts only where it is the world."""
        endpoint = cache.table[number]
        matcher = engine.matcher
        seen_by_matcher = (
            endpoint.labels,
            endpoint.cluster if endpoint.managed else "",
            endpoint.managed,
            0 if endpoint.managed else endpoint.identity,
            endpoint.named_ports,
            family if matcher.outside(number) else 0,
        )
        known = self._answers.get(seen_by_matcher)
        if known is None:
            known = self._answers[seen_by_matcher] = (
                endpoint.managed,
                matcher.is_host(number),
                matcher.outside(number),
                _mask(matcher.selects(subject, number) for subject in self.subjects),
                _mask(matcher.is_peer(peers, number, family, bytes(16)) for peers in self.peers),
                frozenset(port for port in endpoint.named_ports if port[0] in self.names),
            )
        return known


def classify(engine: Engine, cache: IpCache) -> tuple[list[AddressClass], list[ClassedPrefix]]:
    """The classes of all addresses, and the prefixes that tell them."""
    questions = _Questions.of(engine)
    classes: dict[tuple[object, ...], AddressClass] = {}
    found: list[ClassedPrefix] = []
    for family in (4, 6):
        found += _Sweep(engine, cache, questions, family, classes).prefixes()
        if len(found) > PREFIXES_LIMIT:
            raise PolicyError(
                f"identities and policies name more than {PREFIXES_LIMIT} prefixes, which is what the kernel's tables "
                "hold; join some into shorter ones, or use --datapath user"
            )
    return list(classes.values()), found


class _Sweep:
    """One pass over the prefixes of a family in the order of addresses, the shorter before what it covers."""

    def __init__(
        self,
        engine: Engine,
        cache: IpCache,
        questions: _Questions,
        family: int,
        classes: dict[tuple[object, ...], AddressClass],
    ) -> None:
        self.engine = engine
        self.cache = cache
        self.questions = questions
        self.family = family
        self.classes = classes
        self.root = _V4_ROOT if family == 4 else _V6_ROOT
        self.claims = {
            (network, length): number
            for network, length, number in cache.prefixes()
            if self._in_family(network, length)
        }
        self.starts: dict[_Prefix, list[tuple[int, CidrRule]]] = defaultdict(list)
        self.stops: dict[_Prefix, list[tuple[int, CidrRule]]] = defaultdict(list)
        for index, peers in enumerate(questions.by_cidr):
            for rule in dict.fromkeys(peers.cidrs):
                if rule.cidr.family != family:
                    continue
                self.starts[_prefix(rule.cidr.network, rule.cidr.length)].append((index, rule))
                for part in dict.fromkeys((part.network, part.length) for part in rule.excepted):
                    self.stops[_prefix(*part)].append((index, rule))
        self.holding: set[tuple[int, int]] = set()  # CIDR rules that hold here, by index of their peers and id
        self.counts = [0] * len(questions.by_cidr)
        self.mask = 0  # of the peers of which some CIDR rule holds

    def _in_family(self, network: int, length: int) -> bool:
        """Whether packets of the family can have such an address; those of IPv6 can have mapped ones too."""
        return self.family == 6 or (length >= IPV4_START and network >> 32 == _V4_ROOT[0] >> 32)

    def prefixes(self) -> Iterator[ClassedPrefix]:
        """Every prefix that has something of its own to say."""
        opened: list[_Open] = []
        nodes = {self.root, *self.claims, *self.starts, *self.stops}
        for network, length in sorted(nodes):
            while opened and network > opened[-1].last:
                yield from self._close(opened)
            opened.append(self._enter(network, length, opened[-1] if opened else None))
        while opened:
            yield from self._close(opened)

    def _enter(self, network: int, length: int, parent: _Open | None) -> _Open:
        prefix = network, length
        changed: list[tuple[int, int]] = []
        for index, rule in self.starts.get(prefix, ()):
            self._count(changed, index, id(rule), 1)
        for index, rule in self.stops.get(prefix, ()):
            self._count(changed, index, id(rule), -1)
        number = self.claims.get(prefix, parent.endpoint if parent is not None else self.cache.world(self.family))
        answers = self.questions.answers(self.engine, self.cache, number, self.family)
        mask = self.mask if self.engine.matcher.outside(number) else 0
        return _Open(network, length, network, number, (*answers, mask), changed)

    def _count(self, changed: list[tuple[int, int]], index: int, rule: int, by: int) -> None:
        """Let a CIDR rule of some peers begin or end; one that is excepted already does not end twice."""
        if (by > 0) == ((index, rule) in self.holding):
            return
        changed.append((index, rule))
        self._flip(index, rule)

    def _flip(self, index: int, rule: int) -> None:
        if (index, rule) in self.holding:
            self.holding.remove((index, rule))
            self.counts[index] -= 1
            if not self.counts[index]:
                self.mask &= ~(1 << index)
        else:
            self.holding.add((index, rule))
            self.counts[index] += 1
            self.mask |= 1 << index

    def _close(self, opened: list[_Open]) -> Iterator[ClassedPrefix]:
        node = opened.pop()
        for index, rule in reversed(node.changed):
            self._flip(index, rule)
        parent = opened[-1] if opened else None
        covered = node.free > node.last
        if parent is not None and parent.free == node.network:
            parent.free = node.last + 1
        if covered and not node.needed:
            return
        owner = self._class(node)
        if parent is not None and (parent.endpoint, parent.key) == (node.endpoint, node.key):
            parent.needed = True
        else:
            yield ClassedPrefix(self.family, node.network, node.length, node.endpoint, owner)

    def _class(self, node: _Open) -> AddressClass:
        found = self.classes.get(node.key)
        if found is None:
            if len(self.classes) >= CLASSES_LIMIT:
                raise PolicyError(
                    f"policies tell more than {CLASSES_LIMIT} kinds of addresses apart, which is what the kernel's "
                    "tables hold; let them select by fewer labels and CIDRs, or use --datapath user"
                )
            matcher = self.engine.matcher
            found = self.classes[node.key] = AddressClass(
                len(self.classes) + 1,
                node.endpoint,
                self.family,
                node.free.to_bytes(16),
                matcher.managed(node.endpoint),
                matcher.is_host(node.endpoint),
            )
        return found


def _prefix(network: int, length: int) -> _Prefix:
    return network >> (128 - length) << (128 - length), length


def _mask(bits: Iterator[bool]) -> int:
    return sum(1 << index for index, bit in enumerate(bits) if bit)
