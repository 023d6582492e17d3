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
        found = [value for source, value in labels.get(self.key, ()) if self.source in (ANY_SOURCE, source)]
        if self.operator == IN:
            return any(value in self.values for value in found)
        if self.operator == NOT_IN:
            return not any(value in self.values for value in found)
        return bool(found) == (self.operator == EXISTS)

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
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements) or "every label"
