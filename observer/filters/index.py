"""Masks over a store's columns: what may pass and what surely does, one bool a row.

A term of a filter has two forms that a test holds together: `exact` on a flow and `index` on columns. An index answers
in three values: a row outside `maybe` cannot match, a row in `sure` does, the rest must be asked exactly. It knows no
filter fields; the families (event, network, endpoint, l7) do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from observer.api import flow_pb2
from observer.identity.endpoints import Endpoint, EndpointTable
from observer.store import Columns

Mask: TypeAlias = npt.NDArray[np.bool_]
Bounds: TypeAlias = tuple[Mask, Mask]
"""(maybe, sure), `sure` within `maybe`; the same array twice where every row is certain."""
Index: TypeAlias = Callable[[Columns], Bounds]
Exact: TypeAlias = Callable[[flow_pb2.Flow], bool]

FEW: Final = 4
"""Up to so many values are compared one by one; more go through a table."""


@dataclass(frozen=True, slots=True)
class Term:
    """One field of a filter, in both forms.

    The index speaks of rows that were not imported. An imported row's record holds less than its flow does, so such a
    row is never sure; `imported` says which of them may match at all (None: any).
    """

    exact: Exact
    index: Index
    imported: Callable[[Columns], Mask] | None = None

    def bounds(self, columns: Columns) -> Bounds:
        """The bounds of all rows."""
        maybe, sure = self.index(columns)
        imported = columns.imported
        if imported is None:
            return maybe, sure
        upper = imported if self.imported is None else imported & self.imported(columns)
        return (maybe & ~imported) | upper, sure & ~imported


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


def all_of(indexes: Iterable[Index], columns: Columns) -> Bounds:
    """AND; of nothing: every row."""
    bounds: Bounds | None = None
    for index in indexes:
        maybe, sure = index(columns)
        if bounds is None:
            bounds = maybe, sure
        elif bounds[0] is bounds[1] and maybe is sure:
            bounds = certain(bounds[0] & maybe)
        else:
            bounds = bounds[0] & maybe, bounds[1] & sure
        if not bounds[0].any():
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
