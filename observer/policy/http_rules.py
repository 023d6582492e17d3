"""What a policy may ask of an HTTP request: RE2 matched whole against the bytes seen, and header fields.

As Cilium has Envoy do it: method against :method, path against :path with its query, host against :authority.
It refuses what RE2 refuses (lookaround, backreferences), and normalises nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import re2

Fields: TypeAlias = Sequence[tuple[str, str]]
"""Header fields in order, names as sent."""

MISMATCH_ACTIONS: Final = ("LOG", "ADD", "DELETE", "REPLACE")

MEMO_LIMIT: Final = 1024
"""Texts that a pattern remembers, of at most MEMO_TEXT bytes each."""
MEMO_TEXT: Final = 256

_LITERAL: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/-_~:,;=@%&!'\"<># ")
_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False  # RE2 would write to stderr by itself
_OPTIONS.never_capture = True  # nothing reads the groups


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression that must match the whole text; empty text makes no condition."""

    text: str = ""
    _full_match: Callable[[bytes], Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile; ValueError with RE2's reason."""
        literal = self.text.encode()
        if not literal:
            match: Callable[[bytes], Any] = _always
        elif _LITERAL.issuperset(self.text):
            match = literal.__eq__
        else:
            try:
                match = _remembering(re2.compile(self.text, _OPTIONS).fullmatch)
            except re2.error as error:
                reason = error.args[0]
                raise ValueError(
                    reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
                ) from None
        object.__setattr__(self, "_full_match", match)

    def matches(self, text: bytes) -> bool:
        """Whether all of `text` matches; what is not UTF-8 is matched by no `.`."""
        return bool(self._full_match(text))


def _remembering(full_match: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Remember the answers for short texts: the binding to RE2 costs microseconds a call, and paths come again."""
    remembered = functools.lru_cache(MEMO_LIMIT)(lambda text: full_match(text) is not None)
    return lambda text: remembered(text) if len(text) <= MEMO_TEXT else full_match(text)


def _always(_text: bytes) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class HeaderRule:
    """A header field that must be there, with exactly `value` unless that is None; `name` is lower case."""

    name: str
    value: str | None = None

    def matches(self, fields: Fields) -> bool:
        """Whether the fields meet it; several of a name count as one, joined by commas (RFC 9110, 5.2)."""
        values = [value for name, value in fields if name.lower() == self.name]
        return bool(values) and (self.value is None or ",".join(values) == self.value)


@dataclass(frozen=True, slots=True)
class HttpRule:
    """Conditions of one entry of `http`; all of them hold."""

    method: Pattern = Pattern()
    path: Pattern = Pattern()
    host: Pattern = Pattern()
    headers: tuple[HeaderRule, ...] = ()

    def matches(self, method: bytes, path: bytes, host: bytes, fields: Callable[[], Fields]) -> bool:
        """Whether a request meets them; `fields` is called only if it comes to that."""
        if not (self.method.matches(method) and self.path.matches(path) and self.host.matches(host)):
            return False
        if not self.headers:
            return True
        sent = fields()
        return all(header.matches(sent) for header in self.headers)


def header_rule(text: str) -> HeaderRule:
    """Read an entry of `headers`: "Name", "Name value" or "Name: value"; ValueError where it is none of them."""
    name, space, value = text.partition(" ")
    if space:
        name = name.rstrip(":")
    if not name or ":" in name:
        raise ValueError('write "Name" for presence, "Name: value" (with a space) for an exact value')
    return HeaderRule(name.lower(), value if space else None)
