"""The kernel's Kafka programs: what bpf/kafka_walk.h reads messages by, from the table that the Python parser reads by.

The steps of every (API key, version) request and response (observer/l7/kafka_program.py) enter; the contents of two
array maps leave: `kafka_programs` says where the steps of a message stand in `kafka_steps`. A message that is told by
its header has none. It refuses to know how maps are loaded, and what the steps do.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from observer.l7.kafka_program import Code, Program, Step, request_program, response_program
from observer.l7.kafka_schema import APIS, Api

KEYS: Final = 128
VERSIONS: Final = 32
DIRECTIONS: Final = 2
PROGRAMS: Final = KEYS * VERSIONS * DIRECTIONS
"""Entries of `kafka_programs`: by API key, version, and 0 for a request or 1 for its response."""

STEPS: Final = 4_096
"""Entries of `kafka_steps`."""

DEPTH: Final = 4
"""Arrays of structs in one another that the kernel counts."""

IS_API: Final = 1 << 0
IS_TOLD: Final = 1 << 1
IS_FLEXIBLE: Final = 1 << 2
IS_LEARNED_FROM: Final = 1 << 3
"""Flags of a program: the API key is known; so is the version's layout; lengths are varints; topic ids are told."""

IS_PAIRED: Final = 1 << 0
IS_FINAL: Final = 1 << 1
AFTER_TOPIC: Final = 1 << 2
IS_FOLLOWED: Final = 1 << 3
"""Flags of a step: as in kafka_program.Step; a topic stands before it; the step behind it is paired with it."""

_PROGRAM: Final = struct.Struct("=HHB3x")  # struct kafka_program: start, length, flags
_STEP: Final = struct.Struct("=BBHHH")  # struct kafka_step: code, flags, size, target, skip

_FUSED: Final = frozenset(Code) - {Code.SKIP}


def tables() -> tuple[bytes, bytes]:
    """The values of `kafka_programs` and of `kafka_steps`, in the order of their keys, to the last entry."""
    programs = bytearray(PROGRAMS * _PROGRAM.size)
    steps = bytearray()
    known: dict[tuple[bytes, ...], int] = {}  # many versions have one layout
    for api in APIS.values():
        assert (api.key < KEYS, api.last < VERSIONS) == (True, True), api.name
        for version in range(VERSIONS):
            for response in (False, True):
                told = api.first <= version <= api.last
                program = _program(api, version, response=response) if told else None
                rows = tuple(_rows(program.steps)) if program is not None else ()
                if rows not in known:
                    known[rows] = len(steps) // _STEP.size
                    steps += b"".join(rows)
                place = program_key(api.key, version, response=response) * _PROGRAM.size
                _PROGRAM.pack_into(programs, place, known[rows], len(rows), _flags(program))
    assert len(steps) <= STEPS * _STEP.size, "kafka_steps is too small"
    return bytes(programs), bytes(steps.ljust(STEPS * _STEP.size, b"\0"))


def program_key(key: int, version: int, *, response: bool) -> int:
    """Where in `kafka_programs` the program of a message stands."""
    return (key * VERSIONS + version) * DIRECTIONS + response


def _program(api: Api, version: int, *, response: bool) -> Program:
    return response_program(api, version) if response else request_program(api, version)


def _flags(program: Program | None) -> int:
    if program is None:
        return IS_API
    return IS_API | IS_TOLD | program.flexible * IS_FLEXIBLE | program.learns * IS_LEARNED_FROM


def _rows(steps: Sequence[Step]) -> Iterator[bytes]:
    """The steps as the kernel has them: what is skipped before a step is part of it, unless a jump passes it by."""
    assert _depth(steps) <= DEPTH
    targets = {step.target for step in steps if step.target}
    fused = {
        index
        for index, step in enumerate(steps[:-1])
        if step.code is Code.SKIP and steps[index + 1].code in _FUSED and index + 1 not in targets
    }
    moved = [index - sum(1 for each in fused if each < index) for index in range(len(steps) + 1)]
    for index, step in enumerate(steps):
        if index in fused:
            continue
        skip = step.size if step.code is Code.SKIP else steps[index - 1].size if index - 1 in fused else 0
        size = 0 if step.code is Code.SKIP else step.size
        flags = (
            step.paired * IS_PAIRED
            | step.final * IS_FINAL
            | (index > 0 and steps[index - 1].code is Code.TOPIC) * AFTER_TOPIC
            | (index + 1 < len(steps) and steps[index + 1].paired) * IS_FOLLOWED
        )
        yield _STEP.pack(step.code, flags, size, moved[step.target], skip)


def _depth(steps: Sequence[Step]) -> int:
    depth = deepest = 0
    for step in steps:
        depth += (step.code is Code.LOOP) - (step.code is Code.NEXT)
        deepest = max(deepest, depth)
    return deepest
