"""Flat programs for Kafka messages: the steps that read one version of one request or response.

In: the table's field programs (kafka_schema.py) and a version. Out: steps with jumps in place of nesting, adjacent
skips made one, and marked where nothing more is read. It refuses to know bytes; kafka_walk.py takes the steps.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from observer.l7.kafka_schema import API_VERSIONS, Api, Kind, Op, program

PROGRAMS: Final = 1_024
"""Programs kept; there are fewer (key, version) pairs."""

ID_SIZE: Final = 16


class Code(enum.IntEnum):
    """What one step does."""

    SKIP = enum.auto()  # `size` octets
    STRING = enum.auto()
    BYTES = enum.auto()
    LIST = enum.auto()  # elements of `size` octets
    LOOP = enum.auto()  # elements of `size` octets or more; to `target` where there is none
    NEXT = enum.auto()  # back to `target` while the loop has elements
    OPTIONAL = enum.auto()  # to `target` where it is null
    TAGS = enum.auto()
    TOPIC = enum.auto()
    ID = enum.auto()
    ACKS = enum.auto()
    ERROR = enum.auto()
    RESOURCE_KIND = enum.auto()
    RESOURCE = enum.auto()


@dataclass(slots=True)  # no NamedTuple: that looks its fields up in the class at every reading
class Step:
    """One instruction of a flat program."""

    code: Code
    size: int = 0
    target: int = 0
    paired: bool = False  # a topic's name and id side by side: either may be missing
    final: bool = False  # nothing that is read comes after it, but in further rounds of its loops


@dataclass(slots=True)
class Program:
    """The steps of one message version."""

    steps: tuple[Step, ...]
    flexible: bool
    answers: bool = False  # of a response: names of topics matter only with their ids
    learns: bool = False  # has topic ids


NOTHING: Final = Program((), False)
"""Of a message that is told by its header."""


_PLAIN: Final = {
    Kind.STRING: Code.STRING,
    Kind.BYTES: Code.BYTES,
    Kind.TOPIC: Code.TOPIC,
    Kind.ID: Code.ID,
    Kind.ACKS: Code.ACKS,
    Kind.ERROR: Code.ERROR,
    Kind.RESOURCE_KIND: Code.RESOURCE_KIND,
    Kind.RESOURCE: Code.RESOURCE,
}
_READ: Final = frozenset((Code.TOPIC, Code.ID, Code.ACKS, Code.ERROR, Code.RESOURCE))
_FIXED: Final = {Code.OPTIONAL: 1, Code.TAGS: 1, Code.ID: ID_SIZE, Code.ACKS: 2, Code.ERROR: 2, Code.RESOURCE_KIND: 1}


@lru_cache(PROGRAMS)
def request_program(api: Api, version: int) -> Program:
    """What reads a request behind its client id; no steps where nothing is read."""
    return _flat(api, api.request, version, tagged=True)


@lru_cache(PROGRAMS)
def response_program(api: Api, version: int) -> Program:
    """What reads a response behind its correlation id."""
    # Its header never has tagged fields, so that clients of every version can read it (KIP-511).
    return replace(_flat(api, api.response, version, tagged=api.key != API_VERSIONS), answers=True)


def _flat(api: Api, words: str, version: int, tagged: bool) -> Program:
    flexible = api.flexible is not None and version >= api.flexible
    steps: list[Step] = []
    _tags(flexible and tagged, steps)
    _lay(program(words), version, flexible, steps)
    read = [index for index, step in enumerate(steps) if step.code in _READ]
    if not read:
        return Program((), flexible)
    steps[read[-1]].final = True
    return Program(tuple(steps), flexible, learns=any(step.code is Code.ID for step in steps))


def _lay(ops: Sequence[Op], version: int, flexible: bool, steps: list[Step]) -> int:
    """Append the steps of some fields; give the least octets that they take."""
    least = 0
    before: Kind | None = None
    for op in ops:
        if not op.first <= version <= op.last:
            continue
        kind, start = op.kind, len(steps)
        if kind is Kind.SKIP:
            size = op.size
            if before is Kind.SKIP:
                size += steps.pop().size
            steps.append(Step(Code.SKIP, size))
            least += op.size
        elif kind is Kind.LIST:
            steps.append(Step(Code.LIST, op.size))
            least += 1
        elif kind in (Kind.ARRAY, Kind.STRINGS, Kind.TOPICS):
            steps.append(Step(Code.LOOP))
            if kind is Kind.ARRAY:
                size = _lay(op.body, version, flexible, steps) + _tags(flexible, steps)
            else:
                steps.append(Step(Code.STRING if kind is Kind.STRINGS else Code.TOPIC))
                size = 1
            steps.append(Step(Code.NEXT, 0, start + 1))
            steps[start] = Step(Code.LOOP, size, len(steps))
            if [step.code for step in steps[start + 1 :]] == [Code.SKIP, Code.NEXT]:
                steps[start:] = [Step(Code.LIST, size)]
            least += 1
        elif kind is Kind.STRUCT:
            least += _lay(op.body, version, flexible, steps) + _tags(flexible, steps)
        elif kind is Kind.OPTIONAL:
            steps.append(Step(Code.OPTIONAL))
            _lay(op.body, version, flexible, steps)
            _tags(flexible, steps)
            steps[start] = Step(Code.OPTIONAL, 0, len(steps))
            least += 1
        else:
            code = _PLAIN[kind]
            steps.append(Step(code, paired={kind, before} == {Kind.TOPIC, Kind.ID}))
            least += _FIXED.get(code, 1)
        before = kind
    return least


def _tags(flexible: bool, steps: list[Step]) -> int:
    if flexible:
        steps.append(Step(Code.TAGS))
    return int(flexible)
