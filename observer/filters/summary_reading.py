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
from observer.record import RECORD, RECORD_SIZE, TEXT_SIZE, L7Kind, L7Type, Present, Protocol, Records
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
        message = columns["l7_kind"] != 0
        plain = np.flatnonzero(~message & (columns["family"] != 0))
        sure = np.zeros(columns.length, np.bool_)
        if not len(plain):
            return message, sure
        protocol = columns["protocol"][plain].astype(np.int64)
        told = flagged(columns["present"][plain], Present.TCP_FLAGS) & (protocol == int(Protocol.TCP))
        flags = np.where(told, columns["tcp_flags"][plain].astype(np.int64), -1)
        kinds = columns["icmp_type"][plain].astype(np.int64) << 8 | columns["icmp_code"][plain]
        combinations, rows = np.unique((protocol << 17 | flags + 1) << 16 | kinds, return_inverse=True)
        answers = []
        for number in combinations.tolist():
            key = (number >> 33, (number >> 16 & 0x1FFFF) - 1, number >> 8 & 0xFF, number & 0xFF)
            answer = lines.get(key)
            if answer is None:
                answer = packet(key)
                keep(lines, key, answer, COMBINATIONS_KEPT)
            answers.append(answer)
        sure[plain] = np.array(answers, np.bool_)[rows]
        return sure | message, sure

    said = _Said()
    known: dict[tuple[object, ...], bool] = {}

    def compose(end: bytes, extra: Extra | None, numbers: tuple[int, int, int]) -> bool:
        line = _line(layer7, end, extra, *numbers)
        return bool(line) and bool(ask(line))

    def compose_lone(end: bytes, extra: Extra, numbers: tuple[int, int, int]) -> bool:
        """Asked once for all rows that say the same, what their extras say included."""
        key = (end, extra.texts, extra.dns, *numbers)
        answer = known.get(key)
        if answer is None:
            answer = compose(end, extra, numbers)
            keep(known, key, answer, TEXTS_KEPT)
        return answer

    def judge(columns: Columns, rows: Rows) -> Mask:
        """Lines as wire composes them, once for all rows that say the same: the end of a record, and what goes in."""
        records, extras, _, whole = columns.store.take(columns.start + rows)
        present, kinds = records["present"], records["l7_kind"]
        timed = flagged(present, Present.LATENCY) & one_of(kinds, HTTP_KINDS)
        timed &= records["l7_type"] != int(L7Type.REQUEST)
        latency_ms = np.where(timed, records["latency_ns"] // 1_000_000, 0)
        ids = np.where(kinds == int(L7Kind.KAFKA), records["l7_id"], 0)
        numbers = (present, latency_ms, ids)
        lone = np.array([each is not None and (each.dns is not None or each.texts != ()) for each in extras], np.bool_)
        words = said.words(records, numbers)
        sums = words @ _FACTORS[: words.shape[1]]
        firsts, places = _alike(words, sums, lone)
        answers, asked = said.find(words[firsts], sums[firsts], lone[firsts])
        for place, row, *own in zip(
            asked.tolist(), firsts[asked].tolist(), *(each[firsts[asked]].tolist() for each in numbers), strict=True
        ):
            end, extra = records[row].tobytes()[_MESSAGE:], extras[row]
            told = (own[0], own[1], own[2])
            answers[place] = (
                compose_lone(end, extra, told) if extra is not None and lone[row] else compose(end, extra, told)
            )
        new = asked[~lone[firsts[asked]]]
        said.keep(words[firsts[new]], sums[firsts[new]], answers[new])
        mask = np.zeros(len(rows), np.bool_)
        mask[len(rows) - len(whole) :] = answers[places]
        return mask

    return index, None, judge


COMBINATIONS_KEPT: Final = 1 << 12
"""Summaries of packets that a question remembers."""
_MESSAGE: Final = RECORD.fields["l7_code"][1]  # type: ignore[index]
"""Where the part of a record begins that tells of a message; it goes to the end."""
_END: Final = struct.Struct("<3H16s4s16x304s")
assert _MESSAGE + _END.size == RECORD_SIZE


Numbers: TypeAlias = np.ndarray[Any, np.dtype[Any]]
_NUMBERS: Final = 3
"""Words before those of the record: what of the rest of it is in the line."""
_WORDS: Final = -(-(RECORD_SIZE - _MESSAGE) // 8)
_FIRST_MASK: Final = ~np.uint64(0) << np.uint64(8 * (8 * _WORDS - (RECORD_SIZE - _MESSAGE)))
"""Without what stands before the message in its first word."""
_FACTORS: Final = np.array([secrets.randbits(64) | 1 for _ in range(_NUMBERS + _WORDS)], np.uint64)
"""Nobody outside can choose rows whose sums are alike, which would only cost time."""


class _Said:
    """What was answered about lines, by the words that they are made of; from one block of rows to the next."""

    def __init__(self) -> None:
        self._used = 0
        """Words of a record that are looked at: of the room for texts little is written on. It only grows."""
        self._forget()

    def _forget(self) -> None:
        self._places: dict[int, int] = {}
        """By sum, the row of the arrays."""
        self._words = np.empty((0, _NUMBERS + self._used), np.uint64)
        self._answers = np.empty(0, np.bool_)

    def words(self, records: Records, numbers: Sequence[Numbers]) -> Numbers:
        """All that goes into the lines of records: rows of equal words have the same line, but for their extras."""
        longest = min(int(records["text_length"].sum(axis=1, dtype=np.int64).max(initial=0)), TEXT_SIZE)
        used = -(-(8 * _WORDS - TEXT_SIZE + longest) // 8)
        if used > self._used:
            self._used = used
            self._forget()
        words = np.empty((len(records), _NUMBERS + self._used), np.uint64)
        for place, number in enumerate(numbers):
            words[:, place] = number
        tails = records.view("u1").reshape(len(records), RECORD_SIZE)[:, RECORD_SIZE - 8 * _WORDS :].view("<u8")
        words[:, _NUMBERS:] = tails[:, : self._used]
        words[:, _NUMBERS] &= _FIRST_MASK
        return words

    def find(self, words: Numbers, sums: Numbers, lone: Mask) -> tuple[Mask, Rows]:
        """The answers, and which of them are not known."""
        get = self._places.get
        places = np.array([get(one, -1) for one in sums.tolist()], np.int64)
        found = np.flatnonzero((places >= 0) & ~lone)
        found = found[(self._words[places[found]] == words[found]).all(axis=1)]
        answers = np.zeros(len(words), np.bool_)
        answers[found] = self._answers[places[found]]
        asked = np.ones(len(words), np.bool_)
        asked[found] = False
        return answers, np.flatnonzero(asked)

    def keep(self, words: Numbers, sums: Numbers, answers: Mask) -> None:
        """Remember more; of TEXTS_KEPT at most, then anew."""
        if not len(words):
            return
        if len(self._words) + len(words) > TEXTS_KEPT:
            self._forget()
            words, sums, answers = words[:TEXTS_KEPT], sums[:TEXTS_KEPT], answers[:TEXTS_KEPT]
        self._places.update(zip(sums.tolist(), range(len(self._words), len(self._words) + len(words)), strict=True))
        self._words = np.concatenate([self._words, words])
        self._answers = np.concatenate([self._answers, answers])


def _alike(words: Numbers, sums: Numbers, lone: Mask) -> tuple[Rows, Rows]:
    """The first of all rows that have the same line, and for each row which of them it is.

    Rows are alike if a sum over their words is, which is checked; those whose extra tells more are like no other.
    """
    _, firsts, places = np.unique(sums, return_index=True, return_inverse=True)
    same = ~lone & ~lone[firsts[places]]
    same &= (words == words[firsts[places]]).all(axis=1)
    others = np.flatnonzero(~same)
    places[others] = len(firsts) + np.arange(len(others))
    return np.concatenate([firsts, others]), places


def _line(layer7: Layer7Encoder, end: bytes, extra: Extra | None, present: int, latency_ms: int, number: int) -> str:
    """The summary of a message from the end of its record."""
    code, version, method, tail, lengths, text = _END.unpack(end)
    told = None if extra is None else Extra(texts=extra.texts, dns=extra.dns)  # headers are not in it
    latency_ns = latency_ms * 1_000_000
    _, line, _ = layer7.encode(tail, present, code, version, method, number, latency_ns, lengths, text, told)
    return line.decode()


SUMMARY: Final = Reading(lambda flow, _: (flow.Summary,) if flow.Summary else (), _summary_rows)
