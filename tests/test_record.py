"""The record: one layout for two writers, Hubble's enum values, and strings laid one after the other."""

import re
from pathlib import Path

import numpy as np
import pytest

from observer import record
from observer.api import flow_pb2

HEADER = Path(__file__).parent.parent / "bpf" / "record.h"
C_TYPES = {"__u8": 1, "__u16": 2, "__u32": 4, "__u64": 8, "char": 1}


def c_struct_layout(text: str) -> tuple[dict[str, tuple[int, int]], int]:
    """Lay out `struct flow_record` by the C rules (natural alignment): name -> (offset, size), and the whole size."""
    defines = dict(re.findall(r"#define (\w+) (\d+)", text))
    body = re.search(r"struct flow_record \{(.*?)\n\};", text, re.S)
    assert body is not None
    fields = {}
    offset = 0
    for c_type, name, _, count in re.findall(r"(\w+) (\w+)(\[(\w+)\])?;", body[1]):
        width = C_TYPES[c_type]
        assert offset % width == 0, f"the compiler would pad before {name}"
        size = width * int(defines.get(count, count) or 1)
        fields[name] = (offset, size)
        offset += size
    return fields, offset + -offset % 8


def test_the_c_struct_and_the_dtype_have_the_same_layout():
    fields, size = c_struct_layout(HEADER.read_text())
    numpy_fields = record.RECORD.fields
    assert numpy_fields is not None
    assert {name: (offset, dtype.itemsize) for name, (dtype, offset, *_) in numpy_fields.items()} == fields
    assert list(fields) == list(record.RECORD.names or ())
    assert size == record.RECORD_SIZE == 504


def test_pack_writes_what_the_dtype_reads():
    values = [*range(1, 7), *range(11, 25), b"S" * 16, b"D" * 16, b"s" * 6, b"d" * 6, *range(31, 39), *range(41, 57)]
    packed = record.PACK.pack(*values, 1, 2, 3, 4, b"curl", b"text")
    row = np.frombuffer(packed, record.RECORD)[0]
    flat = [row[name] for name in record.RECORD.names or ()]
    assert [int(value) for value in flat[:20]] == values[:20]
    assert [value.tobytes() for value in flat[20:24]] == values[20:24]
    assert [int(value) for value in flat[24:48]] == values[24:48]
    assert flat[48].tolist() == [1, 2, 3, 4]
    assert flat[49] == b"curl"


@pytest.mark.parametrize(
    ("ours", "prefix", "hubbles"),
    [
        (record.FlowType, "", flow_pb2.FlowType),
        (record.Verdict, "", flow_pb2.Verdict),
        (record.L7Type, "", flow_pb2.L7FlowType),
        (record.TraceReason, "", flow_pb2.TraceReason),
        (record.Direction, "", flow_pb2.TrafficDirection),
    ],
)
def test_enums_have_hubbles_values(ours, prefix, hubbles):
    theirs = dict(hubbles.items())
    for member in ours:
        if member.value:
            assert theirs[prefix + member.name] == member.value


def test_policy_denied_is_hubbles():
    assert flow_pb2.DropReason.POLICY_DENIED == record.POLICY_DENIED


@pytest.mark.parametrize(
    ("texts", "cut"),
    [
        ((), False),
        ((b"/a", b"host"), False),
        ((b"", b"host", b"PROPFIND"), False),
        ((b"x" * 255, b"y" * 49), False),
        ((b"x" * 256,), True),
        ((b"x" * 255, b"y" * 50), True),
        ((b"x" * 255, b"y" * 60, b"z"), True),
    ],
)
def test_texts_survive_or_say_that_they_were_cut(texts, cut):
    lengths, text, was_cut = record.pack_text(texts)
    assert was_cut is cut
    row = record.empty(1)
    row["text_length"][0] = lengths
    row["text"][0, : len(text)] = np.frombuffer(text, np.uint8)
    back = record.unpack_text(row[0])
    if cut:
        assert all(whole.startswith(part) for whole, part in zip(texts, back, strict=False))
    else:
        assert back == texts + (b"",) * (4 - len(texts))
