"""Filters on disk: the history of what was typed. And where such files are, how one is read and how one is replaced.

History is $XDG_STATE_HOME/flowscope/filter-history, one filter a line, newest last. A file that cannot be read is told
in one line and never written over. Filters with a name: named.py.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from observer.filters.language import parse
from observer.filters.tree import text_of

MAX_ENTRIES: Final = 500
"""Filters that the history keeps."""
MAX_FILE: Final = 4 << 20
"""A longer file is none of ours."""


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


def replace_file(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write a whole file beside the old one and put it in its place; where `path` is a link, what it leads to."""
    target = path.resolve()
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            os.fchmod(handle, mode)
            file.write(text)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_file(path: Path) -> bytes:
    """A whole file, empty where there is none; UnreadableError where it cannot be had, or is none of ours."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or error}") from error
    if len(raw) > MAX_FILE:
        raise UnreadableError(f"is longer than {MAX_FILE >> 20} MiB")
    return raw


class UnreadableError(Exception):
    """A file cannot be read; the message follows its path."""


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
        except UnreadableError as error:
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
            except UnreadableError as error:
                self._refuse(str(error))
            except OSError as error:
                self._refuse(f"cannot be written: {error.strerror or error}")
        self.entries = _once([*self.entries, text])

    def _refuse(self, why: str) -> None:
        self.warning = f"filter history {self.path} {why}; new filters are not kept"

    def _read(self) -> list[str]:
        try:
            lines = read_file(self.path).decode().split("\n")
        except UnicodeDecodeError:
            raise UnreadableError("is not UTF-8") from None
        if not all(line.isprintable() for line in lines):
            raise UnreadableError("holds control characters")
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
        replace_file(self.path, "".join(f"{entry}\n" for entry in self.entries))


def _once(entries: list[str]) -> list[str]:
    """Each entry at its last place, the newest MAX_ENTRIES."""
    return list(dict.fromkeys(reversed(entries)))[:MAX_ENTRIES][::-1]
