"""What the user set (config.toml) and what the TUI remembers by itself (state): files in XDG directories.

A wrong setting is one ConfigError that names file and setting. A state that cannot be read is an empty one: it is
worth nothing that would justify to stop; one that cannot be written is told by False.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from observer.errors import ConfigError
from observer.filters.named import config_path
from observer.filters.saved import state_directory
from observer.store import DEFAULT_CAPACITY
from tui.columns import COLUMNS
from tui.keys import check_keymap
from tui.look import THEMES

MAX_RING: Final = 1_000_000
"""Flows that a ring of the TUI's holds at most: half a gigabyte of records."""
TIMES: Final = ("utc", "local", "delta")
"""How the time column may be written."""


def state_path() -> Path:
    """Where the TUI remembers: $XDG_STATE_HOME/flowscope/tui.json."""
    return state_directory() / "tui.json"


@dataclass(frozen=True, slots=True)
class Config:
    """The settings; each has the name that it has in the file."""

    columns: tuple[str, ...] = ()  # empty: all, in their own order
    theme: str = "ansi-dark"
    ring: int = DEFAULT_CAPACITY
    slow: bool = False  # paint four times a second instead of ten, for slow lines
    ascii: bool = False  # signs of ASCII only
    time: str = "utc"
    keys: Mapping[str, str] = field(default_factory=dict)


def load_config(path: Path | None = None) -> Config:
    """Read the settings; a file that is not there is an empty one. ConfigError says what is wrong."""
    path = config_path() if path is None else path
    try:
        with path.open("rb") as file:
            told = tomllib.load(file)
    except FileNotFoundError:
        return Config()
    except (OSError, ValueError, RecursionError) as error:  # not TOML, not UTF-8, a very long number
        raise ConfigError(f"{path}: {error}") from None
    told.pop("filters", None)  # the named filters are read by those who know the language
    known = {one.name for one in fields(Config)}
    try:
        for name in told:
            if name not in known:
                raise ConfigError(f"{name}: no such setting; there are {', '.join(sorted(known))} and filters")
        return Config(**{name: CHECKS[name](value) for name, value in told.items()})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _columns(value: Any) -> tuple[str, ...]:
    names = [column.field for column in COLUMNS]
    if not isinstance(value, list) or not value:
        raise ConfigError(f'columns: a list like ["time", "source"]; there are {", ".join(names)}')
    for name in value:
        if name not in names:
            raise ConfigError(f"columns: there is no column {name!r}; there are {', '.join(names)}")
    return tuple(dict.fromkeys(value))


def _one_of(setting: str, values: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in values:
            raise ConfigError(f"{setting}: {value!r} is none of {', '.join(values)}")
        return str(value)

    return check


def _boolean(setting: str) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ConfigError(f"{setting}: true or false, not {value!r}")
        return value

    return check


def _ring(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_RING:
        raise ConfigError(f"ring: a number of flows from 1 to {MAX_RING}, not {value!r}")
    return value


def _keys(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(one, str) and one for one in _flat(value).values()):
        raise ConfigError('keys: a table of ids, like "flows.pause" = "s"')
    keymap = _flat(value)
    check_keymap(keymap)
    return keymap


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`flows.pause = "s"` without quotes is a table in a table."""
    out: dict[str, Any] = {}
    for name, one in value.items():
        out |= _flat(one, f"{prefix}{name}.") if isinstance(one, dict) else {prefix + name: one}
    return out


CHECKS: Final[dict[str, Callable[[Any], Any]]] = {
    "columns": _columns,
    "theme": _one_of("theme", tuple(THEMES)),
    "ring": _ring,
    "slow": _boolean("slow"),
    "ascii": _boolean("ascii"),
    "time": _one_of("time", TIMES),
    "keys": _keys,
}


@dataclass(slots=True)
class Session:
    """What the TUI remembers from one time to the next; empty: what the settings say."""

    columns: list[str] = field(default_factory=list)  # as chosen, in order
    theme: str = ""
    time: str = ""
    group: list[str] = field(default_factory=list)  # the fields of Top
    sort: str = ""

    @classmethod
    def load(cls, path: Path) -> Session:
        """Read it; what cannot be read, or is not of the right kind, is left empty."""
        try:
            told = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError):
            return cls()
        session = cls()
        for one in fields(cls):
            value = told.get(one.name) if isinstance(told, dict) else None
            if isinstance(value, str) and isinstance(getattr(session, one.name), str):
                setattr(session, one.name, value)
            elif isinstance(value, list) and isinstance(getattr(session, one.name), list):
                setattr(session, one.name, [text for text in value if isinstance(text, str)])
        return session

    def save(self, path: Path) -> bool:
        """Write it beside and put it in place, so that a full disk leaves the old one; False where that failed."""
        beside = path.with_suffix(f".{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside.write_text(json.dumps(asdict(self)))
            beside.replace(path)
        except OSError:
            return False
        return True
