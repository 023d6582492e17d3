"""FlowFilter messages in, one FilterTree out: the exact predicate on a flow and the mask over a store's columns.

Hubble's semantics to the letter: filters of a list are OR, fields of a filter AND, values of a field OR; the result is
whitelist without blacklist. It knows no store's rows beyond their columns and builds no flow.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

import numpy as np

from observer.api import flow_pb2
from observer.errors import FilterError
from observer.filters import endpoint, event, l7, network
from observer.filters.index import Bounds, Mask, Term, all_of, any_of, certain, without
from observer.store import Columns

FAMILIES: Final = (event, network, endpoint, l7)
"""In the order of their masks' cost, so that the cheap ones can end a block early."""


class _Filter:
    """One FlowFilter: its fields, all of which must match."""

    def __init__(self, wanted: flow_pb2.FlowFilter) -> None:
        if wanted.experimental.cel_expression:
            raise FilterError("CEL expressions are not supported: use the other fields of the filter")
        self._terms: list[Term] = [term for family in FAMILIES for term in family.terms(wanted)]

    def exact(self, flow: flow_pb2.Flow) -> bool:
        return all(term.exact(flow) for term in self._terms)

    def index(self, columns: Columns, among: Mask | None = None) -> Bounds:
        return all_of(self._terms, columns, among)


class FilterTree:
    """What compile_filters makes of a whitelist and a blacklist."""

    def __init__(self, whitelist: list[_Filter], blacklist: list[_Filter]) -> None:
        self._whitelist = whitelist
        self._blacklist = blacklist
        self.matches_all: Final = not whitelist and not blacklist
        """No filter at all: every flow passes."""

    def exact(self, flow: flow_pb2.Flow) -> bool:
        """Whether the flow passes."""
        if self._whitelist and not any(wanted.exact(flow) for wanted in self._whitelist):
            return False
        return not any(unwanted.exact(flow) for unwanted in self._blacklist)

    def bounds(self, columns: Columns, among: Mask | None = None) -> Bounds:
        """(maybe, sure), one bool a row: what is not `maybe` cannot pass, what is `sure` does, the rest needs exact.

        Only rows of `among` are of interest (None: all); what the bounds say of others means nothing.
        """
        if self._whitelist:
            bounds = any_of([partial(wanted.index, among=among) for wanted in self._whitelist], columns)
        else:
            bounds = certain(np.ones(columns.length, np.bool_))
        if self._blacklist:
            left = bounds[0] if among is None else bounds[0] & among
            bounds = without(
                bounds, any_of([partial(unwanted.index, among=left) for unwanted in self._blacklist], columns)
            )
        return bounds

    def mask(self, columns: Columns) -> tuple[Mask, bool]:
        """The rows that may pass, and whether all of them do."""
        maybe, sure = self.bounds(columns)
        return maybe, maybe is sure or bool(np.array_equal(maybe, sure))


def compile_filters(
    whitelist: Iterable[flow_pb2.FlowFilter] = (), blacklist: Iterable[flow_pb2.FlowFilter] = ()
) -> FilterTree:
    """Compile two lists of filters; FilterError names the value that is refused, in Hubble's words."""
    return FilterTree([_Filter(wanted) for wanted in whitelist], [_Filter(unwanted) for unwanted in blacklist])
