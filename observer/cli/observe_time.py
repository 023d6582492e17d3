"""The forms of time that `--since` and `--until` take: what `hubble observe` takes, no more.

A string enters, nanoseconds since the epoch leave. A Go duration counts back from now; a date with an hour needs a
zone (RFC 3339, section 5.6, and RFC 1123 with a numeric zone). The printed form (StampMilli) has no year: refused.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from observer.errors import ConfigError

UNITS_NS: Final = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # micro sign
    "\u03bcs": 1_000,  # Greek mu
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_UNIT = "|".join(sorted(UNITS_NS, key=len, reverse=True))
_TERM: Final = re.compile(rf"([0-9]+)(?:\.([0-9]*))?({_UNIT})|\.([0-9]+)({_UNIT})", re.ASCII)
_RFC3339: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:T([0-9]{1,2})(?::([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?)?(Z|[+-][0-9]{2}:[0-9]{2}))?"
)
_RFC1123Z: Final = re.compile(
    r"([A-Za-z]{3}), ([0-9]{2}) ([A-Za-z]{3}) ([0-9]{4}) "
    r"([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]+))? ([+-][0-9]{4})"
)


def parse_time(text: str, now_ns: int) -> int:
    """Nanoseconds since the epoch of `text`; ConfigError if it is none of the accepted forms."""
    ago = parse_duration(text)
    if ago is not None:
        return now_ns - ago
    time_ns = _rfc3339(text)
    if time_ns is None:
        time_ns = _rfc1123z(text)
    if time_ns is None:
        raise ConfigError(
            f"failed to convert {text} to time; "
            "give a duration (5m, 1h43m) or a time with its zone (2024-05-17T10:44:07Z)"
        )
    return time_ns


def parse_duration(text: str) -> int | None:
    """Nanoseconds of a Go duration ("300ms", "-1.5h", "2h45m"), or None if it is not one."""
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    total, position = 0, 0
    while position < len(rest):
        term = _TERM.match(rest, position)
        if term is None:
            return None
        whole, fraction, unit = term[1] or "0", term[2] or term[4] or "", UNITS_NS[term[3] or term[5]]
        total += int(whole) * unit
        if fraction:
            total += int(fraction) * unit // 10 ** len(fraction)
        position = term.end()
    if not rest or total >= 1 << 63:
        return None
    return sign * total


def _rfc3339(text: str) -> int | None:
    found = _RFC3339.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    offset = None if zone is None else "+0000" if zone == "Z" else zone.replace(":", "")
    return _epoch_ns((year, month, day), (hour or "0", minute or "0", second or "0"), fraction, offset)


def _rfc1123z(text: str) -> int | None:
    found = _RFC1123Z.fullmatch(text)
    if found is None or found[1].lower() not in DAYS or found[3].lower() not in MONTHS:
        return None
    month = str(MONTHS.index(found[3].lower()) + 1)
    return _epoch_ns((found[4], month, found[2]), (found[5], found[6], found[7]), found[8], found[9])


def _epoch_ns(
    date: tuple[str, str, str], clock: tuple[str, str, str], fraction: str | None, offset: str | None
) -> int | None:
    zone: timezone = UTC
    if offset is not None:
        hours, minutes = int(offset[1:3]), int(offset[3:5])
        if hours > 23 or minutes > 59:
            return None
        zone = timezone((-1 if offset[0] == "-" else 1) * timedelta(hours=hours, minutes=minutes))
    try:
        moment = datetime(*map(int, date), *map(int, clock), tzinfo=zone)  # type: ignore[misc, arg-type]
    except ValueError:  # no such day, hour or minute
        return None
    since_epoch = moment - datetime(1970, 1, 1, tzinfo=UTC)
    seconds = since_epoch.days * 86_400 + since_epoch.seconds
    return seconds * 1_000_000_000 + int((fraction or "").ljust(9, "0")[:9])
