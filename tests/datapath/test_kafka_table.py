"""The kernel's Kafka programs, read back: the steps of every message of the table, and the numbers that the C has."""

import re
import struct
from pathlib import Path

import pytest

from observer.datapath import kafka_table
from observer.datapath.kafka_table import (
    AFTER_TOPIC,
    IS_API,
    IS_FINAL,
    IS_FLEXIBLE,
    IS_FOLLOWED,
    IS_LEARNED_FROM,
    IS_PAIRED,
    IS_TOLD,
    KEYS,
    VERSIONS,
    program_key,
    tables,
)
from observer.l7 import kafka_header, kafka_walk
from observer.l7.kafka_program import Code, Program, Step, request_program, response_program
from observer.l7.kafka_schema import APIS

BPF = Path(__file__).parents[2] / "bpf"
HEADERS = "".join((BPF / name).read_text() for name in ("kafka.h", "kafka_walk.h", "maps.h"))


def read_back(start: int, length: int, steps: bytes) -> list[Step]:
    """The steps of a program with what is skipped before them as steps of its own."""
    rows = [struct.unpack_from("=BBHHH", steps, (start + index) * 8) for index in range(length)]
    places = [0]  # of each row among the steps given, where its skip begins
    for code, _, _, _, skip in rows:
        places.append(places[-1] + (code != Code.SKIP and skip > 0) + 1)
    out = []
    for code, flags, size, target, skip in rows:
        if skip and code != Code.SKIP:
            out.append(Step(Code.SKIP, skip))
        size = skip if code == Code.SKIP else size
        out.append(
            Step(Code(code), size, places[target] if target else 0, bool(flags & IS_PAIRED), bool(flags & IS_FINAL))
        )
    return out


@pytest.mark.parametrize("response", [False, True])
def test_every_program_says_what_the_parser_reads_by(response):
    programs, steps = tables()
    for api in APIS.values():
        for version in range(api.first, api.last + 1):
            program: Program = (response_program if response else request_program)(api, version)
            key = program_key(api.key, version, response=response)
            start, length, flags = struct.unpack_from("=HHB", programs, key * 8)
            assert tuple(read_back(start, length, steps)) == program.steps, (api.name, version)
            assert flags == (IS_API | IS_TOLD | IS_FLEXIBLE * program.flexible | IS_LEARNED_FROM * program.learns), (
                api.name,
                version,
            )


def test_neighbours_of_steps_are_told():
    programs, steps = tables()
    start, _, _ = struct.unpack_from("=HHB", programs, program_key(3, 12, response=False) * 8)
    flags = {row[0]: row[1] for row in (struct.unpack_from("=BB6x", steps, (start + index) * 8) for index in range(4))}
    assert flags[Code.ID] == IS_FOLLOWED
    assert flags[Code.TOPIC] & IS_PAIRED
    start, length, _ = struct.unpack_from("=HHB", programs, program_key(3, 12, response=True) * 8)
    rows = [struct.unpack_from("=BB6x", steps, (start + index) * 8) for index in range(length)]
    assert [flags & ~IS_FINAL for code, flags in rows if code in (Code.TOPIC, Code.ID)] == [
        IS_FOLLOWED,
        AFTER_TOPIC | IS_PAIRED,
    ]


@pytest.mark.parametrize(("key", "version", "flags"), [(0, 14, IS_API), (17, 2, IS_API), (93, 0, 0), (127, 31, 0)])
def test_what_the_table_does_not_tell(key, version, flags):
    programs, _ = tables()
    for response in (False, True):
        assert struct.unpack_from("=HHB", programs, program_key(key, version, response=response) * 8)[1:] == (0, flags)


def test_the_tables_fill_their_maps():
    programs, steps = tables()
    assert (len(programs), len(steps)) == (8 * KEYS * VERSIONS * 2, 8 * kafka_table.STEPS)
    assert steps[-8:] == bytes(8)


def test_a_jump_past_a_skip_keeps_it_a_step_of_its_own():
    steps = (
        Step(Code.OPTIONAL, 0, 2),
        Step(Code.SKIP, 4),
        Step(Code.STRING),
        Step(Code.SKIP, 7),
        Step(Code.TOPIC, final=True),
        Step(Code.SKIP, 9),
    )
    rows = b"".join(kafka_table._rows(steps))
    assert len(rows) == 5 * 8
    assert tuple(read_back(0, 5, rows)) == steps


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA_PROGRAMS", kafka_table.PROGRAMS),
        ("KAFKA_STEPS", kafka_table.STEPS),
        ("KAFKA_DEPTH", kafka_table.DEPTH),
        ("KAFKA_NAME_LIMIT", kafka_walk.NAME_LIMIT),
        ("KAFKA_TOPICS_LIMIT", kafka_walk.TOPICS_LIMIT),
        ("KAFKA_STEPS_LIMIT", kafka_walk.STEPS_LIMIT),
        ("KAFKA_SIZE_LIMIT", kafka_header.SIZE_LIMIT),
        ("KAFKA_CLIENT_ID_LIMIT", kafka_header.CLIENT_ID_LIMIT),
        ("KAFKA_PROOF_LIMIT", kafka_header.PROOF_LIMIT),
    ],
)
def test_the_bounds_are_those_of_the_header_files(name, value):
    (written,) = re.findall(rf"#define {name} (\d+|\([0-9 *<]+\))", HEADERS)
    assert eval(written) == value  # numbers and operators only


def test_the_codes_and_flags_are_those_of_the_header_files():
    (codes,) = re.findall(r"enum kafka_code \{(.*?)\}", HEADERS, re.DOTALL)
    names = re.findall(r"KAFKA_(\w+)", codes)
    assert {name: number for number, name in enumerate(names, 1)} == {code.name: code.value for code in Code}
    written = dict(re.findall(r"KAFKA_(\w+) = 1 << (\d)[,} ]", HEADERS))
    for name in ("IS_API", "IS_TOLD", "IS_FLEXIBLE", "IS_LEARNED_FROM", "IS_PAIRED", "IS_FINAL", "AFTER_TOPIC"):
        assert 1 << int(written[name]) == getattr(kafka_table, name)
    assert 1 << int(written["IS_FOLLOWED"]) == IS_FOLLOWED
