"""Label selectors as Cilium reads them: key prefixes bind a label's source, requirements all hold.

Labels "source:key=value" of an endpoint enter; whether a selector matches leaves. It knows no policies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

Labels: TypeAlias = Mapping[str, tuple[tuple[str, str], ...]]
"""Labels by key: the (source, value) pairs that have it."""

IN: Final = "In"
NOT_IN: Final = "NotIn"
EXISTS: Final = "Exists"
DOES_NOT_EXIST: Final = "DoesNotExist"
OPERATORS: Final = (IN, NOT_IN, EXISTS, DOES_NOT_EXIST)

ANY_SOURCE: Final = ""

_OF_ANY_VALUE: Final = (EXISTS, DOES_NOT_EXIST)
_MET_BY_A_LABEL: Final = (IN, EXISTS)


def by_key(labels: Iterable[str]) -> Labels:
    """Index labels as an endpoint carries them."""
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for label in labels:
        source, _, rest = label.partition(":")
        key, _, value = rest.partition("=")
        found[key] = (*found.get(key, ()), (source, value))
    return found


def split_key(key: str) -> tuple[str, str]:
    """The source and bare key of a selector's key; no prefix, or any:, is every source."""
    source, colon, name = key.partition(":")
    if not colon:
        return ANY_SOURCE, key
    return (ANY_SOURCE if source == "any" else source), name


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label; matchLabels are In with one value."""

    source: str
    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Labels) -> bool:
        """Whether the labels meet it; NotIn and DoesNotExist are met by a missing label."""
        operator, any_source, bound = self.operator, self.source == ANY_SOURCE, self.source
        for source, value in labels.get(self.key, ()):
            # A label of that key meets Exists, and one of these values In; a loop, as thousands of them are asked.
            if (any_source or source == bound) and (operator in _OF_ANY_VALUE or value in self.values):
                return operator in _MET_BY_A_LABEL
        return operator not in _MET_BY_A_LABEL

    def __str__(self) -> str:
        key = f"{self.source}:{self.key}" if self.source else self.key
        if self.operator in (EXISTS, DOES_NOT_EXIST):
            return key if self.operator == EXISTS else f"!{key}"
        values = sorted(self.values)
        if self.operator == IN and len(values) == 1:
            return f"{key}={values[0]}"
        return f"{key} {'in' if self.operator == IN else 'notin'} ({', '.join(values)})"


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements that all hold; none of them selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Labels) -> bool:
        """Whether every requirement is met."""
        for requirement in self.requirements:  # noqa: SIM110 - all() takes twice the time, and these are many
            if not requirement.matches(labels):
                return False
        return True

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements) or "every label"
