"""Filters with a name: five that ship, and the table [filters] of $XDG_CONFIG_HOME/flowscope/config.toml.

Names and texts enter and leave. The file is the user's own: one line of it is changed, and only where the whole then
reads as it should; comments and everything else stay. What is wrong in it is told in one line and left out.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from observer.errors import ConfigError, FilterError
from observer.filters.expression import Expression
from observer.filters.language import parse
from observer.filters.saved import MAX_FILE, UnreadableError, config_directory, read_file, replace_file
from observer.filters.tree import text_of

MAX_NAME: Final = 64
"""Characters of a name."""

SHIPPED: Final = {
    "drops": "verdict=DROPPED",
    "errors": "verdict=ERROR or http.status=5xx or grpc.status>0 or dns.rcode>0",
    "slow": "latency>100ms",
    "dns-failures": "dns and dns.rcode>0",
    "world": "direction=egress and to-identity in (world, world-ipv4, world-ipv6)",
}
"""Named filters that everybody has; one of the same name in config.toml takes the place."""

_NAME: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}")
_TABLE: Final = re.compile(r"[ \t]*\[[ \t]*filters[ \t]*\][ \t]*(#.*)?")
_NEXT_TABLE: Final = re.compile(r"[ \t]*\[")
_VALUE: Final = r"""[ \t]*=[ \t]*(?:"(?:[^"\\]|\\.)*+"|'[^']*'|[^\s"'#]+)"""  # of one line


def config_path() -> Path:
    """Where the settings are: $XDG_CONFIG_HOME/flowscope/config.toml."""
    return config_directory() / "config.toml"


def check_name(name: str) -> None:
    """ConfigError where a filter cannot be called that."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"a name is of letters, digits, - and _, {MAX_NAME} at most: my-filter")


class NamedFilters:
    """Filters by name. Several processes may share the file."""

    def __init__(self, path: Path | None = None) -> None:
        """Read the file, if there is one; without a path names are kept only as long as this lives."""
        self.path: Final = path
        self.warning = ""
        """What of the file was left out, in one line; empty if all is well."""
        self.own: dict[str, str] = {}
        """Those of the user's."""
        try:
            self.own = self._usable(_table(self._read()))
        except _UnusableError as error:
            self.warning = f"{self.path}{error}; its filters are left out"

    @property
    def filters(self) -> dict[str, str]:
        """All of them: those that ship, with the user's in place or behind."""
        return SHIPPED | self.own

    def name_of(self, text: str) -> str:
        """The name of a filter; empty where it has none."""
        return next((name for name, filter in self.filters.items() if filter == text), "")

    def save(self, name: str, text: str) -> None:
        """Give a filter a name, on disk too; what had it before loses it. ConfigError where that cannot be."""
        check_name(name)
        self._change(name, text if text.isprintable() else text_of(parse(text)))

    def forget(self, name: str) -> None:
        """Take one of the user's own away; where it stood in place of one that ships, that is back."""
        if name not in self.own:
            raise ConfigError(f"`{name}` ships with flowscope; save another filter under that name to replace it")
        self._change(name, None)

    def _change(self, name: str, text: str | None) -> None:
        """Change one entry of the file as it is now, or of none."""
        if self.path is None:
            self.own = {other: kept for other, kept in self.own.items() if other != name}
            if text is not None:
                self.own[name] = text
            return
        try:
            with self._locked(self.path):
                after = _edited(self._read(), name, text)
                mode = self.path.stat().st_mode & 0o777 if self.path.exists() else 0o600
                replace_file(self.path, after, mode=mode)
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written: {error.strerror or error}") from None
        except _UnusableError as error:
            raise ConfigError(f"{self.path}{error}") from None
        self.own = self._usable(_table(after))

    def _read(self) -> str:
        """The file's text."""
        if self.path is None:
            return ""
        try:
            return read_file(self.path).decode()
        except UnreadableError as error:
            raise _UnusableError(f" {error}") from None
        except UnicodeDecodeError:
            raise _UnusableError(": not UTF-8") from None

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """Alone among the processes that keep names there; the directory is locked, because the file is replaced."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _usable(self, table: dict[str, Any]) -> dict[str, str]:
        """The entries that are filters; the warning says what the others are."""
        filters, warnings = {}, []
        for name, text in table.items():
            try:
                if not isinstance(text, str):
                    raise FilterError("is no text in quotes")
                Expression.parse(text)
            except FilterError as error:
                where = f" at character {error.position + 1}" if error.position is not None else ""
                warnings.append(f"filter `{name}`{where}: {error}")
            else:
                filters[name] = text
        more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
        self.warning = f"{self.path}: {warnings[0]}; it is left out{more}" if warnings else ""
        return filters


class _UnusableError(Exception):
    """The file cannot be used; the message follows its path."""


def _document(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # tomllib's own are ValueErrors, those of very long numbers too
        raise _UnusableError(f": {str(error) or 'nested too deep'}") from None


def _table(text: str) -> dict[str, Any]:
    """The table [filters] of a document."""
    table = _document(text).get("filters", {})
    if not isinstance(table, dict):
        raise _UnusableError(": [filters] is no table")
    return table


def _edited(text: str, name: str, filter: str | None) -> str:
    """The document with one entry of [filters] put in, changed, or (None) taken out; else _UnusableError."""
    wanted = _document(text)
    wanted["filters"] = _table(text)
    present = name in wanted["filters"]
    if filter is None:
        if not present:
            return text
        del wanted["filters"][name]
    else:
        wanted["filters"][name] = filter
    entry = "" if filter is None else f"{name} = {json.dumps(filter, ensure_ascii=False)}\n"
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    start = next((place for place, line in enumerate(lines) if _TABLE.fullmatch(line.rstrip("\r\n"))), None)
    if start is None:
        lines += ["\n"] * bool(lines) + ["[filters]\n", entry]
    else:
        stop = next((place for place in range(start + 1, len(lines)) if _NEXT_TABLE.match(lines[place])), len(lines))
        old = re.compile(rf"""[ \t]*(["']?){re.escape(name)}\1{_VALUE}""")
        here = next((place for place in range(start + 1, stop) if old.match(lines[place])), None) if present else None
        if here is not None:
            lines[here] = old.sub(lambda _: entry.rstrip("\n"), lines[here], count=1) if entry else ""
        else:
            over = ("", "#") if stop < len(lines) else ("",)  # what is said right above the next table is about that
            while stop > start + 1 and lines[stop - 1].strip()[:1] in over:
                stop -= 1
            lines.insert(stop, entry)
    after = "".join(lines)
    try:
        right = _document(after) == wanted and len(after.encode()) <= MAX_FILE
    except _UnusableError:
        right = False
    if not right:  # an entry over several lines, dotted, inline, or a file that is full
        what = f"write {entry.rstrip()}" if entry else f"remove {name}"
        raise _UnusableError(f" is written in a way that is not changed here; under [filters] there, {what} by hand")
    return after
