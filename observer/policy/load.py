"""Policy documents from a file or a folder of YAML, several a file.

Paths enter, parsed documents leave; kinds that are no policies are passed over with a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Documents:
    """The policies of all files in order, and what should be told about documents that are none."""

    policies: tuple[object, ...] = ()
    warnings: tuple[str, ...] = ()


def load_policies(paths: Sequence[str | Path]) -> Documents:
    """Read policy files and folders; PolicyError `file:line: field: what; remedy`."""
    raise NotImplementedError
