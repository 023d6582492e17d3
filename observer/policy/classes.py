"""Which addresses policies can tell apart: prefixes with their endpoint and class, as the kernel's ipcache holds them.

An ipcache and an engine enter; prefixes that cover every address leave, each with the number of its class. Two
addresses share a class where no rule answers differently for them: same selectors and entities, same CIDRs of rules,
same named ports. It knows no map layouts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from observer.errors import PolicyError
from observer.identity.endpoints import IPV4_START, MAPPED, IpCache
from observer.policy.bits import mask_of, set_bits
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
    named_ports: frozenset[tuple[str, int]]  # those whose names stand in rules


@dataclass(frozen=True, slots=True)
class ClassedPrefix:
    """A prefix whose addresses, but for those of longer prefixes, are of one class."""

    family: int
    network: int
    length: int
    owner: AddressClass


@dataclass(frozen=True, slots=True)
class Classified:
    """All addresses, by what policies know of them."""

    classes: tuple[AddressClass, ...]
    prefixes: tuple[ClassedPrefix, ...]
    _places: dict[int, int]
    _members: tuple[tuple[AddressClass, ...], ...]

    def members(self, peers: Peers) -> tuple[AddressClass, ...]:
        """The classes that are among the peers of a rule."""
        return self._members[self._places[id(peers)]]


@dataclass(frozen=True, slots=True)
class _Answers:
    """All that rules know of an end: two ends with the same answers are of one class."""

    managed: bool
    host: bool
    subjects: int  # the subjects that select it, as bits
    peers: int  # the peers that it is among
    named_ports: frozenset[tuple[str, int]]


@dataclass(slots=True)
class _Open:
    """A prefix that the sweep is in."""

    network: int
    length: int
    free: int  # the lowest address of it that no longer prefix covers, as far as seen
    endpoint: int
    answers: _Answers
    changed: list[tuple[int, int]]  # what it did to the count of CIDR rules that hold, by peers
    needed: bool = False  # a longer prefix was left out, since it says the same

    @property
    def last(self) -> int:
        return self.network | (1 << (128 - self.length)) - 1


class _Questions:
    """What rules ask of an end: everything that can tell two of them apart."""

    def __init__(self, engine: Engine, cache: IpCache) -> None:
        self._matcher = engine.matcher
        self._cache = cache
        self._known: dict[tuple[object, ...], _Answers] = {}
        self.places: dict[int, int] = {}  # of the peers of each rule, by their id
        subjects: dict[Selector, None] = {}
        peers: dict[Peers, int] = {}
        names: set[str] = set()
        for _, policy in engine.policies:
            for rule in policy.rules:
                subjects[rule.subject] = None
                for entry in (*rule.ingress, *rule.egress):
                    if entry.peers is not None:
                        self.places[id(entry.peers)] = peers.setdefault(entry.peers, len(peers))
                    names.update(port.name for port_rule in entry.ports or () for port in port_rule.ports)
        self._subjects = tuple(subjects)
        self._names = names - {""}
        self.peers = tuple(peers)

    def answers(self, number: int, family: int) -> _Answers:
        """What rules know of an endpoint, but for CIDRs; its family counts only where it is the world."""
        endpoint = self._cache.table[number]
        matcher = self._matcher
        seen_by_matcher = (
            endpoint.labels,
            endpoint.cluster if endpoint.managed else "",
            endpoint.managed,
            0 if endpoint.managed else endpoint.identity,
            endpoint.named_ports,
            family if matcher.outside(number) else 0,
        )
        known = self._known.get(seen_by_matcher)
        if known is None:
            known = self._known[seen_by_matcher] = _Answers(
                endpoint.managed,
                matcher.is_host(number),
                mask_of(matcher.selects(subject, number) for subject in self._subjects),
                mask_of(not peers.cidrs and matcher.is_peer(peers, number, family, bytes(16)) for peers in self.peers),
                frozenset(port for port in endpoint.named_ports if port[0] in self._names),
            )
        return known


def classify(engine: Engine, cache: IpCache) -> Classified:
    """Tell every address by its class; PolicyError where there would be too many of them."""
    questions = _Questions(engine, cache)
    classes: dict[_Answers, AddressClass] = {}
    prefixes: list[ClassedPrefix] = []
    for family in (4, 6):
        prefixes += _Sweep(engine, cache, questions, family, classes).prefixes()
        if len(prefixes) > PREFIXES_LIMIT:
            raise PolicyError(
                f"identities and policies name more than {PREFIXES_LIMIT} prefixes, which is what the kernel's tables "
                "hold; join some into shorter ones, or use --datapath user"
            )
    members: list[list[AddressClass]] = [[] for _ in questions.peers]
    for answers, owner in classes.items():
        for place in set_bits(answers.peers):
            members[place].append(owner)
    return Classified(tuple(classes.values()), tuple(prefixes), questions.places, tuple(map(tuple, members)))


class _Sweep:
    """One pass over the prefixes of a family in the order of addresses, the shorter before what it covers."""

    def __init__(
        self,
        engine: Engine,
        cache: IpCache,
        questions: _Questions,
        family: int,
        classes: dict[_Answers, AddressClass],
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
        for index, peers in enumerate(questions.peers):
            for rule in dict.fromkeys(peers.cidrs):
                if rule.cidr.family != family:
                    continue
                self.starts[_prefix(rule.cidr.network, rule.cidr.length)].append((index, rule))
                for part in dict.fromkeys((part.network, part.length) for part in rule.excepted):
                    self.stops[_prefix(*part)].append((index, rule))
        self.holding: set[tuple[int, int]] = set()  # CIDR rules that hold here, by index of their peers and id
        self.counts = [0] * len(questions.peers)
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
            self._turn(changed, index, id(rule), on=True)
        for index, rule in self.stops.get(prefix, ()):
            self._turn(changed, index, id(rule), on=False)
        number = self.claims.get(prefix, parent.endpoint if parent is not None else self.cache.world(self.family))
        answers = self.questions.answers(number, self.family)
        if self.mask and self.engine.matcher.outside(number):
            answers = replace(answers, peers=answers.peers | self.mask)
        return _Open(network, length, network, number, answers, changed)

    def _turn(self, changed: list[tuple[int, int]], index: int, rule: int, *, on: bool) -> None:
        """Let a CIDR rule of some peers begin or end; one that is excepted already does not end twice."""
        if on != ((index, rule) in self.holding):
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
        if parent is not None and parent.answers == node.answers:
            parent.needed = True
        else:
            yield ClassedPrefix(self.family, node.network, node.length, owner)

    def _class(self, node: _Open) -> AddressClass:
        found = self.classes.get(node.answers)
        if found is None:
            if len(self.classes) >= CLASSES_LIMIT:
                raise PolicyError(
                    f"policies tell more than {CLASSES_LIMIT} kinds of addresses apart, which is what the kernel's "
                    "tables hold; let them select by fewer labels and CIDRs, or use --datapath user"
                )
            found = self.classes[node.answers] = AddressClass(
                len(self.classes) + 1,
                node.endpoint,
                self.family,
                node.free.to_bytes(16),
                node.answers.managed,
                node.answers.host,
                node.answers.named_ports,
            )
        return found


def _prefix(network: int, length: int) -> _Prefix:
    return network >> (128 - length) << (128 - length), length
