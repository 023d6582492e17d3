"""Sets of small numbers as the bits of one: classes, rules and states are compared by the thousand."""

from __future__ import annotations

from collections.abc import Iterable


def mask_of(bits: Iterable[bool]) -> int:
    """Bits as a number, the first one the lowest."""
    return int("".join("1" if bit else "0" for bit in bits)[::-1] or "0", 2)


def set_bits(number: int) -> list[int]:
    """Which bits are set, ascending."""
    text = bin(number)[:1:-1]
    found = []
    at = text.find("1")
    while at >= 0:
        found.append(at)
        at = text.find("1", at + 1)
    return found
