"""Patterns of filters: RE2 expressions, FQDN and node name globs, and the URL path that Go would see.

Strings of a filter enter, compiled patterns leave; FilterError in the words that Hubble's users know. What Go's
`regexp` and `net/url` do is what counts, so expressions are RE2 and never Python's `re`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import re2

from observer.errors import FilterError

Search: TypeAlias = Callable[[str], bool]

_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False

_GO_WORDS: Final = {
    "missing ]": "missing closing ]",
    "missing )": "missing closing )",
    "trailing \\": "trailing backslash at end of expression",
    "no argument for repetition operator": "missing argument to repetition operator",
    "invalid repetition size": "invalid repeat count",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid named capture group": "invalid named capture",
}
"""What C++ RE2 says, in the words of Go's regexp."""

_GO_SPACE: Final = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
DEFAULT_CLUSTER: Final = "default"


def quoted(text: str) -> str:
    """The text as Go's %q shows it."""
    out = []
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif char.isprintable():
            out.append(char)
        else:
            short = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\v": "\\v"}.get(
                char
            )
            code = ord(char)
            out.append(
                short or (f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
            )
    return '"' + "".join(out) + '"'


def expression(pattern: str) -> Search:
    """Compile an RE2 expression to an unanchored search; FilterError in the words of Go."""
    try:
        compiled = re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        told = error.args[0]
        message = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
        reason, colon, where = message.partition(": ")
        reason = _GO_WORDS.get(reason, reason)
        raise FilterError(f"error parsing regexp: {reason}" + (f": `{where}`" if colon else "")) from None
    search = compiled.search
    # Of a str the wrapper would also find where in characters: that took as long again as the search.
    return lambda text: search(text.encode()) is not None


def fqdn(patterns: Iterable[str]) -> Search:
    """Compile FQDN globs to one whole match."""
    return _whole([_fqdn(pattern) for pattern in patterns])


def node_name(patterns: Iterable[str]) -> Search:
    """Compile node name globs ("node", "cluster/node") to one whole match; a bare node is of the default cluster."""
    match = _whole([_node(pattern) for pattern in patterns])

    def matches(name: str) -> bool:
        if not name:
            return False
        return match(name if "/" in name else f"{DEFAULT_CLUSTER}/{name}")

    return matches


def _whole(alternatives: list[str]) -> Search:
    return expression(rf"\A(?:{'|'.join(alternatives)})\z")


_ANY_NAME: Final = r"(?:[-0-9_a-z]+(?:\.[-0-9_a-z]+)*)"


def _fqdn(pattern: str) -> str:
    """The expression of one FQDN glob; `*` crosses dots but stands for no underscore."""
    pattern = pattern.strip(_GO_SPACE).removesuffix(".").lower()
    if not pattern:
        raise FilterError("empty pattern")
    if pattern.endswith("."):
        raise FilterError("multiple trailing dots in pattern")
    for char in pattern:
        if char not in "abcdefghijklmnopqrstuvwxyz0123456789-_.*":
            raise FilterError(f"'{quoted(char)[1:-1]}': invalid rune in pattern")
    return pattern.replace(".", r"\.").replace("*", "[-.0-9a-z]*")


def _node(pattern: str) -> str:
    """The expression of one node name glob; an empty half stands for any name."""
    if not pattern:
        raise FilterError("empty pattern")
    halves = pattern.split("/")
    if len(halves) > 2:
        raise FilterError("too many slashes in pattern")
    cluster, node = halves if len(halves) == 2 else ("", pattern)
    return "/".join(_fqdn(half) if half else _ANY_NAME for half in (cluster, node))


_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")
_SCHEME: Final = re.compile("([A-Za-z][-A-Za-z0-9+.]*):")
_ESCAPE: Final = re.compile(b"%([0-9A-Fa-f]{2})?")
_USERINFO: Final = re.compile(r"(?:[A-Za-z0-9\-._:~!$&'()*+,;=@]|%[0-9A-Fa-f]{2})*")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9\-_.~!$&'()*+,;=:\[\]<>\"]|[^\x00-\x7f]|%[89A-Fa-f][0-9A-Fa-f]|%25)*")
_PORT: Final = re.compile("(?::[0-9]*)?")
_ESCAPED_SURROGATE: Final = re.compile("[\udc80-\udcff]")


def request_path(url: str) -> str | None:
    """The decoded path of a request URI as Go's url.ParseRequestURI finds it; None where that gives an error.

    An opaque URI ("mailto:x") has the empty path.
    """
    if not url or _CONTROL.search(url):
        return None
    if url == "*":
        return "*"
    if url[0] == ":":
        return None
    scheme = _SCHEME.match(url)
    rest = (url[scheme.end() :] if scheme else url).partition("?")[0]
    if not rest.startswith("/"):
        return "" if scheme else None
    if scheme and rest.startswith("//"):
        authority, slash, path = rest[2:].partition("/")
        if not _valid_authority(authority):
            return None
        rest = slash + path
    return _unescape(rest)


def _valid_authority(authority: str) -> bool:
    userinfo, _, host = authority.rpartition("@")
    if not _USERINFO.fullmatch(userinfo):
        return False
    if host.startswith("["):
        closing = host.rfind("]")
        if closing < 0 or not _PORT.fullmatch(host[closing + 1 :]):
            return False
    elif ":" in host and not _PORT.fullmatch(host[host.rfind(":") :]):
        return False
    return _HOST.fullmatch(host) is not None


def _unescape(path: str) -> str | None:
    if "%" not in path:
        return path
    bad = False

    def byte(match: re.Match[bytes]) -> bytes:
        nonlocal bad
        if match[1] is None:
            bad = True
            return b""
        return bytes([int(match[1], 16)])

    raw = _ESCAPE.sub(byte, path.encode("utf-8", "surrogatepass"))
    if bad:
        return None
    # Go's regexp reads each byte that is no UTF-8 as one U+FFFD.
    return _ESCAPED_SURROGATE.sub("\ufffd", raw.decode("utf-8", "surrogateescape"))
