"""Masks over a store's columns: what may pass and what surely does, one bool a row.

A term of a filter has two forms that a test holds together: `exact` on a flow and `index` on columns. An index answers
in three values: a row outside `maybe` cannot match, a row in `sure` does, the rest must be asked exactly. A judge
decides rows one by one from what wire would show of them, before flows are built. It knows no filter fields; the
families (event, network, endpoint, l7) do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from observer.api import flow_pb2
from observer.identity.endpoints import Endpoint, EndpointTable
from observer.record import TEXT_SIZE, Present
from observer.store import Columns
from observer.wire.layer7 import Texts, split_texts
from observer.wire.protobuf import keep

Mask: TypeAlias = npt.NDArray[np.bool_]
Bounds: TypeAlias = tuple[Mask, Mask]
"""(maybe, sure), `sure` within `maybe`; the same array twice where every row is certain."""
Index: TypeAlias = Callable[[Columns], Bounds]
Exact: TypeAlias = Callable[[flow_pb2.Flow], bool]
Rows: TypeAlias = npt.NDArray[np.intp]
"""Numbers of rows within columns, ascending."""
Judge: TypeAlias = Callable[[Columns, Rows], Mask]
"""Decides some rows that were not imported, one bool each."""

FEW: Final = 4
"""Up to so many values are compared one by one; more go through a table."""
TEXTS_KEPT: Final = 1 << 15
"""Texts that a judge remembers: two blocks of a query without a repetition, 16 MiB of the longest."""


class Judged(Protocol):
    """What judges flows in both forms: a term, a FilterTree, an Expression of the filter language."""

    @property
    def exact(self) -> Exact:
        """Whether a flow passes."""
        ...

    def bounds(self, columns: Columns, among: Mask | None = None) -> Bounds:
        """The bounds of all rows; what they say of rows outside `among` (None: all) means nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Term:
    """One field of a filter, in both forms.

    The index speaks of rows that were not imported. An imported row's record holds less than its flow does, so such a
    row is never sure; `imported` says which of them may match at all (None: any). What the index leaves open of the
    others, `judge` decides.
    """

    exact: Exact
    index: Index
    imported: Callable[[Columns], Mask] | None = None
    judge: Judge | None = None

    def bounds(self, columns: Columns, among: Mask | None = None) -> Bounds:
        """The bounds of all rows; those outside `among` are of no interest, so no judge is asked about them."""
        maybe, sure = self.index(columns)
        imported = columns.imported
        if imported is not None:
            upper = imported if self.imported is None else imported & self.imported(columns)
            maybe, sure = (maybe & ~imported) | upper, sure & ~imported
        if self.judge is None:
            return maybe, sure
        if among is not None:
            maybe, sure = maybe & among, sure & among
        left = maybe & ~sure
        rows = np.flatnonzero(left if imported is None else left & ~imported)
        judged = np.zeros(columns.length, np.bool_)
        if len(rows):
            judged[rows] = self.judge(columns, rows)
        sure = sure | judged
        return certain(sure) if imported is None else (sure | (maybe & imported), sure)


def certain(mask: Mask) -> Bounds:
    """Bounds where the mask is the answer."""
    return mask, mask


def possible(mask: Mask) -> Bounds:
    """Bounds where the rows of the mask must be asked exactly."""
    return mask, np.zeros(len(mask), np.bool_)


def upper(index: Index) -> Callable[[Columns], Mask]:
    """What an index lets pass, for imported rows whose columns say the same as their flows."""
    return lambda columns: index(columns)[0]


def constant(answer: bool) -> Index:
    """An index that says the same of every row."""
    return lambda columns: certain(np.full(columns.length, answer))


def equal(column: npt.NDArray[Any], value: int) -> Mask:
    """Which rows have the value."""
    mask: Mask = column == int(value)  # numpy takes ten times as long to compare with an enum's member
    return mask


def flagged(column: npt.NDArray[Any], flag: int) -> Mask:
    """Which rows have the bit."""
    mask: Mask = (column & int(flag)) != 0
    return mask


def one_of(column: npt.NDArray[Any], values: Sequence[int]) -> Mask:
    """Which rows of an unsigned column have one of the values."""
    largest = (1 << 8 * column.itemsize) - 1
    fitting = [int(value) for value in dict.fromkeys(values) if 0 <= value <= largest]
    if not fitting:
        return np.zeros(len(column), np.bool_)
    if len(fitting) <= FEW or largest > 0xFFFF:
        mask: Mask = column == fitting[0]
        for value in fitting[1:]:
            mask |= column == value
        return mask
    table = np.zeros(largest + 1, np.bool_)
    table[fitting] = True
    return table.take(column)


def all_of(terms: Iterable[Judged], columns: Columns, among: Mask | None = None) -> Bounds:
    """AND; of nothing: every row. A term's judge is asked only about rows of `among` that the terms before let pass."""
    bounds: Bounds | None = None
    left = among
    for term in terms:
        maybe, sure = term.bounds(columns, left)
        if bounds is None:
            bounds = maybe, sure
        elif bounds[0] is bounds[1] and maybe is sure:
            bounds = certain(bounds[0] & maybe)
        else:
            bounds = bounds[0] & maybe, bounds[1] & sure
        left = bounds[0] if among is None else bounds[0] & among
        if not left.any():
            break
    return certain(np.ones(columns.length, np.bool_)) if bounds is None else bounds


def any_of(indexes: Iterable[Index], columns: Columns) -> Bounds:
    """OR; of nothing: no row."""
    bounds: Bounds | None = None
    for index in indexes:
        maybe, sure = index(columns)
        if bounds is None:
            bounds = maybe, sure
        elif bounds[0] is bounds[1] and maybe is sure:
            bounds = certain(bounds[0] | maybe)
        else:
            bounds = bounds[0] | maybe, bounds[1] | sure
    return certain(np.zeros(columns.length, np.bool_)) if bounds is None else bounds


def without(bounds: Bounds, excluded: Bounds) -> Bounds:
    """AND NOT."""
    if bounds[0] is bounds[1] and excluded[0] is excluded[1]:
        return certain(bounds[0] & ~excluded[0])
    return bounds[0] & ~excluded[1], bounds[1] & ~excluded[0]


class PerEndpoint:
    """A column of what depends on one end only: asked once an endpoint, then gathered by endpoint number."""

    def __init__(self, column: str, ask: Callable[[Endpoint], int], dtype: npt.DTypeLike) -> None:
        self._column = column
        self._ask = ask
        self._known: tuple[EndpointTable | None, npt.NDArray[Any]] = (None, np.zeros(0, dtype))

    def __call__(self, columns: Columns) -> npt.NDArray[Any]:
        """The answer of each row's endpoint."""
        answers = self._answers(columns.store.endpoints)
        # A row that the writer is just overwriting may have any number; clipped, it is thrown away later.
        return answers.take(columns[self._column], mode="clip")

    def _answers(self, endpoints: EndpointTable) -> npt.NDArray[Any]:
        """One answer an endpoint; grows with the table (readers in other threads see the old or the new pair)."""
        table, answers = self._known
        if table is not endpoints:
            answers = answers[:0]
        if len(answers) < len(endpoints):
            new = [self._ask(endpoint) for endpoint in endpoints.from_number(len(answers))]
            answers = np.concatenate([answers, np.array(new, answers.dtype)])
            self._known = (endpoints, answers)
        return answers


def endpoint_index(column: str, predicate: Callable[[Endpoint], bool]) -> Index:
    """The index of a predicate on one end."""
    answers = PerEndpoint(column, predicate, np.bool_)
    return lambda columns: certain(answers(columns))


class PerText:
    """A judge of rows by their method column and strings, as wire would show them: asked once a text, then looked up.

    The strings are the record's own, or the extra's where it has them whole. `ask` takes l7_method (0: unknown) and the
    four strings of record.TEXT, raw.
    """

    def __init__(self, ask: Callable[[int, Texts], bool]) -> None:
        self._ask = ask
        # By method, the four lengths as one number, and the strings one after the other. Bounded by `keep`.
        self._known: dict[tuple[int, int, bytes], bool] = {}

    def __call__(self, columns: Columns, rows: Rows) -> Mask:
        """The answer of each row."""
        known, ask = self._known, self._ask
        lengths = columns["text_length"][rows]
        sizes = np.minimum(lengths.sum(axis=1, dtype=np.int64), TEXT_SIZE)
        width = int(sizes.max(initial=0))
        raw = columns["text"][:, :width][rows].tobytes()
        methods = np.where(flagged(columns["present"][rows], Present.METHOD), columns["l7_method"][rows], 0)
        answers = []
        # Whole strings of an extra are long; kept longer than for these rows, they would outlive the ring's.
        cut: dict[tuple[int, tuple[bytes, ...]], bool] = {}
        for start, size, packed, method, extra in zip(
            range(0, width * len(rows), width) if width else [0] * len(rows),
            sizes.tolist(),
            lengths.view("<u4")[:, 0].tolist(),
            methods.tolist(),
            columns.extras[rows].tolist(),
            strict=True,
        ):
            if extra is not None and extra.texts:
                whole = (method, extra.texts)
                answer = cut.get(whole)
                if answer is None:
                    answer = cut[whole] = ask(method, split_texts(b"", b"", extra))
            else:
                key = (method, packed, raw[start : start + size])
                answer = known.get(key)
                if answer is None:
                    answer = ask(method, split_texts(packed.to_bytes(4, "little"), key[2], None))
                    keep(known, key, answer, TEXTS_KEPT)
            answers.append(answer)
        return np.array(answers, np.bool_)
