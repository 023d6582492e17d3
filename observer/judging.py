"""Who is who and what is allowed: identities and policies as files say, to judge flows by, and when to read them again.

Paths enter, an ipcache and an engine leave, both over tables that the store keeps, so that rows told before go on
meaning what they meant. Knows no packets and no tiers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from observer.identity.endpoints import EndpointTable, IpCache
from observer.identity.file import Identities, load_identities
from observer.policy.engine import Engine
from observer.policy.load import load_policies
from observer.policy.model import PolicyTable


@dataclass(frozen=True, slots=True)
class Files:
    """Where identities and policies stand; either may be missing."""

    identities: Path | None = None
    policies: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Judging:
    """What flows are judged by."""

    endpoints: IpCache
    policy: Engine | None
    cluster: str
    warnings: tuple[str, ...]


def read_judging(files: Files, endpoints: EndpointTable, policies: PolicyTable) -> Judging:
    """Read the files; ConfigError or PolicyError where they are wrong, and then nothing has changed."""
    known = Identities() if files.identities is None else load_identities(files.identities)
    documents = load_policies(files.policies) if files.policies else None
    ipcache = known.ipcache(endpoints)
    if documents is None:
        return Judging(ipcache, None, known.cluster, ())
    engine = Engine(documents, endpoints, policies, known.namespaces)
    return Judging(ipcache, engine, known.cluster, (*documents.warnings, *engine.warnings))


class Watch:
    """Says when the files are others than before; a change counts once it stands still for a look."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._taken = self._before = _state(files)

    def changed(self) -> bool:
        """Whether there is something new to read; told once."""
        before, self._before = self._before, _state(self._files)
        if self._before != before or self._before == self._taken:
            return False  # as it was, or still being written
        self._taken = self._before
        return True


def _state(files: Files) -> tuple[tuple[str, int, int, int], ...]:
    """Names, times and sizes of all files; -1 where there is none."""
    return tuple(_each(path) for path in _paths(files))


def _paths(files: Files) -> Iterator[Path]:
    paths: Sequence[Path] = (*(() if files.identities is None else (files.identities,)), *files.policies)
    for path in paths:
        yield path
        if path.is_dir():
            try:
                yield from sorted(path.iterdir())
            except OSError:
                continue  # whoever reads it will say why


def _each(path: Path) -> tuple[str, int, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return str(path), -1, -1, -1
    return str(path), found.st_mtime_ns, found.st_size, found.st_ino
