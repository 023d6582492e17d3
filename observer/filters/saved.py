"""Filters on disk: the history of what was typed, and filters with a name.

History is $XDG_STATE_HOME/flowscope/filter-history, one filter a line, newest last; names are the table [filters] of
$XDG_CONFIG_HOME/flowscope/config.toml, beside five that ship. A file that cannot be read is told in one line and never
written over.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from observer.errors import FilterError
from observer.filters.expression import Expression
from observer.filters.language import parse, text_of

MAX_ENTRIES: Final = 500
"""Filters that the history keeps."""
MAX_FILE: Final = 4 << 20
"""A longer file is none of ours."""

SHIPPED: Final = {
    "drops": "verdict=DROPPED",
    "errors": "verdict=ERROR or http.status=5xx or grpc.status>0 or dns.rcode>0",
    "slow": "latency>100ms",
    "dns-failures": "dns and dns.rcode>0",
    "world": "direction=egress and to-identity in (world, world-ipv4, world-ipv6)",
}
"""Named filters that everybody has; one of the same name in config.toml takes the place."""


def state_directory() -> Path:
    """Where flowscope keeps what it remembers by itself."""
    return _xdg("XDG_STATE_HOME", ".local/state")


def config_directory() -> Path:
    """Where users keep what they set."""
    return _xdg("XDG_CONFIG_HOME", ".config")


def _xdg(variable: str, default: str) -> Path:
    """A base directory; relative paths in the variable are ignored, as the specification asks."""
    told = os.environ.get(variable, "")
    return (Path(told) if told.startswith("/") else Path.home() / default) / "flowscope"


class History:
    """The filters used before, oldest first. Several processes may share the file."""

    def __init__(self, path: Path | None = None) -> None:
        """Read the file, if there is one."""
        self.path: Final = state_directory() / "filter-history" if path is None else path
        self.warning = ""
        """Why nothing is kept on disk, in one line; empty if all is well."""
        self.entries: list[str] = []
        try:
            self.entries = self._read()
        except _UnreadableError as error:
            self._refuse(str(error))

    def add(self, text: str) -> None:
        """Put a filter at the end, once, and write the file with what others have put there meanwhile."""
        if not text.strip():
            return
        if not text.isprintable():  # it has line breaks
            text = text_of(parse(text))
        if not self.warning:
            try:
                with self._locked():
                    self.entries = _once([*self._read(), text])
                    self._write()
                return
            except _UnreadableError as error:
                self._refuse(str(error))
            except OSError as error:
                self._refuse(f"cannot be written: {error.strerror or error}")
        self.entries = _once([*self.entries, text])

    def _refuse(self, why: str) -> None:
        self.warning = f"filter history {self.path} {why}; new filters are not kept"

    def _read(self) -> list[str]:
        try:
            with self.path.open("rb") as file:
                raw = file.read(MAX_FILE + 1)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _UnreadableError(f"cannot be read: {error.strerror or error}") from error
        if len(raw) > MAX_FILE:
            raise _UnreadableError(f"is longer than {MAX_FILE >> 20} MiB")
        try:
            lines = raw.decode().split("\n")
        except UnicodeDecodeError:
            raise _UnreadableError("is not UTF-8") from None
        if not all(line.isprintable() for line in lines):
            raise _UnreadableError("holds control characters")
        return _once([line for line in lines if line.strip()])

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among the processes that keep this history; a lock of its own, because the file is replaced."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(f"{self.path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self) -> None:
        """Write the whole file beside the old one and put it in its place."""
        target = self.path.resolve()
        handle, name = tempfile.mkstemp(prefix=".filter-history-", dir=target.parent)  # 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write("".join(f"{entry}\n" for entry in self.entries))
            os.replace(name, target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


class _UnreadableError(Exception):
    """The history cannot be read; the message follows its path."""


def _once(entries: list[str]) -> list[str]:
    """Each entry at its last place, the newest MAX_ENTRIES."""
    return list(dict.fromkeys(reversed(entries)))[:MAX_ENTRIES][::-1]


@dataclass(frozen=True, slots=True)
class Named:
    """Filters by name; `warning` tells in one line what of config.toml was left out."""

    filters: dict[str, str] = field(default_factory=dict)
    warning: str = ""


def named_filters(path: Path | None = None) -> Named:
    """The five that ship, and the table [filters] of config.toml; what is wrong there is told and left out."""
    path = config_directory() / "config.toml" if path is None else path
    shipped = dict(SHIPPED)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
        if len(raw) > MAX_FILE:
            return Named(shipped, f"{path} is longer than {MAX_FILE >> 20} MiB; its filters are left out")
        table = tomllib.loads(raw.decode()).get("filters", {})
    except FileNotFoundError:
        return Named(shipped)
    except OSError as error:
        return Named(shipped, f"{path} cannot be read: {error.strerror or error}; its filters are left out")
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error) or "nested too deep"
        return Named(shipped, f"{path}: {reason}; its filters are left out")
    if not isinstance(table, dict):
        return Named(shipped, f"{path}: [filters] is no table; its filters are left out")
    warnings = []
    for name, text in table.items():
        try:
            if not isinstance(text, str):
                raise FilterError("is no text in quotes")
            Expression.parse(text)
        except FilterError as error:
            where = f" at character {error.position + 1}" if error.position is not None else ""
            warnings.append(f"filter `{name}`{where}: {error}")
        else:
            shipped[name] = text
    more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
    return Named(shipped, f"{path}: {warnings[0]}; it is left out{more}" if warnings else "")
