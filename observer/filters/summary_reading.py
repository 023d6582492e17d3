"""The reading of summaries: the line of a packet by four columns, the line of a message once for all rows like it.

Lines are wire's own. Rows are grouped by the end of their records, which tells of the message, before any is composed;
a ring holds few different ones.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from observer.extra import Extra
from observer.filters.index import (
    TEXTS_KEPT,
    Bounds,
    Mask,
    Rows,
    flagged,
    one_of,
)
from observer.filters.l7 import HTTP_KINDS
from observer.filters.readings import Ask, Parts, Reading
from observer.record import RECORD, RECORD_SIZE, L7Kind, L7Type, Present, Protocol, Records
from observer.store import Columns
from observer.wire import summary as summaries
from observer.wire.layer7 import Layer7Encoder
from observer.wire.protobuf import keep


def _summary_rows(_: str, ask: Ask) -> Parts:
    layer7 = Layer7Encoder()
    lines: dict[tuple[int, int, int, int], bool] = {}

    def packet(key: tuple[int, int, int, int]) -> bool:
        protocol, flags, icmp_type, icmp_code = key
        if protocol == Protocol.TCP:
            text = summaries.tcp(flags) if flags >= 0 else ""
        else:
            text = summaries.transport(protocol, icmp_type, icmp_code)
        return bool(text) and bool(ask(text))

    def index(columns: Columns) -> Bounds:
        """Packets are told by four columns, of which few combinations come; messages are left to the judge."""
        plain = (columns["l7_kind"] == 0) & (columns["family"] != 0)
        protocol = columns["protocol"].astype(np.int64)
        told = flagged(columns["present"], Present.TCP_FLAGS) & (protocol == int(Protocol.TCP))
        flags = np.where(told, columns["tcp_flags"].astype(np.int64), -1)
        packed = ((protocol << 17 | flags + 1) << 8 | columns["icmp_type"]) << 8 | columns["icmp_code"]
        combinations, rows = np.unique(packed, return_inverse=True)
        answers = []
        for number in combinations.tolist():
            key = (number >> 33, (number >> 16 & 0x1FFFF) - 1, number >> 8 & 0xFF, number & 0xFF)
            answer = lines.get(key)
            if answer is None:
                answer = packet(key)
                keep(lines, key, answer, COMBINATIONS_KEPT)
            answers.append(answer)
        sure = plain & np.array(answers, np.bool_)[rows]
        return sure | (columns["l7_kind"] != 0), sure

    said: dict[tuple[object, ...], bool] = {}

    def judge(columns: Columns, rows: Rows) -> Mask:
        """Lines as wire composes them, once for all rows that say the same: the end of a record, and what goes in."""
        records, extras, _, whole = columns.store.take(columns.start + rows)
        present, kinds = records["present"], records["l7_kind"]
        timed = flagged(present, Present.LATENCY) & one_of(kinds, HTTP_KINDS)
        timed &= records["l7_type"] != int(L7Type.REQUEST)
        latency_ms = np.where(timed, records["latency_ns"] // 1_000_000, 0)
        ids = np.where(kinds == int(L7Kind.KAFKA), records["l7_id"], 0)
        firsts, places = _alike(records, present, latency_ms, ids, extras)
        raw = records[firsts].tobytes()
        answers = []
        for start, row, *numbers in zip(
            range(_MESSAGE, len(raw), RECORD_SIZE),
            firsts.tolist(),
            present[firsts].tolist(),
            latency_ms[firsts].tolist(),
            ids[firsts].tolist(),
            strict=True,
        ):
            end = raw[start : start + _END.size]
            extra = extras[row]
            more = None if extra is None else (extra.texts, extra.dns)
            key = (end, more, *numbers)
            answer = said.get(key)
            if answer is None:
                line = _line(layer7, end, extra, *numbers)
                answer = bool(line) and bool(ask(line))
                keep(said, key, answer, TEXTS_KEPT)
            answers.append(answer)
        mask = np.zeros(len(rows), np.bool_)
        mask[len(rows) - len(whole) :] = np.array(answers, np.bool_)[places]
        return mask

    return index, None, judge


COMBINATIONS_KEPT: Final = 1 << 12
"""Summaries of packets that a question remembers."""
_MESSAGE: Final = RECORD.fields["l7_code"][1]  # type: ignore[index]
"""Where the part of a record begins that tells of a message; it goes to the end."""
_END: Final = struct.Struct("<3H16s4s16x304s")
assert _MESSAGE + _END.size == RECORD_SIZE


def _alike(
    records: Records, present: Numbers, latency_ms: Numbers, ids: Numbers, extras: Sequence[Extra | None]
) -> tuple[Rows, Rows]:
    """The first of all rows that have the same line, and for each row which of them it is.

    Rows are alike if a sum over their words is, which is checked; those whose extra tells more are like no other.
    """
    words = records.view("u1").reshape(len(records), RECORD_SIZE)[:, RECORD_SIZE - 8 * len(_FACTORS) :].view("<u8")
    words = words & _MASK
    sums = words @ _FACTORS
    for number, factor in zip((present, latency_ms, ids), _MORE_FACTORS, strict=True):
        sums += number.astype(np.uint64) * factor
    lone = np.array([each is not None and (each.dns is not None or each.texts != ()) for each in extras], np.bool_)
    _, firsts, places = np.unique(sums, return_index=True, return_inverse=True)
    same = ~lone & ~lone[firsts[places]]
    same &= (words == words[firsts[places]]).all(axis=1)
    for number in (present, latency_ms, ids):
        same &= number == number[firsts[places]]
    others = np.flatnonzero(~same)
    places[others] = len(firsts) + np.arange(len(others))
    return np.concatenate([firsts, others]), places


Numbers: TypeAlias = np.ndarray[Any, np.dtype[Any]]
_WORDS: Final = -(-(RECORD_SIZE - _MESSAGE) // 8)
_MASK: Final = np.full(_WORDS, ~np.uint64(0))
_MASK[0] <<= np.uint64(8 * (8 * _WORDS - (RECORD_SIZE - _MESSAGE)))  # what stands before the message in its first word
_FACTORS: Final = np.array([secrets.randbits(64) | 1 for _ in range(_WORDS)], np.uint64)
_MORE_FACTORS: Final = [np.uint64(secrets.randbits(64) | 1) for _ in range(3)]
"""Nobody outside can choose rows whose sums are alike, which would only cost time."""


def _line(layer7: Layer7Encoder, end: bytes, extra: Extra | None, present: int, latency_ms: int, number: int) -> str:
    """The summary of a message from the end of its record."""
    code, version, method, tail, lengths, text = _END.unpack(end)
    told = None if extra is None else Extra(texts=extra.texts, dns=extra.dns)  # headers are not in it
    latency_ns = latency_ms * 1_000_000
    _, line, _ = layer7.encode(tail, present, code, version, method, number, latency_ns, lengths, text, told)
    return line.decode()


SUMMARY: Final = Reading(lambda flow, _: (flow.Summary,) if flow.Summary else (), _summary_rows)
