"""Tables that give things a number once and never another: endpoints and policies, as records refer to them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Numbered(Generic[T]):
    """Items by number, from 1 up; number 0 is `none`. Grows only; read without a lock by other threads."""

    __slots__ = ("_items", "_numbers")

    def __init__(self, none: T) -> None:
        self._items: list[T] = [none]
        self._numbers: dict[T, int] = {none: 0}

    def intern(self, item: T) -> int:
        """The number of `item`, a new one if it has none. One thread only."""
        number = self._numbers.get(item)
        if number is None:
            number = len(self._items)
            self._items.append(item)
            self._numbers[item] = number
        return number

    def __getitem__(self, number: int) -> T:
        return self._items[number]

    def __len__(self) -> int:
        """One more than the largest number."""
        return len(self._items)

    def from_number(self, start: int) -> list[T]:
        """The items numbered `start` and above, in order."""
        return self._items[start:]
