"""Policy documents as parsed, and the table of policies that decided flows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from observer.numbered import Numbered


@dataclass(frozen=True, slots=True)
class PolicyRef:
    """The name of a policy as a flow carries it (flow.Policy)."""

    name: str = ""
    namespace: str = ""
    kind: str = ""
    labels: tuple[str, ...] = ()
    revision: int = 0


NO_POLICY: Final = PolicyRef()


class PolicyTable(Numbered[PolicyRef]):
    """Policies by number; 0 is none."""

    def __init__(self) -> None:
        super().__init__(NO_POLICY)
